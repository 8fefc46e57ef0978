"""``P`` and ``m``: a capture begun and ended by a key, kept in the real store where there is one."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest
from acting import GIB, GTT, Box, track

from halotui.benching.on_screen import ScreenRecorder
from halotui.hosts.local_hands import LocalHands
from halotui.runs import Kind, Mark, Status, Store, StoreError
from halotui.store import open_store


class Flight:
    def __init__(self) -> None:
        self.marks: list[Mark] = []

    def mark(self, mark: Mark) -> None:
        self.marks.append(mark)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / "sysfs")


async def test_a_capture_is_kept_whole(box: Box, tmp_path: Path) -> None:
    path, flight = tmp_path / "state/store.sqlite", Flight()
    recorder = ScreenRecorder(box.host, LocalHands(), lambda: open_store(path), flight)
    assert recorder.now() is None
    await recorder.start("load\x1b[2J it")
    box.write("mem_info_gtt_used", 64 * GIB)
    await asyncio.sleep(0.4)
    mark = recorder.mark("loaded")
    under_way = recorder.now()
    assert under_way is not None and under_way.stored and under_way.marks == (mark,)
    assert under_way.label == "load it"
    assert track(under_way.summary, GTT).peak == 64 * GIB
    run = await recorder.stop()
    assert recorder.now() is None
    assert (run.kind, run.status, run.label, run.marks) == (Kind.PEAK, Status.OK, "load it", (mark,))
    assert run.summary is not None and run.seconds == run.summary.seconds and run.id
    assert run.environment is not None and run.environment.kernel
    assert flight.marks == [mark]
    await recorder.close()

    store = open_store(path, readonly=True)
    kept = store.run(run.id)
    assert kept is not None and kept.status is Status.OK and kept.marks == (mark,)
    assert kept.summary == run.summary
    assert sum(len(part.seconds) for part in store.samples(run.id)) == run.summary.samples
    store.close()


async def test_a_second_start_is_refused_and_the_next_is_another_run(box: Box, tmp_path: Path) -> None:
    recorder = ScreenRecorder(box.host, LocalHands(), lambda: open_store(tmp_path / "s"), None)
    await recorder.start("one")
    with pytest.raises(StoreError, match="under way"):
        await recorder.start("two")
    first = await recorder.stop()
    with pytest.raises(StoreError, match="nothing"):
        await recorder.stop()
    await recorder.start("two")
    second = await recorder.stop()
    assert (first.label, second.label) == ("one", "two") and second.id > first.id > 0
    await recorder.close()


async def test_without_a_store_it_measures_all_the_same(box: Box, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    recorder = ScreenRecorder(box.host, LocalHands(), lambda: open_store(tmp_path / "file/store"), None)
    await recorder.start("x")
    under_way = recorder.now()
    assert under_way is not None and not under_way.stored
    assert under_way.summary.notes[0].startswith("not kept: ")
    run = await recorder.stop()
    assert run.id == 0 and run.summary is not None and run.summary.samples >= 1
    assert run.summary.notes[0].startswith("not kept: ")
    await recorder.close()


async def test_close_ends_and_keeps_what_is_under_way(box: Box, tmp_path: Path) -> None:
    recorder = ScreenRecorder(box.host, LocalHands(), lambda: open_store(tmp_path / "s"), None)
    await recorder.start("cut")
    await asyncio.sleep(0.2)
    await recorder.close()
    await recorder.close()
    store = open_store(tmp_path / "s", readonly=True)
    (run,) = store.runs()
    assert run.status is Status.OK and run.summary is not None
    store.close()


async def test_a_mark_without_a_capture_goes_to_the_flight_recorder(box: Box) -> None:
    flight = Flight()

    def none() -> Store:
        raise AssertionError("a mark needs no store")

    recorder = ScreenRecorder(box.host, LocalHands(), none, flight)
    assert recorder.mark("here") == flight.marks[0]
    assert ScreenRecorder(box.host, LocalHands(), none, None).mark("there").label == "there"
    await recorder.close()


async def test_the_loop_is_never_blocked(box: Box, tmp_path: Path) -> None:
    """By a store that takes its time to open."""

    def slowly() -> Store:
        assert threading.current_thread() is not threading.main_thread()
        time.sleep(0.8)
        return open_store(tmp_path / "s")

    recorder = ScreenRecorder(box.host, LocalHands(), slowly, None)
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - began)

    beating = asyncio.create_task(beat())
    await recorder.start("x")
    await recorder.stop()
    beating.cancel()
    await recorder.close()
    assert longest < 0.6
