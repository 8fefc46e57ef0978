"""Where a server's log goes, and by which path or name we can follow it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from halotui.collectors import cgroups
from halotui.collectors.containers import Container
from halotui.collectors.llama_process import absolute
from halotui.hosts import Host, Process
from halotui.model import LogPlace
from halotui.safe import clean


class Stand(Struct, frozen=True, kw_only=True):
    """A server's process, what its command line says, and what it runs in.

    ``main``: the container's log is this one's, since it is its first process or was started by that.
    """

    host: Host
    process: Process
    said: Mapping[str, Any]
    container: Container | None = None
    main: bool = False


def _log_file(stand: Stand) -> LogPlace | None:
    return _file(stand, absolute(stand.said.get("log_path"), stand.process.cwd))


def _stderr(stand: Stand) -> LogPlace | None:
    return _file(stand, stand.process.stderr)


def _stdout(stand: Stand) -> LogPlace | None:
    return _file(stand, stand.process.stdout) if stand.said.get("log_jsonl") else None


def _container(stand: Stand) -> LogPlace | None:
    if stand.container is None or not stand.main:
        return None
    return LogPlace(
        kind="container",
        name=stand.container.name,
        engine=stand.container.engine,
        since_time=stand.process.started_time,
    )


def _journal(stand: Stand) -> LogPlace | None:
    """Another user's service is taken to write there: where it does write is not ours to see."""
    process = stand.process
    if process.terminal or process.stderr_to not in ("journal", ""):
        return None
    user, system = cgroups.user_unit(process.cgroup), cgroups.system_unit(process.cgroup)
    name = clean(user or system)
    return (
        LogPlace(kind="journal", name=name, user=bool(user), since_time=process.started_time)
        if name
        else None
    )


# The first one that knows.
PLACES: tuple[Callable[[Stand], LogPlace | None], ...] = (_log_file, _stderr, _stdout, _container, _journal)


def find(stand: Stand) -> LogPlace | None:
    """None: it goes where nobody can follow it, as to a terminal or a pipe."""
    return next((place for look in PLACES if (place := look(stand))), None)


def _file(stand: Stand, path: str | None) -> LogPlace | None:
    """A path that we can read: a process that sees other file systems has its own below /proc/PID/root."""
    if not path or clean(path) != path:
        return None
    process = stand.process
    if process.foreign_files or stand.container is not None:
        path = str(stand.host.procfs / str(process.pid) / "root" / path.lstrip("/"))
        if not stand.host.access(os.path.dirname(path), os.X_OK):  # noqa: PTH120
            return None
    return LogPlace(kind="file", name=path, since_time=process.started_time)
