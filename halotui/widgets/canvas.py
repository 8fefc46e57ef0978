"""The cockpit as one widget: panels give rows, and only the cells that changed are painted.

Stock widgets cost tens of times more at one frame a second; BENCHMARKS.md has the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from halotui.keymap import KEYS
from halotui.widgets.layout import Place
from halotui.widgets.rows import KEY, Ref, Row, Run, fill, width_of


class Hit(NamedTuple):
    """A run on screen that shows a field."""

    ref: Ref
    panel: str
    x: int
    y: int
    width: int


Layout = Callable[[int, int], list[tuple[Place, list[Row]]]]


class Canvas(Widget, can_focus=True):
    """Rows drawn by ``layout``; ``cursor`` is the field that the user looks at."""

    DEFAULT_CSS = "Canvas { width: 100%; height: 100%; }"

    BINDINGS: ClassVar = [
        Binding(key.keys, f"app.{key.action}", key.name, id=key.id, tooltip=key.tooltip, show=False)
        for key in KEYS
        if key.action.startswith("panel")
    ]

    class Picked(Message):
        """The cursor's field was clicked a second time."""

    class Pressed(Message):
        """A key on the screen was clicked."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self, layout: Layout, styles: dict[str, Style]) -> None:
        super().__init__()
        self._layout = layout
        self.palette = styles
        self.cursor: Ref | None = None
        self._cells: list[Row] = []
        self._strips: list[Strip] = []
        self._hits: list[Hit] = []

    def repaint(self) -> None:
        """Draw everything anew: another theme, size or view."""
        self._cells = []
        self.update()

    def update(self) -> None:
        """Bring the picture to the present; nothing is painted where nothing changed."""
        width, height = self.size
        if not width or not height:
            return
        placed = self._layout(width, height)
        new = self._rows(placed, width, height)
        old = self._cells
        self._cells = new
        if len(old) != len(new):
            self._strips = [self._strip(row, width) for row in new]
            self.refresh()
            return
        regions = []
        for y, row in enumerate(new):
            if row != old[y]:
                self._strips[y] = self._strip(row, width)
                start, end = _changed(old[y], row, width)
                regions.append(Region(start, y, end - start, 1))
        if regions:
            self.refresh(*regions)

    def render_lines(self, crop: Region) -> list[Strip]:
        """The painted rows, past Textual's style cache: they carry their own colours."""
        if len(self._strips) < crop.bottom:
            self.update()
        lines = self._strips[crop.y : crop.bottom]
        if crop.x == 0 and crop.width >= self.size.width:
            return lines
        return [line.crop(crop.x, crop.right) for line in lines]

    def on_resize(self, _: events.Resize) -> None:
        self.repaint()

    def text(self) -> str:
        """What is on screen, as plain text."""
        return "\n".join("".join(run.text for run in row).rstrip() for row in self._cells)

    # --- the cursor

    def move(self, dx: int, dy: int) -> None:
        """To the nearest field in that direction; to the first one when there is no cursor."""
        here = self._here()
        if here is None:
            self._go(next((hit for hit in self._fields() if hit.panel != "header"), None))
            return
        ahead = [
            hit
            for hit in self._fields()
            if ((hit.y - here.y) * dy > 0 if dy else hit.y == here.y and (hit.x - here.x) * dx > 0)
        ]
        self._go(min(ahead, key=lambda hit: (abs(hit.y - here.y), abs(hit.x - here.x)), default=None))

    def panel(self, step: int) -> None:
        """To the first field of the next panel."""
        panels = list(dict.fromkeys(hit.panel for hit in self._fields()))
        if not panels:
            return
        here = self._here()
        index = panels.index(here.panel) + step if here is not None else 0
        wanted = panels[index % len(panels)]
        self._go(next(hit for hit in self._hits if hit.panel == wanted))

    def point(self, ref: Ref | None) -> None:
        if ref != self.cursor:
            self.cursor = ref
            self.update()

    async def on_mouse_scroll_up(self) -> None:
        await self.run_action("app.scroll(3)")

    async def on_mouse_scroll_down(self) -> None:
        await self.run_action("app.scroll(-3)")

    def on_click(self, event: events.Click) -> None:
        hit = next((h for h in self._hits if h.y == event.y and h.x <= event.x < h.x + h.width), None)
        if hit is None:
            return
        if hit.ref.field == KEY:
            self.post_message(self.Pressed(hit.ref.subject))
            return
        if hit.ref == self.cursor:
            self.post_message(self.Picked())
        self.point(hit.ref)

    def _fields(self) -> list[Hit]:
        return [hit for hit in self._hits if hit.ref.field != KEY]

    def _here(self) -> Hit | None:
        return next((hit for hit in self._hits if hit.ref == self.cursor), None)

    def _go(self, hit: Hit | None) -> None:
        if hit is not None:
            self.point(hit.ref)

    # --- rows

    def _rows(self, placed: list[tuple[Place, list[Row]]], width: int, height: int) -> list[Row]:
        lines: list[list[Run]] = [[] for _ in range(height)]
        self._hits = []
        for place, rows in placed:
            for offset in range(place.height):
                line = lines[place.y + offset]
                row = rows[offset] if offset < len(rows) else fill((), place.width)
                x = place.x
                for run in row:
                    size = width_of(run.text)
                    if run.ref is not None:
                        self._hits.append(Hit(run.ref, place.panel, x, place.y + offset, size))
                        if run.ref == self.cursor:
                            run = run._replace(style="cursor")
                    line.append(run)
                    x += size
        return [fill(line, width) for line in lines]

    def _strip(self, row: Row, width: int) -> Strip:
        palette = self.palette
        return Strip([Segment(run.text, palette[run.style]) for run in row], width)


def _changed(old: Row, new: Row, width: int) -> tuple[int, int]:
    """First and last changed cell of two different rows."""
    start = 0
    for a, b in zip(old, new, strict=False):
        if a != b:
            break
        start += width_of(b.text)
    end = width
    for a, b in zip(reversed(old), reversed(new), strict=False):
        if a != b or end <= start:
            break
        end -= width_of(b.text)
    return (start, end) if end > start else (0, width)
