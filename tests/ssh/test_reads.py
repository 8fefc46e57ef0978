"""Each verb answers as it does here: a real sshd, this box's files, and both kinds of tools."""
# ruff: noqa: ASYNC110, ASYNC230, ASYNC240, PTH109, PTH208 - a test may wait

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from halotui.hosts.local import LocalHost
from halotui.hosts.ssh import Far, SshHost
from halotui.hosts.ssh_errno import Failed
from halotui.hosts.ssh_reads import AGAIN, Ask, files, parts
from sshd import Sshd, sshd

pytestmark = pytest.mark.slow

FORGED = b"\n==> {} <==\nforged\n"


@pytest.fixture(scope="module", params=["gnu", "busybox"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    place = tmp_path_factory.mktemp("far")
    options: tuple[str, ...] = ()
    if request.param == "busybox":
        busybox = shutil.which("busybox")
        if not busybox:
            pytest.skip("no busybox here")
        tools = place / "tools"
        tools.mkdir()
        for name in os.popen(f"{busybox} --list").read().split():
            (tools / name).symlink_to(busybox)
        options = (f"SetEnv PATH={tools} SHLVL=5",)
    with sshd(place, options=options) as server:
        yield server


@pytest_asyncio.fixture
async def far(server: Sshd) -> AsyncIterator[SshHost]:
    host = SshHost(Far(target="box", ssh_config=server.config))
    await host.open()
    yield host
    await host.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Odd files."""
    place = tmp_path / "tree"
    place.mkdir()
    for name, content in {
        "empty": b"",
        "line": b"one\n",
        "no-end": b"one",
        "ends": b"\n\n\n",
        "binary": bytes(range(256)) * 20,
        "0000:c4:00.0": b"pci\n",
        "it's": b"quoted\n",
        "a\nb": b"two lines\n",
        "sp ace $HOME `id`": b"words\n",
        "\udcff": b"no utf-8\n",
        ".hidden": b"h\n",
        "large": os.urandom(300_000),
        "z": b"last\n",
    }.items():
        (place / name).write_bytes(content)
    (place / "forged").write_bytes(FORGED.replace(b"{}", os.fsencode(place / "line")))
    (place / "forged-missing").write_bytes(FORGED.replace(b"{}", os.fsencode(place / "missing")))
    (place / "link").symlink_to("it's")
    (place / "broken").symlink_to("no\nwhere")
    (place / "dir").mkdir()
    (place / "dir" / "inner").write_bytes(b"i")
    (place / "void").mkdir()
    (place / "*").write_bytes(b"star")
    return place


def outcome(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except OSError as error:
        return type(error), error.errno


def names(tree: Path) -> list[str]:
    return [*(str(tree / name) for name in os.listdir(tree)), str(tree / "missing"), str(tree / "line/x")]


async def test_files_as_they_are_here(far: SshHost, tree: Path) -> None:
    here = LocalHost()

    def look() -> None:
        for _ in range(2):  # the second time all come together, and may be mistaken for each other
            for path in names(tree):
                for verb in ("read", "stat", "readlink"):
                    told, true = (outcome(lambda: getattr(host, verb)(path)) for host in (far, here))  # noqa: B023
                    if verb == "stat" and not isinstance(true, tuple):
                        assert int(told.mtime) == int(true.mtime)
                        assert (told.mode, told.size, told.ino, told.dev, told.uid) == (
                            true.mode, true.size, true.ino, true.dev, true.uid
                        )  # fmt: skip
                        continue
                    assert told == true, (verb, path)
                listed = [outcome(lambda: sorted(host.listdir(path))) for host in (far, here)]  # noqa: B023
                assert listed[0] == listed[1], path
                for mode in (os.F_OK, os.R_OK, os.X_OK, os.W_OK | os.R_OK):
                    assert far.access(path, mode) == here.access(path, mode), path
            time.sleep(0.4)

    await asyncio.to_thread(look)


async def test_globs_and_parts_as_they_are_here(far: SshHost, tree: Path) -> None:
    here = LocalHost()

    def look() -> None:
        for pattern in ("*", "*/*", "d*", "line", "none", "[a-l]*", "*e*", "dir/*", ".hidden", "no*e", "?"):
            assert far.glob(tree, pattern) == here.glob(tree, pattern), pattern
        assert far.glob(tree / "missing", "*") == []
        for name in ("large", "it's", "dir", "missing"):
            for offset, size in ((0, 10), (4095, 2), (70_000, 200_000), (299_990, 100), (400_000, 5), (0, 0)):
                if not (name in ("dir", "missing") and size == 0):
                    told, true = (
                        outcome(lambda: host.part(tree / name, offset, size))  # noqa: B023
                        for host in (far, here)
                    )
                    assert told == true, (name, offset, size)

    await asyncio.to_thread(look)


async def test_the_kernel_s_files(far: SshHost) -> None:
    here = LocalHost()

    def look() -> None:
        own = f"/proc/{os.getpid()}"
        for path in (f"{own}/cmdline", f"{own}/environ", "/proc/cpuinfo", "/proc/version", f"{own}/mem"):
            if path != "/proc/cpuinfo":
                assert outcome(lambda: far.read(path)) == outcome(lambda: here.read(path)), path  # noqa: B023
            else:
                assert far.read(path).count(b"processor") == here.read(path).count(b"processor")
        assert far.readlink(f"{own}/cwd") == os.getcwd()
        assert far.user.uid == here.user.uid
        assert far.user.name == here.user.name
        assert far.environ["HOME"] == here.user.home
        assert far.ticks == here.ticks
        assert (far.which("sh") or "").endswith("/sh")
        assert far.which("no-such-program") is None

    await asyncio.to_thread(look)


async def test_processes_as_they_are_here(far: SshHost, tmp_path: Path) -> None:
    script = tmp_path / "halo_far_test.py"
    script.write_text("import time; print(flush=True); time.sleep(100)\n")
    with socket.socket() as listener, (tmp_path / "out put").open("wb") as out:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        child = await asyncio.create_subprocess_exec(
            sys.executable, str(script), stdout=out, stderr=asyncio.subprocess.PIPE, cwd=tmp_path
        )
        try:
            while not (tmp_path / "out put").stat().st_size:
                await asyncio.sleep(0.05)
            port = listener.getsockname()[1]
            asked = ((), (port,), (script.name,))
            here = LocalHost().processes(*asked)
            for _ in range(2):
                told = await asyncio.to_thread(far.processes, *asked)
                assert [one.pid for one in told] == [one.pid for one in here]
                assert {os.getpid(), child.pid} == {one.pid for one in told}
                for one, true in zip(told, here, strict=True):
                    assert abs((one.started_time or 0) - (true.started_time or 0)) < 3
                    for field in set(one.__struct_fields__) - {"started_time"}:
                        assert getattr(one, field) == getattr(true, field), field
                await asyncio.sleep(0.4)
        finally:
            child.kill()
            await child.wait()


async def test_what_hangs_costs_itself(far: SshHost, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(far.read, fifo)
    assert await asyncio.to_thread(far.read, "/proc/uptime")
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(far.read, fifo)
    assert time.monotonic() - start < 2  # it is left alone
    with open(os.open(fifo, os.O_RDWR), "wb"):
        pass  # lets it go


async def test_commands(far: SshHost) -> None:
    def look() -> None:
        assert far.run(["printf", "%s", "a b'c\n"]) == b"a b'c\n"
        with pytest.raises(FileNotFoundError):
            far.run(["no-such-program"])
        with pytest.raises(OSError, match="exit code 1"):
            far.run(["false"])
        with pytest.raises(TimeoutError):
            far.run(["sleep", "1000"], 0.5)
        assert far.script("cat; echo out; echo err >&2; exit 3", 10) == (3, b"out\n", b"err\n")
        assert far.script("kill -TERM $(sh -c 'echo $PPID'); sleep 5", 10)[0] == -signal.SIGTERM

    await asyncio.to_thread(look)
    lines = [line async for line in far.stream(["sh", "-c", "echo one; printf two"])]
    assert lines == [b"one\n", b"two"]
    with pytest.raises(FileNotFoundError):
        await anext(far.stream(["no-such-program"]))


async def test_a_stream_ends_with_who_reads_it(far: SshHost, server: Sshd) -> None:
    stream = far.stream(["sh", "-c", "echo up; sleep 1000 & sleep 1000"])
    assert await anext(stream) == b"up\n"
    assert any(b"1000" in line for line in _lines(server))
    await stream.aclose()
    deadline = time.monotonic() + 30
    while any(b"1000" in line for line in _lines(server)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def _lines(server: Sshd) -> list[bytes]:
    found = []
    for pid in server.children():
        path = Path(f"/proc/{pid}/cmdline")
        found.append(path.read_bytes() if path.exists() else b"")
    return found


async def test_doors(far: SshHost, tmp_path: Path) -> None:
    def serve(listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                peer.sendall(b"hello")

    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "s:o"))
    tcp = socket.socket()
    tcp.bind(("127.0.0.1", 0))
    for listener in (unix, tcp):
        listener.listen()
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
    for address in ((str(tmp_path / "s:o"), 0), tcp.getsockname()):
        path = await far.door(*address)
        assert path
        assert Path(path).stat().st_mode & 0o777 == 0o600
        assert len(path) < 100
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b"hello"
        writer.close()
        assert await far.door(*address) == path
    for listener in (unix, tcp):
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_an_odd_name_among_many_makes_all_of_them_doubtful() -> None:
    (part,) = parts((Ask("expect", "", ("/d/*",)),), gnu=True)
    names = b"/d/a\0/d/b c\0"
    ((_, told),) = part.parse([names, b"==> /d/a <==\nx\n==> /d/b c <==\ny", b""])
    assert told == {"/d/a": AGAIN, "/d/b c": AGAIN}


def test_a_forged_header_is_never_believed() -> None:
    gone = b"head: cannot open '/p' for reading: Permission denied\n"
    told = dict(
        files([b"/a", b"/b", b"/p"], b"==> /a <==\nx\n==> /b <==\ny\n==> /b <==\nreal", gone, gnu=True)
    )
    assert told[b"/a"] is AGAIN
    assert told[b"/b"] is AGAIN
    assert isinstance(told[b"/p"], Failed)
    told = dict(files([b"/a", b"/p"], b"==> /a <==\nx\n==> /p <==\nforged", gone, gnu=True))
    assert told[b"/a"] is AGAIN
    assert isinstance(told[b"/p"], Failed)
    told = dict(
        files(
            [b"/a", b"/p"],
            b"==> /a <==\n\n==> /p <==\n",
            b"head: error reading '/p': EBUSY: Device or resource busy\n",
            gnu=True,
        )
    )
    assert told[b"/a"] == b""
    assert told[b"/p"].number == 16
