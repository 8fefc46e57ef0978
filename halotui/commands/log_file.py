"""A log as it lies on a box, or comes by standard input: block by block, from its first byte."""

from __future__ import annotations

import asyncio
import os
import select
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Protocol

from halotui.exits import UsageError

if TYPE_CHECKING:
    from halotui.hosts import Host, Stat

BLOCK = 1 << 20
LOOK_SECONDS = 0.25  # between looks at what may have come
FAR_LOOK_SECONDS = 1.0  # the same of a far box: each is a round trip
STDIN = "-"


class LogFile(Protocol):
    """A regular file: a pipe would hold us up, a device may act on being opened."""

    size: int  # bytes, when it was opened
    look_seconds: float

    async def read(self) -> bytes | None:
        """The next block; empty: there is no more at the moment; None: nothing has come yet. Raises
        UsageError, LinkDown."""
        ...

    async def replaced(self) -> bool:
        """Truncated, or another file is written by that name: an empty one, and the old one may still be."""
        ...

    def close(self) -> None: ...


async def open_log(path: str, host: Host | None = None) -> LogFile:
    """Of ``host``, else of this box. Raises UsageError, LinkDown."""
    if path == STDIN:
        return _Stdin()
    if host is None or host.here:
        return _Here(path)
    try:
        there = await asyncio.to_thread(host.stat, path)
    except ConnectionError:
        raise
    except (OSError, ValueError) as error:
        raise refused(path, error) from None
    return _There(path, host, _regular(path, there))


def refused(path: str, error: Exception) -> UsageError:
    """Why it cannot be read."""
    reason = getattr(error, "strerror", None) or str(error)
    return UsageError(f"--log: {'standard input' if path == STDIN else path}: {reason.lower()}")


def _regular(path: str, there: Stat) -> Stat:
    if not S_ISREG(there.mode):
        raise _no_file(path)
    return there


def _no_file(path: str) -> UsageError:
    return UsageError(f"--log: {path} is no file; a pipe can be read with --log -")


class _Here:
    """Held open: what is written into it after it was renamed is read, too."""

    look_seconds = LOOK_SECONDS

    def __init__(self, path: str) -> None:
        self._path = path
        self._read = 0
        try:
            self._number = self._open()
        except (OSError, ValueError) as error:
            raise refused(path, error) from None
        self.size = os.fstat(self._number).st_size

    def _open(self) -> int:
        if not S_ISREG(Path(self._path).stat().st_mode):
            raise _no_file(self._path)
        return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)

    async def read(self) -> bytes | None:
        try:
            block = os.read(self._number, BLOCK)
        except OSError as error:
            raise refused(self._path, error) from None
        self._read += len(block)
        return block

    async def replaced(self) -> bool:
        return self._replaced()

    def _replaced(self) -> bool:
        opened = os.fstat(self._number)
        try:
            there = Path(self._path).stat()
        except OSError:
            return False
        return (there.st_size > 0 and not os.path.samestat(there, opened)) or opened.st_size < self._read

    def close(self) -> None:
        os.close(self._number)


class _Stdin(_Here):
    def __init__(self) -> None:
        super().__init__(STDIN)

    def _open(self) -> int:
        return os.dup(0)

    async def read(self) -> bytes | None:
        if not select.select([self._number], [], [], LOOK_SECONDS)[0]:
            return None  # a read that blocks would hold up Ctrl-C
        return await super().read()

    async def replaced(self) -> bool:
        return False


class _There:
    """On a far box, by its name."""

    look_seconds = FAR_LOOK_SECONDS

    def __init__(self, path: str, host: Host, first: Stat) -> None:
        self.size = first.size
        self._path = path
        self._host = host
        self._first = first
        self._read = 0

    async def read(self) -> bytes | None:
        try:
            block = await asyncio.to_thread(self._host.part, self._path, self._read, BLOCK)
        except ConnectionError:
            raise
        except OSError as error:
            raise refused(self._path, error) from None
        self._read += len(block)
        return block

    async def replaced(self) -> bool:
        try:
            there = await asyncio.to_thread(self._host.stat, self._path)
        except ConnectionError:
            raise
        except OSError:
            return False
        same = (there.dev, there.ino) == (self._first.dev, self._first.ino)
        return (there.size > 0 and not same) or there.size < self._read

    def close(self) -> None:
        """There is nothing to close."""
