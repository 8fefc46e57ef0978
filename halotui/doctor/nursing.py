"""Looks into one server: the libraries of its process, and the pre-flight of what it runs with.

It reads, and runs one command: for logind's setting.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from halotui.actions import ActionError, Check, Value
from halotui.doctor.libraries import OF_A_GPU, linked
from halotui.doctor.lines import FAR_PATIENCE, PATIENCE, Linked, Nursed
from halotui.gguf.model_file import Header, read_header
from halotui.hosts import Host
from halotui.hosts.hands import Hands
from halotui.model import Server
from halotui.safe import clean
from halotui.servers import room
from halotui.servers.checks import judged
from halotui.servers.dialect import Dialect
from halotui.servers.fit import Need, Room, layout, need
from halotui.servers.running import Running, inspect
from halotui.servers.seen import Logout, Model, Seen
from halotui.servers.vocabulary import from_environment, parse, values
from halotui.servers.wish import wish_of

T = TypeVar("T")
_NO_NAMES: tuple[str, ...] = ()
_SCRIPTED = re.compile(r"python|pypy|bash|sh\Z")  # its own libraries say nothing of what it serves with
_KILLS = (
    *("busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1"),
    *("org.freedesktop.login1.Manager", "KillUserProcesses"),
)


class Aside:
    """A look that may hang, in a thread that nobody waits for when it does. A far box is given more time."""

    def __init__(self, host: Host) -> None:
        self.seconds = PATIENCE if host.here else FAR_PATIENCE

    async def __call__(self, seek: Callable[[], T], instead: T) -> T:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def settle(found: T) -> None:
            if not answer.done():
                answer.set_result(found)

        def work() -> None:
            found = instead
            with suppress(Exception):  # whatever it is, the other looks are worth having
                found = seek()
            with suppress(RuntimeError):  # the loop has closed
                loop.call_soon_threadsafe(settle, found)

        threading.Thread(target=work, name="halotui-doctor", daemon=True).start()
        with suppress(TimeoutError):
            return await asyncio.wait_for(answer, self.seconds)
        return instead


async def nursed(host: Host, hands: Hands, server: Server) -> Nursed:
    """Never raises."""
    aside, pid = Aside(host), server.pid or 0
    loaded, libraries = await asyncio.gather(
        aside(lambda: _loaded(host, pid), _NO_NAMES), aside(lambda: _linked(host, pid), None)
    )
    checks: tuple[Check, ...] = ()
    refusal = hint = ""
    try:
        async with asyncio.timeout(2 * aside.seconds):
            running = await inspect(host, hands, pid, log_dir=Path("/nonexistent"))
            checks = await _checks(host, hands, running, server.backend)
    except ActionError as error:
        refusal, hint = error.reason, error.hint or ""
    except (OSError, TimeoutError, ValueError):
        refusal = "it could not be looked into in time"
    return Nursed(
        url=server.url,
        pid=pid,
        linked=libraries,
        loaded=loaded,
        checks=checks,
        refusal=clean(refusal),
        hint=clean(hint),
    )


def _loaded(host: Host, pid: int) -> tuple[str, ...]:
    """The GPU's libraries in its memory: what it really computes with."""
    maps = host.read(host.procfs / str(pid) / "maps").decode("utf-8", "replace")
    files = {line.partition("/")[2].rpartition("/")[2] for line in maps.splitlines() if "/" in line}
    return tuple(sorted(clean(name) for name in files if name.startswith(OF_A_GPU)))


def _linked(host: Host, pid: int) -> Linked | None:
    """None where it is no program of its own."""
    place = host.procfs / str(pid)
    try:
        exe = host.readlink(place / "exe")  # as its container names it
    except OSError as error:
        return Linked(path="", problem=error.strerror or "its program cannot be read")
    if _SCRIPTED.match(Path(exe).name):
        return None
    paths = [word[16:] for word in _environ(host, place) if word.startswith("LD_LIBRARY_PATH=")]
    file = Path(exe.removesuffix(" (deleted)"))
    return linked(host, file, _root(host, place), {"LD_LIBRARY_PATH": ":".join(paths)})


def _environ(host: Host, place: Path) -> list[str]:
    return text(host, place / "environ").split("\0")


def _root(host: Host, place: Path) -> Path:
    """Of the files that a process sees: the box's, unless it is a container's."""
    root = place / "root"
    with suppress(OSError):
        own, box = host.stat(root), host.stat("/")
        if (own.dev, own.ino) != (box.dev, box.ino):
            return root
    return Path("/")


async def _checks(host: Host, hands: Hands, running: Running, backend: str | None) -> tuple[Check, ...]:
    """The pre-flight of the server as it is. Raises ActionError."""
    aside, process = Aside(host), running.process
    wish = wish_of(None, running, {}, None, host.environ, home=host.user.home, keys=os.environ)
    said = from_environment(running.env) | values(parse(running.arguments))
    root = await aside(lambda: _root(host, host.procfs / str(process.pid)), Path("/"))
    model, draft, kills, logout, kernel = await asyncio.gather(
        _header(host, said.get("model"), running.cwd, root),
        _header(host, said.get("draft"), running.cwd, root),
        _kills(hands, aside.seconds),
        aside(lambda: _logout(host, process.cgroup), Logout()),
        aside(lambda: text(host, host.procfs / "cmdline"), ""),
    )
    whole = _need(said, model, draft)
    kind = backend or wish.backend
    expected = whole.least if whole and kind != "cpu" else None
    free = await aside(lambda: room.read(host, process.pid, expected), Room())
    gpu = free.others or free.gtt_bytes is not None or free.vram_bytes is not None
    wish = replace(wish, backend=kind or (None if gpu else "cpu"))
    seen = Seen(
        wish=wish,
        values=said,
        arguments=running.arguments,
        dialect=Dialect(),
        model=model,
        draft=draft,
        room=replace(free, held_bytes=None),  # it is in there already: no old server leaves
        need=whole,
        logout=logout,
        kills=kills,
        kernel=kernel,
    )
    return judged(seen)


def _logout(host: Host, cgroup: str) -> Logout:
    kept, lingers = host.root / "var/lib/systemd", None
    name = host.user.name
    if not name.isdecimal():  # a user without a name, as in a container
        with suppress(OSError):
            host.stat(kept)
            lingers = host.access(kept / "linger" / name, os.F_OK)
    return Logout(in_session="/session-" in cgroup, in_manager="/user@" in cgroup, lingers=lingers)


async def _header(host: Host, named: Value | None, cwd: str, root: Path) -> Model:
    if not named:
        return None

    def seek() -> Model:
        try:
            return read_header(root / str(Path(cwd, str(named))).lstrip("/"), host)
        except ActionError as error:
            return error

    late = ActionError(f"{clean(Path(str(named)).name)} cannot be read in time")
    return await Aside(host)(seek, late)


def _need(said: dict[str, Value], model: Model, draft: Model) -> Need | None:
    if not isinstance(model, Header):
        return None
    small = draft if isinstance(draft, Header) else None
    return need(model, layout(said), small, layout(said, draft=True))


async def _kills(hands: Hands, seconds: float) -> bool | None:
    try:
        done = await hands.run(_KILLS, seconds=seconds)
    except (OSError, TimeoutError):
        return None
    return done.out.split() == ["b", "true"] if not done.code else None


def text(host: Host, path: Path) -> str:
    """Of a small file; empty where it cannot be read."""
    try:
        return host.read(path).decode("utf-8", "replace")
    except OSError:
        return ""
