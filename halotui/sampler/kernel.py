"""The kernel's log, followed."""

from __future__ import annotations

from halotui.hosts import Host
from halotui.model import KERNEL_SOURCE, KernelEvent, Source, SourceState
from halotui.sampler.clock import Clock


class KernelTap:
    def __init__(self, host: Host, clock: Clock) -> None:
        pass

    async def read(self) -> None:
        return

    def events(self) -> tuple[KernelEvent, ...]:
        """Since the call before."""
        return ()

    def source(self) -> Source:
        return Source(id=KERNEL_SOURCE, state=SourceState.NO_DATA)

    async def close(self) -> None:
        return
