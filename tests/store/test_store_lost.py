"""A run whose owner died: seen by the next look, with what its samples still say."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from store_parts import GTT, RAM, block, elsewhere, ended, opened, speed, template

from halotui.runs import Mark, Status
from halotui.store import open_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def die(path: Path, seconds: int = 3) -> int:
    """A process that measures for so long and is killed. The run's id."""

    def work() -> object:
        store = open_store(path)
        id_ = store.begin(template())
        for second in range(seconds):
            store.sink(id_).write(block(second))
        store.result(id_, speed())
        store.sink(id_).mark(Mark(time=1.0, label="half"))
        return id_

    return int(elsewhere(work))


def by_hand(path: Path, statement: str, *values: object) -> object:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchone()


@pytest.mark.parametrize("readonly", [False, True])
def test_what_is_left(path: Path, readonly: bool) -> None:
    began = time.time()
    id_ = die(path)
    with opened(path, readonly=readonly) as store:
        run = store.run(id_)
        assert run is not None and store.runs() == [run]
    assert (run.status, run.reason) == (Status.LOST, "halotui ended without a word")
    assert run.results == (speed(),) and run.marks[0].label == "half" and run.environment is not None
    assert run.seconds == 59 / 20
    summary = run.summary
    assert summary is not None
    assert (summary.hertz, summary.samples, summary.seconds) == (20.0, 60, 59 / 20)
    # three seconds of samples were written at once: by the clock they began before the run did
    assert began - 60 / 20 <= summary.began_time <= time.time()
    gtt, memory = summary.track(GTT), summary.track(RAM)
    assert gtt is not None and (gtt.baseline, gtt.peak, gtt.last) == (0.0, float(59 << 20), float(59 << 20))
    assert memory is not None and (memory.samples, memory.peak) == (30, 5e9 + 58)
    assert "stored samples" in summary.notes[-1]
    written = by_hand(path, "SELECT status FROM runs")
    assert written == (("running",) if readonly else ("lost",))


def test_killed_before_the_first_sample(path: Path) -> None:
    id_ = die(path, seconds=0)
    with opened(path) as store:
        run = store.run(id_)
    assert run is not None and run.status is Status.LOST and run.summary is None and run.seconds is None


def test_the_box_went_down(path: Path) -> None:
    first, second = die(path), die(path, seconds=0)
    last = by_hand(path, "SELECT max(stored_time) FROM samples")
    assert isinstance(last, tuple)
    by_hand(path, "UPDATE runs SET owner_boot = 'another boot'")
    with opened(path) as store:
        run, other = store.run(first), store.run(second)
    assert run is not None and run.status is Status.LOST
    assert run.reason == f"the box went down at about {time.strftime('%H:%M:%S', time.localtime(last[0]))}"
    assert other is not None and other.reason == "the box went down before the first sample"


def test_another_process_of_that_pid_is_not_the_owner(path: Path) -> None:
    with opened(path) as store:
        id_ = store.begin(template())
        run = store.run(id_)
        assert run is not None and run.status is Status.RUNNING
        by_hand(path, "UPDATE runs SET owner_ticks = owner_ticks - 1")
        run = store.run(id_)
        assert run is not None and run.status is Status.LOST


def test_filters_know_the_lost(path: Path) -> None:
    id_ = die(path)
    with opened(path, readonly=True) as store:
        assert store.runs(statuses=(Status.RUNNING,)) == []
        assert [run.id for run in store.runs(statuses=(Status.LOST,))] == [id_]


def test_an_owner_that_was_buried_alive_has_the_last_word(path: Path) -> None:
    """Measured in a container, looked at from outside: the pid means nothing there."""
    with opened(path) as owner:
        id_ = owner.begin(template())
        owner.sink(id_).write(block(0))
        by_hand(path, "UPDATE runs SET owner_pid = 4194303")
        with opened(path) as other:
            run = other.run(id_)
            assert run is not None and run.status is Status.LOST
        owner.sink(id_).write(block(1))
        owner.result(id_, speed())
        owner.finish(id_, ended())
        run = owner.run(id_)
        assert run is not None and (run.status, run.reason, run.seconds) == (Status.OK, "", 3.5)
        assert len(owner.samples(id_)) == 2 and run.results == (speed(),)


def test_a_lost_run_can_be_deleted(path: Path) -> None:
    id_ = die(path)
    with opened(path) as store:
        assert store.delete((id_,)) == 1
        assert store.runs() == [] and store.samples(id_) == []


def test_one_that_was_read_as_lost_and_then_finished(path: Path) -> None:
    """A reader keeps no memory of it."""
    with opened(path) as owner, opened(path, readonly=True) as reader:
        id_ = owner.begin(template())
        by_hand(path, "UPDATE runs SET owner_pid = 4194303")
        run = reader.run(id_)
        assert run is not None and run.status is Status.LOST
        owner.finish(id_, ended())
        run = reader.run(id_)
        assert run is not None and run.status is Status.OK


def test_an_hour_is_summed_in_seconds(path: Path) -> None:
    with opened(path) as store:
        id_ = store.begin(template())
        with closing(sqlite3.connect(path)) as connection, connection:  # an hour of commits is not the point
            from halotui.store import rows

            for second in range(1800):
                rows.add_samples(connection, id_, block(second), time.time())
            connection.execute("UPDATE runs SET owner_pid = 4194303")
        began = time.process_time()
        run = store.run(id_)
        assert time.process_time() - began < 10
        assert run is not None and run.summary is not None and run.summary.samples == 36_000


def test_a_forked_child_owns_what_it_begins(path: Path) -> None:
    store = open_store(path)

    def work() -> object:
        mine = open_store(path)
        return mine.begin(template()), os.getpid()

    elsewhere(work)
    (run,) = store.runs()
    assert run.status is Status.LOST
    store.close()
