"""How much of a log goes over a link: what a server says in a hurry, but not a flood for ever."""

from __future__ import annotations

import time
from collections.abc import Callable

BURST = 1 << 20  # bytes at once
STEADY = 64 << 10  # bytes a second
FULL_AGAIN = 256 << 10  # bytes that must have come together before more is asked for


class Ration:
    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._left = float(BURST)
        self._at = monotonic()

    def allows(self, size: int) -> bool:
        """Take so many bytes: may more come?"""
        self._fill()
        self._left -= size
        return self._left > 0

    @property
    def wait(self) -> float:
        """Seconds until more may be asked for."""
        self._fill()
        return max(0.0, (FULL_AGAIN - self._left) / STEADY)

    def _fill(self) -> None:
        now = self._monotonic()
        self._left = min(BURST, self._left + (now - self._at) * STEADY)
        self._at = now
