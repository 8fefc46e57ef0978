"""A GPU source that is a child process: its newest line, how it stands, and its restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress

from msgspec import Struct

from halotui.collectors import amdgpu_top, amdsmi
from halotui.hosts import Host
from halotui.model import Gpu, Source, SourceState, Unavailable
from halotui.sampler.clock import Clock
from halotui.sampler.standing import standing, unforeseen

STALE = 3.5  # seconds without a line from a child that lives
BACKOFF = (10.0, 60.0, 600.0)  # seconds before one that has died is started again, the last for ever
SETTLED = 60.0  # seconds of life after which its death counts as a first one

Stream = Callable[[Host], AsyncGenerator[tuple[Gpu, ...], None]]
STREAMS: dict[str, Stream] = {"amdgpu_top": amdgpu_top.stream, "amdsmi": amdsmi.stream}


class Heard(Struct, frozen=True):
    """A line of a child."""

    gpus: tuple[Gpu, ...]
    at: float  # seconds, of the clock


class Child:
    """Read in the background from its first ``latest`` to ``stop``."""

    def __init__(self, name: str, host: Host, clock: Clock) -> None:
        self.name = name
        self._host = host
        self._clock = clock
        self._heard: Heard | None = None
        self._trouble: Unavailable | None = None  # how the last life ended
        self._deaths = 0
        self._due = 0.0
        self._began = 0.0
        self._spoke = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def latest(self, patience: float = 0.0) -> Heard:
        """The newest line; the first is waited for, at most ``patience`` seconds. Raises ``Unavailable``."""
        now = self._clock.monotonic()
        if self._task is None or (self._task.done() and now >= self._due):
            self._began = now
            self._spoke.clear()
            self._task = asyncio.create_task(self._live())
        if patience > 0 and not self._spoke.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._spoke.wait(), patience)
        if trouble := self._why_not():
            raise trouble
        assert self._heard is not None
        return self._heard

    def source(self) -> Source:
        age = self._clock.monotonic() - self._heard.at if self._heard is not None else None
        return standing(self.name, self.name, self._why_not(), age=age)

    def stop(self) -> asyncio.Task[None] | None:
        """Let it end; what is returned ends with it."""
        if self._task is not None:
            self._task.cancel()
        return self._task

    def _why_not(self) -> Unavailable | None:
        if self._trouble is not None:
            return self._trouble
        now = self._clock.monotonic()
        if self._heard is None:
            if now - self._began <= STALE:
                return Unavailable(SourceState.NO_DATA, f"{self.name} is starting")
            return Unavailable(SourceState.STALE, f"{self.name} runs, and says nothing")
        if now - self._heard.at > STALE:
            return Unavailable(SourceState.STALE, f"{self.name} has gone quiet")
        return None

    async def _live(self) -> None:
        """One life of the child, and what is said after its death."""
        try:
            async with aclosing(STREAMS[self.name](self._host)) as readings:
                async for gpus in readings:
                    self._heard, self._trouble = Heard(gpus, self._clock.monotonic()), None
                    self._spoke.set()
            trouble = Unavailable(SourceState.FAILED, f"{self.name} has ended")
        except Unavailable as why:
            trouble = why
        except Exception as error:
            trouble = unforeseen(error)
        now = self._clock.monotonic()
        absent = trouble.state is SourceState.ABSENT
        self._deaths = 1 if now - self._began >= SETTLED else self._deaths + 1
        wait = BACKOFF[-1] if absent else BACKOFF[min(self._deaths, len(BACKOFF)) - 1]
        self._due = now + wait
        self._trouble = Unavailable(
            trouble.state, f"{trouble.reason}; tried again after {wait:.0f} s", trouble.hint
        )
        self._spoke.set()
