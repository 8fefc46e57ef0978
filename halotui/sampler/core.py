"""The only owner of time: asks every source each tick, and makes one Frame of what has answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from halotui.collectors import llama_process, memory
from halotui.collectors.llama_http import LlamaHttp
from halotui.hosts import Host
from halotui.model import (
    MEMORY_SOURCE,
    PROCESS_SOURCE,
    SCHEMA_VERSION,
    Frame,
    Memory,
    ServerProcess,
    Source,
    Unavailable,
)
from halotui.sampler.clock import Clock
from halotui.sampler.gpu import GpuSource
from halotui.sampler.log import LogTap
from halotui.sampler.polling import Poller
from halotui.sampler.server import ServerTracker
from halotui.sampler.standing import standing, unforeseen
from halotui.sampler.worker import Worker

GRACE = 0.3  # seconds a tick waits for answers; later ones go into the next frame
DISCOVER_EVERY = 5.0  # seconds between looks for llama-server processes
DISCOVER_DEADLINE = 3.0
SERVERS = 16  # servers followed at most


@dataclass(frozen=True, slots=True)
class Options:
    """What to watch."""

    urls: tuple[str, ...] = ()  # empty: find the servers of this box
    gpu_source: str = "auto"
    log: str | None = None  # a path, or "-" for standard input: the log of the first server
    stdin: int = 0  # the descriptor that "-" is read from
    api_key: str | None = None  # for every server
    fallback_key: str | None = None  # for a server that does not tell its own
    interval: float = 1.0


def _client(url: str, api_key: str | None) -> LlamaHttp:
    return LlamaHttp(url, api_key)


class Sampler:
    """``tick`` gives one Frame; ``frames`` gives one each interval, for ever."""

    def __init__(
        self,
        host: Host,
        options: Options,
        clock: Clock | None = None,
        client: Callable[[str, str | None], LlamaHttp] = _client,
    ) -> None:
        self.interval = options.interval
        self._host = host
        self._options = options
        self._clock = clock or Clock()
        self._client = client
        self._gpu = GpuSource(host, options.gpu_source, self._clock)
        self._discovery = Worker("processes")
        self._discover_at = 0.0
        self._sources: dict[str, Source] = {}
        self._trackers: dict[str, ServerTracker] = {}

    async def frames(self) -> AsyncIterator[Frame]:
        """A Frame each ``interval`` seconds, measured from the start of the tick before."""
        while True:
            began = self._clock.monotonic()
            yield await self.tick()
            spent = self._clock.monotonic() - began
            await asyncio.sleep(max(0.05, self.interval - spent))

    async def tick(self, grace: float = GRACE) -> Frame:
        """Ask everything once, wait for at most ``grace`` seconds, and say what is known."""
        gpu_read = asyncio.create_task(self._gpu.read())
        if self._clock.monotonic() >= self._discover_at:
            await self._discover()
        memory_now = self._read_memory()
        waiting = [asyncio.create_task(tracker.gather(grace)) for tracker in self._trackers.values()]
        await asyncio.gather(gpu_read, *waiting)
        servers = tuple(tracker.fold() for tracker in self._trackers.values())
        sources = [self._gpu.source(), *self._sources.values()]
        for tracker in self._trackers.values():
            sources.extend(tracker.sources())
        return Frame(
            schema_version=SCHEMA_VERSION,
            time=self._clock.wall(),
            host=self._host.name,
            gpus=gpu_read.result(),
            memory=memory_now,
            servers=servers,
            findings=(),
            sources=tuple(sources),
        )

    async def close(self) -> None:
        await self._gpu.close()
        for tracker in self._trackers.values():
            await tracker.close()

    def _read_memory(self) -> Memory | None:
        began = self._clock.monotonic()
        try:
            reading = memory.read(self._host)
        except Unavailable as trouble:
            self._report(MEMORY_SOURCE, "psutil", trouble)
            return None
        except Exception as error:
            self._report(MEMORY_SOURCE, "psutil", unforeseen(error))
            return None
        self._report(MEMORY_SOURCE, "psutil", None, self._clock.monotonic() - began)
        return reading

    async def _discover(self) -> None:
        """Find the servers' processes; new ones get a tracker, known ones their new facts."""
        urls, began = self._options.urls, self._clock.monotonic()
        self._discover_at = began + DISCOVER_EVERY - 0.05
        found: list[ServerProcess] = []
        looked = False
        try:
            found = await self._discovery.call(
                lambda: llama_process.find(self._host, urls), DISCOVER_DEADLINE
            )
        except Unavailable as trouble:
            self._report(PROCESS_SOURCE, "procfs", trouble)
        except Exception as error:
            self._report(PROCESS_SOURCE, "procfs", unforeseen(error))
        else:
            looked = True
            self._report(PROCESS_SOURCE, "procfs", None, self._clock.monotonic() - began)
        processes = {process.url: process for process in found}
        for url, tracker in self._trackers.items():
            if looked and url not in processes:
                tracker.lose_process()
        for url in urls or processes:
            await self._track(url, processes.get(url))

    async def _track(self, url: str, process: ServerProcess | None) -> None:
        tracker = self._trackers.get(url)
        if tracker is None:
            if len(self._trackers) >= SERVERS:
                return
            poller = Poller(self._client(url, self._key_of(process)), self._clock)
            tracker = self._trackers[url] = ServerTracker(url, poller, self._clock)
        elif process is not None and self._key_of(process) != self._key_of(tracker.process):
            await tracker.reconnect(self._client(url, self._key_of(process)))
        tracker.process = process or tracker.process
        path = self._log_of(tracker)
        if path is not None and (tracker.tap is None or tracker.tap.path != path):
            if tracker.tap is not None:  # started again with another log
                await tracker.tap.close()
            tracker.tap = LogTap(path, self._clock, self._options.stdin)

    def _key_of(self, process: ServerProcess | None) -> str | None:
        own = process.api_key if process is not None else None
        return self._options.api_key or own or self._options.fallback_key

    def _log_of(self, tracker: ServerTracker) -> str | None:
        first = next(iter(self._trackers.values())) is tracker
        if self._options.log is not None and first:
            return self._options.log
        return tracker.process.log_path if tracker.process is not None else None

    def _report(self, id_: str, name: str, trouble: Unavailable | None, took: float | None = None) -> None:
        self._sources[id_] = standing(id_, name, trouble, age=0.0 if trouble is None else None, took=took)
