"""The only owner of time: asks every source each tick, and makes one Frame of what has answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from halotui.collectors import discovery
from halotui.collectors.http_wire import door_of
from halotui.collectors.llama_http import LlamaHttp
from halotui.hosts import Host
from halotui.model import PROCESS_SOURCE, SCHEMA_VERSION, Frame, ServerProcess, Source, Unavailable
from halotui.sampler.ceiling import Ceilings
from halotui.sampler.clock import Clock
from halotui.sampler.far import Gaps, slack, usual
from halotui.sampler.polling import ROUND_EVERY
from halotui.sampler.standing import Standings, standing, unforeseen
from halotui.sampler.tabs import Tabs
from halotui.sampler.telemetry import Telemetry
from halotui.sampler.worker import Worker

GRACE = 0.3  # seconds a tick waits for answers; later ones go into the next frame
DISCOVER_EVERY = 5.0  # seconds between looks for servers' processes
DISCOVER_DEADLINE = 3.0


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


class Sampler:
    """``tick`` gives one Frame; ``frames`` gives one each interval, for ever."""

    def __init__(
        self,
        host: Host,
        options: Options,
        clock: Clock | None = None,
        client: Callable[[str, str | None], LlamaHttp] | None = None,
    ) -> None:
        self.interval = options.interval
        self._host = host
        self._options = options
        self._clock = clock or Clock()
        self._telemetry = Telemetry(host, options.gpu_source, self._clock)
        self._ceilings = Ceilings(host, self._clock)
        self._gaps = Gaps(host, self._clock)
        self._discovery = Worker("processes", host=host)
        self._discover_at = 0.0
        self._discovering: asyncio.Task[None] | None = None
        self._sources: dict[str, Source] = {}
        self._standings = Standings(self._clock.wall)
        door = door_of(host)
        self._tabs = Tabs(
            host, options, self._clock, client or (lambda url, key: LlamaHttp(url, key, door=door))
        )

    async def frames(self) -> AsyncIterator[Frame]:
        """A Frame each ``interval`` seconds, measured from the start of the tick before.

        One of a second is stretched to the time between two looks at a server, so that each frame has one.
        """
        while True:
            began = self._clock.monotonic()
            yield await self.tick()
            spent = self._clock.monotonic() - began
            await asyncio.sleep(max(0.05, self.pace - spent))

    @property
    def pace(self) -> float:
        """Seconds from frame to frame."""
        return max(self.interval, ROUND_EVERY) if self.interval >= 1.0 else self.interval

    async def tick(self, grace: float = GRACE) -> Frame:
        """Ask everything once, wait for at most ``grace`` seconds, and say what is known.

        Who grants more than the usual grace gets a new look at each server, and waits until it is due.
        """
        if self._gaps.between():  # what comes next does not follow from what was
            self._skip()
        telemetry = asyncio.create_task(self._telemetry.read(grace))
        await self._discover(grace)
        if grace > GRACE + 1.5 * usual(self._host) and (wait := self._tabs.turn_in) > 0:
            await self._clock.sleep(min(wait, grace))
        await asyncio.gather(telemetry, self._tabs.gather(grace))
        folded = self._tabs.fold()
        await self._ceilings.read(folded, grace)
        box = self._telemetry.told(folded)
        return Frame(
            schema_version=SCHEMA_VERSION,
            time=self._clock.wall(),
            host=self._host.name,
            **box,
            servers=tuple(self._ceilings.of(server, box["gpus"]) for server in folded),
            findings=(),
            sources=self._standings.dated(
                (
                    *self._telemetry.sources(),
                    *self._sources.values(),
                    *self._tabs.sources(),
                    *self._ceilings.sources(),
                )
            ),
        )

    async def close(self) -> None:
        if self._discovering is not None:
            self._discovering.cancel()
        await self._telemetry.close()
        await self._tabs.close()

    def _skip(self) -> None:
        for part in (self._telemetry, self._tabs, self._ceilings):
            part.skip()
        self._discover_at = 0.0

    async def _discover(self, grace: float) -> None:
        """Look for servers now and then. Only the first look is worth more waiting than ``grace``."""
        looking, wait = self._discovering, grace
        if looking is None:
            wait = DISCOVER_DEADLINE + 1 + slack(self._host)
        due = self._tabs.unsure or self._clock.monotonic() >= self._discover_at
        if looking is None or (looking.done() and due):
            self._tabs.unsure = False
            self._discover_at = self._clock.monotonic() + DISCOVER_EVERY - 0.05
            looking = self._discovering = asyncio.create_task(self._find())
        if not looking.done():
            await asyncio.wait((looking,), timeout=wait)

    async def _find(self) -> None:
        began = self._clock.monotonic()
        found: list[ServerProcess] | None = None
        trouble: Unavailable | None = None
        try:
            found = await self._discovery.call(
                lambda: discovery.find(self._host, self._options.urls), DISCOVER_DEADLINE
            )
        except Unavailable as unavailable:
            trouble = unavailable
        except Exception as error:
            trouble = unforeseen(error)
        took = self._clock.monotonic() - began
        try:
            await self._tabs.update(found)
        except Exception as error:
            trouble = unforeseen(error)
        self._report(PROCESS_SOURCE, "procfs", trouble, took if trouble is None else None)

    def _report(self, id_: str, name: str, trouble: Unavailable | None, took: float | None = None) -> None:
        self._sources[id_] = standing(id_, name, trouble, age=0.0 if trouble is None else None, took=took)
