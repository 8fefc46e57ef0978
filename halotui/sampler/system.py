"""Memory, CPU, disk and network: one look a tick, off the event loop."""

from __future__ import annotations

from collections.abc import Iterator

from halotui.collectors import memory
from halotui.hosts import Host
from halotui.model import MEMORY_SOURCE, Memory, Source, System, Unavailable
from halotui.sampler.clock import Clock
from halotui.sampler.standing import standing, unforeseen
from halotui.sampler.worker import Worker

DEADLINE = 0.4


class SystemWatch:
    def __init__(self, host: Host, clock: Clock) -> None:
        self.memory: Memory | None = None
        self.system: System | None = None
        self._host, self._clock = host, clock
        self._worker = Worker("system")
        self._source: Source | None = None

    async def read(self) -> None:
        began = self._clock.monotonic()
        trouble, self.memory = None, None
        try:
            self.memory = await self._worker.call(lambda: memory.read(self._host), DEADLINE)
        except Unavailable as unavailable:
            trouble = unavailable
        except Exception as error:
            trouble = unforeseen(error)
        took = self._clock.monotonic() - began if trouble is None else None
        age = 0.0 if trouble is None else None
        self._source = standing(MEMORY_SOURCE, "psutil", trouble, age=age, took=took)

    def sources(self) -> Iterator[Source]:
        if self._source is not None:
            yield self._source
