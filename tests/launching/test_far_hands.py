"""What SshHands say to a far ``sh``, said to those of this box: no ssh between, its stdin all the same."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from halotui.hosts.hands import MARK, Identity
from halotui.hosts.ssh_hands import SshHands

SHELLS = {"dash": ("dash",), "bash": ("bash", "--posix"), "busybox": ("busybox", "sh")}
SECRET = "sk-never-to-be-seen"


class Shell:
    """``SshHost.script``, done here."""

    def __init__(self, *argv: str, procfs: Path = Path("/proc"), path: str = "") -> None:
        self.procfs = procfs
        self._argv = argv
        self._env = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}

    def script(self, text: str, seconds: float) -> tuple[int, bytes, bytes]:
        done = subprocess.run(
            self._argv, input=os.fsencode(text), capture_output=True, timeout=seconds, env=self._env
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(params=SHELLS)
def hands(request: pytest.FixtureRequest) -> SshHands:
    argv = SHELLS[request.param]
    if shutil.which(argv[0]) is None:
        pytest.skip(f"no {argv[0]} here")
    return SshHands(Shell(*argv))


@pytest.fixture
def mark() -> Iterator[str]:
    """Of what a test launches: nothing of it is left."""
    mark = uuid4().hex
    yield mark
    for who in SshHands(Shell("sh")).marked(mark):
        os.kill(who.pid, signal.SIGKILL)


async def test_a_launch_is_exact_and_found_again(hands: SshHands, mark: str, tmp_path: Path) -> None:
    log = tmp_path / "new dir" / "it's a.log"
    env = {
        "PATH": os.environ["PATH"],
        "LLAMA_API_KEY": SECRET,
        MARK: mark,
        "ODD": 'it\'s\n"x" $HOME \\n \udcff',
        "IFS": "x",
        "PWD": "/no",
        "OPTIND": "z",
        "UID": "7",
    }
    who = await hands.launch(["sleep", "60"], env, str(tmp_path), log)
    until(lambda: hands.marked(mark) == [who])
    assert facts(who.pid) == (
        {os.fsencode(f"{name}={value}") for name, value in env.items()},
        str(tmp_path),
        [os.devnull, str(log), str(log)],
        0o600,
    )
    assert os.getsid(who.pid) == who.pid and hands.marked(mark[:-1]) == []
    assert hands.identify(who.pid) == who and hands.alive(who) and hands.exit_code(who) is None
    for other in (Identity(who.pid, who.ticks + 1, who.boot), Identity(who.pid, who.ticks, "another")):
        assert not hands.alive(other) and not hands.signal(other, signal.SIGKILL)
    assert hands.signal(who, signal.SIGTERM)
    until(lambda: not hands.alive(who))
    assert not hands.signal(who, signal.SIGTERM) and hands.identify(who.pid) is None


def facts(pid: int) -> tuple[set[bytes], str, list[str], int]:
    place = Path(f"/proc/{pid}")
    files = [str((place / f"fd/{number}").readlink()) for number in range(3)]
    environ = set((place / "environ").read_bytes().split(b"\0")) - {b""}
    return environ, str((place / "cwd").readlink()), files, Path(files[1]).stat().st_mode & 0o777


async def test_what_cannot_be_launched_is_said(hands: SshHands, tmp_path: Path) -> None:
    env, log = {"PATH": os.environ["PATH"]}, tmp_path / "log"
    for argv, cwd, to in (
        (["/none/llama-server"], "/", log),
        (["no-such-program"], "/", log),
        (["true"], "/none", log),
        (["true"], "/", Path("/proc/none/log")),
    ):
        with pytest.raises(OSError) as refused:
            await hands.launch(argv, env, cwd, to)
        assert refused.value.strerror and not isinstance(refused.value, ConnectionError)
        assert refused.value.filename in (argv[0], cwd, str(to))


async def test_a_command_is_run_to_its_end(hands: SshHands) -> None:
    env = {"PATH": os.environ["PATH"], "A": "b  c"}
    done = await hands.run(["sh", "-c", 'echo "$A"; pwd; echo no >&2; exit 7'], env=env, cwd="/usr")
    assert (done.code, done.out, done.err) == (7, "b  c\n/usr\n", "no\n")
    assert (await hands.run(["sh", "-c", "kill -9 $$"])).code == -9
    with pytest.raises(FileNotFoundError):
        await hands.run(["no-such-program"])
    with pytest.raises(TimeoutError):
        await hands.run(["sh", "-c", "sleep 60; true"], seconds=0.5)


async def test_one_that_stays_shows_nothing(hands: SshHands, mark: str) -> None:
    who = await asyncio.to_thread(
        hands.stay, f"trap 'exit 3' TERM; k={SECRET}; while :; do sleep 1; done", mark
    )
    assert hands.alive(who) and who in hands.marked(mark)
    assert SECRET.encode() not in command_line(who.pid)
    assert hands.signal(who, signal.SIGTERM)
    until(lambda: not hands.alive(who))


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize(
    ("family", "at", "taken"),
    [
        (socket.AF_INET, "127.0.0.1", {"127.0.0.1", "localhost", "0.0.0.0", "name.of.ours"}),
        (socket.AF_INET6, "::1", {"localhost", "::1", "0.0.0.0", "name.of.ours"}),
        (
            socket.AF_INET,
            "0.0.0.0",
            {"127.0.0.1", "localhost", "0.0.0.0", "::1", "192.0.2.1", "name.of.ours"},
        ),
    ],
)
def test_a_port_is_taken_by_the_kernels_word(family: int, at: str, taken: set[str]) -> None:
    hands = SshHands(Shell("sh"))
    names = ("127.0.0.1", "localhost", "::1", "0.0.0.0", "192.0.2.1", "name.of.ours")
    with socket.socket(family) as listener:
        listener.bind((at, 0))
        port = listener.getsockname()[1]
        assert not hands.port_taken(at, port)
        listener.listen()
        assert {name for name in names if hands.port_taken(name, port)} == taken
        assert not hands.port_taken("/run/llama.sock", port)


async def test_where_a_logout_would_kill_it_a_scope_is_taken(mark: str, tmp_path: Path) -> None:
    """busctl and systemd-run are stand-ins; so is /proc, but for what is asked of our own control group."""
    proc, bin_ = tmp_path / "proc", tmp_path / "bin"
    for place in (proc / "self", bin_):
        place.mkdir(parents=True)
    (proc / "sys").symlink_to("/proc/sys")
    (proc / "self/cgroup").write_text("0::/user.slice/user-1000.slice/session-3.scope\n")
    tool(
        bin_ / "systemd-run",
        f'echo "$@" >>{tmp_path}/calls; while [ "${{1#-}}" != "$1" ]; do shift; done\nexec "$@"',
    )
    for answer, calls in (("b false", 0), ("b true", 1)):
        tool(bin_ / "busctl", f"echo {answer}")
        hands = SshHands(Shell("sh", procfs=proc, path=str(bin_)))
        env = {"PATH": os.environ["PATH"], MARK: mark, "LLAMA_API_KEY": SECRET}
        await hands.launch(["sleep", "60"], env, "/", tmp_path / "log")
        found = tmp_path / "calls"
        said = found.read_text().splitlines() if found.exists() else []
        assert len(said) == calls and all(line.startswith("--user --scope") for line in said)
        assert SECRET not in "".join(said)
    until(lambda: len(SshHands(Shell("sh")).marked(mark)) == 2)


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def tool(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
