"""The format: byte for byte, cut anywhere, torn anywhere, appended to, and not for us."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapes import BEGIN, frames_of, kept, second, write

from halotui.model import (
    Finding,
    Frame,
    Gpu,
    LogLine,
    Memory,
    Server,
    ServerState,
    Severity,
    Source,
    SourceState,
)
from halotui.recording import chunks
from halotui.recording.file import Reader, RecordingError, Writer
from halotui.recording.frames import frame_of
from halotui.recording.redact import redacted
from halotui.recording.writer import BLOCK
from halotui.runs import Mark

WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
COUNT = st.integers(-(2**63), 2**63 - 1)


def maybe(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | strategy


LINES = st.builds(LogLine, text=WORDS, level=st.sampled_from(["info", "warning", "error", "debug"]))
FRAMES = st.builds(
    Frame,
    schema_version=st.just(1),
    time=st.floats(0, 4e9),
    host=WORDS,
    gpus=st.lists(
        st.builds(Gpu, id=WORDS, source=WORDS, gtt_used_bytes=maybe(COUNT), busy_percent=maybe(NUMBER)),
        max_size=2,
    ).map(tuple),
    memory=maybe(st.builds(Memory, total_bytes=COUNT, used_bytes=maybe(COUNT))),
    servers=st.lists(
        st.builds(
            Server,
            url=WORDS,
            state=st.sampled_from(ServerState),
            model=maybe(WORDS),
            generation_tokens_per_second=maybe(NUMBER),
            log=st.lists(LINES, max_size=3).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    findings=st.lists(
        st.builds(
            Finding,
            id=WORDS,
            severity=st.sampled_from(Severity),
            title=WORDS,
            evidence=WORDS,
            why=WORDS,
            fix=WORDS,
            patch=maybe(st.dictionaries(WORDS, WORDS | COUNT | st.booleans() | st.none(), max_size=2)),
        ),
        max_size=2,
    ).map(tuple),
    sources=st.lists(st.builds(Source, id=WORDS, state=st.sampled_from(SourceState)), max_size=2).map(tuple),
)


@settings(max_examples=60)
@given(frames=st.lists(FRAMES, min_size=1, max_size=8), flush_every=st.integers(1, 4))
def test_any_frames_come_back_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, frames: list[Frame], flush_every: int
) -> None:
    path = write(tmp_path_factory.mktemp("tape") / "any.halo", frames, flush_every=flush_every)
    assert frames_of(path) == kept(frames)


def test_a_real_box_comes_back_byte_for_byte_and_small(tmp_path: Path, demo_frames: list[Frame]) -> None:
    path = write(tmp_path / "demo.halo", demo_frames)
    assert frames_of(path) == kept(demo_frames)
    assert [frame_of(raw) for raw in frames_of(path)] == [redacted(frame) for frame in demo_frames]
    an_hour = path.stat().st_size / len(demo_frames) * 3600
    assert an_hour < 3_000_000


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.halo", [second(0)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_cut_anywhere_leaves_the_frames_before_it(tmp_path: Path) -> None:
    frames = [second(number, begin=BEGIN) for number in range(5)]
    writer = Writer(tmp_path / "whole.halo")
    ends = []  # file size after each frame: cut there or later, and it is whole
    for number, frame in enumerate(frames):
        writer.frame(frame)
        writer.flush()
        ends.append(writer.size)
        if number == 2:
            writer.end_block()
    writer.close()
    whole = (tmp_path / "whole.halo").read_bytes()
    wanted = kept(frames)
    cut = tmp_path / "cut.halo"
    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        with Reader(cut) as reader:
            found = list(reader.scan().frames())
            assert found == wanted[: sum(end <= size for end in ends)], size
            assert reader.cut_off and not reader.damaged, size
        assert cut.read_bytes() == whole[:size]
    with Reader(tmp_path / "whole.halo") as reader:
        assert not reader.scan().cut_off


@settings(max_examples=80)
@given(data=st.data())
def test_damage_costs_the_block_it_is_in(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("damage")
    frames = [second(number) for number in range(4 * BLOCK)]
    path = write(directory / "long.halo", frames, flush_every=BLOCK // 4)
    with Reader(path) as reader:
        blocks = reader.scan().blocks
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(blocks[0].offset, len(raw) - 30))
    garbage = data.draw(st.binary(min_size=1, max_size=25).filter(lambda new: raw[at : at + len(new)] != new))
    raw[at : at + len(garbage)] = garbage
    path.write_bytes(raw)
    hit = {
        number for number, block in enumerate(blocks) if block.offset < at + len(garbage) and at < block.end
    }
    wanted = kept(frames)
    found = frames_of(path)
    sound = [raw for n, raw in enumerate(wanted) if n // BLOCK not in hit]
    assert [raw for raw in found if raw in set(sound)] == sound
    assert set(found) <= set(wanted)
    assert path.read_bytes() == raw


def test_garbage_between_blocks_is_passed_over_and_known(tmp_path: Path) -> None:
    frames = [second(number) for number in range(2 * BLOCK)]
    path = write(tmp_path / "two.halo", frames)
    with Reader(path) as reader:
        edge = reader.scan().blocks[0].end
    raw = path.read_bytes()
    path.write_bytes(raw[:edge] + b"B" + chunks.SYNC * 3 + b"B\xff\xff\xff\xff garbage" + raw[edge:])
    with Reader(path) as reader:
        assert list(reader.scan().frames()) == kept(frames)
        assert reader.damaged and not reader.cut_off


@pytest.mark.parametrize("size", [0, 5, chunks.HEAD_SIZE, chunks.HEAD_SIZE + 20, -1, -7, None])
def test_a_recording_goes_on_where_another_was_cut_off(tmp_path: Path, size: int | None) -> None:
    first, then = [second(n) for n in range(5)], [second(n) for n in range(10, 15)]
    path = write(tmp_path / "on.halo", first)
    left = path.read_bytes()[:size]
    path.write_bytes(left)
    before = frames_of(path)
    write(path, then, append=True)
    assert path.read_bytes().startswith(left)  # nothing that was there is lost
    assert frames_of(path) == before + kept(then)
    with Reader(path) as reader:
        assert not reader.scan().cut_off


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = write(tmp_path / "there.halo", [second(0)])
    raw = path.read_bytes()
    with pytest.raises(RecordingError, match="is there already"):
        Writer(path)
    assert path.read_bytes() == raw


def test_one_writer_at_a_time_and_readers_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "live.halo"
    writer = Writer(path)
    writer.frame(second(0))
    writer.flush()
    with pytest.raises(RecordingError, match="another process"):
        Writer(path, append=True)
    with Reader(path) as reader:
        assert reader.live
        assert list(reader.scan().frames()) == kept([second(0)])
    writer.frame(second(1))
    writer.close()
    with Reader(path) as reader:
        assert not reader.live
        assert len(list(reader.scan().frames())) == 2


def newer_format(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(chunks.head(2) + raw[chunks.HEAD_SIZE :])


def newer_frames(path: Path) -> None:
    header = chunks.pack(chunks.HEADER, b'{"schema_version":99,"host":"halo","started":1.5,"new":true}')
    path.write_bytes(chunks.head() + header)


def text(path: Path) -> None:
    path.write_text('{"schema_version":1}\n')


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (newer_format, "its format is 2"),
        (newer_frames, "its frames are 99"),
        (text, "no recording"),
        (directory, "is no file|is a directory"),
        (pipe, "is no file"),
        (Path.unlink, "no such file"),
    ],
)
def test_what_is_not_ours_to_read_is_said_in_one_line(tmp_path: Path, spoil: object, words: str) -> None:
    path = write(tmp_path / "odd.halo", [second(0)])
    spoil(path)  # type: ignore[operator]
    raw = path.read_bytes() if path.is_file() else None
    with pytest.raises(RecordingError, match=words) as told:
        Reader(path).scan()
    assert "\n" not in told.value.reason
    if raw is not None:
        with pytest.raises(RecordingError, match=words):
            Writer(path, append=True)
        assert path.read_bytes() == raw


@settings(max_examples=150)
@given(st.binary(max_size=400), st.booleans())
def test_no_bytes_at_all_are_too_odd(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, headed: bool
) -> None:
    path = tmp_path_factory.mktemp("odd") / "odd.halo"
    path.write_bytes((chunks.head() if headed else b"") + raw)
    try:
        with Reader(path) as reader:
            list(reader.scan().frames())
    except RecordingError:
        assert not headed


def test_a_hostile_recording_is_harmless_on_a_terminal(tmp_path: Path) -> None:
    words = "\x1b]0;title\x07\x9b31m\u202ehidden\n"
    path = write(tmp_path / "evil.halo", [second(0, begin=BEGIN)])
    frame = msgspec.structs.replace(second(0), host=words)
    write(tmp_path / "evil2.halo", [frame, Mark(time=BEGIN, label=words)])
    (raw,) = frames_of(tmp_path / "evil2.halo")
    shown = frame_of(raw)
    assert shown.host == "hidden"
    assert msgspec.structs.replace(shown, host="halo") == frame_of(frames_of(path)[0])


def test_a_block_that_unpacks_to_gigabytes_is_a_trap(tmp_path: Path) -> None:
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(packer.compress(b"\0" * (1 << 20)) for _ in range(1024)) + packer.flush(zlib.Z_SYNC_FLUSH)
    path = tmp_path / "bomb.halo"
    path.write_bytes(chunks.head() + chunks.pack(chunks.BLOCK, bomb))
    with Reader(path) as reader:
        assert list(reader.scan().frames()) == []


def test_marks_stand_beside_the_frames(tmp_path: Path) -> None:
    mark = Mark(time=BEGIN + 0.5, label="now")
    path = write(tmp_path / "marked.halo", [second(0), mark, second(1)])
    with Reader(path) as reader:
        (block,) = reader.scan().blocks
        assert block.digest.marks == (mark,)
        kinds = [kind for kind, _ in reader.load(block)]
        assert kinds == [b"F", b"M", b"F"]


def test_a_digest_says_what_is_in_a_block(tmp_path: Path) -> None:
    frames = [second(n, *(["hot"] if 3 <= n < 6 else [])) for n in range(10)]
    path = write(tmp_path / "digest.halo", frames)
    torn = tmp_path / "torn.halo"
    torn.write_bytes(path.read_bytes()[:-40])  # without its digest: it is made anew
    for file in (path, torn):
        with Reader(file) as reader:
            (block,) = reader.scan().blocks
        digest = block.digest
        assert (digest.first, digest.last, digest.frames) == (BEGIN, BEGIN + 9, 10)
        (shown,) = digest.shown
        assert (shown.id, shown.begin, shown.end) == ("hot", BEGIN + 3, BEGIN + 5)
        watts = [frame.gpus[0].socket_power_watts or 0.0 for frame in frames]
        range_ = digest.ranges[frames[0].gpus[0].id]["gpu.socket_power_watts"]
        assert range_.count == 10
        assert range_.least == pytest.approx(min(watts), rel=1e-5)
        assert range_.mean == pytest.approx(sum(watts) / 10, rel=1e-5)
        assert range_.most == pytest.approx(max(watts), rel=1e-5)
