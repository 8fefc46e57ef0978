"""A far box that has a halotui of its own: its frames, as it judged them, by ``halotui stream`` there."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from halotui.exits import UnreachableError
from halotui.history import History
from halotui.hosts import LinkDown
from halotui.model import SCHEMA_VERSION, Cause, Frame, Link, LinkState
from halotui.recording.frames import frame_of

if TYPE_CHECKING:
    from halotui.hooks.teller import Hooks
    from halotui.hosts.ssh import SshHost

HALOTUI = "halotui"
_PLACES = (".local/bin/halotui", "bin/halotui")  # under the home there: a login by ssh often has a short PATH
_BAD = 3  # lines in a row that are no frame: it is no halotui
_STEADY = 0.5  # seconds: a smaller difference of clocks is no difference, or every start time would tremble
_PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0)  # seconds before it is started again
_START = 15.0  # seconds until a first frame


class _Refused(Exception):
    """Of no use before a person has done something."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class _Version(Struct):
    schema_version: int


class StreamFeed:
    """A :class:`feed.Feed`. While the link is down there are no frames, and they come back by themselves.

    What cannot be helped from here (no halotui there, a newer one, one that dies) is told by ``link``, and is
    tried again after ``again``.
    """

    notebook = None  # what is usual there is known there

    def __init__(
        self, host: SshHost, interval: float = 1.0, urls: Sequence[str] = (), hooks: Hooks | None = None
    ) -> None:
        self.history = History()
        self.hooks = hooks
        self.on_close: Callable[[], Awaitable[None]] | None = None
        self._host = host
        self._interval = interval
        self._urls = tuple(urls)
        self._ahead = 0.0
        self._trouble: Link | None = None
        self._now = asyncio.Event()  # begin anew: the user wants it, or another interval
        self._ones: AsyncIterator[Frame] | None = None

    @property
    def interval(self) -> float:
        return self._interval

    @interval.setter
    def interval(self, seconds: float) -> None:
        if seconds != self._interval:
            self._interval = seconds
            self._now.set()

    @property
    def link(self) -> Link:
        """The host's, or why its halotui is of no use."""
        link = self._host.link
        return self._trouble if self._trouble is not None and link.state is LinkState.UP else link

    def again(self) -> None:
        """Try now."""
        self._host.again()
        self._now.set()

    async def frames(self) -> AsyncIterator[Frame]:
        failed = 0
        while True:
            await self._host.up()
            told = False
            self._now.clear()
            try:
                async with aclosing(self._session()) as session:
                    async for frame in session:
                        told, failed, self._trouble = True, 0, None
                        yield self._taken(frame)
                if self._now.is_set():  # another interval
                    continue
                if not told:
                    raise _Refused("its halotui ends without a frame", "see there: halotui stream")
            except _Refused as error:
                state = LinkState.REFUSED
                self._trouble = Link(
                    state=state, since_time=time.time(), reason=error.reason, hint=error.hint
                )
            except OSError:  # LinkDown: up() waits
                pass
            pause = _PAUSES[min(failed, len(_PAUSES) - 1)]
            failed += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._now.wait(), pause)

    async def one(self, grace: float) -> Frame:
        """The next one. Raises UnreachableError."""
        self._ones = self._ones or self.frames()
        coming = asyncio.ensure_future(anext(self._ones))
        end = asyncio.get_running_loop().time() + _START + grace + self._interval
        while not coming.done():
            left = end - asyncio.get_running_loop().time()
            await asyncio.wait({coming}, timeout=max(0.0, min(0.1, left)))
            if not coming.done() and (self._trouble is not None or left <= 0):
                coming.cancel()
                await asyncio.wait({coming})
                link = self.link
                why = f"{link.reason}; {link.hint}" if link.reason else "its halotui does not answer"
                raise UnreachableError(f"{self._host.name}: {why}")
        return coming.result()

    def why(self, url: str, field: str) -> tuple[Cause, ...]:
        """Not known here."""
        return ()

    async def close(self) -> None:
        """With the link, and what stands behind the feed."""
        if self._ones is not None:
            await self._ones.aclose()  # type: ignore[attr-defined]
        if self.hooks is not None:
            await self.hooks.close()
        await self._host.close()
        if self.on_close is not None:
            await self.on_close()

    def _taken(self, frame: Frame) -> Frame:
        self.history.push(frame)
        if self.hooks is not None:
            self.hooks.after(frame)
        return frame

    async def _session(self) -> AsyncGenerator[Frame, None]:
        """The frames of one ``halotui stream``. Raises _Refused, LinkDown, OSError."""
        program = await asyncio.to_thread(self._program)
        urls = [word for url in self._urls for word in ("--url", url)]
        argv = [program, "stream", "--interval", f"{self._interval:g}", *urls]
        bad = 0
        async with aclosing(self._host.stream(argv)) as lines:
            async for line in self._until_anew(lines):
                frame = self._decoded(line)
                if frame is None:
                    bad += 1
                    if bad >= _BAD:
                        raise _Refused(
                            "what its halotui says are no frames", "see there: halotui stream -n 1"
                        )
                    continue
                bad = 0
                yield frame

    async def _until_anew(self, lines: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        anew = asyncio.ensure_future(self._now.wait())
        coming: asyncio.Future[Any] | None = None
        try:
            while True:
                coming = asyncio.ensure_future(anext(lines, None))
                await asyncio.wait({coming, anew}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done() or (line := coming.result()) is None:
                    return
                yield line
        finally:
            for task in (anew, coming):
                if task is not None and not task.done():
                    task.cancel()
                    with suppress(asyncio.CancelledError, StopAsyncIteration, OSError):
                        await task

    def _program(self) -> str:
        """Where its halotui is. Blocks."""
        if found := self._host.which(HALOTUI):
            return found
        home = self._host.user.home
        for place in _PLACES:
            if self._host.access(f"{home}/{place}", os.X_OK):
                return f"{home}/{place}"
        raise _Refused("there is no halotui there", 'install it there, or take via = "sh"')

    def _decoded(self, line: bytes) -> Frame | None:
        """In our clock's time. Raises _Refused."""
        try:
            version = msgspec.json.decode(line, type=_Version).schema_version
            if version > SCHEMA_VERSION:
                known = f"its frames are {version}, known are {SCHEMA_VERSION}"
                raise _Refused(f"its halotui is newer: {known}", "a newer halotui here can read it")
            return frame_of(self._in_our_time(line))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def _in_our_time(self, line: bytes) -> bytes:
        """The difference is held until it has changed by much: what was told before stays where it was."""
        with suppress(LinkDown):
            ahead = self._host.ahead
            if abs(ahead - self._ahead) >= _STEADY:
                self._ahead = ahead
        if not self._ahead:
            return line
        return msgspec.json.encode(_earlier(msgspec.json.decode(line), self._ahead))


def _earlier(value: Any, seconds: float) -> Any:
    """Every moment in it, by so much."""
    if isinstance(value, dict):
        return {
            key: below - seconds if _is_moment(key, below) else _earlier(below, seconds)
            for key, below in value.items()
        }
    if isinstance(value, list):
        return [_earlier(below, seconds) for below in value]
    return value


def _is_moment(key: str, value: Any) -> bool:
    return (key == "time" or key.endswith("_time")) and isinstance(value, (int, float))
