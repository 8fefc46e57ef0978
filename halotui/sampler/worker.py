"""A blocking read with a deadline: a GPU in reset blocks its readers for ever, and must cost only itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from halotui.model import SourceState, Unavailable

T = TypeVar("T")


class Worker:
    """One daemon thread for one source.

    While a call has not come back no second one is sent after it, and a thread stuck in the kernel does
    not keep the program from ending, as a pool's thread would.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pending: asyncio.Future[Any] | None = None

    async def call(self, function: Callable[[], T], deadline: float) -> T:
        """The function's result, or its exception; ``Unavailable(HUNG)`` past ``deadline`` seconds."""
        if self._pending is not None and not self._pending.done():
            raise Unavailable(SourceState.HUNG, "a read has not come back", _HINT)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"halotui-{self._name}", daemon=True)
            self._thread.start()
        self._pending = future = asyncio.get_running_loop().create_future()
        self._calls.put((function, future))
        done, _ = await asyncio.wait((future,), timeout=deadline)
        if not done:
            raise Unavailable(SourceState.HUNG, f"no answer within {deadline:g} s", _HINT)
        result: T = future.result()
        return result

    def _run(self) -> None:
        while True:
            function, future = self._calls.get()
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
