"""When a GPU's 100 % is not to be believed."""

from __future__ import annotations

from collections.abc import Sequence

from halotui.model import Gpu, Holder, Server
from halotui.sampler.clock import Clock


class Doubt:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def of(
        self, gpus: tuple[Gpu, ...], servers: Sequence[Server], holders: Sequence[Holder]
    ) -> tuple[Gpu, ...]:
        """The same, with ``busy_doubtful`` where that can be said."""
        return gpus
