"""A blocking read with a deadline: a GPU in reset blocks its readers for ever, and must cost only itself."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from halotui.hosts import Host
from halotui.model import SourceState, Unavailable
from halotui.sampler.far import slack, whole

T = TypeVar("T")

PATIENCE = 30.0  # seconds that a stuck thread is waited for; after each that was abandoned twice as long
MOST_PATIENCE = 600.0
MOST_ABANDONED = 8  # threads stuck in the kernel; each holds a stack, and none comes back before a reboot
QUICK = 0.25  # of its deadline: who takes longer keeps no other waiting


class Worker:
    """One daemon thread for one source, or a ``crew``'s for as long as it is quick.

    While a call has not come back no second one is sent after it. A thread that stays stuck in the kernel
    is abandoned, and a fresh one asks again: what hung may have been mended, and the old thread not told. It
    does not keep the program from ending, as a pool's thread would. Should it come back after all, it ends;
    so a function must leave nothing behind but its result, which nobody takes then.

    Of a box far away (``host``) it waits for the link as well, and raises LinkDown where that was cut.
    """

    def __init__(
        self,
        name: str,
        monotonic: Callable[[], float] = time.monotonic,
        crew: Crew | None = None,
        host: Host | None = None,
    ) -> None:
        self._name = name
        self._far = host if host is not None and not host.here else None
        self._monotonic = monotonic
        self._crew = crew
        self._patience = PATIENCE
        self._thread: _Thread | None = None  # its own
        self._sent_at = 0.0  # seconds, of its last call
        self._abandoned: list[_Thread] = []

    async def call(self, function: Callable[[], T], deadline: float) -> T:
        """The function's result, or its exception; ``Unavailable(HUNG)`` past ``deadline`` seconds."""
        return await self.send(function, deadline)

    def send(self, function: Callable[[], T], deadline: float) -> Coroutine[Any, Any, T]:
        """The same, sent at once and awaited later."""
        if self._far is not None:
            function, deadline = whole(self._far, function), deadline + slack(self._far)
        call = _Call(self, function)
        if self._crew is not None and self._crew.serves(self):
            self._crew.part()  # an earlier call, that nobody waits for any more
        try:
            if self._crew is not None and self._thread is None:
                self._crew.send(call)
            else:
                self._free().send(call)
                self._sent_at = self._monotonic()
        except Unavailable as hung:
            return _refused(hung)
        return self._answer(call, deadline)

    def keep(self, thread: _Thread) -> None:
        """The crew's: a call of ours is slow."""
        self._thread, self._sent_at = thread, self._monotonic()

    async def _answer(self, call: _Call[T], deadline: float) -> T:
        quick = await call.back_within(QUICK * deadline)
        if not quick and self._crew is not None:
            self._crew.part()
        if not quick and not await call.back_within(deadline):
            raise Unavailable(SourceState.HUNG, f"no answer within {deadline:g} s", _HINT)
        self._patience = PATIENCE
        if quick and self._crew is not None and self._thread is not None:
            self._thread.leave()
            self._thread = None  # back to the crew
        return call.result()

    def _free(self) -> _Thread:
        """A thread that waits for work. Raises ``Unavailable(HUNG)``."""
        thread = self._thread
        if thread is not None and thread.at() is None:
            return thread
        if thread is not None:
            self._abandon(thread)
        self._thread = _Thread(self._name)
        return self._thread

    def _abandon(self, thread: _Thread) -> None:
        if self._monotonic() - self._sent_at < self._patience:
            raise Unavailable(SourceState.HUNG, "a read has not come back", _HINT)
        self._abandoned = [one for one in self._abandoned if one.is_alive()]
        if len(self._abandoned) >= MOST_ABANDONED:
            reason = f"{len(self._abandoned) + 1} reads have not come back: it is not asked any more"
            raise Unavailable(SourceState.HUNG, reason, _LAST_HINT)
        thread.leave()
        self._abandoned.append(thread)
        self._patience = min(2 * self._patience, MOST_PATIENCE)


class Crew:
    """A thread for several workers: what they ask in one turn of the event loop costs one hop, not one each.
    Who is slow keeps that thread, and the others go on with another.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: _Thread | None = None

    def send(self, call: _Call[Any]) -> None:
        if self._thread is None:
            self._thread = _Thread(self._name)
        self._thread.send(call)

    def serves(self, worker: Worker) -> bool:
        """Whether a call of this one is under way."""
        at = self._thread.at() if self._thread is not None else None
        return at is not None and at.worker is worker

    def part(self) -> None:
        """From what is under way, if anything is."""
        if self._thread is None:
            return
        waiting = self._thread.withdraw()
        if (at := self._thread.at()) is not None:
            at.worker.keep(self._thread)
            self._thread = None
        for call in waiting:
            self.send(call)


class _Call(Generic[T]):
    """Made by a thread, waited for in the event loop."""

    def __init__(self, worker: Worker, function: Callable[[], T]) -> None:
        self.worker = worker
        self.loop = asyncio.get_running_loop()
        self.back = False
        self._function = function
        self._sent_at = self.loop.time()
        self._waiter: asyncio.Future[None] | None = None
        self._result: T
        self._error: Exception | None = None

    def make(self) -> None:
        try:
            self._result = self._function()
        except Exception as caught:  # carried to the caller, whatever it is
            self._error = caught
        self.back = True

    async def back_within(self, seconds: float) -> bool:
        """Of when it was sent."""
        left = self._sent_at + seconds - self.loop.time()
        if not self.back and left > 0:
            self._waiter = self.loop.create_future()
            timer = self.loop.call_later(left, self.wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
        return self.back

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result


class _Thread(threading.Thread):
    """Makes one call after the other, until it is told to leave."""

    def __init__(self, name: str) -> None:
        super().__init__(name=f"halotui-{name}", daemon=True)
        self._calls: SimpleQueue[_Call[Any] | None] = SimpleQueue()
        self._sent: list[_Call[Any]] = []  # and not back, as far as we know
        self.start()

    def at(self) -> _Call[Any] | None:
        """The call that it is at, or about to begin."""
        return next(self._under_way(), None)

    def send(self, call: _Call[Any]) -> None:
        self._sent = [*self._under_way(), call]
        self._calls.put(call)

    def withdraw(self) -> list[_Call[Any]]:
        """The calls that it has not begun."""
        waiting: list[_Call[Any]] = []
        with suppress(Empty):
            while (call := self._calls.get_nowait()) is not None:
                waiting.append(call)
        self._sent = [call for call in self._sent if call not in waiting]
        return waiting

    def _under_way(self) -> Iterator[_Call[Any]]:
        return (call for call in self._sent if not call.back)

    def leave(self) -> None:
        """Once what it is at has come back, if ever."""
        self._calls.put(None)

    def run(self) -> None:
        made: list[_Call[Any]] = []
        while (call := self._calls.get()) is not None:
            call.make()
            made.append(call)
            if self._calls.empty():  # the loop is woken once for all of them
                with suppress(RuntimeError):  # it has closed: nobody waits any more
                    call.loop.call_soon_threadsafe(_wake, made)
                made = []


async def _refused(hung: Unavailable) -> Any:
    raise hung


def _wake(calls: list[_Call[Any]]) -> None:
    for call in calls:
        call.wake()


_HINT = "a driver in reset blocks its readers: see the kernel log; the rest of halotui goes on"
_LAST_HINT = "the driver is stuck: see the kernel log, and reboot; then start halotui again"
