"""AMD GPUs through the ``amdsmi`` package, kept in a child process.

Importing it prints to stdout, fails with a KeyError where ROCm's library is missing, and its calls may
hang with the driver: none of that may reach the dashboard. ``python -m`` this module is the child.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from typing import Any, TextIO

import msgspec

from halotui.collectors.gpu_metrics import MEGAHERTZ, PERCENT, Unit
from halotui.hosts import Host
from halotui.model import Gpu, SourceState, Unavailable
from halotui.safe import clean

# -P: whatever lies in the current directory is not amdsmi.
ARGV = (sys.executable, "-P", "-m", "halotui.collectors.amdsmi")
INTERVAL_SECONDS = 1.0
PAUSE = 0.02  # seconds after a line

_CELSIUS = Unit(float, 1, 200)
_WATT = Unit(float, 1, 1000)
_SHARE = Unit(float, 0, 1000)
_BYTES = Unit(int, 0, 2**63 - 1)
_UNSET = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)

_Call = Callable[[Any, Any], Any]  # the module, a processor handle


def _memory(what: str, pool: str) -> _Call:
    return lambda smi, gpu: getattr(smi, f"amdsmi_get_gpu_memory_{what}")(
        gpu, getattr(smi.AmdSmiMemoryType, pool)
    )


def _clock(domain: str) -> _Call:
    return lambda smi, gpu: smi.amdsmi_get_clock_info(gpu, getattr(smi.AmdSmiClkType, domain))["clk"]


def _edge(smi: Any, gpu: Any) -> Any:
    return smi.amdsmi_get_temp_metric(
        gpu, smi.AmdSmiTemperatureType.EDGE, smi.AmdSmiTemperatureMetric.CURRENT
    )


def _socket_power(smi: Any, gpu: Any) -> Any:
    """Which of the three keys is filled depends on the GPU and the release."""
    info = smi.amdsmi_get_power_info(gpu)
    known = (info.get(key) for key in ("socket_power", "current_socket_power", "average_socket_power"))
    return next((value for value in known if isinstance(value, int) and value not in _UNSET), None)


# Gpu field, unit of what amdsmi returns (None: text), the call. A call that raises leaves its field out.
_QUANTITIES: tuple[tuple[str, Unit | None, _Call], ...] = (
    ("id", None, lambda smi, gpu: smi.amdsmi_get_gpu_device_bdf(gpu)),
    ("name", None, lambda smi, gpu: smi.amdsmi_get_gpu_asic_info(gpu)["market_name"]),
    ("gtt_used_bytes", _BYTES, _memory("usage", "GTT")),
    ("gtt_total_bytes", _BYTES, _memory("total", "GTT")),
    ("vram_used_bytes", _BYTES, _memory("usage", "VRAM")),
    ("vram_total_bytes", _BYTES, _memory("total", "VRAM")),
    ("busy_percent", PERCENT, lambda smi, gpu: smi.amdsmi_get_gpu_activity(gpu)["gfx_activity"]),
    ("sclk_hertz", MEGAHERTZ, _clock("GFX")),
    ("mclk_hertz", MEGAHERTZ, _clock("MEM")),
    ("fclk_hertz", MEGAHERTZ, _clock("DF")),
    ("socket_power_watts", _WATT, _socket_power),
    ("temperature_celsius", _CELSIUS, _edge),
    ("performance_level", None, lambda smi, gpu: smi.amdsmi_get_gpu_perf_level(gpu)),
)
# Gpu field: keys of an APU's gpu_metrics as releases from 2026 on hand it through, the first that has a value
# wins; and between which values it is a measurement. W and °C may have a fraction.
_TABLE: dict[str, tuple[tuple[str, ...], Unit]] = {
    "soc_temperature_celsius": (("temperature_soc",), _CELSIUS),
    "gfx_power_watts": (("average_gfx_power",), _SHARE),
    "cpu_power_watts": (("average_all_core_power", "average_cpu_power"), _SHARE._replace(least=0.001)),
    "npu_power_watts": (("average_ipu_power",), _SHARE),
    "sclk_limit_hertz": (("current_gfx_maxfreq",), MEGAHERTZ),
    "cpu_hertz": (("current_coreclk",), MEGAHERTZ),
    "cpu_limit_hertz": (("current_core_maxfreq",), MEGAHERTZ),
    "npu_hertz": (("average_ipuclk_frequency",), MEGAHERTZ),
}
NOT_FAR = "amdsmi is a library: it speaks of the box that we run on alone"
_LEVEL = "AMDSMI_DEV_PERF_LEVEL_"  # before AUTO, HIGH ...; the kernel says auto, high


def parse(line: bytes) -> tuple[Gpu, ...]:
    """The readings in one line of the child: ``{"gpus": [{field: raw value in amdsmi's unit}]}``.

    Raises Unavailable as the child said, ``{"error", "state", "hint"}``, or FAILED for anything else.
    """
    try:
        said = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        said = None
    found = said if isinstance(said, dict) else {}
    if isinstance(error := found.get("error"), str):
        state = SourceState.ABSENT if found.get("state") == "absent" else SourceState.FAILED
        hint = found.get("hint")
        raise Unavailable(state, clean(error, 200), clean(hint, 200) if isinstance(hint, str) else "")
    if not isinstance(gpus := found.get("gpus"), list):
        raise Unavailable(SourceState.FAILED, "the amdsmi child wrote something else than a reading")
    return tuple(_gpu(raw, index) for index, raw in enumerate(gpus) if isinstance(raw, dict))


async def stream(host: Host) -> AsyncGenerator[tuple[Gpu, ...], None]:
    """A reading a second from the child, which is ended with the iteration.

    Raises Unavailable: ABSENT without the package or ROCm's library, FAILED when it breaks or ends.
    """
    if not host.here:
        raise Unavailable(SourceState.ABSENT, NOT_FAR, "the sysfs source needs nothing: --gpu-source sysfs")
    try:
        async with aclosing(host.stream(ARGV)) as lines:
            async for line in lines:
                yield parse(line)
                await asyncio.sleep(PAUSE)  # a flood waits in its pipe
    except OSError as error:
        reason = f"the amdsmi child does not start: {error.strerror or 'no reason given'}"
        raise Unavailable(SourceState.FAILED, reason) from error
    raise Unavailable(SourceState.FAILED, "the amdsmi child ended", f"run it by hand: {' '.join(ARGV)}")


def _gpu(raw: dict[str, Any], index: int) -> Gpu:
    values: dict[str, Any] = {}
    for field, unit, _ in _QUANTITIES:
        value = raw.get(field)
        if unit is not None:
            values[field] = None if value in _UNSET else unit.of(value)
        elif isinstance(value, str) and value != "N/A":
            values[field] = clean(value, 80) or None
    for field, (_, unit) in _TABLE.items():
        values[field] = _within(raw.get(field), unit)
    if raw.get("integrated") is True:
        values["integrated"] = True
    values["id"] = values.get("id") or f"gpu{index}"
    if level := values.get("performance_level"):
        values["performance_level"] = level.removeprefix(_LEVEL).lower()
    return Gpu(source="amdsmi", throttle_known=False, **values)


def _within(value: object, unit: Unit) -> float | None:
    if isinstance(value, float):
        return value if unit.convert is float and unit.least <= value <= unit.most else None
    return unit.of(value)


def _ask(smi: Any, gpus: Iterable[Any]) -> dict[str, Any]:
    asked = []
    for gpu in gpus:
        raw = {}
        for field, _, call in _QUANTITIES:
            with suppress(Exception):  # not supported here, or a call that this release lacks
                raw[field] = call(smi, gpu)
        with suppress(Exception):
            raw |= _of_table(smi.amdsmi_get_gpu_metrics_info(gpu))
        asked.append(raw)
    return {"gpus": asked}


def _of_table(table: dict[str, Any]) -> dict[str, Any]:
    """``is_apu`` is False as well where the table could not be read: only True tells anything."""
    raw: dict[str, Any] = {"integrated": True} if table.get("is_apu") is True else {}
    for field, (keys, _) in _TABLE.items():
        found = (table.get(f"apu_metrics.{key}") for key in keys)
        value = next((value for value in found if value not in (None, "N/A")), None)
        if isinstance(value, (list, tuple)):
            value = max((one for one in value if isinstance(one, int) and one not in _UNSET), default=None)
        raw[field] = value
    return raw


def _complaint(error: Exception, doing: str) -> dict[str, str]:
    if isinstance(error, ModuleNotFoundError) and error.name == "amdsmi":
        hint = "the sysfs source needs nothing; for this one: pip install 'halotui[amdsmi]' and ROCm"
        return {"error": "the Python package amdsmi is not installed", "state": "absent", "hint": hint}
    told = f"{doing} amdsmi failed: {type(error).__name__}: {error}"
    if doing == "importing":
        hint = "it needs ROCm's libamd_smi.so of the same version; set ROCM_PATH if it is not in /opt/rocm"
        return {"error": told, "state": "absent", "hint": hint}
    return {"error": told, "state": "failed", "hint": "is the amdgpu driver loaded?"}


def main() -> int:
    """One JSON line a second on stdout until the reader goes away, or one that says why not."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the library prints, from Python and from C
    doing = "importing"
    with suppress(BrokenPipeError):
        try:
            smi = importlib.import_module("amdsmi")
            doing = "starting"
            smi.amdsmi_init()
            doing = "asking"
            while True:
                _say(out, _ask(smi, smi.amdsmi_get_processor_handles()))
                time.sleep(INTERVAL_SECONDS)
        except BrokenPipeError:
            raise
        except Exception as error:
            _say(out, _complaint(error, doing))
            return 1
    return 0


def _say(out: TextIO, words: dict[str, Any]) -> None:
    out.write(json.dumps(words, default=str) + "\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
