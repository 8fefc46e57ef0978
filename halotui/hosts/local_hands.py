"""Our own hands on this box: children in sessions of their own, signals that cannot hit the wrong process."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from halotui.hosts.hands import MARK, Done, Identity

_MOST = 1024 * 1024  # kept of each output
_CHUNK = 64 * 1024
_GRACE_SECONDS = 0.5  # for what a command left in its pipes, or handed on to a daemon
_CONNECT_SECONDS = 0.3
_DEAD = ("Z", "X")
_IN_THE_WAY = (errno.EADDRINUSE, errno.EACCES)  # any other refusal to bind is not about the port


class LocalHands:
    """Acts as the user we run as. ``run`` belongs to an event loop; the rest blocks for moments at most."""

    def __init__(self, procfs: Path = Path("/proc")) -> None:
        self._proc = procfs
        self._boot = ""
        with suppress(OSError):
            self._boot = (procfs / "sys/kernel/random/boot_id").read_text().strip()
        self._codes: dict[Identity, int | None] = {}  # of our children; None: not ended, as far as we know

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        seconds: float = 10.0,
    ) -> Done:
        """Run a command to its end. Raises OSError (no such command), TimeoutError (it is killed)."""
        out, err = _Pipe(), _Pipe()
        try:
            child = await asyncio.create_subprocess_exec(
                *argv,
                env=env,
                cwd=cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out.write_end,
                stderr=err.write_end,
                start_new_session=True,
            )
            out.close_write()
            err.close_write()
            reading = asyncio.gather(out.read(), err.read())
            try:
                async with asyncio.timeout(seconds):
                    await child.wait()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_GRACE_SECONDS):
                        await asyncio.shield(reading)
            finally:
                if child.returncode is None:
                    await _kill(child)
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        finally:
            out.close()
            err.close()
        return Done(child.returncode or 0, out.text, err.text)

    async def launch(self, argv: Sequence[str], env: Mapping[str, str], cwd: str, log: Path) -> Identity:
        """Start a program detached, its output appended to ``log``. Raises OSError."""
        _make_private(log.parent)
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
        try:
            child = subprocess.Popen(  # noqa: ASYNC220 - returns once it is exec'ed
                argv,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            os.close(output)
        child.returncode = 0  # it outlives us: Popen shall neither wait for it nor complain
        found = self._look(child.pid)
        assert found  # a child stays in /proc until we reap it
        self._codes[found[0]] = None
        return found[0]

    def identify(self, pid: int) -> Identity | None:
        """None when there is no such process, or only its corpse."""
        found = self._look(pid)
        return found[0] if found and found[1] not in _DEAD else None

    def alive(self, who: Identity) -> bool:
        """Whether that very process lives; a corpse does not, and is buried if it is ours."""
        return self.exit_code(who) is None and self.identify(who.pid) == who

    def exit_code(self, who: Identity) -> int | None:
        """Of a process that ``launch`` started here, once it has ended; negative: by a signal."""
        if who in self._codes and self._codes[who] is None:
            with suppress(ChildProcessError):  # reaped by somebody else: its code is lost
                pid, status = os.waitpid(who.pid, os.WNOHANG)
                if pid:
                    self._codes[who] = os.waitstatus_to_exitcode(status)
        return self._codes.get(who)

    def signal(self, who: Identity, number: int) -> bool:
        """Send a signal to that very process; False when it is gone. Raises PermissionError."""
        try:
            handle = os.pidfd_open(who.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive(who):  # asked after the handle is held: from here on it is that one or nobody
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True

    def marked(self, mark: str) -> list[Identity]:
        """Our own processes whose environment holds ``MARK=mark``, the oldest first."""
        wanted = os.fsencode(f"{MARK}={mark}")
        found = [who for pid in self._ours() if (who := self._bearing(pid, wanted))]
        return sorted(found, key=lambda who: (who.ticks, who.pid))

    def port_taken(self, host: str, port: int, *, lingering: bool = False) -> bool:
        """Whether binding would fail, or somebody answers there all the same (a container's port that the
        kernel forwards has no listener). A name or address that is not this box's is not taken.
        """
        return any(
            _taken(family, address, lingering)
            for name in host.split(",")
            if not name.endswith(".sock")
            for family, address in _addresses(name.strip().strip("[]"), port)
        )

    def _look(self, pid: int) -> tuple[Identity, str] | None:
        """Who that is, and the state it is in."""
        try:
            stat = (self._proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
            return Identity(pid, int(stat[19]), self._boot), stat[0].decode()
        except (OSError, IndexError):
            return None

    def _ours(self) -> Iterator[int]:
        uid = os.geteuid()
        with os.scandir(self._proc) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.name.isdecimal() and entry.stat().st_uid == uid:
                        yield int(entry.name)

    def _bearing(self, pid: int, variable: bytes) -> Identity | None:
        who = self.identify(pid)
        with suppress(OSError):
            if who and variable in (self._proc / str(pid) / "environ").read_bytes().split(b"\0"):
                return who
        return None


class _Pipe:
    """One output of a command. Our own, since asyncio's would keep ``wait`` waiting for a daemon's copy."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        self._open = {self._read_end, self.write_end}
        self._data = bytearray()

    @property
    def text(self) -> str:
        return self._data.decode(errors="replace")

    async def read(self) -> None:
        """To its end; what is too much is read and dropped."""
        stream = asyncio.StreamReader()
        file = os.fdopen(self._read_end, "rb", 0)
        self._open.discard(self._read_end)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), file
        )
        try:
            while data := await stream.read(_CHUNK):
                self._data += data[: _MOST - len(self._data)]
        finally:
            transport.close()

    def close_write(self) -> None:
        self._open.discard(self.write_end)
        os.close(self.write_end)

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop())


async def _kill(child: asyncio.subprocess.Process) -> None:
    """All of its session; one that is stuck in the kernel is left behind."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(_GRACE_SECONDS):
            await child.wait()


def _make_private(directory: Path) -> None:
    """With every missing parent, for nobody else's eyes."""
    for path in (*reversed(directory.parents), directory):
        path.mkdir(0o700, exist_ok=True)


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    name = None if host in ("", "*") else host
    with suppress(OSError, UnicodeError):
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return [(family, address) for family, _, _, _, address in found]
    return []


def _taken(family: socket.AddressFamily, address: tuple[Any, ...], lingering: bool) -> bool:
    with suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, not lingering)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind(address)
        except OSError as error:
            return error.errno in _IN_THE_WAY
        # Held while we knock, or the kernel might give this very port to our own end.
        return _answers(family, address)
    return False


def _answers(family: socket.AddressFamily, address: tuple[Any, ...]) -> bool:
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(str(address[0]), address[0])
    with suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as knock:
        knock.settimeout(_CONNECT_SECONDS)
        return knock.connect_ex((local, *address[1:])) == 0
    return False
