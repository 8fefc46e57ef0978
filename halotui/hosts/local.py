"""This box. Everything is read through ``sysfs`` and ``procfs``, so a tree of files can stand in for it."""

from __future__ import annotations

import asyncio
import errno
import grp
import os
import pwd
import selectors
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from stat import S_ISREG

from halotui.hosts import Process, Stat, User, procfs
from halotui.hosts.child_lines import LONGEST, bury, lines
from halotui.safe import clean

Sockets = Callable[[int], set[int]]  # pid -> the inodes of its sockets

_CHUNK = 64 * 1024
_COMM = 15  # the kernel cuts a process name here
_LISTEN = b"0A"
_OUTPUT = 4 * 1024 * 1024  # of a command, the first bytes
_GRACE_SECONDS = 1.0  # a child stuck in the kernel is left behind after this


class LocalHost:
    """The machine we run on. ``stream`` belongs to an event loop; the rest blocks and fits a thread."""

    def __init__(self, sysfs: Path = Path("/sys"), procfs: Path = Path("/proc")) -> None:
        self.name = clean(socket.gethostname())
        self.sysfs = sysfs
        self.procfs = procfs
        self.native = procfs == Path("/proc")
        self.here = True
        self.ahead = 0.0
        self.root = Path("/") if self.native else procfs.parent  # a tree of files has its own
        self._listening: dict[int, int] = {}  # socket inode -> port
        self._owners: dict[int, int | None] = {}  # of the ports asked for; None: searched for, not to be seen

    def read(self, path: str | Path) -> bytes:
        """The whole of a small file. Raises OSError as the kernel gives it."""
        return procfs.read(path)

    def glob(self, root: Path, pattern: str) -> list[Path]:
        """Paths under ``root``, sorted; empty when there is none or it cannot be listed."""
        try:
            return sorted(root.glob(pattern))
        except OSError:
            return []

    def part(self, path: str | Path, offset: int, size: int) -> bytes:
        """Bytes of a regular file. Raises OSError."""
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            if not S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            return os.pread(fd, size, offset)
        finally:
            os.close(fd)

    def stat(self, path: str | Path) -> Stat:
        """Raises OSError."""
        at = os.stat(path)  # noqa: PTH116 - many, and a Path costs ten times this
        return Stat(
            mode=at.st_mode,
            size=at.st_size,
            mtime=at.st_mtime,
            uid=at.st_uid,
            gid=at.st_gid,
            dev=at.st_dev,
            ino=at.st_ino,
        )

    def readlink(self, path: str | Path) -> str:
        """Raises OSError."""
        return os.readlink(path)  # noqa: PTH115

    def listdir(self, path: str | Path) -> list[str]:
        """Raises OSError."""
        return os.listdir(path)  # noqa: PTH208

    def access(self, path: str | Path, mode: int) -> bool:
        """As ``os.access``."""
        return os.access(path, mode)

    def which(self, name: str) -> str | None:
        """By PATH."""
        return shutil.which(name)

    def expect(self, *patterns: str) -> None:
        """Nothing: what is here is read when it is wanted."""

    @property
    def user(self) -> User:
        """Asked anew each time: a group may have been joined."""
        return local_user()

    @property
    def environ(self) -> Mapping[str, str]:
        return os.environ

    @property
    def ticks(self) -> int:
        return os.sysconf("SC_CLK_TCK")

    async def door(self, host: str, port: int) -> None:
        """Just there."""
        return

    def processes(
        self, names: Sequence[str], ports: Sequence[int], scripts: Sequence[str] = ()
    ) -> list[Process]:
        """Processes by name, listening port or script, by pid; those that vanish meanwhile are left out.

        A process of another user is found by name alone: which ports it listens on is not ours to see.
        """
        proc = os.fspath(self.procfs)
        pids = _pids(proc)
        sockets = cache(partial(_sockets, proc))
        found = set(_named(proc, pids, names, frozenset(scripts)))
        ours = procfs.network(proc)
        foreign = {pid for pid in found if (net := procfs.network(proc, pid)) and ours and net != ours}
        if not self._settled(found - foreign, ports, sockets):
            self._listening = _listening(proc)
        found |= self._owners_of(ports, sorted(found - foreign), pids, sockets)
        described = (
            procfs.describe(proc, pid, () if pid in foreign else self._ports(sockets(pid)), pid in foreign)
            for pid in sorted(found)
        )
        return [process for process in described if process]

    def run(self, argv: Sequence[str], seconds: float = 3.0) -> bytes:
        """The stdout of a command, its first 4 MiB. Raises OSError (there is none, it failed), TimeoutError.

        It has a session of its own, and all of it is killed when its time is up.
        """
        deadline = time.monotonic() + seconds
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert child.stdout
        with child.stdout:
            try:
                out = _drain(child.stdout.fileno(), deadline)
                code = child.wait(max(0.01, deadline - time.monotonic()))
            except (TimeoutError, subprocess.TimeoutExpired):
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
                with suppress(subprocess.TimeoutExpired):
                    child.wait(_GRACE_SECONDS)
                raise TimeoutError(f"{argv[0]}: no answer within {seconds:g} s") from None
        if code:
            raise OSError(f"{argv[0]}: exit code {code}")
        return out

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
            limit=LONGEST,
        )
        assert child.stdout
        try:
            async for line in lines(child.stdout):
                yield line
        finally:
            await _end(child, child.stdout)

    def _ports(self, held: set[int]) -> tuple[int, ...]:
        return tuple(sorted({self._listening[inode] for inode in held if inode in self._listening}))

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


def local_user() -> User:
    """Of this process."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        entry = pwd.getpwuid(uid)
        name, home = entry.pw_name, entry.pw_dir
    except KeyError:  # a uid without a name, as in a container
        name, home = str(uid), os.environ.get("HOME", "/")
    with suppress(OSError):
        listed = os.getgrouplist(name, gid)
        return _user(uid, name, home, [gid, *os.getgroups()], listed)
    return _user(uid, name, home, [gid, *os.getgroups()], [])


def _user(uid: int, name: str, home: str, groups: Iterable[int], listed: Iterable[int]) -> User:
    return User(
        uid=uid, name=clean(name), home=home, groups=_group_names(groups), listed=_group_names(listed)
    )


def _group_names(gids: Iterable[int]) -> tuple[str, ...]:
    names = []
    for gid in dict.fromkeys(gids):
        try:
            names.append(clean(grp.getgrgid(gid).gr_name))
        except KeyError:
            names.append(str(gid))
    return tuple(names)


def _pids(proc: str) -> list[int]:
    with suppress(OSError), os.scandir(proc) as entries:
        return sorted(int(entry.name) for entry in entries if entry.name.isdecimal())
    return []


def _named(
    proc: str, pids: Iterable[int], names: Sequence[str], scripts: frozenset[str] = frozenset()
) -> Iterator[int]:
    starts = tuple(os.fsencode(name[:_COMM]) for name in names)
    for pid in pids if starts or scripts else ():
        with suppress(OSError):
            comm = procfs.read(f"{proc}/{pid}/comm")
            if comm.startswith(starts) or (
                scripts
                and comm.startswith(b"python")
                and procfs.runs_script(procfs.command_line(proc, pid), scripts)
            ):
                yield pid


def _listening(proc: str) -> dict[int, int]:
    """Socket inode -> TCP port, of the sockets whose process we may look into."""
    uid = os.geteuid()
    ports: dict[int, int] = {}
    for table in ("tcp", "tcp6"):
        with suppress(OSError, ValueError, IndexError):
            for row in procfs.read(f"{proc}/net/{table}").splitlines()[1:]:
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


def _drain(fd: int, deadline: float) -> bytes:
    """To its end; what is too much is read and dropped. Raises TimeoutError."""
    parts: list[bytes] = []
    size = 0
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise TimeoutError
            data = os.read(fd, _CHUNK)
            if not data:
                return b"".join(parts)[:_OUTPUT]
            if size < _OUTPUT:
                parts.append(data)
                size += len(data)


async def _end(child: asyncio.subprocess.Process, out: asyncio.StreamReader) -> None:
    if child.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    await bury(child, out, _GRACE_SECONDS)
