"""The kernel's log as events: followed where it may be read, dated, and bounded."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from halotui.collectors.kernel_far import KmsgTail
from halotui.collectors.kernel_follow import JournalTail, KmsgReader, Line, Tail
from halotui.collectors.kernel_lines import MOST_EVENTS, events
from halotui.hosts import Host, LinkDown
from halotui.model import KERNEL_SOURCE, KernelEvent, Source, SourceState, Unavailable
from halotui.sampler.clock import Clock
from halotui.sampler.standing import standing, unforeseen

OLDEST = 24 * 3600.0  # seconds: what is older is left out
BUDGET = 0.01  # seconds of one read, and as much to understand it: the rest comes with the next
HELD = 2000  # lines of one read, and of a backlog that is not read to its end yet
AGAIN = 30.0  # seconds until a log that cannot be read is tried again
DENIED_AGAIN = 600.0  # ... and journalctl that was denied: a new group counts from the next login
_SLEEPS, _WAKES = ("suspend entry", "hibernation entry"), ("suspend exit", "hibernation exit")
_FALLS_ASLEEP = 30.0  # seconds: to go to sleep and to wake up takes less


class _Instant(NamedTuple):
    wall: float  # Unix seconds
    awake: float = 0.0  # seconds since boot without those asleep
    asleep: float = 0.0  # seconds since boot


class KernelTap:
    """``read`` never waits; ``events`` are told once."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._path = host.root / "dev/kmsg"
        self._kmsg: KmsgReader | None = None
        self._tail: Tail | None = None
        self._others: list[Tail] = []  # of a box far away: to be tried next
        self._task: asyncio.Task[None] | None = None
        self._events: deque[KernelEvent] = deque(maxlen=MOST_EVENTS)
        self._held: list[Line] = []
        self._dated: deque[Line] = deque()  # not yet made events
        self._before: _Instant | None = None  # when kmsg was last read to its end
        self._trouble: Unavailable | None = Unavailable(SourceState.NO_DATA, "not read yet")
        self._due = 0.0  # monotonic: the next try
        self._success: float | None = None  # monotonic
        self._took: float | None = None

    async def read(self) -> None:
        """Take what there is. A read of kmsg never blocks, and ends within ``BUDGET``."""
        try:
            if self._kmsg is None and self._task is None and self._clock.monotonic() >= self._due:
                self._open()
            if self._kmsg is not None:
                self._read_kmsg(self._kmsg)
            elif self._tail is not None:
                self._read_journal(self._tail)
        except Unavailable as trouble:
            self._lose(trouble)
        except Exception as error:  # it costs the kernel's log alone
            self._lose(unforeseen(error))

    def events(self) -> tuple[KernelEvent, ...]:
        """Since the call before, oldest first."""
        told = tuple(self._events)
        self._events.clear()
        return told

    def source(self) -> Source:
        age = None if self._success is None else max(0.0, self._clock.monotonic() - self._success)
        name = self._tail.name if self._tail is not None and self._kmsg is None else "/dev/kmsg"
        return standing(KERNEL_SOURCE, name, self._trouble, age=age, took=self._took)

    async def close(self) -> None:
        if self._kmsg is not None:
            self._kmsg.close()
            self._kmsg = None
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def _open(self) -> None:
        """Raises Unavailable where there is nothing but kmsg to try."""
        self._due = self._clock.monotonic() + AGAIN
        if not self._host.here:
            self._open_far()
            return
        try:
            self._kmsg = KmsgReader(self._path)
            self._before = None
        except Unavailable as trouble:
            if not self._host.native:
                raise
            if self._tail is None:
                self._tail = JournalTail(self._host)
                self._trouble = Unavailable(SourceState.NO_DATA, "journalctl has said nothing yet")
            self._task = asyncio.create_task(self._follow(self._tail, trouble))

    def _open_far(self) -> None:
        if self._tail is None:
            self._others = [JournalTail(self._host)] if self._host.native else []
            self._others.append(KmsgTail(self._host))
        if self._tail is None or (self._others and not self._tail.heard):
            self._tail = self._others.pop(0)
            self._trouble = Unavailable(SourceState.NO_DATA, f"{self._tail.name} has said nothing yet")
        self._task = asyncio.create_task(self._follow(self._tail, _UNTRIED))

    def _lose(self, trouble: Unavailable) -> None:
        self._trouble = trouble
        if self._kmsg is not None:
            self._kmsg.close()
            self._kmsg = None
        self._held = []

    # --- kmsg

    def _read_kmsg(self, kmsg: KmsgReader) -> None:
        began = time.perf_counter()
        while len(self._held) + len(self._dated) < HELD and time.perf_counter() - began < BUDGET:
            self._held += kmsg.read()
            if kmsg.caught_up:
                break
        now = self._now()
        # A backlog is dated when it is known whole: whether the box slept after a line stands below it.
        if self._held and (kmsg.caught_up or self._before is not None or len(self._held) >= HELD):
            lines, self._held = self._held, []
            self._dated.extend(_dated(lines, self._before, now))
        if kmsg.caught_up:
            self._before = now
        self._tell(now.wall)
        self._trouble, self._success = None, self._clock.monotonic()
        self._took = time.perf_counter() - began

    def _now(self) -> _Instant:
        wall = self._clock.wall()
        if self._host.native:
            awake = time.clock_gettime(time.CLOCK_MONOTONIC)
            return _Instant(wall, awake, time.clock_gettime(time.CLOCK_BOOTTIME) - awake)
        if not self._held:
            return _Instant(wall)
        with suppress(OSError, ValueError, IndexError):  # a tree of files says since when its box runs
            return _Instant(wall, float(self._host.read(self._host.procfs / "uptime").split()[0]))
        return _Instant(wall, time.clock_gettime(time.CLOCK_BOOTTIME))

    # --- journal

    def _read_journal(self, tail: Tail) -> None:
        began = time.perf_counter()
        now = self._clock.wall()
        if len(self._dated) < HELD:
            self._dated.extend(Line(min(now, line.time), line.text) for line in tail.take())
        self._tell(now)
        if self._task is not None and tail.heard:
            self._trouble, self._success = None, self._clock.monotonic()
            self._took = time.perf_counter() - began

    async def _follow(self, tail: Tail, kmsg: Unavailable) -> None:
        """Until it ends, however it does. ``kmsg``: why that one was no help."""
        cut = False
        try:
            await tail.follow()
        except LinkDown as down:
            cut, self._trouble = True, unforeseen(down)
        except Unavailable as trouble:
            nothing = trouble.state is SourceState.ABSENT and kmsg.state is SourceState.DENIED
            self._trouble = _DENIED if nothing else trouble
        except Exception as error:
            self._trouble = unforeseen(error)
        finally:
            self._task = None
        if cut or (self._others and not tail.heard):
            self._due = self._clock.monotonic()
            return
        denied = self._trouble is not None and self._trouble.state is SourceState.DENIED
        self._due = self._clock.monotonic() + (DENIED_AGAIN if denied else AGAIN)

    def _tell(self, now: float) -> None:
        if self._dated:
            self._events.extend(events(line for line in self._in_time() if line.time > now - OLDEST))

    def _in_time(self) -> Iterator[Line]:
        until = time.perf_counter() + BUDGET
        while self._dated and time.perf_counter() < until:
            yield self._dated.popleft()


def _dated(lines: Sequence[Line], before: _Instant | None, now: _Instant) -> list[Line]:
    """In Unix seconds. What is read live was written since the read ``before``, whatever the kernel's clock
    says. Of a backlog that clock is all there is: rather too early than an old fault as a new one."""
    earliest = before.wall if before is not None else 0.0
    asleep = now.asleep - (before.asleep if before is not None else 0.0)
    woke = max((line.time for line in lines if _has(line, _WAKES)), default=0.0)
    if asleep > 1.0 and _counts_sleep(lines, now):
        zero, asleep = now.wall - now.awake - now.asleep, 0.0
    else:  # before it slept is earlier by that: by all of it, when it slept more than once
        zero = now.wall - now.awake
    return [
        Line(min(now.wall, max(earliest, zero + line.time - asleep * (line.time < woke))), line.text)
        for line in lines
    ]


def _counts_sleep(lines: Sequence[Line], now: _Instant) -> bool:
    """Whether the clock of the kernel's log went on while the box slept: that is the hardware's choice."""
    if any(line.time > now.awake + 1.0 for line in lines):
        return True
    began, sleeps = None, []
    for line in lines:
        if _has(line, _SLEEPS):
            began = line.time
        elif began is not None and _has(line, _WAKES):
            sleeps.append(line.time - began)
            began = None
    return max(sleeps, default=_FALLS_ASLEEP) >= _FALLS_ASLEEP


def _has(line: Line, words: Sequence[str]) -> bool:
    return line.text.startswith("PM: ") and any(word in line.text for word in words)


_UNTRIED = Unavailable(SourceState.NO_DATA, "not read from far away")
_DENIED = Unavailable(
    SourceState.DENIED,
    "the kernel's log is root's to read, and there is no journal",
    "sudo sysctl kernel.dmesg_restrict=0 lets everybody read it",
)
