"""A line of status under somebody else's output, never within one of its lines."""

from __future__ import annotations

import re
from collections.abc import Callable

EVERY_SECONDS = 1.0
QUIET_SECONDS = 0.1  # without output, before the line is drawn: a block of lines is not torn
_ERASE = b"\r\x1b[K"
_ALTERNATE = re.compile(rb"\x1b\[\?(?:1049|1047|47)([hl])")
_NEW_LINE = re.compile(rb"\n(?:\x1b\[[0-9;]*[mK])*\Z")  # llama.cpp ends a line, then its colour
_KEPT = 32  # bytes, of the chunk before


class Under:
    """Knows where the cursor stands by what passed, and when the line is due.

    It is shown only while the cursor is in the first column of a fresh line, and never once the command has
    switched to the alternate screen, until it is back and has ended a line.
    """

    def __init__(self, line: Callable[[int], bytes]) -> None:
        self._line = line
        self._shown = False
        self._fresh = True
        self._alternate = False
        self._tail = b"\n"
        self._last_output = float("-inf")
        self._last_drawn = float("-inf")
        self._passed = False  # something did, since the last look at the clock

    def before(self, data: bytes) -> bytes:
        """The output, with what takes the line away."""
        seen = self._tail + data
        for found in _ALTERNATE.finditer(seen):
            self._alternate = found[1] == b"h"
        self._fresh = not self._alternate and bool(_NEW_LINE.search(seen))
        self._tail = seen[-_KEPT:]
        self._passed = True
        return self.clear() + data

    def clear(self) -> bytes:
        shown, self._shown = self._shown, False
        return _ERASE if shown else b""

    def due(self, now: float) -> float:
        """Seconds until :meth:`draw` has something to do."""
        if self._passed:
            return QUIET_SECONDS
        if not self._fresh:
            return float("inf")
        return max(0.0, self._when() - now)

    def draw(self, now: float, columns: int) -> bytes:
        """The line, when it is due; the cursor stays in the first column, where the next output goes."""
        if self._passed:
            self._last_output, self._passed = now, False
        if not self._fresh or now < self._when():
            return b""
        self._last_drawn = now
        text = self._line(columns - 1)
        if not text:
            return self.clear()
        self._shown = True
        return _ERASE + text + b"\r"

    def _when(self) -> float:
        """A second after the last one; where output took it away, as soon as that pauses."""
        regular = self._last_drawn + EVERY_SECONDS
        return regular if self._shown else min(regular, self._last_output + QUIET_SECONDS)
