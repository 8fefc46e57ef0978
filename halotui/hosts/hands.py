"""What changes a machine: start, signal, run. Apart from :class:`Host`, so that looking never needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

MARK = "HALOTUI_LAUNCH"  # variable of what was launched: which undertaking did


class Identity(Struct, frozen=True):
    """One process for good: a pid comes back, its start does not."""

    pid: int
    ticks: int  # start, clock ticks since boot: field 22 of /proc/PID/stat
    boot: str  # /proc/sys/kernel/random/boot_id


class Done(Struct, frozen=True):
    """A command that has ended. ``out`` and ``err`` are its first MiB each, as they came."""

    code: int  # negative: the signal that ended it
    out: str
    err: str


class Hands(Protocol):
    """Acts on one machine as one user. No shell anywhere."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        seconds: float = 10.0,
    ) -> Done:
        """Run a command to its end. Raises OSError (no such command), TimeoutError (it is killed)."""
        ...

    async def launch(self, argv: Sequence[str], env: Mapping[str, str], cwd: str, log: Path) -> Identity:
        """Start a program detached: a session of its own, stdin from nowhere, stdout and stderr appended to
        ``log`` (made with 0600). ``env`` is all of its environment. Raises OSError."""
        ...

    def identify(self, pid: int) -> Identity | None:
        """None when there is no such process, or only its corpse."""
        ...

    def alive(self, who: Identity) -> bool:
        """Whether that very process lives; a corpse does not."""
        ...

    def exit_code(self, who: Identity) -> int | None:
        """Of a process that ``launch`` started here, once it has ended; negative: by a signal."""
        ...

    def signal(self, who: Identity, number: int) -> bool:
        """Send a signal to that very process (pidfd); False when it is gone. Raises PermissionError."""
        ...

    def marked(self, mark: str) -> list[Identity]:
        """Our own processes whose environment holds ``MARK=mark``, the oldest first."""
        ...

    def port_taken(self, host: str, port: int, *, lingering: bool = False) -> bool:
        """Whether binding would fail; with ``lingering`` also while closed connections still hold it."""
        ...
