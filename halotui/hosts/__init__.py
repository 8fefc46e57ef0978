"""One machine, as the collectors see it: read files, run a command, list processes, open HTTP.

A Host moves bytes and parses nothing that a collector should. ``local`` is this box, ``ssh`` one far away.
Nobody above asks the operating system of a file, a process, a user or a variable: it asks the Host.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct


class Process(Struct, frozen=True, kw_only=True):
    """One process, as the kernel names it. ``environ`` is empty where it is not ours to read."""

    pid: int
    name: str  # /proc/PID/comm
    argv: tuple[str, ...]
    environ: dict[str, str]
    cwd: str | None = None
    started_time: float | None = None  # Unix seconds
    ports: tuple[int, ...] = ()  # TCP ports it listens on, where readable
    stdout: str | None = None  # the regular file that it goes to, if it does, as the process names it
    stderr: str | None = None  # likewise
    stderr_to: str = ""  # file | journal | pipe | tty | other; "": not ours to see
    terminal: bool = False  # it has a controlling one
    cgroup: str = ""  # all of /proc/PID/cgroup
    foreign_net: bool = False  # of another network namespace than ours: ``ports`` are not told
    foreign_pid: bool = False  # of a PID namespace below ours
    foreign_files: bool = False  # it sees other file systems than we do
    uid: int | None = None
    parent: int | None = None  # its pid

    def __repr__(self) -> str:
        """Without command line and environment, where keys may stand: a traceback may print it."""
        return f"Process(pid={self.pid}, name={self.name!r})"


class Stat(Struct, frozen=True, kw_only=True):
    """What a name leads to, links followed."""

    mode: int  # type and permissions, as in ``os.stat``
    size: int  # bytes
    mtime: float  # Unix seconds, of that box's clock
    uid: int
    gid: int
    dev: int
    ino: int


class User(Struct, frozen=True, kw_only=True):
    """Who we are on that box."""

    uid: int
    name: str
    home: str
    groups: tuple[str, ...]  # of this login
    listed: tuple[str, ...]  # of the next one: as the box's group file says now


class LinkDown(ConnectionError):
    """The box cannot be reached at the moment: nothing is known of it, and nothing is wrong with it."""


class Host(Protocol):
    """Questions to one machine. Blocking calls: the sampler runs them in a thread with a deadline.

    All paths are that box's. A far box raises ``LinkDown`` from each of them while it cannot be reached.
    """

    name: str
    sysfs: Path
    procfs: Path
    root: Path  # of everything else: /etc, /opt, /dev
    native: bool  # whether commands speak of the box whose files these are
    here: bool  # whether we run on it: its files can be opened, its sockets reached, our pid is its pid

    @property
    def ahead(self) -> float:
        """Seconds that its wall clock is before ours; what leaves a collector is in our clock's time."""
        ...

    @property
    def user(self) -> User: ...

    @property
    def environ(self) -> Mapping[str, str]:
        """What our login there has: HOME, PATH, XDG_RUNTIME_DIR ..."""
        ...

    @property
    def ticks(self) -> int:
        """Clock ticks a second of /proc/PID/stat."""
        ...

    def read(self, path: str | Path) -> bytes:
        """The whole of a small file. Raises OSError as the kernel gives it (EBUSY, EPERM, ENODEV ...)."""
        ...

    def glob(self, root: Path, pattern: str) -> list[Path]:
        """Paths under ``root``, sorted; empty when there is none."""
        ...

    def part(self, path: str | Path, offset: int, size: int) -> bytes:
        """Bytes of a regular file; fewer at its end. Raises OSError."""
        ...

    def stat(self, path: str | Path) -> Stat:
        """Raises OSError."""
        ...

    def readlink(self, path: str | Path) -> str:
        """Raises OSError."""
        ...

    def listdir(self, path: str | Path) -> list[str]:
        """Names, in no order. Raises OSError."""
        ...

    def access(self, path: str | Path, mode: int) -> bool:
        """As ``os.access``: may our user there do that (os.F_OK, R_OK, W_OK, X_OK)?"""
        ...

    def which(self, name: str) -> str | None:
        """The program's path, by our PATH there."""
        ...

    def expect(self, *patterns: str) -> None:
        """All files that these shell patterns match are about to be read: a far box then brings them in one
        round trip. Nothing is read twice for it, and here it costs nothing."""
        ...

    def processes(
        self, names: Sequence[str], ports: Sequence[int], scripts: Sequence[str] = ()
    ) -> list[Process]:
        """The processes whose name begins with one of ``names``, that listen on one of ``ports``, or that are
        a Python and run one of ``scripts``, as a file or a module."""
        ...

    def run(self, argv: Sequence[str], seconds: float = 3.0) -> bytes:
        """The stdout of a command. Raises OSError (there is none, it failed), TimeoutError (it is killed)."""
        ...

    def stream(self, argv: Sequence[str]) -> AsyncGenerator[bytes, None]:
        """Lines of a child's stdout, for as long as it runs; the child dies when the generator is closed."""
        ...

    async def door(self, host: str, port: int) -> str | None:
        """Where that box's ``host:port`` is reached from here: the path of a Unix socket that is ours alone;
        None: just there. A port of 0 asks for the Unix socket ``host`` of that box. Raises OSError."""
        ...
