"""System memory, counted as ``free`` of procps 4 does: used is what is not available."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import psutil

from halotui.hosts import Host
from halotui.model import Memory, SourceState, Unavailable


def read(host: Host) -> Memory:
    """Memory and swap of ``host`` through psutil, in bytes.

    ``used`` is total - available, ``cache`` buffers + page cache + reclaimable slab. GTT counts as used:
    it is ordinary memory that belongs to no process. Raises Unavailable when /proc/meminfo is missing,
    refused or garbled; swap is None where only that cannot be told.
    """
    # psutil tells of missing lines on stderr, which belongs to the screen
    with _procfs(str(host.procfs)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            now = psutil.virtual_memory()
        except FileNotFoundError as error:
            hint = "mount /proc"
            raise Unavailable(SourceState.ABSENT, f"no meminfo in {host.procfs}", hint) from error
        except PermissionError as error:
            raise Unavailable(SourceState.DENIED, f"meminfo in {host.procfs} is not ours to read") from error
        except Exception as error:
            raise _garbled(host) from error
        try:
            swap = psutil.swap_memory()
        except Exception:
            swap = None
    memory = Memory(
        total_bytes=now.total,
        used_bytes=now.total - now.available,
        available_bytes=now.available,
        free_bytes=now.free,
        cache_bytes=now.buffers + now.cached,
        swap_total_bytes=swap.total if swap else None,
        swap_used_bytes=swap.used if swap else None,
    )
    counts = [count for count in msgspec.structs.astuple(memory) if count is not None]
    if not memory.total_bytes or not all(0 <= count < 2**63 for count in counts):
        raise _garbled(host)
    return memory


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
