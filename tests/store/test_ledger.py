"""What is usual, found and silenced: kept, shared, and bounded."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from store_parts import opened

from halotui.ledger import (
    KEPT,
    Baselines,
    Conditions,
    Incident,
    Key,
    Ledger,
    Metric,
    Observation,
    Setup,
    Silence,
    Software,
)
from halotui.runs import Kind, Run, Status, StoreError
from halotui.store import ledger as module
from halotui.store import schema
from halotui.store.ledger import open_ledger

SETUP = Setup(model="Qwen3-30B-A3B-Q4_K_M.gguf", quant="Q4_K - Medium", backend="vulkan", flags="np=4 ub=512")
KEY = Key(setup=SETUP, metric=Metric.DECODE, depth="2-8K", streams="1")
T0 = float(int(time.time()) - 5000)  # findings of long ago are not kept
BOX = Software(kernel="6.18.9", mesa="25.3")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state/store.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with closing(open_ledger(path)) as ledger:
        yield ledger


def seen(time: float, value: float = 40.0, **how: Any) -> Observation:
    return Observation(time=time, value=value, conditions=Conditions(**how))


def fired(since: float, until: float | None = None, **more: Any) -> Incident:
    """Times from ``T0`` on."""
    known: dict[str, Any] = {"id": "np-slots", "subject": "http://127.0.0.1:8080", "severity": "warning"}
    known |= {"title": "one slot", "evidence": "asked for 4, has 1", "host": "halo"}
    return Incident(since_time=T0 + since, until_time=until and T0 + until, **(known | more))


def test_a_store_of_the_first_version_is_upgraded_with_its_runs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", {1: schema.MIGRATIONS[1]})
    run = Run(kind=Kind.IMPORT, status=Status.OK, label="before", started_time=5.0)
    with opened(path) as store:
        id_ = store.add(run)
    with closing(sqlite3.connect(path)) as old:
        assert old.execute("PRAGMA user_version").fetchone() == (1,)
    monkeypatch.undo()
    with closing(open_ledger(path)) as ledger:
        ledger.learn([(KEY, seen(1))], BOX)
    with opened(path, readonly=True) as store:
        assert store.run(id_) == msgspec.structs.replace(run, id=id_)
    with closing(sqlite3.connect(path)) as new:
        assert new.execute("PRAGMA user_version").fetchone() == (2,)


def test_what_is_learned_comes_back(path: Path, ledger: Ledger) -> None:
    other = msgspec.structs.replace(KEY, depth="64K+", setup=msgspec.structs.replace(SETUP, model="Ünï"))
    whole = seen(2, 41.25, depth_tokens=5000.0, held_by="power", available_bytes=1e9)
    told = ledger.learn([(KEY, seen(3)), (other, seen(5)), (KEY, whole)], BOX)
    with closing(open_ledger(path, readonly=True)) as again:
        known = Baselines(again.baselines())
    assert {one.key for one in told} == {KEY, other}
    for baseline in told:
        assert known.of(baseline.key) == baseline
    one = known.of(KEY)
    assert one is not None
    assert (one.count, one.first_time, one.last_time, one.software) == (2, 2, 3, BOX)
    assert one.observations == (whole, seen(3))


def test_the_newest_are_kept_and_all_are_counted(ledger: Ledger) -> None:
    ledger.learn([(KEY, seen(at * 10, at)) for at in range(KEPT)], BOX)
    (one,) = ledger.learn([(KEY, seen(5000, 1.0)), (KEY, seen(6000, 2.0))], BOX)
    assert (one.count, len(one.observations), one.first_time, one.last_time) == (KEPT + 2, KEPT, 0, 6000)
    assert one.values[:1] == (2.0,) and one.values[-2:] == (1.0, 2.0)


def test_the_same_request_told_by_two_halotui_counts_once(path: Path, ledger: Ledger) -> None:
    ledger.learn([(KEY, seen(100, 40.123))], BOX)
    with closing(open_ledger(path)) as other:
        (one,) = other.learn(
            [(KEY, seen(101, 40.123)), (KEY, seen(101, 40.2)), (KEY, seen(160, 40.123))], BOX
        )
    assert one.count == 3


def _learn_much(path: Path, start: int) -> None:
    with closing(open_ledger(path)) as ledger:
        for at in range(start, start + 60, 2):
            ledger.learn([(KEY, seen(at * 100.0, float(at)))], BOX)


def test_two_that_learn_at_once_lose_nothing(path: Path, ledger: Ledger) -> None:
    fork = multiprocessing.get_context("fork")
    others = [fork.Process(target=_learn_much, args=(path, start)) for start in (0, 1)]
    for other in others:
        other.start()
    for other in others:
        other.join(60)
    (one,) = ledger.baselines()
    assert one.count == 60
    assert one.values == tuple(range(60))


def test_the_keys_of_longest_ago_go(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEYS", 3)
    for at in range(6):
        ledger.learn([(msgspec.structs.replace(KEY, depth=str(at)), seen(at))], BOX)
    assert {one.key.depth for one in ledger.baselines()} == {"3", "4", "5"}


def test_forget(ledger: Ledger) -> None:
    other = msgspec.structs.replace(KEY, setup=Setup(model="other"))
    ledger.learn([(KEY, seen(1)), (other, seen(1))], BOX)
    assert ledger.forget("other") == 1
    assert [one.key for one in ledger.baselines()] == [KEY]
    assert ledger.forget() == 1
    assert ledger.baselines() == []


@pytest.mark.parametrize(
    "harm",
    [
        "key = '{\"setup\": 1'",
        "observations = 'no bytes'",
        "observations = x'00ff'",
        "observations = x'789c8b8e050001150089'",  # []
        "software = '[]'",
        "count = 'many'",
    ],
)
def test_a_damaged_row_costs_that_row_alone(path: Path, harm: str) -> None:
    other = msgspec.structs.replace(KEY, metric=Metric.PREFILL)
    with closing(open_ledger(path)) as ledger:
        ledger.learn([(KEY, seen(1)), (other, seen(1))], BOX)
    with closing(sqlite3.connect(path)) as hand:
        hand.execute(f"UPDATE baselines SET {harm} WHERE metric = 'decode'")
        hand.commit()
    with closing(open_ledger(path)) as ledger:
        assert [one.key for one in ledger.baselines()] == [other]
        ledger.learn([(KEY, seen(2))], BOX)
        assert {one.key for one in ledger.baselines()} == {KEY, other}


def told(ledger: Ledger, since: float = 0, until: float = 1000, limit: int = 9) -> list[object]:
    return [
        (one.since_time - T0, one.until_time and one.until_time - T0, one.host)
        for one in ledger.incidents(T0 + since, T0 + until, limit)
    ]


def test_findings_come_and_go(ledger: Ledger) -> None:
    ledger.began(fired(100))
    ledger.began(fired(200, id="gtt-pressure", subject=""))
    assert told(ledger) == [(200, None, "halo"), (100, None, "halo")]
    ledger.ended(fired(100, 130))
    ledger.ended(fired(300, 310))  # its beginning was lost
    assert told(ledger) == [(300, 310, "halo"), (200, None, "halo"), (100, 130, "halo")]
    assert ledger.incidents(T0, T0 + 1000)[2] == fired(100, 130)
    assert [one[0] for one in told(ledger, 120, 250)] == [200, 100]
    assert [one[0] for one in told(ledger, 140, 250)] == [200]
    assert len(told(ledger, limit=1)) == 1


def test_one_finding_seen_by_two_halotui_is_one(ledger: Ledger) -> None:
    for since in (100, 102):
        ledger.began(fired(since))
    for until in (130, 132):
        ledger.ended(fired(102, until))
    ledger.began(fired(100, host="other"))
    assert told(ledger) == [(100, None, "other"), (100, 132, "halo")]


def test_the_worst_that_a_finding_was_is_told_in_its_words(ledger: Ledger) -> None:
    ledger.began(fired(100))
    worst = msgspec.structs.replace(fired(100), severity="critical", title="full", evidence="GTT 99 %")
    ledger.began(worst)
    ledger.ended(fired(100, 130))  # it had eased
    assert ledger.incidents(T0, T0 + 1000) == [msgspec.structs.replace(worst, until_time=T0 + 130)]


def test_old_findings_go(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INCIDENTS", 3)
    for since in (-500 * 86400, 100, 120, 140, 160):
        ledger.began(fired(since))
    assert [one[0] for one in told(ledger, -501 * 86400)] == [160, 140, 120]


def test_silences(path: Path, ledger: Ledger) -> None:
    later = time.time() + 3600
    ledger.silence(Silence(id="np-slots"))
    ledger.silence(Silence(id="np-slots", subject="http://a", until_time=later))
    ledger.silence(Silence(id="slow-load", until_time=time.time() - 1))  # over
    with closing(open_ledger(path, readonly=True)) as other:
        assert other.silences() == [
            Silence(id="np-slots"),
            Silence(id="np-slots", subject="http://a", until_time=later),
        ]
    assert ledger.hear("np-slots") is True
    assert ledger.hear("np-slots") is False
    assert [one.subject for one in ledger.silences()] == ["http://a"]


def test_what_another_one_wrote_is_noticed(path: Path, ledger: Ledger) -> None:
    assert ledger.changed() is False
    ledger.learn([(KEY, seen(1))], BOX)
    assert ledger.changed() is False  # our own
    before = ledger.baselines()
    with closing(open_ledger(path)) as other:
        other.learn([(msgspec.structs.replace(KEY, depth="64K+"), seen(2))], BOX)
        assert ledger.changed() is True
        assert ledger.changed() is False
        after = {one.key: one for one in ledger.baselines()}
        assert len(after) == 2
        assert after[KEY] is before[0]  # not read again
        other.learn([(KEY, seen(3, 41.0))], BOX)
        assert next(one for one in ledger.baselines() if one.key == KEY).count == 2


def test_one_that_is_not_there_is_empty_to_read(path: Path) -> None:
    with closing(open_ledger(path, readonly=True)) as ledger:
        assert (ledger.baselines(), ledger.silences(), ledger.incidents(0, 1e12)) == ([], [], [])
        assert ledger.changed() is False
        with pytest.raises(StoreError, match="reading only"):
            ledger.began(fired(1))
    assert not path.exists()
