"""Following files that grow, rotate, shrink, hide or are none, and standard input."""

# ruff: noqa: ASYNC240 (small files in a temporary directory)

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halotui.collectors import log_follow
from halotui.collectors.log_follow import (
    GAP,
    LONGEST_LINE,
    Backlog,
    Lines,
    LogFollower,
    StdinFollower,
    gap,
)
from halotui.model import SourceState, Unavailable


def cut(block: bytes) -> list[bytes]:
    assert not block or block.endswith(b"\n")
    return block.split(b"\n")[:-1]


def add(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


@pytest.fixture
async def log(path: Path) -> AsyncIterator[LogFollower]:
    follower = LogFollower(path, head_bytes=100, tail_bytes=200)
    yield follower
    await follower.close()


async def test_lines_as_they_come(log: LogFollower, path: Path) -> None:
    path.write_bytes(b"one\ntwo\n")
    assert await log.read() == b"one\ntwo\n"
    assert await log.read() == b""
    add(path, b"three\nfo")
    assert await log.read() == b"three\n"
    add(path, b"ur\n\n")
    assert await log.read() == b"four\n\n"


async def test_a_quiet_log_costs_no_read(
    log: LogFollower, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(b"one\n")
    await log.read()
    monkeypatch.setattr(log, "_take", None)
    assert await log.read() == b""


async def test_a_long_log_gives_its_head_and_tail_alone(log: LogFollower, path: Path) -> None:
    lines = [b"line %05d" % n for n in range(1000)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    read = cut(await log.read())
    mark = next(n for n, line in enumerate(read) if line.startswith(GAP))
    assert read[:mark] == lines[:9]  # 100 bytes
    assert read[mark + 1 :] == lines[-18:]  # 200 bytes
    assert log.past
    add(path, b"more\n")
    assert await log.read() == b"more\n" and not log.past


async def test_a_tail_that_begins_with_a_line_keeps_it(log: LogFollower, path: Path) -> None:
    lines = [b"line %04d" % n for n in range(1000)]  # 10 bytes each: 20 fill the tail
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert cut(await log.read())[-20:] == lines[-20:]


async def test_a_huge_log_is_not_read(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 << 30)  # sparse
    add(path, b"\nlast\n")
    log = LogFollower(path)
    assert cut(await log.read())[-1] == b"last"
    await log.close()


async def test_a_rotated_log_is_read_to_its_end(log: LogFollower, path: Path) -> None:
    path.write_bytes(b"one\n")
    await log.read()
    add(path, b"two\nunfinished")
    path.rename(path.with_suffix(".1"))
    path.write_bytes(b"three\n")
    assert await log.read() == b"two\nunfinished\n"
    assert await log.read() == b"three\n"


async def test_a_log_whose_server_was_told_nothing_of_the_rotation(log: LogFollower, path: Path) -> None:
    path.write_bytes(b"one\n")
    await log.read()
    renamed = path.rename(path.with_suffix(".1"))
    path.touch()
    assert log.holds(renamed) and not log.holds(path)
    assert await log.read() == b""
    add(renamed, b"two\n")
    assert await log.read() == b"two\n"


async def test_a_log_rotated_into_a_long_one_is_read_from_its_start(log: LogFollower, path: Path) -> None:
    path.write_bytes(b"one\n")
    await log.read()
    path.unlink()
    path.with_suffix(".new").write_bytes(b"x" * 98 + b"\n" + b"line\n" * 100)
    path.with_suffix(".new").rename(path)
    assert await log.read() == b""
    assert len(cut(await log.read())) == 101


async def test_a_truncated_log_is_read_from_its_start(log: LogFollower, path: Path) -> None:
    path.write_bytes(b"one\ntwo\nunfinished")
    await log.read()
    path.write_bytes(b"new\n")
    assert await log.read() == b"unfinished\nnew\n"


async def test_a_log_removed_under_us_is_still_followed(log: LogFollower, path: Path) -> None:
    path.write_bytes(b"one\n")
    with path.open("ab") as writer:
        await log.read()
        path.unlink()
        assert await log.read() == b""
        writer.write(b"two\n")
        writer.flush()
        assert await log.read() == b"two\n"


async def test_an_absent_log_may_appear(log: LogFollower, path: Path) -> None:
    with pytest.raises(Unavailable) as absent:
        await log.read()
    assert absent.value.state is SourceState.ABSENT
    assert "--log" in absent.value.hint
    path.write_bytes(b"x" * 400 + b"\none\n")
    assert await log.read() == b"x" * 400 + b"\none\n"  # all of it is new
    assert not log.past


async def test_a_log_that_is_not_ours(log: LogFollower, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"one\n")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(log_follow.os, "open", refuse)  # root may read everything
        with pytest.raises(Unavailable) as denied:
            await log.read()
    assert denied.value.state is SourceState.DENIED
    assert "setfacl" in denied.value.hint
    assert await log.read() == b"one\n"


@pytest.mark.parametrize("kind", ["fifo", "directory", "device"])
async def test_what_is_no_file_neither_hangs_nor_is_read(kind: str, path: Path) -> None:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    log = LogFollower(path)
    with pytest.raises(Unavailable) as failed:
        await asyncio.wait_for(log.read(), 5)
    assert failed.value.state is SourceState.FAILED


async def test_a_file_that_becomes_a_fifo_between_look_and_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="regular"):
        log_follow._open(str(tmp_path / "fifo"), os.O_RDONLY)


async def test_the_file_a_process_writes_to(path: Path) -> None:
    with path.open("wb") as writer:
        log = LogFollower(f"/proc/{os.getpid()}/fd/{writer.fileno()}")
        writer.write(b"one\n")
        writer.flush()
        assert await log.read() == b"one\n"
        await log.close()


async def test_a_burst_is_read_in_parts(
    log: LogFollower, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_follow, "MOST_PER_READ", 12)
    path.write_bytes(b"")
    await log.read()
    add(path, b"one\ntwo\nthree\nfour\n")
    assert await log.read() == b"one\ntwo\n"
    assert await log.read() == b"three\nfour\n"


async def test_far_behind_it_skips_ahead_and_says_so(
    log: LogFollower, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_follow, "MOST_BEHIND", 1000)
    path.write_bytes(b"unfinished ")
    await log.read()
    lines = [b"line %05d" % n for n in range(1000)]
    add(path, b"\n".join(lines) + b"\n")
    mark, *rest = cut(await log.read())
    assert mark.startswith(GAP)
    assert rest == lines[-18:]


async def test_a_line_longer_than_a_read_costs_what_follows_nothing(
    log: LogFollower, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_follow, "MOST_PER_READ", 1000)
    monkeypatch.setattr(log_follow, "LONGEST_LINE", 100)
    path.write_bytes(b"")
    await log.read()
    add(path, b"x" * 5000 + b"\nnext\n")
    assert await log.read() + await log.read() == b"x" * 100 + b"\nnext\n"


def test_a_line_without_end_is_cut() -> None:
    lines = Lines()
    assert lines.feed(b"x" * LONGEST_LINE) == b""
    assert lines.feed(b"xx") == b"x" * LONGEST_LINE + b"\n"
    assert lines.feed(b"x" * 10_000_000) == b""
    assert lines.feed(b"x\nnext\n") == b"next\n"


@given(
    st.lists(st.sampled_from([b"\n", b"a", b"\r", b"\xff\x00", b"12345678", b"x" * 9]), max_size=60),
    st.lists(st.integers(1, 30), max_size=60),
)
def test_lines_do_not_depend_on_how_they_arrive(parts: list[bytes], cuts: list[int]) -> None:
    """Whatever the bytes, wherever they are split: each line once, whole, or its first 64 KiB (here 16)."""
    data, cutter, read, at = b"".join(parts), Lines(), b"", 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_follow, "LONGEST_LINE", 16)
        for size in [*cuts, len(data)]:
            block = cutter.feed(data[at : at + size])
            assert not block or block.endswith(b"\n")
            read, at = read + block, at + size
        read += cutter.end()
    *whole, rest = data.split(b"\n")
    wanted = [line[:16] for line in [*whole, *([rest] if rest else [])]]
    assert read == b"".join(line + b"\n" for line in wanted)


@given(st.lists(st.integers(0, 300), max_size=80), st.integers(0, 40))
def test_what_waits_is_the_newest_and_the_rest_is_counted(sizes: list[int], asked_at: int) -> None:
    backlog, taken, put = Backlog(), b"", b""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("MOST_WAITING", 2000), ("MOST_PER_READ", 500), ("LONGEST_LINE", 100)):
            patch.setattr(log_follow, name, value)
        for number, size in enumerate(sizes):
            block = b"%d" % (number % 10) * size + b"\n"
            put += block
            backlog.put(block)
            assert backlog._size <= 2000
            if number == asked_at:
                taken += backlog.take()
        while block := backlog.take():
            assert len(block) <= 500 + 301 + len(gap(10**6))
            taken += block
    skipped = sum(int(line.split()[-2]) for line in cut(taken) if line.startswith(GAP))
    left = b"".join(line + b"\n" for line in cut(taken) if not line.startswith(GAP))
    assert len(left) + skipped == len(put)
    assert put.endswith(left[-1500:])


# Standard input


async def settle(stdin: StdinFollower, wanted: int) -> bytes:
    block = b""
    async with asyncio.timeout(5):
        while block.count(b"\n") < wanted:
            block += await stdin.read()
            await asyncio.sleep(0.001)
    return block


async def test_a_pipe_and_its_end() -> None:
    ours, theirs = os.pipe()
    stdin = StdinFollower(ours)
    assert await stdin.read() == b""
    os.write(theirs, b"one\ntw")
    assert await settle(stdin, 1) == b"one\n" and not stdin.past
    os.write(theirs, b"o\nlast")
    os.close(theirs)
    assert await settle(stdin, 2) == b"two\nlast\n"
    assert await stdin.read() == b""
    await stdin.close()
    os.close(ours)


async def test_what_is_in_a_pipe_at_first_is_past() -> None:
    ours, theirs = os.pipe()
    os.write(theirs, b"old\n")
    stdin = StdinFollower(ours)
    assert await stdin.read() == b"old\n" and stdin.past
    os.write(theirs, b"new\n")
    assert await settle(stdin, 1) == b"new\n" and not stdin.past
    await stdin.close()
    os.close(ours)
    os.close(theirs)


async def test_a_pipe_is_emptied_without_read_and_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_follow, "MOST_WAITING", 100_000)
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    stdin = StdinFollower(ours)
    await stdin.read()
    for n in range(300):  # 300 kB: more than a pipe and more than we keep
        os.write(theirs, b"%04d" % n + b"x" * 995 + b"\n")
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    mark, *rest = cut(await stdin.read())
    assert mark.startswith(GAP)
    assert rest[-1].startswith(b"0299")
    assert len(rest) == 300 - int(mark.split()[-2]) // 1000 <= 100
    await stdin.close()
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("content", [b"", b"one\ntwo\n"])
async def test_a_file_as_standard_input(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with path.open("rb") as file:
        stdin = StdinFollower(file.fileno())
        assert await stdin.read() == content and stdin.past
        assert await stdin.read() == b""
        await stdin.close()


async def test_a_terminal_as_standard_input_is_no_log() -> None:
    leader, terminal = os.openpty()
    with pytest.raises(Unavailable) as absent:
        await StdinFollower(terminal).read()
    assert absent.value.state is SourceState.ABSENT
    os.close(leader)
    os.close(terminal)


async def test_a_closed_standard_input_is_no_log() -> None:
    with pytest.raises(Unavailable):
        await StdinFollower(987).read()
