"""The GPU's source on trees of real files: which one won, what it lacks, and whatever a driver does to it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from halotui.hosts.local import LocalHost
from halotui.model import Gpu, Source, SourceState
from halotui.sampler.clock import Clock
from halotui.sampler.gpu import CONTENT, LACKING, GpuSource
from halotui.sampler.standing import Standings
from sysfs_tree import SLOT, build, v3_0

LINE = Path(__file__).parent.parent / "fixtures/gpu/amdgpu_top_strix_halo.json"
CARD = "0000:03:00.0"


class Refusing(LocalHost):
    """Root is denied nothing by chmod, so it refuses here: an errno for files whose path ends so."""

    refused: dict[str, int]

    def __init__(self, sysfs: Path) -> None:
        super().__init__(sysfs)
        self.refused = {}

    def read(self, path: str | Path) -> bytes:
        for ending, number in self.refused.items():
            if str(path).endswith(ending):
                raise OSError(number, os.strerror(number))
        return super().read(path)


class Box:
    def __init__(self, root: Path, choice: str = "auto") -> None:
        self.now, self.wall = 100.0, 1e9
        self.host = Refusing(root)
        clock = Clock(monotonic=lambda: self.now, wall=lambda: self.wall)
        self.source = GpuSource(self.host, choice, clock)
        self._standings = Standings(clock.wall)
        self.told: dict[str, Source] = {}

    async def look(self, after: float = 1.0, slept: float = 0.0) -> tuple[Gpu, ...]:
        self.now, self.wall = self.now + after, self.wall + after + slept
        gpus = await self.source.read()
        self.told = {source.id: source for source in self._standings.dated(self.source.sources())}
        return gpus

    def state(self, id: str = "gpu") -> SourceState:
        return self.told[id].state


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a fake ``amdgpu_top`` may stand; there is none yet, nor a real one."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for needed in ("sh", "cat", "sleep"):
        (commands / needed).symlink_to(shutil.which(needed) or f"/bin/{needed}")
    monkeypatch.setenv("PATH", str(commands))
    return commands / "amdgpu_top"


def speak(command: Path, then: str = "exec sleep 60", slot: str = SLOT) -> None:
    """One line of a real shape, and what comes after it."""
    line = json.loads(LINE.read_text())
    line["devices"][0]["Info"]["PCI"] = slot
    (command.parent / "line").write_text(json.dumps(line) + "\n")
    command.write_text(f"#!{command.parent}/sh\ncat {command.parent}/line\n{then}\n")
    command.chmod(0o755)


async def until(box: Box, id: str, state: SourceState) -> tuple[Gpu, ...]:
    """Looks without time passing by the clock, until a child has got that far."""
    for _ in range(200):
        gpus = await box.look(after=0.001)
        if box.told[id].state is state:
            return gpus
        await asyncio.sleep(0.01)
    raise AssertionError(box.told[id])


async def test_what_is_asked_and_what_is_not_is_told(tmp_path: Path) -> None:
    build(tmp_path, metrics=v3_0())
    box = Box(tmp_path)
    (gpu,) = await box.look()
    assert gpu.id == SLOT
    assert [(source.id, source.state, source.name) for source in box.told.values()] == [
        ("gpu", SourceState.OK, "sysfs"),
        ("gpu_metrics", SourceState.OK, "v3.0"),
        ("amdgpu_top", SourceState.UNUSED, "amdgpu_top"),
        ("amdsmi", SourceState.UNUSED, "amdsmi"),
    ]
    assert box.told["amdsmi"].hint == "to ask it: halotui --gpu-source amdsmi"
    assert "sysfs answers" in (box.told["amdsmi"].reason or "")
    await box.source.close()


async def test_no_gpu_is_said_not_tried_every_tick(tmp_path: Path) -> None:
    box = Box(tmp_path)
    assert await box.look() == () and box.state() is SourceState.ABSENT
    assert box.told["gpu"].hint and "gpu_metrics" not in box.told
    build(tmp_path)
    assert await box.look() == ()
    assert len(await box.look(after=10)) == 1
    await box.source.close()


async def test_a_gpu_that_hangs_keeps_its_numbers_with_their_age(tmp_path: Path) -> None:
    device = build(tmp_path, metrics=v3_0())
    box = Box(tmp_path)
    (gpu,) = await box.look()
    table = device / "gpu_metrics"
    content = table.read_bytes()
    table.unlink()
    os.mkfifo(table)
    assert await box.look(after=2) == (gpu,)
    hung_at = box.wall
    assert box.state() is SourceState.HUNG and box.told["gpu"].age_seconds == pytest.approx(2)
    assert box.state("gpu_metrics") is SourceState.HUNG
    assert await box.look(after=9) == ()  # too old to be shown
    assert box.told["gpu"].since_time == hung_at
    assert box.state("amdgpu_top") is SourceState.UNUSED  # it would hang on the same driver
    table.unlink()
    table.write_bytes(content)
    assert len(await box.look(after=30)) == 1  # the old reader hangs still: a new one was sent
    assert box.state() is SourceState.OK and box.told["gpu"].since_time is None
    await box.source.close()


def test_the_program_ends_while_a_reader_hangs(tmp_path: Path) -> None:
    """All of it: the other panels have their numbers, and the exit waits for nobody."""
    device = build(tmp_path)
    (device / "gpu_busy_percent").unlink()
    os.mkfifo(device / "gpu_busy_percent")
    program = """
        import asyncio, sys
        from pathlib import Path
        from halotui.hosts.local import LocalHost
        from halotui.sampler.core import Options, Sampler

        async def main():
            sampler = Sampler(LocalHost(Path(sys.argv[1])), Options(urls=("http://127.0.0.1:9",)))
            for _ in range(2):
                frame = await sampler.tick()
            print(next(one.state for one in frame.sources if one.id == "gpu"), frame.memory is not None)
            await sampler.close()

        asyncio.run(main())
    """
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert said.stdout.split() == ["hung", "True"]


async def test_a_reset_is_stood_through(tmp_path: Path) -> None:
    """Every file says EPERM for three ticks; the counters begin anew."""
    device = build(tmp_path, metrics=v3_0())
    box = Box(tmp_path, "sysfs")
    (gpu,) = await box.look()
    box.host.refused = {str(path.relative_to(device)): errno.EPERM for path in device.rglob("*")}
    for _ in range(3):
        assert await box.look() == (gpu,)
        assert box.state() is SourceState.DENIED
    box.host.refused = {}
    (gpu,) = await box.look()
    assert box.state() is SourceState.OK and gpu.throttle == {}
    await box.source.close()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EBUSY, errno.EINVAL])
async def test_one_file_that_is_refused_costs_its_value_alone(tmp_path: Path, number: int) -> None:
    build(tmp_path)
    box = Box(tmp_path, "sysfs")
    await box.look()
    box.host.refused = {"gpu_busy_percent": number}
    (gpu,) = await box.look()
    assert gpu.busy_percent is None and gpu.gtt_used_bytes and box.state() is SourceState.OK
    box.host.refused = {}
    assert (await box.look())[0].busy_percent == 97
    await box.source.close()


async def test_a_table_that_is_refused_is_told(tmp_path: Path) -> None:
    build(tmp_path, metrics=v3_0())
    box = Box(tmp_path, "sysfs")
    box.host.refused = {"gpu_metrics": errno.EACCES}
    await box.look()
    assert box.state() is SourceState.OK and box.state("gpu_metrics") is SourceState.DENIED
    box.host.refused = {}
    (tmp_path / "class/drm/card1/device/gpu_metrics").unlink()
    await box.look()
    assert box.state("gpu_metrics") is SourceState.ABSENT
    await box.source.close()


async def test_cards_that_vanish_come_and_are_renumbered(tmp_path: Path) -> None:
    def counted(fppt: int) -> bytes:
        table = bytearray(v3_0())
        table[236:240] = fppt.to_bytes(4, "little")
        return bytes(table)

    build(tmp_path, metrics=counted(100))
    box = Box(tmp_path, "sysfs")
    (gpu,) = await box.look()
    shutil.rmtree(tmp_path / "class/drm")
    assert await box.look() == (gpu,) and box.state() is SourceState.ABSENT
    build(tmp_path, card=0, metrics=counted(160))
    (again,) = await box.look(after=2)
    assert again.id == SLOT and again.throttle == {"fppt": pytest.approx(20)}
    build(tmp_path, card=2, uevent=f"DRIVER=amdgpu\nPCI_SLOT_NAME={CARD}", device="0x744c")
    assert [one.id for one in await box.look(after=10)] == [SLOT, CARD]
    shutil.rmtree(tmp_path / "class/drm/card2")
    (alone,) = await box.look()
    assert alone.id == SLOT and box.state() is SourceState.OK
    await box.source.close()


async def test_what_may_be_another_card_is_looked_up_anew(tmp_path: Path) -> None:
    """At the reading that notices, not ten seconds later."""
    device = build(tmp_path, device="0x744c", mem_busy_percent="0")
    box = Box(tmp_path, "sysfs")
    assert (await box.look())[0].temperature_celsius == 45
    (device / "hwmon/hwmon6").rename(device / "hwmon/hwmon9")  # the driver was loaded anew
    assert (await box.look())[0].temperature_celsius == 45
    (device / "power").mkdir()
    (device / "power/runtime_status").write_text("suspended\n")
    assert (await box.look())[0].asleep
    (device / "power_dpm_force_performance_level").write_text("high\n")
    assert (await box.look())[0].performance_level is None
    (device / "power/runtime_status").write_text("active\n")
    assert (await box.look())[0].performance_level == "high"
    (device / "power_dpm_force_performance_level").write_text("low\n")
    assert (await box.look())[0].performance_level == "high"  # a setting may be so old
    assert (await box.look(after=10))[0].performance_level == "low"
    await box.source.close()


async def test_help_is_called_for_what_sysfs_lacks(tmp_path: Path, command: Path) -> None:
    device = build(tmp_path, hwmon__hwmon6__power1_input=None)
    speak(command)
    box = Box(tmp_path)
    for _ in range(LACKING - 1):
        (gpu,) = await box.look()
    assert gpu.socket_power_watts is None and box.state("amdgpu_top") is SourceState.UNUSED
    (gpu,) = await until(box, "amdgpu_top", SourceState.OK)
    (gpu,) = await box.look(after=0.1)
    assert gpu.socket_power_watts == pytest.approx(38.43) and gpu.busy_percent == 97
    assert gpu.provenance["socket_power_watts"] == "amdgpu_top"
    assert gpu.provenance.get("busy_percent") != "amdgpu_top"
    assert (gpu.source, box.told["gpu"].name) == ("sysfs", "sysfs")
    (gpu,) = await box.look(after=5)  # it has gone quiet: what it said is no longer so
    assert gpu.socket_power_watts is None and box.state("amdgpu_top") is SourceState.STALE
    (device / "hwmon/hwmon6/power1_input").write_text("34097000\n")
    for _ in range(CONTENT):
        await box.look(after=0.01)
    assert box.state("amdgpu_top") is SourceState.UNUSED  # no longer needed
    await box.source.close()


async def test_help_for_another_gpu_is_none(tmp_path: Path, command: Path) -> None:
    build(tmp_path, hwmon__hwmon6__power1_input=None)
    speak(command, slot=CARD)
    box = Box(tmp_path)
    for _ in range(LACKING):
        await box.look()
    await until(box, "amdgpu_top", SourceState.OK)
    (gpu,) = await box.look(after=0.1)
    assert gpu.socket_power_watts is None
    await box.source.close()


async def test_help_that_is_not_there_is_said_and_looked_for_later(tmp_path: Path, command: Path) -> None:
    build(tmp_path, hwmon__hwmon6__power1_input=None)
    box = Box(tmp_path)
    for _ in range(LACKING):
        await box.look()
    await until(box, "amdgpu_top", SourceState.ABSENT)
    assert "600 s" in (box.told["amdgpu_top"].reason or "") and box.told["amdgpu_top"].hint
    speak(command)
    await box.look(after=590)
    await asyncio.sleep(0.05)
    await box.look()
    assert box.state("amdgpu_top") is SourceState.ABSENT and box.state() is SourceState.OK
    await box.look(after=10)
    await until(box, "amdgpu_top", SourceState.OK)
    await box.source.close()


async def test_a_child_that_dies_is_started_again_later_and_later(tmp_path: Path, command: Path) -> None:
    speak(command, then=f"echo born >> {tmp_path}/lives\nexit 1")
    box = Box(tmp_path, "amdgpu_top")
    (gpu,) = await box.look()  # the first frame waits for the first line
    assert gpu.source == "amdgpu_top" and gpu.id == SLOT
    lives = tmp_path / "lives"
    for life, wait in enumerate((10, 60, 600, 600), start=1):
        await until(box, "amdgpu_top", SourceState.FAILED)
        assert f"{wait} s" in (box.told["gpu"].reason or "") and box.state() is SourceState.FAILED
        assert len(lives.read_text().split()) == life
        await box.look(after=wait - 1)
        await asyncio.sleep(0.02)
        assert len(lives.read_text().split()) == life
        await box.look(after=1)
        for _ in range(100):
            await asyncio.sleep(0.01)
            if len(lives.read_text().split()) > life:
                break
    await box.source.close()


async def test_sysfs_takes_over_again_when_it_may_be_read(tmp_path: Path, command: Path) -> None:
    device = build(tmp_path)
    speak(command)
    box = Box(tmp_path)
    box.host.refused = {str(path.relative_to(device)): errno.EPERM for path in device.rglob("*")}
    (gpu,) = await box.look()
    assert gpu.source == "amdgpu_top" and box.told["gpu"].name == "amdgpu_top"
    assert "gpu_metrics" not in box.told
    box.host.refused = {}
    (gpu,) = await box.look(after=3)
    assert gpu.source == "amdgpu_top"
    (gpu,) = await box.look(after=8)
    assert gpu.source == "sysfs" and box.state("amdgpu_top") is SourceState.UNUSED
    await box.source.close()
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_another_source_is_elected_when_sysfs_stays_refused(tmp_path: Path, command: Path) -> None:
    """One after the other: the next is not started while one may still have its say."""
    device = build(tmp_path)
    speak(command)
    box = Box(tmp_path)
    for _ in range(4):
        await box.look(after=8)
    box.host.refused = {str(path.relative_to(device)): errno.EPERM for path in device.rglob("*")}
    await box.look(after=3)
    assert box.state("amdgpu_top") is SourceState.UNUSED  # it may be a reset
    await box.look(after=8)
    assert box.state("amdgpu_top") is SourceState.NO_DATA and box.state("amdsmi") is SourceState.UNUSED
    (gpu,) = await until(box, "gpu", SourceState.OK)
    assert gpu.source == "amdgpu_top" and box.state("amdsmi") is SourceState.UNUSED
    await box.source.close()
