"""Memory of a box far away, counted as psutil counts ours: psutil opens files itself."""

from __future__ import annotations

from contextlib import suppress

from msgspec import Struct

from halotui.collectors.process_stat import FAR_PAGE
from halotui.hosts import Host, LinkDown


class Counted(Struct):
    """Bytes."""

    total: int
    available: int
    free: int
    buffers: int
    cached: int


def counted(host: Host) -> Counted:
    """Raises OSError, KeyError, ValueError, IndexError."""
    told: dict[bytes, int] = {}
    for line in host.read(host.procfs / "meminfo").splitlines():
        words = line.split()
        told[words[0]] = int(words[1]) * 1024
    total, free, cached = told[b"MemTotal:"], told[b"MemFree:"], told.get(b"Cached:")
    # a kernel's 0 is none: LXC
    available = max(0, told.get(b"MemAvailable:") or _reckoned(host, told))
    return Counted(
        total,
        available if available <= total else free,
        free,
        told.get(b"Buffers:", 0),
        cached + told.get(b"SReclaimable:", 0) if cached is not None else 0,
    )


def _reckoned(host: Host, told: dict[bytes, int]) -> int:
    """As kernels before 3.14 leave it to others."""
    free = told[b"MemFree:"]
    parts = [told.get(name) for name in (b"Active(file):", b"Inactive(file):", b"SReclaimable:")]
    try:
        zones = host.read(host.procfs / "zoneinfo")
        active, inactive, slab = (part for part in parts if part is not None)
    except LinkDown:
        raise
    except (OSError, ValueError):
        return free + told.get(b"Cached:", 0)
    low = 0
    for line in zones.splitlines():
        with suppress(IndexError):
            if line.strip().startswith(b"low"):
                low += int(line.split()[1]) * FAR_PAGE
    cache = active + inactive
    cache -= min(cache / 2, low)  # type: ignore[assignment]
    return int(free - low + cache + slab - min(slab / 2, low))
