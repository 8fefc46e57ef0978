"""What is wrong, and what to do about it: the words a rule is written in, and the list of all rules.

A new rule is one file in this package that declares ``RULES = (Rule(...), ...)``. Rules read Frames and
History alone, so a recording or a remote box is judged as a live one is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules

from msgspec import Struct

from halotui.history import History
from halotui.model import Finding, Frame, Patch, Server, ServerState, Severity

RANK = {severity: rank for rank, severity in enumerate(reversed(Severity))}  # the most severe first
_GONE = (ServerState.DOWN, ServerState.FAILED)
_ENGINE = "engine"  # the one module here that is no family: it imports this list


class Symptom(Struct, frozen=True, kw_only=True):
    """A subject that is not well now. What stays None is the rule's own."""

    subject: str
    title: str  # one line, under 60 characters
    evidence: str  # the numbers, with units
    severity: Severity | None = None
    why: str | None = None
    fix: str | None = None
    patch: Patch | None = None


class Undefined(Struct, frozen=True):
    """A subject that cannot be judged now: its data is missing."""

    subject: str


class View(Struct, frozen=True, kw_only=True):
    """All that a check may read. ``history`` already holds ``frame``."""

    frame: Frame
    history: History
    findings: Mapping[tuple[str, str], Finding] = {}  # what fires, by rule id and subject

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


class Rule(Struct, frozen=True, kw_only=True):
    """One thing that can go wrong. ``check`` is pure; a subject it leaves out is well."""

    id: str
    check: Callable[[View], Iterable[Symptom | Undefined]]
    why: str
    fix: str
    severity: Severity = Severity.WARNING
    hold_seconds: float = 0.0  # how long a symptom must last before it fires
    needs: tuple[str, ...] = ()  # what it reads, as struct.attribute of ``model``
    marks: tuple[str, ...] = ()  # the fields on screen that it is about
    reference: str | None = None
    patch: Patch | None = None  # for ``Finding.patch``: only where a relaunch with it is the cure


def _all() -> tuple[Rule, ...]:
    families = (
        import_module(f"{__name__}.{module.name}")
        for module in iter_modules(__path__)
        if module.name != _ENGINE
    )
    rules: list[Rule] = [rule for family in families for rule in getattr(family, "RULES", ())]
    return tuple(sorted(rules, key=lambda rule: (RANK[rule.severity], rule.id)))


ALL: tuple[Rule, ...] = _all()
