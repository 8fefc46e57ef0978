"""One process, read from a proc file system. What is not ours to see, or gone meanwhile, is left out."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from halotui.hosts import Process
from halotui.safe import clean

_CHUNK = 64 * 1024
_ARGUMENTS = 256 * 1024  # of a command line or an environment, the first bytes


def read(path: str | Path, most: int | None = None) -> bytes:
    """The whole of a small file, or its first ``most`` bytes. Raises OSError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        data = os.read(fd, _CHUNK)
        if not data:
            return data
        parts, size = [data], len(data)
        while (most is None or size < most) and (data := os.read(fd, _CHUNK)):
            parts.append(data)
            size += len(data)
        return b"".join(parts)[:most]
    finally:
        os.close(fd)


def command_line(proc: str, pid: int) -> tuple[str, ...]:
    """Raises OSError."""
    argv = os.fsdecode(read(f"{proc}/{pid}/cmdline", _ARGUMENTS))
    return tuple(argv.removesuffix("\0").split("\0")) if argv else ()


def runs_script(argv: Sequence[str], scripts: Collection[str]) -> bool:
    """Whether a Python's command line names one of ``scripts``: as a file, a module, or within a package."""
    words = iter(argv[1:])
    for word in words:
        if word in ("-X", "-W"):
            next(words, "")
        elif word == "-m":
            word = next(words, "")
            return any(word == script or word.startswith(f"{script}.") for script in scripts)
        elif word == "-c":
            return False
        elif not word.startswith("-"):
            return word.rpartition("/")[2] in scripts
    return False


def describe(proc: str, pid: int, ports: tuple[int, ...], foreign_net: bool) -> Process | None:
    """None for a process that is gone, or dead and not yet buried."""
    place = f"{proc}/{pid}"
    try:
        head, _, tail = read(f"{place}/stat").rpartition(b")")
        fields = tail.split()
        if fields[0] in (b"Z", b"X"):
            return None
        argv = command_line(proc, pid)
    except (OSError, IndexError):
        return None
    environ: dict[str, str] = {}
    cwd = uid = None
    with suppress(OSError):
        pairs = os.fsdecode(read(f"{place}/environ", _ARGUMENTS)).split("\0")
        environ = {key: value for key, sign, value in (pair.partition("=") for pair in pairs) if sign}
    with suppress(OSError):
        cwd = os.readlink(f"{place}/cwd")  # noqa: PTH115 - a Path costs ten times this
    with suppress(OSError):
        uid = os.stat(place).st_uid  # noqa: PTH116
    stderr, stderr_to = _output(place, 2, environ)
    return Process(
        pid=pid,
        name=clean(head.partition(b"(")[2]),
        argv=argv,
        environ=environ,
        cwd=cwd,
        started_time=_started(proc, fields),
        ports=ports,
        stdout=_output(place, 1, environ)[0],
        stderr=stderr,
        stderr_to=stderr_to,
        terminal=len(fields) > 4 and fields[4] != b"0",
        cgroup=os.fsdecode(_or_nothing(f"{place}/cgroup")),
        foreign_net=foreign_net,
        foreign_pid=len(_row(_or_nothing(f"{place}/status"), b"NSpid:")) > 1,
        foreign_files=_foreign_files(proc, pid),
        uid=uid,
        parent=int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else None,
    )


def network(proc: str, pid: int | None = None) -> int | None:
    """What tells one network namespace from another, of a process or (None) our own: the inode of its socket
    table. Unlike ``ns/net``, another user's is ours to see as well."""
    with suppress(OSError):
        return os.stat(f"{proc}/{pid}/net/tcp" if pid else f"{proc}/net/tcp").st_ino  # noqa: PTH116
    return None


def _output(place: str, fd: int, environ: dict[str, str]) -> tuple[str | None, str]:
    """Where a descriptor leads: the path of a regular file that still has that name, and the kind."""
    link = f"{place}/fd/{fd}"
    try:
        target = os.readlink(link)  # noqa: PTH115
        if target.startswith("pipe:"):
            return None, "pipe"
        opened = os.stat(link)  # noqa: PTH116
    except OSError:
        return None, ""
    if target.startswith("socket:"):
        journal = environ.get("JOURNAL_STREAM") == f"{opened.st_dev}:{opened.st_ino}"
        return None, "journal" if journal else "other"
    if target.startswith(("/dev/pts/", "/dev/tty", "/dev/console")):
        return None, "tty"
    if not stat.S_ISREG(opened.st_mode):
        return None, "other"
    for seen in (target, f"{place}/root{target}"):  # as we see the file system, or as the process does
        with suppress(OSError):
            if os.path.samestat(opened, os.stat(seen)):  # noqa: PTH116
                return target, "file"
    return None, "file"


def _foreign_files(proc: str, pid: int) -> bool:
    with suppress(OSError):
        return os.readlink(f"{proc}/{pid}/ns/mnt") != os.readlink(f"{proc}/self/ns/mnt")  # noqa: PTH115
    return False


def _or_nothing(path: str) -> bytes:
    with suppress(OSError):
        return read(path)
    return b""


def _row(table: bytes, name: bytes) -> list[bytes]:
    return table.partition(name)[2].partition(b"\n")[0].split()


def _started(proc: str, fields: Sequence[bytes]) -> float | None:
    """Unix seconds, to a clock tick: start since boot (field 22 of stat) + boot time."""
    with suppress(OSError, ValueError, IndexError):
        boot = read(f"{proc}/stat").partition(b"btime ")[2].split(None, 1)[0]
        return _booted(int(boot)) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return None


@cache
def _booted(said: int) -> float:
    """The kernel tells whole seconds, cut off. Our own clocks tell the rest, if they are of that boot.

    Once for what it says: a start that is told anew must not look like another process.
    """
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot if said <= boot < said + 1 else float(said)
