"""What was: fixed-size rings of the charted fields and of the last requests. Never grows.

Filled from Frames only, so a recording or a remote box has the same history as a live one.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import nan

from msgspec import Struct

from halotui.fields import CHARTED
from halotui.model import (
    GPU_SOURCE,
    SOLE,
    Frame,
    KernelEvent,
    Request,
    ServerEvent,
    ServerState,
    SourceState,
)

LENGTH = 900  # frames kept: a quarter of an hour at 1 Hz
REQUESTS = 2000  # finished requests kept per server
SUBJECTS = 64  # GPUs and servers remembered at most
EVENTS = 100  # of one kind kept per server
KINDS = 32
KERNEL_EVENTS = 500

_SERVES = (ServerState.IDLE, ServerState.BUSY, ServerState.SLEEPING)
_KEYS = {
    owner: tuple(field.key for field in CHARTED if field.owner == owner) for owner in ("gpu", *SOLE, "server")
}


class Ring:
    """The last values of one field, one per frame; a gap is None."""

    __slots__ = ("_start", "_values", "pushed")

    def __init__(self, length: int = LENGTH) -> None:
        self._values = array("d", [nan]) * length
        self._start = 0
        self.pushed = 0  # values ever pushed: a chart that kept its picture appends what is new

    def push(self, value: float | None) -> None:
        self._values[self._start] = nan if value is None else value
        self._start = (self._start + 1) % len(self._values)
        self.pushed += 1

    def last(self, count: int) -> list[float | None]:
        """The newest ``count`` values, oldest first; fewer when fewer were pushed."""
        first = self._start - min(count, len(self._values), self.pushed)
        values = self._values[max(0, first) : self._start]
        if first < 0:  # those before the seam
            values = self._values[first:] + values
        return [None if value != value else value for value in values]  # nan alone is not itself


class Sample(Struct, frozen=True):
    """One finished request and when it ended: as the log says, else when its frame came."""

    time: float
    request: Request


class Noted(Struct, frozen=True):
    """An event and when it was: as the log says, else when its frame came."""

    time: float
    event: ServerEvent


class KernelNoted(Struct, frozen=True):
    """Likewise, of the kernel's log."""

    time: float
    event: KernelEvent


class History:
    """Rings by subject and field: ``series(gpu.id, "gpu.busy_percent")``; the rest by server URL."""

    def __init__(self, length: int = LENGTH) -> None:
        self._length = length
        self._rings: dict[str, dict[str, Ring]] = {}
        self._requests: dict[str, deque[Sample]] = {}
        self._events: dict[str, dict[str, deque[Noted]]] = {}
        self._started: dict[str, float] = {}
        self._kernel: deque[KernelNoted] = deque(maxlen=KERNEL_EVENTS)
        self.times = Ring(length)

    def push(self, frame: Frame) -> None:
        """Append one frame. A subject that is missing in it, or late, gets a gap: rings stay in step."""
        self.times.push(frame.time)
        fresh = {source.id for source in frame.sources if source.state is SourceState.OK}
        seen: dict[str, object] = {}
        for sole, source in SOLE.items():
            struct = getattr(frame, sole)
            if struct is not None and source in fresh:
                seen[sole] = struct
        if GPU_SOURCE in fresh:
            seen.update((gpu.id, gpu) for gpu in frame.gpus)
        seen.update((server.url, server) for server in frame.servers)
        for subject, struct in seen.items():
            if subject not in self._rings and len(self._rings) < SUBJECTS:
                owner = type(struct).__name__.lower()
                self._rings[subject] = {f"{owner}.{key}": Ring(self._length) for key in _KEYS[owner]}
        for subject, rings in self._rings.items():
            struct = seen.get(subject)
            for field, ring in rings.items():
                ring.push(getattr(struct, field.partition(".")[2], None))
        self._kernel.extend(
            KernelNoted(frame.time if event.time is None else event.time, event) for event in frame.kernel
        )
        for server in frame.servers:
            if server.uptime_seconds is not None and server.state in _SERVES and server.url in self._rings:
                self._started[server.url] = frame.time - server.uptime_seconds
            if server.requests and server.url in self._rings:
                kept = self._requests.setdefault(server.url, deque(maxlen=REQUESTS))
                kept.extend(
                    Sample(frame.time if request.ended_time is None else request.ended_time, request)
                    for request in server.requests
                )
            if server.events and server.url in self._rings:
                self._note(server.url, server.events, frame.time)

    def series(self, subject: str, field: str) -> Ring | None:
        """The ring of a field, by its id in ``fields``; None when it is not kept."""
        return self._rings.get(subject, {}).get(field)

    def requests(self, url: str) -> Iterator[Sample]:
        """Finished requests of a server, oldest first."""
        return iter(self._requests.get(url, ()))

    def events(self, url: str) -> Mapping[str, Sequence[Noted]]:
        """What happened to a server, by kind, as it was reported."""
        return self._events.get(url, {})

    def kernel(self) -> Sequence[KernelNoted]:
        """What the kernel's log told, oldest first."""
        return self._kernel

    def started(self, url: str) -> float | None:
        """When the last process began that served there; it may have ended since."""
        return self._started.get(url)

    def _note(self, url: str, events: Iterable[ServerEvent], now: float) -> None:
        kinds = self._events.setdefault(url, {})
        for event in events:
            if event.kind in kinds or len(kinds) < KINDS:
                kept = kinds.setdefault(event.kind, deque(maxlen=EVENTS))
                kept.append(Noted(now if event.time is None else event.time, event))
