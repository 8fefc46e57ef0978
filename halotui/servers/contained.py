"""A server in a container, and how the engine or the box around it starts it again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec.structs import replace

from halotui.collectors import llama_process
from halotui.safe import clean
from halotui.servers import as_it_was, containers, lineage, runners, there, units
from halotui.servers.launch import Launch, Runner
from halotui.servers.lineage import NotOurs
from halotui.servers.secret import is_secret, masked
from halotui.servers.sight import Running, Sight

# A box sets these by itself; handed in from the last login they would be wrong.
_OF_A_BOX = re.compile(
    r"(HOME|HOSTNAME|HOST|USER|LOGNAME|SHELL|PATH|LANG|container|DEBUGINFOD_URLS"
    r"|(LC|XDG|DBUS|TOOLBOX|DISTROBOX|CONTAINER|KDE|GTK|QT|NAME)_\w+)"
)
_HERE = ("./", "../")


async def capture(sight: Sight, inside: containers.Inside) -> Running:
    """Raises ActionError where it could not be put back."""
    container = await containers.look(sight.hands, inside, sight.client)
    if container.unit:
        unit = await units.look(sight.hands, container.unit, sight.client)
        return by_unit(_published_at(sight, container), unit)
    if container.runner in (Runner.TOOLBOX, Runner.DISTROBOX):
        lineage.refuse_others(sight.host, sight.process)
        return _boxed(sight, container)
    if container.main_pid not in (sight.process.pid, *(kin.pid for kin in sight.lineage.kin)):
        raise NotOurs(
            f"it was started by {inside.engine} exec in {clean(container.name)}",
            "start it as the container's own command",
        )
    return _whole_container(_published_at(sight, container), container)


def _boxed(sight: Sight, box: containers.Container) -> Running:
    env = {name: value for name, value in sight.env.items() if _set_inside(name, value, box)}
    shown = {name: value for name, value in env.items() if not is_secret(name)} | sight.mark
    hidden = {name: value for name, value in env.items() if is_secret(name)}
    words = (*sight.binary, *sight.arguments)
    argv = runners.entered(box.runner, box.name, shown, words)
    if hidden:  # toolbox and distrobox would show them; the engine beneath takes them by name
        pairs = (*(f"--env={name}={value}" for name, value in shown.items()), *(f"--env={n}" for n in hidden))
        who = (f"--user={sight.process.uid}", f"--workdir={sight.process.cwd or '/'}")
        argv = (box.engine.value, "exec", *who, *pairs, box.name, *words)
    back = _detached(sight, box.runner, argv, hidden)
    return sight.running(box.runner, back, env, container=box.name)


def _set_inside(name: str, value: str, box: containers.Container) -> bool:
    """Whether it was set for the server, and comes neither with the image nor with the box."""
    return box.env.get(name) != value and not _OF_A_BOX.fullmatch(name)


def _whole_container(sight: Sight, container: containers.Container) -> Running:
    set_inside = {name: value for name, value in sight.env.items() if container.env.get(name) != value}
    env = container.env | set_inside
    if not container.removed:
        back = replace(
            _detached(sight, container.runner, (container.engine.value, "start", container.name), {}),
            hands_over=True,
            find_pid=container.find_pid,
            log="",
        )
    else:
        back = _made_again(sight, container)
    back = replace(back, stop=container.stop)
    more = {"container": container.name, "image": container.image}
    return sight.running(container.runner, back, env, **more)


def _made_again(sight: Sight, container: containers.Container) -> Launch:
    """A container that is gone with its server, by the command that made it."""
    name, command = clean(container.name), container.command
    if not command:
        raise NotOurs(f"{name} is removed when it stops (--rm)", "start it without --rm")
    if masked(command) != command:
        raise NotOurs(
            f"a key stands in the command of {name}", "hand it over by -e NAME, or start without --rm"
        )
    if any(word.startswith(_HERE) for word in command):
        raise NotOurs(f"{name} was made with paths relative to an unknown place", "start it without --rm")
    by_name = containers.variables_by_name(command)
    env = {name: sight.process.environ[name] for name in by_name if name in sight.process.environ}
    detached = not {"-d", "--detach", "--detach=true"}.isdisjoint(command)
    back = _detached(sight, container.runner, command, env)
    return replace(back, hands_over=True, find_pid=container.find_pid, log="") if detached else back


def _detached(sight: Sight, runner: Runner, argv: tuple[str, ...], env: Mapping[str, str]) -> Launch:
    cwd = sight.process.cwd
    cwd = cwd if cwd and there.is_directory(sight.host, cwd) else "/"
    return Launch(
        name=sight.name,
        runner=runner,
        argv=argv,
        env={**sight.client, **env, **sight.mark},
        cwd=cwd,
        log=str(sight.log_dir / f"as-it-was-{urlsplit(sight.facts.url).port}.log"),
        url=sight.facts.url,
        api_key=sight.facts.api_key,
        model=sight.facts.model_path or "",
        weights_bytes=as_it_was.weights(sight.host, sight.facts.model_path or ""),
    )


def _published_at(sight: Sight, container: containers.Container) -> Sight:
    """At the port that its clients know."""
    url = urlsplit(sight.facts.url)
    port = container.ports.get(url.port or llama_process.DEFAULT_PORT)
    if port is None:
        return sight
    return sight._replace(facts=replace(sight.facts, url=url._replace(netloc=f"127.0.0.1:{port}").geturl()))


def by_unit(sight: Sight, unit: units.Unit) -> Running:
    """A service of the user, in a container or not."""
    back = runners.unit_launch(
        unit,
        name=unit.name,
        url=sight.facts.url,
        api_key=sight.facts.api_key,
        model=sight.facts.model_path or "",
        environ=sight.host.environ,
    )
    return sight.running(Runner.SYSTEMD, back, sight.env, unit=unit.name)
