"""Following a log as it grows: a file that is rotated, truncated or not there yet, or standard input."""

from __future__ import annotations

import asyncio
import os
import stat
from collections import deque
from pathlib import Path

import aiofiles
from aiofiles.threadpool.binary import AsyncFileIO

from halotui.model import SourceState, Unavailable
from halotui.safe import clean

KIB, MIB = 1 << 10, 1 << 20
LONGEST_LINE = 64 * KIB
MOST_PER_READ = 4 * MIB
MOST_BEHIND = 64 * MIB
GAP = b"halotui: log skipped: "  # begins the line that stands for what was not read


class Lines:
    """Cuts a byte stream into lines without their newline. Keeps an unfinished one, at most 64 KiB."""

    def __init__(self) -> None:
        self._rest = b""
        self._dropping = False  # until the next newline

    def feed(self, chunk: bytes) -> list[bytes]:
        if self._dropping:
            _, newline, chunk = chunk.partition(b"\n")
            if not newline:
                return []
            self._dropping = False
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            lines.append(self._rest)
            self.drop()
        return [line[:LONGEST_LINE] for line in lines]

    def drop(self) -> None:
        """Forget the unfinished line, and what comes up to the next newline."""
        self._rest, self._dropping = b"", True

    def end(self) -> list[bytes]:
        """The stream is over: the unfinished line is all that will come of it."""
        rest, self._rest, self._dropping = self._rest, b"", False
        return [rest] if rest else []


def gap(skipped: int) -> bytes:
    return GAP + b"%d bytes" % skipped


class LogFollower:
    """Follows one regular file, also by a link such as /proc/PID/fd/2.

    The first ``read`` gives the file's head, where a server tells its facts, and its tail, where its last
    requests are, never more. Later ones give what was added, at most 4 MiB a call, and skip ahead when
    more than 64 MiB behind. A rotated file is read to its end before the new one is opened; a truncated
    one is read from its start. One that was truncated and has grown past the old size between two reads
    cannot be told from one that grew. One ``read`` at a time, please.
    """

    def __init__(self, path: str | Path, head_bytes: int = 256 * KIB, tail_bytes: int = 512 * KIB) -> None:
        self.path = Path(path)
        self.head_bytes = head_bytes
        self.tail_bytes = tail_bytes
        self._file: AsyncFileIO | None = None
        self._position = 0
        self._started = False
        self._lines = Lines()

    async def read(self) -> list[bytes]:
        """The complete lines since the last call. Raises Unavailable: ABSENT, DENIED or FAILED."""
        name = clean(str(self.path))
        try:
            return await self._read()
        except (FileNotFoundError, NotADirectoryError):
            hint = "start llama-server with --log-file, or give its log with --log"
            raise Unavailable(SourceState.ABSENT, f"{name} is not there", hint) from None
        except PermissionError:
            hint = f"let your user read it: sudo setfacl -m u:$USER:r {name}"
            raise Unavailable(SourceState.DENIED, f"{name} may not be read", hint) from None
        except OSError as error:
            hint = "a pipe can be read as standard input: --log -"
            raise Unavailable(SourceState.FAILED, f"{name}: {error.strerror or error}", hint) from None

    async def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            await file.close()

    async def _read(self) -> list[bytes]:
        if self._file is None:
            _regular(self.path.stat())  # a device may act on being opened: look before
            self._file = await aiofiles.open(self.path, "rb", buffering=0, opener=_open)
            self._position = 0
            size = os.fstat(self._file.fileno()).st_size
            if self._started:  # rotated: all of it is new
                return await self._added(self._file, size)
            self._started = True
            return await self._head_and_tail(self._file, size)
        replaced = self._replaced(os.fstat(self._file.fileno()))
        size = os.fstat(self._file.fileno()).st_size  # asked last: the old file's end may just have come
        lines = await self._added(self._file, size)
        if replaced and self._position >= size:
            lines += self._lines.end()
            await self.close()
        return lines

    def _replaced(self, opened: os.stat_result) -> bool:
        """Is there another file by that name? With none, the old one may still be written to."""
        try:
            there = self.path.stat()
        except OSError:
            return False
        return (there.st_dev, there.st_ino) != (opened.st_dev, opened.st_ino)

    async def _head_and_tail(self, file: AsyncFileIO, size: int) -> list[bytes]:
        if size <= self.head_bytes + self.tail_bytes:
            return self._lines.feed(await self._take(file, size))
        lines = self._lines.feed(await self._take(file, self.head_bytes))
        lines.append(self._skip_to(size - self.tail_bytes))
        return lines + self._lines.feed(await self._take(file, size - self._position))

    async def _added(self, file: AsyncFileIO, size: int) -> list[bytes]:
        lines: list[bytes] = []
        if size < self._position:
            lines += self._lines.end()
            self._position = 0
        if size - self._position > MOST_BEHIND:
            lines.append(self._skip_to(size - self.tail_bytes))
        if size > self._position:
            lines += self._lines.feed(await self._take(file, min(size - self._position, MOST_PER_READ)))
        return lines

    def _skip_to(self, position: int) -> bytes:
        skipped = position - self._position
        self._lines.drop()
        self._position = position - 1  # a newline there means that a whole line follows
        return gap(skipped)

    async def _take(self, file: AsyncFileIO, size: int) -> bytes:
        await file.seek(self._position)  # a read that was cancelled may have moved on
        data: bytes = await file.read(size)
        self._position += len(data)
        return data


def _open(path: str, flags: int) -> int:
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        _regular(os.fstat(fd))  # it may have become a FIFO since we looked
    except OSError:
        os.close(fd)
        raise
    return fd


def _regular(there: os.stat_result) -> None:
    if not stat.S_ISREG(there.st_mode):
        raise OSError("not a regular file")


class StdinFollower:
    """Follows standard input, for ``--log -``. The end of it is no error: there is nothing more to read.

    A pipe is emptied as it fills, not when ``read`` is called, so that the writer never waits for us; at
    most 8 MiB are kept, the newest.
    """

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd
        self._lines = Lines()
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._skipped = 0
        self._state = "new"  # then reader (the loop calls) or polled, then ended

    async def read(self) -> list[bytes]:
        """The complete lines since the last call. Raises Unavailable ABSENT if nothing is piped in."""
        if self._state == "new":
            self._start()
        if self._state == "polled":
            self._ready(MOST_PER_READ)
        lines = list(self._waiting)
        if self._skipped:
            lines.insert(0, gap(self._skipped))
        self._waiting.clear()
        self._size = self._skipped = 0
        return lines

    async def close(self) -> None:
        if self._state == "reader":
            asyncio.get_running_loop().remove_reader(self._fd)
        self._state = "ended"

    def _start(self) -> None:
        try:
            readable = not stat.S_ISDIR(os.fstat(self._fd).st_mode) and not os.isatty(self._fd)
        except OSError:  # closed
            readable = False
        if not readable:
            hint = "pipe a log into halotui, or give its file with --log"
            raise Unavailable(SourceState.ABSENT, "standard input is no log", hint)
        try:
            asyncio.get_running_loop().add_reader(self._fd, self._ready)
            self._state = "reader"
        except PermissionError:  # a regular file or /dev/null: never blocks, and cannot be waited for
            self._state = "polled"

    def _ready(self, size: int = LONGEST_LINE) -> None:
        try:
            data = os.read(self._fd, size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        for line in self._lines.feed(data) if data else self._lines.end():
            self._waiting.append(line)
            self._size += len(line) + 64  # about what the object weighs
        while self._size > 2 * MOST_PER_READ:
            dropped = self._waiting.popleft()
            self._size -= len(dropped) + 64
            self._skipped += len(dropped) + 1
        if not data:
            if self._state == "reader":
                asyncio.get_running_loop().remove_reader(self._fd)
            self._state = "ended"
