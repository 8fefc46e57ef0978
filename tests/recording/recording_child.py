"""A process that records until it is killed or its disk is full; says on stdout what it does.

``run DIRECTORY``: twenty frames a second for ever, one line with its number each.
``fill DIRECTORY``: until the disk has no room, some more, then makes room; says how many frames it gave.
``limit DIRECTORY``: the same with a limit on the size of its files instead of a full disk.
``denied DIRECTORY``: as a user who may not write there; then it may.
"""

from __future__ import annotations

import itertools
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from tapes import second

from halotui.recording.recorder import FlightRecorder


def until(done: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "never"
        time.sleep(0.02)


def run(directory: Path) -> None:
    recorder = FlightRecorder(directory, 8)
    for number in itertools.count():
        recorder.take(second(0, begin=time.time()))
        print(number, time.time(), flush=True)
        time.sleep(0.05)


def fill(directory: Path) -> None:
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        for _ in range(100_000):
            file.write(os.urandom(512))
    os.truncate(ballast, max(0, ballast.stat().st_size - 12_288))
    record(directory, ballast.unlink)


def limit(directory: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    record(directory, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard)))


def record(directory: Path, make_room: Callable[[], None]) -> None:
    recorder = FlightRecorder(directory / "flight", 8)
    given = 0

    def give(count: int) -> None:
        nonlocal given
        for _ in range(count):
            recorder.take(second(given))
            given += 1
            time.sleep(0.002)

    end = time.monotonic() + 30
    while not recorder.trouble:
        assert time.monotonic() < end, "the disk is never full"
        give(50)
        time.sleep(0.3)
    print("trouble", recorder.trouble, flush=True)
    give(100)
    time.sleep(1.2)
    assert recorder.trouble
    make_room()
    until(lambda: recorder.trouble is None)
    give(10)
    assert recorder.close()
    print("given", given, flush=True)


def denied(directory: Path) -> None:
    directory.chmod(0o500)
    owner = directory.stat().st_uid
    if os.geteuid() == 0:  # root may write anywhere: be somebody else
        os.chown(directory, 65534, 65534)
        os.seteuid(65534)
    recorder = FlightRecorder(directory / "flight", 8)
    recorder.take(second(0))
    until(lambda: recorder.trouble is not None)
    print("trouble", recorder.trouble, flush=True)
    directory.chmod(0o700)
    until(lambda: recorder.trouble is None)
    assert recorder.close()
    if owner == 0:
        os.seteuid(0)
    print("given", 1, flush=True)


if __name__ == "__main__":
    {"run": run, "fill": fill, "limit": limit, "denied": denied}[sys.argv[1]](Path(sys.argv[2]))
