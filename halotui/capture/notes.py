"""What a capture could not read, and when: a few lines beside its numbers."""

from __future__ import annotations

import time
from threading import Lock

from msgspec import Struct

from halotui.safe import clean

MOST = 24  # lines
LONGEST = 300


class _Trouble(Struct):
    text: str
    since: float | None = None  # Unix seconds; None: once and for all
    until: float | None = None

    def line(self) -> str:
        if self.since is None:
            return self.text
        if self.until is None:
            return f"{self.text} since {_clock(self.since)}"
        return f"{self.text} from {_clock(self.since)} to {_clock(self.until)}"


class Notes:
    """Any thread may add."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open: dict[str, _Trouble] = {}
        self._all: list[_Trouble] = []
        self._more = 0

    def say(self, text: str) -> None:
        """Once, however often it is said."""
        self.begin(text, text, since=None)

    def begin(self, key: str, text: str, since: float | None = None, *, timed: bool = False) -> None:
        """Trouble that lasts until :meth:`end` of the same key; ``timed`` if it begins now."""
        with self._lock:
            if key in self._open:
                return
            trouble = _Trouble(clean(text, LONGEST), time.time() if timed else since)
            self._open[key] = trouble
            if len(self._all) < MOST:
                self._all.append(trouble)
            else:
                self._more += 1

    def end(self, key: str) -> None:
        with self._lock:
            trouble = self._open.pop(key, None)
            if trouble is not None:
                trouble.until = time.time()

    def lines(self) -> tuple[str, ...]:
        with self._lock:
            lines = tuple(trouble.line() for trouble in self._all)
            return (*lines, f"and {self._more} more") if self._more else lines


def _clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))
