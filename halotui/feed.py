"""From sampler to whoever looks: each Frame enters the history and leaves with its findings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from halotui.history import History
from halotui.model import Frame
from halotui.notebook import Notebook
from halotui.rules.engine import Engine
from halotui.sampler.core import Sampler


class Feed(Protocol):
    """A source of Frames: live, recorded or scripted. The screen cannot tell."""

    interval: float

    @property
    def history(self) -> History: ...

    def frames(self) -> AsyncIterator[Frame]: ...

    async def close(self) -> None: ...


class LiveFeed:
    """Frames of a sampler, judged by the rules."""

    def __init__(
        self, sampler: Sampler, engine: Engine | None = None, notebook: Notebook | None = None
    ) -> None:
        self.history = History()
        self.on_close: Callable[[], Awaitable[None]] | None = None  # what stands behind the feed
        self._sampler = sampler
        self._engine = engine or Engine()
        self._notebook = notebook

    @property
    def interval(self) -> float:
        return self._sampler.interval

    @interval.setter
    def interval(self, seconds: float) -> None:
        self._sampler.interval = seconds

    async def frames(self) -> AsyncIterator[Frame]:
        async for frame in self._sampler.frames():
            yield self.judge(frame)

    async def one(self, grace: float) -> Frame:
        """The next Frame at once, its answers waited for up to ``grace`` seconds."""
        return self.judge(await self._sampler.tick(grace))

    def judge(self, frame: Frame) -> Frame:
        self.history.push(frame)
        if self._notebook is None:
            return self._engine.evaluate(frame, self.history)
        self._notebook.before(self._engine)
        judged = self._engine.evaluate(frame, self.history)
        self._notebook.after(judged, self.history, self._engine)
        return judged

    async def close(self) -> None:
        await self._sampler.close()
        if self._notebook is not None:
            await self._notebook.close()
        if self.on_close is not None:
            await self.on_close()
