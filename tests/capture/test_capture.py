"""A capture of known things: a GPU whose files a script writes, a process that takes memory on cue."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from acting import GIB, GTT, HOLDER, MIB, RSS, USED, VRAM, Box, Kept, child, script, track, until

import sysfs_tree
from halotui.capture.capture import Capture
from halotui.collectors import memory
from halotui.hosts.local import LocalHost
from halotui.runs import Mark, Samples, StoreError
from halotui.summing import Sums

LEAST = 60880695296  # GTT of the fixture at rest


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / "sysfs")


@contextmanager
def capturing(box: Box, **how: Any) -> Iterator[Capture]:
    capture = Capture(box.host, **how)
    capture.start()
    try:
        yield capture
    finally:
        capture.stop()


def threads() -> int:
    return sum(thread.name.startswith("capture") for thread in threading.enumerate())


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_pools_driven_by_a_script(box: Box) -> None:
    acts = [
        (0.2, "mem_info_gtt_used", LEAST + 3 * GIB),
        (0.4, "mem_info_vram_used", 500 * MIB),
        (0.6, "mem_info_gtt_used", LEAST + 5 * GIB),
        (0.9, "mem_info_gtt_used", LEAST + GIB),
        (0.9, "mem_info_vram_used", 400 * MIB),
    ]
    capture, actor = Capture(box.host), script(box.device, acts)
    try:
        capture.start()
        before = time.monotonic()
        assert actor.ask() == "done"
        took = time.monotonic() - before
        time.sleep(0.2)
    finally:
        summary = capture.stop()
        actor.end()
    gtt, vram = track(summary, GTT), track(summary, VRAM)
    assert gtt.subject == sysfs_tree.SLOT
    assert (gtt.baseline, gtt.peak, gtt.last) == (LEAST, LEAST + 5 * GIB, LEAST + GIB)
    assert (gtt.delta, gtt.delta_peak) == (GIB, 5 * GIB)
    assert gtt.peak_seconds is not None and 0.5 < gtt.peak_seconds < took + 0.2
    assert (vram.peak, vram.least, vram.last) == (500 * MIB, 400 * MIB, 400 * MIB)
    assert summary.samples >= 15 and not summary.notes


def test_short_spikes_are_caught(box: Box) -> None:
    """Ten of 100 ms. Their exact share is measured in bench/capture.py: a test machine may stand still."""
    acts = []
    for number in range(10):
        at = 0.21 * number
        acts += [(at, "mem_info_gtt_used", LEAST + GIB + number), (at + 0.1, "mem_info_gtt_used", LEAST)]
    kept, actor = Kept(), script(box.device, acts)
    try:
        with capturing(box, sink=kept) as capture:
            actor.ask()
            capture.stop()
    finally:
        actor.end()
    column = kept.samples[0].columns.index((GTT, sysfs_tree.SLOT))
    seen = {value for part in kept.samples for value in part.values[column] if value > LEAST}
    assert len(seen) >= 9


def test_what_the_firmware_says(box: Box) -> None:
    with capturing(box, hertz=50) as capture:
        box.write("gpu_metrics", sysfs_tree.v3_0(socket_power=60000, gfx_power=30000, temperature_gfx=7000))
        time.sleep(0.3)
        summary = capture.stop()
    peaks = {t.field: t.peak for t in summary.tracks if t.subject}
    assert peaks["gpu.busy_percent"] == 97
    assert peaks["gpu.sclk_hertz"] == 2_900_000_000
    assert peaks["gpu.socket_power_watts"] == 60
    assert peaks["gpu.gfx_power_watts"] == 30
    assert peaks["gpu.temperature_celsius"] == 70
    assert set(summary.throttled) == {"SPL", "fPPT", "sPPT", "prochot", "core", "gfx", "soc"}
    assert summary.energy_joules is not None and summary.gfx_energy_joules is not None
    assert 38 * summary.seconds < summary.energy_joules < 60.1 * summary.seconds
    assert summary.gfx_energy_joules < summary.energy_joules


def test_limiters_move_and_begin_anew(box: Box) -> None:
    """The table's own residencies: fPPT at 34055, thm_gfx at 306735. A reset brings them back to 0."""
    blob = bytearray(sysfs_tree.v3_0())
    with capturing(box, hertz=50) as capture:
        for spl, gfx in ((10, 306735), (25, 306740), (5, 0), (7, 3)):
            blob[232:236] = spl.to_bytes(4, "little")
            blob[248:252] = gfx.to_bytes(4, "little")
            box.write("gpu_metrics", bytes(blob))
            time.sleep(0.15)
        throttled = capture.stop().throttled
    assert throttled["SPL"] == 10 + 15 + 5 + 2
    assert throttled["gfx"] == 5 + 0 + 3
    assert throttled["fPPT"] == 0


def test_hwmon_says_what_the_table_does_not(tmp_path: Path) -> None:
    box = Box(tmp_path)
    (box.device / "gpu_metrics").unlink()
    with capturing(box) as capture:
        time.sleep(0.15)
        summary = capture.stop()
    assert track(summary, "gpu.socket_power_watts").baseline == pytest.approx(34.097)
    assert track(summary, "gpu.temperature_celsius").baseline == 45
    assert track(summary, "gpu.sclk_hertz").baseline == 2_883_000_000
    assert track(summary, "gpu.busy_percent").baseline == 97
    assert track(summary, "gpu.gfx_power_watts").peak is None
    assert summary.throttled == {}
    assert any("gpu_metrics: No such file" in note for note in summary.notes)


def test_a_layout_from_the_future_is_named(box: Box) -> None:
    box.write("gpu_metrics", b"\x10\x01\x09\x00" + bytes(268))
    with capturing(box) as capture:
        time.sleep(0.1)
        summary = capture.stop()
    assert any("layout not known" in note for note in summary.notes)
    assert track(summary, "gpu.socket_power_watts").peak == pytest.approx(34.097)


def test_a_sleeping_card_is_not_woken(tmp_path: Path) -> None:
    box = Box(tmp_path, power__runtime_status="suspended")
    box.hang("gpu_metrics", "gpu_busy_percent")  # whoever reads them would be seen
    with capturing(box) as capture:
        time.sleep(0.3)
        summary = capture.stop()
    assert track(summary, GTT).samples > 3
    assert track(summary, "gpu.busy_percent").samples == 0
    assert not summary.notes


def test_system_memory_as_the_collector_counts_it(box: Box, tmp_path: Path) -> None:
    procfs = tmp_path / "procfs"
    procfs.mkdir()
    shutil.copy("/proc/meminfo", procfs / "meminfo")
    host = LocalHost(sysfs=box.root, procfs=procfs)
    capture = Capture(host)
    capture.start()
    summary = capture.stop()
    told = memory.read(host)
    assert track(summary, USED).baseline == told.used_bytes
    assert track(summary, "memory.swap_used_bytes").baseline == told.swap_used_bytes


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("MemTotal: 1000 kB\nMemFree: 300 kB\nMemAvailable: 2000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n", 700),
        ("MemTotal: 1000 kB\nMemFree: 300 kB\nMemAvailable: 400 kB\n", 600),
    ],
    ids=["more available than there is", "no swap lines"],
)
def test_odd_meminfo_is_left_to_the_collector(tmp_path: Path, text: str, used: int) -> None:
    (tmp_path / "meminfo").write_text(text + "Buffers: 0 kB\nCached: 0 kB\nSReclaimable: 0 kB\nShmem: 0 kB\n")
    (tmp_path / "vmstat").write_text("pswpin 0\npswpout 0\n")
    capture = Capture(LocalHost(sysfs=tmp_path, procfs=tmp_path))
    capture.start()
    assert track(capture.stop(), USED).baseline == used * 1024


def test_meminfo_that_vanishes_and_comes_back(tmp_path: Path) -> None:
    for name in ("meminfo", "vmstat"):
        shutil.copy(f"/proc/{name}", tmp_path / name)
    capture = Capture(LocalHost(sysfs=tmp_path, procfs=tmp_path))
    capture.start()
    (tmp_path / "meminfo").unlink()
    until(lambda: any("meminfo" in note and "since" in note for note in capture.now().notes))
    shutil.copy("/proc/meminfo", tmp_path / "meminfo")
    until(lambda: any("meminfo" in note and " to " in note for note in capture.now().notes))
    assert track(capture.stop(), USED).baseline


def test_rss_of_a_real_process(box: Box) -> None:
    with child(HOLDER) as holder, capturing(box, pids=lambda: (holder.pid,)) as capture:
        time.sleep(0.3)
        for line in (f"take a {200 * MIB}", f"take b {100 * MIB}", "free a 0"):
            holder.ask(line)
            time.sleep(0.3)
        summary = capture.stop()
    rss = track(summary, RSS)
    assert rss.baseline is not None and rss.delta is not None and rss.delta_peak is not None
    assert rss.delta_peak == pytest.approx(300 * MIB, rel=0.05)
    assert rss.delta == pytest.approx(100 * MIB, rel=0.1)
    (process,) = summary.processes
    assert (process.pid, process.rss_bytes) == (holder.pid, pytest.approx(rss.peak, rel=0.05))
    assert process.name.startswith("python")
    assert process.gtt_bytes is None  # no client of the GPU
    used = track(summary, USED)
    assert used.peak is not None and used.least is not None and used.peak - used.least > 200 * MIB


def test_the_high_water_mark_is_the_kernels(box: Box) -> None:
    """Before the capture began, it had held more."""
    with child(HOLDER) as holder:
        holder.ask(f"take a {150 * MIB}")
        holder.ask("free a 0")
        with capturing(box, pids=lambda: (holder.pid,)) as capture:
            until(lambda: (capture.now().processes[0].rss_bytes or 0) > 150 * MIB)
            assert (track(capture.stop(), RSS).peak or 0) < 150 * MIB


def test_a_root_that_appears_brings_its_children(box: Box) -> None:
    """As ``bench`` does: the baseline is taken before there is a process."""
    nested = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {HOLDER!r}]))"
    roots: list[int] = []
    with capturing(box, pids=lambda: roots) as capture, child(nested) as shell:
        assert track(capture.now(), RSS).baseline == 0
        roots.append(shell.pid)
        shell.ask(f"take a {120 * MIB}")
        until(lambda: len(capture.now().processes) == 2)
        until(lambda: (capture.now().processes[0].rss_bytes or 0) > 120 * MIB, 3.0)
        big, small = capture.now().processes
        assert small.pid == shell.pid and big.pid != shell.pid
        shell.end()  # the child loses its parent, and ends with its input
        until(lambda: track(capture.now(), RSS).last == 0)
        assert [peak.pid for peak in capture.stop().processes] == [big.pid, small.pid]


def test_a_child_of_later_and_a_change_of_program(box: Box) -> None:
    """Forked by a second thread, long after the first look; then another program in the same process."""
    code = """
import os, subprocess, sys, threading
sys.stdin.readline()
thread = threading.Thread(target=lambda: print(subprocess.Popen(["sleep", "60"]).pid, flush=True))
thread.start()
thread.join()
sys.stdin.readline()
os.execvp("sleep", ["sleep", "60"])
"""
    with child(code) as parent, capturing(box, pids=lambda: (parent.pid,)) as capture:
        until(lambda: [peak.pid for peak in capture.now().processes] == [parent.pid])
        time.sleep(1.2)
        forked = int(parent.ask())
        try:
            until(lambda: {peak.pid: peak.name for peak in capture.now().processes}.get(forked) == "sleep")
            parent.say()
            until(lambda: [peak.name for peak in capture.now().processes] == ["sleep", "sleep"])
        finally:
            os.kill(forked, signal.SIGKILL)


def test_pids_that_fail_cost_only_themselves(box: Box) -> None:
    def pids() -> list[int]:
        raise ValueError("no idea")

    with capturing(box, pids=pids) as capture:
        time.sleep(0.2)
        summary = capture.stop()
    assert track(summary, USED).samples >= 2 and track(summary, GTT).samples >= 2
    assert "processes: ValueError: no idea" in summary.notes


def test_a_gpu_that_hangs_costs_its_own_columns(box: Box) -> None:
    """And it comes back. Its thread is left alone; memory goes on in another."""
    kept = Kept()
    with child(HOLDER) as holder, capturing(box, sink=kept, pids=lambda: (holder.pid,)) as capture:
        time.sleep(0.3)
        before = track(capture.now(), GTT).samples
        box.hang("mem_info_gtt_used")
        until(lambda: any(n.startswith("GPU sensors hang since") for n in capture.now().notes), 5.0)
        count = track(capture.now(), USED).samples
        began = time.monotonic()
        summary = capture.now()
        assert time.monotonic() - began < 0.5
        holder.ask(f"take a {100 * MIB}")
        time.sleep(0.5)
        summary = capture.now()
        assert track(summary, USED).samples >= count + 5
        assert (track(summary, RSS).delta or 0) > 90 * MIB
        assert track(summary, GTT).samples <= before + 5
        assert summary.late > 10 and (summary.longest_gap_seconds or 0) > 1
        box.recover("mem_info_gtt_used", LEAST + GIB)
        until(lambda: track(capture.now(), GTT).last == LEAST + GIB, 5.0)
        summary = capture.stop()
    assert any(note.startswith("GPU sensors hang from") for note in summary.notes)
    sums = Sums(20.0, summary.began_time)
    for samples in kept.samples:
        sums.add(samples)
    assert sums.summary().tracks == summary.tracks
    column = kept.samples[0].columns.index((GTT, sysfs_tree.SLOT))
    assert any(value != value for part in kept.samples for value in part.values[column])


def test_stop_is_bounded_while_a_gpu_hangs(box: Box) -> None:
    capture = Capture(box.host)
    capture.start()
    box.hang("mem_info_gtt_used")
    time.sleep(0.2)
    began = time.monotonic()
    summary = capture.stop()
    assert time.monotonic() - began < 3
    assert track(summary, USED).samples > track(summary, GTT).samples
    assert summary.seconds >= 0.2  # memory has its last sample all the same
    box.recover("mem_info_gtt_used", LEAST)


def test_a_gpu_that_hangs_from_the_start(box: Box) -> None:
    box.hang("mem_info_gtt_used")
    began = time.monotonic()
    capture = Capture(box.host)
    capture.start()
    assert time.monotonic() - began < 3
    time.sleep(0.5)
    until(lambda: any("GPU sensors hang" in note for note in capture.now().notes), 5.0)
    summary = capture.stop()
    assert track(summary, USED).samples > 5
    assert track(summary, GTT).peak is None
    box.recover("mem_info_gtt_used", LEAST)


def test_looking_for_cards_may_hang_too(box: Box) -> None:
    box.hang("vendor")
    capture = Capture(box.host)
    capture.start()
    time.sleep(0.2)
    summary = capture.stop()
    assert track(summary, USED).samples > 2
    assert any("search for GPUs hangs" in note for note in summary.notes)
    box.recover("vendor", "0x1002")


def test_denied(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything: the kernel's refusal in a reset is played at the system call."""
    real = os.pread
    refused = threading.Event()

    def pread(fd: int, size: int, offset: int) -> bytes:
        if refused.is_set() and str(box.root) in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise PermissionError(1, "Operation not permitted")
        return real(fd, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    with capturing(box) as capture:
        time.sleep(0.2)
        refused.set()
        until(lambda: any("memory not to be read" in note for note in capture.now().notes))
        count = track(capture.now(), GTT).samples
        time.sleep(0.3)
        assert track(capture.now(), GTT).samples == count
        refused.clear()
        until(lambda: track(capture.now(), GTT).samples > count)
        summary = capture.stop()
    (note,) = summary.notes
    assert note.startswith(f"GPU {sysfs_tree.SLOT}: memory not to be read (Operation not permitted) from ")


@pytest.mark.parametrize("card", [1, 0])
def test_a_card_that_vanishes_and_comes_back(box: Box, card: int) -> None:
    """With the same number or another."""
    with capturing(box) as capture:
        time.sleep(0.2)
        shutil.rmtree(box.root / "class/drm/card1")
        until(lambda: any("No such file" in note for note in capture.now().notes))
        sysfs_tree.build(box.root, card=card, metrics=sysfs_tree.v3_0(), mem_info_gtt_used="77")
        until(lambda: track(capture.now(), GTT).last == 77, 15.0)
        summary = capture.stop()
    assert len([t for t in summary.tracks if t.field == GTT]) == 1
    assert any(" from " in note and " to " in note for note in summary.notes)


def test_no_card_and_one_that_comes(tmp_path: Path) -> None:
    capture = Capture(LocalHost(sysfs=tmp_path))
    capture.start()
    assert any("no AMD GPU" in note for note in capture.now().notes)
    sysfs_tree.build(tmp_path, metrics=sysfs_tree.v3_0())
    until(lambda: capture.now().track(GTT) is not None and track(capture.now(), GTT).samples > 2, 15.0)
    summary = capture.stop()
    assert track(summary, GTT).peak == LEAST
    assert track(summary, USED).samples > track(summary, GTT).samples


def test_garbled_files_are_not_numbers(box: Box) -> None:
    for name, content in (
        ("mem_info_gtt_used", b"\xff\xfe"),
        ("mem_info_vram_used", b"-5"),
        ("gpu_metrics", b"\1"),
    ):
        box.write(name, content)
    with capturing(box) as capture:
        time.sleep(0.2)
        summary = capture.stop()
    assert track(summary, GTT).peak is track(summary, VRAM).peak is None
    assert track(summary, USED).samples > 2


def test_two_cards(box: Box) -> None:
    other = sysfs_tree.SLOT.replace("c5", "03")
    sysfs_tree.build(
        box.root,
        card=2,
        uevent=f"DRIVER=amdgpu\nPCI_SLOT_NAME={other}",
        mem_info_gtt_used="5",
        vendor="0x1002",
    )
    sysfs_tree.build(box.root, card=3, vendor="0x8086", uevent="DRIVER=i915\nPCI_SLOT_NAME=0000:00:02.0")
    with capturing(box) as capture:
        time.sleep(0.2)
        summary = capture.stop()
    assert {t.subject: t.peak for t in summary.tracks if t.field == GTT} == {sysfs_tree.SLOT: LEAST, other: 5}


def test_marks(box: Box) -> None:
    kept = Kept()
    with capturing(box, sink=kept) as capture:
        mark = capture.mark("pre\x1b[31mfill")
        capture.stop()
    assert mark.label == "prefill" and abs(mark.time - time.time()) < 60
    assert kept.marks == [mark] == list(capture.marks)


def test_batches_of_a_second_and_the_rest_at_the_end(box: Box) -> None:
    kept = Kept()
    with capturing(box, sink=kept) as capture:
        for _ in range(24):
            time.sleep(0.1)
            capture.now()  # looking does not cut smaller pieces
        summary = capture.stop()
    assert sum(len(part.seconds) for part in kept.samples) == summary.samples
    assert 2 <= len(kept.samples) <= 5
    seconds = [t for part in kept.samples for t in part.seconds]
    assert seconds == sorted(seconds) and seconds[0] < 0.3
    assert all(len(column) == len(part.seconds) for part in kept.samples for column in part.values)


class Slow(Kept):
    def write(self, samples: Samples) -> None:
        time.sleep(1.5)
        super().write(samples)


def test_a_slow_disk_skips_no_beat(box: Box) -> None:
    kept = Slow()
    with capturing(box, sink=kept) as capture:
        time.sleep(2.2)
        summary = capture.stop()
    assert summary.samples >= 35
    assert sum(len(part.seconds) for part in kept.samples) == summary.samples


class Failing(Kept):
    """Until it is told to work."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error: Exception | None = error

    def write(self, samples: Samples) -> None:
        if self.error:
            raise self.error
        super().write(samples)


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), StoreError("the store is read-only"), RuntimeError("a fault")],
)
def test_a_sink_that_fails_is_one_note(box: Box, error: Exception) -> None:
    with capturing(box, sink=Failing(error)) as capture:
        time.sleep(1.3)
        summary = capture.stop()
    assert summary.samples > 10
    assert next(note for note in summary.notes if "refuses" in note).startswith("the store refuses: ")
    assert sum("refuses" in note for note in summary.notes) == 1
    assert any("not kept" in note for note in summary.notes)


def test_a_full_disk_that_gets_room_again_loses_nothing(box: Box) -> None:
    sink = Failing(OSError(28, "No space left on device"))
    with capturing(box, sink=sink) as capture:
        until(lambda: any("No space left" in note for note in capture.now().notes))
        sink.error = None
        summary = capture.stop()
    assert sum(len(part.seconds) for part in sink.samples) == summary.samples
    assert not any("not kept" in note for note in summary.notes)
    assert any(" from " in note for note in summary.notes)


class Hung(Kept):
    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, samples: Samples) -> None:
        self.go.wait(30)


def test_a_hung_disk_does_not_hold_up_the_end(box: Box) -> None:
    sink = Hung()
    capture = Capture(box.host, sink=sink)
    capture.start()
    time.sleep(0.2)
    began = time.monotonic()
    summary = capture.stop()
    assert time.monotonic() - began < 10
    assert any("may not be kept" in note for note in summary.notes)
    sink.go.set()


def test_nothing_is_left_behind(box: Box) -> None:
    before, open_before = threads(), descriptors()
    for _ in range(3):
        capture = Capture(box.host, sink=Kept(), pids=lambda: (os.getpid(),))
        capture.start()
        capture.mark("x")
        summary = capture.stop()
        assert capture.stop() is summary is capture.now()
    until(lambda: threads() <= before)
    until(lambda: descriptors() <= open_before)


@pytest.mark.parametrize(("asked", "given"), [(0.01, 1.0), (1000.0, 100.0), (33.0, 33.0)])
def test_rates_are_held_in_bounds(box: Box, asked: float, given: float) -> None:
    with capturing(box, hertz=asked) as capture:
        assert capture.stop().hertz == given


@pytest.mark.parametrize("hertz", [5.0, 50.0])
def test_the_rate_is_kept_without_drift(box: Box, hertz: float) -> None:
    kept = Kept()
    with capturing(box, hertz=hertz, sink=kept) as capture:
        time.sleep(2)
        summary = capture.stop()
    expected = summary.seconds * hertz
    assert expected * 0.7 <= summary.samples <= expected + 2
    phases = sorted(t * hertz % 1 for part in kept.samples for t in part.seconds)
    assert phases[len(phases) // 2] < 0.5  # half of them within half a beat of their deadline, to the end


def test_now_is_cheap(box: Box) -> None:
    with capturing(box, pids=lambda: (os.getpid(),)) as capture:
        time.sleep(1)
        cpu = time.thread_time()
        for _ in range(200):
            capture.now()
        assert (time.thread_time() - cpu) / 200 < 0.005


def test_the_sampling_costs_little(box: Box) -> None:
    """Under 0.5 % of a core is measured by bench/capture.py; this only guards against a blunder."""
    with capturing(box, sink=Kept(), pids=lambda: (os.getpid(),)) as capture:
        time.sleep(0.5)
        cpu, began = time.process_time(), time.monotonic()
        time.sleep(3)
        share = (time.process_time() - cpu) / (time.monotonic() - began)
        capture.stop()
    assert share < 0.03


def test_a_mark_returns_at_once_though_the_disk_hangs(box: Box) -> None:
    hung = Hung()
    with capturing(box, sink=hung) as capture:
        time.sleep(1.3)
        began = time.monotonic()
        assert isinstance(capture.mark("here"), Mark)
        assert time.monotonic() - began < 0.5
        hung.go.set()
