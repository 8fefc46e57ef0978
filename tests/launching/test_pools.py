"""The memory that models go to: of the GPU where there is one, else the RAM; never an exception."""

from __future__ import annotations

import re
from pathlib import Path

from halotui.collectors import memory
from halotui.demo.tree import GIB, GTT_TOTAL, MODEL_BYTES, VRAM_FULL, VRAM_TOTAL, Load, Tree
from halotui.hosts.local import LocalHost
from halotui.servers.pools import headroom, pool_bytes, pool_total


def host_of(root: Path, load: Load) -> LocalHost:
    tree = Tree(root)
    for second in range(20):
        tree.update(load, second)
    return LocalHost(tree.sysfs, tree.procfs)


def test_gtt_and_carve_out_are_one_pool(tmp_path: Path) -> None:
    host = host_of(tmp_path, Load())
    assert pool_bytes(host) == MODEL_BYTES + VRAM_FULL
    assert pool_total(host) == GTT_TOTAL + VRAM_TOTAL
    assert headroom(host) == GTT_TOTAL - MODEL_BYTES


def test_ram_can_run_out_first(tmp_path: Path) -> None:
    host = host_of(tmp_path, Load())
    lines = (host.procfs / "meminfo").read_text()
    scarce = re.sub(r"MemAvailable: +\d+", f"MemAvailable: {GIB // 1024}", lines)
    (host.procfs / "meminfo").write_text(scarce)
    assert headroom(host) == GIB


def test_a_large_carve_out_counts(tmp_path: Path) -> None:
    host = host_of(tmp_path, Load())
    device = host.sysfs / "class/drm/card1/device"
    (device / "mem_info_vram_total").write_text(f"{96 * GIB}\n")
    assert headroom(host) == 96 * GIB - VRAM_FULL


def test_without_a_gpu_it_is_the_ram(tmp_path: Path) -> None:
    host_of(tmp_path, Load())
    host = LocalHost(tmp_path / "nothing", tmp_path / "procfs")
    now = memory.read(host)
    assert now.available_bytes is not None
    assert pool_bytes(host) == now.total_bytes - now.available_bytes
    assert pool_total(host) == now.total_bytes
    assert headroom(host) == now.available_bytes


def test_garbled_and_missing_are_none(tmp_path: Path) -> None:
    host = host_of(tmp_path, Load())
    for path in (host.sysfs / "class/drm/card1/device").glob("mem_info_*"):
        path.write_text("much\n")
    (host.procfs / "meminfo").unlink()
    assert pool_bytes(host) is pool_total(host) is headroom(host) is None
