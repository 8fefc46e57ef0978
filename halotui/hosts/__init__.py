"""One machine, as the collectors see it: read files, run a command, list processes, open HTTP.

A Host moves bytes and parses nothing that a collector should. ``local`` is this box.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
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


class Host(Protocol):
    """Five questions to one machine. Blocking calls: the sampler runs them in a thread with a deadline."""

    name: str
    sysfs: Path
    procfs: Path
    root: Path  # of everything else: /etc, /opt, /dev
    native: bool  # whether commands speak of the box whose files these are

    def read(self, path: str | Path) -> bytes:
        """The whole of a small file. Raises OSError as the kernel gives it (EBUSY, EPERM, ENODEV ...)."""
        ...

    def glob(self, root: Path, pattern: str) -> list[Path]:
        """Paths under ``root``, sorted; empty when there is none."""
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
