"""Who a card is: its maker, its name, and whether it sits in the processor. No libdrm needed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from halotui.collectors.gpu_metrics import APU_REVISIONS
from halotui.collectors.sysfs_folder import Folder
from halotui.safe import clean

AMD = "0x1002"
# The chip that this program is about, by the name that any source gives it: ours, llama.cpp's, amdgpu_top's.
STRIX_HALO = re.compile(r"\b(80[456]0S)\b( family)?|gfx1151|strix halo", re.IGNORECASE)
_MAKERS = {AMD: "AMD", "0x10de": "NVIDIA", "0x8086": "Intel", "0x1a03": "ASPEED", "0x1af4": "virtio"}
_APUS = (0x1586,)
_NAMES = {  # device id: name by revision, as libdrm's amdgpu.ids tells them apart
    0x1586: {
        **dict.fromkeys((0xC1, 0xC3, 0xC6, 0xD1), "Radeon 8060S"),
        **dict.fromkeys((0xC2, 0xC4, 0xD2, 0xD4), "Radeon 8050S"),
        0xD5: "Radeon 8040S",
    },
}
_FAMILIES = {0x1586: "Radeon 8060S family"}


def name(device: int | None, revision: int | None) -> str | None:
    if device is None:
        return None
    known = _NAMES.get(device, {}).get(-1 if revision is None else revision)
    return known or _FAMILIES.get(device) or f"AMD GPU 0x{device & 0xFFFF:04X}"


def integrated(device: int | None, format_revision: int | None = None) -> bool | None:
    """Whether it is an APU's, by what is sure: its id, and the format of its gpu_metrics where it has one."""
    if device in _APUS or format_revision in APU_REVISIONS:
        return True
    return False if format_revision == 1 else None


def integrated_by_sensors(card: Folder, hwmon: Folder | None) -> bool | None:
    """The same by which files there are; none of them is woken for. None: no sensors, nothing tells."""
    if hwmon is None:
        return None
    return hwmon.text("in1_label") == "vddnb" or not (card.has("mem_busy_percent") or hwmon.has("fan1_input"))


def strangers(cards: Sequence[Folder]) -> str:
    """Whose the GPUs are that are not ours to read, as "NVIDIA (0x10de)"; "": no GPU, or none that tells."""
    told = dict.fromkeys(_whose(card) for card in cards)
    return ", ".join(whose for whose in told if whose)


def _whose(card: Folder) -> str:
    vendor = clean(card.text("vendor") or "", 10)
    event = dict(line.partition("=")[::2] for line in (card.text("uevent") or "").splitlines())
    driver = clean(event.get("DRIVER", ""), 40)
    if vendor == AMD:
        return f"AMD, but with the driver {driver}"
    if vendor:
        return f"{_MAKERS.get(vendor, 'another maker')} ({vendor})"
    return f"a plain frame buffer ({driver})" if driver else ""
