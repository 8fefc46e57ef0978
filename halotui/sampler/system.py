"""Memory each tick, CPU, disk and network every second one: off the event loop, by one thread."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from halotui.collectors import memory
from halotui.collectors.system import Counters, SystemReading
from halotui.hosts import Host, LinkDown
from halotui.model import MEMORY_SOURCE, SYSTEM_SOURCE, Memory, Source, System, Unavailable
from halotui.sampler.clock import Clock
from halotui.sampler.standing import standing, unforeseen
from halotui.sampler.system_rates import system
from halotui.sampler.worker import Crew, Worker

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

    def __init__(self, host: Host, clock: Clock, crew: Crew | None = None) -> None:
        self.memory: Memory | None = None
        self.system: System | None = None
        self._host, self._clock = host, clock
        self._counters = Counters(host)
        self._searched: float | None = None
        self._before: tuple[float, SystemReading] | None = None
        self._due = 0.0
        crew = crew or Crew("system")
        self._workers = {id_: Worker(id_, clock.monotonic, crew, host) for id_ in _NAMES}
        self._last: dict[str, _Answer] = {}
        self._good: dict[str, _Answer] = {}

    def skip(self) -> None:
        self._before = self._searched = None
        self._due = 0.0

    async def read(self) -> None:
        now = self._clock.monotonic()
        asked = {MEMORY_SOURCE: self._ask(MEMORY_SOURCE, lambda: memory.read(self._host))}
        if now >= self._due:
            self._due = now + (SOON if self._before is None else EVERY) - _EARLY
            asked[SYSTEM_SOURCE] = self._ask(SYSTEM_SOURCE, self._look)
        try:
            for id_, answer in asked.items():
                try:
                    self._take(id_, await answer)
                except (Unavailable, LinkDown) as error:
                    trouble = error if isinstance(error, Unavailable) else unforeseen(error)
                    self._take(id_, _Answer(self._clock.monotonic(), trouble=trouble))
        finally:
            for answer in asked.values():  # who is cancelled awaits none of the others
                answer.close()

    def sources(self) -> Iterator[Source]:
        now = self._clock.monotonic()
        for id_, answer in self._last.items():
            good = self._good.get(id_)
            yield standing(
                id_,
                _NAMES[id_] if self._host.here else "procfs, sysfs" if id_ == SYSTEM_SOURCE else "procfs",
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

    def _ask(self, id_: str, read: Callable[[], Any]) -> Coroutine[Any, Any, _Answer]:
        return self._workers[id_].send(lambda: self._answer(read), self._clock.allow(DEADLINE))

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
