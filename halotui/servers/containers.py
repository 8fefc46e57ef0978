"""Which container a process runs in, and what its engine tells of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from halotui.actions import ActionError
from halotui.collectors import cgroups
from halotui.hosts.hands import Hands
from halotui.safe import clean
from halotui.servers.launch import Runner

STOP_SECONDS = "15"  # the engine kills after these; a running request can hold the server that long

# Label and its value -> what made the container.
_BOXES = (
    ("com.github.containers.toolbox", "true", Runner.TOOLBOX),
    ("manager", "distrobox", Runner.DISTROBOX),
)
_UNIT_LABEL = "PODMAN_SYSTEMD_UNIT"
_ENV_FLAGS = ("-e", "--env")


class Inside(Struct, frozen=True):
    """An engine, and the id of one of its containers."""

    engine: Runner
    id: str


class Container(Struct, frozen=True, kw_only=True):
    """What ``podman inspect`` or ``docker inspect`` tells."""

    engine: Runner
    runner: Runner  # the engine, or what uses it
    id: str
    name: str
    image: str
    main_pid: int
    removed: bool  # when it ends: --rm
    unit: str  # of systemd, if one starts it
    command: tuple[str, ...]  # that made it; podman alone knows
    env: dict[str, str]  # that every process in it gets
    ports: dict[int, int]  # its TCP ports -> ours

    @property
    def stop(self) -> tuple[str, ...]:
        return (self.engine.value, "stop", "-t", STOP_SECONDS, self.name)

    @property
    def find_pid(self) -> tuple[str, ...]:
        return (self.engine.value, "inspect", "--format", "{{.State.Pid}}", self.name)


def place(cgroup: str) -> Inside | None:
    """Where /proc/PID/cgroup says that a process is; None: in no container that we know."""
    found = cgroups.container(cgroup)
    return Inside(Runner(found.engine), found.id) if found else None


async def look(hands: Hands, inside: Inside, env: Mapping[str, str]) -> Container:
    """Ask the engine. Raises ActionError."""
    command = (inside.engine.value, "inspect", "--type", "container", inside.id)
    told = " ".join((*command[:-1], inside.id[:12]))
    try:
        done = await hands.run(command, env=env)
    except (OSError, TimeoutError) as error:
        raise ActionError(f"its container cannot be asked: {told}: {error or 'no answer'}") from None
    if done.code:
        raise ActionError(f"its container cannot be asked: {told}: {clean(done.err.strip())}")
    try:
        [answer] = msgspec.json.decode(done.out, type=list[dict[str, Any]])
        return _container(inside, answer)
    except (msgspec.DecodeError, ValueError, KeyError, TypeError, AttributeError):
        raise ActionError(f"{told}: an answer that is not understood") from None


def variables_by_name(command: Sequence[str]) -> tuple[str, ...]:
    """The variables that ``podman run`` is told to take from its own environment: ``-e NAME``."""
    pairs = zip(command, (*command[1:], ""), strict=True)
    said = (value if word in _ENV_FLAGS else word.partition("--env=")[2] for word, value in pairs)
    return tuple(name for name in said if name and "=" not in name)


def _container(inside: Inside, answer: Mapping[str, Any]) -> Container:
    config, how = answer["Config"], answer["HostConfig"]
    labels = config.get("Labels") or {}
    boxes = (runner for label, value, runner in _BOXES if labels.get(label) == value)
    env = (pair.partition("=") for pair in config.get("Env") or ())
    return Container(
        engine=inside.engine,
        runner=next(boxes, inside.engine),
        id=inside.id,
        name=str(answer["Name"]).removeprefix("/"),
        image=str(answer.get("ImageName") or config.get("Image") or ""),
        main_pid=int(answer["State"]["Pid"]),
        removed=bool(how.get("AutoRemove")),
        unit=str(labels.get(_UNIT_LABEL) or ""),
        command=tuple(map(str, config.get("CreateCommand") or ())),
        env={name: value for name, _, value in env},
        ports=dict(_published(how.get("PortBindings") or {})),
    )


def _published(bindings: Mapping[str, Sequence[Mapping[str, str]] | None]) -> list[tuple[int, int]]:
    return [
        (int(port.partition("/")[0]), int(places[0]["HostPort"]))
        for port, places in bindings.items()
        if port.endswith("/tcp") and places and places[0].get("HostPort")
    ]
