"""``/sys/class/drm`` and what a GPU's modules say."""

from __future__ import annotations

import struct
from pathlib import Path

import sysfs_tree
from box_trees.files import write
from box_trees.kinds import Box, Integrated

DISCRETE: dict[str, str | None] = {
    "device": "0x7590",
    "revision": "0xc0",
    "uevent": "DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_ID=1002:7590\nPCI_SLOT_NAME=0000:03:00.0",
    "mem_info_vram_total": "17095983104",
    "mem_info_vram_used": "8908738560",
    "mem_info_gtt_total": "50226561024",
    "mem_info_gtt_used": "36769792",
    "gpu_busy_percent": "100",
    "mem_busy_percent": "38",
    "pp_dpm_sclk": "0: 500Mhz \n1: 2996Mhz *\n2: 3320Mhz ",
    "pp_dpm_mclk": "0: 96Mhz \n1: 456Mhz \n2: 1258Mhz *",
    "pp_dpm_fclk": "0: 1400Mhz \n1: 2016Mhz *",
    "hwmon/hwmon6/name": None,
    "hwmon/hwmon6/temp1_input": None,
    "hwmon/hwmon6/power1_input": None,
    "hwmon/hwmon6/freq1_input": None,
    "hwmon/hwmon6/in0_input": None,
    "hwmon/hwmon4/name": "amdgpu",
    "hwmon/hwmon4/temp1_input": "50000",
    "hwmon/hwmon4/power1_average": "155000000",
    "hwmon/hwmon4/freq1_input": "2996000000",
    "hwmon/hwmon4/fan1_input": "1755",
}
DISCRETE_TABLE = struct.pack("<HBB", 120, 1, 3) + bytes(116)


def lay_cards(root: Path, box: Box, seconds: float) -> None:
    sysfs = root / "sysfs"
    (sysfs / "class/drm").mkdir(parents=True, exist_ok=True)
    if box.integrated is not None:
        _integrated(sysfs, box.integrated, round(box.pace.spl * seconds))
        write(root / "dev", {f"dri/renderD{128 + box.integrated.card}": b"", "kfd": b""})
    if box.discrete:
        _build(sysfs, 0, DISCRETE_TABLE, DISCRETE)
    if box.strangers:
        write(sysfs / "class/drm/card0/device", {"uevent": "DRIVER=simple-framebuffer"})
        nvidia = "DRIVER=nvidia\nPCI_ID=10DE:2D04\nPCI_SLOT_NAME=0000:01:00.0"
        write(sysfs / "class/drm/card1/device", {"vendor": "0x10de", "uevent": nvidia})
    for name, value in box.modules.items():
        module, _, parameter = name.partition(".")
        write(sysfs / "module" / module / "parameters", {parameter: value})


def _integrated(sysfs: Path, gpu: Integrated, spl: int) -> None:
    table = sysfs_tree.v3_0(**gpu.load, spl=spl) if gpu.table == "v3.0" else sysfs_tree.v2(1)
    pci = f"PCI_ID=1002:{gpu.device[2:].upper()}\nPCI_SLOT_NAME={gpu.slot}"
    files: dict[str, str | None] = {
        "device": gpu.device,
        "revision": gpu.revision,
        "uevent": f"DRIVER=amdgpu\nPCI_CLASS=38000\n{pci}",
        "mem_info_vram_total": str(gpu.vram_total),
        "mem_info_vram_used": str(gpu.vram_used),
        "mem_info_gtt_total": str(gpu.gtt_total),
        "mem_info_gtt_used": str(gpu.gtt_used),
        "gpu_busy_percent": str(gpu.busy),
        "power/runtime_status": "active",
        "hwmon/hwmon6/in1_label": "vddnb",
        "hwmon/hwmon6/in1_input": "0",
        **gpu.files,
    }
    _build(sysfs, gpu.card, table, files)


def _build(sysfs: Path, card: int, table: bytes, files: dict[str, str | None]) -> None:
    spelt = {name.replace("/", "__"): text for name, text in files.items()}
    sysfs_tree.build(sysfs, card=card, metrics=table, **spelt)
