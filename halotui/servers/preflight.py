"""Everything that can be known before the old server is touched: files, flags, port, memory.

Looks only: the running server is not asked, and no model is loaded. Every look has a deadline of its own,
and what could not be seen in time is unknown.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from msgspec.structs import replace

from halotui.actions import ActionError, Check, Value
from halotui.gguf.model_file import Header, read_header
from halotui.hosts import Host, LinkDown
from halotui.hosts.hands import Hands
from halotui.servers import room, runners
from halotui.servers.checks import judged
from halotui.servers.dialect import Dialect, harmless
from halotui.servers.fit import Need, Room, layout, need
from halotui.servers.launch import Launch, Runner
from halotui.servers.looks import Holders, files_and_devices, taken_ports
from halotui.servers.running import Running
from halotui.servers.seen import Answer, Model, Seen
from halotui.servers.vocabulary import from_environment, parse, spoken, values
from halotui.servers.wish import Wish

RUN_SECONDS = 30.0  # a container's first start on a cold disk
ASK_SECONDS = 3.0  # of podman, systemd and their like
LOOK_SECONDS = 8.0  # into files, which may lie on a sleeping disk or a lost network
T = TypeVar("T")


_PROJECTOR = ("-mm", "--mmproj")
_PLACE = {
    Runner.TOOLBOX: (("podman", "container", "exists"), "container"),
    Runner.DISTROBOX: (("podman", "container", "exists"), "container"),
    Runner.PODMAN: (("podman", "image", "exists"), "image"),
    Runner.DOCKER: (("docker", "image", "inspect", "--format", "ok"), "image"),
    Runner.SYSTEMD: (("systemctl", "--user", "show", "-p", "LoadState", "--value"), "unit"),
}
_KILLS = (
    *("busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1"),
    *("org.freedesktop.login1.Manager", "KillUserProcesses"),
)


async def preflight(
    wish: Wish,
    launch: Launch,
    arguments: tuple[str, ...],
    dialect: Dialect,
    running: Running | None,
    host: Host,
    hands: Hands,
    *,
    busy: int | None,
) -> tuple[Check, ...]:
    """The list, in its fixed order. ``arguments`` are rendered; ``busy``: requests that run now."""
    said = from_environment(wish.env) | values(parse(arguments, dialect) if arguments else wish.words)
    names = said.get("model") or launch.model, said.get("draft")
    paths = [PurePath(wish.cwd, str(name)) if name else None for name in names]
    ports = _ports(wish, said)
    unseen: dict[str, Any] = {}
    nobody: tuple[tuple[int, ...], Holders] = ((), {})
    look = await _aside(lambda: files_and_devices(wish, launch, arguments, host), unseen)
    answers, (model, draft), old, (taken, holders) = await asyncio.gather(
        _answers(wish, launch, arguments, dialect, hands, None if look.get("cwd") else launch.cwd),
        _both(_header(host, paths[0]), _header(host, paths[1])),
        _old_need(host, running, dialect),
        _aside(lambda: taken_ports(ports, host, hands), nobody),
    )
    seen = Seen(
        wish=wish,
        values=said,
        arguments=arguments,
        dialect=dialect,
        running=running,
        busy=busy,
        model=model,
        draft=draft,
        ports=ports,
        taken=taken,
        holders=holders,
        **answers,
        **look,
    )
    pid = running.process.pid if running else None
    expected = old.least if old and running and running.facts.backend != "cpu" else None
    space = await _aside(lambda: room.read(host, pid, expected), Room())
    return judged(replace(seen, room=space, need=await _aside(lambda: _need(host, seen), None)))


async def _both(one: Any, other: Any) -> tuple[Model, Model]:
    return await one, await other


async def _aside(look: Callable[[], T], instead: T, seconds: float = LOOK_SECONDS) -> T:
    """A look that may hang, in a thread that nobody waits for when it does."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = look()
        except BaseException as caught:
            error = caught
        with suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="preflight", daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            return await future
    except LinkDown:
        raise
    except (TimeoutError, OSError):
        return instead


async def _header(host: Host, path: PurePath | None) -> Model:
    if path is None:
        return None

    def look() -> Model:
        try:
            return read_header(Path(path), host)
        except ActionError as error:
            return error

    return await _aside(look, ActionError(f"{path.name} cannot be read within {LOOK_SECONDS:.0f} s"))


async def _old_need(host: Host, running: Running | None, dialect: Dialect) -> Need | None:
    """What the server that leaves was reckoned to take: for a share that the driver does not tell."""
    if running is None:
        return None
    said = from_environment(running.env) | values(parse(running.arguments, dialect))
    name, draft = said.get("model"), said.get("draft")
    model = await _header(host, PurePath(running.cwd, str(name)) if name else None)
    small = await _header(host, PurePath(running.cwd, str(draft)) if draft else None)
    if not isinstance(model, Header):
        return None
    return need(model, layout(said), small if isinstance(small, Header) else None, layout(said, draft=True))


def _need(host: Host, seen: Seen) -> Need | None:
    if not isinstance(seen.model, Header):
        return None
    draft = seen.draft if isinstance(seen.draft, Header) else None
    projectors = [file.path for file in seen.files if file.flag in _PROJECTOR and not file.problem]
    weights = 0
    with suppress(OSError):
        weights = sum(host.stat(path).size for path in projectors)
    return need(seen.model, layout(seen.values), draft, layout(seen.values, draft=True), weights)


async def _answers(
    wish: Wish,
    launch: Launch,
    arguments: Sequence[str],
    dialect: Dialect,
    hands: Hands,
    cwd: str | None,
) -> dict[str, Any]:
    """What the binary, the container and logind say, side by side."""
    quiet = replace(wish, env=harmless(wish.env))
    env = harmless(launch.env)
    version: Answer = None
    parsed: Answer = None
    place, kills = await asyncio.gather(_place(wish, env, hands), _kills(hands))
    if wish.runner is not Runner.SYSTEMD and not (place and not isinstance(place, str) and place.code):
        probe = runners.probe(quiet)
        flags = spoken(word for word in parse(arguments, dialect) if word.setting != "log-file")
        version, parsed = await asyncio.gather(
            _run(hands, (*probe, "--version"), env, cwd), _run(hands, (*probe, *flags, "--version"), env, cwd)
        )
    if isinstance(version, str) or (version and version.code):
        parsed = None  # says the same once more
    return {"version": version, "parsed": parsed, "place": place, "kills": kills}


async def _run(
    hands: Hands,
    argv: Sequence[str],
    env: Mapping[str, str] | None,
    cwd: str | None,
    seconds: float = RUN_SECONDS,
) -> Answer:
    try:
        return await hands.run(argv, env=env, cwd=cwd, seconds=seconds)
    except LinkDown:
        raise
    except TimeoutError:
        return f"{PurePath(argv[0]).name} did not answer within {seconds:.0f} s"
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        return f"{argv[0]}: {reason or 'cannot be run'}"


async def _place(wish: Wish, env: Mapping[str, str], hands: Hands) -> Answer:
    if wish.runner not in _PLACE:
        return None
    command, attribute = _PLACE[wish.runner]
    name = getattr(wish, attribute)
    return await _run(hands, (*command, name), env, None, ASK_SECONDS) if name else None


async def _kills(hands: Hands) -> bool | None:
    done = await _run(hands, _KILLS, None, None, ASK_SECONDS)
    return done.out.split() == ["b", "true"] if not isinstance(done, str) and done and not done.code else None


def _ports(wish: Wish, said: Mapping[str, Value]) -> tuple[tuple[str, int], ...]:
    """Address and port that it will listen on; none for a Unix socket or a unit."""
    try:
        parts = urlsplit(wish.url)
        port = parts.port
    except ValueError:
        return ()
    if not parts.scheme.startswith("http") or not port:
        return ()
    hosts = [name.strip() for name in str(said.get("host") or parts.hostname or "127.0.0.1").split(",")]
    return tuple((name, port) for name in hosts[:1] if name and not name.endswith(".sock"))
