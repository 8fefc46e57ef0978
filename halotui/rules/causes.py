"""Why a speed fell: what has changed since it was usual, ranked by how much of the fall that explains.

No family of rules, but what they say with a fall. Each candidate is a row of ``_CANDIDATES``; one whose
condition is as it was says nothing. A share is told only where it can be reckoned; else ``weight`` says how
much a change of that kind uses to matter.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from halotui.baselines.observing import gpu_of
from halotui.baselines.setups import elsewhere
from halotui.format import count, percent, rate
from halotui.ledger import Metric
from halotui.model import Cause, Frame, Server
from halotui.rules import View, surroundings
from halotui.rules.curves import DEPTH, PROMPT, STREAMS, Line, Mover, expected, own_line
from halotui.rules.falls import (
    ENOUGH,
    Case,
    Fall,
    Found,
    Weighed,
    before,
    fall_of,
    shared,
    usual_for,
)
from halotui.rules.recent import Group, keyed, samples_of

MOST = 5  # causes told
SLOWER = 0.97  # of what is usual: above it nothing fell

UNKNOWN = Cause(
    id="unknown",
    text="Nothing that halotui sees has changed since it was usual.",
    proof="halotui probe speed: the same prompts each time, so prompts are ruled out.",
)
_PROBE = "halotui probe speed --depths 0"
_FIX = {
    "deeper-context": "Begin a new chat, or let the client trim its history.",
    "more-streams": "Send fewer requests at once; what all of them get together may well be more.",
    "shorter-prompts": "Nothing is wrong: a short prompt cannot fill the GPU.",
    "acceptance": "See whether another draft model, or none, is faster for such prompts.",
    "coverage": "See the rule spec-decay; a relaunch makes it draft again if that is it.",
    "power-limited": "Raise the power mode, or accept it: the package has no more watts.",
    "power-mode": "Set the power mode back: powerprofilesctl list shows them.",
    "heat": "Clean and free its vents, or raise the fan curve.",
    "prochot": "See the power supply and the board's temperature: PROCHOT stops everything.",
    "cpu-power": "Not a fault: CPU and GPU share the package's watts. Stop what keeps the CPU busy.",
    "cpu-busy": "Stop what keeps the CPU busy.",
    "memory": "Free memory: a smaller context or fewer slots, or stop what takes it.",
    "swap": "Free memory: a smaller context or fewer slots, or stop what takes it.",
    "other-process": "Stop it, or let it work at another time.",
    "other-build": "Relaunch with the build that was faster, and report the difference to llama.cpp.",
    "other-flags": "Relaunch with the flags that were faster.",
    "kernel-changed": "Boot the kernel that was faster, and measure again.",
    "firmware-changed": "Go back to the linux-firmware that was faster, and measure again.",
    "mesa-changed": "Go back to the Mesa that was faster, and measure again.",
    "rocm-changed": "Go back to the ROCm that was faster, and measure again.",
}


def rank(view: View, server: Server, fall: Fall) -> tuple[Cause, ...]:
    """The likeliest first; one that is unknown when nothing has changed."""
    view = replace(view, frame=_of_its_box(view.frame, server))
    case = Case(view, server, fall, gpu_of(view.frame))
    found = sorted((one for of in _CANDIDATES for one in of(case)), key=lambda one: -one.weight)
    return tuple(one.cause for one in found[:MOST]) or (UNKNOWN,)


def _of_its_box(frame: Frame, server: Server) -> Frame:
    """What it tells of the box that a server runs on: of another one, that server's like alone."""
    host = elsewhere(server)
    if not host:
        return frame
    beside = tuple(one for one in frame.servers if elsewhere(one) == host)
    return replace(frame, gpus=(), holders=(), memory=None, platform=None, system=None, servers=beside)


def explain_fall(view: View, server: Server, metric: Metric) -> tuple[Cause, ...]:
    """Of the newest requests of one kind against what is usual, alarm or not; empty when nothing fell, or
    nothing is known. Takes some milliseconds: for a key press, not for each frame."""
    found = list(keyed(view, server, metric, samples_of(view, server)))
    if not found:
        return ()
    key = found[0][0]
    group = Group(key, tuple(one for of, one in found if of == key)[:ENOUGH])
    kin = view.baselines.alike(key.setup.model, metric)
    usual = before(usual_for(key, kin), group.since)
    if usual is None:
        return ()
    fall = fall_of(view, server, group, usual, kin)
    return rank(view, server, fall) if fall.ratio < SLOWER else ()


def fix_of(cause: Cause) -> str | None:
    """What to do if that is it."""
    return _FIX.get(cause.id)


# --- what the work itself changes


def _deeper(case: Case) -> Found:
    if both := case.fall.both("depth_tokens"):
        line, by = own_line(DEPTH, case.fall.usual.key, case.fall.kin), "this model's own numbers"
        if line is None and case.fall.key.metric is Metric.DECODE:
            line, by = _by_bytes(case.server), "the bytes of KV cache a token reads"
        text = f"The context is deeper: {count(both[0])} tokens, usually {count(both[1])}"
        yield from _moved(case, DEPTH, line, by, "deeper-context", text, _PROBE)


def _by_bytes(server: Server) -> Line | None:
    """What a token reads: weights, and KV cache with each token before it."""
    weights = server.facts.token_bytes if server.facts is not None else None
    return (float(weights), server.kv_token_bytes) if weights and server.kv_token_bytes else None


def _more_streams(case: Case) -> Found:
    if both := case.fall.both("streams"):
        line = own_line(STREAMS, case.fall.usual.key, case.fall.kin)
        text = f"More requests at once: {both[0]:.1f}, usually {both[1]:.1f}"
        proof = "Send one request alone and look again."
        yield from _moved(case, STREAMS, line, "this model's own numbers", "more-streams", text, proof)


def _shorter_prompts(case: Case) -> Found:
    both = case.fall.both("prompt_tokens")
    if both and case.fall.key.metric is Metric.PREFILL:
        line = own_line(PROMPT, case.fall.usual.key, case.fall.kin)
        text = f"Prompts are shorter: {count(both[0])} tokens to compute, usually {count(both[1])}"
        yield from _moved(case, PROMPT, line, "this model's own numbers", "shorter-prompts", text, _PROBE)


def _moved(case: Case, mover: Mover, line: Line | None, by: str, id_: str, text: str, proof: str) -> Found:
    """Something that slows by nature: by how much, where there is a curve for it."""
    both = case.fall.both(mover.condition)
    if both is None or mover.grows(both[0]) <= 1.1 * mover.grows(both[1]):
        return
    if line is None:
        yield Weighed(0.3, Cause(id=id_, text=f"{text}.", proof=proof))
        return
    left = expected(mover, line, *both)
    share = case.fall.share(left)
    usual = case.fall.usual.median
    told = f"{text}; by {by} that alone makes {rate(left * usual)} of {rate(usual)} t/s."
    yield from shared(share, Cause(id=id_, text=told, proof=proof, share=share))


def _fewer_drafts(case: Case) -> Found:
    """Each accepted token saves a pass: at most that is lost. Acceptance first, coverage on top of it."""
    acceptance, coverage = case.fall.both("draft_acceptance_ratio"), case.fall.both("draft_coverage_ratio")
    if case.fall.key.metric is not Metric.DECODE:
        return
    proof = "halotui probe spec: ten chats alike, with acceptance and coverage of each."
    drafted = coverage or (None, None)
    rows = (
        ("acceptance", acceptance, drafted[1], "Fewer drafts are accepted: {}, usually {}."),
        (
            "coverage",
            coverage,
            acceptance[0] if acceptance else None,
            "Less is drafted: {} of the tokens, usually {}.",
        ),
    )
    for id_, both, other, text in rows:
        if both is None or both[0] >= 0.9 * both[1]:
            continue
        cause = Cause(id=id_, text=text.format(*map(percent, both)), proof=proof)
        if other is None:
            yield Weighed(0.4, cause)
            continue
        was, now = (max(0.02, 1 - part * other) for part in (both[1], both[0]))
        share = case.fall.share(was / now)
        yield from shared(share, replace(cause, share=share))


# --- what is launched, and what it runs on


def _setup(case: Case) -> Found:
    now, then = case.fall.key.setup, case.fall.usual.key.setup
    if now == then:
        return
    back = "Relaunch it as it was, and let it answer the same prompts: halotui probe speed."
    rows = (
        ("other-build", 0.6, "build", now.build, then.build),
        ("other-backend", 0.7, "backend", now.backend, then.backend),
        ("other-quant", 0.7, "quantisation", now.quant, then.quant),
        ("other-speculation", 0.55, "speculation", now.speculation or "none", then.speculation or "none"),
    )
    for id_, weight, name, is_, was in rows:
        if is_ != was:
            text = f"Another {name}: {is_ or 'unknown'}; it was {was or 'unknown'} when that speed was usual."
            yield Weighed(weight, Cause(id=id_, text=text, proof=back))
    if changed := differences(now.flags, then.flags):
        yield Weighed(0.55, Cause(id="other-flags", text=f"Other flags: {changed}.", proof=back))


def differences(now: str, then: str) -> str:
    """Of flags as ``Setup`` writes them: ``ub 512 → 256, fa on → (none)``."""
    is_, was = (dict(word.partition("=")[::2] for word in flags.split()) for flags in (now, then))
    return ", ".join(
        f"{name} {was.get(name, '(none)')} → {is_.get(name, '(none)')}"
        for name in sorted(is_.keys() | was.keys())
        if is_.get(name) != was.get(name)
    )


def _software(case: Case) -> Found:
    then, now = case.fall.usual.software, case.view.frame.platform
    if now is None:
        return
    rows = (
        ("kernel-changed", 0.35, "kernel", now.kernel, then.kernel),
        ("firmware-changed", 0.35, "linux-firmware", now.firmware, then.firmware),
        ("mesa-changed", 0.35, "Mesa", now.mesa, then.mesa),
        ("rocm-changed", 0.35, "ROCm", now.rocm, then.rocm),
        ("power-mode", 0.6, "power mode", now.power_mode, then.power_mode),
    )
    for id_, weight, name, is_, was in rows:
        if is_ and was and is_ != was and not _idle_part(name, case.server.backend):
            text = f"The {name} is {is_}; it was {was} when that speed was usual."
            yield Weighed(weight, Cause(id=id_, text=text, proof=f"Go back to {name} {was} and look again."))


def _idle_part(name: str, backend: str | None) -> bool:
    """Whether a server on that backend does not use it."""
    user = {"Mesa": "vulkan", "ROCm": "rocm"}.get(name)
    return user is not None and backend is not None and backend != user


_CANDIDATES: tuple[Callable[[Case], Found], ...] = (
    *(_deeper, _more_streams, _shorter_prompts, _fewer_drafts),
    *surroundings.LOOKS,
    *(_setup, _software),
)
