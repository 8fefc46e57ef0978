"""What a capture costs, what it catches, and what it does to the command that it measures.

Three measurements for BENCHMARKS.md: CPU of the sampling at 20 Hz; spikes of 100 ms of 1 GiB, in GTT (a
fixture tree that a script process writes) and in real memory; and a program's own rate with a capture around
it and without, in alternating pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench"), str(ROOT / "tests")]

from cost import say, show  # noqa: E402

import sysfs_tree  # noqa: E402
from halotui.capture.capture import Capture  # noqa: E402
from halotui.demo.tree import scratch  # noqa: E402
from halotui.hosts.local import LocalHost  # noqa: E402
from halotui.runs import Kind, Mark, Run, Samples, Sink, Summary  # noqa: E402
from halotui.store import open_store  # noqa: E402

HERTZ = 20.0
GIB = 1 << 30
SPIKE_SECONDS = 0.1
GTT, USED, RSS = "gpu.gtt_used_bytes", "memory.used_bytes", "process.rss_bytes"
NEAR = GIB // 20  # so near to what the program itself saw: other memory comes and goes meanwhile
NAMES = {
    GTT: "GTT (files written by a script)",
    USED: "system memory (a real process)",
    RSS: "RSS of that process",
}
BUDGET_PERCENT, BUDGET_CAUGHT, BUDGET_SHIFT = 0.5, 99.0, 1.0


@dataclass(frozen=True)
class Plan:
    windows: int = 5
    window_seconds: float = 4.0  # five: 20 s for each row
    spikes: int = 100
    pairs: int = 20
    pair_seconds: float = 0.6


QUICK = Plan(windows=2, window_seconds=2.0, spikes=10, pairs=2, pair_seconds=0.5)

# Each prints "begin end height ..." of a spike as soon as it is over: CLOCK_MONOTONIC, and what there was to
# be seen meanwhile, in bytes.
GTT_SPIKES = """
import os, random, sys, time
device, base, count, hold = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
def write(value):
    with open(f"{device}/spare", "w") as spare:
        spare.write(f"{value}\\n")
    os.replace(f"{device}/spare", f"{device}/mem_info_gtt_used")
    return time.monotonic()
for _ in range(count):
    time.sleep(random.uniform(0.1, 0.2))
    begin = write(base + (1 << 30))
    time.sleep(max(0, begin + hold - time.monotonic()))
    print(begin, write(base), base + (1 << 30), flush=True)
"""
# All pages at once, in the kernel; held for as long as a spike is, after the last page is there.
MEMORY_SPIKES = """
import mmap, random, sys, time
count, hold = int(sys.argv[1]), float(sys.argv[2])
def used():
    told = dict(line.split(":") for line in open("/proc/meminfo"))
    total, available = (int(told[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    return total - available
for _ in range(count):
    time.sleep(random.uniform(0.1, 0.2))
    block = mmap.mmap(-1, 1 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
    begin, there = time.monotonic(), used()
    time.sleep(hold)
    print(begin, time.monotonic(), there, 1 << 30, flush=True)
    block.close()
"""
LOOP = """
import hashlib, os, sys, time
seconds, readers = float(sys.argv[1]), []
for _ in range(len(os.sched_getaffinity(0))):
    read, write = os.pipe()
    if not os.fork():
        count, block, end = 0, bytes(4096), time.perf_counter() + seconds
        began = time.perf_counter()
        while time.perf_counter() < end:
            for _ in range(20):
                hashlib.sha256(block).digest()
            count += 20
        os.write(write, b"%f" % (count / (time.perf_counter() - began)))
        os._exit(0)
    os.close(write)
    readers.append(read)
print(sum(float(os.read(read, 100)) for read in readers))
"""


class Timeline:
    """A sink that keeps the values of some fields with their time."""

    def __init__(self, *fields: str) -> None:
        self.points: dict[str, list[tuple[float, float]]] = {field: [] for field in fields}

    def write(self, samples: Samples) -> None:
        for (field, _), values in zip(samples.columns, samples.values, strict=True):
            if field in self.points:
                self.points[field] += zip(samples.seconds, values, strict=True)

    def mark(self, mark: Mark) -> None:
        pass


@contextmanager
def box() -> Iterator[tuple[Path, LocalHost]]:
    """A GPU of files, and the real /proc."""
    with tempfile.TemporaryDirectory(prefix="halotui-bench-", dir=scratch(1 << 20)) as directory:
        device = sysfs_tree.build(Path(directory), metrics=sysfs_tree.v3_0())
        yield device, LocalHost(sysfs=Path(directory))


@contextmanager
def program(code: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def floor(seconds: float) -> float:
    """Share of a core that a thread costs which wakes at the same rate and does nothing."""
    shares = []

    def wake() -> None:
        began, cpu = time.monotonic(), time.thread_time()
        for beat in range(1, int(seconds * HERTZ)):
            time.sleep(max(0.0, began + beat / HERTZ - time.monotonic()))
        shares.append((time.thread_time() - cpu) / (time.monotonic() - began))

    thread = threading.Thread(target=wake)
    thread.start()
    thread.join()
    return shares[0]


def costs(plan: Plan) -> list[tuple[str, ...]]:
    """CPU of this process, whose only work is the capture."""
    rows: list[tuple[str, ...]] = [
        ("sampled at 20 Hz", "CPU %", "lowest–highest", "µs a sample", "late", "longest gap ms")
    ]
    with box() as (_, host), tempfile.TemporaryDirectory(prefix="halotui-bench-") as directory:
        store = open_store(Path(directory) / "store.sqlite")
        id_ = store.begin(Run(kind=Kind.PEAK, label="bench", started_time=time.time()))
        with program("import sys; sys.stdin.read()") as idle:
            variants: dict[str, tuple[bool, Sink | None]] = {
                "GPU and system memory": (False, None),
                "… and a process": (True, None),
                "… and kept in the store": (True, store.sink(id_)),
            }
            shares: dict[str, list[float]] = {name: [] for name in variants}
            ends: dict[str, list[Summary]] = {name: [] for name in variants}
            for window in range(plan.windows):  # in turn, so that what else the machine does falls on all
                say(f"cost: window {window + 1} of {plan.windows}")
                for name, (processes, sink) in variants.items():
                    pids = (lambda: (idle.pid,)) if processes else None
                    capture = Capture(host, hertz=HERTZ, sink=sink, pids=pids)
                    capture.start()
                    time.sleep(0.5)
                    cpu, began = time.process_time(), time.monotonic()
                    time.sleep(plan.window_seconds)
                    shares[name].append((time.process_time() - cpu) / (time.monotonic() - began))
                    ends[name].append(capture.stop())
                shares.setdefault("(a thread that only wakes)", []).append(floor(plan.window_seconds))
        store.close()
    for name, values in shares.items():
        low, middle, high = (100 * pick(values) for pick in (min, statistics.median, max))
        late = sum(end.late for end in ends.get(name, ()))
        taken = sum(end.samples for end in ends.get(name, ()))
        gap = max((end.longest_gap_seconds or 0 for end in ends.get(name, ())), default=0)
        rows.append(
            (
                name,
                f"{middle:.2f}",
                f"{low:.2f}–{high:.2f}",
                f"{1e4 * middle / HERTZ:.0f}",
                f"{late} of {taken}" if taken else "",
                f"{1000 * gap:.0f}" if taken else "",
            )
        )
    return rows


def caught(points: Sequence[tuple[float, float]], spikes: Sequence[Sequence[float]], height: int) -> int:
    """How many spikes (begin, end, heights) have a sample in them that is as high."""
    return sum(
        any(begin <= t <= end and value >= heights[height] - NEAR for t, value in points)
        for begin, end, *heights in spikes
    )


def spikes(plan: Plan) -> list[tuple[str, ...]]:
    """Real memory rises while the kernel clears 1 GiB; the 100 ms begin when all of it is there."""
    rows: list[tuple[str, ...]] = [("1 GiB for 100 ms in", "at 20 Hz", "at 1 Hz, as the shell loops do")]
    for name, fields in (("GTT", (GTT,)), ("memory", (USED, RSS))):
        cells: dict[str, list[str]] = {field: [] for field in fields}
        for hertz, share in ((HERTZ, 1.0), (1.0, 0.2)):
            count = max(3, int(plan.spikes * share))
            say(f"spikes: {name} at {hertz:g} Hz")
            with box() as (device, host):
                words = (
                    (GTT_SPIKES, str(device), sysfs_tree.DEVICE["mem_info_gtt_used"])
                    if name == "GTT"
                    else (MEMORY_SPIKES,)
                )
                roots: list[int] = []
                timeline = Timeline(*fields)
                capture = Capture(host, hertz=hertz, sink=timeline, pids=lambda roots=roots: roots)
                capture.start()
                origin = capture._origin  # the clock of the spikes is ours, too
                with program(*words, str(count), str(SPIKE_SECONDS)) as process:
                    roots.append(process.pid)
                    assert process.stdout
                    told = [list(map(float, line.split())) for line in process.stdout]
                capture.stop()
            there = [(begin - origin, end - origin, *heights) for begin, end, *heights in told]
            for height, field in enumerate(fields):
                cells[field].append(f"{caught(timeline.points[field], there, height)} of {len(there)}")
        rows += [(NAMES[field], *cells[field]) for field in fields]
    return rows


def rate(plan: Plan) -> float:
    words = (sys.executable, "-c", LOOP, str(plan.pair_seconds))
    return float(subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True).stdout)


def shifts(plan: Plan) -> list[tuple[str, ...]]:
    """The capture in a process of its own, as `halotui bench` is one; the order within a pair by lot."""
    ratios, alike = [], []
    say("the benched command's own result: pairs with and without a capture")
    with box() as (_, host), tempfile.TemporaryDirectory(prefix="halotui-bench-") as directory:
        store = open_store(Path(directory) / "store.sqlite")
        for _ in range(plan.pairs):
            rates: dict[str, float] = {}
            order = ["bare", "captured", "bare again"]
            random.shuffle(order)
            for how in order:
                if how == "captured":
                    id_ = store.begin(Run(kind=Kind.COMMAND, label="loop", started_time=time.time()))
                    capture = Capture(host, hertz=HERTZ, sink=store.sink(id_), pids=lambda: (os.getpid(),))
                    capture.start()
                    rates[how] = rate(plan)
                    capture.stop()
                else:
                    rates[how] = rate(plan)
            ratios.append(rates["captured"] / rates["bare"])
            alike.append(rates["bare again"] / rates["bare"])
        store.close()
    rows: list[tuple[str, ...]] = [
        ("a loop on every core, its own rate", "median ratio", "quartiles", "pairs")
    ]
    for name, values in (("captured ÷ bare", ratios), ("bare ÷ bare (the noise)", alike)):
        low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
        rows.append((name, f"{statistics.median(values):.4f}", f"{low:.4f}–{high:.4f}", str(len(values))))
    return rows


def facts(plan: Plan) -> list[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    load = Path("/proc/loadavg").read_text().split()[0]
    return [
        f"machine: {cpu or platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        f"with: Python {platform.python_version()}; load before: {load}",
        f"date: {time.strftime('%Y-%m-%d')}",
        f"command: python bench/capture.py {' '.join(sys.argv[1:])}".rstrip(),
        f"{plan.windows} windows of {plan.window_seconds:g} s; {plan.spikes} spikes; {plan.pairs} pairs of "
        f"{plan.pair_seconds:g} s",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="half a minute, to try it")
    parser.add_argument("--markdown", action="store_true", help="the tables as in BENCHMARKS.md")
    parser.add_argument("--only", choices=("cost", "spikes", "shift"), action="append")
    parser.add_argument("--json", action="store_true", help="the tables as JSON")
    options = parser.parse_args()
    plan = QUICK if options.quick else Plan()
    said = facts(plan)
    parts = {"cost": costs, "spikes": spikes, "shift": shifts}
    tables: dict[str, Sequence[Sequence[str]]] = {
        name: measure(plan) for name, measure in parts.items() if name in (options.only or parts)
    }
    if options.json:
        print(json.dumps({"facts": said, **tables}, indent=2))
        return
    print("\n".join(f"- {fact}" if options.markdown else fact for fact in said))
    for rows in tables.values():
        print("\n" + show(rows, options.markdown))
    print(
        f"\nBudget: CPU under {BUDGET_PERCENT} % of a core, at least {BUDGET_CAUGHT:g} of 100 spikes, the "
        f"command's own result moved by less than {BUDGET_SHIFT:g} %."
    )


if __name__ == "__main__":
    main()
