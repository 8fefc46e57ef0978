"""Changed cells, straight to the terminal: one write a frame, and a third of the bytes.

Textual's compositor paints whole regions through several layers. A frame that changes a few numbers needs
none of that: the changed runs are written where they stand, and the canvas' strips say the same, so that
whatever the compositor paints later agrees. Behind a pop-up they are written in its tint, around its box:
the compositor would paint nearly the whole screen for each frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.color import Color
from textual.geometry import Region
from textual.renderables.background_screen import BackgroundScreen
from textual.strip import Strip

from halotui.widgets.rows import Row, Run, width_of

_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"  # synchronized output: the terminal shows the frame at once
_SYSTEMS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
}


class Painter:
    """Writes runs at positions, when it is ``ready``."""

    def __init__(self, app: App[object]) -> None:
        self._app = app
        self._system = _SYSTEMS.get(app.console.color_system or "", ColorSystem.STANDARD)
        self._codes: dict[Style, str] = {}

    def ready(self, palette: dict[str, Style]) -> bool:
        """No toast lies over the screen, and no test harness looks at it. Behind a pop-up Textual fills in
        the colours that a style has not: without colours, that is left to it.
        """
        app = self._app
        return (
            (len(app.screen_stack) == 1 or all(style.color and style.bgcolor for style in palette.values()))
            and not app._notifications
            and not app.is_headless
            and app._driver is not None
            and not app._batch_count
        )

    def write(
        self, rows: Iterable[tuple[int, Row, Row]], palette: dict[str, Style], origin: tuple[int, int]
    ) -> None:
        """Bring the terminal from the old to the new row at each ``y``. ``origin``: the canvas' corner."""
        driver, above = self._app._driver, self._app.screen_stack[1:]
        for screen in above:
            palette = veiled(palette, screen.styles.background)
        boxes = [child.region for screen in above for child in screen.children if child.display]
        out, written = [], []
        for y, old, new in rows:
            for start, runs in changes(old, new):
                strip = Strip(Segment(run.text, palette[run.style]) for run in runs)
                here = Region(origin[0] + start, origin[1] + y, strip.cell_length, 1)
                written.append(here)
                for x, end in gaps(here, boxes):
                    part = strip.crop(x - here.x, end - here.x) if boxes else strip
                    out.append(f"\x1b[{here.y + 1};{x + 1}H{self._text(part)}")
        for screen in above:  # what it has kept of the picture behind it is out of date
            screen._dirty_regions.update(written)
            screen._styles_cache.set_dirty(*written)
        if driver is None or not out:
            return
        text = "".join(out) + "\x1b[0m"
        driver.write(f"{_BEGIN}{text}{_END}" if self._app._sync_available else text)

    def _text(self, segments: Iterable[Segment]) -> str:
        parts = []
        last: Style | None = None
        for text, style, _ in segments:
            if style is not None and style is not last:
                parts.append(self._code(style))
                last = style
            parts.append(text)
        return "".join(parts)

    def _code(self, style: Style) -> str:
        code = self._codes.get(style)
        if code is None:
            code = self._codes[style] = f"\x1b[0;{Strip.render_ansi(style, self._system)}m".replace(";m", "m")
        return code


def changes(old: Row, new: Row) -> Iterator[tuple[int, list[Run]]]:
    """Where two rows differ: the first cell, and the runs that stand there now.

    Rows of the same shape are compared run by run; at the first run of another width all that follows has
    moved, and is one change.
    """
    x = 0
    pending: list[Run] = []
    start = 0
    for index, run in enumerate(new):
        before = old[index] if index < len(old) else None
        width = width_of(run.text)
        if before is None or (before.text != run.text and width_of(before.text) != width):
            yield (start, [*pending, *new[index:]]) if pending else (x, list(new[index:]))
            return
        if before.text != run.text or before.style != run.style:
            if not pending:
                start = x
            pending.append(run)
        elif pending:
            yield start, pending
            pending = []
        x += width
    if pending:
        yield start, pending


def veiled(palette: dict[str, Style], tint: Color) -> dict[str, Style]:
    """The styles as Textual shows them behind a screen of that background."""
    segments = (Segment("", style) for style in palette.values())
    tinted = (style or Style() for _, style, _ in BackgroundScreen.process_segments(segments, tint))
    return dict(zip(palette, tinted, strict=True))


def gaps(row: Region, boxes: Iterable[Region]) -> Iterator[tuple[int, int]]:
    """What no box covers of a row: from cell, to cell."""
    x = row.x
    for box in sorted(box for box in boxes if box.y <= row.y < box.bottom and box.width):
        if x < box.x:
            yield x, min(box.x, row.right)
        x = max(x, box.right)
        if x >= row.right:
            return
    yield x, row.right
