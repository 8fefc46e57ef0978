"""The player: the frames of a recording at their pace, to any time, from event to event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tapes import BEGIN, kept, second, write

from halotui.history import LENGTH, History
from halotui.model import Frame
from halotui.recording.file import RecordingError, Writer
from halotui.recording.index import Recording
from halotui.recording.player import SPEEDS, ReplayFeed
from halotui.recording.redact import redacted
from halotui.runs import Mark

PATIENCE = 10.0


async def soon(coming: AsyncIterator[Frame]) -> Frame:
    async with asyncio.timeout(PATIENCE):
        return await anext(coming)


async def nothing_for(seconds: float, coming: AsyncIterator[Frame]) -> asyncio.Task[Frame]:
    """The feed waits; whoever asked keeps waiting."""
    task = asyncio.ensure_future(anext(coming))
    done, _ = await asyncio.wait({task}, timeout=seconds)
    assert not done
    return task


def seconds_of(frame: Frame) -> int:
    return round(frame.time - BEGIN)


def rings(history: History, frame: Frame) -> list[list[float | None]]:
    (gpu,) = frame.gpus
    ring = history.series(gpu.id, "gpu.socket_power_watts")
    assert ring
    return [history.times.last(LENGTH), ring.last(LENGTH)]


async def test_it_plays_all_frames_in_order_and_waits_at_the_end(
    tmp_path: Path, demo_frames: list[Frame]
) -> None:
    player = ReplayFeed(write(tmp_path / "demo.halo", demo_frames), speed=64.0)
    coming = player.frames()
    played = [await soon(coming) for _ in demo_frames]
    assert kept(played) == kept(demo_frames)
    assert played == [redacted(frame) for frame in demo_frames]
    waiting = await nothing_for(0.1, coming)
    assert not player.playing and player.position == player.end
    player.play()  # from the beginning
    assert (await waiting).time == player.begin == player.position
    assert player.playing
    await player.close()


async def test_its_pace_is_that_of_the_frames_times_speed(tmp_path: Path) -> None:
    player = ReplayFeed(write(tmp_path / "pace.halo", [second(n) for n in range(40)]), speed=8.0)
    coming = player.frames()
    await soon(coming)
    began = time.monotonic()
    for _ in range(8):
        await soon(coming)
    slow = time.monotonic() - began
    player.faster(3)
    assert player.speed == 64.0
    began = time.monotonic()
    for _ in range(8):
        await soon(coming)
    fast = time.monotonic() - began
    assert slow >= 0.95  # 8 s at 8x
    assert fast < slow / 2
    await player.close()


def test_speeds_have_ends(tmp_path: Path) -> None:
    player = ReplayFeed(write(tmp_path / "speed.halo", [second(0)]), speed=1000.0)
    assert player.speed == SPEEDS[-1] == 64.0
    player.faster(1)
    assert player.speed == 64.0
    player.faster(-20)
    assert player.speed == SPEEDS[0] == 0.25


async def test_a_gap_is_jumped(tmp_path: Path) -> None:
    frames = [*(second(n) for n in range(70)), *(second(7200 + n) for n in range(70))]
    player = ReplayFeed(write(tmp_path / "gap.halo", frames), at=BEGIN + 68, speed=16.0)
    (gap,) = player.events
    assert (gap.kind, gap.time, gap.until_time) == ("gap", BEGIN + 69, BEGIN + 7200)
    assert "2 h" in gap.label or "1 h 58" in gap.label
    coming = player.frames()
    assert [seconds_of(await soon(coming)) for _ in range(4)] == [68, 69, 7200, 7201]
    await player.close()


async def test_a_seek_fills_the_history_with_what_was_before(tmp_path: Path) -> None:
    frames = [second(n) for n in range(1300)]
    player = ReplayFeed(write(tmp_path / "long.halo", frames, flush_every=60), speed=64.0)
    player.pause()
    coming = player.frames()
    first = await soon(coming)
    assert seconds_of(first) == 0 and not player.playing
    history, generation = player.history, player.generation
    for target, number in ((BEGIN + 1100.7, 1100), (BEGIN + 5, 5), (0.0, 0), (9e9, 1299)):
        player.seek(target)
        assert player.position == BEGIN + number  # at once: keys are pressed faster than frames are read
        frame = await soon(coming)
        assert seconds_of(frame) == number
        assert player.generation > generation and player.history is not history
        history, generation = player.history, player.generation
        wanted = History()
        for before in frames[: number + 1]:
            wanted.push(before)
        assert rings(player.history, frame) == rings(wanted, frame)
    (await nothing_for(0.1, coming)).cancel()  # still paused
    await player.close()


async def test_steps_pause_and_the_next_frame_needs_no_new_history(tmp_path: Path) -> None:
    player = ReplayFeed(write(tmp_path / "step.halo", [second(n) for n in range(200)]), at=BEGIN + 100)
    coming = player.frames()
    await soon(coming)
    assert player.playing
    generation = player.generation
    player.step(1)
    assert not player.playing
    assert seconds_of(await soon(coming)) == 101
    assert player.generation == generation
    player.step(-1)
    player.step(-1)  # both count
    assert seconds_of(await soon(coming)) == 99
    assert player.generation == generation + 1
    player.step(-1000)
    assert seconds_of(await soon(coming)) == 0
    player.step(150)
    assert seconds_of(await soon(coming)) == 150
    assert player.history.times.last(LENGTH)[-1] == BEGIN + 150
    await player.close()


def tape_with_events(path: Path) -> Path:
    def items() -> list[Frame | Mark]:
        rows: list[Frame | Mark] = []
        for n in range(300):
            findings = [
                *(["standing"] if n < 20 else []),
                *(["spec-decay"] if 50 <= n < 130 else []),
                *(["gtt-full"] if n in (200, 210) else []),
            ]
            rows.append(second(n, *findings))
            if n == 100:
                rows.append(Mark(time=BEGIN + 100.4, label="here"))
        return rows

    return write(path, items())


def test_findings_marks_and_gaps_are_events(tmp_path: Path) -> None:
    player = ReplayFeed(tape_with_events(tmp_path / "events.halo"))
    told = [
        (e.kind, e.label.partition(":")[0], round(e.time - BEGIN, 1), e.until_time and e.until_time - BEGIN)
        for e in player.events
    ]
    assert told == [
        ("finding", "standing", 0, 19),
        ("finding", "spec-decay", 50, 129),  # over three blocks, and one
        ("mark", "here", 100.4, None),
        ("finding", "gtt-full", 200, 200),
        ("finding", "gtt-full", 210, 210),
    ]
    assert player.events[1].severity == "warning"


async def test_from_event_to_event(tmp_path: Path) -> None:
    player = ReplayFeed(tape_with_events(tmp_path / "events.halo"), at=BEGIN + 30)
    player.pause()
    coming = player.frames()
    await soon(coming)
    seen = []
    while (event := player.to_event(1)) is not None:
        frame = await soon(coming)
        seen.append((event.label.partition(":")[0], seconds_of(frame)))
        assert event.kind == "mark" or [f for f in frame.findings if event.label.startswith(f.id)]
    assert seen == [("spec-decay", 50), ("here", 100), ("gtt-full", 200), ("gtt-full", 210)]
    assert player.to_event(1) is None
    back = []
    while (event := player.to_event(-1)) is not None:
        back.append(seconds_of(await soon(coming)))
    assert back == [200, 100, 50, 0]
    player.seek(BEGIN + 100.9)
    await soon(coming)
    previous = player.to_event(-1)
    assert previous is not None and seconds_of(await soon(coming)) in (50, 100)
    await player.close()


async def test_keys_pressed_meanwhile_count_once_the_last_one_is_there(tmp_path: Path) -> None:
    player = ReplayFeed(write(tmp_path / "keys.halo", [second(n) for n in range(1200)], flush_every=60))
    coming = player.frames()
    await soon(coming)
    task = asyncio.ensure_future(anext(coming))
    for _ in range(10):
        player.seek(player.position + 100)
        await asyncio.sleep(0)
    assert seconds_of(await task) == 1000
    await player.close()


async def test_segments_in_a_row_are_one_recording(tmp_path: Path) -> None:
    parts = [
        write(tmp_path / f"{part}.halo", [second(n) for n in range(100 * part, 100 * part + 100)])
        for part in range(3)
    ]
    player = ReplayFeed(parts[::-1], speed=64.0, at=BEGIN + 98)
    assert (player.begin, player.end) == (BEGIN, BEGIN + 299)
    assert player.events == []
    coming = player.frames()
    assert [seconds_of(await soon(coming)) for _ in range(4)] == [98, 99, 100, 101]
    await player.close()


async def test_what_another_process_is_writing_opens_to_what_is_there(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "live.halo")
    for n in range(10):
        writer.frame(second(n))
    writer.flush()
    player = ReplayFeed(writer.path)
    assert player.recording.live
    writer.frame(second(10))
    writer.flush()
    assert player.end == BEGIN + 9
    writer.close()
    await player.close()


@pytest.mark.parametrize("raw", [b"", b"\x89halo", b"no recording"])
def test_without_a_frame_there_is_nothing_to_play(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "empty.halo"
    path.write_bytes(raw)
    with pytest.raises(RecordingError, match=r"empty\.halo: (holds no frame|is no recording)"):
        ReplayFeed(path)


def test_a_clock_that_was_put_back_stops_nothing(tmp_path: Path) -> None:
    frames = [*(second(1000 + n) for n in range(70)), *(second(n) for n in range(70))]
    recording = Recording([write(tmp_path / "back.halo", frames)])
    assert [frame.time for frame in recording.run(0, 140)] == [frame.time for frame in frames]
    assert recording.frame(recording.at(BEGIN + 30)).time == BEGIN + 30
    recording.close()


def test_a_long_one_opens_and_seeks_quickly(tmp_path: Path) -> None:
    """Four hours; bench/recorder.py measures a day."""
    path = write(tmp_path / "night.halo", [second(n) for n in range(14_400)], flush_every=60)
    began = time.process_time()
    recording = Recording([path])
    opened = time.process_time() - began
    assert recording.frames == 14_400
    began = time.process_time()
    number = recording.at(BEGIN + 10_000.5)
    before = list(recording.run(number + 1 - LENGTH, number + 1))
    sought = time.process_time() - began
    assert before[-1].time == BEGIN + 10_000
    assert opened < 1.0 and sought < 0.5
    recording.close()
