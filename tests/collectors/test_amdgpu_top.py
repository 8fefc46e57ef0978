"""Lines of amdgpu_top, a fake amdgpu_top on PATH, and any JSON at all."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halotui.collectors import amdgpu_top
from halotui.hosts.local import LocalHost
from halotui.model import Gpu, SourceState, Unavailable

FIXTURES = Path(__file__).parents[1] / "fixtures/gpu"
FIXTURE = FIXTURES / "amdgpu_top_strix_halo.json"
DESKTOP = FIXTURES / "amdgpu_top_desktop.json"


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
        integrated=True,
        throttle_known=False,
        media_busy_percent=0,
        soc_temperature_celsius=42.38,
        cpu_power_watts=2.5,
        cpu_hertz=5_100_000_000,
        cpu_limit_hertz=5_150_000_000,
        npu_busy_percent=0,
        npu_power_watts=0.02,
        npu_hertz=1_267_000_000,
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
    gpu = only(gpu_activity={"GFX": missing, "MediaEngine": missing}, npu_metrics=missing)
    assert gpu.busy_percent is gpu.media_busy_percent is None


def test_whole_sections_missing() -> None:
    gpu = only(Info=None, VRAM=None, Sensors=None, gpu_activity=None, gpu_metrics=None)
    assert gpu == Gpu(id="gpu0", source="amdgpu_top", throttle_known=False)


@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"unit": "MHz", "value": value}])
def test_the_npu_of_its_own_driver(wrap: Callable[[Any], Any]) -> None:
    """amdxdna tells it where gpu_metrics does not."""
    npu = {"npu_busy": [50, 30, *[65535] * 6], "npu_power": 1500, "npuclk_freq": 1800}
    said = {"gpu_metrics": None, "npu_metrics": {key: wrap(value) for key, value in npu.items()}}
    gpu = only(**said)
    assert (gpu.npu_busy_percent, gpu.npu_power_watts, gpu.npu_hertz) == (40, 1.5, 1_800_000_000)


def test_two_gpus_of_a_real_box() -> None:
    """A card and the graphics of a desktop CPU: a real dump, nested as a stream nests what -d has flat."""
    integrated, card = amdgpu_top.parse(DESKTOP.read_bytes())
    assert (integrated.integrated, card.integrated) == (True, False)
    assert (integrated.id, card.id) == ("0000:13:00.0", "0000:03:00.0")
    assert integrated.socket_power_watts is None  # it says 0 W, and 56 in the table, where mW are due
    assert integrated.gfx_power_watts is None
    assert integrated.cpu_hertz is integrated.npu_busy_percent is None  # arrays keep their 65535
    assert (card.socket_power_watts, card.vram_used_bytes) == (155, 8496 << 20)
    assert card.sclk_hertz == 2_996_000_000


def test_a_sleeper_is_told_by_name() -> None:
    sleeping = {"pci": "0000:03:00.0", "DeviceName": "AMD Radeon RX 9060 XT", "card": "/dev/dri/card0"}
    said = json.loads(line()) | {"suspended_devices": [sleeping, {}, "?", None]}
    awake, asleep = amdgpu_top.parse(json.dumps(said).encode())
    assert not awake.asleep
    assert asleep == Gpu(id="0000:03:00.0", source="amdgpu_top", name="AMD Radeon RX 9060 XT", asleep=True)


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


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give it the shell script that will be amdgpu_top. ``$LINE`` is a file with one record."""
    (tmp_path / "line").write_bytes(line())
    monkeypatch.setenv("LINE", str(tmp_path / "line"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def install(script: str) -> None:
        (tmp_path / "amdgpu_top").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "amdgpu_top").chmod(0o755)

    return install


async def follow(got: list[Gpu]) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        async for gpus in amdgpu_top.stream(LocalHost()):
            got += gpus
    return caught.value


async def test_stream_skips_junk_and_tells_of_the_end(command: Callable[[str], None]) -> None:
    command('[ "$*" = "-J --no-pc -s 1000" ] && echo warming up; cat "$LINE"; echo; cat "$LINE"')
    got: list[Gpu] = []
    why = await follow(got)
    assert [gpu.socket_power_watts for gpu in got] == [38.43, 38.43]
    assert why.state is SourceState.FAILED and "amdgpu_top ended" in why.reason


@pytest.mark.parametrize("death", ["kill -SEGV $$", "head -c 700 $LINE; exit 101", "echo '[]'; exit 0"])
async def test_a_stream_that_dies_keeps_what_it_gave(command: Callable[[str], None], death: str) -> None:
    """By a signal, in the middle of a record, and with the array that -d would write."""
    command(f'cat "$LINE"; {death}')
    got: list[Gpu] = []
    why = await follow(got)
    assert [gpu.gtt_used_bytes for gpu in got] == [58060 << 20]
    assert why.state is SourceState.FAILED and "--no-pc" in why.hint


@pytest.mark.parametrize("flood", ["not JSON", '{"devices":[]}'])
async def test_a_flood_waits_in_its_pipe(command: Callable[[str], None], flood: str) -> None:
    command(f"exec yes '{flood}'")
    began, spent = time.monotonic(), time.process_time()
    reading = asyncio.create_task(follow([]))
    await asyncio.sleep(0.5)
    assert time.monotonic() - began < 2  # the rest of us goes on
    assert time.process_time() - spent < 0.8
    reading.cancel()
    await asyncio.wait((reading,))


async def test_not_ours_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "amdgpu_top").touch(0o644)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (await follow([])).state is SourceState.DENIED


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
        [key for _, path, _ in amdgpu_top._ROWS for key in path]
        + ["header", "average_gfx_power", "npu_busy", "GPU Type"]
    ),
    anything | st.fixed_dictionaries({"value": anything, "format_revision": st.sampled_from([2, 3])}),
)
devices = st.dictionaries(
    st.sampled_from(["Info", "VRAM", "Sensors", "gpu_activity", "gpu_metrics", "npu_metrics"]),
    quantities | anything,
)


@given(st.binary(max_size=60) | anything.map(lambda a: json.dumps(a).encode()))
def test_any_line_parses_or_is_unavailable(raw: bytes) -> None:
    with suppress(Unavailable):
        amdgpu_top.parse(raw)


@given(st.lists(devices | anything, max_size=3))
def test_any_device_gives_a_reading(found: list[Any]) -> None:
    gpus = amdgpu_top.parse(json.dumps({"devices": found}).encode())
    assert len(gpus) == sum(isinstance(device, dict) for device in found)
