"""AMD GPUs through ``/sys/class/drm/card*/device``: no root, no group, no library.

Stateless: the cards are looked up at every reading, so one that comes or goes is noticed at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from halotui.collectors.gpu_metrics import MEGAHERTZ, PERCENT, Unit, decode, shared_with_gpu
from halotui.hosts import Host
from halotui.model import Gpu, SourceState, Unavailable
from halotui.safe import clean

_AMD = "0x1002"
_BYTES = Unit(int, 0, 2**63 - 1)
_HERTZ = Unit(int, 1, 20 * 10**9)
_MICROWATT = Unit(lambda raw: raw / 1_000_000, 1_000_000, 10**9)  # a package below 1 W was not measured
_MILLICELSIUS = Unit(lambda raw: raw / 1000, 1, 200_000)

MEMORY = {
    "gtt_used_bytes": "mem_info_gtt_used",
    "gtt_total_bytes": "mem_info_gtt_total",
    "vram_used_bytes": "mem_info_vram_used",
    "vram_total_bytes": "mem_info_vram_total",
}
# Gpu field: hwmon files in order of preference, unit, DPM table for when hwmon is silent as well
FALLBACKS: dict[str, tuple[tuple[str, ...], Unit, str]] = {
    "sclk_hertz": (("freq1_input",), _HERTZ, "pp_dpm_sclk"),
    "mclk_hertz": ((), _HERTZ, "pp_dpm_mclk"),
    "fclk_hertz": ((), _HERTZ, "pp_dpm_fclk"),
    "socket_power_watts": (("power1_average", "power1_input"), _MICROWATT, ""),
    "temperature_celsius": (("temp1_input",), _MILLICELSIUS, ""),
}
_NAMES = {  # device id: name by revision, as libdrm's amdgpu.ids tells them apart
    0x1586: {
        **dict.fromkeys((0xC1, 0xC3, 0xC6, 0xD1), "Radeon 8060S"),
        **dict.fromkeys((0xC2, 0xC4, 0xD2, 0xD4), "Radeon 8050S"),
        0xD5: "Radeon 8040S",
    },
}
_FAMILIES = {0x1586: "Radeon 8060S family"}
_STARRED = re.compile(r"^\w+:\s*(\d{1,6})Mhz\s*\*", re.IGNORECASE | re.MULTILINE)


def read(host: Host) -> tuple[Gpu, ...]:
    """Every AMD card that answers, by card number; a field whose file does not is None.

    A discrete card that sleeps is not woken: only its memory is read. Blocking, some fifteen small reads a
    card. Raises Unavailable: ABSENT without a card, DENIED when all of them refuse, else FAILED.

    ``hwmon`` power is taken as it is, though kernels before 7.2 write its fraction ten times too small
    on Strix Halo (at most 0.9 W low): one value alone does not tell which kernel wrote it. It matters
    only where ``gpu_metrics``, which has no such flaw, is missing.
    """
    gpus, silent = [], []
    for card in host.glob(host.sysfs / "class/drm", "card[0-9]*"):
        if not card.name[4:].isdecimal():  # a connector, as card1-HDMI-A-1
            continue
        identity = _Folder(host, card / "device")
        if identity.text("vendor") != _AMD:
            if identity.denied:
                silent.append(identity)
            continue
        event = dict(line.partition("=")[::2] for line in (identity.text("uevent") or "").splitlines())
        if event.get("DRIVER", "amdgpu") != "amdgpu":
            continue
        readings = _Folder(host, card / "device")
        values = _measure(readings, asleep=identity.text("power/runtime_status") == "suspended")
        if readings.answered:
            slot = clean(event.get("PCI_SLOT_NAME", ""), 40) or card.name
            gpus.append(Gpu(id=slot, source="sysfs", name=_name(identity), **values))
        else:
            silent.append(readings)
    if gpus:
        return tuple(gpus)
    raise _why_none(silent)


class _Folder:
    """Files of one directory: a value, or None and a note of what the kernel said."""

    def __init__(self, host: Host, path: Path) -> None:
        self.host = host
        self.path = path
        self.answered = False
        self.errors: list[OSError] = []

    @property
    def denied(self) -> bool:
        return any(isinstance(error, PermissionError) for error in self.errors)

    def raw(self, name: str) -> bytes | None:
        try:
            value = self.host.read(self.path / name)
        except OSError as error:
            self.errors.append(error)
            return None
        self.answered = True
        return value

    def text(self, name: str) -> str | None:
        value = self.raw(name)
        return None if value is None else value.decode("utf-8", "replace").strip()

    def number(self, name: str, unit: Unit) -> float | None:
        return unit.of(_int(self.text(name), 10))


def _int(text: str | None, base: int) -> int | None:
    try:
        return int(text, base) if text is not None else None
    except ValueError:
        return None


def _measure(device: _Folder, asleep: bool) -> dict[str, Any]:
    values: dict[str, Any] = {field: device.number(name, _BYTES) for field, name in MEMORY.items()}
    if asleep:
        return values
    table = device.raw("gpu_metrics")
    if table is not None:
        with suppress(Unavailable):  # another layout: the files below say most of it
            values |= shared_with_gpu(decode(table))
    busy = device.number("gpu_busy_percent", PERCENT)
    if busy is not None:
        values["busy_percent"] = busy
    values["performance_level"] = clean(device.text("power_dpm_force_performance_level") or "", 40) or None
    missing = [field for field in FALLBACKS if values.get(field) is None]
    if missing:
        sensors = _sensors(device)
        values |= {field: _fallback(device, sensors, *FALLBACKS[field]) for field in missing}
    return values


def _fallback(
    device: _Folder,
    sensors: Callable[[str, Unit], float | None],
    files: tuple[str, ...],
    unit: Unit,
    table: str,
) -> float | None:
    for name in files:
        value = sensors(name, unit)
        if value is not None:
            return value
    return _starred(device, table) if table else None


def _starred(device: _Folder, table: str) -> float | None:
    """Hz of the row marked as current. A row without the mark may be a placeholder, never a measurement."""
    found = _STARRED.search(device.text(table) or "")
    return MEGAHERTZ.of(int(found[1])) if found else None


def _sensors(device: _Folder) -> Callable[[str, Unit], float | None]:
    """A reader of the card's own hwmon directory, whose number changes from boot to boot."""
    for path in device.host.glob(device.path / "hwmon", "hwmon[0-9]*"):
        here = f"hwmon/{path.name}"
        if device.text(f"{here}/name") == "amdgpu":
            return lambda name, unit: device.number(f"{here}/{name}", unit)
    return lambda name, unit: None


def _name(identity: _Folder) -> str | None:
    device = _int(identity.text("device"), 16)
    if device is None:
        return None
    revision = _int(identity.text("revision"), 16)
    known = _NAMES.get(device, {}).get(-1 if revision is None else revision)
    return known or _FAMILIES.get(device) or f"AMD GPU 0x{device & 0xFFFF:04X}"


def _why_none(silent: Sequence[_Folder]) -> Unavailable:
    if not silent:
        return Unavailable(
            SourceState.ABSENT,
            "no AMD GPU with the amdgpu driver under /sys/class/drm",
            "look for the driver with `lspci -k -d 1002:`; in a container, mount /sys",
        )
    where = clean(str(silent[0].path), 200)
    if any(folder.denied for folder in silent):
        return Unavailable(
            SourceState.DENIED,
            f"the kernel refuses every read in {where}",
            "it does so while the GPU resets or sleeps; if it lasts, see `dmesg` and who may read there",
        )
    said = next((e.strerror for folder in silent for e in reversed(folder.errors) if e.strerror), "no answer")
    return Unavailable(
        SourceState.FAILED, f"no file in {where} gives a value: {said}", "look for amdgpu in `dmesg`"
    )
