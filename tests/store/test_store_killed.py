"""kill -9 at any moment, several writers at once, and a power cut: what has returned is there."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from store_parts import GTT, block, elsewhere, ended, mounted, opened, same, speed, template

from halotui.runs import Run, Status, Store

ROOT = Path(__file__).parents[2]
ROUNDS = 24


def start(path: Path, *more: str) -> subprocess.Popen[str]:
    argv = [sys.executable, str(Path(__file__).parent / "writer.py"), str(path), str(ROOT), *more]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=path.parent.parent)


def check(store: Store, said: list[str]) -> None:
    """Everything that was said to have returned is there, whole, and at most one step more for each."""
    told = Counter(tuple(line.split()) for line in said if line.endswith("\n"))
    ids = sorted(int(id_) for what, *more in told for id_ in more if what == "begin")
    deleted = {int(id_) for what, *more in told for id_ in more if what == "deleted"}
    for id_ in ids:
        run = store.run(id_)
        if id_ in deleted:
            assert run is None
            continue
        if run is None:  # its deletion was under way: only the one before the last
            assert id_ == ids[-1] - 1
            continue
        kept = store.samples(id_)
        for what, there in (("samples", len(kept)), ("result", len(run.results)), ("mark", len(run.marks))):
            assert 0 <= there - told[what, str(id_)] <= 1, (what, id_)
        assert all(same(one, block(second)) for second, one in enumerate(kept))
        assert [one.test for one in run.results] == [
            f"pp{3 * number + 1}" for number in range(len(run.results))
        ]
        if told["finish", str(id_)]:
            assert run.status is Status.OK
        else:
            assert run.status is Status.LOST or id_ == ids[-1]  # its end may have been under way
        if run.status is Status.LOST:
            lost(run, len(kept))


def lost(run: Run, seconds: int) -> None:
    """The summary is that of the samples."""
    if not seconds:
        assert run.summary is None
        return
    assert run.summary is not None
    track = run.summary.track(GTT)
    assert track is not None
    assert run.summary.samples == seconds * 20
    assert track.peak == float((seconds * 20 - 1) << 20)
    assert run.seconds == run.summary.seconds == (seconds * 20 - 1) / 20
    assert run.reason == "halotui ended without a word"


def test_killed_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "state/store.sqlite"
    dice = random.Random()
    total = 0
    for _ in range(ROUNDS):
        writer = start(path)
        assert writer.stdout
        said = [writer.stdout.readline()]
        assert said == ["open\n"]
        time.sleep(dice.uniform(0.0, 0.12))
        writer.kill()
        said += writer.stdout.readlines()
        assert writer.wait() == -signal.SIGKILL
        writer.stdout.close()
        with opened(path, readonly=dice.random() < 0.3) as store:
            check(store, said)
        total += len(said)
    assert total > 10 * ROUNDS  # it was at work when it was killed
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_killed_before_there_is_a_store(tmp_path: Path) -> None:
    """Wherever it was killed while it made the file, the next one goes on."""
    path = tmp_path / "state/store.sqlite"
    dice = random.Random()
    for _ in range(12):
        shutil.rmtree(path.parent, ignore_errors=True)
        pid = os.fork()
        if pid == 0:
            with opened(path):
                os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(dice.uniform(0.0, 0.01))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with opened(path) as store:
            id_ = store.begin(template())
            assert store.run(id_) is not None


def test_several_processes_make_and_fill_one_store(tmp_path: Path) -> None:
    path = tmp_path / "new/store.sqlite"
    go, wait = os.pipe()
    children = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(wait)
                os.read(go, 1)  # all at once, when the other end is closed
                with opened(path) as store:
                    for turn in range(12):
                        id_ = store.begin(template(f"child {number} turn {turn}"))
                        store.sink(id_).write(block(turn))
                        store.result(id_, speed())
                        store.runs(limit=3)
                        store.finish(id_, ended())
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    os.close(go)
    os.close(wait)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 4
    with opened(path) as store:
        runs = store.runs()
        assert {run.label for run in runs} == {f"child {n} turn {t}" for n in range(4) for t in range(12)}
        for run in runs:
            assert run.status is Status.OK and run.results == (speed(),)
            assert same(store.samples(run.id)[0], block(int(run.label.split()[-1])))


def test_a_running_one_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with opened(path) as mine:
        id_ = mine.begin(template())

        def look() -> object:
            with opened(path) as store:
                return [str(run.status) for run in store.runs()]

        assert elsewhere(look) == "['running']"
        mine.finish(id_, ended())
        assert elsewhere(look) == "['ok']"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mkfs.ext4"), reason="needs root and ext4")
def test_a_power_cut(tmp_path: Path) -> None:
    """The store lies on a disk in a file. A copy of that file is what a box would find after a power cut: all
    that the kernel held back is missing, and ext4 has a journal to play."""
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    with disk.open("wb") as file:
        file.truncate(24 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True, capture_output=True)
    with mounted(tmp_path / "mnt", "-o", "loop", str(disk)) as here:
        writer = start(here / "state/store.sqlite", "keep")
        assert writer.stdout
        said: list[str] = []
        try:
            for lines in (3, 1, 25, 40):
                said += [writer.stdout.readline() for _ in range(lines)]
                writer.send_signal(signal.SIGSTOP)
                shutil.copyfile(disk, copy)
                after = tmp_path / "after"
                # what it had said before is in the copy
                with mounted(after, "-o", "loop", str(copy)), opened(after / "state/store.sqlite") as store:
                    power_cut(store, said)
                writer.send_signal(signal.SIGCONT)
        finally:
            writer.kill()
            writer.stdout.close()
            writer.wait()


def power_cut(store: Store, said: list[str]) -> None:
    told = Counter(tuple(line.split()) for line in said)
    for what, *id_ in told:
        if what == "begin":
            run = store.run(int(id_[0]))
            assert run is not None
            assert len(store.samples(run.id)) >= told["samples", id_[0]]
            assert len(run.results) >= told["result", id_[0]]
            assert len(run.marks) >= told["mark", id_[0]]
