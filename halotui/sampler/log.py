"""One server's log: followed, read, and handed over a frame at a time."""

from __future__ import annotations

import asyncio

from halotui.collectors.llama_log import LogParser
from halotui.collectors.log_follow import LogFollower, StdinFollower
from halotui.model import LogFacts, LogLine, Request, Source, SourceState, Unavailable
from halotui.sampler.clock import Clock
from halotui.sampler.rates import Key
from halotui.sampler.standing import standing

LINES = 200  # newest lines that go into one frame
BREATH = 1000  # lines parsed in one go, about 7 ms


class LogTap:
    """``read`` takes what was written; ``lines`` and ``requests`` hand it over once."""

    def __init__(self, path: str, clock: Clock, stdin: int = 0) -> None:
        self.path = path
        self.catching_up = True  # what the first read brings ended before we looked
        self._clock = clock
        self._follower = StdinFollower(stdin) if path == "-" else LogFollower(path)
        self._parser = LogParser()
        self._lines: list[LogLine] = []
        self._requests: list[Request] = []
        self._reads = 0
        self._trouble: Unavailable | None = None
        self._read_at: float | None = None

    @property
    def alive(self) -> bool:
        """Whether the log can be read at the moment."""
        return self._reads > 0 and self._trouble is None

    @property
    def facts(self) -> LogFacts:
        return self._parser.server.facts

    async def read(self) -> bool:
        """Read what is new; True when there was anything."""
        try:
            raw = await self._follower.read()
        except Unavailable as trouble:
            self._trouble = trouble
            return False
        self._trouble, self._read_at = None, self._clock.monotonic()
        self._reads += 1
        self.catching_up = self._reads == 1
        for number, line in enumerate(raw):
            if number % BREATH == BREATH - 1:
                await asyncio.sleep(0)  # a burst must not hold up the keys
            entry = self._parser.feed(line)
            if entry.line.text:
                self._lines.append(entry.line)
            if entry.request is not None and entry.child is None:
                self._requests.append(entry.request)
        return bool(raw)

    def lines(self) -> tuple[LogLine, ...]:
        """Lines since the last call, the newest at most."""
        lines, self._lines = self._lines[-LINES:], []
        return tuple(lines)

    def requests(self) -> tuple[Request, ...]:
        """Requests that finished since the last call."""
        requests, self._requests = self._requests, []
        return tuple(requests)

    def progress(self, key: Key) -> float | None:
        """How much of a slot's prompt is done, 0 to 1, when the log told."""
        return next((p.ratio for p in self._parser.server.prompts if (p.slot, p.task) == key), None)

    def source(self, url: str) -> Source:
        trouble = self._trouble
        if self._reads == 0 and trouble is None:
            trouble = Unavailable(SourceState.NO_DATA, "not read yet")
        age = self._clock.monotonic() - self._read_at if self._read_at is not None else None
        return standing(f"log {url}", "standard input" if self.path == "-" else "file", trouble, age=age)

    async def close(self) -> None:
        await self._follower.close()
