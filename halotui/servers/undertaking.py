"""The worker: one undertaking in a process of its own, followed from here, and never held by us."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from halotui import private
from halotui.actions import ActionError, Progress
from halotui.safe import clean

_LINE = 1 << 20  # bytes; a line of progress carries a log's tail at most
_END: None = None  # in a follower's queue: nothing more will come


class Undertaking:
    """A worker under way. Who follows it may look away at any time; it goes on.

    Not an asyncio subprocess: those are killed when their loop is closed.
    """

    def __init__(self, id_: str, process: subprocess.Popen[bytes], errors: Path, start: int) -> None:
        self.id = id_
        self.errors = errors
        self._start = start  # byte of ``errors`` where its own begin
        self.latest: Progress | None = None
        self.ended = False
        self._process = process
        self._followers: set[asyncio.Queue[Progress | None]] = set()
        self._transport: asyncio.BaseTransport | None = None
        self._reader = asyncio.create_task(self._read())

    @classmethod
    def begin(cls, id_: str, argv: Sequence[str], env: Mapping[str, str], errors: Path) -> Undertaking:
        """Start it: a session of its own, what it complains of appended to ``errors`` (0600).

        Raises ActionError.
        """
        try:
            private.folder(errors.parent)
            complaints = os.open(errors, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                start = os.fstat(complaints).st_size
                process = subprocess.Popen(
                    argv,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=complaints,
                    env=dict(env),
                    cwd="/",
                    bufsize=0,
                    start_new_session=True,
                )
            finally:
                os.close(complaints)
        except OSError as error:
            raise ActionError(f"the worker does not start: {error.strerror}", f"look at {errors}") from None
        return cls(id_, process, errors, start)

    async def follow(self) -> AsyncGenerator[Progress, None]:
        """What it says from now on, and what it said last, until it ends."""
        news: asyncio.Queue[Progress | None] = asyncio.Queue()
        if self.latest is not None:
            news.put_nowait(self.latest)
        if self.ended:
            news.put_nowait(_END)
        self._followers.add(news)
        try:
            while (progress := await news.get()) is not None:
                yield progress
        finally:
            self._followers.discard(news)

    def say(self, words: Mapping[str, str | bool]) -> None:
        """One line to its stdin. Raises ActionError when nobody listens there any more."""
        assert self._process.stdin
        try:
            self._process.stdin.write(msgspec.json.encode(words) + b"\n")
        except (OSError, ValueError):
            raise ActionError("it has ended") from None

    def complaint(self) -> str:
        """Its last words on stderr, made harmless; empty: none."""
        with suppress(OSError), self.errors.open("rb") as file:
            file.seek(self._start)
            lines = file.read(_LINE).splitlines()
            return clean(lines[-1]) if lines else ""
        return ""

    async def close(self) -> None:
        """Look away for good."""
        self._reader.cancel()
        with suppress(asyncio.CancelledError):
            await self._reader

    async def _read(self) -> None:
        """To its end, whoever follows: a full pipe would hold it up."""
        assert self._process.stdout
        loop = asyncio.get_running_loop()
        lines = asyncio.StreamReader(limit=_LINE)
        try:
            transport, _ = await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(lines), self._process.stdout
            )
            self._transport = transport
            with suppress(ValueError):  # a line without end: not our worker's
                async for line in lines:
                    with suppress(msgspec.MsgspecError):
                        self._tell(msgspec.json.decode(line, type=Progress))
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, 5.0)
        finally:
            self._shut()

    def _tell(self, progress: Progress) -> None:
        self.latest = progress
        for news in self._followers:
            news.put_nowait(progress)

    def _shut(self) -> None:
        self.ended = True
        for news in self._followers:
            news.put_nowait(_END)
        if self._transport is not None:
            self._transport.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._process.poll()
