"""What never changes on the box: its nameplates, its modules' parameters, where its devices hang."""

from __future__ import annotations

from halotui.demo.counters import NETWORK
from halotui.demo.kernel_words import SLOT

GIB = 1 << 30
GTT_TOTAL = 120 * GIB
VRAM_TOTAL = 512 << 20
ROOT_PORTS = "sysfs/devices/pci0000:00"
DEVICE = f"{ROOT_PORTS}/0000:00:08.1/{SLOT}"  # below the root
DISK = f"{ROOT_PORTS}/0000:00:02.4/0000:c2:00.0/nvme/nvme0"
CARD = f"{ROOT_PORTS}/0000:00:02.3/0000:bf:00.0"
THERMOMETER = f"{ROOT_PORTS}/0000:00:18.3/hwmon/hwmon3"

_GPU = {
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
    "fw_version/mes_fw_version": "0x00000080",
}
_MODULES = {
    "ttm/parameters/pages_limit": f"{GTT_TOTAL // 4096}",
    "ttm/parameters/page_pool_size": f"{GTT_TOTAL // 4096}",
    "amdgpu/parameters/gttsize": "-1",
    "amdgpu/parameters/cwsr_enable": "1",
    "amdgpu/parameters/lockup_timeout": "",
}
_NAMEPLATE = {
    "sys_vendor": "Framework",
    "product_name": "Desktop (AMD Ryzen AI Max 300 Series)",
    "product_version": "A9",
    "board_vendor": "Framework",
    "board_name": "FRANMFCP09",
    "bios_vendor": "INSYDE Corp.",
    "bios_version": "03.04",
    "bios_date": "11/19/2025",
}
_NETWORKS = {  # those without a device are no cards
    "lo": 842_113_907,
    "podman0": 51_118_402,
}
_PROCESSOR = (
    "processor\t: {}\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD RYZEN AI MAX+ 395 w/ Radeon 8060S\n"
)
FILES = {  # below the root
    **{f"{DEVICE}/{path}": text for path, text in _GPU.items()},
    **{f"sysfs/module/{path}": text for path, text in _MODULES.items()},
    **{f"sysfs/class/dmi/id/{path}": text for path, text in _NAMEPLATE.items()},
    **{f"sysfs/class/net/{name}/operstate": "up" for name in (NETWORK, *_NETWORKS)},
    **{
        f"sysfs/class/net/{name}/statistics/{way}_bytes": f"{count}"
        for name, count in _NETWORKS.items()
        for way in ("rx", "tx")
    },
    f"{THERMOMETER}/name": "k10temp",
    f"{THERMOMETER}/temp1_label": "Tctl",
    f"{DISK}/model": "WD_BLACK SN850X 4000GB",
    f"{CARD}/vendor": "0x10ec",
    "sysfs/block/nvme0n1/size": "7814037168",
    "sysfs/block/loop0/size": "131072",
    "sysfs/block/loop0/stat": " ".join(["0"] * 17),
    "sysfs/firmware/acpi/platform_profile": "performance",
    "sysfs/firmware/acpi/platform_profile_choices": "low-power balanced performance",
    "sysfs/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
    "dev/dri/renderD128": "",  # there, and ours to open
    "dev/kfd": "",
    "etc/os-release": 'ID=fedora\nVERSION_ID=43\nPRETTY_NAME="Fedora Linux 43 (Workstation Edition)"',
    "opt/rocm/.info/version": "7.1.1",
    "usr/share/vulkan/icd.d/radeon_icd.x86_64.json": '{"ICD": {"library_path": "libvulkan_radeon.so"}}',
    "procfs/cmdline": f"root=/dev/nvme0n1p2 ro quiet amd_iommu=off ttm.pages_limit={GTT_TOTAL // 4096}",
    "procfs/sys/kernel/osrelease": "6.18.9",
    "procfs/cpuinfo": "\n".join(_PROCESSOR.format(number) for number in range(32)),
}
LINKS = {  # below the root: link -> target
    "sysfs/class/drm/card1": f"{DEVICE}/drm/card1",
    "sysfs/class/drm/card1-DP-1": f"{DEVICE}/drm/card1/card1-DP-1",
    "sysfs/class/drm/renderD128": f"{DEVICE}/drm/renderD128",
    f"{DEVICE}/drm/card1/device": DEVICE,
    f"{DEVICE}/drm/renderD128/device": DEVICE,
    "sysfs/class/hwmon/hwmon3": THERMOMETER,
    "sysfs/class/hwmon/hwmon5": f"{DEVICE}/hwmon/hwmon5",
    f"sysfs/bus/pci/devices/{SLOT}": DEVICE,
    "sysfs/block/nvme0n1/device": DISK,
    f"sysfs/class/net/{NETWORK}/device": CARD,
}
