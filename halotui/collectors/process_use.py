"""What one process takes: RAM, GPU memory, and the time of CPU and GPU it has had.

Its fdinfo may hang while a GPU is in reset: for a thread with a deadline.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from weakref import WeakKeyDictionary

from msgspec import Struct

from halotui.collectors import fdinfo, process_stat
from halotui.hosts import Host
from halotui.model import SourceState, Unavailable

DESCRIPTORS = 512  # looked through at most
AGAIN_SECONDS = 30.0  # until they are looked for anew, far away
PROCESSES = 64  # whose are remembered
_SEARCH = 'cd "$1" && grep -ls ^drm-pdev * || :'


class Use(Struct, frozen=True, kw_only=True):
    started: int  # clock ticks since boot: with the pid, which process it is
    cpu_seconds: float  # user and system, since it started
    resident_bytes: int | None = None  # RAM; what the driver mapped for the GPU is not part of it
    gtt_bytes: int | None = None
    vram_bytes: int | None = None
    gpu_seconds: float | None = None  # of all engines


def read(host: Host, pid: int) -> Use:
    """Raises Unavailable (absent) when it is gone, or dead and not yet buried."""
    at = host.procfs / str(pid)
    try:
        fields = host.read(at / "stat").rpartition(b")")[2].split()
        if fields[0] in (b"Z", b"X"):
            raise ProcessLookupError
        started, cpu = int(fields[19]), (int(fields[11]) + int(fields[12])) / host.ticks
    except (OSError, ValueError, IndexError):
        raise Unavailable(SourceState.ABSENT, "its process has ended") from None
    resident = None
    with suppress(OSError, ValueError, IndexError):
        resident = int(host.read(at / "statm").split()[1]) * process_stat.way(host).page
    shares = _shares(host, pid)
    known = list(shares.values())
    spent = [share.engine_seconds for share in known if share.engine_seconds is not None]
    return Use(
        started=started,
        cpu_seconds=cpu,
        resident_bytes=resident,
        gtt_bytes=sum(share.held[0] for share in known) if known else None,
        vram_bytes=sum(share.held[1] for share in known) if known else None,
        gpu_seconds=sum(spent) if spent else None,
    )


def _shares(host: Host, pid: int) -> dict[fdinfo.Client, fdinfo.Share]:
    """Each client once; none where its descriptors are not ours to read."""
    found: dict[fdinfo.Client, fdinfo.Share] = {}
    for name in _descriptors(host, pid):
        with suppress(OSError):
            share = fdinfo.read(host.read(f"{host.procfs}/{pid}/fdinfo/{name}"))
            if share is not None:
                found[share.client if share.client[1] else (b"", os.fsencode(name))] = share
    return found


class _Known(Struct, frozen=True):
    at: float  # monotonic seconds
    names: tuple[str, ...]


_KNOWN: WeakKeyDictionary[Host, dict[int, _Known]] = WeakKeyDictionary()


def _descriptors(host: Host, pid: int) -> Sequence[str]:
    """Those that may be a GPU's; on a box far away only what is one's, looked for now and then."""
    at = host.procfs / str(pid) / "fdinfo"
    if host.here:
        return [path.name for path in host.glob(at, "*")[:DESCRIPTORS]]
    now, seen = time.monotonic(), _KNOWN.setdefault(host, {})
    known = seen.get(pid)
    if known is None or now - known.at >= AGAIN_SECONDS:
        out = b""
        with suppress(OSError, TimeoutError):
            out = host.run(("sh", "-c", _SEARCH, "sh", str(at)))
        names = (name for name in os.fsdecode(out).split() if name.isdecimal())
        known = seen[pid] = _Known(now, tuple(names)[:DESCRIPTORS])
        while len(seen) > PROCESSES:
            del seen[next(iter(seen))]
    return known.names
