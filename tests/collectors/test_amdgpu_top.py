"""Lines of amdgpu_top, a fake amdgpu_top on PATH, and any JSON at all."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halotui.collectors import amdgpu_top
from halotui.hosts.local import LocalHost
from halotui.model import Gpu, SourceState, Unavailable

FIXTURE = Path(__file__).parents[1] / "fixtures/gpu/amdgpu_top_strix_halo.json"


def line(**changed: Any) -> bytes:
    """The fixture on one line, its device's top keys open to change."""
    said = json.loads(FIXTURE.read_text())
    said["devices"][0].update(changed)
    return json.dumps(said).encode() + b"\n"


def only(**changed: Any) -> Gpu:
    (gpu,) = amdgpu_top.parse(line(**changed))
    return gpu


def test_strix_halo() -> None:
    assert only() == Gpu(
        id="0000:c5:00.0",
        source="amdgpu_top",
        name="AMD Radeon 8060S Graphics",
        gtt_used_bytes=58060 << 20,
        gtt_total_bytes=133143986176,
        vram_used_bytes=455 << 20,
        vram_total_bytes=536870912,
        busy_percent=97,
        sclk_hertz=2_900_000_000,
        sclk_limit_hertz=2_900_000_000,
        mclk_hertz=1_000_000_000,
        fclk_hertz=2_000_000_000,
        socket_power_watts=38.43,
        gfx_power_watts=18.72,
        temperature_celsius=45.88,
    )


@pytest.mark.parametrize(
    "metrics", [None, {}, {"header": {"format_revision": 1}, "average_socket_power": 178}]
)
def test_sensors_speak_without_the_table(metrics: Any) -> None:
    gpu = only(gpu_metrics=metrics)
    assert (gpu.sclk_hertz, gpu.mclk_hertz, gpu.fclk_hertz) == (2_883_000_000, 800_000_000, 1_960_000_000)
    assert (gpu.socket_power_watts, gpu.temperature_celsius) == (38, 45)
    assert gpu.gfx_power_watts is None


@pytest.mark.parametrize("missing", [None, {"unit": "%", "value": None}, {}, "?", {"value": "N/A"}])
def test_both_ways_of_missing(missing: Any) -> None:
    assert only(gpu_activity={"GFX": missing}).busy_percent is None


def test_whole_sections_missing() -> None:
    gpu = only(Info=None, VRAM=None, Sensors=None, gpu_activity=None, gpu_metrics=None)
    assert gpu == Gpu(id="gpu0", source="amdgpu_top")


def test_no_awake_device_is_an_empty_reading() -> None:
    assert amdgpu_top.parse(b'{"devices": [], "suspended_devices": [{}]}') == ()


def test_hostile_names() -> None:
    gpu = only(Info={"PCI": "0000:c5:00.0\x1b[2J", "DeviceName": "\x1b]0;x\x07Radeon\n"})
    assert (gpu.id, gpu.name) == ("0000:c5:00.0", "Radeon")


@pytest.mark.parametrize("junk", [b"", b"thread panicked\n", b"[]", b"{}", b'{"devices": 3}', b"[" * 100_000])
def test_junk(junk: bytes) -> None:
    with pytest.raises(Unavailable) as caught:
        amdgpu_top.parse(junk)
    assert caught.value.state is SourceState.FAILED


async def test_stream_skips_junk_and_tells_of_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lines").write_bytes(b"warming up\n" + line() + b"\n" + line())
    command = tmp_path / "amdgpu_top"
    command.write_text(f'#!/bin/sh\n[ "$*" = "-J --no-pc -s 1000" ] && cat {tmp_path}/lines\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    got: list[Gpu] = []
    with pytest.raises(Unavailable, match="amdgpu_top ended") as caught:
        async for gpus in amdgpu_top.stream(LocalHost()):
            got += gpus
    assert [gpu.socket_power_watts for gpu in got] == [38.43, 38.43]
    assert caught.value.state is SourceState.FAILED


async def test_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable) as caught:
        await anext(aiter(amdgpu_top.stream(LocalHost())))
    assert caught.value.state is SourceState.ABSENT
    assert "install" in caught.value.hint


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
quantities = st.dictionaries(
    st.sampled_from(
        [key for _, path, _ in amdgpu_top._ROWS for key in path] + ["header", "average_gfx_power"]
    ),
    anything | st.fixed_dictionaries({"value": anything, "format_revision": st.sampled_from([2, 3])}),
)
devices = st.dictionaries(
    st.sampled_from(["Info", "VRAM", "Sensors", "gpu_activity", "gpu_metrics"]), quantities | anything
)


@given(st.binary(max_size=60) | anything.map(lambda a: json.dumps(a).encode()))
def test_any_line_parses_or_is_unavailable(raw: bytes) -> None:
    with suppress(Unavailable):
        amdgpu_top.parse(raw)


@given(st.lists(devices | anything, max_size=3))
def test_any_device_gives_a_reading(found: list[Any]) -> None:
    gpus = amdgpu_top.parse(json.dumps({"devices": found}).encode())
    assert len(gpus) == sum(isinstance(device, dict) for device in found)
