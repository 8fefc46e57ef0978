"""Whose GPU memory it is, from fdinfo as kernels old and new write it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from acting import GIB, track, until

from halotui.capture.capture import Capture
from halotui.capture.clients import Clients
from halotui.capture.notes import Notes
from halotui.capture.tree import Tree
from halotui.collectors.fdinfo import client
from halotui.hosts.local import LocalHost

OLD = b"""pos:\t0
drm-driver:\tamdgpu
drm-pdev:\t0000:c5:00.0
drm-client-id:\t%d
drm-memory-vram:\t2208 KiB
drm-memory-gtt: \t%d KiB
drm-memory-cpu: \t0 KiB
"""
NEW = b"""pos:\t0
drm-driver:\tamdgpu
drm-client-id:\t%d
drm-pdev:\t0000:c5:00.0
drm-total-gtt:\t99999999 KiB
drm-resident-gtt:\t%d KiB
drm-resident-vram:\t0
drm-memory-gtt: \t77 KiB
"""


class Procfs:
    """Processes that are files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def process(self, pid: int, children: tuple[int, ...] = (), **descriptors: bytes) -> Path:
        at = self.root / str(pid)
        for name in ("fd", "fdinfo", f"task/{pid}"):
            (at / name).mkdir(parents=True, exist_ok=True)
        (at / "statm").write_text("9000 256 100 1 0 100 0\n")
        (at / "status").write_text(f"Name:\tworker{pid}\nVmHWM:\t    2048 kB\n")
        (at / f"task/{pid}/children").write_text(" ".join(map(str, children)))
        for name, info in descriptors.items():
            fd = name.removeprefix("fd")
            (at / "fd" / fd).unlink(missing_ok=True)
            (at / "fd" / fd).symlink_to("/dev/dri/renderD128" if info else "/dev/null")
            (at / "fdinfo" / fd).write_bytes(info or b"pos:\t0\n")
        return at


def looking(root: Path, *roots: int) -> tuple[Tree, Clients, Notes]:
    notes = Notes()
    tree = Tree(str(root), lambda: roots, notes)
    tree.read(time.monotonic())
    return tree, Clients(tree, notes), notes


def test_each_client_counts_once(tmp_path: Path) -> None:
    """A descriptor that was duplicated, and one that a child inherited."""
    procfs = Procfs(tmp_path)
    procfs.process(10, (11,), fd5=OLD % (42, 1000), fd6=OLD % (42, 1000), fd7=b"", fd8=NEW % (43, 500))
    procfs.process(11, fd5=OLD % (42, 1000), fd9=OLD % (44, 1))
    tree, clients, _ = looking(tmp_path, 10)
    assert clients.read(1.0) == (1501 * 1024, 2208 * 2 * 1024)
    peaks = {peak.pid: (peak.gtt_bytes, peak.vram_bytes) for peak in tree.peaks()}
    assert peaks == {10: (1500 * 1024, 2208 * 1024), 11: (1001 * 1024, 4416 * 1024)}


def test_resident_before_memory() -> None:
    assert client(NEW % (1, 5)) == ((b"0000:c5:00.0", b"1"), (5 * 1024, 0))
    assert client(OLD % (1, 5)) == ((b"0000:c5:00.0", b"1"), (5 * 1024, 2208 * 1024))


@pytest.mark.parametrize(
    ("told", "size"), [(b"7 MiB", 7 << 20), (b"7 KiB", 7168), (b"7", 7), (b"junk", None)]
)
def test_units(told: bytes, size: int | None) -> None:
    found = client(b"drm-client-id:\t1\ndrm-memory-gtt:\t" + told + b"\n")
    assert (found and found[1][0]) == size


@pytest.mark.parametrize(
    "data", [b"", b"pos:\t0\nflags:\t02\n", b"drm-driver:\ti915\ndrm-memory-gtt:\t5 KiB\n", b"\xff\0:"]
)
def test_what_is_no_client(data: bytes) -> None:
    assert client(data) is None


def test_peaks_stay_when_the_client_goes(tmp_path: Path) -> None:
    procfs = Procfs(tmp_path)
    at = procfs.process(10, fd5=OLD % (1, 1000))
    tree, clients, _ = looking(tmp_path, 10)
    clients.read(1.0)
    (at / "fdinfo/5").write_bytes(OLD % (1, 400))
    assert clients.read(1.5)[0] == 400 * 1024
    for name in ("fd/5", "fdinfo/5"):
        (at / name).unlink()
    assert clients.read(9.0) == (0, 0)
    assert tree.peaks()[0].gtt_bytes == 1000 * 1024


def test_without_a_client_it_is_unknown(tmp_path: Path) -> None:
    Procfs(tmp_path).process(10, fd1=b"")
    tree, clients, notes = looking(tmp_path, 10)
    assert all(value != value for value in clients.read(1.0))
    assert tree.peaks()[0].gtt_bytes is None
    assert notes.lines() == ()


def test_files_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root sees everything: the refusal is played."""
    procfs = Procfs(tmp_path)
    procfs.process(10, fd5=OLD % (1, 1000))
    at = procfs.process(12)
    tree, clients, notes = looking(tmp_path, 10, 12)
    import os

    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != f"{at}/fd" and access(path, mode))
    assert all(value != value for value in clients.read(1.0))  # part of a sum is no sum
    assert tree.peaks()[0].gtt_bytes == 1000 * 1024
    (note,) = notes.lines()
    assert note == "GPU memory of worker12 (12): only its own user and root may see it"


def test_in_a_capture(tmp_path: Path) -> None:
    procfs = Procfs(tmp_path)
    (tmp_path / "meminfo").write_bytes(Path("/proc/meminfo").read_bytes())
    at = procfs.process(10, fd5=OLD % (1, GIB // 1024))
    capture = Capture(LocalHost(sysfs=tmp_path, procfs=tmp_path), pids=lambda: (10,))
    capture.start()
    (at / "fdinfo/5").write_bytes(OLD % (1, 3 * GIB // 1024))
    until(lambda: track(capture.now(), "process.gtt_bytes").peak == 3 * GIB)
    summary = capture.stop()
    gtt = track(summary, "process.gtt_bytes")
    assert gtt.baseline == GIB and gtt.samples < track(summary, "process.rss_bytes").samples
    assert summary.processes[0].gtt_bytes == 3 * GIB
    assert summary.processes[0].rss_bytes == 2048 * 1024  # the kernel's high-water mark
    assert track(summary, "process.rss_bytes").peak == 256 * 4096
