"""The files of a 128 GB Strix Halo box: what its kernel would say in /sys and /proc under a given load.

Numbers follow what owners of such boxes published: 11 W and 36 °C at rest, 2900 MHz and up to 120 W at
work, a small carve-out that is nearly full, GTT that holds the model. Clocks, power and heat have inertia.
The same loads at the same times with the same seed give the same files.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import struct
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

GIB = 1 << 30
SLOT = "0000:c5:00.0"
MEMORY_TOTAL = 131161644 * 1024  # what the kernel leaves of 128 GB
GTT_TOTAL = 120 * GIB
VRAM_TOTAL = 512 << 20
VRAM_FULL, VRAM_REST = 455 << 20, 96 << 20
SWAP_TOTAL = 8 * GIB
MODEL_BYTES = 58 * GIB  # the model that the box pretends to hold
KV_BYTES_PER_TOKEN = 192 << 10
GTT_REST = 140 << 20  # what a desktop takes
SYSTEM_BYTES = 5 * GIB  # desktop, services, kernel
CACHE_BYTES = 24 * GIB  # page cache, where there is room
PRESSURE_SECONDS = 10.0
PRESSURE_LEVEL = 0.98
HANGING = ("gpu_metrics", "gpu_busy_percent")


@dataclass(frozen=True)
class Load:
    """What the server is doing: requests in each phase, and tokens that the slots hold.

    ``models`` counts those in memory, one that is being loaded by its part; without any the box is at rest.
    ``carve_out``: they fill the VRAM carve-out first, as Vulkan does; ROCm leaves it alone.
    ``held``: bytes of others than servers, as a llama-bench's.
    """

    prefilling: int = 0
    decoding: int = 0
    tokens: int = 0
    models: float = 1.0
    carve_out: bool = True
    held: int = 0


@dataclass(frozen=True)
class Work:
    """Where the chip settles under one kind of work."""

    busy: float  # %
    sclk: float  # MHz
    fclk: float
    uclk: float
    socket: float  # W
    gfx: float


REST = Work(busy=0, sclk=600, fclk=600, uclk=400, socket=11, gfx=0.6)
DECODE = Work(busy=93, sclk=2700, fclk=2000, uclk=1000, socket=74, gfx=36)
PREFILL = Work(busy=98, sclk=2900, fclk=2000, uclk=1000, socket=108, gfx=64)
SECONDS = {"busy": 0.3, "sclk": 0.3, "fclk": 0.2, "uclk": 0.1, "socket": 1.0, "gfx": 0.8, "heat": 15.0}
REST_CELSIUS = 36.0
CELSIUS_PER_WATT = 0.4


@dataclass
class Chip:
    """The state that has inertia."""

    seed: int = 0
    time: float | None = None
    values: dict[str, float] = field(default_factory=lambda: {**vars(REST), "heat": REST_CELSIUS})

    def step(self, load: Load, time: float) -> dict[str, float]:
        """Move towards where this load leads, for as long as has passed, and add a sensor's noise."""
        work = PREFILL if load.prefilling else DECODE if load.decoding else REST
        goals = {**vars(work), "heat": REST_CELSIUS + CELSIUS_PER_WATT * (work.socket - REST.socket)}
        passed = 0.0 if self.time is None else max(0.0, time - self.time)
        self.time = time
        for name, goal in goals.items():
            now = self.values[name]
            self.values[name] = goal + (now - goal) * math.exp(-passed / SECONDS[name])
        dice = random.Random(f"{self.seed} {round(time * 10)}")
        swing = 0.015 if work is not REST else 0.005
        noisy = {name: value * (1 + dice.uniform(-swing, swing)) for name, value in self.values.items()}
        noisy["busy"] = min(99.0, noisy["busy"] + dice.choice((0, 0, 1)))
        noisy["sclk"] = min(PREFILL.sclk, max(REST.sclk, noisy["sclk"]))
        return noisy


class Tree:
    """``root/sysfs`` and ``root/procfs``, for a LocalHost to look at. ``pid`` is the box's llama-server,
    until :meth:`house` says otherwise.

    ``pressure``: memory runs out within some ten seconds of the first update.
    """

    def __init__(self, root: Path, *, pid: int | None = None, seed: int = 0, pressure: bool = False) -> None:
        self.sysfs = root / "sysfs"
        self.procfs = root / "procfs"
        self.device = self.sysfs / "devices/pci0000:00/0000:00:08.1" / SLOT
        self._spare = root / "spare"  # on the same file system, where nobody looks
        self._pressure = pressure
        self._chip = Chip(seed)
        self._began: float | None = None
        self._written: dict[Path, bytes] = {}
        self._lay_out(pid)

    def update(self, load: Load, time: float) -> None:
        """Write what the sensors say at ``time`` (seconds, from any origin); readers see whole files only."""
        if self._began is None:
            self._began = time
        gtt = int(MODEL_BYTES * load.models) + load.tokens * KV_BYTES_PER_TOKEN
        gtt = min(gtt, GTT_TOTAL) if load.models else GTT_REST
        vram = VRAM_FULL if load.models and load.carve_out else VRAM_REST
        inside = min(load.held, VRAM_FULL - vram) if load.carve_out else 0
        vram, gtt = vram + inside, min(GTT_TOTAL, gtt + load.held - inside)
        if self._pressure and load.models:
            part = min(1.0, (time - self._began) / PRESSURE_SECONDS)
            gtt += int((PRESSURE_LEVEL * GTT_TOTAL - gtt) * part)
        values = self._chip.step(load, time)
        micro = f"{round(values['socket'] * 1e6)}\n"
        sensors = self.device / "hwmon/hwmon5"
        files: dict[Path, str | bytes] = {
            self.device / "mem_info_gtt_used": f"{gtt}\n",
            self.device / "mem_info_vram_used": f"{vram}\n",
            self.device / "mem_info_vis_vram_used": f"{vram}\n",
            self.device / "gpu_busy_percent": f"{round(values['busy'])}\n",
            self.device / "pp_dpm_sclk": _sclk_table(round(values["sclk"])),
            self.device / "pp_dpm_mclk": _table(round(values["uclk"], -2), (1000, 800, 400)),
            self.device / "pp_dpm_fclk": _table(round(values["fclk"], -2), (2000, 1600, 1200, 600)),
            self.device / "gpu_metrics": gpu_metrics(values, time),
            sensors / "temp1_input": f"{round(values['heat'])}000\n",
            sensors / "power1_average": micro,
            sensors / "power1_input": micro,
            sensors / "freq1_input": f"{round(values['sclk'])}000000\n",
            **self._memory(gtt),
        }
        for path, content in files.items():
            self._write(path, content)

    def house(self, pids: Iterable[int]) -> None:
        """These processes live here, and no others."""
        wanted = {str(pid) for pid in pids}
        there = {path.name for path in self.procfs.iterdir() if path.name.isdecimal()}
        for name in there - wanted:
            (self.procfs / name).unlink()
        for name in wanted - there:
            (self.procfs / name).symlink_to(Path("/proc") / name)

    def hang(self) -> None:
        """A GPU in reset: whoever reads its busiest files waits for ever."""
        for name in HANGING:
            os.mkfifo(self._spare)
            self._spare.replace(self.device / name)
            self._written.pop(self.device / name, None)

    def recover(self) -> None:
        """Real files again; those who wait come back with nothing read."""
        for path in (self.device / name for name in HANGING):
            if path.is_fifo():
                writer = os.open(path, os.O_RDWR)  # on a FIFO this opens at once and lets readers in
                self._write(path, b"")
                os.close(writer)

    def _memory(self, gtt: int) -> dict[Path, str | bytes]:
        # GTT is memory that no process owns: it is missing from what is available, and nothing else shows it.
        available = MEMORY_TOTAL - SYSTEM_BYTES - gtt
        swapped = max(0, 4 * GIB - available) if self._pressure else 0
        cached = min(CACHE_BYTES, int(available * 0.6))
        lines = {
            "MemTotal": MEMORY_TOTAL,
            "MemFree": available - cached,
            "MemAvailable": available,
            "Buffers": cached // 50,
            "Cached": cached - cached // 50,
            "SwapCached": 0,
            "Active": SYSTEM_BYTES // 2 + cached // 3,
            "Inactive": SYSTEM_BYTES // 4 + cached // 2,
            "SwapTotal": SWAP_TOTAL,
            "SwapFree": SWAP_TOTAL - swapped,
            "Dirty": 512 << 10,
            "AnonPages": SYSTEM_BYTES // 2,
            "Shmem": 96 << 20,
            "Slab": 640 << 20,
            "SReclaimable": 0,
            "SUnreclaim": 640 << 20,
        }
        meminfo = "".join(f"{name + ':':<16}{value // 1024:>8} kB\n" for name, value in lines.items())
        return {
            self.procfs / "meminfo": meminfo,
            self.procfs / "vmstat": f"pswpin {swapped // 16384}\npswpout {swapped // 4096}\noom_kill 0\n",
        }

    def _lay_out(self, pid: int | None) -> None:
        for path, text in STATIC.items():
            self._write(self.device / path, f"{text}\n")
        for path, text in SYSTEM.items():
            self._write(self.procfs.parent / path, f"{text}\n")
        drm, card = self.sysfs / "class/drm", self.device / "drm/card1"
        links = {
            drm / "card1": card,
            drm / "card1-DP-1": card / "card1-DP-1",
            drm / "renderD128": self.device / "drm/renderD128",
            card / "device": self.device,
            self.device / "drm/renderD128/device": self.device,
            self.sysfs / "class/hwmon/hwmon5": self.device / "hwmon/hwmon5",
            self.sysfs / "bus/pci/devices" / SLOT: self.device,
        }
        for link, target in links.items():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(target, link.parent))
        # The real kernel speaks for processes and the clock; the tree only says who lives here.
        for name in ("net", "self", "stat", "uptime", "sys/kernel/random"):
            (self.procfs / name).symlink_to(Path("/proc") / name)
        self.house([pid] if pid else [])

    def _write(self, path: Path, content: str | bytes) -> None:
        data = content.encode() if isinstance(content, str) else content
        if self._written.get(path) == data:
            return
        if path not in self._written:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._spare.write_bytes(data)
        self._spare.replace(path)
        self._written[path] = data


def scratch(least_bytes: int) -> Path:
    """Where a tree is best laid: memory if there is room, as in containers there often is not."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK | os.X_OK) and shutil.disk_usage(memory).free >= least_bytes:
        return memory
    return Path(tempfile.gettempdir())


def gpu_metrics(values: dict[str, float], time: float) -> bytes:
    """The v3.0 table, 264 bytes; what this chip's driver never fills is all ones."""
    none = 0xFFFF
    heat, sclk = round(values["heat"] * 100), round(values["sclk"])
    fclk, uclk = round(values["fclk"]), round(values["uclk"])
    socket, gfx = round(values["socket"] * 1000), round(values["gfx"] * 1000)
    cores = max(0, socket - gfx) // 3
    return struct.pack(
        "<HBB2H16HH2H8H16H4H2xQIH2x4I16H3H8H16H2H2x7II4x",
        *(264, 3, 0),
        *(heat, heat - 150, *[0] * 16, 0),  # temperatures, 0.01 °C: graphics, rest, cores, skin
        *(round(values["busy"]), 0, *[0] * 8, *[2] * 16),  # activity, %: graphics, media, NPU, cores
        *(0, 0, 0, 0),  # DRAM and NPU traffic
        *(round(time * 1e9) & (1 << 63) - 1, socket, 0),  # clock, ns; power, mW: socket, NPU
        *(socket, gfx, 0, cores, *[cores // 16] * 16, 0, none, none),  # APU, graphics, -, cores; limits
        *(sclk, 1200, 400, 0, fclk, 400, uclk, 400),  # clocks, MHz
        *([2000] * 16),
        *(5100, 2900),  # what the firmware allows now: cores, graphics
        *(0, 0, 34055, 0, 0, 306735, 0),  # limiters since boot: not zero on a healthy box
        1_000_000,  # averages are over a second
    )


def _sclk_table(now: int) -> str:
    """Three rows, of which the middle one is now, or a placeholder that carries no mark."""
    low, high = round(REST.sclk), round(PREFILL.sclk)
    middle = now if low < now < high else 1100
    rows = enumerate((low, middle, high))
    return "".join(f"{row}: {clock}Mhz {'*' if clock == now else ''}\n" for row, clock in rows)


def _table(now: float, levels: tuple[int, ...]) -> str:
    """Levels from the highest on; the mark only where the clock is exactly one of them."""
    rows = enumerate(levels)
    return "".join(f"{row}: {level}Mhz {'*' if level == now else ''}\n" for row, level in rows)


STATIC = {  # below the device
    "vendor": "0x1002",
    "device": "0x1586",
    "revision": "0xc1",
    "class": "0x038000",
    "uevent": f"DRIVER=amdgpu\nPCI_CLASS=38000\nPCI_ID=1002:1586\nPCI_SLOT_NAME={SLOT}",
    "power/runtime_status": "active",
    "power_dpm_force_performance_level": "auto",
    "mem_info_gtt_total": f"{GTT_TOTAL}",
    "mem_info_vram_total": f"{VRAM_TOTAL}",
    "mem_info_vis_vram_total": f"{VRAM_TOTAL}",
    "hwmon/hwmon5/name": "amdgpu",
    "hwmon/hwmon5/temp1_label": "edge",
    "hwmon/hwmon5/power1_label": "PPT",
    "hwmon/hwmon5/freq1_label": "sclk",
    "hwmon/hwmon5/in0_label": "vddgfx",
    "hwmon/hwmon5/in0_input": "0",
    "hwmon/hwmon5/in1_label": "vddnb",
    "hwmon/hwmon5/in1_input": "0",
    "drm/card1/dev": "226:1",
    "drm/card1/card1-DP-1/status": "disconnected",
    "drm/renderD128/dev": "226:128",
}
SYSTEM = {  # below the root
    "dev/dri/renderD128": "",  # there, and ours to open
    "dev/kfd": "",
    "sysfs/module/ttm/parameters/pages_limit": f"{GTT_TOTAL // 4096}",
    "sysfs/module/amdgpu/parameters/gttsize": "-1",
    "sysfs/module/amdgpu/parameters/cwsr_enable": "1",
    "procfs/cmdline": f"root=/dev/nvme0n1p2 ro quiet amd_iommu=off ttm.pages_limit={GTT_TOTAL // 4096}",
    "procfs/sys/kernel/osrelease": "6.18.9",
    "procfs/cpuinfo": "processor\t: 0\nmodel name\t: AMD RYZEN AI MAX+ 395 w/ Radeon 8060S",
}
