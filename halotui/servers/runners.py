"""How a server is started through each runner: pure builders of command lines, no shell in any of them.

A secret never stands in a command line: plain servers and containers get it by environment (``--env NAME``
takes the value from the client's own), a toolbox by a key file, since its home is ours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from msgspec.structs import replace

from halotui.actions import ActionError
from halotui.hosts.hands import MARK
from halotui.servers import units
from halotui.servers.containers import STOP_SECONDS
from halotui.servers.launch import Launch, Runner
from halotui.servers.named_files import named_files
from halotui.servers.secret import is_secret

if TYPE_CHECKING:
    from halotui.servers.wish import Wish

PROFILE = "HALOTUI_PROFILE"
KEY = "LLAMA_API_KEY"
KEY_FILE = "--api-key-file"
LONGEST_LOAD_SECONDS = 600.0

# What a client of podman, systemd and their like needs; not a whole login, for it is written to disk.
_CLIENT = re.compile(
    r"(PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|TMPDIR|TZ)$"
    r"|(LC|XDG|DBUS|CONTAINERS?|DOCKER|PODMAN|DBX|TOOLBOX|REGISTRY)_"
)
_SESSION_ONLY = re.compile(r"XDG_(SESSION|SEAT|VTNR|ACTIVATION|CURRENT|MENU)")

_DEVICES = {"rocm": ("/dev/kfd", "/dev/dri"), "vulkan": ("/dev/dri",), "cpu": (), None: ("/dev/dri",)}
# A container sees the GPU only with the groups of its nodes, and without SELinux's labels and the filter
# of system calls, which ROCm's memory calls do not pass.
_RIGHTS = {
    Runner.PODMAN: ("--group-add=keep-groups",),
    Runner.DOCKER: ("--group-add=video", "--group-add=render"),
}
_OPEN = ("--security-opt=label=disable", "--security-opt=seccomp=unconfined")

_HUGGING_FACE = "snapshots"  # full of links into the directory beside it


def launch(
    wish: Wish,
    arguments: tuple[str, ...],
    *,
    id: str,
    log: str,
    key_file: str = "",
    environ: Mapping[str, str] | None = None,
) -> Launch:
    """The way to start ``wish`` with ``arguments`` (rendered, without keys). ``environ`` is the login's there
    (None: ours), for the clients of containers. Raises ActionError where a secret could only pass by command
    line.
    """
    marks = {MARK: id} | ({PROFILE: wish.name} if wish.name else {})
    order = _Order(wish, arguments, marks, log, key_file, client_env(environ))
    return _BUILDERS[wish.runner](order)


def probe(wish: Wish) -> tuple[str, ...]:
    """The words before ``--help`` and ``--version``, for what would run; empty: a unit, not to be asked."""
    match wish.runner:
        case Runner.TOOLBOX | Runner.DISTROBOX:
            return entered(wish.runner, wish.container, _shown(wish.env), wish.binary)
        case Runner.PODMAN | Runner.DOCKER:
            words = tuple(text for word in wish.words for text in word.text)
            return _run(wish, words, ("--rm", "--network=none"))
        case Runner.SYSTEMD:
            return ()
    return wish.binary


def client_env(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What of ``environ`` (None: ours) a client of podman, toolbox or systemd needs; never a secret."""
    environ = os.environ if environ is None else environ
    kept = (name for name in environ if _CLIENT.match(name) and not _SESSION_ONLY.match(name))
    return {name: environ[name] for name in kept if not is_secret(name)}


def entered(runner: Runner, container: str, env: Mapping[str, str], words: Sequence[str]) -> tuple[str, ...]:
    """``words`` run in a toolbox or distrobox; ``env`` holds no secret."""
    enter = {
        Runner.TOOLBOX: ("toolbox", "run", "--container", container),
        Runner.DISTROBOX: ("distrobox", "enter", "--name", container, "--"),
    }[runner]
    pairs = tuple(f"{name}={value}" for name, value in env.items())
    return (*enter, *(("env", *pairs) if pairs else ()), *words)


def unit_launch(
    unit: units.Unit,
    *,
    name: str,
    url: str,
    api_key: str | None,
    model: str = "",
    environ: Mapping[str, str] | None = None,
) -> Launch:
    """A service of the user, started by systemd. What it runs stands in the unit."""
    return Launch(
        name=name,
        runner=Runner.SYSTEMD,
        argv=unit.start,
        env=client_env(environ),
        url=url,
        api_key=api_key,
        hands_over=True,
        stop=unit.stop,
        find_pid=unit.find_pid,
        model=model,
    )


class _Order(NamedTuple):
    wish: Wish
    arguments: tuple[str, ...]
    marks: dict[str, str]
    log: str
    key_file: str
    client: dict[str, str]


def _plain(order: _Order) -> Launch:
    env = {**_key(order), **order.wish.env, **order.marks}
    return _launch(order, (*order.wish.binary, *order.arguments), env)


def _box(order: _Order) -> Launch:
    wish, arguments = order.wish, order.arguments
    secrets = {name for name in wish.env if is_secret(name)} | set(_key(order))
    if KEY in secrets and order.key_file:
        secrets.remove(KEY)
        arguments = (*arguments, KEY_FILE, order.key_file)
    if secrets:
        raise ActionError(
            f"{', '.join(sorted(secrets))} cannot be handed to a {wish.runner} without showing it",
            "give the server a key file (api_key_file), or set it inside the container",
        )
    words = (*wish.binary, *arguments)
    argv = entered(wish.runner, wish.container, _shown(wish.env) | order.marks, words)
    return _launch(order, argv, order.client | order.marks)


def _engine(order: _Order) -> Launch:
    wish, name = order.wish, f"halotui-{order.marks[MARK]}"
    hidden = {name: value for name, value in wish.env.items() if is_secret(name)}
    hidden = {**_key(order), **hidden, **order.marks}  # the marks too: what puts it back has another one
    by_name = tuple(f"--env={name}" for name in hidden)
    run = _run(wish, order.arguments, ("--rm", f"--name={name}", "--network=host", *by_name))
    launch = _launch(order, (*run, *order.arguments), order.client | hidden)
    return replace(launch, stop=(wish.runner.value, "stop", "-t", STOP_SECONDS, name))


def _unit(order: _Order) -> Launch:
    wish = order.wish
    started = unit_launch(
        units.Unit(name=wish.unit), name=wish.name, url=wish.url, api_key=wish.api_key, environ={}
    )
    return replace(started, env=order.client, load_seconds=wish.load_seconds or started.load_seconds)


_BUILDERS: dict[Runner, Callable[[_Order], Launch]] = {
    Runner.PLAIN: _plain,
    Runner.TOOLBOX: _box,
    Runner.DISTROBOX: _box,
    Runner.PODMAN: _engine,
    Runner.DOCKER: _engine,
    Runner.SYSTEMD: _unit,
}


def _launch(order: _Order, argv: tuple[str, ...], env: dict[str, str]) -> Launch:
    wish = order.wish
    model = next((str(word.value) for word in reversed(wish.words) if word.setting == "model"), "")
    return Launch(
        name=wish.name,
        runner=wish.runner,
        argv=argv,
        env=env,
        cwd=wish.cwd or "/",
        log=order.log,
        url=wish.url,
        api_key=wish.api_key,
        model=str(PurePath(wish.cwd, model)) if model else "",
        load_seconds=wish.load_seconds or LONGEST_LOAD_SECONDS,
    )


def _key(order: _Order) -> dict[str, str]:
    """The key, unless the server reads it from a file of its own."""
    key = order.wish.api_key
    return {KEY: key} if key and KEY_FILE not in order.arguments else {}


def _shown(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not is_secret(name)}


def _run(wish: Wish, arguments: Sequence[str], options: Sequence[str]) -> tuple[str, ...]:
    """``podman run`` up to and with the image: the host's network, so that the address stays what it is;
    files at the same place as here; nothing pulled while a server is down."""
    tool = wish.runner
    env = _shown(wish.env)
    if "--host" not in arguments:  # images set 0.0.0.0, which the host's network would take at its word
        env.setdefault("LLAMA_ARG_HOST", urlsplit(wish.url).hostname or "127.0.0.1")
    devices = _DEVICES.get(wish.backend, _DEVICES[None])
    entry = (f"--entrypoint={wish.binary[0]}",) if wish.binary else ()
    return (
        *(tool.value, "run", "--pull=never", *options),
        *(f"--device={device}" for device in devices),
        *(_RIGHTS[tool] if devices else ()),
        *_OPEN,
        *(f"--volume={place}" for place in _mounts(arguments, wish.cwd)),
        *(f"--env={name}={value}" for name, value in env.items()),
        *entry,
        wish.image,
        *wish.binary[1:],
    )


def _mounts(arguments: Sequence[str], cwd: str) -> list[str]:
    """``DIR:DIR:ro`` for what the arguments name, without what lies inside another one."""
    wanted = dict(_places(arguments, cwd))
    tops = [
        place
        for place in sorted(wanted)
        if not any(above in wanted and wanted[above] >= wanted[place] for above in place.parents)
    ]
    if bad := next((place for place in tops if set(":,") & set(str(place))), None):
        raise ActionError(f"{bad} cannot be mounted", "its name has a colon or a comma")
    return [f"{place}:{place}:{'rw' if wanted[place] else 'ro'}" for place in tops]


def _places(arguments: Sequence[str], cwd: str) -> Iterator[tuple[PurePath, bool]]:
    """Directories, and whether they are written to; the writable ones last, so that they win."""
    for named in sorted(named_files(arguments, cwd), key=lambda named: named.written):
        yield named.path if named.directory else _around(named.path), named.written


def _around(file: PurePath) -> PurePath:
    """Its directory, or all of a download of Hugging Face, whose files are links into a neighbour."""
    for place in file.parents:
        if place.name == _HUGGING_FACE:
            return place.parent
    return file.parent
