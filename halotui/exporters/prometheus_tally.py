"""What happened on one box since the exporter looks: counted from each frame, however seldom one scrapes."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from math import isfinite

from halotui.exporters.prometheus_names import BUCKETS, TOKENS
from halotui.model import End, Frame, Request, Server

SERVERS = 64  # of a box, at most
NAMES = 20  # of processes that a box ever shows, at most: whatever comes later is OTHER
TOP = 5  # of them in a frame
OTHER = "other"
UNKNOWN = "unknown"  # how a request ended
LATE = 2.0  # seconds that an event may be dated before the first frame and still be news


class Histogram:
    """Counts of values up to each bound; cumulative only when it is read."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Ended:
    """The requests and events of one server."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter(dict.fromkeys((*map(str, End), UNKNOWN), 0))
        self.tokens: Counter[str] = Counter(dict.fromkeys(TOKENS, 0))
        self.events: Counter[str] = Counter()
        self.histograms = {key: Histogram(bounds) for key, (_, bounds) in BUCKETS.items()}

    def add(self, request: Request) -> None:
        """One that ended. What is summed from counters is several: it counts in tokens alone."""
        for key in self.tokens:
            self.tokens[key] += max(0, getattr(request, key) or 0)
        if request.source == "metrics":
            return
        self.ends[str(request.end or UNKNOWN)] += 1
        for key, histogram in self.histograms.items():
            value = getattr(request, key)
            if value is not None and isfinite(value) and value >= 0:
                histogram.add(value)


class Tally:
    """Of one box. ``take`` each frame once, in their order."""

    def __init__(self) -> None:
        self.frames = 0
        self.servers: dict[str, Ended] = {}
        self.kernel: Counter[str] = Counter()
        self._began: float | None = None  # Unix seconds: what is dated before was not for us to count
        self._names: set[str] = set()

    def take(self, frame: Frame) -> None:
        self.frames += 1
        if self._began is None:
            self._began = frame.time - LATE
        for event in frame.kernel:
            if self._new(event.time):
                self.kernel[event.kind] += 1
        there = {server.url for server in frame.servers}
        for server in frame.servers:
            if (ended := self._of(server, there)) is None:
                continue
            for request in server.requests:
                if self._new(request.ended_time):
                    ended.add(request)
            for told in server.events:
                if self._new(told.time):
                    ended.events[told.kind] += 1
        self._remember(frame)

    def name(self, process: str) -> str:
        """As it may be shown."""
        return process if process in self._names else OTHER

    def _new(self, time: float | None) -> bool:
        return time is None or self._began is None or time >= self._began

    def _of(self, server: Server, there: set[str]) -> Ended | None:
        """Where its requests are counted; None: there are too many servers."""
        known = self.servers.get(server.url)
        if known is None:
            if len(self.servers) >= SERVERS:
                gone = next((url for url in self.servers if url not in there), None)
                if gone is None:
                    return None
                del self.servers[gone]
            known = self.servers[server.url] = Ended()
        return known

    def _remember(self, frame: Frame) -> None:
        for holder in frame.holders[:TOP]:  # the largest first
            if len(self._names) < NAMES:
                self._names.add(holder.name)
