"""The decoder against tables packed by hand, and against any bytes at all."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halotui.collectors.gpu_metrics import LAYOUTS, decode, limiters, normalise, revision
from halotui.model import SourceState, Unavailable
from sysfs_tree import V3_0, v2, v3_0


def test_layouts_have_the_sizes_of_the_c_structs() -> None:
    sizes = {version: layout.size for version, layout in LAYOUTS.items()}
    assert sizes == {(2, 1): 120, (2, 2): 128, (2, 3): 152, (2, 4): 168, (3, 0): 264}
    assert struct.calcsize(V3_0) == 264


def test_offsets_of_the_headline_numbers() -> None:
    fields = LAYOUTS[3, 0].fields
    offsets = {
        "average_gfx_activity": 42,
        "system_clock_counter": 104,
        "average_socket_power": 112,
        "average_gfx_power": 124,
        "average_gfxclk_frequency": 174,
        "current_gfx_maxfreq": 224,
        "throttle_residency_thm_soc": 252,
        "time_filter_alphavalue": 256,
    }
    assert {name: fields[name][1] for name in offsets} == offsets
    assert LAYOUTS[2, 1].fields["throttle_status"][1] == 108


def test_strix_halo_under_load() -> None:
    metrics = decode(v3_0())
    assert metrics.temperature_celsius == 45.88
    assert metrics.soc_temperature_celsius == 42.38
    assert metrics.busy_percent == 97
    assert metrics.media_busy_percent == 12.5
    assert metrics.npu_busy_percent == 3.5  # of columns at 0 to 7 %
    assert metrics.socket_power_watts == 38.43
    assert metrics.gfx_power_watts == 18.72
    assert (metrics.npu_power_watts, metrics.npu_hertz) == (0.02, 1_267_000_000)
    assert metrics.cpu_power_watts == 2.5
    assert (metrics.sclk_hertz, metrics.fclk_hertz, metrics.mclk_hertz) == (2_900_000_000, 2 * 10**9, 10**9)
    assert metrics.sclk_limit_hertz == 2_900_000_000
    assert (metrics.cpu_hertz, metrics.cpu_limit_hertz) == (1_400_000_000, 5_150_000_000)
    assert limiters(metrics) == {
        "prochot": 0,
        "spl": 0,
        "fppt": 34055,
        "sppt": 0,
        "thm_core": 0,
        "thm_gfx": 306735,
        "thm_soc": 0,
    }


def test_the_fastest_core_is_the_cpu_clock() -> None:
    assert decode(v3_0(coreclk=5100)).cpu_hertz == 5_100_000_000
    assert decode(v3_0(coreclk=0xFFFF)).cpu_hertz == 1_400_000_000


def npu(columns: Sequence[int]) -> float | None:
    blob = bytearray(v3_0())
    struct.pack_into("<8H", blob, LAYOUTS[3, 0].fields["average_ipu_activity"][1], *columns)
    return decode(bytes(blob)).npu_busy_percent


def test_the_npu_is_the_mean_of_the_columns_that_are_told() -> None:
    assert npu([0] * 8) == 0
    assert npu([80, 40, *[0xFFFF] * 6]) == 60
    assert npu([0xFFFF] * 8) is None


def test_all_ones_are_none_by_width() -> None:
    metrics = decode(v3_0(temperature_gfx=0xFFFF, socket_power=0xFFFFFFFF, gfx_power=0xFFFF, uclk=0xFFFF))
    assert metrics.temperature_celsius is metrics.socket_power_watts is metrics.mclk_hertz is None
    assert metrics.gfx_power_watts == 65.535  # a u32: 0xFFFF is a value like any other


@pytest.mark.parametrize(
    ("field", "raw", "reads"),
    [
        ("gfx_activity", 101, "busy_percent"),
        ("gfxclk", 0, "sclk_hertz"),
        ("socket_power", 56, "socket_power_watts"),  # watts where mW are due
        ("gfx_maxfreq", 0, "sclk_limit_hertz"),
        ("temperature_soc", 0, "soc_temperature_celsius"),
        ("all_core_power", 0, "cpu_power_watts"),  # the cores run this program
        ("ipuclk", 0, "npu_hertz"),
        ("fppt", 0xFFFFFFFF, "throttle_fppt"),
    ],
)
def test_what_cannot_be_a_measurement_is_none(field: str, raw: int, reads: str) -> None:
    assert getattr(decode(v3_0(**{field: raw})), reads) is None


def test_firmware_that_counts_the_package_in_watts_is_not_believed_about_its_parts() -> None:
    """As a Raphael does: 56 for the package, 25087 for two compute units at rest."""
    metrics = decode(v3_0(socket_power=56, gfx_power=25087))
    assert metrics.gfx_power_watts is metrics.cpu_power_watts is metrics.npu_power_watts is None
    assert decode(v3_0(socket_power=0xFFFFFFFF)).gfx_power_watts == 18.72  # not told: another matter


@pytest.mark.parametrize("minor", [1, 2, 3, 4])
def test_older_apus(minor: int) -> None:
    metrics = decode(v2(minor))
    assert (metrics.format_revision, metrics.content_revision) == (2, minor)
    assert (metrics.temperature_celsius, metrics.soc_temperature_celsius) == (50.5, 56.75)
    assert metrics.busy_percent == 42
    assert metrics.media_busy_percent is None
    assert (metrics.socket_power_watts, metrics.cpu_power_watts, metrics.gfx_power_watts) == (15.2, 9.0, 3.1)
    assert (metrics.sclk_hertz, metrics.mclk_hertz) == (1_800_000_000, 3_000_000_000)
    assert metrics.fclk_hertz == 1_600_000_000
    assert metrics.sclk_limit_hertz is None
    assert not limiters(metrics)
    assert metrics.npu_busy_percent is metrics.cpu_limit_hertz is metrics.cpu_hertz is None


@pytest.mark.parametrize(
    ("blob", "says"),
    [
        (b"", "0 bytes"),
        (struct.pack("<HBB", 4, 3, 0), "v3.0 of 4 bytes"),
        (v3_0()[:-1], "v3.0 of 263 bytes that claim to be 264"),
        (v3_0() + b"\0", "v3.0 of 265 bytes"),
        (struct.pack("<HBB", 264, 3, 1) + bytes(260), "v3.1 of 264 bytes"),
        (struct.pack("<HBB", 128, 2, 1) + bytes(124), "v2.1 of 128 bytes"),
    ],
)
def test_another_table_is_refused_with_its_size_and_revision(blob: bytes, says: str) -> None:
    with pytest.raises(Unavailable, match=says) as caught:
        decode(blob)
    assert caught.value.state is SourceState.FAILED


def test_a_discrete_gpus_table_is_no_failure() -> None:
    with pytest.raises(Unavailable, match=r"v1\.3 is a discrete GPU's") as caught:
        decode(struct.pack("<HBB", 120, 1, 3) + bytes(116))
    assert caught.value.state is SourceState.NO_DATA


headers = st.sampled_from([(layout.size, *version) for version, layout in LAYOUTS.items()])
tables = headers.flatmap(
    lambda h: st.binary(min_size=h[0] - 4, max_size=h[0] - 4).map(lambda b: struct.pack("<HBB", *h) + b)
)


LIMITS = {  # what no value may leave, and its type
    "percent": (0, 100, float),
    "celsius": (0.01, 200, float),
    "watts": (0, 1000, float),
    "hertz": (1, 20 * 10**9, int),
    "revision": (0, 4, int),
    "": (0, 2**32 - 2, int),
}


@given(st.binary(max_size=300) | tables)
def test_any_bytes_decode_or_are_unavailable(blob: bytes) -> None:
    revision(blob)
    try:
        metrics = decode(blob)
    except Unavailable:
        return
    for field, value in msgspec.structs.asdict(metrics).items():
        least, most, kind = LIMITS[field.rpartition("_")[2] if not field.startswith("throttle") else ""]
        assert value is None or (least <= value <= most and isinstance(value, kind)), field
    assert all(value >= 0 for value in limiters(metrics).values())


@given(st.integers(), st.dictionaries(st.sampled_from(sorted(LAYOUTS[3, 0].fields)), st.from_type(object)))
def test_any_raw_values_normalise(major: int, raw: dict[str, object]) -> None:
    normalise(major, 0, raw)


@given(st.lists(st.none() | st.integers() | st.floats() | st.booleans() | st.text(max_size=3), max_size=9))
def test_any_array_of_json_normalises(columns: list[object]) -> None:
    metrics = normalise(3, 0, {"average_ipu_activity": columns, "average_socket_power": columns})
    assert metrics.socket_power_watts is None
    assert metrics.npu_busy_percent is None or 0 <= metrics.npu_busy_percent <= 100
