"""Finished requests, one record each: the log's own figures, else what was seen of their slots.

A log tells of every request, to its last digit. Without one, a task that was seen at work and has gone
makes a record of what watching can know: counts that the slot still shows, times to a poll. What could
only be guessed stays unknown.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median

from msgspec.structs import replace

from halotui.model import Metrics, Request, SlotReading
from halotui.sampler.rates import Key

PATIENCE = 5.0  # seconds that a log is given to tell of a task that has gone
TASKS = 512  # finished ones remembered, so that none is told twice
LAST = 8  # requests that the time to the first token is taken over
WIDEST = 2.5  # seconds between two looks: a start or an end in a longer gap is not known
MOST = 2 / 3  # of an answer that must have been watched for its speed to be known
CLOSE = 1 / 3  # ± of a time that is told without it, as a share of it


@dataclass(slots=True)
class Watched:
    """A task that was seen at work; times are monotonic seconds."""

    slot: int
    task: int | None
    free_at: float | None  # the look before it was there; None: it ran when we came
    began: float  # the look that saw it first
    seen: float  # ... and last
    processed: int | None = None
    cached: int | None = None
    decoded: int = 0
    waiting_at: float | None = None  # the last look that saw no token
    answered_at: float | None = None  # the first that saw one
    first_tokens: int = 0  # ... and how many
    first_batch: tuple[float, float, int] | None = None  # a prompt batch seen done: ±, when, tokens
    last_batch: tuple[float, float, int] | None = None

    def look(self, slot: SlotReading, at: float) -> None:
        since = self.seen if at > self.began else self.began if self.free_at is None else self.free_at
        self.seen = at
        tokens = slot.decoded or 0
        if slot.prompt_processed is not None and (tokens or slot.prompt_processed):
            self.processed, self.cached = slot.prompt_processed, slot.prompt_cached
            if self.last_batch is None or slot.prompt_processed > self.last_batch[2]:
                self.last_batch = ((at - since) / 2, (at + since) / 2, slot.prompt_processed)
                self.first_batch = self.first_batch or self.last_batch
        if not tokens:
            self.waiting_at = at
        elif self.answered_at is None:
            self.answered_at, self.first_tokens = at, tokens
        self.decoded = max(self.decoded, tokens)

    def decode_rate(self, at: float, generated: int | None) -> float | None:
        """Tokens per second between the first and the last look at an answer that was over at ``at``. Those
        must have seen most of it: how fast the rest was is not known.
        """
        if self.answered_at is None:
            return None
        tokens, seconds = self.decoded - self.first_tokens, self.seen - self.answered_at
        earliest = self.waiting_at if self.waiting_at is not None else self.free_at
        whole = at - (earliest if earliest is not None else self.answered_at)
        most = tokens >= MOST * (generated or self.decoded) and seconds >= MOST * whole
        return tokens / seconds if seconds > 0 and tokens and most else None

    @property
    def prompt_rate(self) -> float | None:
        """Between the first batch that was seen done and the last, if the looks were close enough."""
        if self.first_batch is None or self.last_batch is None:
            return None
        (error, first, before), (off, last, tokens) = self.first_batch, self.last_batch
        seconds = last - first
        return (tokens - before) / seconds if seconds > 0 and error + off <= CLOSE * seconds else None

    @property
    def start(self) -> tuple[float, float] | None:
        """When it began, ±."""
        if self.free_at is None or self.began - self.free_at > WIDEST:
            return None
        return _middle(self.free_at, self.began)

    @property
    def ttft(self) -> tuple[float, float] | None:
        """Seconds to the first token, ±: each end lies between two looks."""
        start = self.start
        if start is None or self.answered_at is None:
            return None
        earliest = self.waiting_at
        if earliest is None:  # never seen without a token: it came between the same two looks
            seconds = self.answered_at - (self.free_at or 0.0)
            return seconds / 2, seconds / 2
        first, error = _middle(earliest, self.answered_at)
        return max(0.0, first - start[0]), error + start[1]


class RequestBook:
    """Of one server process. ``look`` at each answer of /slots, ``finished`` once a frame."""

    def __init__(self) -> None:
        self._looked_at: float | None = None
        self._working: dict[int, Watched] = {}
        self._gone: OrderedDict[Key, tuple[float, Watched, Request]] = OrderedDict()  # not told of yet
        self._told: OrderedDict[Key, str] = OrderedDict()  # by which source
        self._ttft: deque[float] = deque(maxlen=LAST)
        self.last: Request | None = None  # the log's, if it ever told of one

    @property
    def ttft_seconds(self) -> float | None:
        """Median over the last requests of the log."""
        return median(self._ttft) if self._ttft else None

    def began(self, to_wall: float) -> Iterator[tuple[int, float]]:
        """The slots at work, and the Unix seconds at which they were first seen to be."""
        return ((slot, watched.began + to_wall) for slot, watched in self._working.items())

    def look(self, slots: tuple[SlotReading, ...], at: float) -> None:
        for slot in slots:
            watched = self._working.get(slot.id)
            if watched is not None and (not slot.processing or slot.task != watched.task):
                del self._working[slot.id]
                self._end(watched, slot, at)
                watched = None
            if slot.processing:
                if watched is None:
                    watched = Watched(slot.id, slot.task, self._looked_at, at, at)
                    self._working[slot.id] = watched
                watched.look(slot, at)
        self._looked_at = at

    def finished(
        self, log: Iterable[Request], now: float, wall: float, *, has_log: bool, speculative: bool | None
    ) -> tuple[Request, ...]:
        """What has ended since the call before; ``log``: by the log's account."""
        ended = []
        for request in log:
            key = (request.slot, request.task)
            if self._told.get(key) == "slots":  # the log came late, or was lost for a while
                continue
            self._tell(key, "log")
            ended.append(self._enriched(request, wall - now, speculative))
        for key, (at, _, request) in list(self._gone.items()):
            if key in self._told:
                del self._gone[key]
            elif not has_log or now - at > PATIENCE:
                del self._gone[key]
                self._tell(key, "slots")
                ended.append(_dated(request, wall - now))
        for request in ended:
            self._remember(request)
        return tuple(ended)

    def _end(self, watched: Watched, slot: SlotReading, at: float) -> None:
        key = (watched.slot, watched.task)
        if key in self._told:
            return
        self._gone[key] = (at, watched, _seen(watched, slot, at))
        while len(self._gone) > TASKS:
            self._gone.popitem(last=False)

    def _tell(self, key: Key, source: str) -> None:
        self._told[key] = source
        while len(self._told) > TASKS:
            self._told.popitem(last=False)

    def _remember(self, request: Request) -> None:
        if request.source == "log" or self.last is None or self.last.source != "log":
            self.last = request
        seconds = request.ttft_seconds if request.source == "log" else None
        if seconds is not None:
            self._ttft.append(seconds)

    def _enriched(self, request: Request, to_wall: float, speculative: bool | None) -> Request:
        """With what its slot showed, and the ratios of its draft; of a log without a clock, our times."""
        more: dict[str, float | int | None] = {}
        watched = self._watched(request)
        if watched is not None and watched.cached is not None and watched.decoded:
            more["cached_tokens"] = watched.cached
        if watched is not None and request.started_time is None and watched.start is not None:
            more["started_time"] = watched.start[0] + to_wall
        generated, drafted, accepted = (
            request.generation_tokens,
            request.draft_tokens,
            request.draft_accepted_tokens,
        )
        if speculative and drafted is None and generated:  # no draft line: the fault that hides itself
            drafted = accepted = more["draft_tokens"] = more["draft_accepted_tokens"] = 0
        if drafted and accepted is not None and request.draft_acceptance_ratio is None:
            more["draft_acceptance_ratio"] = accepted / drafted
        if drafted is not None and generated and request.draft_coverage_ratio is None:
            more["draft_coverage_ratio"] = drafted / generated
        return replace(request, **more) if more else request

    def _watched(self, request: Request) -> Watched | None:
        key = (request.slot, request.task)
        if key in self._gone:
            return self._gone[key][1]
        working = self._working.get(request.slot) if request.slot is not None else None
        return working if working is not None and working.task == request.task else None


class CounterBook:
    """Without a log, what ended between two looks at /metrics, summed: its draft figures are known no other
    way. ``since_start``: all that ended before we looked.
    """

    def __init__(self) -> None:
        self._before: Metrics | None = None
        self.since_start: tuple[Request, ...] = ()

    def look(self, now: Metrics | None, speculative: bool) -> tuple[Request, ...]:
        before, self._before = self._before, now
        if now is None or now.draft_tokens_total is None:
            return ()
        ended = _between(before or Metrics(), now, speculative)
        if before is None:  # nothing to report, and better than no figure
            self.since_start = ended
            return ()
        return ended


def _between(before: Metrics, now: Metrics, speculative: bool) -> tuple[Request, ...]:
    generated, drafted, accepted = (
        (getattr(now, key) or 0.0) - (getattr(before, key) or 0.0)
        for key in ("generation_tokens_total", "draft_tokens_total", "draft_accepted_total")
    )
    if generated <= 0 or drafted < 0 or accepted < 0:
        return ()
    return (
        Request(
            source="metrics",
            generation_tokens=int(generated),
            draft_tokens=int(drafted) if speculative else None,
            draft_accepted_tokens=int(accepted) if speculative else None,
        ),
    )


def _seen(watched: Watched, slot: SlotReading, at: float) -> Request:
    """What watching can know; times are still monotonic."""
    ttft, error = watched.ttft or (None, None)
    start, early = watched.start or (None, 0.0)
    end, late = _middle(watched.seen, at) if at - watched.seen <= WIDEST else (None, 0.0)
    wall = end - start if start is not None and end is not None else None
    same = slot.task == watched.task and not slot.processing
    answered = watched.answered_at is not None
    generated = _generated(watched, slot) if same else None
    return Request(
        source="slots",
        slot=watched.slot,
        task=watched.task,
        prompt_tokens=watched.processed if answered else None,
        cached_tokens=watched.cached if answered else None,
        prompt_tokens_per_second=watched.prompt_rate,
        ttft_seconds=ttft,
        ttft_error_seconds=error,
        generation_tokens=generated,
        generation_tokens_per_second=watched.decode_rate(at, generated),
        context_tokens=slot.tokens or None if same else None,
        started_time=start,
        ended_time=end,
        wall_seconds=wall if wall and early + late <= CLOSE * wall else None,
    )


def _generated(watched: Watched, slot: SlotReading) -> int | None:
    """All the tokens of an answer, from what the idle slot still shows. Older builds keep the count; newer
    ones keep the tokens, where the last one of an answer never is.
    """
    if watched.answered_at is None:
        return None
    if slot.tokens is None:
        count = slot.decoded
    elif slot.speculative:  # drafted tokens beyond the end are there as well
        count = None
    elif slot.tokens and watched.processed is not None and watched.cached is not None:
        count = slot.tokens - watched.processed - watched.cached + 1
    else:
        count = None
    return count if count is not None and count >= watched.decoded else None


def _dated(request: Request, to_wall: float) -> Request:
    """Monotonic times as those of a clock."""
    started, ended = request.started_time, request.ended_time
    return replace(
        request,
        started_time=started + to_wall if started is not None else None,
        ended_time=ended + to_wall if ended is not None else None,
    )


def _middle(early: float, late: float) -> tuple[float, float]:
    return (early + late) / 2, (late - early) / 2
