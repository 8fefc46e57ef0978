"""The ``gpu_metrics`` table of an AMD APU: one small binary read that holds what a dozen files say.

Layouts follow ``kgd_pp_interface.h`` of the Linux kernel, little-endian and naturally aligned. All ones
means "not filled". Power is in mW, clocks in MHz, temperatures in 0.01 °C. Activity is 0.01 % in v2;
v3.0 hands on what the firmware gives, which is whole percent on Strix Halo.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import Struct

from halotui.model import SourceState, Unavailable


class Unit(NamedTuple):
    """How a raw count becomes our unit, and between which raw values it is a measurement at all."""

    convert: Callable[[int], float]
    least: float
    most: float

    def of(self, raw: object) -> float | None:
        """The converted value; None for whatever is not a number, or out of range."""
        if type(raw) is int and self.least <= raw <= self.most:  # a bool is none
            return self.convert(raw)
        return None


# A clock, a die or the cores that run this program at 0 are fields that nobody filled, and so is a package
# below 1 W: some firmware of the v2 family writes whole watts where mW are due.
CENTICELSIUS = Unit(lambda raw: raw / 100, 1, 20_000)
PERCENT = Unit(float, 0, 100)
CENTIPERCENT = Unit(lambda raw: raw / 100, 0, 10_000)
MILLIWATT = Unit(lambda raw: raw / 1000, 0, 1_000_000)
CPU_MILLIWATT = MILLIWATT._replace(least=1)
SOCKET_MILLIWATT = MILLIWATT._replace(least=1000)
MEGAHERTZ = Unit(lambda raw: raw * 1_000_000, 1, 20_000)
COUNT = Unit(int, 0, 2**63 - 1)


class GpuMetrics(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One decoded table; named as in ``Gpu`` but for the limiters, and in its units.

    A residency counts while its limiter is engaged, since boot and in a unit that is not documented:
    only a difference says something, and a fall means that the counter began anew.
    """

    format_revision: int
    content_revision: int
    temperature_celsius: float | None = None  # gfx
    soc_temperature_celsius: float | None = None
    busy_percent: float | None = None  # gfx
    media_busy_percent: float | None = None  # VCN
    npu_busy_percent: float | None = None  # mean of the columns that are told
    socket_power_watts: float | None = None
    gfx_power_watts: float | None = None
    npu_power_watts: float | None = None
    cpu_power_watts: float | None = None
    sclk_hertz: int | None = None  # averages over the firmware's filter, about 1 s
    mclk_hertz: int | None = None
    fclk_hertz: int | None = None
    npu_hertz: int | None = None
    cpu_hertz: int | None = None  # of the fastest core
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
LIMITERS = ("prochot", "spl", "fppt", "sppt", "thm_core", "thm_gfx", "thm_soc")

# GpuMetrics field, name in the table, unit
_COMMON = (
    ("temperature_celsius", "temperature_gfx", CENTICELSIUS),
    ("soc_temperature_celsius", "temperature_soc", CENTICELSIUS),
    ("socket_power_watts", "average_socket_power", SOCKET_MILLIWATT),
    ("gfx_power_watts", "average_gfx_power", MILLIWATT),
    ("sclk_hertz", "average_gfxclk_frequency", MEGAHERTZ),
    ("mclk_hertz", "average_uclk_frequency", MEGAHERTZ),
    ("fclk_hertz", "average_fclk_frequency", MEGAHERTZ),
    ("cpu_hertz", "current_coreclk", MEGAHERTZ),
)
QUANTITIES: dict[int, tuple[tuple[str, str, Unit], ...]] = {
    2: (
        *_COMMON,
        ("busy_percent", "average_gfx_activity", CENTIPERCENT),
        ("media_busy_percent", "average_mm_activity", CENTIPERCENT),
        ("cpu_power_watts", "average_cpu_power", CPU_MILLIWATT),
    ),
    3: (
        *_COMMON,
        ("busy_percent", "average_gfx_activity", PERCENT),
        ("media_busy_percent", "average_vcn_activity", CENTIPERCENT),
        ("npu_busy_percent", "average_ipu_activity", PERCENT),
        ("npu_power_watts", "average_ipu_power", MILLIWATT),
        ("npu_hertz", "average_ipuclk_frequency", MEGAHERTZ),
        ("cpu_power_watts", "average_all_core_power", CPU_MILLIWATT),
        ("sclk_limit_hertz", "current_gfx_maxfreq", MEGAHERTZ),
        ("cpu_limit_hertz", "current_core_maxfreq", MEGAHERTZ),
        *((f"throttle_{limiter}", f"throttle_residency_{limiter}", COUNT) for limiter in LIMITERS),
    ),
}


# what an array of the table comes to, of those of its places that are told
_TOGETHER: dict[str, Callable[[Sequence[float]], float]] = {
    "npu_busy_percent": lambda columns: sum(columns) / len(columns),
    "cpu_hertz": max,
}


class Layout(NamedTuple):
    """Where the fields of one table version lie."""

    size: int  # bytes
    fields: dict[str, tuple[str, int]]  # name: struct code, offset


class _Picker:
    """The fields of a table that are wanted, in one step."""

    def __init__(self, layout: Layout, names: Iterable[str]) -> None:
        code, end, at = "<", 0, 0
        self._places: list[tuple[str, slice | int, int]] = []  # name, of the counts, all ones
        for offset, field, name in sorted(
            (layout.fields[name][1], layout.fields[name][0], name) for name in names
        ):
            code += f"{offset - end}x{field}"
            end = offset + struct.calcsize("<" + field)
            many = int(field[:-1] or 1)
            unset = (1 << 8 * struct.calcsize("<" + field[-1])) - 1
            self._places.append((name, slice(at, at + many) if many > 1 else at, unset))
            at += many
        self._struct = struct.Struct(code)

    def pick(self, blob: bytes) -> dict[str, object]:
        """Counts, and lists of them, by name; None where nothing was filled in."""
        counts = self._struct.unpack_from(blob)
        return {name: _filled(counts[place], unset) for name, place, unset in self._places}


def _filled(raw: Any, unset: int) -> object:
    if isinstance(raw, tuple):
        return [None if count == unset else count for count in raw]
    return None if raw == unset else raw


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
_PICKERS = {
    version: _Picker(layout, {name for _, name, _ in QUANTITIES[version[0]]})
    for version, layout in LAYOUTS.items()
}
APU_REVISIONS = (2, 3)  # of the table's format; 1 is a discrete GPU's


def revision(blob: bytes) -> tuple[int, int] | None:
    """Format and content, of a layout that may not be known; None where not even the header is there."""
    return (blob[2], blob[3]) if len(blob) >= 4 else None


def decode(blob: bytes, path: str = "gpu_metrics") -> GpuMetrics:
    """The table in ``blob``, as read from ``path`` in one go.

    Raises Unavailable: NO_DATA for the table of a discrete GPU, whose files say the same; FAILED for any
    other size or revision, as of a kernel newer than this code.
    """
    version = revision(blob)
    if version is None:
        raise Unavailable(SourceState.FAILED, f"gpu_metrics holds {len(blob)} bytes: too few for a header")
    major, minor = version
    if major == 1:
        raise Unavailable(
            SourceState.NO_DATA,
            f"gpu_metrics v1.{minor} is a discrete GPU's: its sensor files are read instead",
        )
    layout = LAYOUTS.get(version)
    size = int.from_bytes(blob[:2], "little")
    if layout is None or not layout.size == size == len(blob):
        told = f"{len(blob)} bytes" if size == len(blob) else f"{len(blob)} bytes that claim to be {size}"
        raise Unavailable(
            SourceState.FAILED,
            f"gpu_metrics v{major}.{minor} of {told}: a layout not known here",
            f"report it with a copy of the file: cat {path} > gm.bin",
        )
    return normalise(major, minor, _PICKERS[version].pick(blob))


def normalise(major: int, minor: int, raw: Mapping[str, object]) -> GpuMetrics:
    """A table given as the kernel's field names and raw counts, in our units. Revision 2 and 3 only."""
    values: dict[str, Any] = {
        field: _value(field, raw.get(name), unit) for field, name, unit in QUANTITIES.get(major, ())
    }
    if values.get("socket_power_watts") is None and isinstance(raw.get("average_socket_power"), int):
        values |= dict.fromkeys(_SHARES)  # that firmware counts watts in another way, here as well
    return GpuMetrics(format_revision=major, content_revision=minor, **values)


def _value(field: str, raw: object, unit: Unit) -> float | None:
    if not isinstance(raw, list):
        return unit.of(raw)
    known = [value for one in raw if (value := unit.of(one)) is not None]
    together = _TOGETHER.get(field)
    return together(known) if known and together is not None else None


def shared_with_gpu(metrics: GpuMetrics) -> dict[str, Any]:
    """The known quantities that ``Gpu`` has too, by field name."""
    return {field: value for field in _SHARED if (value := getattr(metrics, field)) is not None}


def limiters(metrics: GpuMetrics) -> dict[str, int]:
    """The counters of throttle residency that it has, by limiter."""
    return {limiter: value for limiter, field in _COUNTERS if (value := getattr(metrics, field)) is not None}


_SHARES = ("gfx_power_watts", "cpu_power_watts", "npu_power_watts")
_COUNTERS = tuple((limiter, f"throttle_{limiter}") for limiter in LIMITERS)
_SHARED = tuple(
    field
    for field in GpuMetrics.__struct_fields__
    if not field.startswith("throttle_") and not field.endswith("_revision")
)
