"""Speculation in figures: what is drafted, what is accepted, and whether it pays.

Whatever drafts (a draft model, n-grams, MTP), the counts are the same: of ``generated`` tokens ``accepted``
came out of drafts, so the model made ``generated - accepted`` passes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from math import sqrt
from statistics import median
from typing import NamedTuple

from msgspec import Struct

from halotui.collectors.log_drafts import DraftTotals
from halotui.model import LogFacts, Metrics, Request, ServerProcess
from halotui.sampler.rates import Key

RECENT = 4  # finished requests that the figures are taken over
POSITIONS = 16  # of a draft, told one by one
KEPT = 48  # single-stream requests that the cost of a pass is fitted to
LEAST = 6  # ... at least
SHORT = 16  # generated tokens: a shorter answer is timed too coarsely
SPREAD = 0.5  # of the largest draft per pass must be seen to vary: beyond it lies no more than was seen
ROUNDS = 4  # of weighing outliers down
TOLERANCE = 0.35  # ± of a gain, as a share of it, beyond which it says nothing


class DraftFigures(Struct, frozen=True):
    """As the fields of Server are called; unknown is None."""

    acceptance: float | None = None
    coverage: float | None = None
    mean_tokens: float | None = None
    gained: int | None = None
    per_position: tuple[float, ...] = ()
    gain: float | None = None
    gain_error: float | None = None


class Timed(NamedTuple):
    """One answer that ran alone: its first token came with the prompt and is not in ``seconds``."""

    passes: int
    drafted: int
    tokens: int
    seconds: float
    drafting: float | None = None  # of them, when the log tells; 0 where drafts cost nothing


class SpecBook:
    """Of one server process: ``finished`` takes what ended, ``figures`` says what it amounts to."""

    def __init__(self) -> None:
        self._recent: deque[Request] = deque(maxlen=RECENT)
        self._spans: deque[Request] = deque(maxlen=KEPT)  # of the log, crowded ones too
        self._crowded: set[Key] = set()
        self._drafting: dict[Key, float] = {}  # seconds of it that went into drafts
        self._drafting_before = 0.0
        self._gain: tuple[float, float] | None = None
        self._last: dict[int, Request] = {}  # by slot
        self._known: tuple[tuple[object, ...], DraftFigures] | None = None  # and what it was reckoned from

    def finished(
        self,
        requests: Iterable[Request],
        *,
        began: Iterable[tuple[int, float]] = (),
        slots: int | None = None,
        kind: str | None = None,
        totals: DraftTotals | None = None,
    ) -> None:
        """``began``: slots at work and the Unix seconds they were seen to begin; ``kind`` of speculation;
        ``totals`` of the log."""
        told = [request for request in requests if request.source != "slots"]  # those know of no drafts
        if not told:
            return
        self._known = None
        self._recent.extend(told)
        logged = [request for request in told if request.source == "log"]
        if not logged:
            return
        self._last.update((request.slot, request) for request in logged if request.slot is not None)
        began = tuple(began)
        self._spans.extend(logged)
        self._crowded.update(_key(request) for request in logged if _crowded(request, began, slots))
        self._share_drafting(logged, kind, totals)
        kept = {_key(request) for request in self._spans}
        self._crowded &= kept
        self._drafting = {key: seconds for key, seconds in self._drafting.items() if key in kept}
        self._gain = net_gain(list(self._alone()))

    def last_of(self, slot: int) -> Request | None:
        """The last finished request of a slot that its log told of."""
        return self._last.get(slot)

    def figures(
        self,
        metrics: Metrics | None,
        totals: DraftTotals | None,
        *,
        counted: int | None = None,
        since_start: tuple[Request, ...] = (),
    ) -> DraftFigures:
        """``counted``: tokens gained, where we counted them all. ``since_start``: what stands in until a
        request has ended before our eyes."""
        of = (metrics, totals, since_start, counted)
        known = self._known
        if known is None or any(new is not old for new, old in zip(of, known[0], strict=True)):
            known = self._known = (of, self._reckon(metrics, totals, counted, since_start))
        return known[1]

    def _reckon(
        self,
        metrics: Metrics | None,
        totals: DraftTotals | None,
        counted: int | None,
        since_start: tuple[Request, ...],
    ) -> DraftFigures:
        drafts = self._recent or since_start
        acceptance, coverage = draft_ratios(drafts)
        gained: float | None = counted
        positions: tuple[float, ...] = ()
        if totals is not None and totals.accepted is not None:
            gained, positions = totals.accepted, totals.accepted_per_position
        if metrics is not None and metrics.draft_accepted_total is not None:
            gained = metrics.draft_accepted_total
            if metrics.draft_steps_total:
                steps = metrics.draft_steps_total
                positions = tuple(count / steps for count in metrics.draft_accepted_per_position)
        gain, error = self._gain or (None, None)
        return DraftFigures(
            acceptance=acceptance,
            coverage=coverage,
            mean_tokens=mean_length(drafts),
            gained=int(gained) if gained is not None else None,
            per_position=positions[:POSITIONS],
            gain=gain,
            gain_error=error,
        )

    def _alone(self) -> Iterable[Timed]:
        """Answers that no other request was worked on beside."""
        spans = [r for r in self._spans if r.started_time is not None and r.ended_time is not None]
        for request in self._spans:
            if _key(request) in self._crowded or any(_overlap(request, other) for other in spans):
                continue
            timed = _timed(request, self._drafting.get(_key(request)))
            if timed is not None:
                yield timed

    def _share_drafting(self, ended: Sequence[Request], kind: str | None, totals: DraftTotals | None) -> None:
        """The log sums the time of drafts: what was added belongs to what has ended since, by passes."""
        if kind and all(part.strip().startswith("ngram") for part in kind.split(",")):
            self._drafting.update(dict.fromkeys(map(_key, ended), 0.0))  # a look into a table
            return
        now = totals.draft_seconds if totals is not None else None
        if now is None:
            return
        added, self._drafting_before = now - self._drafting_before, now
        passes = [(r.generation_tokens or 0) - (r.draft_accepted_tokens or 0) for r in ended]
        if added >= 0 and sum(passes) > 0:
            each = added / sum(passes)
            self._drafting.update((_key(r), each * p) for r, p in zip(ended, passes, strict=True))


class Gained:
    """Tokens that drafts have saved one process, summed up from its log."""

    def __init__(self) -> None:
        self._pid: int | None = None
        self._tokens: int | None = 0  # None: not all of them could be counted

    def count(self, ended: Iterable[Request], process: ServerProcess | None) -> None:
        if process is None or process.started_time is None:
            return
        if process.pid != self._pid:
            self._pid, self._tokens = process.pid, 0
        for request in ended:
            accepted, at = request.draft_accepted_tokens, request.ended_time
            if request.source != "log" or accepted is None:
                continue
            if at is None or self._tokens is None:  # it may be of a process that wrote here before
                self._tokens = None
            elif at >= process.started_time:
                self._tokens += accepted

    def tokens(self, process: ServerProcess | None, log: LogFacts | None) -> int | None:
        """None unless the log goes back to the start of this process."""
        if process is None or process.pid != self._pid or log is None or log.model_loaded is None:
            return None
        return self._tokens


def draft_ratios(requests: Iterable[Request]) -> tuple[float | None, float | None]:
    """Acceptance (accepted ÷ drafted) and coverage (drafted ÷ generated) over requests; None: unknown.

    Nothing drafted while speculation is on is coverage 0, and no acceptance at all.
    """
    known = [r for r in requests if r.draft_tokens is not None and r.generation_tokens]
    drafted = sum(r.draft_tokens or 0 for r in known)
    generated = sum(r.generation_tokens or 0 for r in known)
    accepted = sum(r.draft_accepted_tokens or 0 for r in known)
    return (accepted / drafted if drafted else None, drafted / generated if generated else None)


def mean_length(requests: Iterable[Request]) -> float | None:
    """Tokens that a pass gave: generated ÷ (generated - accepted)."""
    known = [r for r in requests if r.draft_accepted_tokens is not None and r.generation_tokens]
    generated = sum(r.generation_tokens or 0 for r in known)
    passes = generated - sum(r.draft_accepted_tokens or 0 for r in known)
    return generated / passes if passes > 0 else None


def net_gain(answers: Sequence[Timed]) -> tuple[float, float] | None:
    """Decode speed ÷ that without speculation over the last answers, and ±.

    Without speculation each token would take a pass without a draft, ``a`` seconds, so the gain is
    ``a × tokens ÷ seconds``. Where drafts cost nothing (n-grams) and answers drafted differently much, ``a``
    is fitted to them: see ``pass_seconds``. Else it lies in a range, whose middle is told: see ``bounds``.
    None when that range is too wide to say anything, unless all of it is a loss.
    """
    known = [answer for answer in answers if answer.drafting is not None]
    recent = known[-RECENT:]
    if len(known) < LEAST or not any(answer.drafted for answer in known):
        return None
    least, most = bounds(known)
    single, error, noise = (least + most) / 2, (most - least) / 2, _noise(known)
    fit = pass_seconds(known) if not any(answer.drafting for answer in known) else None
    if fit is not None:
        single, error, noise = min(max(fit[0], least), most), 2 * fit[1], fit[2]
    share = sum(answer.tokens for answer in recent) / sum(answer.seconds for answer in recent)
    gain = single * share
    off = gain * sqrt((error / single) ** 2 + 4 * noise**2 / len(recent))
    return (gain, off) if off <= TOLERANCE * gain or gain + off < 1 else None


def bounds(answers: Sequence[Timed]) -> tuple[float, float]:
    """Seconds of a pass without a draft: at least, at most.

    A pass that checks ``k`` drafted tokens takes no less than one without, and no more than ``1 + k`` of
    them. In newer builds the draft model also reads along what the model does, and their ``dur`` leaves
    that out: no more than a drafted token's time for each of those tokens.
    """
    passes, drafted = (sum(column) for column in zip(*((a.passes, a.drafted) for a in answers), strict=True))
    drafting = sum(answer.drafting or 0.0 for answer in answers)
    checking = sum(map(_checking, answers))
    least = checking / (passes + drafted) - (drafting / drafted if drafted else 0.0)
    return max(0.0, least), checking / passes


def pass_seconds(answers: Sequence[Timed]) -> tuple[float, float, float] | None:
    """Seconds of one pass without a draft, their standard error, and by what share the time of an answer
    scatters. None where answers drafted too much alike.

    ``seconds = a × passes + b × drafted``, by least squares of the relative error; outliers are weighed
    down (Huber). ``b`` is what it costs to check a drafted token.
    """
    if len(answers) < LEAST:
        return None
    ratios = [answer.drafted / answer.passes for answer in answers]
    if not max(ratios) or min(ratios) > (1 - SPREAD) * max(ratios):
        return None
    rows = [(answer.passes / answer.seconds, answer.drafted / answer.seconds) for answer in answers]
    weights = [1.0] * len(rows)
    for _ in range(ROUNDS):
        solved = _solve(rows, weights)
        if solved is None:
            return None
        a, b, spread = solved
        misses = [abs(1 - a * u - b * v) for u, v in rows]
        usual = 1.4826 * median(misses)
        if not usual:
            break
        weights = [min(1.0, 1.345 * usual / miss) if miss else 1.0 for miss in misses]
    free = sum(weights) - 2
    if a <= 0 or free <= 0:
        return None
    squares = sum(w * miss * miss for w, miss in zip(weights, misses, strict=True))
    return a, sqrt(squares / free * spread), sqrt(squares / free)


def _noise(answers: Sequence[Timed]) -> float:
    """By what share of it the time of a pass scatters from answer to answer, robustly."""
    each = [_checking(answer) / (answer.passes + answer.drafted) for answer in answers]
    middle = median(each)
    return 1.4826 * median(abs(value - middle) for value in each) / middle


def _solve(
    rows: Sequence[tuple[float, float]], weights: Sequence[float]
) -> tuple[float, float, float] | None:
    """a, b and the variance of a over that of an error. A draft never saves time by itself: b ≥ 0."""
    uu = sum(w * u * u for w, (u, _) in zip(weights, rows, strict=True))
    uv = sum(w * u * v for w, (u, v) in zip(weights, rows, strict=True))
    vv = sum(w * v * v for w, (_, v) in zip(weights, rows, strict=True))
    su = sum(w * u for w, (u, _) in zip(weights, rows, strict=True))
    sv = sum(w * v for w, (_, v) in zip(weights, rows, strict=True))
    size = uu * vv - uv * uv
    if uu <= 0:
        return None
    if size <= 1e-9 * uu * vv or sv * uu <= su * uv:
        return su / uu, 0.0, 1 / uu
    return (su * vv - sv * uv) / size, (sv * uu - su * uv) / size, vv / size


def _checking(answer: Timed) -> float:
    """Seconds in the model itself, which checks the drafts."""
    return max(1e-9, answer.seconds - (answer.drafting or 0.0))


def _key(request: Request) -> Key:
    return request.slot, request.task


def _timed(request: Request, drafting: float | None) -> Timed | None:
    generated, seconds = request.generation_tokens, request.generation_seconds
    drafted, accepted = request.draft_tokens, request.draft_accepted_tokens
    if generated is None or generated < SHORT or not seconds or drafted is None or accepted is None:
        return None
    tokens = generated - 1
    return Timed(tokens - accepted, drafted, tokens, seconds, drafting) if tokens > accepted else None


def _crowded(request: Request, began: Sequence[tuple[int, float]], slots: int | None) -> bool:
    """Another slot was at work before this one ended, and still is; or nothing tells."""
    if slots == 1:
        return False
    ended = request.ended_time
    if ended is None or request.started_time is None:
        return True
    return any(slot != request.slot and start < ended for slot, start in began)


def _overlap(one: Request, other: Request) -> bool:
    if one is other or one.started_time is None or one.ended_time is None:
        return False
    if other.started_time is None or other.ended_time is None:
        return False
    return one.started_time < other.ended_time and other.started_time < one.ended_time
