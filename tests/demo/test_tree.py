"""The tree: real formats, real magnitudes, the same for the same load, and whole at every moment."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from halotui.collectors import fdinfo, process_use
from halotui.demo import kernel_words
from halotui.demo.chip import REST
from halotui.demo.counters import DISK_BYTES_PER_SECOND
from halotui.demo.machine import GTT_TOTAL
from halotui.demo.tenants import Tenant
from halotui.demo.tree import DESKTOP, GIB, GTT_REST, MODEL_BYTES, VRAM_FULL, Load, Tree, scratch
from halotui.hosts.local import LocalHost

PREFILL, DECODE, IDLE = Load(prefilling=1, tokens=900), Load(decoding=2, tokens=3000), Load()
METRICS = "<HBB2H16HH2H8H16H4H2xQIH2x4I16H3H8H16H2H2x7II4x"


def files(tree: Tree) -> dict[str, bytes]:
    root = tree.sysfs.parent
    paths = [*tree.sysfs.rglob("*"), *tree.procfs.rglob("*"), root / "dev/kmsg"]
    return {str(p.relative_to(root)): p.read_bytes() for p in paths if p.is_file() and not p.is_symlink()}


def number(tree: Tree, name: str) -> int:
    return int((tree.sysfs / "class/drm/card1/device" / name).read_text())


def meminfo(tree: Tree) -> dict[str, int]:
    lines = (tree.procfs / "meminfo").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def play(tree: Tree, *loads: Load, start: float = 0.0) -> float:
    """Ten seconds of each load, at the box's own pace; when it ended."""
    for load in loads:
        for _ in range(20):
            tree.update(load, start)
            start += 0.5
    return start


def test_the_same_loads_give_the_same_files(tmp_path: Path) -> None:
    trees = [Tree(tmp_path / name, seed=5) for name in "ab"]
    for tree in trees:
        play(tree, IDLE, PREFILL, DECODE)
    assert files(trees[0]) == files(trees[1])
    other = Tree(tmp_path / "c", seed=6)
    play(other, IDLE, PREFILL, DECODE)
    assert files(other) != files(trees[0])


def test_at_rest(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    play(tree, IDLE)
    assert number(tree, "gpu_busy_percent") <= 2
    assert number(tree, "hwmon/hwmon5/temp1_input") == 36000
    assert 10_500_000 < number(tree, "hwmon/hwmon5/power1_average") < 11_500_000
    assert number(tree, "hwmon/hwmon5/freq1_input") == pytest.approx(REST.sclk * 1e6, rel=0.02)
    assert number(tree, "mem_info_gtt_used") == MODEL_BYTES
    assert 0.8 < number(tree, "mem_info_vram_used") / number(tree, "mem_info_vram_total") < 1


def test_at_work_and_afterwards(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    now = play(tree, PREFILL)
    assert 95 <= number(tree, "gpu_busy_percent") <= 99
    assert 100e6 < number(tree, "hwmon/hwmon5/power1_input") < 120e6
    warm = number(tree, "hwmon/hwmon5/temp1_input")
    assert 45_000 < warm < 75_000
    assert (tree.device / "pp_dpm_mclk").read_text() == "0: 1000Mhz *\n1: 800Mhz \n2: 400Mhz \n"
    tree.update(IDLE, now)
    assert 60e6 < number(tree, "hwmon/hwmon5/power1_input") < 100e6  # power has inertia
    play(tree, IDLE, start=now)
    assert number(tree, "hwmon/hwmon5/power1_input") < 12e6
    assert 36_000 < number(tree, "hwmon/hwmon5/temp1_input") < warm  # heat has more


def test_memory_is_one(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    play(tree, IDLE)
    before, used = meminfo(tree), number(tree, "mem_info_gtt_used")
    play(tree, DECODE, start=10)
    after, grown = meminfo(tree), number(tree, "mem_info_gtt_used") - used
    assert grown > GIB // 4
    assert before["MemAvailable"] - after["MemAvailable"] == pytest.approx(grown, abs=1024)
    for now in (before, after):
        assert now["MemFree"] + now["Buffers"] + now["Cached"] == pytest.approx(now["MemAvailable"], abs=4096)


def test_pressure(tmp_path: Path) -> None:
    tree = Tree(tmp_path, pressure=True)
    tree.update(IDLE, 100.0)
    assert number(tree, "mem_info_gtt_used") == MODEL_BYTES
    play(tree, DECODE, DECODE, start=100.5)
    assert number(tree, "mem_info_gtt_used") / GTT_TOTAL == pytest.approx(0.98, abs=0.005)
    now = meminfo(tree)
    assert 0 < now["MemAvailable"] < 4 * GIB
    assert now["SwapFree"] < now["SwapTotal"]
    assert all(value >= 0 for value in now.values())


def test_gpu_metrics_table(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    play(tree, DECODE)
    table = (tree.device / "gpu_metrics").read_bytes()
    values = struct.unpack(METRICS, table)
    assert values[:3] == (264, 3, 0)
    assert struct.unpack_from("<I", table, 112)[0] == pytest.approx(
        number(tree, "hwmon/hwmon5/power1_input") / 1000, abs=1
    )
    assert struct.unpack_from("<H", table, 42)[0] == number(tree, "gpu_busy_percent")
    assert struct.unpack_from("<H", table, 4)[0] == pytest.approx(
        number(tree, "hwmon/hwmon5/temp1_input") / 10, abs=51
    )
    assert struct.unpack_from("<H", table, 174)[0] * 10**6 == number(tree, "hwmon/hwmon5/freq1_input")
    assert struct.unpack_from("<H", table, 170)[0] == 0xFFFF


def test_clock_tables_look_as_the_kernels(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    seen = set()
    for step in range(12):
        tree.update(DECODE if step < 6 else IDLE, step / 2)
        rows = (tree.device / "pp_dpm_sclk").read_text().splitlines()
        assert len(rows) == 3
        assert all(re.fullmatch(r"\d: \d+Mhz \*?", row) for row in rows)
        assert sum(row.endswith("*") for row in rows) == 1
        seen.add(rows[1])
    assert len(seen) > 3


def test_links(tmp_path: Path) -> None:
    tree = Tree(tmp_path, pid=os.getpid())
    tree.update(IDLE, 0)
    drm = tree.sysfs / "class/drm"
    assert sorted(path.name for path in drm.iterdir()) == ["card1", "card1-DP-1", "renderD128"]
    assert (drm / "card1/device").resolve() == (drm / "renderD128/device").resolve() == tree.device.resolve()
    assert "PCI_SLOT_NAME=0000:c5:00.0\n" in (drm / "card1/device/uevent").read_text()
    ours, real = (
        path.read_text().split() for path in (tree.procfs / f"{os.getpid()}/stat", Path("/proc/self/stat"))
    )
    assert (ours[:6], ours[21]) == (real[:6], real[21])  # its counters go on meanwhile
    assert "btime" in (tree.procfs / "stat").read_text()
    assert (tree.procfs / "net/tcp").exists()


def test_psutil_reads_it(tmp_path: Path) -> None:
    """In a process of its own: PROCFS_PATH is psutil's global."""
    tree = Tree(tmp_path, pid=os.getpid())
    tree.update(DECODE, 0)
    code = """
import sys, warnings, psutil
warnings.simplefilter("error")
psutil.PROCFS_PATH, pid = sys.argv[1], int(sys.argv[2])
print(psutil.virtual_memory().available, psutil.swap_memory().used, psutil.Process(pid).cmdline()[0])
"""
    argv = [sys.executable, "-c", code, str(tree.procfs), str(os.getpid())]
    available, swap, name = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    assert int(available) == meminfo(tree)["MemAvailable"]
    assert swap == "0"
    assert Path(name).name.startswith(("python", "pytest"))


def test_readers_see_whole_files(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.update(IDLE, 0)
    torn, done = [], threading.Event()

    def read() -> None:
        while not done.is_set():
            table = (tree.device / "gpu_metrics").read_bytes()
            if len(table) != 264 or "SwapFree" not in (tree.procfs / "meminfo").read_text():
                torn.append(table)

    reader = threading.Thread(target=read)
    reader.start()
    play(tree, DECODE, PREFILL, IDLE)
    done.set()
    reader.join()
    assert not torn


def test_hang_blocks_a_reader_until_recovery(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.update(IDLE, 0)
    tree.hang()
    came_back = threading.Event()
    for name in ("gpu_metrics", "gpu_busy_percent"):

        def read(path: Path = tree.device / name) -> None:
            path.read_bytes()
            came_back.set()

        threading.Thread(target=read, daemon=True).start()
    assert not came_back.wait(0.5)
    assert number(tree, "mem_info_gtt_used") == MODEL_BYTES  # the others still answer
    tree.recover()
    assert came_back.wait(5)
    tree.update(IDLE, 1)
    assert number(tree, "gpu_busy_percent") <= 2


def test_scratch_wants_room() -> None:
    assert scratch(1).is_dir()
    assert scratch(1 << 60) != Path("/dev/shm")


def held(tree: Tree, pid: int) -> tuple[int, int]:
    """GTT and VRAM that its fdinfo tells."""
    share = fdinfo.read((tree.procfs / f"{pid}/fdinfo/99").read_bytes())
    assert share is not None
    return share.held


def test_nothing_is_unowned(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    first, second = os.getpid(), os.getppid()
    tree.house({first: Tenant(3 * GIB), second: Tenant(GIB, counted=False)})
    play(tree, DECODE)
    pids = (first, second, DESKTOP)
    gtt, vram = (sum(pool) for pool in zip(*(held(tree, pid) for pid in pids), strict=True))
    assert gtt == number(tree, "mem_info_gtt_used")
    assert 0 <= number(tree, "mem_info_vram_used") - vram <= 64 << 20  # the firmware's
    assert held(tree, first)[0] == pytest.approx(3 * held(tree, second)[0])
    host = LocalHost(tree.sysfs, tree.procfs)
    before = process_use.read(host, first).gpu_seconds
    play(tree, DECODE, start=10)
    after = process_use.read(host, first).gpu_seconds
    assert before and after and after - before == pytest.approx(0.93 * 10 / 2, rel=0.1)  # two at work
    assert process_use.read(host, second).gpu_seconds is None  # ROCm's is not counted


def test_a_process_is_the_kernels_but_for_the_gpu(tmp_path: Path) -> None:
    tree, me = Tree(tmp_path, pid=os.getpid()), os.getpid()
    tree.update(IDLE, 0)
    place, real = tree.procfs / str(me), Path(f"/proc/{me}")
    for name in ("comm", "status", "cmdline", "cgroup", "limits"):
        assert (place / name).exists() and (place / name).resolve() == (real / name).resolve()
    assert (place / "cwd").readlink() == Path.cwd()
    assert (place / "ns/net").readlink() == (real / "ns/net").readlink()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        tree.house({me: Tenant(MODEL_BYTES)})
        port = listening.getsockname()[1]
        host = LocalHost(tree.sysfs, tree.procfs)
        (found,) = host.processes((), (port,))
        assert (found.pid, port in found.ports) == (me, True)
        assert (place / "fd/99").readlink() == Path("/dev/dri/renderD128")
        gone = f"socket:[{os.fstat(listening.fileno()).st_ino}]"
        assert gone in {str(link.readlink()) for link in (place / "fd").iterdir()}
    tree.house({me: Tenant(MODEL_BYTES)})
    assert gone not in {str(link.readlink()) for link in (place / "fd").iterdir()}
    tree.house({})
    assert not place.exists()
    tree.house({me: Tenant(MODEL_BYTES)})  # it may come back
    tree.update(IDLE, 0)
    assert held(tree, me) == (MODEL_BYTES - GTT_REST, VRAM_FULL - (96 << 20))


def test_a_pid_that_the_desktop_has_goes_to_who_really_has_it(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree._tenants._homes[os.getpid()] = tree._tenants._homes.pop(DESKTOP)
    (tree.procfs / str(DESKTOP)).rename(tree.procfs / str(os.getpid()))
    tree.house({os.getpid(): Tenant(MODEL_BYTES)})
    assert (tree.procfs / f"{os.getpid()}/stat").is_symlink()


def test_limiters_tick_at_full_power_alone(tmp_path: Path) -> None:
    tree = Tree(tmp_path)

    def limiters() -> tuple[int, int]:
        fast, slow = struct.unpack_from("<II", (tree.device / "gpu_metrics").read_bytes(), 236)
        return fast, slow

    now = play(tree, IDLE)
    still = limiters()
    assert all(still)
    now = play(tree, DECODE, start=now)
    assert limiters() == still
    limits = set()
    for step in range(40):
        tree.update(PREFILL, now + step / 2)
        limits.add(struct.unpack_from("<H", (tree.device / "gpu_metrics").read_bytes(), 224)[0])
    assert limiters() > still and limiters()[1] > still[1]
    assert max(limits) == 2900 and 2700 < min(limits) < 2900
    table = struct.unpack(METRICS, (tree.device / "gpu_metrics").read_bytes())
    assert set(table[24:32]) == {0xFFFF}  # no NPU: the IOMMU is off


def test_a_model_that_loads_is_read(tmp_path: Path) -> None:
    tree = Tree(tmp_path)

    def sectors() -> int:
        return int((tree.sysfs / "block/nvme0n1/stat").read_text().split()[2])

    tree.update(Load(models=0.0), 0)
    before = sectors()
    tree.update(Load(models=0.05), 1)
    assert (sectors() - before) * 512 == pytest.approx(MODEL_BYTES * 0.05, rel=0.01)
    before = sectors()
    tree.update(Load(models=1.0), 2)
    assert (sectors() - before) * 512 == pytest.approx(DISK_BYTES_PER_SECOND, rel=0.01)
    assert "avg10=0.00" not in (tree.procfs / "pressure/io").read_text()
    assert not (tree.sysfs / "block/loop0/device").exists()


def test_the_kernel_tells_of_a_hang_and_of_its_end(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.update(IDLE, 0)
    log = tree.sysfs.parent / "dev/kmsg"
    boot = log.read_text()
    tree.say(kernel_words.hang(4711))
    tree.hang()
    tree.recover()
    tree.recover()
    rows = log.read_text().removeprefix(boot).splitlines()
    assert [re.sub(r"^\d,\d+,\d+,-;amdgpu 0000:c5:00.0: amdgpu: ", "", row) for row in rows] == [
        "ring comp_1.1.0 timeout, signaled seq=23114, emitted seq=23116",
        " Process llama-server pid 4711 thread llama-server:cs0 pid 4725",
        "Ring comp_1.1.0 reset failed",
        "GPU reset begin!",
        "GPU reset(1) succeeded!",
        "[drm] device wedged, but recovered through reset",
    ]
    numbers = [int(row.split(",")[1]) for row in log.read_text().splitlines()]
    assert numbers == list(range(len(numbers)))
    up = float(Path("/proc/uptime").read_text().split()[0])
    assert int(rows[0].split(",")[2]) / 1e6 == pytest.approx(up, abs=2)
