"""Who holds GPU memory, from trees of files as kernels old and new write them, and from this box's /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from halotui.collectors import fdinfo, gpu_clients
from halotui.collectors.holders import Look, Scan
from halotui.hosts.local import LocalHost
from proc_tree import GIB, OLD, SLOT, Box, told

CARD = "0000:03:00.0"


def held(look: Look) -> dict[int, tuple[float, float]]:
    """GTT and VRAM in GiB, by pid."""
    return {
        use.pid: (sum(s.held[0] for s in use.shares) / GIB, sum(s.held[1] for s in use.shares) / GIB)
        for use in look.uses
    }


def test_each_client_counts_once_over_all_processes(tmp_path: Path) -> None:
    box = Box(tmp_path, {SLOT: 10})
    box.process(200, ticks=5)  # the parent: older, though its pid is higher
    box.opens(200, fd3=told(1, 4, 0.5), fd4=told(1, 4, 0.5), fd5=told(2, 3, era=OLD), fd6="")
    box.process(100, ticks=9)  # its child has inherited two of them
    box.opens(100, fd3=told(1, 4, 0.5), fd4=told(1, 4, 0.5), fd9=told(3, 1))
    look = Scan(box.host).look(0.0)
    assert held(look) == {200: (7, 0.5), 100: (1, 0)}
    assert look.gtt_bytes == {SLOT: 8 * GIB} and look.used_bytes == {SLOT: 10 * GIB}
    assert look.gpu and not look.hidden and not look.silent


def test_who_was_handed_a_client_and_uses_it_has_it(tmp_path: Path) -> None:
    """As a session's daemon opens the card for the compositor."""
    box = Box(tmp_path, {SLOT: 1})
    box.process(10, "systemd-logind")
    box.opens(10, fd20=told(1, 1))
    box.process(50, "kwin_wayland")
    box.opens(50, fd3=told(1, 1), fd4=told(1, 1))
    assert held(Scan(box.host).look(0.0)) == {50: (1, 0)}


def test_two_gpus_and_drivers_that_are_not_ours(tmp_path: Path) -> None:
    box = Box(tmp_path, {SLOT: 5, CARD: 1})
    box.process(10)
    box.opens(10, fd3=told(1, 5), fd4=told(1, 1, 20, slot=CARD), fd5=told(9, 30).replace("amdgpu", "i915"))
    look = Scan(box.host).look(0.0)
    assert held(look) == {10: (6, 20)} and look.gtt_bytes == {SLOT: 5 * GIB, CARD: GIB}
    assert look.used_bytes == {SLOT: 5 * GIB, CARD: GIB}


@pytest.mark.parametrize(
    ("size", "bytes_"), [("7 GiB", 7 * GIB), ("7 MiB", 7 << 20), ("7", 7), ("9" * 5000 + " KiB", None)]
)
def test_units_and_nonsense(size: str, bytes_: int | None) -> None:
    share = fdinfo.read(f"drm-client-id:\t1\ndrm-memory-gtt:\t{size}\n".encode())
    assert (share and share.held[0]) == bytes_


def test_engines_apart() -> None:
    told_ = b"drm-memory-gtt: 1 KiB\ndrm-engine-gfx:\t1500000000 ns\ndrm-engine-capacity-gfx:\t2\n"
    share = fdinfo.read(told_ + b"drm-engine-compute: x ns\n")
    assert share is not None and share.engines == {b"gfx": 1.5} and share.engine_seconds == 1.5


def test_of_many_descriptors(tmp_path: Path) -> None:
    box = Box(tmp_path, {SLOT: 1})
    box.process(10, "browser")
    for fd in range(600):
        (box.proc / f"10/fd/{fd}").symlink_to(f"socket:[{fd}]")
    box.opens(10, fd600=told(1, 1))
    look = Scan(box.host).look(0.0)
    assert held(look) == {10: (1, 0)} and not look.silent


def test_more_than_are_looked_at_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_clients, "MOST", 2)
    box = Box(tmp_path, {SLOT: 1})
    box.process(10)
    box.opens(10, fd1="", fd2="", fd3="")
    assert Scan(box.host).look(0.0).silent


def test_what_rocm_holds_untold_is_said(tmp_path: Path) -> None:
    box = Box(tmp_path, {SLOT: 9})
    box.process(10)
    box.open(10, 3, target="/dev/kfd")
    scan = Scan(box.host)
    assert scan.look(0.0).silent
    box.opens(10, fd4=told(1, 9))
    assert not scan.look(200.0).silent


@pytest.mark.parametrize("what", ["fd", "fdinfo"])
def test_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Root sees everything: the refusal is played."""
    box = Box(tmp_path, {SLOT: 60})
    box.process(10, rss=2)
    box.opens(10, fd3=told(1, 60))
    box.process(2, "kworker", flags=0x00200000)  # holds none, whatever its directory says
    box.process(11, "zombie", state="Z")
    closed = [f"{box.proc}/{pid}/fd" for pid in (2, 10, 11)]
    listdir, open_ = os.listdir, os.open

    def refuses(path: str) -> list[str]:
        if what == "fd" and path in closed:
            raise PermissionError
        return listdir(path)

    def refuses_file(path: str, flags: int) -> int:
        if what == "fdinfo" and str(path).startswith(f"{box.proc}/10/fdinfo/"):
            raise PermissionError
        return open_(path, flags)

    monkeypatch.setattr(os, "listdir", refuses)
    monkeypatch.setattr(os, "open", refuses_file)
    look = Scan(box.host).look(0.0, [10])
    assert look.hidden == 1 and [(use.pid, use.hidden, use.shares) for use in look.uses] == [(10, True, ())]


def test_a_process_that_ends_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(tmp_path, {SLOT: 3})
    for pid in (10, 11, 12):
        box.process(pid)
        box.opens(pid, fd3=told(pid, 1))
    readlink = os.readlink

    def ends(path: str) -> str:
        target = readlink(path)
        if path == f"{box.proc}/11/fd/3":
            box.ends(11)
        return target

    monkeypatch.setattr(os, "readlink", ends)
    scan = Scan(box.host)
    assert held(scan.look(0.0)) == {10: (1, 0), 12: (1, 0)}
    box.ends(10)
    assert held(scan.look(2.0)) == {12: (1, 0)}


def test_a_descriptor_that_becomes_another_client(tmp_path: Path) -> None:
    box = Box(tmp_path, {SLOT: 3})
    box.process(10)
    box.opens(10, fd3=told(1, 1), fd4=told(1, 1))
    scan = Scan(box.host)
    assert held(scan.look(0.0)) == {10: (1, 0)}
    box.opens(10, fd3=told(2, 2))  # 4 still is of the first
    assert held(scan.look(2.0)) == {10: (3, 0)}
    box.opens(10, fd3=told(2, 2), fd4=told(3, 0.1))
    assert held(scan.look(14.0))[10][0] == pytest.approx(2.1)


def test_a_new_process_is_found_and_one_that_flits_by_is_not_looked_at(tmp_path: Path) -> None:
    box = Box(tmp_path, {SLOT: 0.1})
    scan = Scan(box.host)
    scan.look(0.0)
    box.process(10)
    box.opens(10, fd3="")
    scan.look(6.0)
    assert "10" not in scan._seen  # it has lived for one look
    scan.look(12.0)
    box.opens(10, fd3=told(1, 0.1))  # opened in its first seconds
    assert list(held(scan.look(14.0))) == [10]


def test_who_has_run_since_is_looked_into_and_no_other(tmp_path: Path) -> None:
    box = Box(tmp_path, {SLOT: 0.1})
    for pid in (10, 11):
        box.process(pid)
    scan = Scan(box.host)
    scan.look(0.0)
    box.opens(10, fd3=told(1, 0.1))
    box.opens(11, fd3=told(2, 0.1))
    box.process(11, cpu=5.0)
    assert list(held(scan.look(200.0))) == [11]


def test_a_server_is_told_at_once_and_in_any_case(tmp_path: Path) -> None:
    box = Box(tmp_path, {SLOT: 0})
    scan = Scan(box.host)
    scan.look(0.0)
    box.process(10, rss=0.2)
    assert held(scan.look(1.0, [10, 99])) == {10: (0, 0)}
    assert held(scan.look(2.0)) == {}


def test_memory_that_turns_up_leads_to_a_look_at_everybody(tmp_path: Path) -> None:
    """An old process takes the GPU, long after anybody looked at its descriptors."""
    box = Box(tmp_path, {SLOT: 1})
    box.process(10, "python3")
    scan = Scan(box.host)
    for now in (0.0, 130.0, 136.0):
        assert held(scan.look(now)) == {}
    box.opens(10, fd3=told(1, 20))
    assert held(scan.look(138.0)) == {}  # not its turn
    box.use(21)
    assert held(scan.look(140.0)) == {10: (20, 0)}


def test_the_pid_of_another_process(tmp_path: Path) -> None:
    box = Box(tmp_path, {SLOT: 1})
    box.process(10, ticks=5)
    box.opens(10, fd3=told(1, 1))
    scan = Scan(box.host)
    assert scan.look(0.0).uses[0].ticks == 5
    box.process(10, "other", ticks=77)
    box.opens(10, fd3="")
    scan.look(2.0)  # its memory is nobody's until it is looked at
    assert held(scan.look(4.0)) == {}


def test_without_a_gpu_only_memory_counts(tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.process(10, "python3", rss=3)
    box.process(11, rss=0.5)
    look = Scan(box.host).look(0.0)
    assert not look.gpu and held(look) == {10: (0, 0)} and look.uses[0].rss_bytes == 3 * GIB
    assert look.uses[0].cgroup.startswith("0::")


def test_a_tree_that_may_not_be_looked_into(tmp_path: Path) -> None:
    """A refusal is no GPU, and no error. Root is refused by a name that is too long."""
    host = Box(tmp_path).host
    host.root = tmp_path / ("x" * 300)
    assert not Scan(host).look(0.0).gpu


def test_a_real_process(tmp_path: Path) -> None:
    """Of this box's own /proc: its name, owner and start; without a GPU nothing else."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        try:
            host = LocalHost(sysfs=tmp_path)
            host.root = tmp_path
            (tmp_path / "dev/dri").mkdir(parents=True)
            (use,) = (use for use in Scan(host).look(0.0, [child.pid]).uses if use.pid == child.pid)
            assert use.name.startswith("python") and use.uid == os.geteuid() and use.ticks > 0
            assert not use.hidden and use.rss_bytes > 1 << 20 and use.shares == ()
        finally:
            child.kill()
