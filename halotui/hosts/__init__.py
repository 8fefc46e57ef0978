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
    stderr: str | None = None  # the regular file that it goes to, if it does
    uid: int | None = None
    parent: int | None = None  # its pid

    def __repr__(self) -> str:
        """Without command line and environment, where keys may stand: a traceback may print it."""
        return f"Process(pid={self.pid}, name={self.name!r})"


class Host(Protocol):
    """Four questions to one machine. Blocking calls: the sampler runs them in a thread with a deadline."""

    name: str
    sysfs: Path
    procfs: Path

    def read(self, path: Path) -> bytes:
        """The whole of a small file. Raises OSError as the kernel gives it (EBUSY, EPERM, ENODEV ...)."""
        ...

    def glob(self, root: Path, pattern: str) -> list[Path]:
        """Paths under ``root``, sorted; empty when there is none."""
        ...

    def processes(self, names: Sequence[str], ports: Sequence[int]) -> list[Process]:
        """The processes whose name begins with one of ``names`` or that listen on one of ``ports``."""
        ...

    def stream(self, argv: Sequence[str]) -> AsyncGenerator[bytes, None]:
        """Lines of a child's stdout, for as long as it runs; the child dies when the generator is closed."""
        ...
