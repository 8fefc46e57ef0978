"""The rest of ``/sys``, and ``/etc``, ``/opt``, ``/dev``: nameplate, disk, network, thermometer, NPU, log."""

from __future__ import annotations

from pathlib import Path

from box_trees.files import link, write
from box_trees.kinds import Box

SECTOR = 512
DISK, NETWORK = "nvme0n1", "enp191s0"
BOOT = (
    "6,800,2628684,-;amdgpu: ATOM BIOS: 113-STRXLGEN-001",
    "6,812,2631457,-;amdgpu {slot}: amdgpu: amdgpu: {vram}M of VRAM memory ready",
    "6,813,2633788,-;amdgpu {slot}: amdgpu: amdgpu: {gtt}M of GTT memory ready.",
)


def lay_system(root: Path, box: Box, seconds: float) -> None:
    sysfs = root / "sysfs"
    write(sysfs / "class/dmi/id", _nameplate(box))
    write(sysfs / "class/hwmon/hwmon2", {"name": "nvme", "temp1_input": "39850"})
    thermometer = {
        "name": box.thermometer,
        "temp1_label": "Tctl",
        "temp1_input": f"{round(box.celsius * 1000)}",
    }
    write(sysfs / "class/hwmon/hwmon3", thermometer)
    write(sysfs / "firmware/acpi", {"platform_profile": box.power_mode})
    write(sysfs / "firmware/acpi", {"platform_profile_choices": "low-power balanced performance"})
    write(sysfs / "devices/system/cpu/cpu0/cpufreq", {"scaling_governor": "powersave"})
    _disk(sysfs, round(box.pace.read * seconds))
    _network(sysfs, round(box.pace.received * seconds))
    if box.npu:
        npu = {"vbnv": "NPU Strix Halo", "fw_version": "1.1.2.65", "power/runtime_status": "suspended"}
        write(sysfs / "class/accel/accel0/device", npu)
    write(root, {"etc/os-release": box.release})
    if box.integrated is not None:
        write(root, {"opt/rocm/.info/version": "7.1.1"})
    if seconds == 0:
        write(root, {"dev/kmsg": _boot(box)})


def _nameplate(box: Box) -> dict[str, str]:
    vendor, model = box.product
    version, date = box.bios
    return {"sys_vendor": vendor, "product_name": model, "bios_version": version, "bios_date": date}


def _disk(sysfs: Path, read: int) -> None:
    sectors = 9_100_200 + read // SECTOR
    busy = 60_000 + read // 4_000_000  # ms, of a disk that does 4 GB/s
    stat = f"  120000 0 {sectors} 40000 88000 1200 4200600 51000 0 {busy} 91000 0 0 0 0 900 300"
    write(sysfs / "block", {f"{DISK}/stat": stat, f"{DISK}/size": "7814037168", "loop0/stat": stat})
    link(sysfs / "block" / DISK / "device", "../../devices/nvme0")
    write(sysfs / "devices/nvme0", {"model": "WD_BLACK SN850X 4000GB"})


def _network(sysfs: Path, received: int) -> None:
    for name, first in ((NETWORK, 731_000_000), ("lo", 842_000_000), ("podman0", 51_000_000)):
        statistics = {"rx_bytes": f"{first + received}", "tx_bytes": f"{first // 9 + received // 20}"}
        write(sysfs / "class/net" / name / "statistics", statistics)
    link(sysfs / "class/net" / NETWORK / "device", "../../../devices/net0")
    write(sysfs / "devices/net0", {"vendor": "0x10ec"})


def _boot(box: Box) -> str:
    gpu = box.integrated
    if gpu is None:
        return "6,1,100,-;Linux version"
    words = {"slot": gpu.slot, "vram": gpu.vram_total >> 20, "gtt": gpu.gtt_total >> 20}
    return "\n".join(line.format(**words) for line in BOOT)
