"""Energy of the package over time, and what a token cost."""

from __future__ import annotations

from collections.abc import Sequence

from halotui.model import Energy, Gpu, Server
from halotui.sampler.clock import Clock


class EnergyBook:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def look(self, gpus: Sequence[Gpu], servers: Sequence[Server]) -> Energy | None:
        """Once a frame."""
        return None
