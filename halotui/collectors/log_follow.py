"""Following a log as it grows: a file that is rotated, truncated or not there yet, or standard input."""

from __future__ import annotations

import asyncio
import os
import select
import stat
from collections import deque
from pathlib import Path
from typing import Protocol

import aiofiles
from aiofiles.threadpool.binary import AsyncFileIO

from halotui.model import SourceState, Unavailable
from halotui.safe import clean

KIB, MIB = 1 << 10, 1 << 20
LONGEST_LINE = 64 * KIB
MOST_PER_READ = 1 * MIB  # parsed in one go, about 10 ms
MOST_BEHIND = 256 * MIB
MOST_WAITING = 8 * MIB
MOST_SEARCHED = 32 * MIB  # 30 ms, once
STARTS = (b": initializing ...", b"_params_print_info: ", b"build: ", b"system_info: ")  # of another run
GAP = b"halotui: log skipped: "  # begins the line that stands for what was not read


class Follower(Protocol):
    """A log that somebody writes. One ``read`` at a time, please."""

    past: bool  # what the last read gave was written before we looked

    async def read(self) -> bytes:
        """The complete lines since the last call, each with its newline, about 1 MiB at most.

        Empty when there is none. Raises Unavailable.
        """
        ...

    async def close(self) -> None: ...


def gap(skipped: int | None = None) -> bytes:
    """Stands, as a line, where something was left out: so many bytes, where that is known."""
    return GAP + (b"%d bytes" % skipped if skipped is not None else b"older lines")


class Lines:
    """Cuts a byte stream at its newlines. Keeps an unfinished line, and of any line 64 KiB at most."""

    def __init__(self) -> None:
        self._rest = b""
        self._dropping = False  # until the next newline

    def feed(self, chunk: bytes) -> bytes:
        """The lines that are complete now, each with its newline."""
        if self._dropping:
            _, newline, chunk = chunk.partition(b"\n")
            if not newline:
                return b""
            self._dropping = False
        block = b""
        if end := chunk.rfind(b"\n") + 1:
            block, self._rest = _bounded(self._rest + chunk[:end]), chunk[end:]
        else:
            self._rest += chunk
        if len(self._rest) > LONGEST_LINE:
            block += self._rest[:LONGEST_LINE] + b"\n"
            self.drop()
        return block

    def drop(self) -> None:
        """Forget the unfinished line, and what comes up to the next newline."""
        self._rest, self._dropping = b"", True

    def end(self) -> bytes:
        """The stream is over: the unfinished line is all that will come of it."""
        rest, self._rest, self._dropping = self._rest, b"", False
        return rest + b"\n" if rest else b""


def _bounded(block: bytes) -> bytes:
    """The same lines, none longer than 64 KiB."""
    lines, at = [], 0
    while at < len(block):
        end = block.rfind(b"\n", at, at + LONGEST_LINE + 1) + 1
        lines.append(block[at:end] if end else block[at : at + LONGEST_LINE] + b"\n")
        at = end or block.index(b"\n", at) + 1
    return lines[0] if len(lines) == 1 else b"".join(lines)


class Backlog:
    """Lines that nobody has asked for yet: the newest 8 MiB of them."""

    def __init__(self) -> None:
        self._blocks: deque[bytes] = deque()
        self._size = 0
        self._skipped = 0

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._size

    def put(self, block: bytes) -> None:
        if self._blocks and len(self._blocks[-1]) + len(block) <= LONGEST_LINE:
            self._blocks[-1] += block
        elif block:
            self._blocks.append(block)
        self._size += len(block)
        while self._size > MOST_WAITING:
            dropped = self._blocks.popleft()
            self._size -= len(dropped)
            self._skipped += len(dropped)

    def take(self) -> bytes:
        """The oldest, at most 1 MiB, after a word about what is older still and was left out."""
        taken, size = [gap(self._skipped) + b"\n"] if self._skipped else [], 0
        self._skipped = 0
        while self._blocks and (not size or size + len(self._blocks[0]) <= MOST_PER_READ):
            taken.append(self._blocks.popleft())
            size += len(taken[-1])
        self._size -= size
        return b"".join(taken)


class LogFollower:
    """Follows one regular file, also by a link such as /proc/PID/fd/2.

    The first ``read`` gives the file's head, where a server tells its facts, and its tail, where its last
    requests are, never more. Of a log of several runs it is the head of the last one, if that is not too far
    back. Later ones give what was added, and skip ahead when more than 256 MiB behind.
    A file that was not there at first is new when it comes, and is read whole. A rotated file is read to
    its end before the new one is opened; a truncated one is read from its start. One that was truncated
    and has grown past the old size between two reads cannot be told from one that grew.
    """

    def __init__(self, path: str | Path, head_bytes: int = 256 * KIB, tail_bytes: int = 512 * KIB) -> None:
        self.path = Path(path)
        self.head_bytes = head_bytes
        self.tail_bytes = tail_bytes
        self.past = True
        self._file: AsyncFileIO | None = None
        self._position = 0
        self._looked = False  # what comes to be there from now on is new
        self._lines = Lines()

    async def read(self) -> bytes:
        """The complete lines since the last call. Raises Unavailable: ABSENT, DENIED or FAILED."""
        name = clean(str(self.path))
        try:
            return await self._read()
        except (FileNotFoundError, NotADirectoryError):
            self._looked = True
            hint = "start llama-server with --log-file, or give its log with --log"
            raise Unavailable(SourceState.ABSENT, f"{name} is not there", hint) from None
        except PermissionError:
            hint = f"let your user read it: sudo setfacl -m u:$USER:r {name}"
            raise Unavailable(SourceState.DENIED, f"{name} may not be read", hint) from None
        except OSError as error:
            hint = "a pipe can be read as standard input: --log -"
            raise Unavailable(SourceState.FAILED, f"{name}: {error.strerror or error}", hint) from None

    def holds(self, path: str | Path) -> bool:
        """Whether that is the file that it reads, by another name."""
        try:
            return self._file is not None and os.path.samestat(
                Path(path).stat(), os.fstat(self._file.fileno())
            )
        except OSError:
            return False

    async def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            await file.close()

    async def _read(self) -> bytes:
        if self._file is None:
            _regular(self.path.stat())  # a device may act on being opened: look before
            self._file = await aiofiles.open(self.path, "rb", buffering=0, opener=_open)
            self._position = 0
            size = os.fstat(self._file.fileno()).st_size
            self.past, self._looked = not self._looked, True
            return await (self._head_and_tail if self.past else self._added)(self._file, size)
        self.past = False
        replaced = self._replaced(os.fstat(self._file.fileno()))
        size = os.fstat(self._file.fileno()).st_size  # asked last: the old file's end may just have come
        block = await self._added(self._file, size)
        if replaced and self._position >= size:
            block += self._lines.end()
            await self.close()
        return block

    def _replaced(self, opened: os.stat_result) -> bool:
        """Is another file written by that name? With none, or an empty one, the old one may still be."""
        try:
            there = self.path.stat()
        except OSError:
            return False
        return there.st_size > 0 and not os.path.samestat(there, opened)

    async def _head_and_tail(self, file: AsyncFileIO, size: int) -> bytes:
        if size <= self.head_bytes + self.tail_bytes:
            return self._lines.feed(await self._take(file, size))
        tail = size - self.tail_bytes
        start = await self._last_start(file, tail)
        head = self._skip_to(start) if start else b""
        head += self._lines.feed(await self._take(file, min(self.head_bytes, tail - self._position)))
        mark = self._skip_to(tail)
        return head + mark + self._lines.feed(await self._take(file, size - self._position))

    async def _last_start(self, file: AsyncFileIO, end: int) -> int:
        """Where the last run begins between the file's head and ``end``; 0: none was found."""
        least = max(self.head_bytes, end - MOST_SEARCHED)
        while end > least:
            begin = max(least, end - MIB)
            await file.seek(begin)
            piece = await file.read(end - begin)
            if (at := max(map(piece.rfind, STARTS))) >= 0:
                # its first lines hold several of them
                near = min(
                    found for start in STARTS if (found := piece.find(start, max(0, at - 8 * KIB))) >= 0
                )
                return int(begin + piece.rfind(b"\n", 0, near) + 1)
            end = begin
        return 0

    async def _added(self, file: AsyncFileIO, size: int) -> bytes:
        block = b""
        if size < self._position:
            block += self._lines.end()
            self._position = 0
        if size - self._position > MOST_BEHIND:
            block += self._skip_to(size - self.tail_bytes)
        while size > self._position:
            part = await self._take(file, min(size - self._position, MOST_PER_READ))
            block += self._lines.feed(part)
            if block or not part:  # a line may be longer than a read; a file truncated this moment gives none
                break
        return block

    def _skip_to(self, position: int) -> bytes:
        skipped = position - self._position
        self._lines.drop()
        self._position = position - 1  # a newline there means that a whole line follows
        return gap(skipped) + b"\n"

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
        self.past = True
        self._fd = fd
        self._lines = Lines()
        self._backlog = Backlog()
        self._state = "new"  # then reader (the loop calls) or polled, then ended

    async def read(self) -> bytes:
        """The complete lines since the last call. Raises Unavailable ABSENT if nothing is piped in."""
        if self._state == "new":
            self._start()
        else:
            self.past = self._state == "polled"  # a file, until its end
        if self._state == "polled":
            self._ready(MOST_PER_READ)
        return self._backlog.take()

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
            return
        waiting = select.poll()
        waiting.register(self._fd, select.POLLIN)
        if waiting.poll(0):
            self._ready()  # it was there before we looked

    def _ready(self, size: int = LONGEST_LINE) -> None:
        try:
            data = os.read(self._fd, size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        self._backlog.put(self._lines.feed(data) if data else self._lines.end())
        if not data:
            if self._state == "reader":
                asyncio.get_running_loop().remove_reader(self._fd)
            self._state = "ended"
