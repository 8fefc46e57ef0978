"""Speculation: the server drafts when asked to, and goes on drafting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import length_hint
from statistics import median

from msgspec import Struct

from halotui.format import count, percent, rate
from halotui.model import Request, Server, ServerState
from halotui.rules import Level, Proof, Rule, Symptom, Undefined, View

_DECAY = "spec-decay"

COVERAGE_FALLEN, ACCEPTANCE_FALLEN = 0.35, 0.5  # shares of what they were at first: no text's doing
WINDOW = 200  # newest requests looked at
GLANCE = 16  # of them, while none ends
SHORT = 16  # tokens: a request or a draft below it says too little
BASELINE = 4  # requests at most
RECENT = 3  # requests at most
UNDRAFTED = 2  # requests without a draft, at least, where only the log speaks
NGRAM_RECENT = 3  # at least: n-gram types draft nothing where a text does not repeat


def _coverage(request: Request) -> float | None:
    drafted, generated = request.draft_tokens, request.generation_tokens
    return drafted / generated if drafted is not None and generated else None


def _acceptance(request: Request) -> float | None:
    drafted, accepted = request.draft_tokens, request.draft_accepted_tokens
    return accepted / drafted if accepted is not None and drafted and drafted >= SHORT else None


class _Signal(Struct, frozen=True, kw_only=True):
    """A ratio that a healthy slot keeps, and by how much it may fall."""

    name: str
    of: Callable[[Request], float | None]
    counts: float  # a request below it is no example of a healthy one
    floor: float  # a baseline below it has nothing to lose
    baseline: int  # requests at least
    recent: int  # requests at least
    title: str
    why: str


# The fault shows from the second request on, and leaves the acceptance at 100 %: so coverage comes first,
# and one good request is a baseline. Acceptance depends on the prompt: it takes three.
_COVERAGE = _Signal(
    name="coverage",
    of=_coverage,
    counts=0.1,
    floor=0.1,
    baseline=1,
    recent=2,
    title="Speculation drafts far less than at first",
    why="Known as llama.cpp #19231: a slot drafts in its first request, then hardly at all, while the "
    "acceptance ratio stays high.",
)
_ACCEPTANCE = _Signal(
    name="acceptance",
    of=_acceptance,
    counts=0.0,
    floor=0.2,
    baseline=3,
    recent=3,
    title="Drafts are accepted far less than at first",
    why="The drafts no longer fit: state carried over from one request to the next, or prompts of another "
    "kind. Rejected drafts cost time.",
)
_NGRAM = " N-gram types also draft less when the text stops repeating itself."


class _Fall(Struct, frozen=True, kw_only=True):
    """How one slot's signal fell, with the requests on both sides; ``before`` may be forgotten."""

    signal: _Signal
    slot: int | None
    before: tuple[Request, ...]
    after: tuple[Request, ...]
    was: float
    now: float

    def evidence(self) -> Iterator[str]:
        """The effect first: it is what a narrow screen still shows."""
        speeds = [
            [request.generation_tokens_per_second for request in side] for side in (self.before, self.after)
        ]
        known = [[speed for speed in side if speed is not None] for side in speeds]
        if all(known):
            yield f"decode {rate(median(known[0]))} → {rate(median(known[1]))} t/s"
        slot = "all slots" if self.slot is None else f"slot {self.slot}"
        was = f"{percent(self.was)} over {len(self.before)} earlier" if self.before else "higher once"
        now = f"{percent(self.now)} over the last {len(self.after)} requests"
        yield f"{slot}: {self.signal.name} {was}, {now}"


def _spec_decay(view: View) -> Iterator[Symptom | Undefined]:
    for server in view.running:
        if server.speculative is False:
            continue
        # Requests that end are the only news: between two of them all is as it was.
        own = _requests(view, server, WINDOW if server.requests else GLANCE)
        requests = [request for request in own if (request.generation_tokens or 0) >= SHORT]
        if requests and all(request.draft_tokens is None for request in requests[-RECENT:]):
            yield Undefined(server.url)
            continue
        if not server.requests:
            last = view.last.get((_DECAY, server.url)) if own else None  # gone with its process
            yield from () if last is None else (last,)
            continue
        falls = list(_falls(view, server, requests))
        if falls:
            worst = min(falls, key=lambda fall: (fall.now / fall.was, -len(fall.before)))
            slots = len({fall.slot for fall in falls})
            affected = f"; {count(slots)} slots affected" if slots > 1 else ""
            yield Symptom(
                subject=server.url,
                title=worst.signal.title,
                evidence="; ".join(worst.evidence()) + affected,
                why=worst.signal.why + (_NGRAM if _is_ngram(server) else ""),
            )


def _requests(view: View, server: Server, newest: int = WINDOW) -> list[Request]:
    """Those of this process that know of drafts: one that was relaunched starts with a clean slate."""
    up = server.uptime_seconds
    start = view.frame.time - up if up is not None else float("-inf")
    told = view.history.requests(server.url)
    samples = islice(told, max(0, length_hint(told) - newest), None)
    return [s.request for s in samples if s.time >= start and s.request.source != "slots"]


def _falls(view: View, server: Server, requests: list[Request]) -> Iterator[_Fall]:
    firing = view.firing(_DECAY, server.url)
    # A history that is full may have forgotten how it was before the alarm.
    forgotten = firing and length_hint(view.history.requests(server.url)) >= WINDOW
    slots: dict[int | None, list[Request]] = defaultdict(list)
    for request in requests:
        slots[request.slot].append(request)
    for slot, own in slots.items():
        for signal in (_COVERAGE, _ACCEPTANCE):
            least = max(signal.recent, NGRAM_RECENT if _is_ngram(server) else 0)
            fall = _fall(signal, slot, own, least, forgotten)
            share = view.levels[f"{signal.name}_clears" if firing else f"{signal.name}_fires"]
            if fall is not None and fall.now < fall.was * share:
                yield fall


def _fall(
    signal: _Signal, slot: int | None, requests: Sequence[Request], least: int, forgotten: bool
) -> _Fall | None:
    """The slot's earliest healthy requests against its last ones, of which there are ``least``."""
    known = [(request, value) for request in requests if (value := signal.of(request)) is not None]
    if len(known) < least:
        return None
    healthy = [i for i, (_, value) in enumerate(known[:-least]) if value >= signal.counts][:BASELINE]
    after = known[healthy[-1] + 1 if healthy else 0 :][-RECENT:]
    if len(healthy) >= signal.baseline:
        was = median(known[i][1] for i in healthy)
    elif forgotten and not healthy:
        was = signal.floor
    else:
        return None
    if was < signal.floor:
        return None
    return _Fall(
        signal=signal,
        slot=slot,
        before=tuple(known[i][0] for i in healthy),
        after=tuple(request for request, _ in after),
        was=was,
        now=median(value for _, value in after),
    )


def _is_ngram(server: Server) -> bool:
    return "ngram" in (server.spec_type or "")


def _is_told(request: Request) -> bool:
    """Whether the log would have told of its drafts."""
    return request.source == "log" and (request.generation_tokens or 0) >= SHORT


def _spec_unused(view: View) -> Iterator[Symptom | Undefined]:
    for server in view.running:
        types = [kind for kind in (server.spec_type or "").split(",") if kind.strip() not in ("", "none")]
        if not types and server.draft_model is None:
            continue
        requests = _requests(view, server)
        silent = server.speculative is None  # no /slots: a draft model that is used drafts each time
        if silent and (types or sum(_is_told(request) for request in requests) < UNDRAFTED):
            yield Undefined(server.url)
            continue
        if server.speculative or server.state not in (ServerState.IDLE, ServerState.BUSY):
            continue
        if any(request.draft_tokens for request in requests):  # tokens outweigh a flag
            continue
        if server.facts is not None and server.facts.draft_mismatch:
            continue  # draft-vocab says why
        asked = f"--spec-type {server.spec_type}" if types else f"draft model {server.draft_model}"
        yield Symptom(
            subject=server.url,
            title="Speculation asked for, and not used",
            evidence=f"{asked}{'' if silent else ', yet /slots says speculative: false'}; "
            f"0 tokens drafted in {count(len(requests))} finished requests",
            why=_WHY_REFUSED if types else None,
            fix=_FIX_REFUSED if types else None,
            patch=None if types else {"spec": "draft-simple"},
        )


_WHY_REFUSED = "The server turned it off when it loaded: most often the two vocabularies differ."
_FIX_REFUSED = "Look for the error in its log; pair the model with a draft model of its own family."

_LEVELS = (
    Level(
        name="coverage_fires", value=COVERAGE_FALLEN, help="share of the slot's earlier coverage", most=1.0
    ),
    Level(
        name="coverage_clears",
        value=0.6,
        help="share from which it is over",
        most=1.0,
        above="coverage_fires",
    ),
    Level(
        name="acceptance_fires",
        value=ACCEPTANCE_FALLEN,
        help="share of the slot's earlier acceptance",
        most=1.0,
    ),
    Level(
        name="acceptance_clears",
        value=0.7,
        help="share from which it is over",
        most=1.0,
        above="acceptance_fires",
    ),
)

RULES = (
    Rule(
        id=_DECAY,
        check=_spec_decay,
        title="Speculation drafts far less than at first",
        window="the first 4 and the last 3 requests of a slot, of 200",
        clears="coverage is at 60 % of what it was, acceptance at 70 %; or the server restarts",
        levels=_LEVELS,
        evidence="[decode {before} → {after} t/s; ]{slot}: {signal} {was}[ over {number} earlier], "
        "{now} over the last {number} requests[; {number} slots affected]",
        freezes=True,
        proof=Proof.REAL,
        marks=("server.draft_coverage_ratio", "server.draft_acceptance_ratio"),
        needs=(
            "server.speculative",
            "server.spec_type",
            "server.uptime_seconds",
            "request.slot",
            "request.generation_tokens",
            "request.draft_tokens",
            "request.draft_accepted_tokens",
        ),
        why=_COVERAGE.why,
        fix="Relaunch without speculation, or with another build (PR #19261 cures ngram-simple); or use "
        "/v1/completions.",
        reference="https://github.com/ggml-org/llama.cpp/issues/19231",
        patch={"draft": None, "spec": None},
    ),
    Rule(
        id="spec-unused",
        check=_spec_unused,
        may_patch=True,
        title="Speculation asked for, and not used",
        hold_seconds=3,
        window="all requests since it started",
        clears="it speculates, or drafts",
        evidence="{asked}[, yet /slots says speculative: false]; "
        "0 tokens drafted in {number} finished requests",
        proof=Proof.REAL,
        needs=(
            "server.draft_model",
            "server.spec_type",
            "server.speculative",
            "server.state",
            "request.draft_tokens",
        ),
        why="Newer builds load a draft model given with -md alone, hold its memory, and do not use it, "
        "without a warning.",
        fix="Relaunch with --spec-type draft-simple beside -md.",
        reference="https://github.com/ggml-org/llama.cpp/issues/25345",
    ),
)
