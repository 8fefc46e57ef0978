"""AMD GPUs through ``/sys/class/drm/card*/device``: no root, no group, no library.

Stateless: ``cards`` looks which there are and what stays as it is, ``readings`` reads what moves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from msgspec import Struct

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

__all__ = ["FALLBACKS", "MEMORY", "Card", "Reading", "cards", "read", "readings"]

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
_POOLS = tuple((field, name) for field, name in MEMORY.items() if "used" in field)
_SIZES = tuple((field, name) for field, name in MEMORY.items() if "total" in field)  # those of the boot
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
_STATUS = "power/runtime_status"
_ASLEEP = ("suspended", "suspending")
_STARRED = re.compile(r"^\w+:\s*(\d{1,6})Mhz\s*\*", re.IGNORECASE | re.MULTILINE)
_ROW = re.compile(r"^\w+:\s*(\d{1,6})Mhz", re.IGNORECASE | re.MULTILINE)
_OF_A_CARD = ("vendor", "uevent", "device", "revision", *(name for _, name in _SIZES))  # they wake nothing
_IN_RESET = "it does so while the GPU resets or sleeps; if it lasts, see `dmesg` and who may read there"


class Card(Struct, frozen=True, kw_only=True):
    """What stays as it is while a card stays in its slot, and what its owner sets."""

    id: str  # its PCI slot
    place: str  # its directory as people know it: /sys/class/drm/card1/device
    path: str  # the same below its slot: whatever card gets that number next, this is not it
    sensors: str | None  # hwmon/hwmon6, its own, below that: the number changes from boot to boot
    name: str | None
    integrated: bool | None
    never_sleeps: bool  # an APU, while we run on it
    known: dict[str, Any]  # of Gpu
    told: dict[str, str]  # which file told it


def read(host: Host) -> tuple[Gpu, ...]:
    """``readings`` without what stands beside the numbers."""
    return tuple(reading.gpu for reading in readings(host))


def cards(host: Host) -> tuple[Card, ...]:
    """Integrated ones first, then by card number. Raises Unavailable(ABSENT) when there is none, and DENIED
    when we may not see whose they are."""
    device = f"{host.sysfs}/class/drm/card[0-9]*/device"
    host.expect(*(f"{device}/{name}" for name in _OF_A_CARD), f"{device}/hwmon/hwmon*/name")
    found: list[Card] = []
    silent: list[Folder] = []
    strangers: list[Folder] = []
    numbers = {
        int(path.name[4:]): f"{path}/device"
        for path in host.glob(host.sysfs / "class/drm", "card[0-9]*")
        if path.name[4:].isdecimal()  # else a connector, as card1-HDMI-A-1
    }
    for number, place in sorted(numbers.items()):
        files = Folder(host, place)
        if files.text("vendor") != gpu_identity.AMD:
            (silent if files.denied else strangers).append(files)
            continue
        event = dict(line.partition("=")[::2] for line in (files.text("uevent") or "").splitlines())
        if event.get("DRIVER", "amdgpu") != "amdgpu":
            strangers.append(files)
            continue
        found.append(_card(files, clean(event.get("PCI_SLOT_NAME", ""), 40) or f"card{number}"))
    if not found:
        raise _why_none([(folder.path, folder) for folder in silent], strangers)
    return tuple(sorted(found, key=lambda card: card.integrated is not True))


def readings(host: Host, known: Sequence[Card] | None = None) -> tuple[Reading, ...]:
    """Every card that answers, of those ``known``, or of all there are. What a file does not tell is None.

    A discrete card that sleeps is not woken: only its memory is read. Blocking, some five small reads a
    card. Raises Unavailable: ABSENT without a card, DENIED when all of them refuse, else FAILED.

    ``hwmon`` power is taken as it is, though many kernels write its fraction ten times too small on Strix
    Halo (at most 0.9 W low): one value alone does not tell, so ``hwmon_microwatts`` is handed on.
    """
    looks = [_Look(host, card) for card in (cards(host) if known is None else known)]
    found = tuple(look.reading() for look in looks if look.files.answered)
    if not found:
        raise _why_none([(look.card.place, look.files) for look in looks], ())
    return found


def _card(files: Folder, slot: str) -> Card:
    asleep = files.text(_STATUS) in _ASLEEP
    device, stepping = (integer(files.text(name), 16) for name in ("device", "revision"))
    sensors = _sensors(files)
    integrated = gpu_identity.integrated(device)
    if integrated is None and not asleep:
        version = revision(files.raw("gpu_metrics") or b"")
        integrated = gpu_identity.integrated(device, version[0] if version else None)
    never_sleeps = integrated is True and not asleep  # a guess is not enough
    if integrated is None:
        integrated = gpu_identity.integrated_by_sensors(files, sensors)
    values: list[tuple[str, float | str | None, str]] = [
        (field, _BYTES.of(files.number(name)), name) for field, name in _SIZES
    ]
    if not asleep:  # else to ask would wake it
        files.host.expect(f"{files.path}/{_LEVEL}", f"{files.path}/pp_dpm_sclk")
        values.append(("performance_level", clean(files.text(_LEVEL) or "", 40) or None, _LEVEL))
        values.append(("sclk_top_hertz", _top(files.text("pp_dpm_sclk")), "pp_dpm_sclk"))
    return Card(
        id=slot,
        place=files.path,
        path=_in_its_slot(files),
        sensors=sensors.path.removeprefix(f"{files.path}/") if sensors is not None else None,
        name=gpu_identity.name(device, stepping),
        integrated=integrated,
        never_sleeps=never_sleeps,
        known={field: value for field, value, _ in values if value is not None},
        told={field: name for field, value, name in values if value is not None},
    )


def _in_its_slot(files: Folder) -> str:
    """The same directory by a path without links."""
    if files.host.here:
        return os.path.realpath(files.path)
    path = os.path.dirname(files.path)  # noqa: PTH120 - text
    for link in (path, "device"):  # class/drm/card1 is one, and its device another
        path = os.path.join(path, link)  # noqa: PTH118
        with suppress(OSError):
            path = os.path.normpath(os.path.join(os.path.dirname(path), files.host.readlink(path)))  # noqa: PTH118, PTH120
    return path


def _sensors(card: Folder) -> Folder | None:
    for path in card.host.glob(Path(card.path) / "hwmon", "hwmon[0-9]*"):
        folder = Folder(card.host, str(path))
        if folder.text("name") == "amdgpu":
            return folder
    return None


class _Look:
    """At one card: what its files told, and which of them told what."""

    def __init__(self, host: Host, card: Card) -> None:
        self.card = card
        self.files = Folder(host, card.path)
        self._values = dict(card.known)
        self._told = dict(card.told)
        self._version: tuple[int, int] | None = None
        self._trouble: Unavailable | None = None
        self._limiters: dict[str, int] = {}
        self._microwatts: int | None = None
        # Before all else: what is asked beside its memory would wake it. That it sleeps is no answer yet, so
        # it is not asked through ``files``.
        self._asleep = not card.never_sleeps and Folder(host, card.path).text(_STATUS) in _ASLEEP
        for field, name in _POOLS:
            self._take(field, _BYTES.of(self.files.number(name)), name)
        if not self._asleep:
            self._measure()

    def reading(self) -> Reading:
        unknown = self._asleep or (self._trouble and self._trouble.state is not SourceState.NO_DATA)
        return Reading(
            gpu=Gpu(
                id=self.card.id,
                source="sysfs",
                provenance=_once(tuple(self._told.items())),
                name=self.card.name,
                integrated=self.card.integrated,
                asleep=self._asleep,
                throttle_known=None if unknown else bool(self._limiters),
                **self._values,
            ),
            limiters=self._limiters,
            table=f"v{self._version[0]}.{self._version[1]}" if self._version else "",
            table_trouble=self._trouble,
            hwmon_microwatts=self._microwatts,
            refusals=len(self.files.errors),
        )

    def _take(self, field: str, value: float | None, teller: str) -> None:
        if value is not None:
            self._values[field] = value
            self._told[field] = teller

    def _measure(self) -> None:
        self._read_table()
        self._take("busy_percent", PERCENT.of(self.files.number("gpu_busy_percent")), "gpu_busy_percent")
        if "media_busy_percent" not in self._values:
            self._take("media_busy_percent", PERCENT.of(self.files.number(_MEDIA)), _MEDIA)
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
            metrics = decode(table, f"{self.card.place}/gpu_metrics")
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
        for name in names if self.card.sensors is not None else ():
            raw = self.files.number(f"{self.card.sensors}/{name}")
            value = unit.of(raw)
            if value is not None:
                self._take(field, value, f"hwmon {name}")
                if unit is _MICROWATT:
                    self._microwatts = raw
                return
        if levels:
            self._take(field, _starred(self.files.text(levels)), levels)


@lru_cache(maxsize=64)
def _once(told: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The same dict for the same words, frame after frame: nobody changes it."""
    return dict(told)


def _top(rows: str | None) -> float | None:
    """Hz of the last row: on an APU they are lowest, current, highest; else the levels, upwards."""
    levels = _ROW.findall(rows or "")
    return MEGAHERTZ.of(int(levels[-1])) if len(levels) > 1 else None


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


def _why_none(silent: Sequence[tuple[str, Folder]], strangers: Sequence[Folder]) -> Unavailable:
    if not silent:
        others = gpu_identity.strangers(strangers)
        return Unavailable(
            SourceState.ABSENT,
            "no AMD GPU with the amdgpu driver under /sys/class/drm"
            + (f"; there is: {others}" if others else ""),
            "system memory and llama-server are shown all the same. An AMD GPU's driver: "
            "`lspci -k -d 1002:`; in a container, mount /sys",
        )
    where = clean(silent[0][0], 200)
    errors = [error for _, files in silent for error in reversed(files.errors)]
    if any(isinstance(error, PermissionError) for error in errors):
        return Unavailable(SourceState.DENIED, f"the kernel refuses every read in {where}", _IN_RESET)
    said = next((error.strerror for error in errors if error.strerror), "no answer")
    return Unavailable(
        SourceState.FAILED, f"no file in {where} gives a value: {said}", "look for amdgpu in `dmesg`"
    )
