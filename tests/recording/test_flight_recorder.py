"""The flight recorder: its death costs a second at most, and a disk that refuses stops nobody."""

from __future__ import annotations

import os
import random
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tapes import BEGIN, frames_of, kept, second, write

from halotui.model import Frame
from halotui.recording.file import Reader, Writer
from halotui.recording.player import ReplayFeed
from halotui.recording.recorded import RecordedFeed
from halotui.recording.recorder import FileRecorder, FlightRecorder
from halotui.recording.scribe import WAITING, Scribe
from halotui.recording.segments import Segments, listed, of_session
from halotui.recording.sessions import last, sessions
from halotui.runs import Mark

CHILD = (sys.executable, str(Path(__file__).with_name("recording_child.py")))
SMALL_DISK = """mount -t tmpfs -o size=64k halotui "$1" || exit
"$2" "$3" fill "$1"; code=$?; cp -r "$1/flight" "$4"; exit $code"""


def until(done: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "never"
        time.sleep(0.02)


def all_frames(directory: Path) -> list[bytes]:
    return [raw for path in listed(directory) for raw in frames_of(path)]


def test_it_keeps_what_it_takes_in_private(tmp_path: Path) -> None:
    directory = tmp_path / "state" / "flight"
    recorder = FlightRecorder(directory, 8)
    recorder.mark(Mark(time=BEGIN, label="before any frame"))
    frames = [second(number) for number in range(5)]
    for frame in frames:
        recorder.take(frame)
    assert recorder.close()
    assert recorder.trouble is None
    (path,) = listed(directory)
    assert frames_of(path) == kept(frames)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    with Reader(path) as reader:
        assert [mark.label for mark in reader.scan().blocks[0].digest.marks] == ["before any frame"]


def test_without_a_frame_there_is_no_file(tmp_path: Path) -> None:
    FlightRecorder(tmp_path / "flight", 8).close()
    assert not (tmp_path / "flight").exists()


def test_a_frame_is_on_the_disk_within_a_second(tmp_path: Path) -> None:
    recorder = FlightRecorder(tmp_path, 8)
    for number in range(3):
        given = time.monotonic()
        recorder.take(second(number))
        until(lambda n=number: len(all_frames(tmp_path)) == n + 1)  # type: ignore[misc]
        assert time.monotonic() - given < 2.0  # a second, on a machine that has nothing else to do
    recorder.close()


def test_taking_does_not_wait(tmp_path: Path) -> None:
    """A sink that hangs: the frames go on, the oldest make room."""
    released = []

    class Hung:
        def put(self, item: Frame | Mark) -> None:
            until(lambda: bool(released), 60)

        def flush(self) -> None:
            pass

        def close(self) -> None:
            pass

    scribe = Scribe(Hung(), "hung")
    frame = second(0)
    began = time.monotonic()
    for _ in range(3 * WAITING):
        scribe.take(frame)
    assert time.monotonic() - began < 1.0
    assert len(scribe._items) == WAITING
    assert not scribe.close(0.1)  # nor does who quits
    released.append(True)
    scribe._thread.join(10)


@pytest.mark.slow
def test_a_kill_costs_the_last_second_at_most(tmp_path: Path) -> None:
    chance = random.Random(4711)
    for attempt in range(10):
        directory = tmp_path / str(attempt)
        with subprocess.Popen([*CHILD, "run", directory], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout
            first = child.stdout.readline()
            time.sleep(0.4 + 1.4 * chance.random())
            child.send_signal(signal.SIGKILL)
            told = [first, *child.stdout.readlines()]
        times = [float(line.split()[1]) for line in told if line.endswith("\n")]
        (path,) = listed(directory)
        with Reader(path) as reader:
            found = list(reader.scan().frames())
            assert reader.cut_off and not reader.damaged and not reader.live
        older = sum(moment < times[-1] - 1.0 for moment in times)
        assert older <= len(found) <= len(times) + 1, (attempt, older, len(found), len(times))


def on_a_small_disk(directory: Path) -> subprocess.CompletedProcess[str] | None:
    """On a tmpfs of 64 KiB in a namespace, copied out at the end; None where that is not allowed."""
    mounts = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    child = [*mounts, "sh", "-c", SMALL_DISK, "sh", str(directory), *CHILD, str(directory.parent)]
    try:
        done = subprocess.run(child, capture_output=True, text=True, timeout=90)
    except FileNotFoundError:
        return None
    return None if "mount" in done.stderr or "unshare" in done.stderr else done


def with_a_limit(directory: Path) -> subprocess.CompletedProcess[str]:
    child = [*CHILD, "limit", str(directory.parent)]
    return subprocess.run(child, capture_output=True, text=True, timeout=90)


@pytest.mark.slow
@pytest.mark.parametrize("disk", [on_a_small_disk, with_a_limit])
def test_a_full_disk_is_said_and_loses_nothing_once_there_is_room(
    tmp_path: Path, disk: Callable[[Path], subprocess.CompletedProcess[str] | None]
) -> None:
    directory = tmp_path / "small"
    directory.mkdir()
    done = disk(directory) or with_a_limit(directory)
    assert done.returncode == 0, done.stderr
    trouble, given = done.stdout.splitlines()
    assert trouble in ("trouble no space left on device", "trouble file too large")
    (path,) = listed(tmp_path / "flight")
    assert frames_of(path) == kept(second(number) for number in range(int(given.split()[1])))


@pytest.mark.slow
def test_a_directory_that_may_not_be_written_is_said(tmp_path: Path) -> None:
    for above in (tmp_path, *tmp_path.parents):  # for whoever the child becomes
        if above.stat().st_uid == os.geteuid() and above.name.startswith(("pytest-", "popen-", "test_")):
            above.chmod(0o755)
    directory = tmp_path / "denied"
    directory.mkdir()
    done = subprocess.run([*CHILD, "denied", directory], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["trouble permission denied", "given 1"]
    assert all_frames(directory / "flight") == kept([second(0)])


def test_what_waited_too_long_goes_oldest_first_and_the_rest_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes nothing: a limit on the size of this process's files."""
    monkeypatch.setattr("halotui.recording.writer.PENDING", 30_000)
    path = tmp_path / "full.halo"
    writer = Writer(path)
    frames = [second(number) for number in range(1200)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for number, frame in enumerate(frames):
        writer.frame(frame)
        if number < 100:
            writer.flush()
            continue
        if number % 10 == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (writer.size + 7, hard))
            try:
                with pytest.raises(OSError):
                    writer.flush()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.flush()
    assert 0 < writer.lost < 1100
    writer.close()
    found = frames_of(path)
    assert len(found) == len(frames) - writer.lost
    assert found[:60] == kept(frames[:60]) and found[-200:] == kept(frames[-200:])


def heavy(number: int) -> Frame:
    """A frame that does not pack: about 1.3 KB of noise."""
    return second(number, host=random.Random(number).randbytes(1000).hex())


def test_the_oldest_go_when_the_budget_is_used_up(tmp_path: Path) -> None:
    old = write(tmp_path / "20200101T000000.000Z-1.halo", [second(0)])
    live = Writer(tmp_path / "20200101T000001.000Z-2.halo")  # of another process, which is slow
    live.frame(second(0))
    live.flush()
    other = tmp_path / "my notes.halo"
    other.write_text("not ours")
    sink = Segments(tmp_path, 1)
    for number in range(2400):
        sink.put(heavy(number))
        if number % 20 == 19:
            sink.flush()
            time.sleep(0.001)  # two segments do not begin in one millisecond
    sink.close()
    segments = list(listed(tmp_path))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1_100_000
    assert len(segments) > 4
    assert not old.exists() and live.path.exists() and other.exists()
    live.close()
    mine = [path for path in segments if path != live.path]
    assert of_session(mine[2]) == mine
    numbers = [raw for path in mine for raw in frames_of(path)]
    assert numbers == kept(heavy(number) for number in range(2400 - len(numbers), 2400))


def test_several_at_once_keep_one_budget(tmp_path: Path) -> None:
    """What another one is still going to write is room it has, whoever comes later."""
    sinks = [Segments(tmp_path, 1) for _ in range(4)]
    for number in range(900):
        for sink in sinks:
            if number % 20 == 0:
                time.sleep(0.002)  # they are one process: no two segments begin in one millisecond
            sink.put(heavy(number))
            if number % 20 == 19:
                sink.flush()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1_150_000
    for sink in sinks:
        sink.close()


def test_what_cannot_be_written_costs_no_other(tmp_path: Path) -> None:
    recorder = FlightRecorder(tmp_path, 8)
    recorder.take(second(0))
    recorder.take(second(1, host="\udc80"))  # no JSON holds that
    recorder.take(second(2))
    until(lambda: len(all_frames(tmp_path)) == 2)
    assert recorder.close() and recorder.trouble is None
    assert all_frames(tmp_path) == kept([second(0), second(2)])


def test_several_at_once_do_not_meet(tmp_path: Path) -> None:
    recorders = [FlightRecorder(tmp_path, 8) for _ in range(3)]
    for number in range(10):
        for part, recorder in enumerate(recorders):
            recorder.take(second(number, begin=BEGIN + 1000 * part))
    time.sleep(0.01)
    for recorder in recorders:
        assert recorder.close()
        assert recorder.trouble is None
    assert sorted(len(frames_of(path)) for path in listed(tmp_path)) == [10, 10, 10]


async def test_a_recorded_feed_is_the_feed(tmp_path: Path) -> None:
    frames = [second(number) for number in range(20)]
    tape = write(tmp_path / "tape.halo", frames)
    feed = RecordedFeed(ReplayFeed(tape, speed=64.0), FileRecorder(tmp_path / "copy.halo"))
    assert feed.interval == feed.feed.interval
    feed.interval = 2.0
    assert feed.feed.interval == 2.0
    assert feed.history is feed.feed.history
    passing = feed.frames()
    seen = [await anext(passing) for _ in range(20)]
    await feed.close()
    assert kept(seen) == kept(frames) == frames_of(tmp_path / "copy.halo")


def test_the_last_one_is_how_the_box_went_down(tmp_path: Path) -> None:
    day = 86_400.0

    def session(name: str, begin: float, *, cut: bool) -> None:
        path = write(tmp_path / f"{name}.halo", [second(n, begin=begin) for n in range(3)], session=name)
        if cut:
            path.write_bytes(path.read_bytes()[:-5])

    told: list[str] = []
    assert last(sessions(tmp_path / "nowhere", told.append)) is None
    session("20231114T000000.000Z-1", BEGIN, cut=True)
    session("20231114T010000.000Z-2", BEGIN + 3600, cut=False)
    (tmp_path / "20231114T020000.000Z-3.halo").write_text("no recording")
    found = sessions(tmp_path, told.append)
    assert [(s.frames, s.cut_off, s.live) for s in found] == [(3, True, False), (3, False, False)]
    assert last(found) == found[0]  # a look after the reboot is not what went down
    assert len(told) == 1 and "no recording" in told[0]
    session("20231116T000000.000Z-4", BEGIN + 2 * day, cut=False)
    found = sessions(tmp_path, told.append)
    assert last(found) == found[2]  # that was long ago
    live = Writer(tmp_path / "20231116T010000.000Z-5.halo", session="5")
    live.frame(second(0, begin=BEGIN + 2 * day + 60))
    live.flush()
    found = sessions(tmp_path, told.append)
    assert found[3].live and not found[3].cut_off
    assert last(found) == found[2]
    live.close()
