"""One server's log: followed, read, and handed over a frame at a time."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from halotui.collectors import log_sources
from halotui.collectors.llama_log import Batch, LogParser, ServerLog
from halotui.collectors.log_follow import GAP, LogFollower
from halotui.hosts import Host
from halotui.model import (
    LogFacts,
    LogLine,
    LogPlace,
    Request,
    ServerEvent,
    Source,
    SourceState,
    Unavailable,
)
from halotui.safe import clean
from halotui.sampler.clock import Clock
from halotui.sampler.rates import Key
from halotui.sampler.standing import standing, unforeseen

LINES = 200  # newest lines that go into one frame
KEPT = 2000  # requests and events that wait to be handed over
CHILDREN = 64  # of a router, by port
BUDGET = 0.5  # seconds that one read goes on, when more is there
BREATH = 0.008  # seconds that the keys may wait: what is parsed in one go is fitted to it
LEAST, MOST = 8 << 10, 1 << 20  # bytes of that

NEWLINE = 10
T = TypeVar("T")


class Tap(ABC):
    """What a log told of one server. ``lines``, ``requests`` and ``events`` hand it over once."""

    def __init__(self) -> None:
        self.catching_up = True  # what the last read brought ended before we looked
        self.moved_at: float | None = None  # monotonic seconds: when a line came last
        self._lines: deque[LogLine] = deque(maxlen=LINES)
        self._gap: LogLine | None = None  # the last one: what follows must not push it out unseen
        self._requests: deque[Request] = deque(maxlen=KEPT)
        self._events: deque[ServerEvent] = deque(maxlen=KEPT)

    @property
    @abstractmethod
    def server(self) -> ServerLog: ...

    @property
    def facts(self) -> LogFacts:
        return self.server.facts

    @property
    def at_work(self) -> bool:
        """A request runs, or one has ended that was not handed over yet. Lines of mere looks are neither."""
        return bool(self.server.running or self._requests)

    def lines(self) -> tuple[LogLine, ...]:
        """Lines since the last call, the newest at most, and before them the last gap."""
        lines, gap, self._gap = _handed_over(self._lines), self._gap, None
        return lines if gap is None or gap in lines else (gap, *lines)

    def requests(self) -> tuple[Request, ...]:
        """Requests that finished since the last call."""
        return _handed_over(self._requests)

    def events(self) -> tuple[ServerEvent, ...]:
        """What was worth a person's attention since the last call."""
        return _handed_over(self._events)

    def progress(self, key: Key) -> float | None:
        """How much of a slot's prompt is done, 0 to 1, when the log told."""
        return next((p.ratio for p in self.server.prompts if (p.slot, p.task) == key), None)

    def _keep(self, batch: Batch, now: float) -> None:
        self._lines.extend(batch.lines)
        self._requests.extend(batch.requests)
        self._events.extend(batch.events)
        if batch.lines:
            self.moved_at = now


class LogTap(Tap):
    """A log and all that is told in it: ``read`` takes what was written.

    A burst is parsed bit by bit, the keys in between, for half a second at most. The rest waits for
    the next read, and what is too much for its follower to hold is left out.
    """

    def __init__(
        self, place: LogPlace, clock: Clock, host: Host, *, stdin: int = 0, started: float | None = None
    ) -> None:
        super().__init__()
        self.place = place
        self.name = log_sources.name(place)
        self._clock = clock
        self._host = host
        self._follower = log_sources.follow(place, host, clock.wall(), stdin)
        self._parser = LogParser(started)
        self._children: dict[int, ChildTap] = {}
        self._block, self._at = b"", 0  # what is being parsed, and how far it is
        self._size = 8 * LEAST  # of what is parsed in one go
        self._trouble: Unavailable | None = Unavailable(SourceState.NO_DATA, "not read yet")
        self._read_at: float | None = None

    @property
    def started(self) -> float | None:
        """Unix seconds: when the process started whose clock the log's lines show."""
        return self._parser.started

    @started.setter
    def started(self, started: float | None) -> None:
        self._parser.started = started

    @property
    def alive(self) -> bool:
        """Whether the log can be read at the moment."""
        return self._trouble is None

    @property
    def server(self) -> ServerLog:
        return self._parser.server

    def follows(self, place: LogPlace) -> bool:
        """Whether that is this very log: it goes on when its server is started again.

        A file that was renamed is followed by its new name from now on.
        """
        if replace(place, since_time=self.place.since_time) == self.place:
            return True
        follower = self._follower
        if place.kind != "file" or not isinstance(follower, LogFollower) or not follower.holds(place.name):
            return False
        follower.path, self.place, self.name = Path(place.name), place, log_sources.name(place)
        return True

    async def read(self) -> bool:
        """Read what is new; True when there was anything."""
        began, came, past = self._clock.monotonic(), False, False
        try:
            while self._at < len(self._block) or await self._fetch():
                self._take_bit()
                came, past = True, past or self._follower.past
                await asyncio.sleep(0)
                if self._clock.monotonic() - began >= BUDGET:
                    break
            self._trouble, self._read_at = None, self._clock.monotonic()
        except Unavailable as trouble:
            self._trouble = trouble
        except Exception as error:
            self._trouble = unforeseen(error)
        self.catching_up = past if came else self._follower.past
        return came

    def child(self, port: int) -> ChildTap:
        """What the router's child at ``port`` wrote into this log."""
        if port not in self._children:
            if len(self._children) >= CHILDREN:
                del self._children[next(iter(self._children))]
            self._children[port] = ChildTap(self, port)
        return self._children[port]

    def source(self, url: str) -> Source:
        age = self._clock.monotonic() - self._read_at if self._read_at is not None else None
        return standing(f"log {url}", log_sources.label(self.place), self._trouble, age=age)

    async def close(self) -> None:
        await self._follower.close()

    def log_of(self, port: int) -> ServerLog | None:
        return self._parser.children.get(port)

    async def _fetch(self) -> bool:
        self._block, self._at = await self._follower.read(), 0
        at = self._block.rfind(GAP)
        if at == 0 or (at > 0 and self._block[at - 1] == NEWLINE):
            words = self._block[at : self._block.find(b"\n", at)]
            self._gap = LogLine(text=clean(words), level="warning")
        return bool(self._block)

    def _take_bit(self) -> None:
        """Parse whole lines, as many as fit into a breath."""
        began, at = self._clock.monotonic(), self._at
        # A past of several runs goes in whole: the parser times the newest of a block by the process's start.
        size = len(self._block) if self._follower.past else self._size
        end = self._block.rfind(b"\n", at, at + size) + 1 or self._block.index(b"\n", at) + 1
        self._at = end  # before it is parsed: what cannot be is left behind
        self._parser.ahead = 0.0 if self.place.kind == "stdin" else self._host.ahead
        batch = self._parser.feed(self._block[at:end], LINES if end == len(self._block) else 0)
        now = self._clock.monotonic()
        if now - began > BREATH:
            self._size = max(LEAST, self._size // 2)
        elif now - began < BREATH / 3:
            self._size = min(MOST, self._size * 2)
        self._keep(batch, now)
        for port, of_child in batch.children.items():
            self.child(port).take(of_child, now, self._follower.past)


class ChildTap(Tap):
    """A router's child in its parent's log: filled when that is read."""

    def __init__(self, parent: LogTap, port: int) -> None:
        super().__init__()
        self.port = port
        self.place = parent.place
        self.name = parent.name
        self._parent = parent
        self._server = ServerLog()  # until it has written
        self._came = self._past = False

    @property
    def started(self) -> float | None:
        """Unix seconds: the child's own start. The parent's log tells it, when it is read from there on."""
        return self.server.timeline.started

    @started.setter
    def started(self, started: float | None) -> None:
        self.server.timeline.started = started

    @property
    def alive(self) -> bool:
        return self._parent.alive

    @property
    def server(self) -> ServerLog:
        return self._parent.log_of(self.port) or self._server

    def follows(self, place: LogPlace) -> bool:
        return self._parent.follows(place)

    def take(self, batch: Batch, now: float, past: bool) -> None:
        self._keep(batch, now)
        self._came, self._past = True, self._past or past

    async def read(self) -> bool:
        """Whether anything came since the last call."""
        came, self.catching_up = self._came, self._past
        self._came = self._past = False
        return came

    def source(self, url: str) -> Source:
        return self._parent.source(url)

    async def close(self) -> None:
        """The log is the parent's to close."""


def no_log(url: str, stderr_to: str) -> Source:
    """Of a server whose log goes where nobody can follow it: ``stderr_to`` as ``Process`` tells it."""
    return standing(f"log {url}", "none", log_sources.nowhere(stderr_to))


def _handed_over(waiting: deque[T]) -> tuple[T, ...]:
    taken = tuple(waiting)
    waiting.clear()
    return taken
