"""The login: made, refused, lost, and made again. A real sshd, a real ssh."""
# ruff: noqa: ASYNC220, ASYNC240 - a test may wait

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from halotui.hosts import LinkDown
from halotui.hosts.ssh import Far, LinkError, SshHost
from halotui.model import LinkState
from slow_link import slow_link
from sshd import Sshd, descendants, sshd

pytestmark = pytest.mark.slow
SECONDS = 40.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with sshd(tmp_path, ("box", "other")) as server:
        yield server


@contextlib.asynccontextmanager
async def host(server: Sshd, target: str = "box") -> AsyncIterator[SshHost]:
    far = SshHost(Far(target=target, ssh_config=server.config))
    try:
        yield far
    finally:
        await far.close()


async def read(far: SshHost, path: str = "/proc/uptime") -> bytes:
    return await asyncio.to_thread(far.read, path)


async def until(true: object, what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def test_a_login_and_nothing_left_of_it(server: Sshd) -> None:
    async with host(server) as far:
        with pytest.raises(LinkDown):
            await read(far)
        await far.open()
        assert float((await read(far)).split()[0]) > 0
        assert far.name == os.uname().nodename
        assert far.link.state is LinkState.UP
        assert abs(far.ahead) < 2
        sockets = await far.door("127.0.0.1", 9)
        assert sockets
        place = Path(sockets).parent
        assert place.stat().st_mode & 0o777 == 0o700
        stream = far.stream(["sleep", "1000"])
        waiting = asyncio.ensure_future(anext(stream))
        await until(lambda: len(server.children()) >= 4, "lanes and a stream")
        start = time.monotonic()
        await far.close()
        assert time.monotonic() - start < 1.5
        with contextlib.suppress(LinkDown, StopAsyncIteration):
            await waiting
    await until(lambda: not server.children(), "all has ended there")
    assert not place.exists()
    ours = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(os.getpid())]
    assert not [line for line in ours if b"ControlMaster" in line and str(server.config).encode() in line]
    with pytest.raises(LinkDown):
        await read(far)


async def test_a_refused_key_an_unknown_and_a_changed_host_key(server: Sshd) -> None:
    server.refuse_key()
    async with host(server) as far:
        with pytest.raises(LinkError, match="Permission denied") as denied:
            await far.open()
        assert denied.value.refused
        assert "ssh-add" in denied.value.hint
        assert far.link.state is LinkState.REFUSED
        server.accept_key()
        known = server.known_hosts.read_text()
        server.forget_host()
        with pytest.raises(LinkError, match="not known") as unknown:
            await far.open(ask=not os.isatty(0))  # nobody can be asked
        assert unknown.value.refused
        server.known_hosts.write_text(known)
        server.new_host_key()
        with pytest.raises(LinkError, match="has changed") as changed:
            await far.open(ask=True)
        assert changed.value.refused
        assert "ssh-keygen -R" in changed.value.hint
        assert server.known_hosts.read_text() == known


@pytest.mark.parametrize("target", ["-oProxyCommand=touch /tmp/halotui-bad", "", "a b", "a\nb"])
async def test_what_is_no_host_never_reaches_ssh(target: str) -> None:
    far = SshHost(Far(target=target))
    with pytest.raises(LinkError, match="no host"):
        await far.open()
    assert not Path("/tmp/halotui-bad").exists()


async def test_a_cut_link_comes_back_by_itself(server: Sshd) -> None:
    async with host(server) as far:
        first = await far.up()
        await read(far)
        where = await far.door("127.0.0.1", server.port)
        server.cut()
        await until(lambda: far.link.state is LinkState.LOST, "it is noticed")
        with pytest.raises(LinkDown):
            await read(far)
        assert far.link.reason
        far.again()
        assert await far.up() > first
        assert await read(far)
        assert await far.door("127.0.0.1", server.port) == where
        reader, writer = await asyncio.open_unix_connection(where)
        assert (await reader.readline()).startswith(b"SSH-2.0")
        writer.close()


async def test_one_try_at_a_time_and_again_is_at_once(server: Sshd) -> None:
    server.stop()
    async with host(server) as far:
        trying = [asyncio.ensure_future(far.up()) for _ in range(3)]
        await until(lambda: far.link.reason, "refused")
        assert far.link.state is LinkState.LOST
        assert "refused" in (far.link.reason or "")
        assert far.link.retry_time
        server.start()
        far.again()
        assert len(set(await asyncio.wait_for(asyncio.gather(*trying), SECONDS))) == 1


async def test_a_frozen_box_is_noticed_and_thaws(server: Sshd) -> None:
    async with host(server) as far, host(server, "other") as living:
        await far.up()
        await read(far)
        server.freeze()
        await asyncio.sleep(0.5)  # what is fresh is handed out
        start = time.monotonic()
        with pytest.raises((LinkDown, TimeoutError)):
            await read(far)
        assert time.monotonic() - start < 25
        assert far.link.state is LinkState.LOST
        again = asyncio.ensure_future(living.up())
        start = time.monotonic()
        await asyncio.sleep(0.2)
        assert time.monotonic() - start < 5  # nothing waits in the loop
        server.thaw()
        far.again()
        living.again()
        await asyncio.wait_for(far.up(), SECONDS)
        await asyncio.wait_for(again, SECONDS)
        assert await read(far)


async def test_closing_does_not_wait_for_a_hung_link(server: Sshd) -> None:
    with slow_link(server.port) as link:
        server.alias("slow", link.port)
        async with host(server, "slow") as far:
            await far.up()
            link.black_hole()
            hanging = asyncio.ensure_future(read(far))
            await asyncio.sleep(0.2)
            start = time.monotonic()
            await far.close()
            assert time.monotonic() - start < 1.5
            with pytest.raises((LinkDown, TimeoutError)):
                await hanging
            link.restore()


async def test_a_dead_box_costs_no_other(server: Sshd, tmp_path: Path) -> None:
    with slow_link(server.port) as link:
        server.alias("dead", link.port)
        link.black_hole()
        async with host(server, "dead") as dead, host(server) as living:
            trying = [asyncio.ensure_future(dead.up()) for _ in range(8)]
            await asyncio.sleep(0.1)
            await asyncio.wait_for(living.up(), SECONDS)
            assert await read(living)
            for one in trying:
                one.cancel()
            await asyncio.gather(*trying, return_exceptions=True)


async def test_three_hundred_milliseconds_cost_one_round_trip(server: Sshd) -> None:
    with slow_link(server.port) as link:
        server.alias("slow", link.port)
        async with host(server, "slow") as far:
            await far.up()
            link.delay_seconds = 0.15  # each way
            far.fresh_seconds = 1.0  # this machine may be slow
            paths = [str(path) for path in sorted(Path("/proc/sys/kernel").iterdir()) if path.is_file()][:50]
            paths = [path for path in paths if os.access(path, os.R_OK)]
            far.expect("/proc/sys/kernel/*")
            await asyncio.to_thread(lambda: [_or_error(far, path) for path in paths])
            await asyncio.sleep(1.6)
            for _ in range(2):
                before, start = far.trips, time.monotonic()
                await asyncio.to_thread(lambda: [_or_error(far, path) for path in paths])
                assert far.trips - before == 1
                assert time.monotonic() - start < 5
                await asyncio.sleep(1.6)
            assert 0.3 <= (far.link.round_trip_seconds or 0) < 5


def _or_error(far: SshHost, path: str) -> bytes | None:
    try:
        return far.read(path)
    except OSError:
        return None


async def test_an_sshd_that_allows_little(tmp_path: Path) -> None:
    options = ("MaxSessions 1", "AllowTcpForwarding no")
    with sshd(tmp_path, options=options) as server, socket.create_server(("127.0.0.1", 0)) as listener:
        config = server.config.read_text()
        server.config.write_text(f"IgnoreUnknown Odd\nOdd yes\n{config}")  # the user's own words count
        async with host(server) as far:
            await far.open()
            assert await read(far)
            assert (await asyncio.to_thread(far.stat, "/sys")).mode
            with pytest.raises(OSError, match="MaxSessions"):
                await asyncio.to_thread(far.run, ["true"])
            address = listener.getsockname()
            path = await far.door(*address)
            assert path
            reader, writer = await asyncio.open_unix_connection(path)
            assert await reader.read() == b""
            writer.close()
            with pytest.raises(OSError, match="forwards no connection"):
                await far.door(*address)


async def test_silence_of_the_link_is_not_the_box_s(server: Sshd) -> None:
    async with host(server) as far:
        await far.open()
        await read(far)
        began = time.monotonic()
        await read(far, "/proc/stat")
        assert await far.heard(began)
        assert await far.heard(time.monotonic() + 1)  # nothing was asked, and it answers
        server.freeze()
        try:
            assert not await far.heard(time.monotonic() + 1)
        finally:
            server.thaw()


async def test_killed_we_leave_nothing(server: Sshd) -> None:
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from halotui.hosts.ssh import Far, SshHost\n"
        "async def main():\n"
        "    far = SshHost(Far(target='box', ssh_config=Path(sys.argv[1])))\n"
        "    await far.open()\n"
        "    await asyncio.to_thread(far.read, '/proc/uptime')\n"
        "    async for line in far.stream(['sh', '-c', 'echo up; sleep 1000']):\n"
        "        print(line, flush=True)\n"
        "asyncio.run(main())\n"
    )
    client = subprocess.Popen([sys.executable, "-c", code, str(server.config)], stdout=subprocess.PIPE)
    try:
        assert client.stdout
        line = await asyncio.wait_for(asyncio.to_thread(client.stdout.readline), SECONDS)
        assert line.startswith(b"b'up")
        helpers = descendants(client.pid)
        assert helpers
        assert len(server.children()) >= 4
        client.send_signal(signal.SIGKILL)
        client.wait(10)
        await until(lambda: not server.children(), "all has ended there")
        await until(lambda: not [pid for pid in helpers if Path(f"/proc/{pid}").exists()], "and here")
    finally:
        client.kill()
        client.wait(10)
        if client.stdout:
            client.stdout.close()
