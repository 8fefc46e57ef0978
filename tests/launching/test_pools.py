"""The memory that models go to: of the GPU where there is one, else the RAM; never an exception."""

from __future__ import annotations

from pathlib import Path

from halotui.collectors import memory
from halotui.demo.tree import MODEL_BYTES, VRAM_FULL, Load, Tree
from halotui.hosts.local import LocalHost
from halotui.servers.pools import pool_bytes


def host_of(root: Path, load: Load) -> LocalHost:
    tree = Tree(root)
    for second in range(20):
        tree.update(load, second)
    return LocalHost(tree.sysfs, tree.procfs)


def test_gtt_and_carve_out_are_one_pool(tmp_path: Path) -> None:
    host = host_of(tmp_path, Load())
    assert pool_bytes(host) == MODEL_BYTES + VRAM_FULL


def test_one_garbled_pool_leaves_the_other(tmp_path: Path) -> None:
    host = host_of(tmp_path, Load())
    (host.sysfs / "class/drm/card1/device/mem_info_vram_used").write_text("much\n")
    assert pool_bytes(host) == MODEL_BYTES


def test_without_a_gpu_it_is_the_ram(tmp_path: Path) -> None:
    host_of(tmp_path, Load())
    host = LocalHost(tmp_path / "nothing", tmp_path / "procfs")
    now = memory.read(host)
    assert now.available_bytes is not None
    assert pool_bytes(host) == now.total_bytes - now.available_bytes


def test_garbled_and_missing_are_none(tmp_path: Path) -> None:
    host = host_of(tmp_path, Load())
    for path in (host.sysfs / "class/drm/card1/device").glob("mem_info_*"):
        path.write_text("much\n")
    (host.procfs / "meminfo").unlink()
    assert pool_bytes(host) is None
