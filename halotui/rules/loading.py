"""Loading: how long it takes, whether the draft model fits, and which library computes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from halotui.format import count, duration, size
from halotui.history import Noted
from halotui.model import Patch, Server, ServerFacts, ServerState, Severity
from halotui.rules import Level, Proof, Rule, Symptom, Undefined, View
from halotui.rules.launch import LARGE, PAIRS, judged
from halotui.rules.pairs import FAST, deal_of, known, load_speed, on_this_chip, without_drafts

SMALL = 8 << 30  # bytes of weights: no way to load them takes long
SAME = 2.0  # seconds by which two reckonings of one start may differ
_MAPPED = next(pair for pair in PAIRS if pair.id == "slow-load")


# --- how long it takes


def _slow_load(view: View) -> Iterator[Symptom | Undefined]:
    for server, facts in known(view):
        if server.state is ServerState.LOADING:
            symptom = _loads_slowly(view, server, facts)
        elif (speed := load_speed(server)) is not None:
            symptom = _loaded_slowly(view, facts, speed)
            if symptom is None and speed >= FAST:
                continue  # whatever its flags
        else:
            symptom = None
        if symptom is not None:
            title, evidence, severity = symptom
            yield Symptom(
                subject=server.url,
                title=title,
                evidence=evidence,
                severity=severity,
                why=_WHY_ROCM if server.backend == "rocm" else None,
                fix=_FIX_ROCM if server.backend == "rocm" else None,
                patch=_unmapped(server),
            )
        else:
            yield from _may_load_slowly(view, server, facts)


_Said = tuple[str, str, Severity | None]  # title, evidence, severity


def _loads_slowly(view: View, server: Server, facts: ServerFacts) -> _Said | None:
    """Even if it were ready now. A server that served before wakes: since when is not known."""
    up, weights = server.uptime_seconds, facts.model_bytes
    served = view.history.started(server.url)
    if up is None or not weights or (served is not None and abs(view.frame.time - up - served) < SAME):
        return None
    if up < view.levels["least_seconds"] or weights / up >= view.levels["bytes_per_second"]:
        return None
    now = server.load_bytes_per_second
    reads = f", {size(now)}/s read now" if now is not None else ""
    hangs = up >= view.levels["hangs_seconds"]
    return (
        "The model does not get loaded" if hangs else "The model loads slowly",
        f"{size(weights)} in {duration(up)}, and not done: at most {size(weights / up)}/s{reads}",
        Severity.CRITICAL if hangs else None,
    )


def _loaded_slowly(view: View, facts: ServerFacts, speed: float) -> _Said | None:
    took, weights = facts.load_seconds or 0.0, facts.model_bytes or 0
    if took < view.levels["least_seconds"] or speed >= view.levels["bytes_per_second"]:
        return None
    return "The model loaded slowly", f"{size(weights)} in {duration(took)}: {size(speed)}/s", None


def _may_load_slowly(view: View, server: Server, facts: ServerFacts) -> Iterator[Symptom | Undefined]:
    pair = _MAPPED
    if server.backend != pair.backend or facts.mmap is False or on_this_chip(view, server) is not True:
        return
    weights, unsaid = facts.model_bytes, facts.mmap is None and facts.cache_type_k is None
    if weights is None or unsaid:  # all builds map, unless they are told otherwise: what they were told
        yield Undefined(server.url)
    elif weights >= SMALL and (evidence := judged(pair, deal_of(server, None))):
        yield Symptom(
            subject=server.url,
            title=pair.title,
            evidence=evidence,
            severity=None if weights > LARGE else Severity.INFO,
            why=pair.why,
            fix=pair.fix,
            patch={"mmap": False},
        )


def _unmapped(server: Server) -> Patch | None:
    rocm = server.backend == "rocm" and server.facts is not None and server.facts.mmap is not False
    return {"mmap": False} if rocm else None


_WHY_ROCM = (
    "HIP loads slowly past 64 GB (#15018), and by mmap, where pages come in one by one. So does a slow disk."
)
_FIX_ROCM = "Relaunch with --no-mmap (-lm none), and see whether the disk is the limit."


# --- what its libraries said

_HIPBLASLT = "hipblaslt-fallback"


def _hipblaslt(view: View) -> Iterator[Symptom | Undefined]:
    for server, _ in known(view):
        noted: Sequence[Noted] = view.history.events(server.url).get(_HIPBLASLT, ())
        if not noted:
            continue
        up = server.uptime_seconds
        since = view.frame.time - up - SAME if up is not None else float("-inf")
        told = [one for one in noted if one.time >= since]
        if told:
            often = f", {count(len(told))} times" if len(told) > 1 else ""
            ago = duration(max(0.0, view.frame.time - told[-1].time))
            yield Symptom(
                subject=server.url,
                title="hipBLASLt does not compute: prefill is slow",
                evidence=f"{_FOLDED.sub('', told[-1].event.text)}{often}, last {ago} ago",
            )


_FOLDED = re.compile(r" \(\d{1,12} times\)\Z")

# --- its draft model


def _draft_vocab(view: View) -> Iterator[Symptom | Undefined]:
    for server, facts in known(view):
        on = server.speculative
        if facts.draft_mismatch:
            does = "" if on is None else "; it drafts all the same" if on else "; it does not draft"
            yield Symptom(
                subject=server.url,
                title="The draft model has another vocabulary",
                evidence=facts.draft_mismatch + does,
                patch=without_drafts(server),
                why=_WHY_TRANSLATED if on else None,
            )
        elif server.draft_model is not None and not on:
            yield Undefined(server.url)


_WHY_TRANSLATED = (
    "This build translates each draft by its text into the tokens of the target: that takes time, and few "
    "of them hit."
)

# --- patches on patches

_MMQ = re.compile(r"(?<![a-z])mmq(?![a-z])", re.IGNORECASE)
_FAST_MATH = re.compile(r"f?fast[-_]?math", re.IGNORECASE)


def _stacked(view: View) -> Iterator[Symptom | Undefined]:
    """A build's flags are told by no endpoint: only a name that says so shows them."""
    for server, facts in known(view):
        if server.backend != "rocm":
            continue
        if facts.environment is None:
            yield Undefined(server.url)
            continue
        if "ROCBLAS_USE_HIPBLASLT=1" not in facts.environment:
            continue
        name = " ".join(filter(None, (server.container, server.unit, server.build)))
        mmq = _MMQ.search(name) or "GGML_CUDA_FORCE_MMQ=1" in facts.environment
        if mmq and _FAST_MATH.search(name):
            yield Symptom(
                subject=server.url,
                title="Fast-math, hipBLASLt and MMQ together",
                evidence=f"{name}, ROCBLAS_USE_HIPBLASLT=1",
            )
        else:
            yield Undefined(server.url)


_ISSUES = "https://github.com/ggml-org/llama.cpp/issues/"
_AT_START = "the server is started again without it"

RULES = (
    Rule(
        id="slow-load",
        check=_slow_load,
        title="The model loads slowly",
        hold_seconds=3,
        window="since the load began",
        clears="the load is over and was fast enough, or the server is started again",
        levels=(
            Level(name="bytes_per_second", value=150e6, help="below it a load is slow", least=1.0),
            Level(name="least_seconds", value=60.0, help="a load that is shorter is not judged"),
            Level(
                name="hangs_seconds",
                value=1200.0,
                help="a slow load that is not done by then hangs",
                above="least_seconds",
            ),
        ),
        evidence="[{size} in {time}[, and not done]: [at most ]{rate}[, {rate} read now]]"
        "[{size} of weights by mmap on ROCm]",
        freezes=True,
        needs=(
            "server.state",
            "server.facts",
            "server.backend",
            "server.uptime_seconds",
            "server.load_bytes_per_second",
        ),
        marks=("server.load_bytes_per_second", "facts.load_seconds"),
        proof=Proof.REAL,
        may_patch=True,
        why="More than 64 GB on Vulkan hang for over 20 minutes without amd_iommu=off (#14854). A slow disk "
        "or network share does it, too.",
        fix="On a 128 GB box boot with amd_iommu=off; take --no-mmap; see whether the disk is the limit.",
        reference=_ISSUES + "14854",
    ),
    Rule(
        id=_HIPBLASLT,
        check=_hipblaslt,
        title="hipBLASLt does not compute",
        window="since the server started",
        clears="the server is started again",
        evidence="{what}[, {number} times], last {time} ago",
        needs=("server.events", "server.uptime_seconds"),
        why="Prompts are computed by a slower library: 344 t/s where hipBLASLt gave 986.",
        fix="Install a ROCm whose hipBLASLt has kernels for gfx1151 (7.x), of the version the build links.",
        proof=Proof.RECORDED,
    ),
    Rule(
        id="draft-vocab",
        check=_draft_vocab,
        title="The draft model has another vocabulary",
        hold_seconds=2,
        window="since the server started",
        clears="the server is started again with another draft model",
        evidence="{why}[; {what it does}]",
        needs=("server.draft_model", "server.speculative", "server.facts"),
        marks=("facts.draft_mismatch", "server.draft_model"),
        why="What one model drafts means nothing to the other: the server refuses to speculate, and holds "
        "the draft model's memory for nothing.",
        fix="Pair the model with a draft model of its own family, or relaunch without one.",
        proof=Proof.REAL,
        may_patch=True,
    ),
    Rule(
        id="stacked-patches",
        check=_stacked,
        title="Fast-math, hipBLASLt and MMQ together",
        hold_seconds=3,
        window="since the server started",
        clears="the server is started again with another build, or without hipBLASLt",
        evidence="{build}, ROCBLAS_USE_HIPBLASLT=1",
        needs=("server.backend", "server.facts", "server.container", "server.unit", "server.build"),
        why="Each is faster alone; together they fell from 354 to 230 t/s of prefill.",
        fix="Go back to one of them, and measure one change at a time.",
    ),
)
