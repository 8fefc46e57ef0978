"""The engine: hold, fire once, clear, re-arm, undefined, and no rule can hurt another."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import Watch, frame, server
from halotui.history import History
from halotui.ledger import Baselines, Silence
from halotui.model import Finding, Frame, Severity
from halotui.rules import ALL, RANK, Level, Rule, Symptom, Undefined, View
from halotui.rules.engine import KEEP, Engine, State
from halotui.rules.tuning import AS_SHIPPED, Tuning
from rules import matches

UNREAD = ("log", "slots")  # of a server: long, and no rule looks at them


def symptoms(view: View) -> Iterator[Symptom | Undefined]:
    """Told by the server's model name: ill, unknown, raise; anything else is well."""
    for one in view.frame.servers:
        if one.model == "raise":
            raise RuntimeError("no")
        if one.model == "unknown":
            yield Undefined(one.url)
        if one.model == "ill":
            yield Symptom(subject=one.url, title="ill", evidence=one.reason or "1")


RULE = Rule(id="test", check=symptoms, hold_seconds=2, why="why", fix="fix", reference="ref")


def see(watch: Watch, time: float, health: str | None, **more: Any) -> tuple[Finding, ...]:
    return watch.see(time, servers=[server("u", model=health, **more)])


def test_a_symptom_fires_after_its_hold_and_says_since_when() -> None:
    watch = Watch(RULE)
    assert see(watch, 10, "ill") == ()
    assert watch.engine.state("test", "u") == State.PENDING
    assert see(watch, 11.9, "ill") == ()
    (finding,) = see(watch, 12, "ill")
    assert watch.engine.state("test", "u") == State.FIRING
    assert finding == Finding(
        id="test",
        severity=Severity.WARNING,
        title="ill",
        evidence="1",
        why="why",
        fix="fix",
        subject="u",
        since_time=10,
        reference="ref",
    )


def test_a_firing_finding_keeps_its_time_and_renews_its_numbers() -> None:
    watch = Watch(RULE)
    see(watch, 0, "ill")
    see(watch, 2, "ill")
    (finding,) = see(watch, 9, "ill", reason="9")
    assert (finding.since_time, finding.evidence) == (0, "9")


def test_a_gap_in_the_symptom_starts_the_hold_again() -> None:
    watch = Watch(RULE)
    see(watch, 0, "ill")
    see(watch, 1, None)
    assert see(watch, 2, "ill") == ()
    assert see(watch, 3.5, "ill") == ()
    assert see(watch, 4, "ill")


def test_it_clears_at_once_and_rearms() -> None:
    watch = Watch(RULE)
    see(watch, 0, "ill")
    assert see(watch, 2, "ill")
    assert see(watch, 3, None) == ()
    assert watch.engine.state("test", "u") == State.RESOLVED
    assert see(watch, 4, "ill") == ()
    (finding,) = see(watch, 6, "ill")
    assert finding.since_time == 4


def test_undefined_never_fires() -> None:
    watch = Watch(RULE)
    for time in range(100):
        assert see(watch, time, "unknown") == ()
    assert watch.engine.state("test", "u") == State.UNDEFINED


def test_undefined_drops_what_is_pending() -> None:
    watch = Watch(RULE)
    see(watch, 0, "ill")
    see(watch, 1, "unknown")
    assert see(watch, 2.5, "ill") == ()
    assert see(watch, 4.5, "ill")


def test_undefined_keeps_what_fires_for_a_while() -> None:
    watch = Watch(RULE)
    see(watch, 0, "ill")
    see(watch, 2, "ill")
    assert see(watch, 3, "unknown")
    assert see(watch, 3 + KEEP - 1, "unknown")
    assert see(watch, 3 + KEEP, "unknown") == ()
    assert see(watch, 3 + KEEP + 1, "ill") == ()  # and holds anew


def test_a_firing_alarm_goes_on_after_a_short_undefined_time() -> None:
    watch = Watch(RULE)
    see(watch, 0, "ill")
    see(watch, 2, "ill")
    see(watch, 3, "unknown")
    (finding,) = see(watch, 4, "ill")
    assert finding.since_time == 0


def test_a_subject_that_vanishes_is_forgotten() -> None:
    watch = Watch(RULE)
    for time in range(50):
        watch.see(time, servers=[server(f"u{time}", model="ill")])
    assert len(watch.engine._alarms) == 1
    watch.see(60)
    assert watch.engine._alarms == {}


def test_one_shot_fires_at_once() -> None:
    assert see(Watch(RULE, hold=False), 0, "ill")


def test_a_rule_that_raises_costs_itself_alone() -> None:
    other = msgspec.structs.replace(
        RULE, id="other", check=lambda _: [Symptom(subject="", title="t", evidence="e")]
    )
    watch = Watch(RULE, other)
    see(watch, 0, "ill")
    see(watch, 2, "ill")
    ids = {finding.id: finding for finding in see(watch, 3, "raise")}
    assert set(ids) == {"test", "other", "rule-error"}  # its own alarm is undefined, and so is kept
    error = ids["rule-error"]
    assert (error.subject, error.severity, error.evidence) == ("test", Severity.INFO, "RuntimeError")
    assert "rule-error" not in {finding.id for finding in see(watch, 4, "ill")}


def test_a_rule_that_raises_at_first_holds_nothing() -> None:
    watch = Watch(RULE)
    see(watch, 0, "ill")
    assert [finding.id for finding in see(watch, 5, "raise")] == ["rule-error"]


def test_the_clock_may_step_back() -> None:
    watch = Watch(RULE)
    see(watch, 1000, "ill")
    see(watch, 10, "ill")
    (finding,) = see(watch, 12, "ill")
    assert finding.since_time == 10


def test_the_most_severe_comes_first_and_old_findings_go() -> None:
    rules = [
        Rule(
            id=str(severity),
            severity=severity,
            check=lambda _: [Symptom(subject=s, title="t", evidence="e") for s in "ba"],
            why="",
            fix="",
        )
        for severity in Severity
    ]
    stale = Finding(id="old", severity=Severity.INFO, title="", evidence="", why="", fix="")
    findings = Engine(rules).evaluate(frame(findings=[stale]), History()).findings
    assert [(f.id, f.subject) for f in findings] == [
        (severity, subject) for severity in ("critical", "warning", "info") for subject in "ab"
    ]


def test_a_check_sees_what_fires() -> None:
    seen: list[tuple[bool, set[str]]] = []

    def check(view: View) -> Iterator[Symptom]:
        seen.append((view.firing("r", "s"), view.subjects("r")))
        yield Symptom(subject="s", title="t", evidence="e")

    watch = Watch(Rule(id="r", check=check, why="", fix=""))
    watch.see(0)
    watch.see(1)
    assert seen == [(False, set()), (True, {"s"})]


def test_a_check_is_told_what_it_said_last() -> None:
    seen: list[Symptom | None] = []

    def check(view: View) -> Iterator[Symptom | Undefined]:
        seen.append(view.last.get(("r", "s")))
        if (now := view.frame.time) < 3:
            yield Symptom(subject="s", title="t", evidence=str(now))
        elif now < 5 + KEEP:
            yield Undefined("s")

    watch = Watch(Rule(id="r", check=check, hold_seconds=1, why="", fix=""))
    for time in (0, 1, 2, 3, 4, 3 + KEEP, 4 + KEEP, 6 + KEEP):
        watch.see(time)
    told = [one and one.evidence for one in seen]
    # pending, firing, firing on without data, and forgotten
    assert told == [None, "0", "1", "2", "2", "2", None, None]


def test_the_registry_finds_every_family_in_a_stable_order() -> None:
    ids = {rule.id for rule in ALL}
    assert len(ids) == len(ALL)
    assert ids >= {"np-slots", "spec-unused", "spec-decay", "gtt-pressure", "server-down", "source-stale"}
    assert list(ALL) == sorted(ALL, key=lambda rule: (RANK[rule.severity], rule.id))


def changes(watch: Watch) -> list[tuple[State, str, str]]:
    return [(one.state, one.finding.subject, one.finding.severity) for one in watch.engine.changes]


def test_it_is_resolved_for_a_minute() -> None:
    watch = Watch(RULE)
    see(watch, 0, "ill")
    see(watch, 2, "ill")
    see(watch, 10, None)
    assert watch.engine.state("test", "u") == State.RESOLVED
    see(watch, 10 + KEEP - 1, None)
    assert watch.engine.state("test", "u") == State.RESOLVED
    see(watch, 10 + KEEP, None)
    assert watch.engine.state("test", "u") == State.OK and not watch.engine._resolved


def test_one_that_comes_back_is_not_resolved() -> None:
    watch = Watch(RULE, hold=False)
    see(watch, 0, "ill")
    see(watch, 1, None)
    see(watch, 2, "ill")
    assert watch.engine.state("test", "u") == State.FIRING and not watch.engine._resolved
    see(watch, 3, None)
    assert watch.engine.state("test", "u") == State.RESOLVED


def test_a_pending_alarm_that_goes_away_resolves_nothing() -> None:
    watch = Watch(RULE)
    see(watch, 0, "ill")
    see(watch, 1, None)
    assert watch.engine.state("test", "u") == State.OK and not watch.engine.changes


def test_changes_are_of_one_frame() -> None:
    watch = Watch(RULE)
    told = []
    for time, health in enumerate(("ill", "ill", "ill", "ill", "unknown", None, None)):
        see(watch, time, health)
        told.append(changes(watch))
    firing, resolved = (State.FIRING, "u", "warning"), (State.RESOLVED, "u", "warning")
    assert told == [[], [], [firing], [], [], [resolved], []]


def test_what_gets_worse_is_news_and_what_gets_better_is_not() -> None:
    severities = (Severity.WARNING, Severity.CRITICAL, Severity.CRITICAL, Severity.INFO)

    def check(view: View) -> Iterator[Symptom]:
        yield Symptom(subject="s", title="t", evidence="e", severity=severities[int(view.frame.time)])

    watch, told = Watch(Rule(id="r", check=check, why="", fix="")), []
    for time in range(4):
        watch.see(time)
        told.append(changes(watch))
    assert told == [[(State.FIRING, "s", "warning")], [(State.FIRING, "s", "critical")], [], []]
    assert watch.engine._alarms["r", "s"].since == 0


def test_changes_come_in_a_stable_order() -> None:
    rule = Rule(
        id="r",
        check=lambda view: [
            Symptom(subject=f"s{n}", title="t", evidence="e") for n in range(9) if view.frame.time < 1
        ],
        why="",
        fix="",
    )
    watch = Watch(rule)
    for time in (0, 1):
        watch.see(time)
        assert [subject for _, subject, _ in changes(watch)] == [f"s{n}" for n in range(9)]


def test_a_clock_that_steps_back_ends_the_old_finding_and_begins_another() -> None:
    """Whoever keeps them knows one by when it began."""
    watch = Watch(RULE, hold=False)
    see(watch, 1000, "ill")
    see(watch, 10, "ill")
    assert [(one.state, one.finding.since_time) for one in watch.engine.changes] == [
        (State.RESOLVED, 1000),
        (State.FIRING, 10),
    ]
    assert watch.engine.state("test", "u") == State.FIRING
    see(watch, 11, None)
    see(watch, 1, None)  # and what was resolved in the future is forgotten
    assert watch.engine.state("test", "u") == State.OK


def both(watch: Watch, time: float) -> tuple[list[str], tuple[str, ...]]:
    """The subjects that are told, and the ids that are silent."""
    now = frame(time, servers=[server("a", model="ill"), server("b", model="ill")])
    out = watch.engine.evaluate(now, watch.history)
    return [finding.subject for finding in out.findings], out.silenced


def test_silence_by_id_by_subject_and_until_a_time() -> None:
    watch = Watch(RULE, hold=False)
    for silences, told, silent in (
        ((), ["a", "b"], ()),
        ((Silence(id="test"),), [], ("test",)),
        ((Silence(id="other"),), ["a", "b"], ()),
        ((Silence(id="test", subject="a"),), ["b"], ("test",)),
        ((Silence(id="test", subject="a"), Silence(id="test", subject="b")), [], ("test",)),
        ((Silence(id="test", until_time=101),), [], ("test",)),
        ((Silence(id="test", until_time=100),), ["a", "b"], ()),
    ):
        watch.engine.silences = silences
        assert both(watch, 100) == (told, silent), silences
    watch.engine.silences = (Silence(id="test", until_time=101),)
    assert both(watch, 100.9)[0] == [] and both(watch, 101)[0] == ["a", "b"]


def test_what_is_silent_is_judged_noted_and_freezes_as_ever() -> None:
    watch = Watch(msgspec.structs.replace(RULE, freezes=True), hold=False)
    watch.engine.silences = (Silence(id="test"),)
    see(watch, 0, "ill")
    assert watch.engine.state("test", "u") == State.FIRING and watch.engine.frozen("u")
    assert changes(watch) == [(State.FIRING, "u", "warning")]
    assert see(watch, 1, None) == () and changes(watch) == [(State.RESOLVED, "u", "warning")]


def test_muted_for_good() -> None:
    watch = Watch(RULE, tuning=Tuning(silent=frozenset({"test"})), hold=False)
    assert both(watch, 0) == ([], ("test",))


def test_a_hold_of_the_users_own() -> None:
    watch = Watch(RULE, tuning=Tuning(holds={"test": 10.0}))
    assert not see(watch, 0, "ill") and not see(watch, 9, "ill") and see(watch, 10, "ill")
    assert see(Watch(RULE, tuning=Tuning(holds={"test": 10.0}), hold=False), 0, "ill")
    assert see(Watch(RULE, tuning=Tuning(holds={"test": 0.0})), 0, "ill")


def test_a_check_is_given_its_levels_and_what_is_usual() -> None:
    seen: list[tuple[dict[str, float], object]] = []

    def check(view: View) -> Iterator[Symptom]:
        seen.append((dict(view.levels), view.baselines))
        yield from ()

    levels = Level(name="a", value=1, help=""), Level(name="b", value=2, help="")
    rule = Rule(id="r", check=check, why="", fix="", levels=levels)
    baselines = Baselines()
    for tuning in (AS_SHIPPED, Tuning(levels={"r": {"b": 5.0}, "other": {"a": 9.0}})):
        watch = Watch(rule, tuning=tuning)
        watch.engine.baselines = baselines
        watch.see(0)
    assert seen == [({"a": 1, "b": 2}, baselines), ({"a": 1, "b": 5.0}, baselines)]


@pytest.mark.parametrize(
    ("about", "frozen"),
    [
        ("http://a:1", {"http://a:1"}),
        ("log http://a:1", {"http://a:1"}),
        ("unix:/run/x", {"unix:/run/x"}),
        ("0000:c5:00.0", {"http://a:1", "http://b:1", "unix:/run/x"}),
        ("memory", {"http://a:1", "http://b:1", "unix:/run/x"}),
    ],
)
def test_whose_baselines_wait(about: str, frozen: set[str]) -> None:
    rule = Rule(
        id="r",
        check=lambda _: [Symptom(subject=about, title="t", evidence="e")],
        why="",
        fix="",
        freezes=True,
    )
    watch = Watch(rule, msgspec.structs.replace(rule, id="other", freezes=False))
    watch.see(0)
    subjects = {"http://a:1", "http://b:1", "unix:/run/x"}
    assert {subject for subject in subjects if watch.engine.frozen(subject)} == frozen


def test_they_wait_from_the_first_sign_to_a_minute_after() -> None:
    watch = Watch(msgspec.structs.replace(RULE, freezes=True))
    steps = (
        (0, None, False),
        (1, "ill", True),  # pending
        (2, "unknown", False),
        (3, "ill", True),
        (5, "ill", True),
        (6, "unknown", True),  # it still fires
        (7, None, True),
        (7 + KEEP, None, False),
    )
    for time, health, frozen in steps:
        see(watch, time, health)
        assert watch.engine.frozen("u") == frozen, time


@cache
def anything(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type out of ``model``, some of its attributes given; few names, so that subjects meet."""
    if kind is type(None):
        return st.none()
    if get_origin(kind) in (Union, UnionType):
        return st.one_of(*map(anything, get_args(kind)))
    if get_origin(kind) is dict:
        return st.dictionaries(*map(anything, get_args(kind)), max_size=2)
    if get_origin(kind) is tuple:
        return st.lists(anything(get_args(kind)[0]), max_size=4).map(tuple)
    if issubclass(kind, Enum):
        return st.sampled_from(kind)
    if issubclass(kind, msgspec.Struct):
        hints = {name: hint for name, hint in get_type_hints(kind).items() if name not in UNREAD}
        must = {field.name for field in msgspec.structs.fields(kind) if field.required}
        given_, maybe = (
            {name: anything(hint) for name, hint in hints.items() if (name in must) == needed}
            for needed in (True, False)
        )
        return st.fixed_dictionaries(given_, optional=maybe).map(lambda values: kind(**values))
    return {
        str: st.sampled_from(["a", "b", "gpu", "none", "ngram-mod", ""]),
        int: st.integers(-3, 500) | st.integers(-(2**63), 2**63),
        float: st.floats(0, 100) | st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
    }[kind]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(anything(Frame), max_size=3), st.booleans())
def test_no_frame_upsets_the_engine_or_a_rule(frames: list[Frame], hold: bool) -> None:
    history, engine = History(), Engine(hold=hold)
    for one in frames:
        history.push(one)
        out = engine.evaluate(one, history)
        assert msgspec.structs.replace(out, findings=one.findings, silenced=one.silenced) == one
        for finding in out.findings:
            assert finding.id != "rule-error", finding
            assert 0 < len(finding.title) < 60 and "\n" not in finding.title
            assert finding.evidence and finding.why and finding.fix
            assert matches(finding.id, finding.evidence), finding
