"""Following a log file of a box far away: its past is read, what is added comes by ``tail``."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from contextlib import aclosing, suppress
from functools import partial

from halotui.collectors.apart import apart
from halotui.collectors.log_follow import KIB, Backlog, Lines, gap
from halotui.collectors.log_ration import Ration
from halotui.hosts import Host, LinkDown, Stat
from halotui.model import SourceState, Unavailable
from halotui.safe import clean

HEAD, TAIL = 256 * KIB, 512 * KIB  # of what is there at first
AGAIN = 64 * KIB  # of what is newest, after a part that was left out
PIECE = 64 * KIB  # of one read
LOOK = 5.0  # seconds between looks at whether it is still the same file
PAUSE = 1.0  # seconds before a link that was cut is tried again
FIRST_WAIT = 1.0  # seconds that the first read waits for the past
Place = tuple[int, int]  # device and inode


class FarFollower:
    """As ``LogFollower``: a file that is rotated or truncated is read on, one that is not there yet is waited
    for. After a cut link it goes on at the byte where it was, if it is the same file. A flood is followed in
    parts: 64 KB a second, and what was left out is said.

    After a rotation where we are in the file is known to some lines only.
    """

    def __init__(self, host: Host, path: str) -> None:
        self.past = True
        self._host = host
        self._path = path
        self._backlog = Backlog()
        self._lines = Lines()
        self._ration = Ration()
        self._task: asyncio.Task[None] | None = None
        self._stir = asyncio.Event()
        self._trouble: Unavailable | None = None
        self._file: Place | None = None  # the one that we are in
        self._at = 0  # byte of it that comes next
        self._looked = False  # what comes to be there from now on is new
        self._old = 0  # blocks in the backlog that were written before we looked

    async def read(self) -> bytes:
        """The complete lines since the last call. Raises Unavailable: ABSENT, DENIED, FAILED or NO_DATA."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stir.wait(), FIRST_WAIT)
        if block := self._backlog.take():
            self.past = self._old > 0
            self._old -= len(block)
            return block
        if self._task.done() and not self._task.cancelled():
            self._task.result()  # an error of our own
        if self._trouble is not None:
            raise self._trouble
        self.past = False
        return b""

    async def close(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        while True:
            pause = PAUSE
            try:
                await self._follow()
                pause = max(PAUSE, self._ration.wait)
            except LinkDown:
                self._trouble = Unavailable(SourceState.NO_DATA, "the link is down")
            except OSError as error:
                self._looked = True
                self._trouble, pause = _trouble(self._path, error), LOOK
            self._stir.set()
            await asyncio.sleep(pause)

    async def _follow(self) -> None:
        """Until the tail ends, or too much comes."""
        there = await self._stat()
        same = self._file == (there.dev, there.ino) and there.size >= self._at
        if not same:
            await self._begin(there)
        elif there.size - self._at > TAIL:
            self._skip_to(there.size - AGAIN)
        self._trouble = None
        self._stir.set()
        watch = asyncio.create_task(self._watch())
        try:
            await self._tail(watch)
        finally:
            watch.cancel()
            await asyncio.wait((watch,))

    async def _begin(self, there: Stat) -> None:
        """Of a file that was there at first head and tail; of another one after it, or after a cut, its end.
        One that comes to be there is read whole."""
        known, self._file = self._file is not None, (there.dev, there.ino)
        self._put(self._lines.end())
        self._at = 0
        size = there.size
        if known and size > AGAIN:
            self._skip_to(size - AGAIN)
        elif not self._looked and size > HEAD + TAIL:
            await self._take(HEAD)
            self._skip_to(size - TAIL)
        if not self._looked and not known:
            await self._take(size)
            self._old = self._backlog.size
        self._looked = True

    async def _take(self, end: int) -> None:
        while self._at < end:
            data = await apart(partial(self._host.part, self._path, self._at, min(PIECE, end - self._at)))
            if not data:
                return
            self._at += len(data)
            self._put(self._lines.feed(data))

    async def _tail(self, watch: asyncio.Task[None]) -> None:
        argv = ("tail", "-c", f"+{self._at + 1}", "-F", self._path)
        async with aclosing(self._host.stream(argv)) as lines:
            reader = aiter(lines)
            coming = asyncio.ensure_future(anext(reader, None))
            try:
                while True:
                    await asyncio.wait((coming, watch), return_when=asyncio.FIRST_COMPLETED)
                    if watch.done():
                        watch.result()
                    if not coming.done():
                        return
                    line = coming.result()
                    if line is None:
                        return
                    self._at += len(line)
                    self._put(self._lines.feed(line))
                    self._stir.set()
                    if not self._ration.allows(len(line)):
                        return
                    coming = asyncio.ensure_future(anext(reader, None))
            finally:
                coming.cancel()
                await asyncio.wait((coming,))

    async def _watch(self) -> None:
        """Where we are after a rotation, which the tail sees by itself. Raises LinkDown."""
        while True:
            await asyncio.sleep(LOOK)
            try:
                there = await self._stat()
            except LinkDown:
                raise
            except OSError:  # the next one is about to come, if any
                continue
            if (there.dev, there.ino) != self._file or there.size < self._at:
                self._file, self._at = (there.dev, there.ino), there.size

    async def _stat(self) -> Stat:
        """Raises OSError."""
        there = await apart(partial(self._host.stat, self._path))
        if not stat.S_ISREG(there.mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return there

    def _skip_to(self, position: int) -> None:
        self._put(gap(max(0, position - self._at)) + b"\n")
        self._lines.drop()
        self._at = position - 1  # a newline there means that a whole line follows

    def _put(self, block: bytes) -> None:
        self._backlog.put(block)


def _trouble(path: str, error: OSError) -> Unavailable:
    name = clean(path)
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        hint = "start llama-server with --log-file, or give its log with --log"
        return Unavailable(SourceState.ABSENT, f"{name} is not there", hint)
    if isinstance(error, PermissionError):
        hint = f"let your user there read it: sudo setfacl -m u:$USER:r {name}"
        return Unavailable(SourceState.DENIED, f"{name} may not be read", hint)
    said = os.strerror(error.errno) if error.errno else str(error)
    return Unavailable(SourceState.FAILED, f"{name}: {clean(error.strerror or said)}")
