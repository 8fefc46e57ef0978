"""A far box through the system's OpenSSH: one login, one remote ``sh`` that reads in batches. PLACEHOLDER."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from halotui.hosts import Process, Stat, User
from halotui.model import Link


class Far(Struct, frozen=True, kw_only=True):
    """Which box, and how it is reached. ``target`` goes to ssh as it is: an alias, user@host, ssh://..."""

    target: str
    ssh_config: Path | None = None  # ssh -F
    sysfs: Path = Path("/sys")
    procfs: Path = Path("/proc")


class LinkError(Exception):
    """There is no connection. ``refused``: trying again is of no use before a person has done something."""

    def __init__(self, reason: str, hint: str = "", *, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.refused = refused


class SshHost:
    """``hosts.Host`` over SSH. ``open`` or ``up`` first; everything else raises LinkDown without a login."""

    here = False

    def __init__(self, far: Far) -> None:
        self.far = far
        self.name = far.target  # its own host name, once it has said it
        self.sysfs = far.sysfs
        self.procfs = far.procfs
        self.native = far.procfs == Path("/proc")
        self.root = Path("/") if self.native else far.procfs.parent

    @property
    def link(self) -> Link:
        """How it stands now. From any thread."""
        raise NotImplementedError

    async def open(self, *, ask: bool = False) -> None:
        """Log in. ``ask``: ssh may ask on the terminal (password, host key, touch): before the screen is drawn,
        or while it is put aside. Raises LinkError."""
        raise NotImplementedError

    async def up(self) -> int:
        """Waits until there is a login, making one with back-off where there is none. Returns its number: who
        finds another one afterwards knows that what was read in between is not of one piece."""
        raise NotImplementedError

    def again(self) -> None:
        """Do not wait any longer: try now."""
        raise NotImplementedError

    async def close(self) -> None:
        """Log out; nothing of ours is left there."""
        raise NotImplementedError

    @property
    def ahead(self) -> float:
        raise NotImplementedError

    @property
    def user(self) -> User:
        raise NotImplementedError

    @property
    def environ(self) -> Mapping[str, str]:
        raise NotImplementedError

    @property
    def ticks(self) -> int:
        raise NotImplementedError

    def read(self, path: str | Path) -> bytes:
        raise NotImplementedError

    def part(self, path: str | Path, offset: int, size: int) -> bytes:
        raise NotImplementedError

    def stat(self, path: str | Path) -> Stat:
        raise NotImplementedError

    def readlink(self, path: str | Path) -> str:
        raise NotImplementedError

    def listdir(self, path: str | Path) -> list[str]:
        raise NotImplementedError

    def access(self, path: str | Path, mode: int) -> bool:
        raise NotImplementedError

    def which(self, name: str) -> str | None:
        raise NotImplementedError

    def expect(self, *patterns: str) -> None:
        raise NotImplementedError

    def glob(self, root: Path, pattern: str) -> list[Path]:
        raise NotImplementedError

    def processes(
        self, names: Sequence[str], ports: Sequence[int], scripts: Sequence[str] = ()
    ) -> list[Process]:
        raise NotImplementedError

    def run(self, argv: Sequence[str], seconds: float = 3.0) -> bytes:
        raise NotImplementedError

    async def stream(self, argv: Sequence[str]) -> AsyncGenerator[bytes, None]:
        raise NotImplementedError
        yield b""

    async def door(self, host: str, port: int) -> str | None:
        raise NotImplementedError

    def script(self, text: str, seconds: float) -> tuple[int, bytes, bytes]:
        """Run a POSIX sh script there, on a channel of its own: exit code (negative: by a signal), stdout,
        stderr, 4 MiB each. It goes through stdin, never through an argv: it may hold secrets, and a login
        shell that is not POSIX never reads it. Raises LinkDown, TimeoutError (it is killed)."""
        raise NotImplementedError
