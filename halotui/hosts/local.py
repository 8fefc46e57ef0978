"""This box. Everything is read through ``sysfs`` and ``procfs``, so a tree of files can stand in for it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

from halotui.hosts import Process
from halotui.safe import clean

Sockets = Callable[[int], set[int]]  # pid -> the inodes of its sockets

_CHUNK = 64 * 1024
_COMM = 15  # the kernel cuts a process name here
_LINE = 1024 * 1024
_LISTEN = b"0A"
_GRACE_SECONDS = 1.0  # a child stuck in the kernel is left behind after this


class LocalHost:
    """The machine we run on. ``stream`` belongs to an event loop; the rest blocks and fits a thread."""

    def __init__(self, sysfs: Path = Path("/sys"), procfs: Path = Path("/proc")) -> None:
        self.name = clean(socket.gethostname())
        self.sysfs = sysfs
        self.procfs = procfs
        self._listening: dict[int, int] = {}  # socket inode -> port
        self._owners: dict[int, int | None] = {}  # of the ports asked for; None: searched for, not to be seen

    def read(self, path: Path) -> bytes:
        """The whole of a small file. Raises OSError as the kernel gives it."""
        return _read(path)

    def glob(self, root: Path, pattern: str) -> list[Path]:
        """Paths under ``root``, sorted; empty when there is none or it cannot be listed."""
        try:
            return sorted(root.glob(pattern))
        except OSError:
            return []

    def processes(self, names: Sequence[str], ports: Sequence[int]) -> list[Process]:
        """Processes by name or listening port, by pid; those that vanish meanwhile are left out.

        A process of another user is found by name alone: which ports it listens on is not ours to see.
        """
        proc = os.fspath(self.procfs)
        pids = _pids(proc)
        sockets = cache(partial(_sockets, proc))
        found = set(_named(proc, pids, names))
        if not self._settled(found, ports, sockets):
            self._listening = _listening(proc)
        found |= self._owners_of(ports, sorted(found), pids, sockets)
        described = (_process(proc, pid, self._listening, sockets(pid)) for pid in sorted(found))
        return [process for process in described if process]

    async def stream(self, argv: Sequence[str]) -> AsyncGenerator[bytes, None]:
        """Lines of a child's stdout, newline kept, those over 1 MiB left out.

        The child has a session of its own, and all of it is killed when the iteration ends, is closed
        or cancelled. Raises FileNotFoundError when there is no such command.
        """
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            limit=_LINE,
        )
        assert child.stdout
        try:
            async for line in _lines(child.stdout):
                yield line
        finally:
            await _end(child, child.stdout)

    def _settled(self, named: Iterable[int], ports: Iterable[int], sockets: Sockets) -> bool:
        """Whether the last look at the kernel's socket tables still tells all; a look costs milliseconds."""
        if any(sockets(pid) and sockets(pid).isdisjoint(self._listening) for pid in named):
            return False
        owners = self._owners.items()
        held = {inode for inode, pid in owners if pid is not None and inode in sockets(pid)}
        return {self._listening[inode] for inode in held}.issuperset(ports)

    def _owners_of(
        self, ports: Sequence[int], named: Iterable[int], pids: Iterable[int], sockets: Sockets
    ) -> set[int]:
        """The processes that listen on ``ports``. Every process is searched, but once a socket only."""
        wanted = {inode for inode, port in self._listening.items() if port in ports}
        self._owners = {inode: pid for inode, pid in self._owners.items() if inode in wanted}
        missing = {inode for inode in wanted if self._owners.get(inode, 0) is not None}
        known = [pid for pid in self._owners.values() if pid is not None]
        for pid in (*named, *known, *pids):
            if not missing:
                break
            mine = sockets(pid) & missing
            missing -= mine
            self._owners |= dict.fromkeys(mine, pid)
        self._owners |= dict.fromkeys(missing)
        return {pid for pid in self._owners.values() if pid is not None}


def _read(path: str | Path) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        data = os.read(fd, _CHUNK)
        if not data:
            return data
        parts = [data]
        while data := os.read(fd, _CHUNK):
            parts.append(data)
        return b"".join(parts)
    finally:
        os.close(fd)


def _pids(proc: str) -> list[int]:
    with suppress(OSError), os.scandir(proc) as entries:
        return sorted(int(entry.name) for entry in entries if entry.name.isdecimal())
    return []


def _named(proc: str, pids: Iterable[int], names: Sequence[str]) -> Iterator[int]:
    starts = tuple(os.fsencode(name[:_COMM]) for name in names)
    for pid in pids if starts else ():
        with suppress(OSError):
            if _read(f"{proc}/{pid}/comm").startswith(starts):
                yield pid


def _listening(proc: str) -> dict[int, int]:
    """Socket inode -> TCP port, of the sockets whose process we may look into."""
    uid = os.geteuid()
    ports: dict[int, int] = {}
    for table in ("tcp", "tcp6"):
        with suppress(OSError, ValueError, IndexError):
            for row in _read(f"{proc}/net/{table}").splitlines()[1:]:
                field = row.split()
                if field[3] == _LISTEN and uid in (0, int(field[7])):
                    ports[int(field[9])] = int(field[1].rpartition(b":")[2], 16)
    return ports


def _sockets(proc: str, pid: int) -> set[int]:
    """Inodes of the sockets that a process holds; none when it is gone or not ours."""
    held = set()
    with suppress(OSError), os.scandir(f"{proc}/{pid}/fd") as fds:
        for fd in fds:
            with suppress(OSError):
                target = os.readlink(fd.path)  # noqa: PTH115 - many, and a Path costs ten times this
                if target.startswith("socket:["):
                    held.add(int(target[8:-1]))
    return held


def _process(proc: str, pid: int, listening: Mapping[int, int], held: set[int]) -> Process | None:
    """None for a process that is gone, or dead and not yet buried."""
    try:
        head, _, tail = _read(f"{proc}/{pid}/stat").rpartition(b")")
        fields = tail.split()
        if fields[0] in (b"Z", b"X"):
            return None
        argv = _read(f"{proc}/{pid}/cmdline")
    except (OSError, IndexError):
        return None
    environ: dict[str, str] = {}
    cwd = None
    with suppress(OSError):
        pairs = os.fsdecode(_read(f"{proc}/{pid}/environ")).split("\0")
        environ = {key: value for key, sign, value in (pair.partition("=") for pair in pairs) if sign}
    with suppress(OSError):
        cwd = str(Path(f"{proc}/{pid}/cwd").readlink())
    uid = None
    with suppress(OSError):
        uid = os.stat(f"{proc}/{pid}").st_uid  # noqa: PTH116 - a Path costs ten times this
    return Process(
        pid=pid,
        name=clean(head.partition(b"(")[2]),
        argv=tuple(os.fsdecode(argv).removesuffix("\0").split("\0")) if argv else (),
        environ=environ,
        cwd=cwd,
        started_time=_started(proc, fields),
        ports=tuple(sorted({listening[inode] for inode in held if inode in listening})),
        stderr=_file_behind(f"{proc}/{pid}/fd/2"),
        uid=uid,
        parent=int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else None,
    )


def _file_behind(fd: str) -> str | None:
    """The path of a regular file that is open there and still has that name, as we see the file system."""
    with suppress(OSError):
        path = os.readlink(fd)  # noqa: PTH115
        if path.startswith("/"):
            opened = os.stat(fd)  # noqa: PTH116
            if stat.S_ISREG(opened.st_mode) and os.path.samestat(opened, os.stat(path)):  # noqa: PTH116
                return path
    return None


def _started(proc: str, fields: Sequence[bytes]) -> float | None:
    """Unix seconds, to a clock tick: start since boot (field 22 of stat) + boot time."""
    with suppress(OSError, ValueError, IndexError):
        boot = _read(f"{proc}/stat").partition(b"btime ")[2].split(None, 1)[0]
        return int(boot) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return None


async def _lines(out: asyncio.StreamReader) -> AsyncIterator[bytes]:
    torn = False  # inside a line that is too long
    while not out.at_eof():
        try:
            line = await out.readuntil()
        except asyncio.LimitOverrunError as over:
            await out.readexactly(over.consumed)
            torn = True
            continue
        except asyncio.IncompleteReadError as end:
            line = end.partial
        if line and not torn:
            yield line
        torn = False


async def _end(child: asyncio.subprocess.Process, out: asyncio.StreamReader) -> None:
    if child.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(_GRACE_SECONDS):
            while await out.read(_CHUNK):  # a full pipe would keep asyncio from seeing the end
                pass
            await child.wait()
