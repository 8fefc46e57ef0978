"""From sampler to whoever looks: each Frame enters the history and leaves with its findings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from halotui.history import History
from halotui.hosts import LinkDown
from halotui.ledger import Metric
from halotui.model import Cause, Frame, LinkState
from halotui.notebook import Notebook
from halotui.rules import View
from halotui.rules.causes import explain_fall
from halotui.rules.engine import Engine
from halotui.sampler.core import GRACE, Sampler

if TYPE_CHECKING:
    from halotui.hooks.teller import Hooks
    from halotui.hosts.ssh import SshHost

_METRICS = {
    "server.generation_tokens_per_second": Metric.DECODE,
    "server.last_generation_tokens_per_second": Metric.DECODE,
    "server.prompt_tokens_per_second": Metric.PREFILL,
    "server.last_prompt_tokens_per_second": Metric.PREFILL,
}


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
        self,
        sampler: Sampler,
        engine: Engine | None = None,
        notebook: Notebook | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.history = History()
        self.on_close: Callable[[], Awaitable[None]] | None = None  # what stands behind the feed
        self._sampler = sampler
        self._engine = engine or Engine()
        self._judged: Frame | None = None
        self.notebook = notebook  # where silences are asked for
        self.hooks = hooks  # who is told of findings

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
        """Into the history, and with its findings."""
        self.history.push(frame)
        if self.notebook is not None:
            self.notebook.before(self._engine)
        self._judged = judged = self._engine.evaluate(frame, self.history)
        if self.notebook is not None:
            self.notebook.after(judged, self.history, self._engine)
        if self.hooks is not None:
            self.hooks.after(judged)
        return judged

    def why(self, url: str, field: str) -> tuple[Cause, ...]:
        """Why a server's speed, a field of ``fields``, is below what is usual here; empty where it is not, or
        nothing is known. Some milliseconds: for a key press."""
        metric, frame = _METRICS.get(field), self._judged
        server = next((one for one in frame.servers if one.url == url), None) if frame else None
        if metric is None or frame is None or server is None:
            return ()
        view = View(frame, self.history, baselines=self._engine.baselines)
        return explain_fall(view, server, metric)

    async def close(self) -> None:
        """With what stands behind it."""
        others = [one.close() for one in (self.notebook, self.hooks) if one is not None]
        await asyncio.gather(self._sampler.close(), *others)  # none holds up another
        if self.on_close is not None:
            await self.on_close()


class FarFeed(LiveFeed):
    """Frames of a far box, each read within one login. While there is none there are no frames: history keeps
    a gap, and no rule takes a lost link for a lost server."""

    def __init__(
        self,
        host: SshHost,
        sampler: Sampler,
        engine: Engine,
        notebook: Notebook | None,
        hooks: Hooks | None,
    ) -> None:
        super().__init__(sampler, engine, notebook, hooks)
        self._host = host

    async def frames(self) -> AsyncIterator[Frame]:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            login = await self._host.up()
            with suppress(LinkDown):
                asked = loop.time()
                frame = await self._sampler.tick(self.grace)
                if not await self._host.heard(asked):  # it tells of the link, and not of the box
                    continue
                if self._host.link.state is LinkState.UP and await self._host.up() == login:
                    yield self.judge(frame)
            spent = loop.time() - began
            await asyncio.sleep(max(0.05, self._sampler.pace - spent))

    @property
    def grace(self) -> float:
        """Seconds that a tick waits for answers: a round trip or two more than here."""
        return GRACE + 3 * (self._host.link.round_trip_seconds or 0.0)
