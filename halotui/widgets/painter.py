"""Changed cells, straight to the terminal: one write a frame, and a third of the bytes.

Textual's compositor paints whole regions through several layers. A frame that changes a few numbers on an
undisturbed screen needs none of that: the changed runs are written where they stand, and the canvas' strips
say the same, so that whatever the compositor paints later agrees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.color import ColorSystem
from rich.style import Style
from textual.app import App
from textual.strip import Strip

from halotui.widgets.rows import Row, Run, width_of

_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"  # synchronized output: the terminal shows the frame at once
_SYSTEMS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
}


class Painter:
    """Writes runs at positions. ``ready`` says when it may."""

    def __init__(self, app: App[object]) -> None:
        self._app = app
        self._system = _SYSTEMS.get(app.console.color_system or "", ColorSystem.STANDARD)
        self._codes: dict[Style, str] = {}

    @property
    def ready(self) -> bool:
        """Nothing lies over the screen: no pop-up, no toast, no test harness."""
        app = self._app
        return (
            len(app.screen_stack) == 1
            and not app._notifications
            and not app.is_headless
            and app._driver is not None
            and not app._batch_count
        )

    def write(
        self, rows: Iterable[tuple[int, Row, Row]], palette: dict[str, Style], origin: tuple[int, int]
    ) -> None:
        """Bring the terminal from the old to the new row at each ``y``. ``origin``: the canvas' corner."""
        driver = self._app._driver
        out = [
            f"\x1b[{origin[1] + y + 1};{origin[0] + x + 1}H{self._text(runs, palette)}"
            for y, old, new in rows
            for x, runs in changes(old, new)
        ]
        if driver is None or not out:
            return
        text = "".join(out) + "\x1b[0m"
        driver.write(f"{_BEGIN}{text}{_END}" if self._app._sync_available else text)

    def _text(self, runs: Iterable[Run], palette: dict[str, Style]) -> str:
        parts = []
        last: Style | None = None
        for run in runs:
            style = palette[run.style]
            if style is not last:
                parts.append(self._code(style))
                last = style
            parts.append(run.text)
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
