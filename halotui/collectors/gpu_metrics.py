"""The ``gpu_metrics`` table of an AMD APU: one small binary read that holds what a dozen files say.

Layouts follow ``kgd_pp_interface.h`` of the Linux kernel, little-endian and naturally aligned. All ones
means "not filled". Power is in mW, clocks in MHz, temperatures in 0.01 °C. Activity is 0.01 % in v2;
v3.0 hands on what the firmware gives, which is whole percent on Strix Halo.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from msgspec import Struct

from halotui.model import SourceState, Unavailable


class Unit(NamedTuple):
    """How a raw count becomes our unit, and between which raw values it is a measurement at all."""

    convert: Callable[[int], float]
    least: int
    most: int

    def of(self, raw: object) -> float | None:
        """The converted value; None for whatever is not a number, or out of range."""
        if not isinstance(raw, int) or isinstance(raw, bool) or not self.least <= raw <= self.most:
            return None
        return self.convert(raw)


# A clock or a die at 0 is a field that nobody filled, and so is a package below 1 W: some firmware of the
# v2 family writes whole watts where mW are due.
CENTICELSIUS = Unit(lambda raw: raw / 100, 1, 20_000)
PERCENT = Unit(float, 0, 100)
CENTIPERCENT = Unit(lambda raw: raw / 100, 0, 10_000)
MILLIWATT = Unit(lambda raw: raw / 1000, 0, 1_000_000)
SOCKET_MILLIWATT = MILLIWATT._replace(least=1000)
MEGAHERTZ = Unit(lambda raw: raw * 1_000_000, 1, 20_000)
COUNT = Unit(int, 0, 2**63 - 1)


class GpuMetrics(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One decoded table; named as in ``Gpu`` where the quantity is the same.

    A residency counts while its limiter is engaged, since boot and in a unit that is not documented:
    only a difference says something, and a fall means that the counter began anew.
    """

    format_revision: int
    content_revision: int
    temperature_celsius: float | None = None  # gfx
    soc_temperature_celsius: float | None = None
    skin_temperature_celsius: float | None = None
    busy_percent: float | None = None  # gfx
    media_busy_percent: float | None = None  # VCN
    ipu_busy_percent: tuple[float | None, ...] = ()  # one per NPU column
    socket_power_watts: float | None = None
    gfx_power_watts: float | None = None
    ipu_power_watts: float | None = None
    cpu_power_watts: float | None = None
    sclk_hertz: int | None = None  # averages over the firmware's filter, about 1 s
    mclk_hertz: int | None = None
    fclk_hertz: int | None = None
    sclk_limit_hertz: int | None = None
    cpu_limit_hertz: int | None = None
    throttle_prochot: int | None = None
    throttle_spl: int | None = None  # sustained power limit
    throttle_fppt: int | None = None  # fast package power tracking
    throttle_sppt: int | None = None  # slow package power tracking
    throttle_thm_core: int | None = None  # temperature: CPU, graphics, rest of the die
    throttle_thm_gfx: int | None = None
    throttle_thm_soc: int | None = None


# name:code, in the order of the C structs; a nameless code is padding.
_V2_1 = """
:4x temperature_gfx:H temperature_soc:H temperature_core:8H temperature_l3:2H
average_gfx_activity:H average_mm_activity:H system_clock_counter:Q
average_socket_power:H average_cpu_power:H average_soc_power:H average_gfx_power:H average_core_power:8H
average_gfxclk_frequency:H average_socclk_frequency:H average_uclk_frequency:H average_fclk_frequency:H
average_vclk_frequency:H average_dclk_frequency:H current_gfxclk:H current_socclk:H current_uclk:H
current_fclk:H current_vclk:H current_dclk:H current_coreclk:8H current_l3clk:2H
throttle_status:I fan_pwm:H :6x
"""
_V2_2 = _V2_1 + "indep_throttle_status:Q "
_V2_3 = _V2_2 + (
    "average_temperature_gfx:H average_temperature_soc:H "
    "average_temperature_core:8H average_temperature_l3:2H "
)
_V2_4 = _V2_3 + (
    "average_cpu_voltage:H average_soc_voltage:H average_gfx_voltage:H "
    "average_cpu_current:H average_soc_current:H average_gfx_current:H :4x"
)
_V3_0 = """
:4x temperature_gfx:H temperature_soc:H temperature_core:16H temperature_skin:H
average_gfx_activity:H average_vcn_activity:H average_ipu_activity:8H average_core_c0_activity:16H
average_dram_reads:H average_dram_writes:H average_ipu_reads:H average_ipu_writes:H :2x
system_clock_counter:Q average_socket_power:I average_ipu_power:H :2x
average_apu_power:I average_gfx_power:I average_dgpu_power:I average_all_core_power:I
average_core_power:16H average_sys_power:H stapm_power_limit:H current_stapm_power_limit:H
average_gfxclk_frequency:H average_socclk_frequency:H average_vpeclk_frequency:H average_ipuclk_frequency:H
average_fclk_frequency:H average_vclk_frequency:H average_uclk_frequency:H average_mpipu_frequency:H
current_coreclk:16H current_core_maxfreq:H current_gfx_maxfreq:H :2x
throttle_residency_prochot:I throttle_residency_spl:I throttle_residency_fppt:I throttle_residency_sppt:I
throttle_residency_thm_core:I throttle_residency_thm_gfx:I throttle_residency_thm_soc:I
time_filter_alphavalue:I :4x
"""
_LIMITERS = ("prochot", "spl", "fppt", "sppt", "thm_core", "thm_gfx", "thm_soc")

# GpuMetrics field, name in the table, unit
_COMMON = (
    ("temperature_celsius", "temperature_gfx", CENTICELSIUS),
    ("soc_temperature_celsius", "temperature_soc", CENTICELSIUS),
    ("socket_power_watts", "average_socket_power", SOCKET_MILLIWATT),
    ("gfx_power_watts", "average_gfx_power", MILLIWATT),
    ("sclk_hertz", "average_gfxclk_frequency", MEGAHERTZ),
    ("mclk_hertz", "average_uclk_frequency", MEGAHERTZ),
    ("fclk_hertz", "average_fclk_frequency", MEGAHERTZ),
)
QUANTITIES: dict[int, tuple[tuple[str, str, Unit], ...]] = {
    2: (
        *_COMMON,
        ("busy_percent", "average_gfx_activity", CENTIPERCENT),
        ("media_busy_percent", "average_mm_activity", CENTIPERCENT),
        ("cpu_power_watts", "average_cpu_power", MILLIWATT),
    ),
    3: (
        *_COMMON,
        ("skin_temperature_celsius", "temperature_skin", CENTICELSIUS),
        ("busy_percent", "average_gfx_activity", PERCENT),
        ("media_busy_percent", "average_vcn_activity", CENTIPERCENT),
        ("ipu_busy_percent", "average_ipu_activity", PERCENT),
        ("ipu_power_watts", "average_ipu_power", MILLIWATT),
        ("cpu_power_watts", "average_all_core_power", MILLIWATT),
        ("sclk_limit_hertz", "current_gfx_maxfreq", MEGAHERTZ),
        ("cpu_limit_hertz", "current_core_maxfreq", MEGAHERTZ),
        *((f"throttle_{limiter}", f"throttle_residency_{limiter}", COUNT) for limiter in _LIMITERS),
    ),
}


class Layout(NamedTuple):
    """Where the fields of one table version lie."""

    size: int  # bytes
    fields: dict[str, tuple[str, int]]  # name: struct code, offset

    def raw(self, blob: bytes, name: str) -> int | list[int | None] | None:
        code, offset = self.fields[name]
        unset = (1 << 8 * struct.calcsize("<" + code[-1])) - 1
        values = [None if v == unset else v for v in struct.unpack_from("<" + code, blob, offset)]
        return values if len(code) > 1 else values[0]


def _layout(text: str) -> Layout:
    before, fields = "<", {}
    for name, code in (token.split(":") for token in text.split()):
        if name:
            fields[name] = (code, struct.calcsize(before))
        before += code
    return Layout(struct.calcsize(before), fields)


LAYOUTS = {
    (2, 1): _layout(_V2_1),
    (2, 2): _layout(_V2_2),
    (2, 3): _layout(_V2_3),
    (2, 4): _layout(_V2_4),
    (3, 0): _layout(_V3_0),
}


def decode(blob: bytes) -> GpuMetrics:
    """The table in ``blob``, as read from ``gpu_metrics`` in one go.

    Raises Unavailable(FAILED) for any other size or revision: a discrete GPU (v1), or a kernel newer
    than this code.
    """
    if len(blob) < 4:
        raise Unavailable(SourceState.FAILED, f"gpu_metrics holds {len(blob)} bytes: too few for a header")
    size, major, minor = struct.unpack_from("<HBB", blob)
    layout = LAYOUTS.get((major, minor))
    if layout is None or not layout.size == size == len(blob):
        told = f"{len(blob)} bytes" if size == len(blob) else f"{len(blob)} bytes that claim to be {size}"
        raise Unavailable(
            SourceState.FAILED,
            f"gpu_metrics v{major}.{minor} of {told}: a layout not known here",
            "report it with a copy of the file: cat /sys/class/drm/card*/device/gpu_metrics > gm.bin",
        )
    raw = {name: layout.raw(blob, name) for _, name, _ in QUANTITIES[major]}
    return normalise(major, minor, raw)


def normalise(major: int, minor: int, raw: Mapping[str, object]) -> GpuMetrics:
    """A table given as the kernel's field names and raw counts, in our units. Revision 2 and 3 only."""
    values: dict[str, Any] = {}
    for field, name, unit in QUANTITIES.get(major, ()):
        value = raw.get(name)
        values[field] = tuple(map(unit.of, value)) if isinstance(value, list) else unit.of(value)
    values["ipu_busy_percent"] = values.get("ipu_busy_percent") or ()
    return GpuMetrics(format_revision=major, content_revision=minor, **values)


def shared_with_gpu(metrics: GpuMetrics) -> dict[str, Any]:
    """The known quantities that ``Gpu`` has too, by field name."""
    values = {field: getattr(metrics, field) for field in _SHARED}
    return {field: value for field, value in values.items() if value is not None}


_SHARED = (
    "busy_percent",
    "sclk_hertz",
    "sclk_limit_hertz",
    "mclk_hertz",
    "fclk_hertz",
    "socket_power_watts",
    "gfx_power_watts",
    "temperature_celsius",
)
