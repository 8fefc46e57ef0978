"""How the live rules stand, from one-shot frames: nothing is held back."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from halotui.history import History
from halotui.model import Finding, Frame
from halotui.rules import ALL
from halotui.rules.engine import Engine, State
from halotui.rules.tuning import AS_SHIPPED, Tuning


class Standing(Struct, frozen=True):
    """How the rules stand: what fires, and of what they could not judge."""

    findings: tuple[Finding, ...] = ()
    undefined: frozenset[tuple[str, str]] = frozenset()  # rule id, subject


def standing(frames: Sequence[Frame], history: History, tuning: Tuning = AS_SHIPPED) -> Standing:
    """At once, without holding anything back; silenced rules count, since an audit was asked for."""
    engine = Engine(hold=False, tuning=replace(tuning, silent=frozenset()))
    frame = None
    for frame in frames:
        frame = engine.evaluate(frame, history)
    if frame is None:
        return Standing()
    subjects = _subjects(frame)
    return Standing(
        findings=frame.findings,
        undefined=frozenset(
            (rule.id, subject)
            for rule in ALL
            for subject in subjects
            if engine.state(rule.id, subject) is State.UNDEFINED
        ),
    )


def _subjects(frame: Frame) -> set[str]:
    """All that a rule may be about."""
    some = {"", "platform", "memory", "box", frame.host, *(source.id for source in frame.sources)}
    return some | {gpu.id for gpu in frame.gpus} | {server.url for server in frame.servers}
