"""The rules over a row of frames, from the first to the last: what fired, and from when to when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial

from msgspec.structs import asdict, replace

from halotui.exporters.checked import RANK, Found, Verdict
from halotui.history import History
from halotui.ledger import Baselines, Silence
from halotui.model import KERNEL_SOURCE, Frame, ServerState, SourceState
from halotui.rules import ALL, Rule, Symptom, Undefined, View
from halotui.rules.engine import Engine
from halotui.rules.tuning import AS_SHIPPED, Tuning

MOST = 1000  # spells kept: the first ones

# What a rule says it reads, by its first word, and how a frame has it.
_HAS: dict[str, Callable[[Frame], bool]] = {
    "gpu": lambda frame: bool(frame.gpus),
    "memory": lambda frame: frame.memory is not None,
    "account": lambda frame: frame.account is not None,
    "system": lambda frame: frame.system is not None,
    "energy": lambda frame: frame.energy is not None,
    "platform": lambda frame: frame.platform is not None,
    "holder": lambda frame: bool(frame.holders),
    "server": lambda frame: any(server.state is not ServerState.DOWN for server in frame.servers),
    "frame.kernel": lambda frame: any(
        source.id == KERNEL_SOURCE and source.state is SourceState.OK for source in frame.sources
    ),
}


class Judge:
    """Sees frame after frame, with a history and alarms of its own: what frames bring along is not asked."""

    def __init__(
        self,
        *,
        hold: bool = True,
        tuning: Tuning = AS_SHIPPED,
        without: Collection[str] = (),
    ) -> None:
        """``without``: ids of rules that have no say here."""
        self._rules = tuple(rule for rule in ALL if rule.id not in without)
        self._without = frozenset(without)
        self._engine = Engine(map(self._noted, self._rules), hold=hold, tuning=tuning)
        self._history = History()
        self._begin: float | None = None
        self._end = 0.0
        self._up: dict[tuple[str, str], Found] = {}
        self._over: list[Found] = []
        self._fired: set[str] = set()
        self._silenced: set[str] = set()
        self._unknown: Counter[str] = Counter()  # frames in which a rule could not judge a subject
        self._wants = {need for need in _HAS if any(_reads(rule, need) for rule in self._rules)}
        self.frames = 0
        self.omitted = 0  # spells past ``MOST``

    def know(self, baselines: Baselines, silences: tuple[Silence, ...]) -> None:
        """What is usual, and what the user does not want to hear of."""
        self._engine.baselines, self._engine.silences = baselines, silences

    @property
    def restless(self) -> bool:
        """Whether an alarm is up."""
        return bool(self._up)

    def see(self, frame: Frame) -> None:
        """Push it to the history, and judge it."""
        self.frames += 1
        self._begin = frame.time if self._begin is None else min(self._begin, frame.time)
        self._end = max(self._end, frame.time)
        self._wants = {need for need in self._wants if not _HAS[need](frame)}
        self._history.push(frame)
        judged = self._engine.evaluate(frame, self._history)
        self._silenced.update(judged.silenced)
        findings = {(finding.id, finding.subject): finding for finding in judged.findings}
        if not findings and not self._up:
            return
        for key in self._up.keys() - findings.keys():
            self._close(self._up.pop(key), frame.time)
        stirred = {server.url for server in frame.servers if server.events or server.requests}
        for key, finding in findings.items():
            known = self._up.get(key)
            if known is None:
                self._fired.add(finding.id)
            # What it was when it was worst; of that, what came with the last news rather than its age.
            if (
                known is None
                or RANK[finding.severity] < RANK[known.severity]
                or (finding.subject in stirred and finding.severity is known.severity)
            ):
                self._up[key] = Found(**asdict(finding), seen_time=frame.time)

    def verdict(self, *, relative: bool = False, timeless: bool = False) -> Verdict:
        """``relative``: its times are of no calendar. ``timeless``: they are of nothing at all."""
        found = [*self._over, *self._up.values()]
        if timeless:
            found = [replace(one, since_time=None, until_time=None, seen_time=None) for one in found]
        found.sort(key=lambda one: (RANK[one.severity], one.since_time or 0.0, one.id, one.subject))
        told = self.frames > 0 and not timeless
        return Verdict(
            findings=tuple(found),
            frames=self.frames,
            from_time=self._begin if told else None,
            to_time=self._end if told else None,
            relative=relative,
            rules=len(ALL),
            undefined=tuple(sorted(self._unjudged())),
            silenced=tuple(sorted(self._silenced)),
        )

    def _unjudged(self) -> Iterator[str]:
        yield from self._without
        for rule in self._rules:
            blind = any(_reads(rule, need) for need in self._wants)
            if rule.id not in self._fired and (blind or 2 * self._unknown[rule.id] > self.frames):
                yield rule.id

    def _close(self, found: Found, now: float) -> None:
        if len(self._over) < MOST:
            self._over.append(replace(found, until_time=now))
        else:
            self.omitted += 1

    def _noted(self, rule: Rule) -> Rule:
        return replace(rule, check=partial(self._ask, rule))

    def _ask(self, rule: Rule, view: View) -> Iterable[Symptom | Undefined]:
        outcomes = list(rule.check(view))
        if outcomes and any(isinstance(outcome, Undefined) for outcome in outcomes):
            self._unknown[rule.id] += 1
        return outcomes


def _reads(rule: Rule, need: str) -> bool:
    return any(one == need or one.startswith(f"{need}.") for one in rule.needs)
