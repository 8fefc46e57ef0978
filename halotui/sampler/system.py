"""Memory each tick, CPU, disk and network every second one: off the event loop, by one thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from halotui.collectors import memory
from halotui.collectors.system import Counters, SystemReading
from halotui.hosts import Host
from halotui.model import MEMORY_SOURCE, SYSTEM_SOURCE, Memory, Source, SourceState, System, Unavailable
from halotui.sampler.clock import Clock
from halotui.sampler.standing import standing, unforeseen
from halotui.sampler.system_rates import system
from halotui.sampler.worker import Worker

DEADLINE = 0.4
EVERY = 2.0  # seconds between looks at the counters
SOON = 0.5  # the second look: before it there are no rates
SEARCH_EVERY = 10.0  # seconds between looks at which devices there are
_EARLY = 0.05  # a tick may come so much before its second
_NAMES = {MEMORY_SOURCE: "psutil", SYSTEM_SOURCE: "procfs, sysfs"}


@dataclass(frozen=True, slots=True)
class _Answer:
    at: float  # monotonic seconds
    took: float = 0.0
    value: Any = None
    trouble: Unavailable | None = None


class SystemWatch:
    """``memory`` and ``system`` as of the last look; None where that failed.

    psutil's root is a global of the process while memory is read: nothing else in the sampler uses psutil.
    """

    def __init__(self, host: Host, clock: Clock) -> None:
        self.memory: Memory | None = None
        self.system: System | None = None
        self._host, self._clock = host, clock
        self._counters = Counters(host)
        self._searched: float | None = None
        self._before: tuple[float, SystemReading] | None = None
        self._due = 0.0
        worker = Worker("system")
        self._workers = dict.fromkeys(_NAMES, worker)  # one for both, until it hangs in one of them
        self._last: dict[str, _Answer] = {}
        self._good: dict[str, _Answer] = {}

    async def read(self) -> None:
        now = self._clock.monotonic()
        wanted: dict[str, Callable[[], Any]] = {MEMORY_SOURCE: lambda: memory.read(self._host)}
        if now >= self._due:
            self._due = now + (SOON if self._before is None else EVERY) - _EARLY
            wanted[SYSTEM_SOURCE] = self._look
        shared = {
            id_: read for id_, read in wanted.items() if self._workers[id_] is self._workers[MEMORY_SOURCE]
        }
        if len(shared) == len(wanted):
            answers = await self._ask(shared)
        else:
            apart = {SYSTEM_SOURCE: wanted[SYSTEM_SOURCE]}
            one, other = await asyncio.gather(self._ask(shared), self._ask(apart))
            answers = one | other
        for id_, answer in answers.items():
            self._take(id_, answer)

    def sources(self) -> Iterator[Source]:
        now = self._clock.monotonic()
        for id_, answer in self._last.items():
            good = self._good.get(id_)
            yield standing(
                id_,
                _NAMES[id_],
                answer.trouble,
                age=now - good.at if good else None,
                took=good.took if good else None,
            )

    def _look(self) -> SystemReading:
        now = self._clock.monotonic()
        if self._searched is None or now - self._searched >= SEARCH_EVERY - _EARLY:
            self._searched = now
            self._counters.search()
        return self._counters.read()

    def _take(self, id_: str, answer: _Answer) -> None:
        self._last[id_] = answer
        if answer.trouble is None:
            self._good[id_] = answer
        if id_ == MEMORY_SOURCE:
            self.memory = answer.value
        elif answer.value is None:
            self.system = None
        else:
            at, before = self._before or (answer.at, None)
            self.system = system(answer.value, before, answer.at - at)
            self._before = answer.at, answer.value

    async def _ask(self, wanted: dict[str, Callable[[], Any]]) -> dict[str, _Answer]:
        """Each fails alone; when one hangs, the others move to a thread of their own."""
        told: dict[str, _Answer] = {}
        began = self._clock.monotonic()

        def work() -> None:
            for id_, read in wanted.items():
                if self._clock.monotonic() - began > DEADLINE:
                    return  # nobody waits any more, and another thread may be at it
                told[id_] = self._answer(read)

        ids = tuple(wanted)
        try:
            await self._workers[ids[0]].call(work, self._clock.allow(DEADLINE))
        except Unavailable as hung:
            answers = {id_: told.get(id_) for id_ in ids}
            stuck = next((id_ for id_, answer in answers.items() if answer is None), None)
            trouble = _Answer(self._clock.monotonic(), trouble=hung)
            if hung.state is SourceState.HUNG and stuck is not None:
                self._part(stuck)
            return {id_: answer or trouble for id_, answer in answers.items()}
        return told

    def _answer(self, read: Callable[[], Any]) -> _Answer:
        began = self._clock.monotonic()
        try:
            value = read()
        except Unavailable as trouble:
            return _Answer(began, trouble=trouble)
        except Exception as error:
            return _Answer(began, trouble=unforeseen(error))
        now = self._clock.monotonic()
        return _Answer(now, now - began, value)

    def _part(self, stuck: str) -> None:
        """The thread belongs to what it is stuck in; from then on the two are asked apart."""
        for id_, worker in self._workers.items():
            if id_ != stuck and worker is self._workers[stuck]:
                self._workers[id_] = Worker(id_)
