"""The file of a server's model, where it is ours to read: which path leads to it, and what its header says.

A file on a dead network share blocks its reader: for a thread with a deadline.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from halotui.actions import ActionError
from halotui.gguf import weights
from halotui.gguf.model_file import mismatch, parts_of, read_header
from halotui.gguf.weights import Weights
from halotui.hosts import Host
from halotui.model import Server, SourceState, Unavailable

LINKS = 40  # symbolic ones on one path, as the kernel counts
Stamp = tuple[int, int, float, int]  # device, inode, time of change, size: another file has another

_HINT = "give this user the right to read the model's file; without it active parameters are not known"
_HIDDEN = Unavailable(SourceState.DENIED, "the file systems of its process are not ours to see", _HINT)


def place(host: Host, server: Server, path: str | None = None) -> Path:
    """Where the model's first file is, or another one that it names, as we see it. Raises Unavailable."""
    path = path or server.model_path
    if not path or server.pid is None:
        raise Unavailable(SourceState.NO_DATA, "the path of its model is not known")
    process = host.procfs / str(server.pid)
    if not path.startswith("/"):
        return process / "cwd" / path
    elsewhere = _elsewhere(host, server.pid)
    if elsewhere is None and server.container is not None:
        raise _HIDDEN
    return _inside(host, process / "root", path) if elsewhere else Path(path)


def stamp(host: Host, path: Path) -> Stamp:
    """Raises Unavailable."""
    try:
        about = host.stat(path)
    except (OSError, ValueError) as error:
        raise _trouble(error) from None
    return about.dev, about.ino, about.mtime, about.size


def size(host: Host, path: Path) -> int:
    """Bytes of all the model's files, without a look into them. Raises Unavailable."""
    parts, missing = parts_of(path, 2, host)  # by their names: how many there are is not read
    if missing:
        raise Unavailable(SourceState.ABSENT, "a part of the model's file is missing")
    return sum(stamp(host, part)[3] for part in parts)


def unfit(host: Host, target: Path, draft: Path) -> str | None:
    """Why the draft model's vocabulary does not fit. Reads both: up to a second. Raises Unavailable."""
    try:
        return mismatch(*(read_header(path, host).vocabulary for path in (target, draft)))
    except (ActionError, OSError) as error:
        raise Unavailable(SourceState.FAILED, "a vocabulary cannot be read") from error


def read(host: Host, path: Path) -> Weights:
    """Raises Unavailable."""
    try:
        found = weights.facts(path, host)
    except ActionError as error:
        denied = not host.access(path, os.R_OK)
        state = SourceState.DENIED if denied else SourceState.FAILED
        raise Unavailable(state, error.reason, _HINT if denied else "") from None
    except OSError as error:
        raise _trouble(error) from None
    if found is None:
        raise Unavailable(SourceState.FAILED, "a part of the model's file is missing, or its sizes cannot be")
    return found


def _elsewhere(host: Host, pid: int) -> bool | None:
    """Whether it sees other file systems than we do; None where that is not ours to see."""
    with suppress(OSError):
        return host.readlink(f"{host.procfs}/{pid}/ns/mnt") != host.readlink(f"{host.procfs}/self/ns/mnt")
    return None


def _inside(host: Host, root: Path, path: str) -> Path:
    """A path below another root, its links followed as a process follows them whose root that is."""
    ahead, at, links = path.split("/")[::-1], root, 0
    while ahead:
        part = ahead.pop()
        if part in ("", "."):
            continue
        if part == "..":
            at = at if at == root else at.parent
            continue
        try:
            target = host.readlink(at / part)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise _trouble(error) from None
            at /= part
            continue
        links += 1
        if links > LINKS:
            raise Unavailable(SourceState.FAILED, "its path is a circle of links")
        at = root if target.startswith("/") else at
        ahead += target.split("/")[::-1]
    return at


def _trouble(error: Exception) -> Unavailable:
    if isinstance(error, PermissionError):
        return Unavailable(SourceState.DENIED, "the model's file is not ours to read", _HINT)
    if isinstance(error, FileNotFoundError):
        return Unavailable(SourceState.ABSENT, "the model's file is not where the server says")
    return Unavailable(SourceState.FAILED, "the model's file cannot be read")
