"""The log of one server: every line, request and event is handed over once, however fast it is written."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from halotui.collectors import log_follow, log_sources
from halotui.collectors.llama_log import Batch
from halotui.hosts.local import LocalHost
from halotui.model import LogPlace, SourceState, Unavailable
from halotui.sampler import log as tap_module
from halotui.sampler.clock import Clock
from halotui.sampler.log import LINES, LogTap, no_log

URL = "http://127.0.0.1:8080"
HERE = LocalHost()
REQUEST = """\
{0}0.00.100.000 I slot launch_slot_: id  0 | task {1} | processing task, is_child = 0
{0}0.00.200.000 I slot print_timing: id  0 | task {1} | prompt eval time = 14.52 ms / 73 tokens ( 0.20 ms per token, 5027.20 tokens per second)
{0}0.00.300.000 I slot print_timing: id  0 | task {1} |        eval time = 370.85 ms / 96 tokens ( 3.90 ms per token, 256.17 tokens per second)
{0}0.00.400.000 I slot      release: id  0 | task {1} | stop processing: n_tokens = 168, truncated = 0
"""  # noqa: E501


def request(task: int, prefix: str = "") -> str:
    return REQUEST.format(prefix, task)


def tap_of(path: Path | str, clock: Clock | None = None, **options: Any) -> LogTap:
    place = LogPlace(kind="stdin" if path == "-" else "file", name=str(path))
    return LogTap(place, clock or Clock(), HERE, **options)


class Ready:
    """A follower that has its blocks at hand, and time that passes with each."""

    past = False

    def __init__(self, *blocks: bytes | Exception, seconds: float = 0.0) -> None:
        self.blocks, self.now, self._seconds = list(blocks), 0.0, seconds

    async def read(self) -> bytes:
        self.now += self._seconds
        block = self.blocks.pop(0) if self.blocks else b""
        if isinstance(block, Exception):
            raise block
        return block

    async def close(self) -> None: ...


def tap_on(follower: Ready, monkeypatch: pytest.MonkeyPatch) -> LogTap:
    monkeypatch.setattr(log_sources, "follow", lambda *_: follower)
    return tap_of("x", Clock(monotonic=lambda: follower.now))


async def test_a_request_once_and_the_past_is_told_apart(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text(request(1))
    tap = tap_of(log)
    assert not tap.alive and tap.catching_up and tap.moved_at is None
    assert await tap.read() and tap.alive and tap.catching_up
    assert tap.moved_at is not None
    (past,) = tap.requests()
    assert (past.task, past.prompt_tokens, past.generation_tokens) == (1, 73, 96)
    with log.open("a") as more:
        more.write(request(2))
    assert await tap.read() and not tap.catching_up
    assert [request.task for request in tap.requests()] == [2]
    assert tap.requests() == () and len(tap.lines()) == 8 and tap.lines() == ()
    moved_at = tap.moved_at
    assert not await tap.read() and tap.moved_at == moved_at
    await tap.close()


async def test_the_time_of_a_line_comes_of_the_start_of_the_process(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text(request(1))
    tap = tap_of(log, started=1_700_000_000.0)
    await tap.read()
    assert [line.time for line in tap.lines()] == [1_700_000_000 + n / 10 for n in (1, 2, 3, 4)]
    assert tap.started == 1_700_000_000
    tap.started = 1_700_000_100.0  # known better now
    with log.open("a") as more:
        more.write(request(2).splitlines(keepends=True)[-1])
    await tap.read()
    assert [line.time for line in tap.lines()] == [1_700_000_100.4]
    await tap.close()


async def test_no_log_has_a_reason_and_comes_later(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    tap = tap_of(log)
    assert tap.source(URL).state is SourceState.NO_DATA
    assert not await tap.read() and not tap.alive
    told = tap.source(URL)
    assert (told.id, told.name, told.state) == (f"log {URL}", "file", SourceState.ABSENT)
    assert told.reason and told.hint
    log.write_text("hello\n")
    assert await tap.read() and tap.alive and not tap.catching_up
    assert tap.source(URL).state is SourceState.OK
    await tap.close()


async def test_a_rotated_log_is_read_on_at_once(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("one\n")
    tap = tap_of(log)
    await tap.read()
    with log.open("a") as more:
        more.write("two\n")
    log.rename(tmp_path / "server.log.1")
    log.write_text("three\n")
    await tap.read()
    assert [line.text for line in tap.lines()] == ["one", "two", "three"]
    await tap.close()


async def test_a_renamed_log_is_the_same_log(tmp_path: Path) -> None:
    log, renamed = tmp_path / "server.log", tmp_path / "server.log.1"
    log.write_text(request(1))
    tap = tap_of(log)
    await tap.read()
    log.rename(renamed)
    log.touch()
    assert not tap.follows(LogPlace(kind="file", name=str(tmp_path / "other")))
    assert tap.follows(LogPlace(kind="file", name=str(renamed), since_time=5.0))
    assert (tap.name, tap.place.name) == (str(renamed), str(renamed))
    log.write_text(request(8))  # another server's now
    with renamed.open("a") as more:
        more.write(request(2))
    await tap.read()
    assert [one.task for one in tap.requests()] == [1, 2]
    await tap.close()


async def test_a_long_log_of_two_runs_has_the_times_of_the_last(tmp_path: Path) -> None:
    """The start of the last is in the part that was left out, and its clock is past that of the first."""
    log, filler = tmp_path / "server.log", "0.00.500.000 I srv  x: y\n" * 40_000
    log.write_text(request(1) + filler + request(9).replace("0.00.", "9.00."))
    tap = tap_of(log, started=1000.0)
    await tap.read()
    assert [(one.task, one.ended_time) for one in tap.requests()] == [(1, None), (9, 1540.4)]
    await tap.close()


async def test_a_long_log_of_two_runs_has_the_facts_of_the_last(tmp_path: Path) -> None:
    start = (
        "0.00.000.487 I srv  llama_server: initializing ...\n{} (abcdef0) with GNU 12.2.0 for Linux x86_64\n"
    )
    filler = "0.01.500.000 I srv  x: y\n" * 40_000
    log = tmp_path / "server.log"
    log.write_text(start.format("build: 1111") + request(1) + filler + start.format("build: 2222") + filler)
    tap = tap_of(log)
    await tap.read()
    assert tap.facts.build == "b2222-abcdef0"
    await tap.close()


async def test_a_flood_leaves_the_newest_lines(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("".join(f"line {i}\n" for i in range(3000)))
    tap = tap_of(log)
    await tap.read()
    lines = tap.lines()
    assert len(lines) == LINES and lines[-1].text == "line 2999"
    await tap.close()


async def test_a_burst_is_read_for_a_while_and_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 0.2 s each: three fill the time of a read. In between, others have their turn."""
    follower = Ready(*(b"line %d\n" % n for n in range(5)), seconds=0.2)
    tap, turns = tap_on(follower, monkeypatch), 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    assert await tap.read()
    assert len(follower.blocks) == 2 and turns >= 3
    assert await tap.read()
    assert not follower.blocks and not await tap.read()
    assert [line.text for line in tap.lines()] == [f"line {n}" for n in range(5)]
    task.cancel()


async def test_what_came_before_a_failure_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Unavailable(SourceState.FAILED, "it ended", "wait")
    tap = tap_on(Ready(b"one\n", gone, ValueError("a fault of ours")), monkeypatch)
    assert await tap.read() and not tap.alive and len(tap.lines()) == 1
    assert tap.source(URL).reason == "it ended"
    assert not await tap.read()
    assert "ValueError" in (tap.source(URL).reason or "") and not tap.alive
    assert not await tap.read() and tap.alive


async def test_a_gap_is_seen_whatever_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = log_follow.gap(12345) + b"\n"
    many = b"".join(b"line %d\n" % n for n in range(3 * LINES))
    tap = tap_on(Ready(mark + b"one\n"), monkeypatch)
    assert await tap.read()
    assert [line.text for line in tap.lines()] == ["halotui: log skipped: 12345 bytes", "one"]  # once
    tap = tap_on(Ready(mark + many), monkeypatch)
    assert await tap.read()
    first, *rest = tap.lines()
    assert (first.text, first.level) == ("halotui: log skipped: 12345 bytes", "warning")
    assert [line.text for line in rest] == [f"line {n}" for n in range(2 * LINES, 3 * LINES)]
    assert not tap.lines()


async def test_what_nobody_takes_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap_module, "KEPT", 10)
    tap = tap_on(Ready(*(request(n).encode() for n in range(50))), monkeypatch)
    await tap.read()
    assert [request.task for request in tap.requests()] == list(range(40, 50))


async def test_a_routers_child_has_a_tap_of_its_own(tmp_path: Path) -> None:
    log = tmp_path / "router.log"
    log.write_text(
        "0.00.050.000 I srv         load: spawning server instance with name=tiny on port 41001\n"
        + request(1, "[41001] ")
        + "0.00.500.000 I srv  proxy_reques: proxying request to model tiny on port 41001\n"
    )
    tap = tap_of(log, started=1_700_000_000.0)
    child = tap.child(41001)
    assert not child.alive and not await child.read()
    assert await tap.read() and tap.requests() == () and len(tap.lines()) == 2
    assert await child.read() and child.alive and child.catching_up and not await child.read()
    (past,) = child.requests()
    assert (past.task, past.generation_tokens) == (1, 96) and child.requests() == ()
    assert child.started == pytest.approx(1_700_000_000.05)
    assert child.lines()[-1].time == pytest.approx(1_700_000_000.45)
    assert child is tap.child(41001) and child.name == tap.name and child.facts is child.server.facts
    with log.open("a") as more:
        more.write(request(2, "[41001] ") + request(7, "[41002] "))
    await tap.read()
    assert await child.read() and not child.catching_up
    assert [request.task for request in child.requests()] == [2]
    assert [request.task for request in tap.child(41002).requests()] == [7]  # asked for after it wrote
    assert child.source(URL).state is SourceState.OK
    await child.close()
    assert not await tap.read() and tap.alive
    await tap.close()


async def test_ports_without_end_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    tap = tap_on(Ready("".join(f"[{port}] x\n" for port in range(1000, 3000)).encode()), monkeypatch)
    await tap.read()
    assert len(tap._children) <= tap_module.CHILDREN


@pytest.mark.parametrize(
    ("place", "name", "label"),
    [
        (LogPlace(kind="file", name="/var/log/llama.log"), "/var/log/llama.log", "file"),
        (LogPlace(kind="stdin", name="-"), "-", "standard input"),
        (LogPlace(kind="journal", name="llama.service", user=True), "journal llama.service", "journal"),
        (LogPlace(kind="container", name="box", engine="docker"), "docker logs box", "docker logs"),
        (LogPlace(kind="container", name="box"), "podman logs box", "podman logs"),
    ],
)
def test_what_a_log_is_called(place: LogPlace, name: str, label: str) -> None:
    tap = LogTap(place, Clock(), HERE)
    assert (tap.name, tap.source(URL).name) == (name, label)
    later = LogPlace(kind=place.kind, name=place.name, user=place.user, engine=place.engine, since_time=5.0)
    assert tap.follows(later) and not tap.follows(LogPlace(kind=place.kind, name="other"))


@pytest.mark.parametrize("goes_to", ["pipe", "tty", "journal", "", "a new word"])
def test_a_server_without_a_log_to_follow(goes_to: str) -> None:
    told = no_log(URL, goes_to)
    assert told.id == f"log {URL}" and told.state is SourceState.ABSENT and told.reason and told.hint
    assert ("--log -" in told.hint) is (goes_to == "pipe")


async def test_what_is_parsed_in_one_go_is_fitted_to_a_breath(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser of 1 MB/s holds the keys up for 10 ms at a time, not for as long as a block takes it."""
    block = b"a line of thirty-two characters\n" * 32768
    follower = Ready(block)
    tap, sizes = tap_on(follower, monkeypatch), []

    def feed(bit: bytes, keep: int) -> Batch:
        last = sum(sizes) % len(block) + len(bit) == len(block)  # only that is shown
        assert bit.endswith(b"\n") and keep == (LINES if last else 0)
        follower.now += len(bit) / speed
        sizes.append(len(bit))
        return Batch()

    monkeypatch.setattr(tap._parser, "feed", feed)
    speed = 1e6
    while sum(sizes) < len(block):
        assert await tap.read()
    assert max(sizes[5:]) <= 16 << 10 and sum(sizes) == len(block)
    follower.blocks, speed = [block], 1e9
    assert await tap.read()
    assert sum(sizes) == 2 * len(block) and max(sizes) > len(block) // 4
    assert not await tap.read()


# 100 MB/s

WRITER = """
import sys, time
block = (sys.argv[2] * (1 + 1000000 // len(sys.argv[2]))).encode()
block = block[: block.rfind(b"\\n") + 1]
with open(sys.argv[1], "ab", buffering=0) as log:
    began = time.monotonic()
    for n in range(int(sys.argv[3])):
        log.write(block)
        time.sleep(max(0.0, began + (n + 1) / 100 - time.monotonic()))
    log.write(b"the end\\n")
"""


@pytest.fixture
def flood(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "flood.log"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


async def test_a_hundred_megabytes_a_second(flood: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read as the sampler does; what is too much is left out, and the parser is told so."""
    monkeypatch.setattr(log_follow, "MOST_BEHIND", 8 << 20)  # as after more seconds than a test has
    tap, before, waits, ended, skipped, read = tap_of(flood), resident(), [0.0], False, 0, 0
    await tap.read()
    feed = tap._parser.feed

    def counted(bit: bytes, keep: int) -> Batch:
        nonlocal skipped, read
        read += len(bit)
        skipped += sum(int(said) for said in re.findall(rb"log skipped: (\d+) bytes", bit))
        began = time.monotonic()
        batch = feed(bit, keep)
        waits.append(time.monotonic() - began)
        return batch

    monkeypatch.setattr(tap._parser, "feed", counted)
    writer = await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, flood, request(1), "150")
    async with asyncio.timeout(30):
        while not ended:
            await tap.read()
            ended = any(line.text == "the end" for line in tap.lines())
            assert all(request.generation_tokens == 96 for request in tap.requests())
            await asyncio.sleep(0.2)
    await writer.wait()
    assert 140e6 < read + skipped < 160e6  # nothing is lost without a word
    assert resident() - before < 60 << 20
    assert sorted(waits)[len(waits) * 9 // 10] < 0.05  # 8 ms on a machine with nothing else to do
    await tap.close()


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
