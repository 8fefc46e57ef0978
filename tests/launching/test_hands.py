"""LocalHands on this machine's own kernel: real children, signals, sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from halotui.hosts.hands import Hands, Identity
from halotui.hosts.local_hands import LocalHands

ENV = {"PATH": os.environ["PATH"]}


class Launched:
    """Launches, and kills at the end."""

    def __init__(self, hands: LocalHands, directory: Path) -> None:
        self.hands = hands
        self.log = directory / "state" / "logs" / "server.log"
        self.all: list[Identity] = []

    async def __call__(self, *argv: str, **env: str) -> Identity:
        who = await self.hands.launch(argv, ENV | env, "/", self.log)
        self.all.append(who)
        return who


@pytest.fixture
def hands() -> LocalHands:
    return LocalHands()


@pytest.fixture
async def launch(hands: LocalHands, tmp_path: Path) -> AsyncIterator[Launched]:
    launched = Launched(hands, tmp_path)
    yield launched
    for who in launched.all:
        hands.signal(who, signal.SIGKILL)
        await until(lambda who=who: not hands.alive(who))


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "never came"
        await asyncio.sleep(0.01)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def test_they_are_hands() -> None:
    hands: Hands = LocalHands()
    assert hands.identify(os.getpid()) == hands.identify(os.getpid()) is not None


async def test_a_command_gives_its_outputs_and_its_code(hands: LocalHands) -> None:
    before = descriptors()
    done = await hands.run(["sh", "-c", r"printf 'a\377b'; echo oops >&2; exit 3"])
    assert (done.code, done.out, done.err) == (3, "a\ufffdb", "oops\n")
    done = await hands.run(["sh", "-c", "kill -KILL $$"])
    assert done.code == -signal.SIGKILL
    done = await hands.run(["sh", "-c", "pwd; echo $WORD; cat"], env=ENV | {"WORD": "said"}, cwd="/usr")
    assert done.out == "/usr\nsaid\n", "and stdin is empty"
    assert descriptors() == before


async def test_a_commands_output_is_bounded(hands: LocalHands) -> None:
    done = await hands.run(["sh", "-c", "head -c 5000000 /dev/zero; head -c 3000000 /dev/zero >&2"])
    assert (len(done.out), len(done.err), done.code) == (1 << 20, 1 << 20, 0)


async def test_a_command_that_is_not_there(hands: LocalHands) -> None:
    before = descriptors()
    with pytest.raises(FileNotFoundError):
        await hands.run(["no-such-command-anywhere"])
    assert descriptors() == before


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_slow_command_is_killed_with_its_children(
    hands: LocalHands, tmp_path: Path, cancelled: bool
) -> None:
    pids, before = tmp_path / "pids", descriptors()
    script = f"sleep 60 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait"
    running = asyncio.ensure_future(hands.run(["sh", "-c", script], seconds=60.0 if cancelled else 1.0))
    await until(pids.exists)
    if cancelled:
        running.cancel()
    with pytest.raises(asyncio.CancelledError if cancelled else TimeoutError):
        await running
    for pid in map(int, pids.read_text().split()):
        await until(lambda pid=pid: state(pid) in ("", "Z"))
    await asyncio.sleep(0.05)
    assert descriptors() == before


async def test_a_command_that_leaves_a_daemon_with_its_pipes_does_not_hold_us(
    hands: LocalHands, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    began = time.monotonic()
    done = await hands.run(["sh", "-c", f"setsid sleep 60 & echo $! > {pid_file}; echo started"], seconds=30)
    try:
        assert (done.code, done.out) == (0, "started\n")
        assert time.monotonic() - began < 10
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


async def test_what_is_launched_stands_alone(launch: Launched) -> None:
    before = descriptors()
    who = await launch("sh", "-c", "echo out; echo err >&2; exec sleep 60")
    assert launch.hands.alive(who) and launch.hands.identify(who.pid) == who
    assert descriptors() == before
    place = Path(f"/proc/{who.pid}")
    await until(lambda: (place / "comm").read_text() == "sleep\n")
    assert os.getsid(who.pid) == os.getpgid(who.pid) == who.pid
    assert (place / "fd/0").readlink() == Path("/dev/null")
    assert sorted(path.name for path in (place / "fd").iterdir()) == ["0", "1", "2"]
    assert launch.log.read_text() == "out\nerr\n"
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (launch.log, *list(launch.log.parents)[:2])]
    assert modes == [0o600, 0o700, 0o700]


async def test_its_log_is_appended_to(launch: Launched) -> None:
    for word in ("one", "two"):
        who = await launch("echo", word)
        await until(lambda who=who: not launch.hands.alive(who))
    assert launch.log.read_text() == "one\ntwo\n"


async def test_its_environment_is_all_of_it(launch: Launched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALOTUI_TEST_OURS", "1")
    who = await launch("env", WORD="said")
    await until(lambda: not launch.hands.alive(who))
    assert "WORD=said" in launch.log.read_text() and "OURS" not in launch.log.read_text()


async def test_what_cannot_be_launched(hands: LocalHands, tmp_path: Path) -> None:
    before = descriptors()
    with pytest.raises(FileNotFoundError):
        await hands.launch(["no-such-command-anywhere"], ENV, "/", tmp_path / "log")
    with pytest.raises(FileNotFoundError):
        await hands.launch(["true"], ENV, str(tmp_path / "absent"), tmp_path / "log")
    with pytest.raises(OSError):
        await hands.launch(["true"], ENV, "/", Path("/proc/nowhere/log"))
    assert descriptors() == before


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -TERM $$", -15), ("exit 0", 0)])
async def test_the_end_is_told_also_when_asked_late(launch: Launched, script: str, code: int) -> None:
    who = await launch("sh", "-c", script)
    await until(lambda: state(who.pid) == "Z")
    assert launch.hands.identify(who.pid) is None, "a corpse is nobody"
    assert not launch.hands.alive(who)
    assert state(who.pid) == "", "and is buried"
    assert launch.hands.exit_code(who) == launch.hands.exit_code(who) == code
    assert launch.hands.signal(who, signal.SIGTERM) is False


async def test_a_signal_goes_to_that_process_alone(launch: Launched) -> None:
    who = await launch("sleep", "60")
    assert launch.hands.exit_code(who) is None
    for other in (Identity(who.pid, who.ticks - 1, who.boot), Identity(who.pid, who.ticks, "another boot")):
        assert not launch.hands.alive(other)
        assert launch.hands.signal(other, signal.SIGKILL) is False
    assert launch.hands.alive(who)
    assert launch.hands.signal(who, signal.SIGTERM) is True
    await until(lambda: launch.hands.exit_code(who) == -signal.SIGTERM)


async def test_the_marked_ones_are_found_the_oldest_first(launch: Launched) -> None:
    first = await launch("sleep", "60", HALOTUI_LAUNCH="here-1")
    await asyncio.sleep(0.03)
    second = await launch("sleep", "60", HALOTUI_LAUNCH="here-1")
    await launch("sleep", "60", HALOTUI_LAUNCH="here-11")
    await launch("sleep", "60", NOT_HALOTUI_LAUNCH="here-1")
    await until(lambda: launch.hands.marked("here-1") == [first, second])
    launch.hands.signal(first, signal.SIGKILL)
    await until(lambda: launch.hands.marked("here-1") == [second])
    assert launch.hands.marked("here") == []


@pytest.mark.parametrize(
    ("listening", "asked", "taken"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "*", True),
        ("127.0.0.1", "::1,127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", False),
        ("127.0.0.1", "/tmp/llama.sock", False),
        ("127.0.0.1", "no-such-name.invalid", False),
    ],
)
@pytest.mark.parametrize("shared", [False, True])
def test_a_port_that_is_listened_on_is_taken(
    hands: LocalHands, listening: str, asked: str, taken: bool, shared: bool
) -> None:
    """``shared``: with SO_REUSEPORT, where b7347 would bind beside the other without a word."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        listener.bind((listening, 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert hands.port_taken(asked, port) is taken
    assert hands.port_taken(asked, port) is False


def test_lingering_connections_hold_a_port(hands: LocalHands) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            served, _ = listener.accept()
            served.close()  # who closes first has to wait
            assert client.recv(1) == b""
    assert hands.port_taken("127.0.0.1", port) is False
    assert hands.port_taken("127.0.0.1", port, lingering=True) is True


async def test_nothing_is_left_of_us_when_we_go(tmp_path: Path) -> None:
    """The launched one outlives its launcher, and Python has nothing to say about it."""
    script = (
        "import asyncio,sys; from pathlib import Path; from halotui.hosts.local_hands import LocalHands\n"
        "log, env = Path(sys.argv[1]), {'PATH': sys.argv[2]}\n"
        "print(asyncio.run(LocalHands().launch(['sleep', '60'], env, '/', log)).pid)"
    )
    argv = [sys.executable, "-X", "dev", "-c", script, str(tmp_path / "log"), os.environ["PATH"]]
    done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, timeout=60)
    pid = int(done.stdout)
    try:
        assert done.stderr == "" and state(pid) == "S"
    finally:
        os.kill(pid, signal.SIGKILL)
