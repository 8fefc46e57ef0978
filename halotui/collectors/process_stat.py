"""/proc/PID/stat, plainly read: 9 µs a process with its parsing, where psutil's oneshot takes 38."""

from __future__ import annotations

import os
from collections.abc import Callable

from msgspec import Struct

from halotui.hosts import Host
from halotui.safe import clean

_KERNEL_THREAD = 0x00200000  # PF_KTHREAD
_PAGE = os.sysconf("SC_PAGE_SIZE")
FAR_PAGE = 4096  # bytes, of every box that these GPUs are in
_SMALL = 16 * 1024


class Way(Struct, frozen=True):
    """How a box's files are read, and what its numbers count in."""

    read: Callable[[str], bytes]
    ticks: int  # a second
    page: int  # bytes


def way(host: Host) -> Way:
    """Past the Host where we run on it: this is the live path."""
    return Way(once, host.ticks, _PAGE) if host.here else Way(host.read, host.ticks, FAR_PAGE)


class Stat(Struct, frozen=True):
    name: str
    dead: bool  # and perhaps not yet buried
    kernel: bool  # a thread of the kernel
    ticks: int  # its start, clock ticks since boot: with the pid, which process it is; 0: not told
    cpu_seconds: float  # user and system, since then
    rss_bytes: int


UNTOLD = Stat("", False, False, 0, 0.0, 0)


def read(way: Way, proc: str, pid: str) -> Stat | None:
    """None: gone. ``UNTOLD``: not even this is ours to see (hidepid)."""
    try:
        head, _, tail = way.read(f"{proc}/{pid}/stat").rpartition(b")")
        word = tail.split()
        return Stat(
            name=clean(head.partition(b"(")[2], 64),
            dead=word[0] in (b"Z", b"X"),
            kernel=bool(int(word[6]) & _KERNEL_THREAD),
            ticks=int(word[19]),
            cpu_seconds=(int(word[11]) + int(word[12])) / way.ticks,
            rss_bytes=int(word[21]) * way.page,
        )
    except PermissionError:
        return UNTOLD
    except (OSError, ValueError, IndexError):
        return None


def started(host: Host, ticks: int) -> float | None:
    """Unix seconds, to a second, of a start in clock ticks since boot."""
    try:
        boot = host.read(f"{host.procfs}/stat").partition(b"btime ")[2].split(None, 1)[0]
        return int(boot) + ticks / host.ticks - host.ahead if ticks else None
    except (OSError, ValueError, IndexError):
        return None


def once(path: str) -> bytes:
    """A small file of the kernel, whole: one read is all of it. Raises OSError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, _SMALL)
    finally:
        os.close(fd)
