"""Files that cannot be used: one clear line, and nothing of them is touched."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from store_parts import (
    GTT,
    NOBODY,
    block,
    elsewhere,
    ended,
    mounted,
    opened,
    same,
    speed,
    template,
    tmpfs,
)

from halotui.runs import Run, Status, StoreError
from halotui.store import open_store, schema


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def filled(path: Path) -> Path:
    with opened(path) as store:
        for number in range(20):
            id_ = store.begin(template(f"run {number}"))
            store.result(id_, speed())
            for second in range(5):
                store.sink(id_).write(block(second))
            store.finish(id_, ended())
    return path


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir() if file.is_file()}


def refused(path: Path, *, match: str, hint: str = "") -> None:
    """Both ways of opening say so, and leave every file as it was."""
    before = contents(path.parent)
    for readonly in (False, True):
        with pytest.raises(StoreError, match=match) as caught:
            open_store(path, readonly=readonly)
        assert hint in caught.value.hint
        assert "\n" not in caught.value.reason + caught.value.hint
        assert str(path) in caught.value.reason
    assert contents(path.parent) == before


def pragma(path: Path, what: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA {what}")


# --- versions

NOW = max(schema.MIGRATIONS)


def test_a_newer_schema_is_left_alone(filled: Path) -> None:
    pragma(filled, "user_version = 7")
    refused(
        filled,
        match=rf"written by a newer halotui \(schema 7, this one knows {NOW}\)",
        hint="nothing was touched",
    )


STEPS = {
    **schema.MIGRATIONS,
    NOW + 1: ("ALTER TABLE runs ADD COLUMN stars INTEGER", "UPDATE runs SET stars = id * 2"),
    NOW + 2: ("ALTER TABLE runs ADD COLUMN rank INTEGER", "UPDATE runs SET rank = stars + 1"),
}


@pytest.mark.parametrize("readonly", [False, True])
def test_an_older_schema_is_upgraded_step_by_step(
    filled: Path, monkeypatch: pytest.MonkeyPatch, readonly: bool
) -> None:
    with opened(filled) as store:
        before = store.runs()
    monkeypatch.setattr(schema, "MIGRATIONS", STEPS)
    with opened(filled, readonly=readonly) as store:
        assert store.runs() == before
        assert len(store.samples(1)) == 5
    with closing(sqlite3.connect(filled)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (NOW + 2,)
        assert connection.execute("SELECT rank FROM runs WHERE id = 4").fetchone() == (9,)
    monkeypatch.undo()
    refused(filled, match=rf"schema {NOW + 2}, this one knows {NOW}")


def test_a_step_that_fails_undoes_all_of_them(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", {**STEPS, NOW + 2: ("UPDATE runs SET nowhere = 1",)})
    with pytest.raises(StoreError, match="no such column"):
        open_store(filled)
    monkeypatch.undo()
    with opened(filled) as store:  # as it was, without the column of the first step
        assert len(store.runs()) == 20
    with closing(sqlite3.connect(filled)) as connection:
        assert "stars" not in [row[1] for row in connection.execute("PRAGMA table_info(runs)")]


# --- not a store


@pytest.mark.parametrize(
    "data",
    [b"Samples, please\n" * 100, b"\0" * 4096, b"x", os.urandom(9000), b"SQLite format 3\0" + b"\xff" * 200],
    ids=["text", "zeros", "a byte", "noise", "only a head"],
)
def test_something_else(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    refused(path, match="not an SQLite file|damaged")


def test_the_database_of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
        connection.commit()
    refused(path, match="another program", hint="--store")
    pragma(path, "user_version = 1")
    refused(path, match="another program")
    pragma(path, "application_id = 99")
    refused(path, match="another program")


def test_a_directory(path: Path) -> None:
    path.mkdir()
    refused(path, match="is a directory", hint="--store")


def test_a_pipe_that_nobody_writes(path: Path) -> None:
    os.mkfifo(path)
    refused(path, match="not a regular file")


def test_a_link_to_itself(path: Path) -> None:
    path.symlink_to(path)
    refused(path, match=r"store\.sqlite")


def test_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for readonly in (False, True):
        with pytest.raises(StoreError, match="Not a directory"):
            open_store(tmp_path / "file/store.sqlite", readonly=readonly)


def test_an_empty_file_is_a_new_store(path: Path) -> None:
    path.touch()
    with opened(path, readonly=True) as store:
        assert store.runs() == []
    assert path.stat().st_size == 0
    with opened(path) as store:
        assert store.begin(template()) == 1


# --- damaged


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.99])
def test_cut_off(filled: Path, share: float) -> None:
    data = filled.read_bytes()
    filled.write_bytes(data[: int(len(data) * share)])
    refused(filled, match="damaged|not an SQLite file", hint="it is left as it is")


def test_a_damaged_page(filled: Path) -> None:
    """Found when it is read; what does not need it goes on."""
    data = bytearray(filled.read_bytes())
    for page in range(4, len(data) // 4096):
        data[page * 4096 : page * 4096 + 200] = b"\xa5" * 200
    filled.write_bytes(data)
    for readonly in (True, False):
        with suppress(StoreError), opened(filled, readonly=readonly) as store:
            for look in (store.runs, lambda: store.samples(1)):
                with pytest.raises(StoreError, match="damaged") as caught:
                    look()
                assert "recover" in caught.value.hint
    assert filled.read_bytes() == data


def test_the_journal_alone_is_not_thrown_away(filled: Path, tmp_path: Path) -> None:
    """SQLite would take it for a leftover: what was committed since the last checkpoint is in it."""

    def die_with_a_journal() -> object:
        store = open_store(filled)
        store.add(Run(kind=template().kind, status=Status.OK, label="in the journal"))
        return filled.with_name("store.sqlite-wal").stat().st_size

    assert int(elsewhere(die_with_a_journal)) > 0
    away = tmp_path / "away"
    filled.rename(away)
    refused(filled, match="is not there, but what belongs to it", hint="store.sqlite-wal")
    filled.touch()
    refused(filled, match="is empty, but what belongs to it")
    away.replace(filled)
    with opened(filled) as store:
        assert len(store.runs(label="in the journal")) == 1


# --- not ours


@pytest.fixture
def outside(filled: Path) -> Iterator[Path]:
    """The store in a directory that everybody can reach, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(shutil.move(filled, name))


def errors_of(action: Callable[[], object]) -> str:
    try:
        action()
    except (StoreError, OSError) as error:
        return str(error)
    return "no error"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become somebody else")
def test_denied(outside: Path) -> None:
    before = outside.read_bytes()
    for readonly in (False, True):
        said = elsewhere(
            lambda readonly=readonly: errors_of(lambda: open_store(outside, readonly=readonly)), uid=NOBODY
        )
        assert "cannot be opened" in said and "Traceback" not in said
    outside.parent.chmod(0o700)
    for readonly in (False, True):
        said = elsewhere(
            lambda readonly=readonly: errors_of(lambda: open_store(outside, readonly=readonly)), uid=NOBODY
        )
        assert "Permission denied" in said and "Traceback" not in said
    assert outside.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become somebody else")
def test_ours_to_read_but_not_to_write(outside: Path) -> None:
    outside.chmod(0o644)

    def look() -> object:
        with opened(outside, readonly=True) as store:
            return len(store.runs()), len(store.samples(3))

    assert elsewhere(look, uid=NOBODY) == "(20, 5)"
    said = elsewhere(lambda: errors_of(lambda: open_store(outside)), uid=NOBODY)
    assert "may not be written" in said or "cannot be opened" in said
    said = elsewhere(lambda: errors_of(lambda: open_store(outside.parent / "new/store.sqlite")), uid=NOBODY)
    assert "Permission denied" in said


def test_a_read_only_disk(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "4m") as disk:  # type: ignore[attr-defined]
        path = disk / "state/store.sqlite"
        with opened(path) as store:
            id_ = store.begin(template())
            store.sink(id_).write(block(0))
            store.finish(id_, ended())
        os.system(f"mount -o remount,ro {disk}")
        with opened(path, readonly=True) as store:
            assert [run.label for run in store.runs()] == ["Vulkan + FA"]
            assert len(store.samples(id_)) == 1
        for there in (path, disk / "other/store.sqlite"):
            said = errors_of(lambda there=there: open_store(there))
            assert "cannot be opened" in said or "Read-only file system" in said or "not be written" in said


# --- a full disk


def test_a_full_disk(tmp_path: Path) -> None:
    """Writing fails, what was stored is whole, and goes on once there is room."""
    with tmpfs(tmp_path / "disk", "1m") as disk:  # type: ignore[attr-defined]
        path = disk / "state/store.sqlite"
        with opened(path) as store:
            id_ = store.begin(template())
            kept = write_until_it_fails(store.sink(id_).write)
            assert kept > 20
            for act in (
                lambda: store.result(id_, speed()),
                lambda: store.begin(template()),
                lambda: store.finish(id_, ended()),
            ):
                # What is smaller than a block of samples may find a page left, a few times.
                assert "disk is full" in errors_of(lambda act=act: [act() for _ in range(100)])
            assert len(store.samples(id_)) == kept
        with opened(path, readonly=True) as store:
            assert len(store.samples(id_)) == kept


def test_room_again(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "1m") as disk:  # type: ignore[attr-defined]
        ballast = disk / "ballast"
        with opened(disk / "store.sqlite") as store:
            id_ = store.begin(template())
            fill(ballast)
            assert "disk is full" in errors_of(lambda: write_until_it_fails(store.sink(id_).write, most=3000))
            kept = len(store.samples(id_))
            ballast.unlink()
            store.sink(id_).write(block(kept))
            store.finish(id_, ended())
            assert all(same(one, block(second)) for second, one in enumerate(store.samples(id_)))
            assert len(store.samples(id_)) == kept + 1


def test_a_disk_that_was_full_from_the_start(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "1m") as disk:  # type: ignore[attr-defined]
        with opened(disk / "store.sqlite") as store:
            store.begin(template())
            store.finish(1, ended())
        fill(disk / "ballast")
        assert "full" in errors_of(lambda: open_store(disk / "store.sqlite"))
        with opened(disk / "store.sqlite", readonly=True) as store:
            assert len(store.runs()) == 1
        said = errors_of(lambda: open_store(disk / "new/store.sqlite"))
        assert "No space left" in said or "full" in said


def test_a_lost_run_is_told_on_a_full_disk(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "1m") as disk:  # type: ignore[attr-defined]
        path = disk / "store.sqlite"

        def die() -> object:
            store = open_store(path)
            id_ = store.begin(template())
            return write_until_it_fails(store.sink(id_).write)

        kept = int(elsewhere(die))
        with opened(path, readonly=True) as store:
            (run,) = store.runs(statuses=(Status.LOST,))
        assert run.summary is not None and run.summary.samples == kept * 20


def test_a_limit_on_the_size_of_files(path: Path) -> None:
    """As a quota would be."""

    def work() -> object:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        store = open_store(path)
        id_ = store.begin(template())
        return write_until_it_fails(store.sink(id_).write)

    kept = int(elsewhere(work))
    assert kept > 20
    with opened(path) as store:
        (run,) = store.runs()
        assert run.status is Status.LOST and run.summary is not None
        assert run.summary.track(GTT) is not None
        assert len(store.samples(run.id)) == kept


def write_until_it_fails(write: Callable[..., None], most: int = 20_000) -> int:
    """How many were taken; a thousand are not enough to fill it slowly. Raises what ends it, if asked."""
    for second in range(most):
        try:
            write(block(second))
        except OSError:
            if most != 20_000:
                raise
            return second
    raise AssertionError("it never failed")


def fill(file: Path) -> None:
    with suppress(OSError), file.open("wb", buffering=0) as ballast:
        while True:
            ballast.write(b"\0" * 4096)


# --- somebody else is at it


def test_locked_for_long(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.2)
    with opened(filled) as store, closing(sqlite3.connect(filled, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="kept it locked"):
            store.begin(template())
        with pytest.raises(OSError, match="kept it locked"):
            store.sink(1).write(block(0))
        with pytest.raises(StoreError, match="kept it locked"):
            open_store(filled)
        assert len(store.runs()) == 20  # reading does not wait
        with opened(filled, readonly=True) as reader:
            assert len(reader.runs()) == 20
        other.execute("ROLLBACK")
        assert store.begin(template()) == 21


def test_locked_for_a_moment(filled: Path) -> None:
    with opened(filled) as store:
        other = sqlite3.connect(filled, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.3, other.execute, ("ROLLBACK",))
        timer.start()
        assert store.begin(template()) == 21
        timer.join()
        other.close()


def test_interrupted_between_two_statements_nothing_is_half_there(path: Path) -> None:
    """Ctrl-C in the midst of a transaction."""

    def work() -> object:
        store = open_store(path)
        run = Run(
            kind=template().kind, status=Status.OK, results=tuple(speed(f"pp{n}") for n in range(1, 4000))
        )
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            store.add(run)
        except KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, 0)
            return len(store.runs()), store.add(Run(kind=run.kind, status=Status.OK))
        return "too quick"

    assert elsewhere(work) == "(0, 1)"


def test_mounts_are_gone(tmp_path: Path) -> None:
    """The helper of these tests cleans up after itself."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "tmpfs") as disk:
        assert os.path.ismount(disk)
    assert not os.path.ismount(disk)
