"""The box but for its servers: every source asked each tick, each with a deadline, none in another's way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from halotui.account import account
from halotui.hosts import Host
from halotui.model import Gpu, Server, Source
from halotui.sampler.clock import Clock
from halotui.sampler.doubt import Doubt
from halotui.sampler.energy import EnergyBook
from halotui.sampler.gpu import GpuSource
from halotui.sampler.holders import HolderWatch
from halotui.sampler.kernel import KernelTap
from halotui.sampler.platform import PlatformWatch
from halotui.sampler.system import SystemWatch
from halotui.sampler.worker import Crew


class Telemetry:
    """``read`` asks, ``told`` says what is known, as fields of a Frame."""

    def __init__(self, host: Host, gpu_source: str, clock: Clock) -> None:
        crew = Crew("box")
        self._gpu = GpuSource(host, gpu_source, clock, crew)
        self._system = SystemWatch(host, clock, crew)
        self._holders = HolderWatch(host, clock, crew)
        self._kernel = KernelTap(host, clock)
        self._platform = PlatformWatch(host, clock)
        self._energy = EnergyBook(clock)
        self._doubt = Doubt(clock)
        self._gpus: tuple[Gpu, ...] = ()
        self._totals: tuple[Gpu, ...] = ()

    async def read(self, grace: float) -> None:
        """Ask everything that is due; what hangs is left to itself."""
        _, self._gpus, *_ = await asyncio.gather(
            self._system.read(),
            self._gpu.read(),
            self._holders.read(grace),
            self._platform.read(grace),
        )
        await self._kernel.read()  # it never waits

    def skip(self) -> None:
        """What is read next does not follow from what was read before: no rates between them."""
        for part in (self._gpu, self._system, self._holders, self._platform, self._energy, self._doubt):
            part.skip()

    def told(self, servers: Sequence[Server]) -> dict[str, Any]:
        """Call it once a frame: events are told once."""
        memory, platform = self._system.memory, self._platform.platform
        holders = self._holders.told(servers)
        gpus = self._doubt.of(self._gpus, servers, holders)
        installed = platform.installed_bytes if platform is not None else None
        return {
            "gpus": gpus,
            "memory": memory,
            "account": account(memory, self._pools(gpus), installed, self._holders.owned),
            "system": self._system.system,
            "energy": self._energy.look(self._gpus, servers),
            "holders": holders,
            "kernel": self._kernel.events(),
            "platform": platform,
        }

    def _pools(self, gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
        """Of GPUs that do not answer only what cannot have changed: how large their pools are."""
        if gpus:
            self._totals = tuple(
                Gpu(
                    id=gpu.id,
                    source=gpu.source,
                    integrated=gpu.integrated,
                    gtt_total_bytes=gpu.gtt_total_bytes,
                    vram_total_bytes=gpu.vram_total_bytes,
                )
                for gpu in gpus
            )
        return gpus or self._totals

    def sources(self) -> Iterator[Source]:
        yield from self._gpu.sources()
        yield from self._system.sources()
        yield self._holders.source()
        yield self._kernel.source()
        yield self._platform.source()

    async def close(self) -> None:
        await self._gpu.close()
        await self._kernel.close()
