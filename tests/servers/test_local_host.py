"""LocalHost on this machine's own kernel: real files, processes, sockets and children."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

from halotui.hosts import Host
from halotui.hosts.local import LocalHost
from halotui.hosts.procfs import runs_script

LISTENER = (
    "import socket,sys; s=socket.create_server((sys.argv[1],0),family=int(sys.argv[2]));"
    "print(s.getsockname()[1],flush=True); sys.stdin.read()"
)


def is_alive(pid: int) -> bool:
    """Running: neither gone nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def host() -> LocalHost:
    return LocalHost()


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that listens, and its port."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    argv = [sys.executable, "-c", LISTENER, request.param, str(int(family))]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        line = process.stdout.readline()
        if not line:
            pytest.skip(f"no {request.param} here")
        yield process, int(line)
        process.stdin.close()


def test_it_is_a_host() -> None:
    host: Host = LocalHost()
    assert host.name
    assert (host.sysfs, host.procfs) == (Path("/sys"), Path("/proc"))


@pytest.mark.parametrize("fate", ["kept", "renamed", "removed", "replaced", "a pipe", "no file"])
def test_a_process_tells_the_file_that_stderr_goes_to(host: LocalHost, tmp_path: Path, fate: str) -> None:
    log, other = tmp_path / "server.log", tmp_path / "old.log"
    with log.open("w") as out:
        to = {"a pipe": subprocess.PIPE, "no file": subprocess.DEVNULL}.get(fate, out)
        process = subprocess.Popen(["sleep", "60"], stderr=to)
    try:
        if fate in ("renamed", "replaced"):
            log.rename(other)
        if fate == "replaced":
            log.touch()
        if fate == "removed":
            log.unlink()
        while not (found := {p.pid: p for p in host.processes(("sleep",), ())}.get(process.pid)):
            time.sleep(0.01)
        expected = {"kept": str(log), "renamed": str(other), "replaced": str(other)}
        assert found.stderr == expected.get(fate)
        assert (found.uid, found.parent) == (os.getuid(), os.getpid())
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 300_000])
def test_read_gives_the_whole_file(host: LocalHost, tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(size))
    assert host.read(file) == file.read_bytes()


def test_read_raises_the_kernels_error_and_leaks_no_descriptor(host: LocalHost, tmp_path: Path) -> None:
    before = descriptors()
    with pytest.raises(FileNotFoundError):
        host.read(tmp_path / "absent")
    with pytest.raises(IsADirectoryError):
        host.read(tmp_path)
    assert descriptors() == before


def test_glob_is_sorted_and_empty_where_there_is_nothing(host: LocalHost, tmp_path: Path) -> None:
    for name in ("b1", "a1", "c2"):
        (tmp_path / name).touch()
    assert [path.name for path in host.glob(tmp_path, "*1")] == ["a1", "b1"]
    assert host.glob(tmp_path / "absent", "*") == []


def test_a_process_is_found_by_its_port(
    host: LocalHost, listener: tuple[subprocess.Popen[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, port = listener
    [found] = host.processes((), (port,))
    assert (found.pid, found.ports, found.cwd) == (process.pid, (port,), str(Path.cwd()))
    assert found.argv[:2] == (sys.executable, "-c")
    assert found.environ["PATH"] == os.environ["PATH"]
    assert found.started_time == pytest.approx(time.time(), abs=20)

    # The next look goes straight to the owner.
    looked: list[int] = []
    sockets = sys.modules[LocalHost.__module__]._sockets

    def counted(proc: str, pid: int) -> Any:
        looked.append(pid)
        return sockets(proc, pid)

    monkeypatch.setattr(LocalHost.__module__ + "._sockets", counted)
    assert host.processes((), (port,)) == [found]
    assert looked == [process.pid]
    monkeypatch.setattr(LocalHost.__module__ + "._listening", lambda proc: pytest.fail("not needed"))
    assert host.processes((), (port,)) == [found]
    assert host.processes((), ()) == []


def test_a_process_is_found_by_the_start_of_its_name(host: LocalHost, tmp_path: Path) -> None:
    binary = tmp_path / "llama-server-vulkan"  # longer than the 15 characters that the kernel keeps
    binary.symlink_to("/bin/sleep")
    with subprocess.Popen([binary, "60"], env={"A": "1=2", "EMPTY": ""}) as child:
        try:
            while not Path(f"/proc/{child.pid}/comm").read_bytes().startswith(b"llama"):
                time.sleep(0.001)  # a process is renamed some time after it was started
            for name in ("llama-server", "llama-server-vulkan"):
                assert child.pid in [process.pid for process in host.processes((name,), ())]
            found = next(p for p in host.processes(("llama-server",), ()) if p.pid == child.pid)
            assert found.name == "llama-server-vu"
            assert found.argv == (str(binary), "60")
            assert found.environ == {"A": "1=2", "EMPTY": ""}
            assert found.ports == ()
        finally:
            child.kill()
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead and not yet buried
        assert child.pid not in [process.pid for process in host.processes(("llama-server",), ())]


def test_the_real_server_is_found_by_name_and_port(host: LocalHost, server: object) -> None:
    port = int(server.url.rpartition(":")[2])  # type: ignore[attr-defined]
    [by_port] = host.processes((), (port,))
    by_name = host.processes(("llama-server",), ())
    assert by_port.pid == server.pid and by_port in by_name  # type: ignore[attr-defined]


def test_a_tree_of_links_stands_in_for_proc(
    listener: tuple[subprocess.Popen[str], int], tmp_path: Path
) -> None:
    process, port = listener
    (tmp_path / str(process.pid)).symlink_to(f"/proc/{process.pid}")
    (tmp_path / "net").symlink_to("/proc/net")
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\n")
    (tmp_path / "999999").symlink_to("/proc/999999")  # gone
    [found] = LocalHost(procfs=tmp_path).processes(("",), (port,))
    assert (found.pid, found.ports) == (process.pid, (port,))
    assert found.started_time is None  # no boot time in this tree
    (tmp_path / "stat").write_bytes(Path("/proc/stat").read_bytes())
    [found] = LocalHost(procfs=tmp_path).processes((), (port,))
    assert found.started_time


def test_what_a_process_says_of_itself_cannot_harm(tmp_path: Path) -> None:
    pid = tmp_path / "42"
    pid.mkdir()
    (pid / "comm").write_bytes(b"a) R \x1b[2J\n")
    (pid / "stat").write_bytes(b"42 (a) R \x1b[2J) S" + b" 0" * 18 + b" 250")
    (pid / "cmdline").write_bytes(b"\xff\0-m\0\0")
    (tmp_path / "stat").write_text("cpu 1\nbtime 1000\nprocesses 1\n")
    [found] = LocalHost(procfs=tmp_path).processes(("a)",), ())
    assert found.name == "a) R "
    assert found.argv == ("\udcff", "-m", "")
    assert found.environ == {} and found.cwd is None
    assert found.started_time == pytest.approx(1000 + 250 / os.sysconf("SC_CLK_TCK"))


@pytest.mark.parametrize("junk", [b"", b"x", b"head\nshort row\n", b"h\n" + b"x " * 12 + b"\n", b"\xff" * 99])
def test_broken_tables_give_nothing(tmp_path: Path, junk: bytes) -> None:
    for name in ("7/comm", "7/stat", "7/cmdline", "net/tcp", "net/tcp6", "stat"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(junk)
    assert all(process.pid == 7 for process in LocalHost(procfs=tmp_path).processes(("",), (80,)))
    assert LocalHost(procfs=tmp_path / "absent").processes(("",), (80,)) == []


def test_the_start_of_a_process_is_known_to_a_hundredth(host: LocalHost) -> None:
    began = time.time()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        ended = time.time()
        (found,) = (one for one in host.processes(("python",), ()) if one.pid == child.pid)
        child.kill()
    assert found.started_time is not None and began - 0.05 <= found.started_time <= ended + 0.05


async def test_stream_gives_the_lines_of_a_child(host: LocalHost) -> None:
    script = "echo one; echo two >&2; printf 'three\\nlast'"
    assert [line async for line in host.stream(["sh", "-c", script])] == [b"one\n", b"three\n", b"last"]


async def test_stream_leaves_out_a_line_without_end(host: LocalHost) -> None:
    script = "print('a'); print('x' * 3_000_000); print('b'); print('y' * 2_000_000, end='')"
    assert [line async for line in host.stream([sys.executable, "-c", script])] == [b"a\n", b"b\n"]


async def test_stream_of_no_command(host: LocalHost) -> None:
    with pytest.raises(FileNotFoundError):
        await anext(host.stream(["halotui-has-no-such-command"]))


@pytest.mark.parametrize("how", ["close", "cancel"])
@pytest.mark.parametrize("script", ["echo $$; echo $$; sleep 60", "echo $$; sleep 60 & echo $!; yes"])
async def test_the_child_dies_with_the_iteration(host: LocalHost, script: str, how: str) -> None:
    pids: list[int] = []

    async def follow() -> None:
        async with aclosing(host.stream(["sh", "-c", script])) as lines:
            async for line in lines:
                pids.append(int(line))
                if len(pids) == 2:
                    break
            if how == "cancel":
                async for _ in lines:
                    await asyncio.sleep(60)

    before = descriptors()
    following = asyncio.create_task(follow())
    await until(lambda: len(pids) == 2)
    await asyncio.sleep(0.1)  # a child that never stops talking has filled its pipe
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    await until(lambda: not any(is_alive(pid) for pid in pids))
    await until(lambda: descriptors() <= before + 2)  # asyncio keeps some of its own


async def test_the_child_has_a_session_of_its_own(host: LocalHost) -> None:
    [line] = [line async for line in host.stream([sys.executable, "-c", "import os; print(os.getsid(0))"])]
    assert int(line) != os.getsid(0)


def test_run_gives_what_a_command_says(host: LocalHost) -> None:
    assert host.run(["sh", "-c", "echo one; echo two >&2"]) == b"one\n"
    assert len(host.run([sys.executable, "-c", "print('x' * 6_000_000)"])) == 4 << 20
    with pytest.raises(FileNotFoundError):
        host.run(["halotui-has-no-such-command"])
    with pytest.raises(OSError, match="exit code 3"):
        host.run(["sh", "-c", "exit 3"])


@pytest.mark.parametrize("script", ["echo $$ > pid; sleep 60", "echo $$ > pid; sleep 60 >/dev/null & wait"])
async def test_run_kills_what_is_late(host: LocalHost, tmp_path: Path, script: str) -> None:
    before, began = descriptors(), time.monotonic()
    with pytest.raises(TimeoutError, match=r"sh: no answer within 0\.2 s"):
        await asyncio.to_thread(host.run, ["sh", "-c", f"cd {tmp_path}; {script}"], 0.2)
    assert time.monotonic() - began < 5
    await until(lambda: not is_alive(int((tmp_path / "pid").read_text())))
    assert descriptors() <= before + 2


def test_a_process_tells_where_its_output_goes(host: LocalHost, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        cases = ((log, "file"), (subprocess.PIPE, "pipe"), (subprocess.DEVNULL, "other"))
        for to, kind in cases:
            process = subprocess.Popen(["sleep", "60"], stdout=to, stderr=to)
            try:
                while not (found := {p.pid: p for p in host.processes(("sleep",), ())}.get(process.pid)):
                    time.sleep(0.001)
                path = str(tmp_path / "log") if kind == "file" else None
                assert (found.stderr_to, found.stderr, found.stdout) == (kind, path, path)
                assert found.cgroup == Path(f"/proc/{process.pid}/cgroup").read_text()
                assert not (found.foreign_net or found.foreign_pid or found.foreign_files)
            finally:
                process.kill()
                process.communicate()


@pytest.mark.parametrize(
    ("line", "runs"),
    [
        ("python /usr/bin/vllm serve", True),
        ("python3 -u -X dev -m vllm.entrypoints.openai.api_server", True),
        ("python -m vllm", True),
        ("python -m vllmish", False),
        ("python -c pass vllm", False),
        ("python bench.py vllm", False),
        ("python -W vllm", False),
        ("python", False),
    ],
)
def test_what_a_python_runs(line: str, runs: bool) -> None:
    assert runs_script(line.split(), ("vllm",)) is runs
