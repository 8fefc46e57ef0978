"""What goes in comes out, and stays."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
from store_parts import BOX, block, ended, opened, same, speed, template

from halotui.runs import Environment, Kind, Mark, ProcessPeak, Run, Status, Store, StoreError, Summary, Track
from halotui.store import open_store

SUMMARY = Summary(
    hertz=20,
    began_time=1e9,
    seconds=3.0,
    samples=60,
    late=2,
    tracks=(Track(field="gpu.gtt_used_bytes", subject="0000:c5:00.0", baseline=1.0, peak=5.0, samples=60),),
    processes=(ProcessPeak(pid=7, name="llama-bench", rss_bytes=1 << 30),),
    energy_joules=210.5,
    throttled={"fppt": 3},
    notes=("fdinfo: not ours to read",),
)
WHOLE = Run(
    kind=Kind.IMPORT,
    status=Status.FAILED,
    label="HIP + WMMA",
    command=("llama-bench", "-m", "model.gguf", "\udcff\x1b"),
    env={"ROCBLAS_USE_HIPBLASLT": "1", "EMPTY": ""},
    started_time=1234567890.25,
    seconds=9.5,
    exit_code=-11,
    reason="segmentation fault",
    evidence=("amdgpu: ring gfx timeout", ""),
    environment=BOX,
    results=(speed(), speed("tg128", 52.73)),
    summary=SUMMARY,
    marks=(Mark(time=1.5, label="half"), Mark(time=1.5, label="half")),
    suite="backends",
    series="abc",
    item="hip/pp512",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state/halotui/store.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with opened(path) as store:
        yield store


def test_a_whole_run_comes_back_as_it_was(store: Store, path: Path) -> None:
    id_ = store.add(WHOLE)
    expected = msgspec.structs.replace(WHOLE, id=id_)
    assert store.run(id_) == expected
    store.close()
    with opened(path, readonly=True) as again:
        assert again.run(id_) == expected
        assert again.runs() == [expected]


def test_the_least_run_comes_back_as_it_was(store: Store) -> None:
    run = Run(kind=Kind.PEAK, status=Status.OK)
    assert store.run(store.add(run)) == msgspec.structs.replace(run, id=1)


def test_step_by_step(store: Store) -> None:
    before = time.time()
    id_ = store.begin(template())
    running = store.run(id_)
    assert running is not None
    assert (running.status, running.label, running.environment) == (Status.RUNNING, "Vulkan + FA", BOX)
    assert before <= running.started_time <= time.time()
    sink = store.sink(id_)
    for second in range(3):
        sink.write(block(second))
    sink.mark(Mark(time=5.0, label="warm"))
    store.result(id_, speed())
    # finish knows all results and marks: those that are there are not there twice
    end = msgspec.structs.replace(
        ended(), results=(speed(), speed("tg128")), marks=(Mark(time=5.0, label="warm"),), summary=SUMMARY
    )
    store.finish(id_, end)
    run = store.run(id_)
    assert run is not None
    assert [one.test for one in run.results] == ["pp512", "tg128"]
    assert run.marks == (Mark(time=5.0, label="warm"),)
    assert (run.status, run.seconds, run.exit_code, run.summary) == (Status.OK, 3.5, 0, SUMMARY)
    assert (run.label, run.command, run.environment) == ("Vulkan + FA", ("llama-bench", "-fa", "1"), BOX)
    kept = store.samples(id_)
    assert len(kept) == 3
    assert all(same(one, block(second)) for second, one in enumerate(kept))


def test_two_equal_results_are_two(store: Store) -> None:
    id_ = store.begin(template())
    store.result(id_, speed())
    store.finish(id_, msgspec.structs.replace(ended(), results=(speed(), speed())))
    run = store.run(id_)
    assert run is not None and len(run.results) == 2


def test_columns_may_change_within_a_run(store: Store) -> None:
    id_ = store.begin(template())
    sink = store.sink(id_)
    other = msgspec.structs.replace(block(1), columns=(("gpu.busy_percent", "x"), ("memory.free_bytes", "")))
    for samples in (block(0), other, block(2)):
        sink.write(samples)
    assert all(map(same, store.samples(id_), (block(0), other, block(2))))


def test_what_was_not_begun_cannot_end(store: Store) -> None:
    with pytest.raises(StoreError, match="no run 5"):
        store.finish(5, ended())
    with pytest.raises(StoreError, match="deleted"):
        store.result(5, speed())
    with pytest.raises(OSError, match="deleted"):
        store.sink(5).write(block(0))
    with pytest.raises(ValueError, match="RUNNING"):
        store.add(template())
    assert store.run(5) is None and store.run(0) is None and store.run(10**30) is None
    assert store.samples(10**30) == []
    assert store.runs() == []


def test_an_environment_is_kept_once(store: Store, path: Path) -> None:
    boxes = [BOX, BOX, Environment(host="other"), BOX]
    ids = [store.add(msgspec.structs.replace(WHOLE, environment=box)) for box in boxes]
    assert [run.environment for run in reversed(store.runs())] == boxes
    assert count(path, "environments") == 2
    store.delete((ids[2],))
    assert count(path, "environments") == 1
    assert store.runs()[0].environment == BOX


def test_filters(store: Store) -> None:
    for number, (label, kind, status, suite, series) in enumerate(
        (
            ("Vulkan", Kind.SUITE, Status.OK, "backends", "a"),
            ("Vulkan + FA", Kind.SUITE, Status.HUNG, "backends", "b"),
            ("HIP", Kind.PEAK, Status.OK, "", ""),
            ("CPU", Kind.IMPORT, Status.FAILED, "", ""),
        )
    ):
        store.add(
            Run(
                kind=kind, status=status, label=label, suite=suite, series=series, started_time=100.0 + number
            )
        )

    def labels(**filters: object) -> list[str]:
        return [run.label for run in store.runs(**filters)]  # type: ignore[arg-type]

    assert labels() == ["CPU", "HIP", "Vulkan + FA", "Vulkan"]
    assert labels(limit=2) == ["CPU", "HIP"]
    assert labels(label="Vulkan*") == ["Vulkan + FA", "Vulkan"]
    assert labels(label="vulkan") == []
    assert labels(label="Vulkan*", limit=1) == ["Vulkan + FA"]
    assert labels(kinds=(Kind.PEAK, Kind.IMPORT)) == ["CPU", "HIP"]
    assert labels(statuses=(Status.OK,)) == ["HIP", "Vulkan"]
    assert labels(suite="back*") == ["Vulkan + FA", "Vulkan"]
    assert labels(series="a") == ["Vulkan"]
    assert labels(since=101.0, until=103.0) == ["HIP", "Vulkan + FA"]
    assert labels(since=101.0, statuses=(Status.OK,)) == ["HIP"]


def test_deleting_takes_all_of_it_and_the_id_never_comes_back(store: Store, path: Path) -> None:
    first, second = store.begin(template()), store.add(WHOLE)
    for number in range(200):
        store.sink(first).write(block(number))
    store.result(first, speed())
    store.finish(first, ended())
    store.close()
    full = path.stat().st_size
    with opened(path) as again:
        assert again.delete((first, 77, 10**30)) == 1
        assert again.run(first) is None and again.samples(first) == []
        assert again.run(second) is not None
        assert again.delete((first,)) == 0
        assert [count(path, table) for table in ("samples", "results", "marks")] == [0, 2, 2]
        assert again.delete((second,)) == 1
        assert again.add(WHOLE) > second
    assert path.stat().st_size < full - 30_000  # the room was given back


def test_one_that_runs_is_not_deleted(store: Store) -> None:
    id_ = store.begin(template())
    assert store.delete((id_,)) == 0
    assert store.run(id_) is not None


def test_for_nobody_elses_eyes(path: Path) -> None:
    before = os.umask(0)
    try:
        with opened(path) as store:
            store.begin(template())
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600} and len(modes) == 3
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700


def test_a_store_that_is_not_there_is_empty_to_a_reader(path: Path) -> None:
    with opened(path, readonly=True) as store:
        assert store.runs() == [] and store.run(1) is None and store.samples(1) == []
        for act in (lambda: store.begin(template()), lambda: store.delete((1,)), lambda: store.add(WHOLE)):
            with pytest.raises(StoreError, match="for reading only"):
                act()
    assert not path.parent.exists()


def test_a_reader_writes_nothing(path: Path) -> None:
    with opened(path) as store:
        store.add(WHOLE)
    before = path.read_bytes()
    with opened(path, readonly=True) as store:
        assert len(store.runs()) == 1
        with pytest.raises(StoreError, match="for reading only"):
            store.delete((1,))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_closed_is_closed(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.runs()
    with pytest.raises(OSError, match="closed"):
        store.sink(1).write(block(0))


def test_many_threads(store: Store) -> None:
    ids = [store.begin(template(f"thread {number}")) for number in range(6)]
    troubles: list[BaseException] = []

    def work(id_: int) -> None:
        try:
            for second in range(20):
                store.sink(id_).write(block(second))
                store.result(id_, speed(f"pp{second + 1}"))
                store.runs(limit=2)
            store.finish(id_, ended())
        except BaseException as error:
            troubles.append(error)

    threads = [threading.Thread(target=work, args=(id_,)) for id_ in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not troubles
    for id_ in ids:
        run = store.run(id_)
        assert run is not None and run.status is Status.OK
        assert [one.test for one in run.results] == [f"pp{number + 1}" for number in range(20)]
        assert all(same(one, block(second)) for second, one in enumerate(store.samples(id_)))


def test_two_stores_of_one_process_do_not_take_each_others_locks(path: Path) -> None:
    """Opening the file by hand would: then a third would think it alone and take the journal away."""
    first = open_store(path)
    id_ = first.begin(template())
    for _ in range(3):
        open_store(path).close()
        open_store(path, readonly=True).close()
    first.sink(id_).write(block(0))
    with opened(path, readonly=True) as other:
        assert len(other.samples(id_)) == 1
    first.sink(id_).write(block(1))
    assert len(first.samples(id_)) == 2
    first.close()
    with opened(path, readonly=True) as other:
        assert len(other.samples(id_)) == 2


def test_old_timelines_go_and_their_numbers_stay(path: Path) -> None:
    day = 24 * 3600.0
    with opened(path) as store:
        ids = []
        for age in (0, 10, 40):
            begun = msgspec.structs.replace(template(), started_time=time.time() - age * day)
            ids.append(store.begin(begun))
            store.sink(ids[-1]).write(block(0))
            store.result(ids[-1], speed())
            store.finish(ids[-1], msgspec.structs.replace(ended(), summary=SUMMARY))
        running = store.begin(msgspec.structs.replace(template(), started_time=1000.0))
        store.sink(running).write(block(0))

    def timelines(**options: object) -> list[int]:
        with opened(path, **options) as store:
            for id_ in ids:
                run = store.run(id_)
                assert run is not None and run.summary == SUMMARY and run.results == (speed(),)
            return [id_ for id_ in (*ids, running) if store.samples(id_)]

    assert timelines(timeline_days=30) == [*ids, running]  # swept today already
    swept(path, time.time() - 1.1 * day)
    assert timelines(readonly=True, timeline_days=30) == [*ids, running]
    assert timelines(timeline_days=0) == [*ids, running]
    assert timelines(timeline_days=30) == [ids[0], ids[1], running]
    swept(path, time.time() + 400 * day)  # the clock was wrong
    assert timelines(timeline_days=5) == [ids[0], running]


def test_what_is_damaged_is_left_out_and_said(store: Store, path: Path) -> None:
    id_ = store.add(WHOLE)
    with by_hand(path) as connection:
        connection.execute("UPDATE runs SET summary = '{\"hertz\": tru'")
        connection.execute("UPDATE results SET body = '[1]' WHERE n = 1")
    run = store.run(id_)
    assert run is not None
    assert run.summary is None and [one.test for one in run.results] == ["tg128"]
    assert any("summary of this run cannot be read" in line for line in run.evidence)
    assert any("result 1 of this run cannot be read" in line for line in run.evidence)
    assert run.evidence[:2] == WHOLE.evidence


def test_a_key_of_a_newer_halotui_is_passed_over(store: Store, path: Path) -> None:
    id_ = store.add(WHOLE)
    with by_hand(path) as connection:
        connection.execute("UPDATE runs SET summary = json_set(summary, '$.new_thing', 5)")
        connection.execute("UPDATE results SET body = json_set(body, '$.new_thing', json('[1]'))")
    assert store.run(id_) == msgspec.structs.replace(WHOLE, id=id_)


def test_a_damaged_block_leaves_the_others(store: Store, path: Path) -> None:
    id_ = store.begin(template())
    for second in range(3):
        store.sink(id_).write(block(second))
    with by_hand(path) as connection:
        connection.execute("UPDATE samples SET body = x'00ff' WHERE n = 2")
    assert [one.seconds[0] for one in store.samples(id_)] == [0.0, 2.0]


@contextmanager
def by_hand(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


def count(path: Path, table: str) -> int:
    with by_hand(path) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def swept(path: Path, when: float) -> None:
    with by_hand(path) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'swept_time'", (when,))
