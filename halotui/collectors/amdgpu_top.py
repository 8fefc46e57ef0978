"""AMD GPUs through a running ``amdgpu_top``, for where sysfs is out of reach. One JSON object a line."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from halotui.collectors.gpu_metrics import MEGAHERTZ, PERCENT, Unit, normalise, shared_with_gpu
from halotui.hosts import Host
from halotui.model import Gpu, SourceState, Unavailable
from halotui.safe import clean

# Without --no-pc it polls GPU registers, which keeps an idle GPU awake.
ARGV = ("amdgpu_top", "-J", "--no-pc", "-s", "1000")

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
    ("sclk_hertz", ("Sensors", "GFX_SCLK"), MEGAHERTZ),
    ("mclk_hertz", ("Sensors", "GFX_MCLK"), MEGAHERTZ),
    ("fclk_hertz", ("Sensors", "FCLK"), MEGAHERTZ),
    ("socket_power_watts", ("Sensors", "Average Power"), _WATT),
    ("socket_power_watts", ("Sensors", "Input Power"), _WATT),
    ("temperature_celsius", ("Sensors", "Edge Temperature"), _CELSIUS),
)
_APU_TABLES = (2, 3)  # gpu_metrics of a discrete GPU has other units


def parse(line: bytes) -> tuple[Gpu, ...]:
    """The devices of one line of ``amdgpu_top -J``; none when all of them sleep. Memory is to the MiB.

    Raises Unavailable(FAILED) when the line is not such an object.
    """
    try:
        found = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        raise Unavailable(SourceState.FAILED, "amdgpu_top wrote a line that is not JSON") from None
    devices = _at(found, "devices")
    if not isinstance(devices, list):
        raise Unavailable(SourceState.FAILED, "amdgpu_top wrote JSON without a list of devices")
    return tuple(_gpu(device, index) for index, device in enumerate(devices) if isinstance(device, dict))


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
                    continue
                yield gpus
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
    values |= {field: value for field, value in _metrics(device).items() if field != "busy_percent"}
    name = _text(_at(device, "Info", "DeviceName")) or _text(_at(device, "Info", "ASIC Name"))
    slot = _text(_at(device, "Info", "PCI")) or _text(_at(device, "Info", "DevicePath", "pci"))
    return Gpu(id=slot or f"gpu{index}", source="amdgpu_top", name=name, **values)


def _metrics(device: dict[str, Any]) -> dict[str, Any]:
    raw = _at(device, "gpu_metrics")
    major = _at(raw, "header", "format_revision")
    return shared_with_gpu(normalise(major, 0, raw)) if major in _APU_TABLES else {}


def _text(value: object) -> str | None:
    return clean(value, 80) or None if isinstance(value, str) else None
