"""Ending a server: TERM, TERM, and KILL with consent; then its port and its memory."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from stat import S_ISSOCK
from urllib.parse import urlsplit

from msgspec import Struct

from halotui.hosts import Host
from halotui.hosts.hands import Hands, Identity
from halotui.servers import there
from halotui.servers.launch import Launch

LOOK = 0.05  # seconds between looks
KNOCK = 0.3  # seconds
_ACCEPTS = "00010000"  # __SO_ACCEPTCON, in /proc/net/unix
SAME_BYTES = 32 << 20  # memory that moves by less stands still


class Patience(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds for each part of an end."""

    first: float = 5.0  # a running request keeps the server from leaving
    second: float = 10.0  # the second TERM makes it leave at once
    kill: float = 10.0  # longer, and it is stuck in the kernel
    command: float = 120.0  # podman stop and systemctl stop do all of that themselves, and kill after 90 s
    port: float = 20.0
    memory: float = 10.0
    watch: float = 2.0  # from when the new one serves, before it is kept
    heart: float = 30.0  # that a far box hears nothing of us, before it puts back itself what ran


class Stays(Exception):
    """It is still there. The text says what was tried."""


async def stop(
    hands: Hands,
    who: Identity,
    launch: Launch,
    may_kill: Callable[[], Awaitable[bool]],
    tell: Callable[[str], None],
    patience: Patience,
) -> None:
    """Returns when the process is gone. Raises Stays."""
    if launch.stop:
        tell(" ".join(launch.stop[:3]))
        try:
            done = await hands.run(launch.stop, seconds=patience.command)
        except (OSError, TimeoutError) as error:
            raise Stays(f"{launch.stop[0]}: {error or 'no end'}") from None
        if done.code and await asyncio.to_thread(hands.alive, who):
            raise Stays(f"{' '.join(launch.stop)}: {done.err.strip() or f'code {done.code}'}")
        if not await gone(hands, who, patience.second):
            raise Stays(f"pid {who.pid} outlived {' '.join(launch.stop[:3])}")
        return
    for number, wait, words in (
        (signal.SIGTERM, patience.first, "asked to stop"),
        (signal.SIGTERM, patience.second, "asked again: a request may hold it"),
    ):
        tell(words)
        if not await asyncio.to_thread(hands.signal, who, number) or await gone(hands, who, wait):
            return
    if not await may_kill():
        raise Stays(f"pid {who.pid} did not stop on TERM, twice, and was not killed")
    tell("killed")
    killed = await asyncio.to_thread(hands.signal, who, signal.SIGKILL)
    if killed and not await gone(hands, who, patience.kill):
        raise Stays(f"pid {who.pid} does not die: the kernel holds it")


async def gone(hands: Hands, who: Identity, seconds: float) -> bool:
    """Whether it is, within so long."""
    deadline = time.monotonic() + seconds
    while await asyncio.to_thread(hands.alive, who):
        if time.monotonic() >= deadline:
            return False
        hands.exit_code(who)  # buries it, if it is our own child
        await asyncio.sleep(LOOK)
    return True


def place(url: str) -> tuple[str, int] | None:
    """Host and port; None for a socket in the file system."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


async def port_free(host: Host, hands: Hands, url: str, seconds: float, *, lingering: bool = False) -> bool:
    """Whether the port is free, within so long; a socket in the file system, once nobody answers there."""
    deadline = time.monotonic() + seconds
    while await _taken(host, hands, url, lingering):
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(4 * LOOK)
    return True


async def _taken(host: Host, hands: Hands, url: str, lingering: bool) -> bool:
    at, path = place(url), url.removeprefix("unix:")
    if at is not None:
        return await asyncio.to_thread(partial(hands.port_taken, *at, lingering=lingering))
    if path == url:
        return False
    if host.here:
        return await asyncio.to_thread(_socket_taken, Path(path))
    found = await asyncio.to_thread(there.stat, host, path)
    if found is None:
        return False
    if not S_ISSOCK(found.mode) or await asyncio.to_thread(_listens, host, path):
        return True
    await hands.run(("rm", "-f", "--", path))
    return False


def _listens(host: Host, path: str) -> bool:
    """Whether somebody does on that socket there, as the kernel's table says."""
    rows = os.fsdecode(host.read(host.procfs / "net/unix")).splitlines()
    fields = (row.split(None, 7) for row in rows)
    return any(len(row) == 8 and row[3] == _ACCEPTS and row[7] == path for row in fields)


def _socket_taken(path: Path) -> bool:
    """Whether somebody listens there, or something else lies there. llama-server leaves its socket behind
    and cannot bind to it again, so a dead one is removed."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as knock:
        knock.settimeout(KNOCK)
        try:
            knock.connect(str(path))
        except FileNotFoundError:
            return False
        except ConnectionRefusedError:
            if path.is_socket():
                path.unlink()
                return False
    return True


async def memory_back(
    pool: Callable[[], int | None], held: int | None, before: int | None, seconds: float
) -> None:
    """Until the pool has given back ``held`` bytes of what it was, or stands still; at most so long."""
    deadline = time.monotonic() + seconds
    seen: list[int] = []
    while time.monotonic() < deadline:
        now = await asyncio.to_thread(pool)
        if now is None:
            return
        if held and before is not None and before - now >= 0.9 * held:
            return
        seen = [*seen[-3:], now]
        if len(seen) == 4 and max(seen) - min(seen) < SAME_BYTES:
            return
        await asyncio.sleep(0.25)
