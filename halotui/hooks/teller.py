"""Tells what changes between frames, without ever holding one up: a queue and a task for each way out."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from halotui import private
from halotui.hooks.news import Digest, News
from halotui.hooks.settings import HookSettings
from halotui.hooks.ways import Way, ways
from halotui.model import Frame

WAITING = 100  # messages of each way, at most
PATIENCE = 2.0  # seconds that a goodbye waits for what is under way
RETRIES = (2.0, 15.0)  # seconds before a message that was not taken is tried again
QUIET = ("desktop",)  # who has none is told nothing, and need not hear of it
LOCK = "hooks.lock"  # in the state directory of the box


class Hooks:
    """``after`` each frame of a live box. ``trouble`` says why something could not be told, and is None once
    it could. ``say``: where there is no screen, it is said there, once.

    ``folder``: of several halotui that watch the same box, the one that holds a lock there tells.
    """

    def __init__(
        self, settings: HookSettings, folder: Path | None = None, say: Callable[[str], None] | None = None
    ) -> None:
        self._digest = Digest(settings.severity, settings.debounce)
        self._outs = [_Out(name, way) for name, way in ways(settings).items()]
        self._lock = _Lock(folder / LOCK) if folder is not None else None
        self._say = say
        self._said: str | None = None

    @property
    def trouble(self) -> str | None:
        return "; ".join(out.trouble for out in self._outs if out.trouble) or None

    def after(self, frame: Frame) -> None:
        """Take a judged frame: microseconds. Only in a running event loop."""
        news = self._digest.take(frame)
        if news and (self._lock is None or self._lock.ours()):
            for out in self._outs:
                out.put(news)
        if (trouble := self.trouble) != self._said:
            self._said = trouble
            if trouble and self._say is not None:
                self._say(trouble)

    async def close(self) -> None:
        """What waits is told, if that is quickly done."""
        await asyncio.gather(*(out.close() for out in self._outs))
        if self._lock is not None:
            self._lock.release()
        if self._say is not None and (trouble := self.trouble) and trouble != self._said:
            self._say(trouble)


class _Out:
    """One way, and what waits for it."""

    def __init__(self, name: str, way: Way) -> None:
        self._name = name
        self._way = way
        self._waiting: deque[News] = deque()
        self._dropped = 0
        self._failed: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    @property
    def trouble(self) -> str | None:
        if self._name in QUIET:
            return None
        dropped = f"{self._dropped} messages were dropped" if self._dropped else ""
        parts = ", ".join(filter(None, (self._failed, dropped)))
        return f"hooks: {self._name}: {parts}" if parts else None

    def put(self, news: list[News]) -> None:
        self._waiting.extend(news)
        while len(self._waiting) > WAITING:
            self._waiting.popleft()
            self._dropped += 1
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        """Until there is no more."""
        while self._waiting:
            news = self._waiting.popleft()
            self._failed = await self._told(news)
            for pause in RETRIES:
                if self._failed is None or await self._closes(pause):
                    break
                self._failed = await self._told(news)

    async def _told(self, news: News) -> str | None:
        try:
            return await self._way(news)
        except Exception as error:  # a mistake of ours costs this message
            return f"{type(error).__name__}"

    async def _closes(self, seconds: float) -> bool:
        """Whether it does, within that time."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)
        return self._closing.is_set()

    async def close(self) -> None:
        self._closing.set()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=PATIENCE)
        if not self._task.done():
            self._failed = "the last messages were not taken in time"
            self._task.cancel()
            await asyncio.wait({self._task})


class _Lock:
    """Held from the first message on, and gone with the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def ours(self) -> bool:
        """Where there can be no lock, everybody tells: twice is better than never."""
        if self._descriptor >= 0:
            return True
        try:
            private.folder(self._path.parent)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError:
            os.close(descriptor)
            return True
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
