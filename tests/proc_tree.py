"""A /proc, /sys and /dev of files: processes that hold clients of amdgpu, and pools of GPUs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from halotui.hosts.local import LocalHost

GIB = 1024**3
SLOT = "0000:c5:00.0"
RENDER = "/dev/dri/renderD128"
NEW = """pos:\t0
flags:\t02100002
drm-driver:\tamdgpu
drm-client-id:\t{client}
drm-pdev:\t{slot}
drm-total-gtt:\t99999999 KiB
drm-resident-gtt:\t{gtt} KiB
drm-resident-vram:\t{vram} KiB
drm-memory-gtt: \t7 KiB
"""
OLD = """pos:\t0
drm-driver:\tamdgpu
drm-pdev:\t{slot}
drm-client-id:\t{client}
drm-memory-vram:\t{vram} KiB
drm-memory-gtt: \t{gtt} KiB
drm-memory-cpu: \t0 KiB
"""


def told(
    client: int | str, gtt: float, vram: float = 0, slot: str = SLOT, era: str = NEW, **engines: int
) -> str:
    """A fdinfo: GTT and VRAM in GiB, engines in nanoseconds."""
    lines = "".join(f"drm-engine-{name}:\t{spent} ns\n" for name, spent in engines.items())
    kib = (int(size * GIB / 1024) for size in (gtt, vram))
    return era.format(client=client, slot=slot, **dict(zip(("gtt", "vram"), kib, strict=True))) + lines


class Box:
    """``pools=None``: without a GPU."""

    def __init__(self, root: Path, pools: dict[str, float] | None = None) -> None:
        self.root = root
        self.proc = root / "procfs"
        self.proc.mkdir()
        (self.proc / "stat").write_text("cpu 1 2 3\nbtime 1700000000\n")
        for number, (slot, used) in enumerate((pools or {}).items()):
            device = root / f"sysfs/class/drm/card{number}/device"
            device.mkdir(parents=True)
            (device / "uevent").write_text(f"DRIVER=amdgpu\nPCI_SLOT_NAME={slot}\n")
            self._pool(number, used)
        if pools is not None:
            (root / "dev/dri").mkdir(parents=True)

    @property
    def host(self) -> LocalHost:
        return LocalHost(self.root / "sysfs", self.proc)

    def use(self, gtt: float, card: int = 0) -> None:
        self._pool(card, gtt)

    def process(
        self,
        pid: int,
        name: str = "llama-server",
        *,
        rss: float = 0.1,
        cpu: float = 0.0,
        ticks: int | None = None,
        state: str = "S",
        flags: int = 0,
        cgroup: str = "",
    ) -> Path:
        """Memory in GiB, CPU time in seconds."""
        at = self.proc / str(pid)
        for part in ("fd", "fdinfo"):
            (at / part).mkdir(parents=True, exist_ok=True)
        spent = round(cpu * os.sysconf("SC_CLK_TCK"))
        pages = round(rss * GIB / os.sysconf("SC_PAGE_SIZE"))
        word = [state, "1", "0", "0", "0", "0", str(flags), *["0"] * 4, str(spent), "0", *["0"] * 6]
        word += [str(pid if ticks is None else ticks), "0", str(pages), "0"]
        (at / "stat").write_text(f"{pid} ({name}) {' '.join(word)}\n")
        (at / "cgroup").write_text(f"0::{cgroup}\n")
        return at

    def opens(self, pid: int, **descriptors: str) -> None:
        """``fd3=fdinfo``; an empty one is a plain file's."""
        for name, info in descriptors.items():
            self.open(pid, name.removeprefix("fd"), info, RENDER if info else "/dev/null")

    def open(self, pid: int, fd: int | str, info: str = "pos:\t0\n", target: str = RENDER) -> None:
        link = self.proc / f"{pid}/fd/{fd}"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        (self.proc / f"{pid}/fdinfo/{fd}").write_text(info)

    def ends(self, pid: int) -> None:
        shutil.rmtree(self.proc / str(pid))

    def _pool(self, card: int, gtt: float) -> None:
        device = self.root / f"sysfs/class/drm/card{card}/device"
        (device / "mem_info_gtt_used").write_text(f"{int(gtt * GIB)}\n")
        (device / "mem_info_vram_used").write_text("0\n")
