"""CPU, disks and network from files: what counts, what is left out, and what garbage costs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from box_tree import SYSTEM, write
from halotui.collectors.system import Counters, Disk, Network, SystemReading, _cpu, _disk, _whole
from halotui.hosts.local import LocalHost
from halotui.model import SourceState, Unavailable


def counters(root: Path) -> Counters:
    found = Counters(LocalHost(root / "sys", root / "proc"))
    found.search()
    return found


def test_a_box(tmp_path: Path) -> None:
    """Nothing is counted twice: the mapper's disk, the second path, loopback and zram are no devices."""
    assert counters(write(tmp_path, SYSTEM)).read() == SystemReading(
        cpu_busy_ticks=1250,  # guest time, 40, is part of user
        cpu_ticks=9350,
        cpus=2,
        cpu_temperature_celsius=48.625,
        load_1m=1.25,
        memory_pressure_percent=3.5,
        io_pressure_percent=0.25,
        swapped_in_pages=100,
        swapped_out_pages=7,
        oom_kills=2,
        disks={
            "nvme0n1": Disk(read_bytes=512000, written_bytes=1024000, busy_milliseconds=500),
            "sda": Disk(read_bytes=5120, written_bytes=1024000, busy_milliseconds=5),
        },
        networks={
            "eth0": Network(received_bytes=5000, sent_bytes=7000),
            "wlan0": Network(received_bytes=100, sent_bytes=100),
        },
    )


def test_each_file_costs_itself_alone(tmp_path: Path) -> None:
    """A container without sysfs, a kernel without pressure, a thermometer gone mad."""
    looker = counters(write(tmp_path, SYSTEM))
    whole = looker.read()
    parts = SystemReading.__struct_fields__
    for name, content in SYSTEM.items():
        for garbage in (b"", b"\xff\x00 ten\n", b"-1\n"):
            (tmp_path / name).write_bytes(garbage)
            now = looker.read()
            lost = [part for part in parts if getattr(now, part) != getattr(whole, part)]
            assert len(lost) <= (3 if name in ("proc/stat", "proc/vmstat") else 1)
        (tmp_path / name).write_text(content)
    (tmp_path / "sys/class/net/eth0/statistics/tx_bytes").unlink()
    assert set(looker.read().networks) == {"wlan0"}


def test_nothing_at_all(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        counters(tmp_path).read()
    assert caught.value.state is SourceState.ABSENT


def test_a_device_that_comes_is_found_by_the_next_search(tmp_path: Path) -> None:
    looker = counters(write(tmp_path, SYSTEM))
    write(tmp_path, {"sys/block/sdb/stat": SYSTEM["sys/block/sda/stat"], "sys/block/sdb/device/model": "x"})
    assert "sdb" not in looker.read().disks
    looker.search()
    assert "sdb" in looker.read().disks


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=80) | st.lists(st.integers(0, 10**25)).map(lambda n: b"cpu  %b\n" % str(n).encode())
)
def test_any_bytes_give_a_number_or_none(data: bytes) -> None:
    busy, ticks, _cpus = _cpu(data)
    assert busy is None or (ticks is not None and 0 <= busy <= ticks)
    assert (_whole(data) or 0) >= 0
    assert _disk(data) is None or data.split()[9].isdigit()


def test_this_very_box() -> None:
    looker = Counters(LocalHost())
    looker.search()
    now = looker.read()
    assert now.cpus and now.cpus <= (os.cpu_count() or 0)
    assert now.cpu_ticks and now.load_1m is not None and now.oom_kills is not None
