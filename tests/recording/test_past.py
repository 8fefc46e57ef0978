"""The past: by the minute for days, by the frame for minutes; and what outlives its frames."""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tapes import BEGIN, finding, second, write

from builders import GPU, URL, frame, gpu, memory, server, source
from halotui.fields import CHARTED
from halotui.model import Frame, Severity, Slot, SlotPhase, SourceState
from halotui.recording import minutes, past
from halotui.recording.file import Writer
from halotui.recording.past import RecordedPast
from halotui.recording.segments import Segments, listed
from halotui.runs import Event, Kind, Mark, Run, Status
from halotui.store import open_store

HOUR, DAY = 3600.0, 86_400.0
GTT, BUSY = "gpu.gtt_used_bytes", "gpu.busy_percent"
SPIKE = 99.0


def name(begin: float, process: int = 7) -> str:
    return f"{datetime.fromtimestamp(begin, UTC):%Y%m%dT%H%M%S}.000Z-{process}.halo"


def moment(time_: float, busy: float = 50.0, *findings: str, gtt: float = 60.0, fresh: bool = True) -> Frame:
    state = SourceState.OK if fresh else SourceState.STALE
    return frame(
        time_,
        gpus=[gpu(gtt=gtt, busy_percent=busy)],
        memory=memory(available=40),
        servers=[
            server(
                generation_tokens_per_second=20.0, slots=(Slot(id=0, phase=SlotPhase.IDLE, used_tokens=9),)
            )
        ],
        sources=[source("gpu", state), source("memory")],
        findings=[finding(id_) for id_ in findings],
    )


def segment(directory: Path, items: Iterable[Frame | Mark], begin: float, process: int = 7) -> Path:
    path = write(directory / name(begin, process), items, flush_every=30, session=f"s{process}")
    last = minutes.make(path)[0].last
    os.utime(path, (last, last))
    return path


def wave(begin: float, seconds: float, pace: float, spike: float | None = None) -> Iterator[Frame]:
    """Between 40 and 60 %; for one frame at ``spike`` more."""
    for number in range(int(seconds / pace)):
        at = begin + number * pace
        spiked = spike is not None and abs(at - spike) < pace / 2
        yield moment(at, SPIKE if spiked else 50 + 10 * math.sin(number / 40))


@pytest.fixture(scope="module")
def five_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A frame a minute in segments of a day; one spike; the box was off for the third day."""
    directory = tmp_path_factory.mktemp("days")
    for day in (0, 1, 3, 4):
        begin = BEGIN + day * DAY
        segment(directory, wave(begin, DAY, 60.0, BEGIN + 1.5 * DAY), begin)
    return directory


@pytest.fixture(scope="module")
def a_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A frame every ten seconds in segments of an hour."""
    directory = tmp_path_factory.mktemp("day")
    for hour in range(24):
        begin = BEGIN + hour * HOUR
        segment(directory, wave(begin, HOUR, 10.0, BEGIN + 5.5 * HOUR), begin)
    return directory


def test_nothing_was(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "never made"):
        asked = RecordedPast(directory)
        assert asked.span() is None
        assert asked.subjects(0, BEGIN) == []
        assert asked.series(GPU, BUSY, 0, BEGIN, 100) == []
        assert asked.events(0, BEGIN) == []


def test_days_with_their_spike_and_their_hole(five_days: Path) -> None:
    asked = RecordedPast(five_days)
    assert asked.span() == (BEGIN, BEGIN + 5 * DAY - 60)
    found = asked.series(GPU, BUSY, BEGIN, BEGIN + 5 * DAY, 200)
    assert 100 < len(found) <= 200
    assert [bucket.time for bucket in found] == sorted(bucket.time for bucket in found)
    (spiked,) = [bucket for bucket in found if bucket.most == SPIKE]
    assert abs(spiked.time - (BEGIN + 1.5 * DAY)) < 5 * DAY / 200
    assert all(bucket.least <= bucket.mean <= bucket.most for bucket in found)
    assert sum(b.mean for b in found) / len(found) == pytest.approx(50, abs=1)
    assert not [b for b in found if BEGIN + 2 * DAY + HOUR < b.time < BEGIN + 3 * DAY - HOUR]
    (gap,) = asked.events(BEGIN, BEGIN + 5 * DAY)
    assert (gap.kind, gap.time, gap.until_time) == ("gap", BEGIN + 2 * DAY - 60, BEGIN + 3 * DAY)


def test_a_spike_of_one_frame_in_a_block_of_a_minute(tmp_path: Path) -> None:
    segment(tmp_path, wave(BEGIN, 3 * HOUR, 1.0, BEGIN + 4000), BEGIN)
    asked = RecordedPast(tmp_path)
    days = asked.series(GPU, BUSY, BEGIN - 10 * DAY, BEGIN + 10 * DAY, 50)
    assert max(bucket.most for bucket in days) == SPIKE
    hour = asked.series(GPU, BUSY, BEGIN + HOUR, BEGIN + 2 * HOUR, 50)
    (spiked,) = [bucket for bucket in hour if bucket.most == SPIKE]
    assert spiked.time <= BEGIN + 4000 < spiked.time + 72
    near = asked.series(GPU, BUSY, BEGIN + 3990, BEGIN + 4010, 100)
    assert [bucket.time for bucket in near] == [BEGIN + 3990 + n for n in range(21)]  # by the frame
    assert [bucket.most for bucket in near].index(SPIKE) == 10


def test_it_is_quick(a_day: Path) -> None:
    """Bounds for a busy machine; it takes a twentieth of them."""
    asked = RecordedPast(a_day)
    asked.series(GPU, BUSY, BEGIN, BEGIN + DAY, 200)
    for span, most in ((DAY, 1.5), (HOUR, 0.5)):
        began = time.monotonic()
        fresh = RecordedPast(a_day)
        assert fresh.span()
        assert len(fresh.series(GPU, BUSY, BEGIN + DAY - span, BEGIN + DAY, 200)) > 100
        fresh.events(BEGIN + DAY - span, BEGIN + DAY)
        assert time.monotonic() - began < most


def test_every_field_that_has_a_chart_and_any_other_number(tmp_path: Path) -> None:
    segment(tmp_path, [second(number) for number in range(200)], BEGIN)
    asked = RecordedPast(tmp_path)
    pairs = asked.subjects(BEGIN, BEGIN + 200)
    assert {(GPU, GTT), ("memory", "memory.total_bytes"), (URL, "server.generation_tokens_per_second")} <= {
        *pairs
    }
    assert {field for _, field in pairs} & {field.id for field in CHARTED}
    assert (f"{URL}#0", "slot.generated_tokens") in pairs
    assert [subject for subject, _ in pairs] == sorted(
        (subject for subject, _ in pairs), key=[GPU, "memory", "account", URL, f"{URL}#0"].index
    )
    for subject, field in pairs:
        for span in (200, DAY):  # by the frame, by the minute
            assert asked.series(subject, field, BEGIN + 100 - span, BEGIN + 100 + span, 50), (subject, field)
    assert asked.series(f"{URL}#0", "slot.generated_tokens", BEGIN, BEGIN + 200, 500)[7].mean == 7
    assert asked.series(GPU, "gpu.performance_level", BEGIN, BEGIN + 200, 50) == []
    assert asked.series("nobody", "no.field", BEGIN, BEGIN + 200, 50) == []


def test_what_was_late_is_not_there(tmp_path: Path) -> None:
    frames = [moment(BEGIN + n, fresh=not 60 <= n < 120) for n in range(180)]
    segment(tmp_path, frames, BEGIN)
    asked = RecordedPast(tmp_path)
    seen = [bucket.time - BEGIN for bucket in asked.series(GPU, BUSY, BEGIN, BEGIN + 200, 500)]
    assert seen == [*range(60), *range(120, 180)]
    assert len(asked.series(GPU, BUSY, BEGIN - DAY, BEGIN + DAY, 5000)) == 2
    assert len(asked.series("memory", "memory.available_bytes", BEGIN, BEGIN + 200, 500)) == 180


def test_a_block_with_a_hole_is_cut_into_minutes(tmp_path: Path) -> None:
    times = [*range(30), *range(7230, 7259)]
    segment(tmp_path, [moment(BEGIN + at, SPIKE if at > 30 else 1.0) for at in times], BEGIN)
    first, second_ = RecordedPast(tmp_path).series(GPU, BUSY, BEGIN - DAY, BEGIN + DAY, 5000)
    assert (first.time, first.most, second_.time, second_.least) == (BEGIN, 1.0, BEGIN + 7230, SPIKE)


# --- what lies beside a segment


def test_the_minutes_are_kept_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = segment(tmp_path, wave(BEGIN, HOUR, 2.0), BEGIN)
    before = RecordedPast(tmp_path).series(GPU, BUSY, BEGIN, BEGIN + DAY, 100)
    (kept,) = minutes.sidecars(tmp_path)
    assert kept.name == f"{path.name}.minutes"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert list(listed(tmp_path)) == [path]  # no recording
    monkeypatch.setattr(minutes, "make", None)  # nobody may make them again
    assert RecordedPast(tmp_path).series(GPU, BUSY, BEGIN, BEGIN + DAY, 100) == before


@pytest.mark.parametrize("harm", ["cut", "bit", "empty", "other version", "no minutes"])
def test_minutes_that_are_damaged_are_made_again(tmp_path: Path, harm: str) -> None:
    segment(tmp_path, wave(BEGIN, 600, 2.0), BEGIN)
    before = RecordedPast(tmp_path).series(GPU, BUSY, BEGIN, BEGIN + DAY, 100)
    (kept,) = minutes.sidecars(tmp_path)
    raw = kept.read_bytes()
    bad = {
        "cut": raw[: len(raw) // 2],
        "bit": raw[:300] + bytes([raw[300] ^ 1]) + raw[301:],
        "empty": b"",
        "other version": raw[:8] + b"\x63" + raw[9:],
        "no minutes": b"hello",
    }[harm]
    kept.write_bytes(bad)
    assert RecordedPast(tmp_path).series(GPU, BUSY, BEGIN, BEGIN + DAY, 100) == before
    assert kept.read_bytes() == raw


def test_minutes_that_fit_another_segment_are_made_again(tmp_path: Path) -> None:
    path = segment(tmp_path, wave(BEGIN, 600, 2.0), BEGIN)
    asked = RecordedPast(tmp_path)
    assert len(asked.series(GPU, BUSY, BEGIN, BEGIN + DAY, 1000)) == 5  # blocks of two minutes
    write(path, wave(BEGIN + 600, 600, 2.0), flush_every=30, append=True)
    assert len(asked.series(GPU, BUSY, BEGIN, BEGIN + DAY, 1000)) == 10
    assert len(RecordedPast(tmp_path).series(GPU, BUSY, BEGIN, BEGIN + DAY, 1000)) == 10


def test_where_they_cannot_be_kept_the_answer_is_the_same(tmp_path: Path) -> None:
    path = segment(tmp_path, wave(BEGIN, 600, 2.0), BEGIN)
    path.with_name(f"{path.name}.minutes").mkdir()  # root may write into any directory: this stops it too
    asked = RecordedPast(tmp_path)
    assert len(asked.series(GPU, BUSY, BEGIN, BEGIN + DAY, 1000)) == 5
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".")]


def test_minutes_outlive_their_frames(tmp_path: Path) -> None:
    items = [*wave(BEGIN, 600, 1.0, BEGIN + 300), Mark(time=BEGIN + 599, label="the end")]
    path = segment(tmp_path, items, BEGIN)
    minutes.leave(path)
    path.unlink()
    asked = RecordedPast(tmp_path)
    assert asked.span() == (BEGIN, BEGIN + 599)
    for span in (HOUR, DAY):  # also where frames would be asked for
        found = asked.series(GPU, BUSY, BEGIN, BEGIN + span, 1000)
        assert len(found) == 10
        assert max(bucket.most for bucket in found) == SPIKE
    assert [event.label for event in asked.events(BEGIN, BEGIN + HOUR)] == ["the end"]
    (kept,) = minutes.sidecars(tmp_path)
    kept.write_bytes(b"gone bad")
    assert RecordedPast(tmp_path).span() is None
    assert kept.exists()  # it may be of a newer halotui


def test_the_flight_recorder_leaves_minutes_within_a_budget(tmp_path: Path) -> None:
    """A budget of 1 MB: segments of 125 kB, and as much for the minutes of those that went."""
    for number in range(20):
        begin = BEGIN + number * 1000
        frames = (second(n, begin=begin) for n in range(1000))
        segment(tmp_path, frames, begin, process=number + 100)
    total = sum(path.stat().st_size for path in listed(tmp_path))
    assert total > 1_000_000
    before = RecordedPast(tmp_path).span()
    recorder = Segments(tmp_path, 1)
    recorder.put(second(0, begin=BEGIN + 20_000))
    recorder.close()
    left = list(listed(tmp_path))
    assert sum(path.stat().st_size for path in left) <= 1_000_000
    assert left[0].name != name(BEGIN, 100)
    assert sum(path.stat().st_size for path in minutes.sidecars(tmp_path)) <= 125_000
    asked = RecordedPast(tmp_path)
    span = asked.span()
    assert before is not None and span is not None and span[0] == before[0]
    assert asked.series(GPU, GTT, BEGIN, BEGIN + 900, 100)


def test_the_oldest_minutes_go_first_and_litter_too(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{name(BEGIN + number)}.minutes").write_bytes(b"x" * 100)
    old = tmp_path / f".{name(BEGIN)}.minutes.1-2"
    old.write_bytes(b"half")
    os.utime(old, (BEGIN, BEGIN))
    new = tmp_path / f".{name(BEGIN)}.minutes.1-3"
    new.write_bytes(b"being written")
    minutes.trim(tmp_path, 250)
    assert sorted(p.name for p in minutes.sidecars(tmp_path)) == [
        f"{name(BEGIN + n)}.minutes" for n in (3, 4)
    ]
    assert (old.exists(), new.exists()) == (False, True)


# --- while it is written, by several


def test_the_segment_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / name(BEGIN)
    writer = Writer(path, session="s")
    asked = RecordedPast(tmp_path)
    for number in range(150):
        writer.frame(moment(BEGIN + number))
        if number in (10, 130):
            writer.flush()
            os.utime(path, (BEGIN + number, BEGIN + number))
            for span in (HOUR, DAY):
                found = asked.series(GPU, BUSY, BEGIN - 1, BEGIN + span, 5000)
                assert len(found) == (number + 1 if span == HOUR else number // 60 + 1)
            assert asked.span() == (BEGIN, BEGIN + number)
    assert not list(minutes.sidecars(tmp_path))  # it would be old by now
    with path.open("ab") as file:  # a piece that is not whole
        file.write(b"\xf5\xc3\x1f\x8dC\x00\x01")
    assert len(asked.series(GPU, BUSY, BEGIN - 1, BEGIN + HOUR, 5000)) == 131
    writer.close()


def test_several_processes_are_one_past(tmp_path: Path) -> None:
    """One records from 0 to 300, the other from 200 to 400; a third one from 1000 on."""
    segment(tmp_path, [moment(BEGIN + n, 10, "F") for n in range(300)], BEGIN, 1)
    segment(tmp_path, [moment(BEGIN + n, 30, "F") for n in range(200, 400)], BEGIN + 200, 2)
    segment(tmp_path, [moment(BEGIN + n, 50) for n in range(1000, 1100)], BEGIN + 1000, 3)
    asked = RecordedPast(tmp_path)
    found = asked.series(GPU, BUSY, BEGIN, BEGIN + 1100, 11)
    assert [(b.least, b.mean, b.most) for b in found[:4]] == [
        (10, 10, 10),
        (10, 10, 10),
        (10, 20, 30),
        (30, 30, 30),
    ]
    finding_, gap = asked.events(BEGIN, BEGIN + 1100)
    assert (finding_.kind, finding_.time, finding_.until_time) == ("finding", BEGIN, BEGIN + 399)
    assert (gap.kind, gap.time, gap.until_time) == ("gap", BEGIN + 399, BEGIN + 1000)


def test_what_is_no_recording_costs_nothing_else(tmp_path: Path) -> None:
    segment(tmp_path, wave(BEGIN, 100, 1.0), BEGIN)
    (tmp_path / name(BEGIN + 50, 8)).write_bytes(os.urandom(5000))
    (tmp_path / name(BEGIN + 60, 9)).mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "notes.txt.minutes").write_text("mine too")
    asked = RecordedPast(tmp_path)
    assert asked.span() == (BEGIN, BEGIN + 99)
    assert len(asked.series(GPU, BUSY, BEGIN, BEGIN + 100, 500)) == 100


# --- what happened


def test_events_of_findings_marks_and_captures(tmp_path: Path) -> None:
    items: list[Frame | Mark] = []
    for number in range(300):
        items.append(moment(BEGIN + number, 50, *(["spec-decay"] if 50 <= number < 170 else [])))
        if number == 200:
            items.append(Mark(time=BEGIN + 200, label="here"))
    segment(tmp_path / "", items, BEGIN)
    path = tmp_path / "store.sqlite"

    def run(kind: Kind, label: str, at: float, status: Status = Status.OK) -> Run:
        marks = (Mark(time=BEGIN + 200.4, label="here"), Mark(time=BEGIN + 210, label="there"))
        return Run(
            kind=kind,
            label=label,
            status=status,
            started_time=BEGIN + at,
            seconds=30.0,
            marks=marks if kind is Kind.PEAK else (),
        )

    store = open_store(path)
    store.add(run(Kind.PEAK, "big \x1b[31mprompt", 190))
    store.add(run(Kind.COMMAND, "Vulkan", 250, Status.HUNG))
    store.add(run(Kind.IMPORT, "elsewhere", 260))
    store.add(run(Kind.PEAK, "days ago", -5 * DAY))
    store.close()
    asked = RecordedPast(tmp_path, lambda: open_store(path))
    found = asked.events(BEGIN, BEGIN + 300)
    assert [(e.kind, e.label, e.time - BEGIN) for e in found] == [
        ("finding", "spec-decay: spec-decay it is", 50),
        ("capture", "big prompt", 190),
        ("mark", "here", 200),
        ("mark", "there", 210),
        ("capture", "Vulkan: hung", 250),
    ]
    assert found[0] == Event(
        time=BEGIN + 50,
        kind="finding",
        label=found[0].label,
        severity=Severity.WARNING,
        until_time=BEGIN + 169,
    )
    assert [e.label for e in asked.events(BEGIN + 100, BEGIN + 120)] == ["spec-decay: spec-decay it is"]


def test_a_store_that_cannot_be_read_costs_the_captures_alone(tmp_path: Path) -> None:
    segment(tmp_path, [moment(BEGIN), Mark(time=BEGIN, label="here")], BEGIN)
    bad = tmp_path / "store.sqlite"
    bad.write_bytes(b"no database at all" * 100)
    asked = RecordedPast(tmp_path, lambda: open_store(bad))
    assert [event.label for event in asked.events(BEGIN - 1, BEGIN + 1)] == ["here"]


def test_values_of_frames_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment(tmp_path, wave(BEGIN, 600, 1.0), BEGIN)
    asked = RecordedPast(tmp_path)
    before = asked.series(GPU, BUSY, BEGIN, BEGIN + 599, 1000)
    monkeypatch.setattr(past, "values", None)
    assert asked.series(GPU, BUSY, BEGIN, BEGIN + 599, 1000) == before
    assert len(before) == 600
