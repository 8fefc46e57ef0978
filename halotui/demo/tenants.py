"""The box's processes as its /proc shows them: real ones, whose GPU memory is made up, and invented ones.

What a real process tells the kernel tells, link by link. Of its descriptors there is a copy, since one more
stands among them: that of the GPU, whose fdinfo says what the box pretends that it holds.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from halotui.demo.counters import DISK_BYTES_PER_SECOND, TICKS
from halotui.demo.files import Files
from halotui.demo.kernel_words import SLOT

RENDER, KFD = "99", "98"  # descriptors that no small server comes to
OURS = ("fd", "fdinfo", "io")
OWN_LINKS = ("cwd", "exe")  # a link to them would tell where it leads, and not where they do
PAGE = 4096
KFD_INFO = "pos:\t0\nflags:\t02100002\nmnt_id:\t25\nino:\t1056\n"


@dataclass(frozen=True)
class Tenant:
    """A process on the GPU, which holds of both pools in proportion to ``weight`` (bytes).

    ``works``: the GPU's work is its. ``counted``: and the driver counts it, which it does not for ROCm.
    """

    weight: float
    works: bool = True
    counted: bool = True


@dataclass(frozen=True)
class Invented:
    """A process that is none. ``began``: seconds since boot; ``at_rest`` and ``at_work``: cores it takes."""

    name: str
    argv: tuple[str, ...]
    cgroup: str
    began: float
    resident: int  # bytes
    at_rest: float = 0.0
    at_work: float = 0.0
    threads: int = 24


@dataclass
class Home:
    """One directory of /proc. ``held``: bytes of GTT and VRAM that are its own and no part of the split."""

    client: int
    tenant: Tenant
    invented: Invented | None = None
    held: tuple[int, int] | None = None
    links: dict[str, str] = field(default_factory=dict)  # descriptor -> what it is
    gpu_seconds: float = 0.0
    cpu_seconds: float = 0.0
    read: float = 0.0  # bytes


class Tenants:
    """``settle`` says who lives here, ``invent`` adds one, ``share`` hands out what the GPU holds."""

    def __init__(self, procfs: Path, spare: Path, files: Files) -> None:
        self._procfs = procfs
        self._spare = spare  # on the same file system, where nobody looks
        self._files = files
        self._homes: dict[int, Home] = {}
        self._clients = 11

    def settle(self, tenants: Mapping[int, Tenant]) -> None:
        """Those real processes, and no others; whose descriptors come and go."""
        for pid in [pid for pid, home in self._homes.items() if not home.invented and pid not in tenants]:
            self._move_out(pid)
        for pid, tenant in tenants.items():
            home = self._homes.get(pid)
            if home is None or home.invented:
                self._move_out(pid)  # an invented one gives way
                self._mirror(pid, tenant)
            else:
                home.tenant = tenant
                self._descriptors(pid, home)

    def invent(
        self, pid: int, about: Invented, tenant: Tenant | None = None, held: tuple[int, int] | None = None
    ) -> None:
        """``held``: of GTT and VRAM, in bytes, where it has no part in the split."""
        place = self._procfs / str(pid)
        for name in ("fd", "fdinfo"):
            (place / name).mkdir(parents=True)
        uid, gid, pages = os.getuid(), os.getgid(), about.resident // PAGE
        files = {
            "comm": f"{about.name[:15]}\n",
            "cmdline": "".join(f"{word}\0" for word in about.argv),
            "cgroup": f"0::{about.cgroup}\n",
            "environ": "",
            "status": f"Name:\t{about.name[:15]}\nState:\tS (sleeping)\nTgid:\t{pid}\nPid:\t{pid}\nPPid:\t1\n"
            f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{gid}\t{gid}\t{gid}\t{gid}\nNSpid:\t{pid}\n"
            f"VmHWM:\t{4 * pages} kB\nVmRSS:\t{4 * pages} kB\n"
            f"RssAnon:\t{3 * pages} kB\nRssFile:\t{pages} kB\n"
            f"Threads:\t{about.threads}\n",
            "statm": f"{5 * pages} {pages} {pages // 4} 12 0 {2 * pages} 0\n",
        }
        for name, text in files.items():
            self._files.write(place / name, text)
        home = Home(self._client(), tenant or Tenant(0, works=False), about, held)
        home.read = home.tenant.weight
        self._homes[pid] = home
        self._descriptors(pid, home)

    def share(self, gtt: int, vram: int, busy: float, passed: float) -> None:
        """Hand out so many bytes, and the GPU's work: ``busy`` of the seconds that have passed."""
        homes = [(pid, home) for pid, home in sorted(self._homes.items()) if home.held is None]
        weights = [home.tenant.weight for _, home in homes]
        workers = sum(home.tenant.works for _, home in homes) or 1
        parts = zip(homes, _split(gtt, weights), _split(vram, weights), strict=True)
        held = {pid: (home, pools) for (pid, home), *pools in parts}
        held |= {pid: (home, list(home.held)) for pid, home in self._homes.items() if home.held is not None}
        for pid, (home, (own_gtt, own_vram)) in held.items():
            place = self._procfs / str(pid)
            if home.tenant.works and home.tenant.counted:
                home.gpu_seconds += busy * passed / workers
            elif home.held is not None:
                home.gpu_seconds += 0.004 * passed  # a desktop's picture
            home.read = min(max(home.read, home.tenant.weight), home.read + passed * DISK_BYTES_PER_SECOND)
            if home.invented:
                at_work = busy * home.tenant.works * home.invented.at_work
                home.cpu_seconds += passed * (home.invented.at_rest + at_work)
                self._files.write(place / "stat", _stat(pid, home.invented, home.cpu_seconds))
            self._files.write(place / "io", _io(int(home.read)))
            engine = "gfx" if home.held is not None else "compute"
            self._files.write(place / "fdinfo" / RENDER, _fdinfo(home, own_gtt, own_vram, engine))

    def _mirror(self, pid: int, tenant: Tenant) -> None:
        """All at once, by renaming. Nothing where the process has gone."""
        real, home = f"/proc/{pid}", Home(self._client(), tenant)
        shutil.rmtree(self._spare, ignore_errors=True)
        try:
            names = os.listdir(real)  # noqa: PTH208
            for name in ("fd", "fdinfo"):
                (self._spare / name).mkdir(parents=True)
            for name in names:
                if name not in (*OURS, *OWN_LINKS):
                    (self._spare / name).symlink_to(f"{real}/{name}")
        except FileNotFoundError:
            return
        for name in OWN_LINKS:
            with suppress(OSError):
                (self._spare / name).symlink_to(Path(real, name).readlink())
        for name, target in _told(pid, home).items():
            (self._spare / "fd" / name).symlink_to(target)
            home.links[name] = target
        home.read = tenant.weight
        place = self._procfs / str(pid)
        self._spare.rename(place)
        self._homes[pid] = home
        self._files.write(place / "io", _io(int(home.read)))
        if KFD in home.links:
            self._files.write(place / "fdinfo" / KFD, KFD_INFO)

    def _descriptors(self, pid: int, home: Home) -> None:
        told = _told(pid, home)
        if told == home.links:
            return
        place = self._procfs / str(pid) / "fd"
        for name in home.links.keys() - told.keys():
            (place / name).unlink()
        for name, target in told.items():
            if home.links.get(name) != target:
                self._spare.unlink(missing_ok=True)
                self._spare.symlink_to(target)
                self._spare.replace(place / name)
        home.links = told
        if KFD in told:
            self._files.write(place.parent / "fdinfo" / KFD, KFD_INFO)

    def _move_out(self, pid: int) -> None:
        if self._homes.pop(pid, None):
            place = self._procfs / str(pid)
            shutil.rmtree(place, ignore_errors=True)
            self._files.forget(place)

    def _client(self) -> int:
        self._clients += 1
        return self._clients


def _told(pid: int, home: Home) -> dict[str, str]:
    """Its descriptors: those it has, and the GPU's."""
    told = {}
    if not home.invented:
        with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                with suppress(OSError):
                    told[entry.name] = os.readlink(entry.path)  # noqa: PTH115 - many, several times a second
    if home.tenant.weight or home.held:
        told[RENDER] = "/dev/dri/renderD128"
        if not home.tenant.counted:
            told[KFD] = "/dev/kfd"
    return told


def _split(total: int, weights: Iterable[float]) -> list[int]:
    """In proportion; what is left over goes to the last one that has a part."""
    weights = list(weights)
    whole = sum(weights)
    if whole <= 0 or total <= 0:
        return [0] * len(weights)
    parts = [int(total * weight / whole) for weight in weights]
    last = max(place for place, weight in enumerate(weights) if weight)
    parts[last] += total - sum(parts)
    return parts


def _stat(pid: int, about: Invented, cpu_seconds: float) -> str:
    ticks = int(cpu_seconds * TICKS)
    spent = f"{ticks - ticks // 4} {ticks // 4} 0 0 20 0 {about.threads} 0"
    size = f"{round(about.began * TICKS)} {about.resident * 5} {about.resident // PAGE} 18446744073709551615"
    head = f"{pid} ({about.name[:15]}) S 1 {pid} {pid} 0 -1 4194560 91322 0 42 0"
    return f"{head} {spent} {size} {' '.join(['0'] * 27)}\n"


def _io(read: int) -> str:
    return (
        f"rchar: {read + (1 << 20)}\nwchar: 24576\nsyscr: {read >> 17}\nsyscw: 96\n"
        f"read_bytes: {read}\nwrite_bytes: 24576\ncancelled_write_bytes: 0\n"
    )


def _fdinfo(home: Home, gtt: int, vram: int, engine: str) -> str:
    """As kernels from 6.14 on tell it."""
    lines = [
        "pos:\t0\nflags:\t02100002\nmnt_id:\t25\nino:\t1055\ndrm-driver:\tamdgpu",
        f"drm-client-id:\t{home.client}\ndrm-pdev:\t{SLOT}\npasid:\t{32768 + home.client}",
    ]
    for name, size in (("vram", vram >> 10), ("gtt", gtt >> 10), ("cpu", 0)):
        lines.append(f"drm-total-{name}:\t{size} KiB\ndrm-shared-{name}:\t0\ndrm-active-{name}:\t0")
        lines.append(
            f"drm-resident-{name}:\t{size} KiB\ndrm-purgeable-{name}:\t0\ndrm-memory-{name}:\t{size} KiB"
        )
    lines.append("amd-evicted-vram:\t0 KiB")
    lines.append(f"amd-requested-vram:\t{vram >> 10} KiB\namd-requested-gtt:\t{gtt >> 10} KiB")
    if home.gpu_seconds:
        lines.append(f"drm-engine-{engine}:\t{int(home.gpu_seconds * 1e9)} ns")
    return "\n".join(lines) + "\n"
