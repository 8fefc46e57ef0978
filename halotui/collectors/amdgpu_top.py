"""AMD GPUs through a running ``amdgpu_top``, for where sysfs is out of reach. One JSON object a line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from halotui.collectors.gpu_metrics import (
    APU_REVISIONS,
    MEGAHERTZ,
    PERCENT,
    Unit,
    normalise,
    shared_with_gpu,
)
from halotui.hosts import Host
from halotui.model import Gpu, SourceState, Unavailable
from halotui.safe import clean

# Without --no-pc it polls GPU registers, which keeps an idle GPU awake.
ARGV = ("amdgpu_top", "-J", "--no-pc", "-s", "1000")
PAUSE = 0.02  # seconds after a line: it writes one a second

_CELSIUS = Unit(float, 1, 200)
_MEBIBYTE = Unit(lambda raw: raw << 20, 0, 2**43 - 1)
_WATT = Unit(float, 1, 1000)

# Gpu field, where it stands, unit. The first that has a value wins; gpu_metrics wins over all but the
# activity. "Average Power" is the whole package on an APU, and whole watts.
_ROWS = (
    ("gtt_used_bytes", ("VRAM", "Total GTT Usage"), _MEBIBYTE),
    ("gtt_total_bytes", ("VRAM", "Total GTT"), _MEBIBYTE),
    ("vram_used_bytes", ("VRAM", "Total VRAM Usage"), _MEBIBYTE),
    ("vram_total_bytes", ("VRAM", "Total VRAM"), _MEBIBYTE),
    ("busy_percent", ("gpu_activity", "GFX"), PERCENT),
    ("media_busy_percent", ("gpu_activity", "MediaEngine"), PERCENT),
    ("sclk_hertz", ("Sensors", "GFX_SCLK"), MEGAHERTZ),
    ("mclk_hertz", ("Sensors", "GFX_MCLK"), MEGAHERTZ),
    ("fclk_hertz", ("Sensors", "FCLK"), MEGAHERTZ),
    ("socket_power_watts", ("Sensors", "Average Power"), _WATT),
    ("socket_power_watts", ("Sensors", "Input Power"), _WATT),
    ("temperature_celsius", ("Sensors", "Edge Temperature"), _CELSIUS),
)
_ACTIVITY = ("busy_percent", "media_busy_percent")
# npu_metrics, of amdxdna, by the names that gpu_metrics v3.0 has for the same
_NPU = {
    "average_ipu_activity": "npu_busy",
    "average_ipu_power": "npu_power",
    "average_ipuclk_frequency": "npuclk_freq",
}


def parse(line: bytes) -> tuple[Gpu, ...]:
    """The devices of one line of ``amdgpu_top -J``, integrated ones first; of a sleeper its name alone.
    Memory is to the MiB.

    Raises Unavailable(FAILED) when the line is not such an object.
    """
    try:
        found = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        raise Unavailable(SourceState.FAILED, "amdgpu_top wrote a line that is not JSON") from None
    devices, suspended = _at(found, "devices"), _at(found, "suspended_devices")
    if not isinstance(devices, list):
        raise Unavailable(SourceState.FAILED, "amdgpu_top wrote JSON without a list of devices")
    awake = (_gpu(device, index) for index, device in enumerate(devices) if isinstance(device, dict))
    asleep = (_sleeper(device) for device in (suspended if isinstance(suspended, list) else ()))
    gpus = (*awake, *(gpu for gpu in asleep if gpu is not None))
    return tuple(sorted(gpus, key=lambda gpu: gpu.integrated is not True))


async def stream(host: Host) -> AsyncGenerator[tuple[Gpu, ...], None]:
    """A reading a second while ``amdgpu_top`` runs on ``host``; it is ended with the iteration.

    Lines that are no readings are skipped. Raises Unavailable: ABSENT when it is not installed, DENIED
    when we may not run it, FAILED when it ends.
    """
    last = "it wrote no reading"
    try:
        async with aclosing(host.stream(ARGV)) as lines:
            async for line in lines:
                try:
                    gpus = parse(line)
                except Unavailable as why:
                    last = why.reason
                else:
                    yield gpus
                await asyncio.sleep(PAUSE)  # a flood waits in its pipe
    except OSError as error:
        raise _not_started(error) from error
    raise Unavailable(
        SourceState.FAILED,
        f"amdgpu_top ended; {last}",
        f"run it by hand to see why: {' '.join(ARGV)}; it needs read access to /dev/dri/renderD*",
    )


def _not_started(error: OSError) -> Unavailable:
    if isinstance(error, FileNotFoundError):
        hint = "install it from your distribution or github.com/Umio-Yasuno/amdgpu_top"
        return Unavailable(SourceState.ABSENT, "amdgpu_top is not installed", hint)
    state = SourceState.DENIED if isinstance(error, PermissionError) else SourceState.FAILED
    return Unavailable(state, f"amdgpu_top does not start: {error.strerror or 'no reason given'}")


def _at(node: object, *keys: str) -> Any:
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _gpu(device: dict[str, Any], index: int) -> Gpu:
    values: dict[str, Any] = {}
    for field, path, unit in _ROWS:
        if values.get(field) is None:
            values[field] = unit.of(_at(device, *path, "value"))
    interpreted = {field: values[field] for field in _ACTIVITY if values[field] is not None}
    values |= _metrics(device) | interpreted
    name = _text(_at(device, "Info", "DeviceName")) or _text(_at(device, "Info", "ASIC Name"))
    slot = _text(_at(device, "Info", "PCI")) or _text(_at(device, "Info", "DevicePath", "pci"))
    kind = _at(device, "Info", "GPU Type")
    return Gpu(
        id=slot or f"gpu{index}",
        source="amdgpu_top",
        name=name,
        integrated=kind == "APU" if isinstance(kind, str) else None,
        throttle_known=False,  # the counters of gpu_metrics are not in its JSON
        **values,
    )


def _sleeper(device: object) -> Gpu | None:
    slot = _text(_at(device, "pci"))
    name = _text(_at(device, "DeviceName"))
    return Gpu(id=slot, source="amdgpu_top", name=name, asleep=True) if slot else None


def _metrics(device: dict[str, Any]) -> dict[str, Any]:
    """Of an APU: the table of a discrete GPU has other units."""
    raw = _at(device, "gpu_metrics")
    major = _at(raw, "header", "format_revision")
    values = shared_with_gpu(normalise(major, 0, raw)) if major in APU_REVISIONS else {}
    npu = {name: _plain(_at(device, "npu_metrics", key)) for name, key in _NPU.items()}
    return shared_with_gpu(normalise(3, 0, npu)) | values


def _plain(value: object) -> object:
    """Without the unit that numbers are wrapped in."""
    return value.get("value") if isinstance(value, dict) else value


def _text(value: object) -> str | None:
    return clean(value, 80) or None if isinstance(value, str) else None
