"""Following journalctl, podman logs, docker logs: stand-ins that do as those do, and the real journalctl."""

# ruff: noqa: ASYNC110, ASYNC240 (waiting for other processes, small files)

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halotui.collectors import log_commands, log_follow, log_sources
from halotui.collectors.log_commands import CommandFollower
from halotui.collectors.log_follow import GAP
from halotui.hosts.local import LocalHost
from halotui.model import LogPlace, SourceState, Unavailable

# Prints NAME.log, of lines "UNIX_NANOSECONDS STREAM TEXT", as the program does that it is called. As seen of
# journalctl 252, podman 4.3.1 (leaves out the moment of --since itself) and docker 20.10 (does not).
PROGRAM = r"""
import os, signal, sys, time
from pathlib import Path
here, me = Path(sys.argv[0]).parent, Path(sys.argv[0]).name
flags = [a for a in sys.argv[1:] if a.startswith("--")]
value = {a.partition("=")[0]: a.partition("=")[2] for a in flags}
name = value.get("--unit") or sys.argv[-1]
with (here / "calls").open("a") as calls:
    calls.write(f"{os.getpid()} {' '.join(sys.argv)}\n")
log, words = here / f"{name}.log", here / f"{me}.says"
if words.exists():
    sys.stderr.write(words.read_text())
    sys.stderr.flush()
    if me != "journalctl":
        sys.exit(1)
if me != "journalctl" and not log.exists():
    sys.exit(sys.stderr.write(f"Error: No such container: {name}\n") and 1)
since = value.get("--since", "").lstrip("@")
since = int(since.replace(".", "")) * 1000 if since else -1
file = log.open("rb") if log.exists() else None
rest = []
def stamp(nanos):
    if me == "journalctl":
        return b"%d.%06d box llama-server[7]: " % (nanos // 10**9, nanos // 1000 % 10**6)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanos // 10**9))
    return f"{text}.{nanos % 10**9:09}Z ".encode()
def tell(lines):
    for line in lines:
        nanos, stream, text = line.split(b" ", 2)
        asked = int(nanos) - int(nanos) % 1000 if me == "journalctl" else int(nanos)
        if asked > since or (asked == since and me != "podman"):
            out = sys.stderr if stream == b"err" and me != "journalctl" else sys.stdout
            out.buffer.write(stamp(int(nanos)) + text)
            out.flush()
lines = file.readlines() if file else []
newest = value.get("--lines") or value.get("--tail")
tell(lines[-int(newest):] if newest else lines)
if me == "journalctl" and not lines and "--follow" not in flags:
    print("-- No entries --")
while "--follow" in flags:
    tell(file.readlines() if file else ())
    if (here / f"{name}.stop").exists():
        (here / f"{name}.stop").unlink()
        break
    time.sleep(0.01)
"""
START = 1_800_000_000 * 10**9  # Unix nanoseconds


class Box:
    """A directory on PATH with a program in it, and the logs that it tells."""

    def __init__(self, path: Path, program: str) -> None:
        self.path, self.program = path, program
        self.install(f"#!{sys.executable} -SE\n{PROGRAM}")

    def install(self, text: str) -> None:
        script = self.path / self.program
        script.write_text(text)
        script.chmod(0o755)

    def write(self, *lines: tuple[int, str], stream: str = "err", name: str = "llama") -> None:
        """``lines``: milliseconds since START, and a text."""
        with (self.path / f"{name}.log").open("a") as log:
            log.writelines(f"{START + ms * 10**6} {stream} {text}\n" for ms, text in lines)

    def says(self, text: str) -> None:
        (self.path / f"{self.program}.says").write_text(text)

    def stop(self) -> None:
        (self.path / "llama.stop").touch()

    @property
    def calls(self) -> list[list[str]]:
        calls = self.path / "calls"
        return [line.split() for line in calls.read_text().splitlines()] if calls.exists() else []

    @property
    def pids(self) -> list[int]:
        return [int(call[0]) for call in self.calls]

    def place(self, since: float | None = START / 10**9) -> LogPlace:
        if self.program == "journalctl":
            return LogPlace(kind="journal", name="llama", since_time=since)
        return LogPlace(kind="container", name="llama", engine=self.program, since_time=since)

    def follow(self, since: float | None = START / 10**9, now: float = START / 10**9 + 60) -> CommandFollower:
        follower = log_sources.follow(self.place(since), LocalHost(), now)
        assert isinstance(follower, CommandFollower)
        return follower


@pytest.fixture
def box(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(log_commands, "PAUSE", 0.05)
    return Box(tmp_path, getattr(request, "param", "podman"))


every_program = pytest.mark.parametrize("box", ["journalctl", "podman", "docker"], indirect=True)


def texts(block: bytes) -> list[str]:
    assert not block or block.endswith(b"\n")
    return [
        line.decode().rpartition(": " if b"box llama" in line else "Z ")[2]
        for line in block.split(b"\n")[:-1]
    ]


async def until(follower: CommandFollower, done: Callable[[bytes], bool], seconds: float = 10) -> bytes:
    """What it gives until that suffices; what it lacks meanwhile is no matter."""
    read = b""
    async with asyncio.timeout(seconds):
        while not done(read):
            with suppress(Unavailable):
                read += await follower.read()
            await asyncio.sleep(0.005)
    return read


async def trouble(follower: CommandFollower, state: SourceState, seconds: float = 5) -> Unavailable:
    async with asyncio.timeout(seconds):
        while True:
            try:
                await follower.read()
            except Unavailable as told:
                if told.state is state:
                    return told
            await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def gone(*pids: int, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while any(map(alive, pids)):
            await asyncio.sleep(0.01)


COMMANDS = {
    "journalctl": [
        "--output=short-unix --all --unit=llama --since=@1799999998.000000",
        "--output=short-unix --all --unit=llama --follow --no-tail --since=@1800000000.015000",
    ],
    "podman": [
        "logs --timestamps --since=1799999998.000000 -- llama",
        "logs --timestamps --follow --since=1800000000.015000 -- llama",
    ],
}
COMMANDS["docker"] = COMMANDS["podman"]


@every_program
async def test_what_was_there_since_the_start_and_then_what_comes(box: Box) -> None:
    box.write((-100_000, "of a process before"), (10, "one"), (20, "two"))
    follower = box.follow()
    read = await until(follower, lambda read: read.count(b"\n") == 2)
    assert texts(read) == ["one", "two"] and follower.past
    assert read.startswith(b"1800000000.010" if box.program == "journalctl" else b"2027-01-15T08:00:00.01")
    box.write((61_000, "three"), stream="out")
    assert texts(await until(follower, bool)) == ["three"] and not follower.past
    assert await follower.read() == b""
    await follower.close()
    head, follow = (call[2:] for call in box.calls)
    assert [" ".join(head), " ".join(follow)] == COMMANDS[box.program]
    await gone(*box.pids)


@every_program
async def test_it_ends_and_goes_on_without_a_line_twice(box: Box) -> None:
    """A container that is started again: its lines of one moment are cut in two by the end of the program."""
    box.write((10, "one"), (20, "a"), (20, "b"))
    follower = box.follow()
    read = await until(follower, lambda read: read.count(b"\n") == 3)
    box.stop()
    await trouble(follower, SourceState.FAILED)
    box.write((20, "c"), (19, "d, late"), (20, "a"), (30, "end"))
    read += await until(follower, lambda read: b"end" in read)
    assert texts(read) == ["one", "a", "b", "c", "d, late", "a", "end"]
    await follower.close()
    assert len(box.calls) == 3  # head, and twice to follow


async def test_one_that_came_back_and_is_silent_is_well(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_commands, "SETTLED", 0.1)
    box.write((10, "one"))
    follower = box.follow()
    await until(follower, bool)
    box.stop()
    await trouble(follower, SourceState.FAILED)
    async with asyncio.timeout(5):
        while True:
            with suppress(Unavailable):
                assert await follower.read() == b""
                break
            await asyncio.sleep(0.01)
    await follower.close()


@every_program
async def test_a_long_first_answer_is_its_head_and_its_newest_lines(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_commands, "HEAD", 2000)
    monkeypatch.setattr(log_sources, "NEWEST", "50")
    box.write(*((10 * n, f"line {n}") for n in range(200_000)))
    follower = box.follow(now=START / 10**9 + 10_000)
    read = await until(follower, lambda read: b"line 199999" in read)
    lines = texts(read)
    (mark,) = (n for n, line in enumerate(lines) if line.startswith(GAP.decode()))
    assert lines[:mark] == [f"line {n}" for n in range(mark)] and 20 < mark < 100_000
    assert lines[mark + 1 :] == [f"line {n}" for n in range(199_950, 200_000)]
    await follower.close()


@every_program
async def test_head_and_newest_that_meet_leave_no_hole(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_commands, "HEAD", 2000)
    monkeypatch.setattr(log_commands, "RECENT", 3)  # of the head far more lines come again
    box.write(*((10 * n, f"line {n}") for n in range(3000)))
    follower = box.follow()
    read = await until(follower, lambda read: b"line 2999\n" in read)
    assert texts(read) == [f"line {n}" for n in range(3000)]
    await follower.close()


async def test_without_a_start_the_newest_lines_are_read(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_sources, "NEWEST", "3")
    box.write(*((n, f"line {n}") for n in range(9)))
    follower = box.follow(since=None)
    read = await until(follower, lambda read: b"line 8" in read)
    assert texts(read) == ["line 6", "line 7", "line 8"]
    await follower.close()
    assert len(box.calls) == 1


async def test_the_stamps_that_podman_leaves_inside_a_line(box: Box) -> None:
    """It puts a line together again from what it read of it, 8 KiB at a time, with a stamp before each."""
    inner = "2027-01-15T08:00:00.010000123Z "
    box.write((10, f"begin {inner}mid {inner}end 2027-01-15T08:00:00Z"))
    follower = box.follow()
    assert (await until(follower, bool)).endswith(b"00Z begin mid end 2027-01-15T08:00:00Z\n")
    await follower.close()


@every_program
async def test_a_place_with_nothing_to_say_is_no_failure(box: Box) -> None:
    box.write()
    follower = box.follow()
    told = await trouble(follower, SourceState.NO_DATA)
    assert box.program in told.reason and told.hint
    box.write((10, "one"))
    assert texts(await until(follower, bool)) == ["one"]
    assert await follower.read() == b""
    await follower.close()


DENIED = """\
Hint: You are currently not seeing messages from other users and the system.
      Users in groups 'adm', 'systemd-journal' can see all messages.
      Pass -q to turn off this notice.
No journal files were opened due to insufficient permissions.
"""
NO_CONTAINER = 'Error: no container with name or ID "llama" found: no such container\n'
NO_DAEMON = (
    "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock\n"
)


@pytest.mark.parametrize(
    ("box", "words", "state", "hint"),
    [
        ("journalctl", DENIED, SourceState.DENIED, "systemd-journal"),
        ("journalctl", "No journal files were found.\n", SourceState.ABSENT, "--log"),
        ("docker", NO_DAEMON, SourceState.DENIED, "docker"),
        ("podman", NO_CONTAINER, SourceState.ABSENT, "user"),
        ("podman", "Error: \x1b[31msomething\x1b[0m new\n", SourceState.FAILED, "again"),  # as it says itself
    ],
    indirect=["box"],
)  # fmt: skip
async def test_what_a_program_says_of_itself(box: Box, words: str, state: SourceState, hint: str) -> None:
    box.write()
    box.says(words)
    follower = box.follow()
    told = await trouble(follower, state)
    assert hint in told.hint
    assert told.reason.isprintable() and len(told.reason) < 300
    (box.path / f"{box.program}.says").unlink()
    box.write((10, "one"))  # journalctl goes on by itself, the others are started again
    assert texts(await until(follower, bool)) == ["one"]
    await follower.close()


async def test_a_program_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(log_commands, "PAUSE", 0.02)
    follower = log_sources.follow(
        LogPlace(kind="container", name="x", engine="podman"), LocalHost(), time.time()
    )
    with pytest.raises(Unavailable) as absent:
        await follower.read()
    assert absent.value.state is SourceState.ABSENT and "podman" in absent.value.reason and absent.value.hint
    Box(tmp_path, "podman").write((10, "one"), name="x")  # installed meanwhile
    assert isinstance(follower, CommandFollower)
    assert texts(await until(follower, bool)) == ["one"]
    await follower.close()


async def test_it_is_tried_again_later_and_later_and_one_at_a_time(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        assert not any(map(alive, box.pids))  # it has ended before the next is started
        await sleep(0)

    monkeypatch.setattr(log_commands, "PAUSE", 5.0)
    monkeypatch.setattr(log_commands.asyncio, "sleep", note)
    follower = box.follow(since=None)  # there is no such container
    with pytest.raises(Unavailable):
        await follower.read()
    async with asyncio.timeout(10):
        while len(pauses) < 6:
            await sleep(0.01)
    monkeypatch.setattr(log_commands.asyncio, "sleep", sleep)
    assert pauses[:6] == [5, 10, 20, 40, 60, 60]
    await follower.close()


@pytest.mark.parametrize("held", [False, True], ids=["ends", "holds-on"])
async def test_a_closed_follower_leaves_no_child(box: Box, held: bool) -> None:
    """Nor a child's child that holds the pipe and will not be asked to end."""
    ignore = "trap '' TERM HUP\n" if held else ""
    box.install(f"#!/bin/sh\n{ignore}sleep 60 &\nprintf '%s\\n' $$ $! >> {box.path}/calls\nwait\nsleep 60\n")
    follower = box.follow(since=None)
    with pytest.raises(Unavailable):
        await follower.read()
    async with asyncio.timeout(5):
        while len(box.calls) < 2:
            await asyncio.sleep(0.01)
    assert all(map(alive, box.pids))
    await follower.close()
    await follower.close()
    await gone(*box.pids)


KILLED = """
import asyncio, os, signal, sys, time
from halotui.collectors import log_commands, log_sources
from halotui.hosts.local import LocalHost
from halotui.model import LogPlace, Unavailable
async def main():
    place = LogPlace(kind="container", name="llama", engine="podman")
    follower = log_sources.follow(place, LocalHost(), time.time())
    if sys.argv[1] == "loose":
        log_commands.leash = lambda host: ()
    try:
        print(await follower.read())
    except Unavailable as told:
        print(told)
    sys.stdout.flush()
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize("leash", ["tight", "loose"])
def test_a_killed_parent_leaves_no_child(box: Box, leash: str) -> None:
    """On the leash a silent one ends at once; without it, at its next line."""
    if leash == "tight" and not shutil.which("setpriv"):
        pytest.skip("no setpriv")
    box.write((10, "one"))
    parent = subprocess.Popen(
        [sys.executable, "-c", KILLED, leash], stdout=subprocess.PIPE, start_new_session=True
    )
    assert parent.stdout is not None
    try:
        assert b"one" in parent.stdout.readline()
        (pid,) = box.pids
        assert alive(pid)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait(5)
        parent.stdout.close()
    try:
        if leash == "loose":
            time.sleep(0.1)
            assert alive(pid)
            box.write((20, "two"))
        asyncio.run(gone(pid))
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def test_a_flood_that_nobody_reads_stays_small(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_follow, "MOST_WAITING", 1 << 20)
    stamp = "2027-01-15T08:00:00.010000000Z"
    loop = f"yes '{stamp} {'x' * 100}' | head -c 20000000; echo; echo '{stamp} last'; exec sleep 60"
    box.install(f"#!/bin/sh\n{loop}\n")
    follower = box.follow(since=None)
    read = await until(follower, lambda read: bool(read), 5)
    async with asyncio.timeout(10):
        while not any(b"last" in block for block in follower._backlog._blocks):
            await asyncio.sleep(0.01)
    assert follower._backlog._size <= 1 << 20
    mark, *rest = texts(read if GAP in read else await follower.read())
    assert mark.startswith(GAP.decode()) and set(rest) <= {"x" * 100, "last"}
    await follower.close()


class Played:
    """A child that has told all it will."""

    pid, returncode = 0, 0

    def __init__(self, told: bytes) -> None:
        self.stdout = asyncio.StreamReader()
        self.stdout.feed_data(told)
        self.stdout.feed_eof()

    async def wait(self) -> int:
        return 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ab")), max_size=40),
    st.lists(st.integers(0, 400), max_size=5),
    st.booleans(),
)
def test_whenever_it_ends_each_line_comes_once(
    steps: list[tuple[int, str]], ends: list[int], inclusive: bool
) -> None:
    """``ends``: where the program dies, in bytes; it may die inside a line. It tells from ``since`` again."""
    moments, now = [], START
    for step, text in steps:
        now += step * 10**6
        moments.append((now, text))

    def told(since: int) -> bytes:
        return b"".join(
            b"%d.%06d box llama-server[7]: %s\n" % (at // 10**9, at // 1000 % 10**6, text.encode())
            for at, text in moments
            if at > since or (inclusive and at == since)
        )

    async def play() -> bytes:
        follower = log_sources.follow(LogPlace(kind="journal", name="x"), LocalHost(), 0)
        assert isinstance(follower, CommandFollower)
        read = b""
        for end in [*ends, 10**6]:
            since = follower._last - log_commands.EARLY if follower._last is not None else -1
            answer = told(since)[:end]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(log_commands, "_start", lambda *_, answer=answer: started(answer))
                await follower._listen(())
            read += b"".join(iter(follower._backlog.take, b""))
        return read

    async def started(answer: bytes) -> Any:
        return Played(answer[: answer.rfind(b"\n") + 1])

    assert asyncio.run(play()) == told(-1)


# The real journalctl, where there is one and the means to write a journal for it.

REMOTE = "/lib/systemd/systemd-journal-remote"
ENTRY = """\
__REALTIME_TIMESTAMP={micros}
__MONOTONIC_TIMESTAMP={monotonic}
_BOOT_ID=0123456789abcdef0123456789abcdef
_MACHINE_ID=0123456789abcdef0123456789abcdef
_HOSTNAME=box
_SYSTEMD_UNIT={unit}
SYSLOG_IDENTIFIER=llama-server
_PID=7
MESSAGE={text}

"""


class Journal:
    def __init__(self, path: Path) -> None:
        self.path, self._count = path, 0

    def write(self, *lines: tuple[float, str], unit: str = "llama.service") -> None:
        """``lines``: Unix seconds, and a text."""
        entries = ""
        for at, text in lines:
            self._count += 1
            entries += ENTRY.format(
                micros=round(at * 1e6), monotonic=10**6 + self._count, unit=unit, text=text
            )
        subprocess.run(
            [REMOTE, "-o", self.path / "remote.journal", "-"],
            input=entries.encode(), check=True, stderr=subprocess.DEVNULL, timeout=10,
        )  # fmt: skip


@pytest.fixture
async def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Journal]:
    real = shutil.which("journalctl")
    if not real or not Path(REMOTE).exists():
        pytest.skip("no journalctl, or no systemd-journal-remote")
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin/journalctl"
    wrapper.write_text(f'#!/bin/sh\nexec {real} -D {tmp_path} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    yield Journal(tmp_path)


async def test_the_real_journalctl(journal: Journal) -> None:
    start = time.time() - 100
    journal.write(
        (start - 60, "of a process before"), (start + 1, "one"), (start + 2, "\x1b[32mI\x1b[0m two")
    )
    journal.write((start + 3, "of another unit"), unit="other.service")
    place = LogPlace(kind="journal", name="llama.service", since_time=start)
    follower = log_sources.follow(place, LocalHost(), time.time())
    assert isinstance(follower, CommandFollower)
    read = await until(follower, lambda read: read.count(b"\n") >= 2)
    first, second = read.split(b"\n")[:-1]
    assert first == b"%.6f box llama-server[7]: one" % (round(1e6 * (start + 1)) / 1e6)
    assert second.endswith(b"]: \x1b[32mI\x1b[0m two") and follower.past
    journal.write((time.time() + 1, "three"))
    assert (await until(follower, bool)).endswith(b"]: three\n") and not follower.past
    await follower.close()


async def test_the_real_journalctl_without_a_line(journal: Journal) -> None:
    journal.write((time.time() - 9, "of another unit"), unit="other.service")
    place = LogPlace(kind="journal", name="llama.service", since_time=time.time() - 99)
    follower = log_sources.follow(place, LocalHost(), time.time())
    assert isinstance(follower, CommandFollower)
    assert "llama.service" in (await trouble(follower, SourceState.NO_DATA)).hint
    await follower.close()
