"""What is wrong, and what to do about it: the words a rule is written in, and the list of all rules.

A new rule is one file in this package that declares ``RULES = (Rule(...), ...)``. Rules read Frames and
History alone, so a recording or a remote box is judged as a live one is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from importlib import import_module
from math import inf
from pkgutil import iter_modules

from msgspec import Struct

from halotui.history import History
from halotui.ledger import NONE, Baselines
from halotui.model import Cause, Finding, Frame, Patch, Server, ServerState, Severity

RANK = {severity: rank for rank, severity in enumerate(reversed(Severity))}  # the most severe first
_GONE = (ServerState.DOWN, ServerState.FAILED)
_NO_FAMILIES = ("engine", "tuning")  # the former imports this list


class Symptom(Struct, frozen=True, kw_only=True):
    """A subject that is not well now. What stays None is the rule's own."""

    subject: str
    title: str  # one line, under 60 characters
    evidence: str  # the numbers, with units
    severity: Severity | None = None
    why: str | None = None
    fix: str | None = None
    patch: Patch | None = None
    causes: tuple[Cause, ...] = ()
    doubtful: bool = False  # too little is seen to fire: it is pending, whatever its hold


class Undefined(Struct, frozen=True):
    """A subject that cannot be judged now: its data is missing."""

    subject: str


class View(Struct, frozen=True):
    """All that a check may read. ``history`` already holds ``frame``."""

    frame: Frame
    history: History
    findings: Mapping[tuple[str, str], Finding] = {}  # what fires, by rule id and subject
    baselines: Baselines = NONE  # what is usual on this box
    levels: Mapping[str, float] = {}  # of the rule that is asked: its own, unless the user set others
    last: Mapping[tuple[str, str], Symptom] = {}  # what was said last of what fires or is about to

    def firing(self, rule_id: str, subject: str) -> bool:
        """Whether the alarm is up, so that a check can hold it to its clear level."""
        return (rule_id, subject) in self.findings

    def subjects(self, rule_id: str) -> set[str]:
        """What the rule fires for, even where the frame no longer has it."""
        return {subject for rule, subject in self.findings if rule == rule_id}

    @property
    def running(self) -> Iterator[Server]:
        """The servers whose facts are of a living process: what was known of a dead one is void."""
        return (server for server in self.frame.servers if server.state not in _GONE)


class Level(Struct, frozen=True, kw_only=True):
    """A threshold by its name, which config.toml may set: ``[rules.gtt-pressure]``, ``warning = 0.9``."""

    name: str
    value: float
    help: str  # what it is, with its unit
    least: float = 0.0
    most: float = inf
    above: str = ""  # the level that it may not be below


class Proof(StrEnum):
    """What makes a rule fire in its test: the strongest kind there is."""

    REAL = "real server"  # a llama.cpp server that does it
    DEMO = "demo box"  # a demo's files and processes
    RECORDED = "recorded"  # logs and readings as real boxes gave them
    FRAMES = "made frames"  # frames put together by hand


class Rule(Struct, frozen=True, kw_only=True):
    """One thing that can go wrong. ``check`` is pure; a subject it leaves out is well."""

    id: str
    check: Callable[[View], Iterable[Symptom | Undefined]]
    why: str
    fix: str
    title: str = ""  # what it finds, in a few words
    severity: Severity = Severity.WARNING
    hold_seconds: float = 0.0  # how long a symptom must last before it fires
    window: str = "now"  # how far back it looks, in words
    clears: str = ""  # when it is over, in words with numbers
    levels: tuple[Level, ...] = ()  # its thresholds: ``view.levels["warning"]``
    evidence: str = ""  # how it reads: {…} stands for one or more characters, […] may be missing
    needs: tuple[str, ...] = ()  # what it reads, as struct.attribute of ``model``
    marks: tuple[str, ...] = ()  # the fields on screen that it is about
    freezes: bool = False  # what is measured meanwhile is no example of what is usual: baselines wait
    proof: Proof = Proof.FRAMES
    reference: str | None = None
    patch: Patch | None = None  # for ``Finding.patch``: only where a relaunch with it is the cure
    may_patch: bool = False  # its symptoms may bring a patch of their own


def _all() -> tuple[Rule, ...]:
    families = (
        import_module(f"{__name__}.{module.name}")
        for module in iter_modules(__path__)
        if module.name not in _NO_FAMILIES
    )
    rules: list[Rule] = [rule for family in families for rule in getattr(family, "RULES", ())]
    return tuple(sorted(rules, key=lambda rule: (RANK[rule.severity], rule.id)))


ALL: tuple[Rule, ...] = _all()
