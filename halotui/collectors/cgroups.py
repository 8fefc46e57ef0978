"""What /proc/PID/cgroup tells of where a process stands: a container, a systemd unit."""

from __future__ import annotations

import re

from msgspec import Struct

_ENGINES = {
    "podman": re.compile(r"libpod-(?:payload-)?([0-9a-f]{64})"),
    "docker": re.compile(r"(?:/docker/|docker-)([0-9a-f]{64})"),
}
# Containers of other managers.
_FOREIGN = re.compile(r"kubepods|cri-containerd|crio-|lxc\.payload|machine\.slice/|nerdctl")
_USERS = re.compile(r"/user@\d+\.service/(?:[^:\n]*?/)?([^/:\n]+\.service)(?:/|$)", re.M)
_SYSTEMS = re.compile(r":/(?:system|machine)\.slice/(?:[^:\n]*?/)?([^/:\n]+\.service)(?:/|$)", re.M)


class Inside(Struct, frozen=True):
    """An engine, podman or docker, and the id of one of its containers."""

    engine: str
    id: str


def container(cgroup: str) -> Inside | None:
    """None: in no container that we know."""
    for engine, pattern in _ENGINES.items():
        if found := pattern.search(cgroup):
            return Inside(engine, found[1])
    return None


def foreign(cgroup: str) -> str:
    """Another manager of containers; empty: it is in none of such."""
    found = _FOREIGN.search(cgroup)
    return found[0].strip("/-.") if found else ""


def user_unit(cgroup: str) -> str:
    """The service of a user that a process is in; empty: none."""
    found = _USERS.search(cgroup)
    return found[1] if found else ""


def system_unit(cgroup: str) -> str:
    """The box's service that a process is in; empty: none."""
    found = _SYSTEMS.search(cgroup)
    return found[1] if found else ""
