"""The amdsmi child for real, with amdsmi absent, without its library, and with a stand-in that works."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halotui.collectors import amdsmi
from halotui.hosts.local import LocalHost
from halotui.model import Gpu, SourceState, Unavailable

# As the real package behaves where libamd_smi.so is missing.
NO_LIBRARY = """
print("libamd_smi.so: cannot open shared object file")
print("Unable to find libamd_smi.so library")
raise KeyError("libamd_smi.so")
"""
WORKS = """
import enum, os
AmdSmiMemoryType = enum.Enum("AmdSmiMemoryType", "VRAM VIS_VRAM GTT")
AmdSmiClkType = enum.Enum("AmdSmiClkType", "GFX DF MEM")
AmdSmiTemperatureType = enum.Enum("AmdSmiTemperatureType", "EDGE")
AmdSmiTemperatureMetric = enum.Enum("AmdSmiTemperatureMetric", "CURRENT")
def amdsmi_init():
    print("hello from Python")
    os.system("echo hello from C")
def amdsmi_get_processor_handles(): return [object()]
def amdsmi_get_gpu_device_bdf(gpu): return "0000:c5:00.0"
def amdsmi_get_gpu_asic_info(gpu): return {"market_name": "AMD Radeon 8060S Graphics"}
def amdsmi_get_gpu_memory_usage(gpu, pool): return 60880695296 if pool.name == "GTT" else 477102080
def amdsmi_get_gpu_memory_total(gpu, pool): return 133143986176 if pool.name == "GTT" else 536870912
def amdsmi_get_gpu_activity(gpu): return {"gfx_activity": "N/A"}
def amdsmi_get_clock_info(gpu, domain):
    if domain.name == "DF": raise RuntimeError("AMDSMI_STATUS_NOT_SUPPORTED")
    return {"clk": 2900 if domain.name == "GFX" else 65535}
def amdsmi_get_power_info(gpu):
    return {"socket_power": 0xFFFFFFFFFFFFFFFF, "current_socket_power": "N/A", "average_socket_power": 38}
def amdsmi_get_temp_metric(gpu, kind, metric): return 45
def amdsmi_get_gpu_perf_level(gpu): return "AMDSMI_DEV_PERF_LEVEL_AUTO"
def amdsmi_get_gpu_metrics_info(gpu): return {
    "is_apu": True,
    "apu_metrics.temperature_soc": 42.38,
    "apu_metrics.average_gfx_power": 18.72,
    "apu_metrics.average_all_core_power": "N/A",
    "apu_metrics.average_cpu_power": 2.5,
    "apu_metrics.average_ipu_power": 0.0,
    "apu_metrics.current_coreclk": [1400, "N/A", 5100, 65535],
    "apu_metrics.current_gfx_maxfreq": 2900,
    "apu_metrics.average_ipuclk_frequency": 0,
}
"""
NO_DRIVER = "def amdsmi_init(): raise RuntimeError('AMDSMI_STATUS_DRIVER_NOT_LOADED')"


Install = Callable[[str], object]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Give it the text of what the child will import as amdsmi."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return (tmp_path / "amdsmi.py").write_text


async def first() -> tuple[Gpu, ...]:
    readings = amdsmi.stream(LocalHost())
    try:
        return await anext(aiter(readings))
    finally:
        await readings.aclose()  # type: ignore[attr-defined]


async def test_absent(install: Install) -> None:
    install("raise ModuleNotFoundError('No module named amdsmi', name='amdsmi')")
    with pytest.raises(Unavailable, match="not installed") as caught:
        await first()
    assert caught.value.state is SourceState.ABSENT
    assert caught.value.hint


@pytest.mark.skipif(find_spec("amdsmi") is not None, reason="amdsmi is installed here")
def test_the_child_where_amdsmi_is_not_installed() -> None:
    child = subprocess.run(amdsmi.ARGV, capture_output=True, timeout=60)
    assert child.returncode == 1
    (line,) = child.stdout.splitlines()
    assert json.loads(line)["state"] == "absent"


async def test_without_the_library(install: Install) -> None:
    install(NO_LIBRARY)
    with pytest.raises(Unavailable, match=r"KeyError: 'libamd_smi\.so'") as caught:
        await first()
    assert caught.value.state is SourceState.ABSENT
    assert "ROCm" in caught.value.hint


async def test_without_the_driver(install: Install) -> None:
    install(NO_DRIVER)
    with pytest.raises(Unavailable, match="DRIVER_NOT_LOADED") as caught:
        await first()
    assert caught.value.state is SourceState.FAILED


async def test_a_library_that_exits_the_child(install: Install) -> None:
    install("import os; os._exit(3)")
    with pytest.raises(Unavailable, match="ended") as caught:
        await first()
    assert caught.value.state is SourceState.FAILED


async def test_a_library_that_chatters_and_knows_half(install: Install) -> None:
    install(WORKS)
    (gpu,) = await first()
    assert gpu == Gpu(
        id="0000:c5:00.0",
        source="amdsmi",
        name="AMD Radeon 8060S Graphics",
        gtt_used_bytes=60880695296,
        gtt_total_bytes=133143986176,
        vram_used_bytes=477102080,
        vram_total_bytes=536870912,
        sclk_hertz=2_900_000_000,
        socket_power_watts=38,
        temperature_celsius=45,
        performance_level="auto",
        integrated=True,
        throttle_known=False,
        soc_temperature_celsius=42.38,
        gfx_power_watts=18.72,
        cpu_power_watts=2.5,
        cpu_hertz=5_100_000_000,
        npu_power_watts=0,
        sclk_limit_hertz=2_900_000_000,
    )


def test_the_child_ends_with_its_reader(install: Install) -> None:
    install(WORKS)
    child = subprocess.Popen(amdsmi.ARGV, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout and child.stderr
    assert child.stdout.readline().startswith(b'{"gpus"')
    child.stdout.close()
    assert child.wait(timeout=30) == 0
    assert b"Traceback" not in child.stderr.read()
    child.stderr.close()


@pytest.mark.parametrize("unset", ["N/A", 0xFFFF, 0xFFFFFFFF, 2**64 - 1, None, -1, "12", True, [], {}])
def test_unset(unset: Any) -> None:
    fields = [*(field for field, unit, _ in amdsmi._QUANTITIES if unit), *amdsmi._TABLE]
    line = json.dumps({"gpus": [{"id": "x"} | dict.fromkeys(fields, unset)]}).encode()
    assert amdsmi.parse(line) == (Gpu(id="x", source="amdsmi", throttle_known=False),)


def test_hostile_words() -> None:
    with pytest.raises(Unavailable, match=r"^gotcha$"):
        amdsmi.parse(b'{"error": "\\u001b[2Jgotcha", "hint": 3}')


@pytest.mark.parametrize(
    "junk", [b"", b"hello\n", b"[]", b"{}", b'{"gpus": 1}', b"{" * 100_000, b"[" * 100_000]
)
def test_junk(junk: bytes) -> None:
    with pytest.raises(Unavailable) as caught:
        amdsmi.parse(junk)
    assert caught.value.state is SourceState.FAILED


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
fields = st.dictionaries(
    st.sampled_from([*(field for field, _, _ in amdsmi._QUANTITIES), *amdsmi._TABLE, "integrated"]), scalars
)
words = st.dictionaries(
    st.sampled_from(["gpus", "error", "state", "hint"]), st.lists(fields | scalars) | scalars | fields
)


@given(st.binary(max_size=40) | words.map(lambda said: json.dumps(said).encode()))
def test_any_line_parses_or_is_unavailable(line: bytes) -> None:
    with suppress(Unavailable):
        amdsmi.parse(line)
