"""Which process holds what, over time."""

from __future__ import annotations

from collections.abc import Sequence

from halotui.account import Owned
from halotui.hosts import Host
from halotui.model import HOLDER_SOURCE, Holder, Server, Source, SourceState
from halotui.sampler.clock import Clock


class HolderWatch:
    def __init__(self, host: Host, clock: Clock) -> None:
        self.owned: Owned | None = None

    async def read(self, grace: float) -> None:
        return

    def told(self, servers: Sequence[Server]) -> tuple[Holder, ...]:
        return ()

    def source(self) -> Source:
        return Source(id=HOLDER_SOURCE, state=SourceState.NO_DATA)
