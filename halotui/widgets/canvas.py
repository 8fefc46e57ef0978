"""The cockpit as one widget: panels give rows, and only the cells that changed are painted.

Stock widgets cost tens of times more at one frame a second; BENCHMARKS.md has the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from halotui.keymap import FLEET, KEYS, PLAYER, Key
from halotui.widgets.layout import Place
from halotui.widgets.painter import Painter
from halotui.widgets.rows import HOST, KEY, ORDER, TAB, TIME, Ref, Row, fill, width_of
from halotui.widgets.sixteen import sixteen


class Hit(NamedTuple):
    """A run on screen that shows a field."""

    ref: Ref
    panel: str
    x: int
    y: int
    width: int


Layout = Callable[[int, int], list[tuple[Place, list[Row]]]]


def first(key: Key) -> bool:
    """Whether the canvas takes the key before the app: tab is the screen's own, and the keys of a
    recording and of the fleet mean something else in the cockpit."""
    return key.needs in (PLAYER, FLEET) or key.verb == "panel"


class Canvas(Widget, can_focus=True):
    """Rows drawn by ``layout``; ``cursor`` is the field that the user looks at."""

    DEFAULT_CSS = "Canvas { width: 100%; height: 100%; }"

    BINDINGS: ClassVar = [
        Binding(key.keys, f"app.{key.action}", key.name, id=key.id, tooltip=key.tooltip, show=False)
        for key in KEYS
        if first(key)
    ]

    class Picked(Message):
        """The cursor's field was clicked a second time."""

    class Pressed(Message):
        """A key on the screen was clicked."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    class Chosen(Message):
        """A tab, a heading or a box was clicked."""

        def __init__(self, ref: Ref) -> None:
            super().__init__()
            self.ref = ref

    class Sought(Message):
        """The bar of a recording was clicked."""

        def __init__(self, cell: int) -> None:
            super().__init__()
            self.cell = cell

    def __init__(self, layout: Layout, styles: dict[str, Style]) -> None:
        super().__init__()
        self._layout = layout
        self._styles = styles
        self._coarse = False  # sixteen colours, and no more
        self._sixteen: dict[str, Style] | None = None  # the styles in those
        self.cursor: Ref | None = None
        self._spot = (0, 0)  # where it was put: a field may be shown more than once
        self._painter: Painter | None = None
        self._placed: list[tuple[Place, list[Row]]] = []
        self._cells: list[Row] = []
        self._strips: list[Strip | None] = []  # None: to be made of its row when it is asked for

    def on_mount(self) -> None:
        self._painter = Painter(self.app)
        self._coarse = not self.app.is_headless and self.app.console.color_system == "standard"

    @property
    def palette(self) -> dict[str, Style]:
        """Style name -> what is painted; set it, then ``repaint``."""
        if not self._coarse:
            return self._styles
        if self._sixteen is None:
            self._sixteen = sixteen(self._styles)
        return self._sixteen

    @palette.setter
    def palette(self, styles: dict[str, Style]) -> None:
        self._styles, self._sixteen = styles, None

    def repaint(self) -> None:
        """Draw everything anew: another theme, size or view."""
        self._cells = []
        self.update()

    def update(self) -> None:
        """Bring the picture to the present; nothing is painted where nothing changed."""
        width, height = self.size
        if not width or not height:
            return
        self._placed = self._layout(width, height)
        old, new = self._cells, self._rows(height)
        self._cells = new
        if len(old) != len(new):
            self._strips = [None] * len(new)
            self.refresh()
            return
        changed = [y for y, row in enumerate(new) if row != old[y]]
        for y in changed:
            self._strips[y] = None
        if not changed or self._is_hidden():
            return
        if self._painter is not None and self._painter.ready(self.palette):
            self._painter.write(((y, old[y], new[y]) for y in changed), self.palette, self.region.offset)
        else:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def _is_hidden(self) -> bool:
        """Whether nothing is seen through what lies above: the changes are drawn when that goes."""
        return any(screen.styles.background.a == 1 for screen in self.app.screen_stack[1:])

    def render_lines(self, crop: Region) -> list[Strip]:
        """The painted rows, past Textual's style cache: they carry their own colours."""
        if len(self._strips) < crop.bottom:
            self.update()
        lines = [self._strip(y) for y in range(crop.y, min(crop.bottom, len(self._cells)))]
        if crop.x == 0 and crop.width >= self.size.width:
            return lines
        return [line.crop(crop.x, crop.right) for line in lines]

    def on_resize(self, _: events.Resize) -> None:
        self.repaint()

    def text(self) -> str:
        """What is on screen, as plain text."""
        return "\n".join("".join(run.text for run in row).rstrip() for row in self._cells)

    # --- the cursor

    def hits(self) -> Iterator[Hit]:
        """Every run that shows a field or a key, in reading order; found when they are asked for."""
        for place, rows in self._placed:
            for offset, row in enumerate(rows[: place.height]):
                x = place.x
                for run in row:
                    size = width_of(run.text)
                    if run.ref is not None:
                        yield Hit(run.ref, place.panel, x, place.y + offset, size)
                    x += size

    def move(self, dx: int, dy: int, panel: str = "") -> bool:
        """To the nearest field in that direction; to the first one when there is no cursor. ``panel``: not
        beyond it. Whether there was one.
        """
        here = self._here()
        if here is None:
            return self._go(self._first(hit for hit in self._fields() if hit.panel != "header"))
        ahead = [
            hit
            for hit in self._fields()
            if ((hit.y - here.y) * dy > 0 if dy else hit.y == here.y and (hit.x - here.x) * dx > 0)
            and (not panel or hit.panel == panel)
        ]
        return self._go(min(ahead, key=lambda hit: (abs(hit.y - here.y), abs(hit.x - here.x)), default=None))

    def panel(self, step: int) -> None:
        """To the first field of the next panel."""
        panels = list(dict.fromkeys(hit.panel for hit in self._fields()))
        if not panels:
            return
        here = self._here()
        index = panels.index(here.panel) + step if here is not None else 0
        wanted = panels[index % len(panels)]
        self._go(self._first(hit for hit in self._fields() if hit.panel == wanted))

    def point(self, ref: Ref | None) -> None:
        if ref != self.cursor:
            self.cursor = ref
            self.update()

    async def on_mouse_scroll_up(self) -> None:
        await self.run_action("app.scroll(3)")

    async def on_mouse_scroll_down(self) -> None:
        await self.run_action("app.scroll(-3)")

    def on_click(self, event: events.Click) -> None:
        hit = next((h for h in self.hits() if h.y == event.y and h.x <= event.x < h.x + h.width), None)
        if hit is None:
            return
        if hit.ref.field == KEY:
            self.post_message(self.Pressed(hit.ref.subject))
            return
        if hit.ref.field in (TAB, ORDER, HOST):
            self.post_message(self.Chosen(hit.ref))
            return
        if hit.ref.field == TIME:
            self.post_message(self.Sought(int(hit.ref.subject) + event.x - hit.x))
            return
        if hit.ref == self.cursor:
            self.post_message(self.Picked())
        self._go(hit)

    def _fields(self) -> list[Hit]:
        return [hit for hit in self.hits() if hit.ref.field not in (KEY, TIME, TAB, ORDER)]

    def _first(self, hits: Iterable[Hit]) -> Hit | None:
        """The notes in a panel's rule come after its figures."""
        return min(hits, key=lambda hit: self._cells[hit.y][0].style == "rule", default=None)

    def _here(self) -> Hit | None:
        x, y = self._spot
        same = (hit for hit in self.hits() if hit.ref == self.cursor)
        return min(same, key=lambda hit: (abs(hit.y - y), abs(hit.x - x)), default=None)

    def _go(self, hit: Hit | None) -> bool:
        if hit is not None:
            self._spot = hit.x, hit.y
            self.point(hit.ref)
        return hit is not None

    # --- rows

    def _rows(self, height: int) -> list[Row]:
        """The panels' rows side by side. They tile the screen: layout sees to that."""
        lines: list[Row] = [()] * height
        for place, rows in self._placed:
            blank = fill((), place.width)
            for offset in range(place.height):
                row = rows[offset] if offset < len(rows) else blank
                y = place.y + offset
                lines[y] = lines[y] + row if lines[y] else row
        if self.cursor is not None:
            lines = [self._pointed(row) for row in lines]
        return lines

    def _pointed(self, row: Row) -> Row:
        if all(run.ref != self.cursor for run in row):
            return row
        return tuple(run._replace(style="cursor") if run.ref == self.cursor else run for run in row)

    def _strip(self, y: int) -> Strip:
        strip = self._strips[y]
        if strip is None:
            palette = self.palette
            segments = [Segment(run.text, palette[run.style]) for run in self._cells[y]]
            strip = self._strips[y] = Strip(segments, self.size.width)
        return strip
