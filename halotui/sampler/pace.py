"""Which two looks belong together. How far apart they come is the user's choice: then 10 s are no gap."""

from __future__ import annotations

LATE = 2.5  # times the step before: a look that comes later no longer follows the one before
LONGEST = 150.0  # seconds; a longer step is never one


class Pace:
    """``gap``: seconds between two looks that are always close enough."""

    def __init__(self, gap: float) -> None:
        self._gap = gap
        self._at: float | None = None
        self._usual = 0.0

    def skip(self) -> None:
        """The next look follows none."""
        self._at = None

    def step(self, now: float) -> float | None:
        """Monotonic seconds since the look before. None: there was none, or too much may lie between."""
        at, self._at = self._at, now
        if at is None:
            return None
        usual, self._usual = self._usual, now - at
        return now - at if 0.0 < now - at <= max(self._gap, min(LONGEST, LATE * usual)) else None
