"""Which GPU source is asked, and which one won: sysfs, else amdgpu_top, else amdsmi."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress

from halotui.collectors import amdgpu_sysfs, amdgpu_top, amdsmi
from halotui.hosts import Host
from halotui.model import GPU_SOURCE, Gpu, Source, SourceState, Unavailable
from halotui.sampler.clock import Clock
from halotui.sampler.standing import standing, unforeseen
from halotui.sampler.worker import Worker

DEADLINE = 0.4  # seconds a read of sysfs may take
KEPT = 10.0  # seconds a last reading is still shown, dim, with its age
STALE = 3.5  # seconds without a line from a streaming child
AGAIN = 10.0  # seconds before an absent source is tried again

Stream = Callable[[Host], AsyncGenerator[tuple[Gpu, ...], None]]
STREAMS: dict[str, Stream] = {"amdgpu_top": amdgpu_top.stream, "amdsmi": amdsmi.stream}


class GpuSource:
    """``read`` gives the GPUs as last seen, and ``source`` says how that stands."""

    def __init__(self, host: Host, choice: str, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._wanted = ("sysfs", *STREAMS) if choice == "auto" else (choice,)
        self._worker = Worker("gpu")
        self._child: Child | None = None
        self._winner: str | None = None
        self._retry_at = 0.0
        self._gpus: tuple[Gpu, ...] = ()
        self._read_at: float | None = None
        self._took: float | None = None
        self._trouble: Unavailable | None = None

    async def read(self) -> tuple[Gpu, ...]:
        """The reading of this moment; the last one while it is young; else nothing."""
        now = self._clock.monotonic()
        if self._winner is not None:
            await self._try(self._winner)
        elif now >= self._retry_at:
            await self._elect(now)
        young = self._read_at is not None and self._clock.monotonic() - self._read_at < KEPT
        return self._gpus if young else ()

    def sources(self) -> Iterator[Source]:
        """Itself first."""
        yield self.source()

    def source(self) -> Source:
        now, trouble = self._clock.monotonic(), self._trouble
        age = now - self._read_at if self._read_at is not None else None
        return standing(GPU_SOURCE, self._winner or "/".join(self._wanted), trouble, age=age, took=self._took)

    async def close(self) -> None:
        if self._child is not None:
            await self._child.close()

    async def _elect(self, now: float) -> None:
        """Try the sources in order; the first that answers is asked from then on."""
        first_trouble: Unavailable | None = None
        for name in self._wanted:
            if await self._try(name):
                self._winner = name
                return
            first_trouble = first_trouble or self._trouble
            state = self._trouble.state if self._trouble is not None else None
            if state is SourceState.HUNG:
                self._winner = name  # it is there: another source would hang on the same driver
                return
            if state is SourceState.ABSENT and name == "sysfs":
                break  # no such GPU: a child would look in vain, again and again
        self._trouble, self._retry_at = first_trouble, now + AGAIN

    async def _try(self, name: str) -> bool:
        began = self._clock.monotonic()
        try:
            if name == "sysfs":
                self._gpus = await self._worker.call(lambda: amdgpu_sysfs.read(self._host), DEADLINE)
                self._read_at = self._clock.monotonic()
            else:
                self._gpus, self._read_at = await self._from_child(name)
        except Unavailable as trouble:
            self._trouble = trouble
            return False
        except Exception as error:
            self._trouble = unforeseen(error)
            return False
        self._took, self._trouble = self._clock.monotonic() - began, None
        return True

    async def _from_child(self, name: str) -> tuple[tuple[Gpu, ...], float]:
        if self._child is None or self._child.name != name:
            if self._child is not None:
                await self._child.close()
            self._child = Child(name, self._host, self._clock)
        return await self._child.latest()


class Child:
    """A streaming child, read in the background; only its newest line counts."""

    def __init__(self, name: str, host: Host, clock: Clock) -> None:
        self.name = name
        self._host = host
        self._clock = clock
        self._gpus: tuple[Gpu, ...] | None = None
        self._at = clock.monotonic()
        self._trouble: Unavailable | None = None
        self._first = asyncio.Event()
        self._task = asyncio.create_task(self._follow())

    async def latest(self) -> tuple[tuple[Gpu, ...], float]:
        """The newest reading and its time; waits for the first one. Raises ``Unavailable``."""
        if not self._first.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._first.wait(), STALE)
        if self._trouble is not None:
            raise self._trouble
        if self._gpus is None or self._clock.monotonic() - self._at > STALE:
            raise Unavailable(SourceState.STALE, f"{self.name} has gone quiet")
        return self._gpus, self._at

    async def close(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _follow(self) -> None:
        try:
            async with aclosing(STREAMS[self.name](self._host)) as readings:
                async for gpus in readings:
                    self._gpus, self._at = gpus, self._clock.monotonic()
                    self._first.set()
            self._trouble = Unavailable(SourceState.FAILED, f"{self.name} has ended")
        except Unavailable as trouble:
            self._trouble = trouble
        except Exception as error:
            self._trouble = unforeseen(error)
        finally:
            self._first.set()
