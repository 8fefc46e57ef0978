"""From symptoms to findings: an alarm is held before it fires, fires once, and re-arms when it clears."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from halotui.history import History
from halotui.ledger import NONE, Silence
from halotui.model import Finding, Frame, Severity
from halotui.rules import ALL, RANK, Rule, Symptom, Undefined, View
from halotui.rules.tuning import AS_SHIPPED, Tuning

KEEP = 60.0  # seconds a finding outlives its data, and is known as resolved


class State(StrEnum):
    """How an alarm stands. Without a word from its rule it is ok."""

    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"  # it fired until a moment ago
    UNDEFINED = "undefined"


class _Alarm(msgspec.Struct, frozen=True, kw_only=True):
    since: float  # when the symptom began
    symptom: Symptom | None = None  # as it was told last, of one that is pending or fires
    finding: Finding | None = None
    unknown_since: float | None = None  # when its data went missing


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A finding that began to fire, got more severe (FIRING again, ``since_time`` as before), or was over, in
    the frame of ``time``. Of one that is over, ``finding`` is how it was last."""

    time: float  # Unix seconds
    state: State  # FIRING | RESOLVED
    finding: Finding


_Key = tuple[str, str]

_ERROR = Rule(
    id="rule-error",
    check=lambda _: (),
    severity=Severity.INFO,
    why="A rule of halotui stumbled over this frame. The other rules were checked as ever.",
    fix="Report it to halotui with this line and, if you can, a recording.",
)


class Engine:
    """Owns the alarms, by rule and subject. It has no clock: ``frame.time`` is the time.

    ``hold=False`` fires at once, for a single frame that has no before. ``silences`` and ``baselines`` may be
    set anew between two frames. A rule that is silent is judged as ever, and freezes baselines, and its
    changes are noted: it is only not among the frame's findings.
    """

    def __init__(
        self, rules: Iterable[Rule] = ALL, *, hold: bool = True, tuning: Tuning = AS_SHIPPED
    ) -> None:
        self._rules = tuple(rules)
        self._levels: dict[str, Mapping[str, float]] = {rule.id: tuning.of(rule) for rule in self._rules}
        self._holds = {rule.id: tuning.hold(rule) if hold else 0.0 for rule in self._rules}
        self._mute = tuning.silent
        self._freezing = frozenset(rule.id for rule in self._rules if rule.freezes)
        self._alarms: dict[_Key, _Alarm] = {}
        self._resolved: dict[_Key, float] = {}  # when: for KEEP seconds
        self.silences: tuple[Silence, ...] = ()
        self.baselines = NONE
        self.changes: tuple[Change, ...] = ()  # of the last frame

    def evaluate(self, frame: Frame, history: History) -> Frame:
        """The frame with its findings, the most severe first. Push it to ``history`` beforehand."""
        before = self._alarms
        firing = {key: alarm.finding for key, alarm in before.items() if alarm.finding is not None}
        last = {key: alarm.symptom for key, alarm in before.items() if alarm.symptom is not None}
        # Built anew each time: what no rule speaks of is well, or gone, and is forgotten.
        self._alarms = {}
        errors: list[Symptom | Undefined] = []
        for rule in self._rules:
            view = View(frame, history, firing, self.baselines, self._levels[rule.id], last)
            try:
                outcomes = list(rule.check(view))
            except Exception as error:  # costs this rule alone, and leaves its alarms undefined
                outcomes = [Undefined(subject) for rule_id, subject in before if rule_id == rule.id]
                errors.append(_stumble(rule, error))
            self._judge(rule, outcomes, before, frame.time)
        self._judge(_ERROR, errors, before, frame.time)
        findings = [alarm.finding for alarm in self._alarms.values() if alarm.finding is not None]
        findings.sort(key=lambda finding: (RANK[finding.severity], finding.id, finding.subject))
        self._note(firing, findings, frame.time)
        silenced = [finding for finding in findings if self.silenced(finding, frame.time)]
        return replace(
            frame,
            findings=tuple(finding for finding in findings if finding not in silenced),
            silenced=tuple(sorted({finding.id for finding in silenced})),
        )

    def silenced(self, finding: Finding, now: float) -> bool:
        """Whether the user does not want to hear of it now."""
        return finding.id in self._mute or any(
            silence.id == finding.id
            and silence.subject in ("", finding.subject)
            and (silence.until_time is None or now < silence.until_time)
            for silence in self.silences
        )

    def frozen(self, subject: str) -> bool:
        """Whether what is measured of it now is no example of what is usual: a rule fires, is about to, or
        did until a moment ago, for it or for what all share."""
        return any(
            id_ in self._freezing and _concerns(about, subject) and self._worried(id_, about)
            for id_, about in (*self._alarms, *self._resolved)
        )

    def state(self, rule_id: str, subject: str) -> State:
        """How the alarm stood in the last frame."""
        alarm = self._alarms.get((rule_id, subject))
        if alarm is None:
            return State.RESOLVED if (rule_id, subject) in self._resolved else State.OK
        if alarm.unknown_since is not None:
            return State.UNDEFINED
        return State.PENDING if alarm.finding is None else State.FIRING

    def _worried(self, rule_id: str, subject: str) -> bool:
        alarm = self._alarms.get((rule_id, subject))
        fires_or_may = alarm is not None and (alarm.finding is not None or alarm.unknown_since is None)
        return fires_or_may or (rule_id, subject) in self._resolved

    def _note(self, before: Mapping[_Key, Finding], findings: Sequence[Finding], now: float) -> None:
        """What began, got worse, and is over."""
        after = {(finding.id, finding.subject): finding for finding in findings}
        over = [(key, old) for key, old in before.items() if _is_over(old, after.get(key))]
        self.changes = (
            *(Change(time=now, state=State.RESOLVED, finding=old) for _, old in over),
            *(
                Change(time=now, state=State.FIRING, finding=new)
                for key, new in after.items()
                if _is_news(before.get(key), new)
            ),
        )
        if self._resolved or over:
            recent = {key: at for key, at in self._resolved.items() if 0 <= now - at < KEEP}
            recent |= {key: now for key, _ in over}
            self._resolved = {key: at for key, at in recent.items() if key not in after}

    def _judge(
        self, rule: Rule, outcomes: list[Symptom | Undefined], before: dict[_Key, _Alarm], now: float
    ) -> None:
        for outcome in outcomes:
            key = rule.id, outcome.subject
            old = before.get(key)
            if isinstance(outcome, Undefined):
                self._alarms[key] = _unknown(old, now)
            else:
                self._alarms[key] = _unwell(rule, outcome, old, now, self._holds.get(rule.id, 0.0))


def _is_over(old: Finding, new: Finding | None) -> bool:
    """Another ``since_time`` is another one: the clock was put back, and who keeps them knows it by that."""
    return new is None or new.since_time != old.since_time


def _is_news(old: Finding | None, new: Finding) -> bool:
    return old is None or _is_over(old, new) or RANK[new.severity] < RANK[old.severity]


def _concerns(about: str, subject: str) -> bool:
    """Whether it is about that subject ("log URL" too), or about what all servers share: a GPU, memory."""
    of_a_server = "://" in about or "unix:" in about
    return about == subject or about.endswith(f" {subject}") or not of_a_server


def _unknown(old: _Alarm | None, now: float) -> _Alarm:
    """Missing data never fires and clears nothing: for a while, so that no finding lives for ever on it."""
    since = now if old is None or old.unknown_since is None else min(old.unknown_since, now)
    if old is None or old.finding is None or now - since >= KEEP:
        return _Alarm(since=now if old is None else old.since, unknown_since=since)
    return replace(old, unknown_since=since)


def _unwell(rule: Rule, symptom: Symptom, old: _Alarm | None, now: float, hold: float) -> _Alarm:
    fired = old is not None and old.finding is not None
    sure_now = old is not None and old.symptom is not None and old.symptom.doubtful and not symptom.doubtful
    goes_on = old is not None and (fired or (old.unknown_since is None and not sure_now))
    since = min(old.since, now) if old is not None and goes_on else now  # min: the clock may step back
    if not fired and (symptom.doubtful or now - since < hold):
        return _Alarm(since=since, symptom=symptom)
    finding = Finding(
        id=rule.id,
        severity=symptom.severity or rule.severity,
        title=symptom.title,
        evidence=symptom.evidence,
        why=symptom.why or rule.why,
        fix=symptom.fix or rule.fix,
        subject=symptom.subject,
        since_time=since,
        reference=rule.reference,
        fields=rule.marks,
        patch=symptom.patch or rule.patch,
        causes=symptom.causes,
    )
    return _Alarm(since=since, symptom=symptom, finding=finding)


def _stumble(rule: Rule, error: Exception) -> Symptom:
    return Symptom(subject=rule.id, title=f"The rule {rule.id} failed", evidence=type(error).__name__)
