"""The files of a 128 GB Strix Halo box: what its kernel would say in /sys, /proc and /dev under a given load.

Numbers follow what owners of such boxes published: 11 W and 36 °C at rest, 2900 MHz and up to 120 W at
work, a small carve-out that is nearly full, GTT that holds the model. Clocks, power and heat have inertia.
The same loads at the same times with the same seed give the same files.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from halotui.demo import kernel_words
from halotui.demo.chip import DECODE, PREFILL, REST, Chip, gpu_metrics, sclk_table, table
from halotui.demo.counters import DISK_BYTES_PER_SECOND, Counters
from halotui.demo.files import Files
from halotui.demo.kernel_words import Words
from halotui.demo.machine import DEVICE, FILES, GTT_TOTAL, LINKS, THERMOMETER
from halotui.demo.tenants import Invented, Tenant, Tenants

GIB = 1 << 30
MEMORY_TOTAL = 131161644 * 1024  # what the kernel leaves of 128 GB
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
COUNT_SECONDS = 0.2  # between two looks at what is no sensor
REAL = ("net", "self", "uptime", "sys/kernel/random")  # of these the kernel speaks that we run on
DESKTOP = 1999  # its pid
SHELL = Invented(
    name="gnome-shell",
    argv=("/usr/bin/gnome-shell",),
    cgroup="/user.slice/user-1000.slice/user@1000.service/session.slice/org.gnome.Shell@user.service",
    began=21.4,
    resident=412 << 20,
    at_rest=0.012,
    threads=31,
)
SHELL_HOLDS = (GTT_REST, 64 << 20)  # bytes of GTT and VRAM; the rest of VRAM_REST is the firmware's


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


class Tree:
    """``root/sysfs``, ``root/procfs`` and what else a LocalHost looks at. ``pid`` is the box's llama-server,
    until :meth:`house` says otherwise.

    ``pressure``: memory runs out within some ten seconds of the first update. ``hot``: its fan does not turn.
    ``booted``, Unix seconds, and
    ``uptime``: of a box whose processes are made up, too; without, the real kernel speaks of them.
    ``desktop``: somebody has logged in.
    """

    def __init__(
        self,
        root: Path,
        *,
        pid: int | None = None,
        seed: int = 0,
        pressure: bool = False,
        hot: bool = False,
        booted: float | None = None,
        uptime: Callable[[], float] | None = None,
        desktop: bool = True,
    ) -> None:
        self.sysfs = root / "sysfs"
        self.procfs = root / "procfs"
        self.device = root / DEVICE
        self._root = root
        self._files = Files(root / "spare")
        self._kernel = root / "dev/kmsg"
        self._uptime = uptime or _uptime
        self._made_up = booted is not None
        self._pressure = pressure
        self._chip, self._counters = Chip(seed, hot), Counters(seed)
        self._began: float | None = None
        self._last = 0.0
        self._counted = -COUNT_SECONDS
        self._holding: float | None = None  # bytes of models
        self._came = 0.0  # of them from the disk, since they were counted
        self._records = 0
        self._tenants = Tenants(self.procfs, root / "spare-home", self._files)
        self._lay_out(booted)
        if desktop:
            self._tenants.invent(DESKTOP, SHELL, held=SHELL_HOLDS)
        if pid:
            self.house({pid: Tenant(MODEL_BYTES)})

    def update(self, load: Load, time: float) -> None:
        """Write what the sensors say at ``time`` (seconds, from any origin); readers see whole files only."""
        if self._began is None:
            self._began = self._last = time
            self._counted = time - COUNT_SECONDS
        passed, self._last = max(0.0, time - self._last), time
        gtt = int(MODEL_BYTES * load.models) + load.tokens * KV_BYTES_PER_TOKEN
        gtt = min(gtt, GTT_TOTAL) if load.models else GTT_REST
        vram = VRAM_FULL if load.models and load.carve_out else VRAM_REST
        inside = min(load.held, VRAM_FULL - vram) if load.carve_out else 0
        vram, gtt = vram + inside, min(GTT_TOTAL, gtt + load.held - inside)
        if self._pressure and load.models:
            part = min(1.0, (time - self._began) / PRESSURE_SECONDS)
            gtt += int((PRESSURE_LEVEL * GTT_TOTAL - gtt) * part)
        work = PREFILL if load.prefilling else DECODE if load.decoding else REST
        values = self._chip.step(work, time)
        micro = f"{round(values['socket'] * 1e6)}\n"
        sensors = self.device / "hwmon/hwmon5"
        files: dict[Path, str | bytes] = {
            self.device / "mem_info_gtt_used": f"{gtt}\n",
            self.device / "mem_info_vram_used": f"{vram}\n",
            self.device / "mem_info_vis_vram_used": f"{vram}\n",
            self.device / "gpu_busy_percent": f"{round(values['busy'])}\n",
            self.device / "pp_dpm_sclk": sclk_table(round(values["sclk"])),
            self.device / "pp_dpm_mclk": table(100 * round(values["uclk"] / 100), (1000, 800, 400)),
            self.device / "pp_dpm_fclk": table(100 * round(values["fclk"] / 100), (2000, 1600, 1200, 600)),
            self.device / "gpu_metrics": gpu_metrics(values, time),
            sensors / "temp1_input": f"{round(values['heat'])}000\n",
            sensors / "power1_average": micro,
            sensors / "power1_input": micro,
            sensors / "freq1_input": f"{round(values['sclk'])}000000\n",
            self._root / THERMOMETER / "temp1_input": f"{round(values['heat'] * 8 + 29) * 125}\n",
            self.procfs / "meminfo": self._meminfo(gtt),
        }
        for path, content in files.items():
            self._files.write(path, content)
        self._tell_uptime()
        self._tenants.share(gtt - GTT_REST, vram - VRAM_REST, values["busy"] / 100, passed)
        self._load_from_disk(load, passed)
        if time - self._counted >= COUNT_SECONDS - 1e-6:
            self._counted = time
            self._count(gtt, load, time)

    def house(self, tenants: Mapping[int, Tenant]) -> None:
        """These real processes live here, and no others."""
        self._tenants.settle(tenants)

    def invent(self, pid: int, about: Invented, tenant: Tenant) -> None:
        """This one lives here for good, and is none."""
        self._tenants.invent(pid, about, tenant)

    def replace(self, files: Mapping[str, str]) -> None:
        """Files below the root that do not change, otherwise than on a healthy box."""
        for path, text in files.items():
            self._files.write(self._root / path, text)

    def hang(self) -> None:
        """A GPU in reset: whoever reads its busiest files waits for ever."""
        for name in HANGING:
            os.mkfifo(self._files.spare)
            self._files.spare.replace(self.device / name)
            self._files.forget(self.device / name)

    def recover(self) -> None:
        """Real files again; those who wait come back with nothing read."""
        hung = [path for path in (self.device / name for name in HANGING) if path.is_fifo()]
        for path in hung:
            writer = os.open(path, os.O_RDWR)  # on a FIFO this opens at once and lets readers in
            self._files.write(path, b"")
            os.close(writer)
        if hung:
            self.say(kernel_words.BACK)

    def say(self, words: tuple[Words, ...]) -> None:
        """The kernel does, now."""
        now = self._uptime()
        self._tell_uptime()
        self._log([(now + 0.0004 * place, *word) for place, word in enumerate(words)])

    def _tell_uptime(self) -> None:
        if self._made_up:
            self._files.write(self.procfs / "uptime", f"{self._uptime():.2f} {31 * self._uptime():.2f}\n")

    def _log(self, words: list[tuple[float, int, str]]) -> None:
        with self._kernel.open("a") as log:
            log.write(kernel_words.records(words, self._records))
        self._records += len(words)

    def _load_from_disk(self, load: Load, passed: float) -> None:
        """What is faster than the disk comes from the page cache."""
        holding = MODEL_BYTES * load.models + load.held
        grown = holding - (holding if self._holding is None else self._holding)
        self._came += min(max(0.0, grown), passed * DISK_BYTES_PER_SECOND)
        self._holding = holding

    def _count(self, gtt: int, load: Load, time: float) -> None:
        short = self._short(gtt)
        read, self._came = int(self._came), 0.0
        files = self._counters.step(
            time,
            threads=self._chip.values["threads"],
            tokens=load.decoding,
            read=read,
            swapped=short,
            stalled=min(0.2, short / (20 * GIB)),
        )
        files["procfs/stat"] += self._since
        for path, content in files.items():
            self._files.write(self._root / path, content)

    def _short(self, gtt: int) -> int:
        """Bytes in swap."""
        return max(0, 4 * GIB - (MEMORY_TOTAL - SYSTEM_BYTES - gtt)) if self._pressure else 0

    def _meminfo(self, gtt: int) -> str:
        # GTT is memory that no process owns: it is missing from what is available, and nothing else shows it.
        available = MEMORY_TOTAL - SYSTEM_BYTES - gtt
        swapped = self._short(gtt)
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
        return "".join(f"{name + ':':<16}{value // 1024:>8} kB\n" for name, value in lines.items())

    def _lay_out(self, booted: float | None) -> None:
        for path, text in FILES.items():
            self._files.write(self._root / path, f"{text}\n")
        for name, target in LINKS.items():
            link = self._root / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(self._root / target, link.parent))
        if booted is None:  # the real kernel speaks for processes and the clock
            for name in REAL:
                (self.procfs / name).symlink_to(Path("/proc") / name)
        self._since = _since(booted)
        self._log(list(kernel_words.BOOT))


def _uptime() -> float:
    """Seconds since boot, as the kernel says that we run on, or who speaks for it in a container."""
    return float(Path("/proc/uptime").read_text().split()[0])


def _since(booted: float | None) -> str:
    """The end of /proc/stat. From its boot time processes have their start: so it is the real kernel's."""
    if booted is None:
        words = Path("/proc/stat").read_text().partition("btime ")[2].split()
        booted = int(words[0]) if words else time.time() - _uptime()
    return f"intr 0\nctxt 812443901\nbtime {int(booted)}\nprocesses 24817\nprocs_running 1\nprocs_blocked 0\n"


def scratch(least_bytes: int) -> Path:
    """Where a tree is best laid: memory if there is room, as in containers there often is not."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK | os.X_OK) and shutil.disk_usage(memory).free >= least_bytes:
        return memory
    return Path(tempfile.gettempdir())
