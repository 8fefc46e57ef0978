"""The box itself: read once, and what may change now and then."""

from __future__ import annotations

from halotui.hosts import Host
from halotui.model import PLATFORM_SOURCE, Platform, Source, SourceState
from halotui.sampler.clock import Clock


class PlatformWatch:
    def __init__(self, host: Host, clock: Clock) -> None:
        self.platform: Platform | None = None

    async def read(self, grace: float) -> None:
        return

    def source(self) -> Source:
        return Source(id=PLATFORM_SOURCE, state=SourceState.NO_DATA)
