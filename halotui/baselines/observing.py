"""From judged frames to observations: what requests, loads and processes teach of what is usual."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import length_hint

from msgspec import Struct

from halotui.baselines import beside
from halotui.baselines.setups import (
    LEAST_COMPUTED,
    LEAST_DRAFTED,
    LEAST_GENERATED,
    depth_of,
    elsewhere,
    key_of,
)
from halotui.history import LENGTH, History, Sample
from halotui.ledger import Conditions, Key, Metric, Observation
from halotui.model import End, Frame, Gpu, HeldBy, Holder, Request, Server, ServerState

LEAST_SECONDS = {"log": 0.5, "slots": 5.0}  # of decoding, by who measured: watching is ± a poll
AT_ONCE = 8  # requests of a server that one frame teaches at most: the rest would only cost
MEMORY_SECONDS = 1800.0  # between two observations of what a process holds
LATE = 60.0  # seconds after it is ready that a log may take to tell how long a load took
SUBJECTS = 64  # servers remembered
NEIGHBOURS = 64  # newest requests of a server that one may have run beside
SPEEDS = (Metric.DECODE, Metric.PREFILL)

_READY = (ServerState.IDLE, ServerState.BUSY)
_GPU_MEANS = {
    "sclk_hertz": "gpu.sclk_hertz",
    "busy_percent": "gpu.busy_percent",
    "temperature_celsius": "gpu.temperature_celsius",
    "socket_power_watts": "gpu.socket_power_watts",
    "gfx_power_watts": "gpu.gfx_power_watts",
    "cpu_power_watts": "gpu.cpu_power_watts",
}
_BOX_MEANS = {
    "cpu_busy_percent": ("system", "system.cpu_busy_percent"),
    "available_bytes": ("memory", "memory.available_bytes"),
    "swap_bytes_per_second": ("system", "system.swap_out_bytes_per_second"),
}

Taught = tuple[Key, Observation]
Held = Sequence[tuple[float, HeldBy]]  # the frames in which the GPU was held back


class _Process(Struct):
    """What was seen of a server's process since halotui watches it."""

    pid: int
    peak: int = 0  # bytes
    observed: float = 0.0  # when memory was last
    served: bool = False  # since then


class Rings:
    """What the rings hold now, each read once: for many spans."""

    def __init__(self, history: History) -> None:
        self.times = [time or 0.0 for time in history.times.last(LENGTH)]
        self._history = history
        self._read: dict[tuple[str, str], list[float | None]] = {}

    def series(self, subject: str, field: str) -> list[float | None]:
        """It ends where ``times`` does, and may begin later."""
        values = self._read.get((subject, field))
        if values is None:
            ring = self._history.series(subject, field)
            values = self._read[subject, field] = ring.last(LENGTH) if ring is not None else []
        return values


class _Frames:
    """The frames of a time, in the rings; of a time between two frames, both."""

    def __init__(self, rings: Rings, began: float, ended: float) -> None:
        times = rings.times
        first, last = bisect_left(times, began), bisect_right(times, ended)
        if first >= last:
            first, last = max(0, first - 1), min(len(times), last + 1)
        self._rings = rings
        self._began, self._ended = began, ended
        self._taken, self._left = len(times) - first, len(times) - last  # frames since its begin; its end
        self._whole = bool(times) and times[0] <= began

    def watched(self, subject: str, field: str) -> bool:
        """From the beginning."""
        return self._whole and 0 < self._taken <= len(self._rings.series(subject, field))

    def values(self, subject: str, field: str) -> list[float]:
        """What is known of a field."""
        values = self._rings.series(subject, field)
        seen = values[max(0, len(values) - self._taken) : max(0, len(values) - self._left)]
        return [value for value in seen if value is not None]

    def mostly(self, held: Held) -> HeldBy | None:
        """What held the GPU back in more than half of them."""
        words = [word for time, word in held if self._began <= time <= self._ended]
        return next((word for word in set(words) if 2 * words.count(word) > self._taken - self._left), None)


class Observer:
    """Takes each judged frame once, in order."""

    def __init__(self) -> None:
        self._loading: dict[str, float | None] = {}  # url -> since when it is ready
        self._processes: dict[str, _Process] = {}
        self._holders: tuple[Holder, ...] = ()
        self._held: deque[tuple[float, HeldBy]] = deque(maxlen=LENGTH)

    def take(self, frame: Frame, history: History, frozen: Callable[[str], bool]) -> list[Taught]:
        """``history`` holds the frame. ``frozen``: whether a server is no example of what is usual now."""
        taught: list[Taught] = []
        gpu = gpu_of(frame)
        if gpu is not None and gpu.held_by is not None:
            self._held.append((frame.time, gpu.held_by))
        news = frame.holders is not self._holders
        self._holders = frame.holders
        for server in frame.servers:
            if server.requests:
                taught += self._of_requests(frame, history, server, frozen)
            if server.state is ServerState.LOADING or server.url in self._loading:
                taught += self._of_load(frame, server, frozen)
            if news and server.pid is not None:
                taught += self._of_memory(frame, server, frozen)
        return taught

    def _of_requests(
        self, frame: Frame, history: History, server: Server, frozen: Callable[[str], bool]
    ) -> list[Taught]:
        if (process := self._processes.get(server.url)) is not None:
            process.served = True
        if frozen(server.url):
            return []
        taught: list[Taught] = []
        rings = Rings(history)
        prompts = beside.prompts_of(server, _newest(history, server.url), frame.time)
        for request in server.requests[-AT_ONCE:]:
            measured = dict(values_of(request))
            span = span_of(request, frame.time) if measured else None
            if span is None:
                continue
            frames = _Frames(rings, *span)
            streams = _streams(frames, server.url)
            keys = {
                metric: key
                for metric in measured
                if not _disturbed(prompts, metric, request)
                and (key := key_of(server, metric, request, streams)) is not None
            }
            if keys:
                how = _conditions(frame, frames, server, request, self._held)
                taught += (
                    (key, Observation(time=span[1], value=measured[metric], conditions=how))
                    for metric, key in keys.items()
                )
        return taught

    def _of_load(self, frame: Frame, server: Server, frozen: Callable[[str], bool]) -> Iterator[Taught]:
        """Once for each load that was seen: the log may tell of it a moment after the server is ready."""
        url = server.url
        if server.state is ServerState.LOADING:
            if len(self._loading) < SUBJECTS:
                self._loading[url] = None
            return
        ready = self._loading[url]
        if server.state not in _READY or (ready is not None and frame.time - ready > LATE):
            del self._loading[url]
            return
        self._loading[url] = frame.time if ready is None else ready
        seconds = server.facts.load_seconds if server.facts is not None else None
        key = key_of(server, Metric.LOAD)
        if seconds and key is not None:
            del self._loading[url]
            if not frozen(url):
                yield key, Observation(time=frame.time, value=seconds)

    def _of_memory(self, frame: Frame, server: Server, frozen: Callable[[str], bool]) -> Iterator[Taught]:
        """The most that it held, now and then while it serves."""
        held = next((_gpu_bytes(one) for one in frame.holders if one.pid == server.pid), None)
        if not held or server.pid is None:
            return
        process = self._processes.get(server.url)
        if process is None or process.pid != server.pid:
            if len(self._processes) >= SUBJECTS:
                self._processes.clear()
            process = self._processes[server.url] = _Process(server.pid, observed=frame.time)
        process.peak = max(process.peak, held)
        if process.served and frame.time - process.observed >= MEMORY_SECONDS:
            process.observed, process.served = frame.time, False
            key = key_of(server, Metric.MEMORY)
            if key is not None and not frozen(server.url):
                how = Conditions(others_bytes=others_bytes(frame, server))
                yield key, Observation(time=frame.time, value=process.peak, conditions=how)


def _newest(history: History, url: str) -> list[Sample]:
    told = history.requests(url)
    return list(islice(told, max(0, length_hint(told) - NEIGHBOURS), None))


def _disturbed(prompts: Sequence[beside.Prompt], metric: Metric, request: Request) -> bool:
    return metric in SPEEDS and beside.disturbed(prompts, metric, request) > beside.MOST


def values_of(request: Request) -> Iterator[tuple[Metric, float]]:
    """What can be learned of a request: nothing of one that was cut off, or that counters summed up."""
    least = LEAST_SECONDS.get(request.source)
    if least is None or request.end not in (None, End.DONE):
        return
    generated, drafted = request.generation_tokens or 0, request.draft_tokens
    rate = request.generation_tokens_per_second
    if rate and generated >= LEAST_GENERATED and (request.generation_seconds or generated / rate) >= least:
        yield Metric.DECODE, rate
    if request.prompt_tokens_per_second and (request.prompt_tokens or 0) >= LEAST_COMPUTED:
        yield Metric.PREFILL, request.prompt_tokens_per_second
    if drafted is None or generated < LEAST_GENERATED:
        return
    if drafted >= LEAST_DRAFTED and request.draft_acceptance_ratio is not None:
        yield Metric.ACCEPTANCE, request.draft_acceptance_ratio
    if request.draft_coverage_ratio is not None:
        yield Metric.COVERAGE, request.draft_coverage_ratio


def span_of(request: Request, now: float) -> tuple[float, float] | None:
    """When it began and ended, Unix seconds. ``now``: when it was told, for one that does not say."""
    ended = request.ended_time if request.ended_time is not None else now
    if request.started_time is not None:
        return min(request.started_time, ended), ended
    lasted = request.wall_seconds
    if lasted is None and request.prompt_seconds is not None and request.generation_seconds is not None:
        lasted = request.prompt_seconds + request.generation_seconds
    return None if lasted is None else (ended - lasted, ended)


def streams_during(rings: Rings, url: str, began: float, ended: float) -> float | None:
    """Requests that a server worked at, the mean over that time and 1 at least; None when it began before
    what the rings hold, or nothing told."""
    return _streams(_Frames(rings, began, ended), url)


def conditions_during(
    frame: Frame,
    history: History,
    server: Server,
    request: Request,
    began: float,
    ended: float,
    *,
    held: Held = (),
) -> Conditions:
    """How the box was meanwhile: means over the frames of that time; who held memory is of ``frame``."""
    return _conditions(frame, _Frames(Rings(history), began, ended), server, request, held)


def _streams(frames: _Frames, url: str) -> float | None:
    known = frames.values(url, "server.slots_busy") if frames.watched(url, "server.slots_busy") else []
    return max(1.0, sum(known) / len(known)) if known else None


def _conditions(frame: Frame, frames: _Frames, server: Server, request: Request, held: Held) -> Conditions:
    ours = not elsewhere(server)  # of the box that it runs on nothing is known
    gpu = gpu_of(frame) if ours else None
    subjects = {name: (gpu.id, field) for name, field in _GPU_MEANS.items()} if gpu is not None else {}
    means = {
        name: _rounded(sum(known) / len(known))
        for name, (subject, field) in (subjects | (_BOX_MEANS if ours else {})).items()
        if (known := frames.values(subject, field))
    }
    return Conditions(
        **means,
        depth_tokens=depth_of(request),
        prompt_tokens=request.prompt_tokens,
        streams=_streams(frames, server.url),
        draft_acceptance_ratio=request.draft_acceptance_ratio,
        draft_coverage_ratio=request.draft_coverage_ratio,
        others_bytes=others_bytes(frame, server),
        held_by=frames.mostly(held) if ours else None,
    )


def gpu_of(frame: Frame) -> Gpu | None:
    """The one that a server of this box works on, as far as one can tell: the APU, else the first."""
    return next((gpu for gpu in frame.gpus if gpu.integrated), frame.gpus[0] if frame.gpus else None)


def _rounded(mean: float) -> float:
    """To six digits: more would only fill the store."""
    return float(f"{mean:.6g}")


def others_bytes(frame: Frame, server: Server) -> int | None:
    """GPU memory of processes other than its own; None when nobody's is known."""
    if server.pid is None:
        return None
    known = [(one.pid, held) for one in frame.holders if (held := _gpu_bytes(one)) is not None]
    return sum(held for pid, held in known if pid != server.pid) if known else None


def _gpu_bytes(holder: Holder) -> int | None:
    if holder.gtt_bytes is None and holder.vram_bytes is None:
        return None
    return (holder.gtt_bytes or 0) + (holder.vram_bytes or 0)
