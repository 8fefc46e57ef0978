"""``/proc``: what the kernel counts of the box, and the one process that lives on some of them."""

from __future__ import annotations

import os
from pathlib import Path

from box_trees.files import link, write
from box_trees.kinds import Box, Tenant

TICKS = 100  # a second
STARTED = 40_000  # ticks after boot, of the process
BOOTED = 1_760_000_000  # Unix seconds
UP = 86_400.0  # seconds, at the first look


def lay_procfs(root: Path, box: Box, seconds: float) -> None:
    proc = root / "procfs"
    swapped = 400 + round(box.pace.swapped * seconds)
    files: dict[str, str | bytes] = {
        "meminfo": _meminfo(box),
        "stat": _stat(box, seconds),
        "vmstat": f"nr_free_pages 1\npswpin 10\npswpout {swapped}\noom_kill 0",
        "loadavg": f"{box.pace.cpu * box.threads:.2f} 0.40 0.30 2/900 5120",
        "uptime": f"{UP + seconds:.2f} 100000.00",
        "cmdline": f"BOOT_IMAGE=/vmlinuz-{box.kernel} {box.cmdline}",
        "cpuinfo": "\n\n".join(f"processor\t: {n}\nmodel name\t: {box.cpu}" for n in range(box.threads)),
        "version": f"Linux version {box.kernel} (builder@box)",
        "sys/kernel/osrelease": box.kernel,
        "sys/kernel/random/boot_id": "1f0c7e52-0000-4000-8000-3c5d2b7a9e10",
    }
    if box.pressure:
        stall = "some avg10=1.50 avg60=0.80 avg300=0.20 total=90000"
        files |= {f"pressure/{name}": f"{stall}\nfull{stall[4:]}" for name in ("memory", "io", "cpu")}
    write(proc, files)
    if box.tenant is not None:
        _tenant(proc / str(box.tenant.pid), box.tenant, seconds)


def _meminfo(box: Box) -> str:
    cached = min(box.available_kib * 6 // 10, 24 << 20)
    rows = {
        "MemTotal": box.total_kib,
        "MemFree": box.available_kib - cached,
        "MemAvailable": box.available_kib,
        "Buffers": cached // 50,
        "Cached": cached - cached // 50,
        "SwapCached": 0,
        "Active": box.total_kib // 8,
        "Inactive": box.total_kib // 9,
        "SwapTotal": 8 << 20,
        "SwapFree": (8 << 20) - 3200,
        "Shmem": 98_304,
        "Slab": 655_360,
        "SReclaimable": 0,
        "SUnreclaim": 655_360,
    }
    return "\n".join(f"{name + ':':<16}{kib:>8} kB" for name, kib in rows.items())


def _stat(box: Box, seconds: float) -> str:
    whole = round(TICKS * box.threads * (UP + seconds))
    busy = round(TICKS * box.threads * box.pace.cpu * seconds) + 900_000
    waiting = 4_000
    rows = [f"cpu  {busy - 100_000} 0 90000 {whole - busy - waiting} {waiting} 5000 5000 0 0 0"]
    rows += [f"cpu{thread} 1 0 1 1 0 0 0 0 0 0" for thread in range(box.threads)]
    return "\n".join([*rows, f"btime {BOOTED}", "processes 5120"])


def _tenant(place: Path, who: Tenant, seconds: float) -> None:
    ran = round(TICKS * 0.5 * seconds)  # half a core
    pages = who.rss // os.sysconf("SC_PAGE_SIZE")
    state = f"S 1 {who.pid} {who.pid} 0 -1 4194304 0 0 0 0 {500 + ran} 200 0 0 20 0 8 0 {STARTED}"
    client = "\n".join(
        (
            "pos:\t0",
            "flags:\t02100002",
            "drm-driver:\tamdgpu",
            "drm-client-id:\t42",
            f"drm-pdev:\t{who.slot}",
            f"drm-memory-vram:\t{who.vram} KiB",
            f"drm-memory-gtt: \t{who.gtt} KiB",
            "drm-memory-cpu: \t0 KiB",
            f"drm-engine-compute:\t{round(0.9e9 * seconds) + 5} ns",
        )
    )
    files = {
        "comm": who.name,
        "stat": f"{who.pid} ({who.name}) {state} {who.rss} {pages}" + " 0" * 28,
        "statm": f"{pages * 2} {pages} 100 10 0 200 0",
        "cmdline": f"{who.name}\0serve\0".encode(),
        "environ": b"",
        "cgroup": f"0::/system.slice/{who.unit}",
        "fdinfo/7": client,
        "fdinfo/8": client,  # the same client twice
    }
    write(place, files)
    for fd in ("7", "8"):
        link(place / "fd" / fd, "/dev/dri/renderD128")
