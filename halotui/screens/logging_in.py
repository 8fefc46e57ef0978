"""``L``: the screen is put aside while ssh asks on the terminal."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from textual.app import App

from halotui.safe import clean


async def log_in(app: App[Any], name: str, login: Callable[[], Awaitable[None]]) -> str:
    """Why it did not work; empty when it did. Ctrl-C ends the attempt alone."""
    trying = asyncio.ensure_future(login())
    try:
        with app.batch_update(), _aside(app, name), _interrupts(trying.cancel):
            await asyncio.wait({trying})
    finally:
        trying.cancel()
    if trying.cancelled():
        return "interrupted"
    error = trying.exception()
    return clean(str(error) or type(error).__name__) if error is not None else ""


@contextmanager
def _aside(app: App[Any], name: str) -> Iterator[None]:
    """Without the screen; where there is no terminal (under test), as it is."""
    if app._driver is None or not app._driver.can_suspend:
        yield
        return
    with app.suspend():
        print(f"halotui: logging in to {name}; ctrl-c: back", file=sys.stderr, flush=True)
        yield


@contextmanager
def _interrupts(end: Callable[[], object]) -> Iterator[None]:
    """Ctrl-C is a signal on a terminal that is not ours: it does this and no more."""
    loop, before = asyncio.get_running_loop(), signal.getsignal(signal.SIGINT)
    try:
        loop.add_signal_handler(signal.SIGINT, end)
    except (RuntimeError, ValueError):  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)
