"""System memory, counted as ``free`` of procps 4 does: used is what is not available."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import psutil

from halotui.collectors import memory_far
from halotui.hosts import Host, LinkDown
from halotui.model import Memory, SourceState, Unavailable

_SWAP = re.compile(rb"^Swap(Total|Free):\s+(\d{1,15}) kB", re.M)


def read(host: Host) -> Memory:
    """Memory and swap of ``host``, in bytes: of the box that we run on through psutil.

    ``used`` is total - available, ``cache`` buffers + page cache + reclaimable slab. GTT counts as used:
    it is ordinary memory that belongs to no process. Raises Unavailable when /proc/meminfo is missing,
    refused or garbled; swap is None where only that cannot be told.
    """
    # psutil tells of missing lines on stderr, which belongs to the screen
    with _procfs(str(host.procfs)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            now = psutil.virtual_memory() if host.here else memory_far.counted(host)
        except LinkDown:
            raise
        except FileNotFoundError as error:
            hint = "mount /proc"
            raise Unavailable(SourceState.ABSENT, f"no meminfo in {host.procfs}", hint) from error
        except PermissionError as error:
            raise Unavailable(SourceState.DENIED, f"meminfo in {host.procfs} is not ours to read") from error
        except Exception as error:
            raise _garbled(host) from error
    swap, swap_used = _swap(host)
    memory = Memory(
        total_bytes=now.total,
        used_bytes=now.total - now.available,
        available_bytes=now.available,
        free_bytes=now.free,
        cache_bytes=now.buffers + now.cached,
        swap_total_bytes=swap,
        swap_used_bytes=swap_used,
    )
    counts = [count for count in msgspec.structs.astuple(memory) if count is not None]
    if not memory.total_bytes or not all(0 <= count < 2**63 for count in counts):
        raise _garbled(host)
    return memory


def _swap(host: Host) -> tuple[int | None, int | None]:
    """Total and used. psutil tells it too, and reads all of /proc/vmstat for what nobody asked."""
    try:
        told = dict(_SWAP.findall(host.read(host.procfs / "meminfo")))
    except OSError:
        return None, None
    if len(told) < 2:
        return None, None
    total, free = int(told[b"Total"]) << 10, int(told[b"Free"]) << 10
    return total, total - free


@contextmanager
def _procfs(path: str) -> Iterator[None]:
    """psutil's root is a global of the process: set for this reading alone."""
    before, psutil.PROCFS_PATH = psutil.PROCFS_PATH, path
    try:
        yield
    finally:
        psutil.PROCFS_PATH = before


def _garbled(host: Host) -> Unavailable:
    return Unavailable(SourceState.FAILED, f"meminfo in {host.procfs} makes no sense")
