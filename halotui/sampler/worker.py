"""A blocking read with a deadline: a GPU in reset blocks its readers for ever, and must cost only itself."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from halotui.model import SourceState, Unavailable

T = TypeVar("T")
_Call = tuple[Callable[[], Any], asyncio.Future[Any]]

PATIENCE = 30.0  # seconds that a stuck thread is waited for; after each that was abandoned twice as long
MOST_PATIENCE = 600.0
MOST_ABANDONED = 8  # threads stuck in the kernel; each holds a stack, and none comes back before a reboot


class Worker:
    """One daemon thread for one source.

    While a call has not come back no second one is sent after it. A thread that stays stuck in the kernel
    is abandoned, and a fresh one asks again: what hung may have been mended, and the old thread not told. It
    does not keep the program from ending, as a pool's thread would. Should it come back after all, it ends;
    so a function must leave nothing behind but its result, which nobody takes then.
    """

    def __init__(self, name: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._monotonic = monotonic
        self._patience = PATIENCE
        self._thread: _Thread | None = None
        self._abandoned: list[_Thread] = []

    async def call(self, function: Callable[[], T], deadline: float) -> T:
        """The function's result, or its exception; ``Unavailable(HUNG)`` past ``deadline`` seconds."""
        future = self._free().send(function, self._monotonic())
        done, _ = await asyncio.wait((future,), timeout=deadline)
        if not done:
            raise Unavailable(SourceState.HUNG, f"no answer within {deadline:g} s", _HINT)
        self._patience = PATIENCE
        result: T = future.result()
        return result

    def _free(self) -> _Thread:
        """A thread that waits for work. Raises ``Unavailable(HUNG)``."""
        thread = self._thread
        if thread is not None and not thread.stuck:
            return thread
        if thread is not None:
            self._abandon(thread)
        fresh = _Thread(name=f"halotui-{self._name}", daemon=True)
        fresh.start()
        self._thread = fresh
        return fresh

    def _abandon(self, thread: _Thread) -> None:
        if self._monotonic() - thread.sent_at < self._patience:
            raise Unavailable(SourceState.HUNG, "a read has not come back", _HINT)
        self._abandoned = [one for one in self._abandoned if one.is_alive()]
        if len(self._abandoned) >= MOST_ABANDONED:
            reason = f"{len(self._abandoned) + 1} reads have not come back: it is not asked any more"
            raise Unavailable(SourceState.HUNG, reason, _LAST_HINT)
        thread.leave()
        self._abandoned.append(thread)
        self._patience = min(2 * self._patience, MOST_PATIENCE)


class _Thread(threading.Thread):
    """Makes one call after the other, until it is told to leave."""

    def __init__(self, name: str, daemon: bool) -> None:
        super().__init__(name=name, daemon=daemon)
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._pending: asyncio.Future[Any] | None = None
        self.sent_at = 0.0  # seconds, of the last call

    @property
    def stuck(self) -> bool:
        return self._pending is not None and not self._pending.done()

    def send(self, function: Callable[[], Any], now: float) -> asyncio.Future[Any]:
        self.sent_at = now
        self._pending = future = asyncio.get_running_loop().create_future()
        self._calls.put((function, future))
        return future

    def leave(self) -> None:
        """Once what it is at has come back, if ever."""
        self._calls.put(None)

    def run(self) -> None:
        while (call := self._calls.get()) is not None:
            function, future = call
            try:
                result, error = function(), None
            except Exception as caught:  # carried to the caller, whatever it is
                result, error = None, caught
            with suppress(RuntimeError):  # the loop has closed: nobody waits any more
                future.get_loop().call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
        future.exception()  # a late error that nobody awaits is not worth a warning


_HINT = "a driver in reset blocks its readers: see the kernel log; the rest of halotui goes on"
_LAST_HINT = "the driver is stuck: see the kernel log, and reboot; then start halotui again"
