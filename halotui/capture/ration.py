"""How often an expensive read may be made: the firmware answers for its own table, and what that costs
differs from box to box."""

from __future__ import annotations

SHARE = 0.002  # of a core, at most, above the least rate
LEAST_HERTZ = 2.0
EVERY = 16  # reads, of which one is measured: to measure costs, too


class Ration:
    """Lets a read through at every beat while it is cheap, and at every n-th once it is not."""

    def __init__(self, hertz: float) -> None:
        self._allowed = SHARE / hertz  # seconds of CPU at each beat
        self._most = max(1, int(hertz / LEAST_HERTZ))
        self._stride = 1
        self._cost = 0.0
        self._wait = self._reads = 0

    def due(self) -> bool:
        """Ask once at each beat."""
        self._wait -= 1
        if self._wait >= 0:
            return False
        self._wait = self._stride - 1
        return True

    def measures(self) -> bool:
        """Whether the read that is due is to be measured."""
        self._reads += 1
        return self._reads % EVERY == 2  # the first is slow in any case

    def cost(self, seconds: float) -> None:
        """Of CPU, by the read that was measured. One that was slow by chance changes little."""
        self._cost = self._cost + (seconds - self._cost) / 4 if self._cost else seconds
        self._stride = min(self._most, int(self._cost / self._allowed) + 1)
