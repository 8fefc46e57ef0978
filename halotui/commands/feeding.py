"""Opens the live feed: for the screen, for the looks, for ``record`` and ``requests``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from halotui.config import Settings
    from halotui.feed import LiveFeed
    from halotui.hooks.teller import Hooks
    from halotui.hosts import Host
    from halotui.hosts.ssh import SshHost
    from halotui.ledger import Ledger
    from halotui.notebook import Notebook

_T = TypeVar("_T")
STORE = "store.sqlite"  # in the state directory


def live_feed(
    settings: Settings,
    said: Mapping[str, Any],
    one_shot: bool,
    ledger: Path | None = None,
    host: Host | None = None,
    say: Callable[[str], None] | None = None,
) -> LiveFeed:
    """A sampler of ``host``, else of this machine or the one that ``said`` roots in sysfs and procfs.

    Blocks to import. A far host is closed by who opened it.

    ``ledger``: the file that says what is usual and what is silenced, and that keeps what is found and
    learned; without it the rules know only the settings, and nobody is told of findings. ``say`` hears what
    went wrong with telling. Raises ConfigError.
    """
    from halotui import config
    from halotui.feed import FarFeed, LiveFeed
    from halotui.hosts.local import LocalHost
    from halotui.rules.engine import Engine
    from halotui.sampler.core import Options, Sampler

    host = host or LocalHost(said.get("sysfs", Path("/sys")), said.get("procfs", Path("/proc")))
    options = Options(
        urls=settings.urls,
        gpu_source=settings.gpu_source,
        log=said.get("log"),
        stdin=said.get("stdin", 0),
        api_key=os.environ.get(settings.api_key_env) if settings.api_key_env else None,
        fallback_key=os.environ.get("LLAMA_API_KEY"),
        interval=settings.interval,
    )
    engine = Engine(hold=not one_shot, tuning=config.tuning(settings))
    sampler = Sampler(host, options)
    notebook = _notebook(ledger) if ledger is not None else None
    hooks = told(settings, ledger.parent, say) if ledger is not None else None
    if host.here:
        return LiveFeed(sampler, engine, notebook, hooks)
    return FarFeed(cast("SshHost", host), sampler, engine, notebook, hooks)


def told(settings: Settings, state: Path, say: Callable[[str], None] | None) -> Hooks | None:
    """Who is told of findings, as ``[hooks]`` says; None: nobody."""
    if not settings.hooks.wanted:
        return None
    from halotui.hooks.teller import Hooks  # 15 ms, for those who have any

    return Hooks(settings.hooks, state, say)


def _notebook(path: Path) -> Notebook:
    from halotui.notebook import Notebook

    def open_() -> Ledger:
        from halotui.store.ledger import open_ledger  # sqlite3, in the notebook's own thread

        return open_ledger(path)

    return Notebook(open_)


async def until(
    things: AsyncIterator[_T], enough: asyncio.Event, limit: float | None
) -> AsyncGenerator[_T, None]:
    """What comes before ``enough`` is set or so many seconds are over."""
    stop = asyncio.create_task(enough.wait())
    end = asyncio.get_running_loop().time() + limit if limit is not None else None
    coming: asyncio.Future[_T] | None = None
    try:
        while not stop.done():
            coming = coming or asyncio.ensure_future(anext(things))
            left = None if end is None else max(0.0, end - asyncio.get_running_loop().time())
            either: set[asyncio.Future[Any]] = {coming, stop}
            await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                break
            try:
                thing = coming.result()
            except StopAsyncIteration:
                break
            finally:
                coming = None
            yield thing
            if end is not None and asyncio.get_running_loop().time() >= end:
                break
    finally:
        stop.cancel()
        if coming is not None:
            coming.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await coming
