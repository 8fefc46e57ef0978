"""AMD GPUs through ``/sys/class/drm/card*/device``: no root, no group, no library.

Stateless: the cards are looked up at every reading, so one that comes or goes is noticed at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

from halotui.collectors import gpu_identity
from halotui.collectors.gpu_metrics import (
    MEGAHERTZ,
    PERCENT,
    Unit,
    decode,
    limiters,
    revision,
    shared_with_gpu,
)
from halotui.collectors.gpu_reading import Reading
from halotui.collectors.sysfs_folder import Folder, integer
from halotui.hosts import Host
from halotui.model import Gpu, SourceState, Unavailable
from halotui.safe import clean

__all__ = ["FALLBACKS", "MEMORY", "Reading", "read", "readings"]

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
_LEVEL = "power_dpm_force_performance_level"
_MEDIA = "vcn_busy_percent"
_ASLEEP = ("suspended", "suspending")
_STARRED = re.compile(r"^\w+:\s*(\d{1,6})Mhz\s*\*", re.IGNORECASE | re.MULTILINE)
_ROW = re.compile(r"^\w+:\s*(\d{1,6})Mhz", re.IGNORECASE | re.MULTILINE)
_IN_RESET = "it does so while the GPU resets or sleeps; if it lasts, see `dmesg` and who may read there"


def read(host: Host) -> tuple[Gpu, ...]:
    """``readings`` without what stands beside the numbers."""
    return tuple(reading.gpu for reading in readings(host))


def readings(host: Host) -> tuple[Reading, ...]:
    """Every AMD card that answers: integrated ones first, then by card number. What a file does not tell is
    None.

    A discrete card that sleeps is not woken: only its memory is read. Blocking, some fifteen small reads a
    card. Raises Unavailable: ABSENT without a card, DENIED when all of them refuse, else FAILED.

    ``hwmon`` power is taken as it is, though many kernels write its fraction ten times too small on Strix
    Halo (at most 0.9 W low): one value alone does not tell, so ``hwmon_microwatts`` is handed on.
    """
    found: list[Reading] = []
    silent: list[Folder] = []
    strangers: list[Folder] = []
    cards = {
        int(path.name[4:]): path / "device"
        for path in host.glob(host.sysfs / "class/drm", "card[0-9]*")
        if path.name[4:].isdecimal()  # else a connector, as card1-HDMI-A-1
    }
    for number, path in sorted(cards.items()):
        identity = Folder(host, path)
        if identity.text("vendor") != gpu_identity.AMD:
            (silent if identity.denied else strangers).append(identity)
            continue
        event = dict(line.partition("=")[::2] for line in (identity.text("uevent") or "").splitlines())
        if event.get("DRIVER", "amdgpu") != "amdgpu":
            strangers.append(identity)
            continue
        card = _Card(host, identity)
        if card.answered:
            found.append(card.reading(clean(event.get("PCI_SLOT_NAME", ""), 40) or f"card{number}"))
        else:
            silent.append(card.files)
    if not found:
        raise _why_none(silent, strangers)
    return tuple(sorted(found, key=lambda reading: reading.gpu.integrated is not True))


class _Card:
    """One card, read: what its files told, and which of them told what."""

    def __init__(self, host: Host, identity: Folder) -> None:
        self.files = Folder(host, identity.path)
        self._identity = identity
        self._values: dict[str, Any] = {}
        self._told: dict[str, str] = {}
        self._version: tuple[int, int] | None = None
        self._trouble: Unavailable | None = None
        self._limiters: dict[str, int] = {}
        self._microwatts: int | None = None
        self._asleep = identity.text("power/runtime_status") in _ASLEEP
        for field, name in MEMORY.items():
            self._take(field, _BYTES.of(self.files.number(name)), name)
        if not self._asleep:
            self._measure()

    @property
    def answered(self) -> bool:
        return self.files.answered or bool(self._told)

    def reading(self, slot: str) -> Reading:
        device, stepping = (integer(self._identity.text(name), 16) for name in ("device", "revision"))
        integrated = gpu_identity.integrated(device, self._version[0] if self._version else None)
        if integrated is None:
            integrated = gpu_identity.integrated_by_sensors(self.files, self._sensors)
        unknown = self._asleep or (self._trouble and self._trouble.state is not SourceState.NO_DATA)
        return Reading(
            gpu=Gpu(
                id=slot,
                source="sysfs",
                provenance=_once(tuple(self._told.items())),
                name=gpu_identity.name(device, stepping),
                integrated=integrated,
                asleep=self._asleep,
                throttle_known=None if unknown else bool(self._limiters),
                **self._values,
            ),
            limiters=self._limiters,
            table=f"v{self._version[0]}.{self._version[1]}" if self._version else "",
            table_trouble=self._trouble,
            hwmon_microwatts=self._microwatts,
        )

    def _take(self, field: str, value: float | str | None, teller: str) -> None:
        if value is not None:
            self._values[field] = value
            self._told[field] = teller

    def _measure(self) -> None:
        self._read_table()
        self._take("busy_percent", PERCENT.of(self.files.number("gpu_busy_percent")), "gpu_busy_percent")
        if "media_busy_percent" not in self._values:
            self._take("media_busy_percent", PERCENT.of(self.files.number(_MEDIA)), _MEDIA)
        self._take("performance_level", clean(self.files.text(_LEVEL) or "", 40) or None, _LEVEL)
        rows = _ROW.findall(self.files.text("pp_dpm_sclk") or "")
        if len(rows) > 1:  # on an APU lowest, current, highest; else the levels, upwards
            self._take("sclk_top_hertz", MEGAHERTZ.of(int(rows[-1])), "pp_dpm_sclk")
        for field, (names, unit, levels) in FALLBACKS.items():
            if field not in self._values:
                self._fall_back(field, names, unit, levels)

    def _read_table(self) -> None:
        table = self.files.raw("gpu_metrics")
        if table is None:
            self._trouble = _refused(self.files.errors[-1])
            return
        self._version = revision(table)
        try:
            metrics = decode(table, f"{self.files.path}/gpu_metrics")
        except Unavailable as trouble:  # the other files say most of it
            self._trouble = trouble
            return
        shared = shared_with_gpu(metrics)
        self._values |= shared
        self._told |= dict.fromkeys(
            shared, f"gpu_metrics v{metrics.format_revision}.{metrics.content_revision}"
        )
        self._limiters = limiters(metrics)

    def _fall_back(self, field: str, names: Sequence[str], unit: Unit, levels: str) -> None:
        for name in names:
            raw = self._sensors.number(name) if self._sensors is not None else None
            value = unit.of(raw)
            if value is not None:
                self._take(field, value, f"hwmon {name}")
                if unit is _MICROWATT:
                    self._microwatts = raw
                return
        if levels:
            self._take(field, _starred(self.files.text(levels)), levels)

    @cached_property
    def _sensors(self) -> Folder | None:
        """The card's own hwmon directory, whose number changes from boot to boot."""
        for path in self.files.host.glob(self.files.path / "hwmon", "hwmon[0-9]*"):
            folder = Folder(self.files.host, path)
            if folder.text("name") == "amdgpu":
                return folder
        return None


@lru_cache(maxsize=64)
def _once(told: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The same dict for the same words, frame after frame: nobody changes it."""
    return dict(told)


def _starred(rows: str | None) -> float | None:
    """Hz of the row marked as current. A row without the mark may be a placeholder, never a measurement."""
    found = _STARRED.search(rows or "")
    return MEGAHERTZ.of(int(found[1])) if found else None


def _refused(error: OSError) -> Unavailable | None:
    """Why there is a table that cannot be read; None when there is none."""
    if isinstance(error, FileNotFoundError):
        return None
    if isinstance(error, PermissionError):
        return Unavailable(SourceState.DENIED, "the kernel refuses gpu_metrics", _IN_RESET)
    reason = f"gpu_metrics gives no value: {error.strerror or 'no answer'}"
    return Unavailable(SourceState.FAILED, reason, "look for amdgpu in `dmesg`")


def _why_none(silent: Sequence[Folder], strangers: Sequence[Folder]) -> Unavailable:
    if not silent:
        others = gpu_identity.strangers(strangers)
        return Unavailable(
            SourceState.ABSENT,
            "no AMD GPU with the amdgpu driver under /sys/class/drm"
            + (f"; there is: {others}" if others else ""),
            "system memory and llama-server are shown all the same. An AMD GPU's driver: "
            "`lspci -k -d 1002:`; in a container, mount /sys",
        )
    where = clean(str(silent[0].path), 200)
    if any(folder.denied for folder in silent):
        return Unavailable(SourceState.DENIED, f"the kernel refuses every read in {where}", _IN_RESET)
    said = next((e.strerror for folder in silent for e in reversed(folder.errors) if e.strerror), "no answer")
    return Unavailable(
        SourceState.FAILED, f"no file in {where} gives a value: {said}", "look for amdgpu in `dmesg`"
    )
