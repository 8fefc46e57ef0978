"""Rates by the clock, values that hold, and two sources of which neither can harm the other."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from box_tree import DISK, STAT, SYSTEM, VMSTAT, write
from halotui.hosts.local import LocalHost
from halotui.model import Source, SourceState, System
from halotui.sampler.clock import Clock
from halotui.sampler.system import SEARCH_EVERY, SystemWatch


class Box:
    def __init__(self, root: Path) -> None:
        self.root, self.now = write(root, SYSTEM), 1000.0
        clock = Clock(monotonic=lambda: self.now, wall=lambda: self.now)
        self.watch = SystemWatch(LocalHost(root / "sys", root / "proc"), clock)

    async def after(self, seconds: float, changed: dict[str, str] | None = None) -> System:
        self.now += seconds
        write(self.root, changed or {})
        await self.watch.read()
        assert self.watch.system
        return self.watch.system

    def source(self, id_: str) -> Source:
        return {source.id: source for source in self.watch.sources()}[id_]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


NEXT = {
    "proc/stat": STAT.format(user=1750).replace(" 8000 ", " 8250 "),
    "proc/vmstat": VMSTAT.format(swapped=110),
    "sys/block/nvme0n1/stat": DISK.format(read=9000, busy=500),
    "sys/block/sda/stat": DISK.format(read=10, busy=1005),
    "sys/class/net/wlan0/statistics/rx_bytes": "40100\n",
}


async def test_rates_are_those_between_two_looks(box: Box) -> None:
    first = await box.after(0)
    assert (first.cpus, first.cpu_temperature_celsius, first.oom_kills) == (2, 48.625, 2)
    assert first.cpu_busy_percent is first.disk is first.network is first.swap_in_bytes_per_second is None
    assert await box.after(2, NEXT) == System(
        cpu_busy_percent=pytest.approx(100 * 750 / 1000),
        cpus=2,
        cpu_temperature_celsius=48.625,
        load_1m=1.25,
        memory_pressure_percent=3.5,
        io_pressure_percent=0.25,
        swap_in_bytes_per_second=20480.0,
        swap_out_bytes_per_second=0.0,
        oom_kills=2,
        disk="sda",  # slow, and at work half of the time
        disk_busy_percent=50.0,
        disk_read_bytes_per_second=8000 * 512 / 2,
        disk_write_bytes_per_second=0.0,
        network="wlan0",
        network_receive_bytes_per_second=20000.0,
        network_send_bytes_per_second=0.0,
    )


async def test_values_hold_between_looks_and_memory_is_read_each_time(box: Box) -> None:
    await box.after(0)
    seen = await box.after(1, NEXT)  # soon, so that there are rates
    meminfo = SYSTEM["proc/meminfo"].replace("60000000", "50000000")
    assert await box.after(1, {"proc/loadavg": "9.00 ", "proc/meminfo": meminfo}) is seen
    assert box.watch.memory and box.watch.memory.available_bytes == 50000000 * 1024
    assert box.source("system").age_seconds == 1 and box.source("memory").age_seconds == 0
    assert (await box.after(1)).load_1m == 9.0


async def test_a_disk_at_rest_is_the_one_that_works_most(box: Box) -> None:
    await box.after(0)
    idle = await box.after(2)
    assert (idle.disk, idle.disk_busy_percent, idle.network) == ("nvme0n1", 0.0, "eth0")


async def test_what_goes_back_is_unknown_for_one_look(box: Box) -> None:
    """A card that was reset; the rest of that look stands."""
    await box.after(0)
    await box.after(2)
    back = await box.after(2, {"sys/class/net/eth0/statistics/rx_bytes": "3\n", **NEXT})
    assert back.network is back.network_receive_bytes_per_second is None
    assert back.disk == "sda" and back.cpu_busy_percent is not None
    assert (await box.after(2)).network_receive_bytes_per_second == 0.0
    less = {"proc/stat": STAT.format(user=5), "proc/vmstat": VMSTAT.format(swapped=1)}
    gone = await box.after(2, less)
    assert gone.cpu_busy_percent is gone.swap_in_bytes_per_second is None


async def test_a_disk_that_comes_brings_no_burst(box: Box) -> None:
    await box.after(0)
    await box.after(2)
    new = {"sys/block/sdb/stat": DISK.format(read=10**9, busy=1), "sys/block/sdb/device/model": "x"}
    assert (await box.after(SEARCH_EVERY, new)).disk is None
    assert (await box.after(2)).disk_read_bytes_per_second == 0.0


async def test_each_fails_alone(box: Box) -> None:
    await box.after(0)
    (box.root / "proc/meminfo").write_text("?")
    await box.after(2)
    assert box.watch.memory is None and box.source("memory").state is SourceState.FAILED
    assert box.source("memory").age_seconds == 2 and box.source("system").state is SourceState.OK
    write(box.root, SYSTEM)
    (box.root / "sys").rename(box.root / "gone")
    for name in ("stat", "loadavg", "vmstat", "pressure"):
        (box.root / "proc" / name).rename(box.root / name)
    box.now += 2
    await box.watch.read()
    assert box.watch.system is None and box.source("system").state is SourceState.ABSENT
    assert box.watch.memory is not None and box.source("memory").state is SourceState.OK


@pytest.mark.parametrize(
    ("hung", "goes_on", "path"),
    [("system", "memory", "sys/block/nvme0n1/stat"), ("memory", "system", "proc/meminfo")],
)
async def test_what_hangs_leaves_the_other(box: Box, hung: str, goes_on: str, path: str) -> None:
    """A FIFO blocks its reader, as a driver in trouble does."""
    await box.after(0)
    before = (box.root / path).read_text()
    (box.root / path).unlink()
    os.mkfifo(box.root / path)
    for _ in range(3):
        box.now += 2
        began = time.monotonic()
        await box.watch.read()
        assert time.monotonic() - began < 2
        assert box.source(hung).state is SourceState.HUNG and getattr(box.watch, hung) is None
    assert box.source(hung).age_seconds == 6
    assert box.source(goes_on).state is SourceState.OK and getattr(box.watch, goes_on) is not None
    held = os.open(box.root / path, os.O_RDWR)  # lets the reader in, and then out
    (box.root / path).unlink()
    write(box.root, {path: before})
    os.close(held)
    for _ in range(50):
        box.now += 2
        await box.watch.read()
        if box.source(hung).state is SourceState.OK:
            break
        await asyncio.sleep(0.05)
    assert getattr(box.watch, hung) is not None


async def test_this_very_box() -> None:
    watch = SystemWatch(LocalHost(), Clock())
    await watch.read()
    assert [source.state for source in watch.sources()] == [SourceState.OK] * 2
    assert watch.memory and watch.system and watch.system.cpus
