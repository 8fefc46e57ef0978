"""Looks at files, devices and ports for the pre-flight. Blocking: for a thread with a deadline."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from halotui.hosts import Host, LinkDown
from halotui.hosts.hands import Hands
from halotui.hosts.local import LocalHost
from halotui.servers import there
from halotui.servers.checks import NODES
from halotui.servers.launch import Launch, Runner
from halotui.servers.named_files import WEIGHTS, named_files
from halotui.servers.seen import FileSeen, Logout
from halotui.servers.wish import Wish

Holders = dict[int, tuple[tuple[int, str], ...]]  # port: pid and name of who listens

# What they start is in a control group of the user's systemd.
_BY_THE_MANAGER = (Runner.SYSTEMD, Runner.PODMAN, Runner.TOOLBOX, Runner.DISTROBOX)


def files_and_devices(wish: Wish, launch: Launch, arguments: Sequence[str], host: Host) -> dict[str, Any]:
    """At files; blocking."""
    inside = wish.runner in (Runner.TOOLBOX, Runner.DISTROBOX)
    files = [file for file in _named_files(host, arguments, wish.cwd) if not (inside and file.problem)]
    cwd = "" if wish.runner is Runner.SYSTEMD else _problem(host, PurePath(launch.cwd), directory=True)
    return {
        "files": tuple(files),
        "cwd": f"{launch.cwd}: {cwd}" if cwd else "",
        "log": _unwritable(host, PurePath(launch.log)) if launch.log else "",
        "devices": _devices(wish, host),
        "logout": _logout(wish, host),
        "kernel": _text(host, host.procfs / "cmdline"),
    }


def _named_files(host: Host, arguments: Sequence[str], cwd: str) -> Iterator[FileSeen]:
    """Those that must be there. The weights have checks of their own, by their headers."""
    for flag, path, directory, written in named_files(arguments, cwd):
        if flag not in WEIGHTS and (directory or not written):
            yield FileSeen(flag, str(path), _problem(host, path, directory=directory))


def _problem(host: Host, path: PurePath, *, directory: bool = False) -> str:
    """Why a file cannot be read, or a directory entered; empty when it can. Raises LinkDown."""
    try:
        about = host.stat(str(path))
    except LinkDown:
        raise
    except (OSError, ValueError) as error:
        return (error.strerror if isinstance(error, OSError) else None) or "not a path"
    if stat.S_ISDIR(about.mode) is not directory:
        return "not a directory" if directory else "not a file"
    return "" if host.access(str(path), os.R_OK | (os.X_OK if directory else 0)) else "Permission denied"


def _unwritable(host: Host, log: PurePath) -> str:
    """The log, or the nearest directory above it that there is: the rest is made when it is needed."""
    if there.is_directory(host, log):
        return f"{log}: is a directory"
    place = next((place for place in (log, *log.parents) if there.stat(host, place)), None)
    search = os.X_OK if place is not None and there.is_directory(host, place) else 0
    if place is None or host.access(str(place), os.W_OK | search):
        return ""
    return f"{place}: Permission denied"


def _devices(wish: Wish, host: Host) -> tuple[FileSeen, ...] | None:
    dev = host.sysfs.parent / "dev"
    if not there.is_directory(host, dev):
        return None
    found = []
    for pattern in NODES.get(wish.backend or "", ()):
        nodes = host.glob(dev, pattern)
        found += [FileSeen("", str(node), _node(host, node)) for node in nodes]
        if not nodes:
            found.append(FileSeen("", str(dev / pattern), "not there"))
    return tuple(found)


def _node(host: Host, path: Path) -> str:
    return "" if host.access(str(path), os.R_OK | os.W_OK) else "Permission denied"


def taken_ports(
    ports: Iterable[tuple[str, int]], host: Host, hands: Hands
) -> tuple[tuple[int, ...], Holders]:
    """The ports that cannot be bound, and who listens there. A host keeps what it saw of ports, and ours
    is the sampler's: so we look through another."""
    taken = tuple(port for name, port in ports if hands.port_taken(name, port))
    fresh = LocalHost(host.sysfs, host.procfs) if host.here else host
    processes = fresh.processes((), taken) if taken else []
    return taken, {
        port: tuple((one.pid, one.name) for one in processes if port in one.ports) for port in taken
    }


def _logout(wish: Wish, host: Host) -> Logout:
    """By where we run, or our login there does: what we start stays in our control group, what podman and
    systemd start does not."""
    group = _text(host, host.procfs / "self/cgroup") or ""
    kept = host.procfs.parent / "var/lib/systemd"
    return Logout(
        in_session="/session-" in group and wish.runner not in _BY_THE_MANAGER,
        in_manager=bool(group) and (wish.runner in _BY_THE_MANAGER or "/user@" in group),
        lingers=there.stat(host, kept / "linger" / host.user.name) is not None
        if there.is_directory(host, kept)
        else None,
        far=not host.here,
    )


def _text(host: Host, path: Path) -> str | None:
    data = there.known(lambda: host.read(path))
    return None if data is None else data.decode("utf-8", "replace")
