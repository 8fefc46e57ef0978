"""Which server is probed, and whether it can be now: found, asked once, waited for while it loads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from halotui import exits
from halotui.collectors.http_wire import Door, door_of
from halotui.collectors.llama_http import HttpKind, HttpProblem, LlamaHttp
from halotui.commands.feeding import live_feed
from halotui.exits import UsageError
from halotui.model import Server, ServerProcess, ServerState
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.commands.places import Place
    from halotui.config import Settings
    from halotui.hosts import Host

ANSWER_SECONDS = 2.0  # of a look
APART_SECONDS = 0.25  # between two looks: the second has what takes time to read
LOADING_SECONDS = 60.0  # to wait for one that loads
PROPS_SECONDS = 10.0  # older builds may be in a batch
_ENGINE = "llama.cpp"


class NoTarget(Exception):
    """One line that says why, and the exit code."""

    def __init__(self, words: str, code: int = exits.UNREACHABLE) -> None:
        super().__init__(words)
        self.code = code


class Target(NamedTuple):
    """A server that answers."""

    server: Server
    address: str
    api_key: str | None
    sleepy: bool
    door: Door | None  # the way to a far box

    def __repr__(self) -> str:
        """Without the key."""
        return f"Target({self.server.url!r})"


async def target(where: Place, host: Host, seconds: float, tell: Callable[[str], None]) -> Target:
    """The server of ``--url``, else the only one of the box. Raises UsageError and NoTarget."""
    settings = where.settings
    if len(settings.urls) > 1:
        raise UsageError(f"one server at a time, with --url: {' '.join(settings.urls)}")
    server = _chosen(await _looked(where, host), settings.urls)
    process = await asyncio.to_thread(_process, host, settings, server.url)
    door = door_of(host)
    address = server.address or server.url
    key = _key(settings, process)
    sleeping, waited = await _ready(address, door, server, key, min(seconds, LOADING_SECONDS), tell)
    if waited:
        server = _chosen(await _looked(where, host), settings.urls)
    may_sleep = process is not None and (process.sleep_idle_seconds or -1) > 0
    return Target(server, address, key, sleeping or may_sleep, door)


async def _looked(where: Place, host: Host) -> Sequence[Server]:
    """All that the dashboard would know of them at once."""
    feed = await asyncio.to_thread(live_feed, where.settings, where.said, True, None, host)
    try:
        await feed.one(ANSWER_SECONDS)
        await asyncio.sleep(APART_SECONDS)
        return (await feed.one(ANSWER_SECONDS)).servers
    finally:
        await feed.close()


def _chosen(servers: Sequence[Server], urls: Sequence[str]) -> Server:
    if urls:
        return next(
            (one for one in servers if one.url == urls[0]), Server(url=urls[0], state=ServerState.DOWN)
        )
    ours = [one for one in servers if one.engine == _ENGINE]
    serving = [one for one in ours if not one.models] or ours
    match serving:
        case [one]:
            return one
        case []:
            raise NoTarget("no llama-server runs here; another box's: --url http://HOST:PORT")
    raise UsageError(f"{len(serving)} servers run: --url, which one? {' '.join(one.url for one in serving)}")


def _process(host: Host, settings: Settings, url: str) -> ServerProcess | None:
    """What its command line tells, where it is of this box: the key, whether it sleeps."""
    from halotui.collectors import discovery

    found: dict[str, ServerProcess] = {}
    with suppress(OSError):
        for one in discovery.find(host, settings.urls):
            found.setdefault(one.url, one)
    process = found.get(url)
    if process is not None and not process.api_key and process.behind in found:
        return replace(process, api_key=found[process.behind].api_key)
    return process


def _key(settings: Settings, process: ServerProcess | None) -> str | None:
    """As everywhere: the one that was named, its own, the usual variable's."""
    named = os.environ.get(settings.api_key_env) if settings.api_key_env else None
    return named or (process.api_key if process is not None else None) or os.environ.get("LLAMA_API_KEY")


async def _ready(
    address: str,
    door: Door | None,
    server: Server,
    key: str | None,
    seconds: float,
    tell: Callable[[str], None],
) -> tuple[bool, bool]:
    """Whether it sleeps, and whether it was waited for. Raises NoTarget."""
    loop = asyncio.get_running_loop()
    end, waited = loop.time() + seconds, False
    http = LlamaHttp(address, key, door=door)
    try:
        while True:
            try:
                async with asyncio.timeout(PROPS_SECONDS):
                    return bool((await http.props()).is_sleeping), waited
            except TimeoutError:
                raise NoTarget(f"{server.url}: no answer within {PROPS_SECONDS:g} s") from None
            except HttpProblem as problem:
                if problem.kind is HttpKind.ROUTER:
                    raise NoTarget(_router(server), exits.USAGE) from None
                if problem.kind is not HttpKind.LOADING or loop.time() > end:
                    locked = problem.kind is HttpKind.LOCKED
                    hint = "; name the variable that holds it: --api-key-env" if locked else ""
                    raise NoTarget(f"{server.url}: {problem.reason}{hint}") from None
            if not waited:
                tell(f"{server.url} loads its model: waiting up to {seconds:g} s")
            waited = True
            await asyncio.sleep(0.5)
    finally:
        await http.aclose()


def _router(server: Server) -> str:
    loaded = [clean(f"{one.address} ({one.id})") for one in server.models if one.address]
    models = f"one of its models: {' '.join(loaded)}" if loaded else "load a model, and name its own address"
    return f"{server.url} is a router: probe {models}"
