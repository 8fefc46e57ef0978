"""When a line was written: the log's own clock counts from the start of its process, a stamp is the time."""

from __future__ import annotations

from halotui.collectors.log_line import Line

JITTER = 1.0  # seconds: threads write side by side; a clock that falls back further began anew


class Timeline:
    """Unix time of one server's lines. ``started``: of its process; it may be set at any time.

    A log may hold several runs, and ``started`` is that of one: of the newest when it is given. So when a
    new run begins after lines of the old one were timed with it, it is forgotten until it is set anew.
    """

    def __init__(self, started: float | None = None) -> None:
        self._started = started
        self._spent: float | None = None  # it belonged to a run that is over
        self._used: float | None = None  # lines of earlier blocks were timed with it
        self.newest = -1.0  # the clock of this run
        self._stamped = False  # the last line was

    @property
    def started(self) -> float | None:
        return self._started

    @started.setter
    def started(self, value: float | None) -> None:
        if value is None or value != self._spent:
            self._started = value

    def wall(self, line: Line) -> float | None:
        """Unix seconds, or None where neither clock nor stamp tells.

        A stamp comes first: a clock stands still while the machine sleeps.
        """
        if line.stamp is None and self._started is not None and line.clock is not None:
            return self._started + line.clock
        return line.stamp

    def fell_back(self, line: Line) -> bool:
        """Whether the clock began anew with this line."""
        self._stamped = line.stamp is not None
        if line.clock is None:
            return False
        if line.clock < self.newest - JITTER:
            return True
        self.newest = max(self.newest, line.clock)
        return False

    @property
    def is_new(self) -> bool:
        """Whether ``started`` was given after the last block: no line of an earlier one was timed with it."""
        return self._started is not None and self._started != self._used

    @property
    def misled(self) -> bool:
        """Whether lines of this block had their time from ``started``, if it is of a run after them."""
        return self.is_new and not self._stamped

    def begin(self, line: Line) -> None:
        """A new run begins with this line."""
        self.newest = line.clock if line.clock is not None else -1.0
        if self._started is not None and not self.is_new:
            self._spent, self._started = self._started, None

    def end_of_block(self) -> None:
        self._used = self._started if self.newest >= 0 else None


def seconds_between(earlier: Line | None, later: Line | None) -> float | None:
    """By the log's own clock, else by stamps."""
    if earlier is None or later is None:
        return None
    for a, b in ((earlier.clock, later.clock), (earlier.stamp, later.stamp)):
        if a is not None and b is not None:
            return max(round(b - a, 6), 0.0)
    return None
