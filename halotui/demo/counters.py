"""What a kernel counts since boot: CPU time, the disk's reads, the network's bytes, time stood still."""

from __future__ import annotations

import math
import random

THREADS, TICKS = 32, 100  # ticks a second
UP_SECONDS = 8000.0  # before the first look
SECTOR, REQUEST = 512, 128 << 10  # bytes
DISK_BYTES_PER_SECOND = 6.8e9  # what is faster comes from the page cache
NETWORK = "enp191s0"


class Counters:
    """``step`` moves them, and gives the files by their place below the root."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._time: float | None = None
        idle = UP_SECONDS * TICKS
        self._cpus = [[0.011 * idle, 0.003 * idle, 0.985 * idle, 0.001 * idle] for _ in range(THREADS)]
        self._read, self._written = 71.0e9, 9.4e9  # bytes
        self._received, self._sent = 1.9e9, 214.0e6
        self._disk_seconds = 41.0
        self._load = 0.2
        self._stalled = {"memory": [0.0] * 4, "io": [0.0] * 4}  # %, over 10, 60, 300 s; seconds in all

    def step(
        self, time: float, *, threads: float, tokens: float, read: int, swapped: int, stalled: float
    ) -> dict[str, str]:
        """Of now, in seconds from any origin. ``threads`` at work, ``tokens`` that are streamed at a time,
        bytes ``read`` from the disk since the last step, ``swapped`` in all; ``stalled``: part of the time
        that tasks wait for memory."""
        passed = 0.0 if self._time is None else max(0.0, time - self._time)
        self._time = time
        dice = random.Random(f"{self._seed} counters {round(time * 10)}")
        reading = read / (DISK_BYTES_PER_SECOND * passed) if passed else 0.0
        self._work(passed * TICKS, threads, reading)
        self._read += read
        self._written += passed * dice.uniform(8e3, 60e3)
        self._disk_seconds += passed * (reading + dice.uniform(0.0005, 0.003))
        self._received += passed * dice.uniform(600, 2400) * (1 + tokens)
        self._sent += passed * dice.uniform(700, 1900) * (1 + 3 * tokens)
        self._load += (threads + reading - self._load) * (1 - math.exp(-passed / 60))
        self._stall("memory", passed, stalled)
        self._stall("io", passed, 0.9 * reading)
        below = f"sysfs/class/net/{NETWORK}/statistics"
        return {
            "procfs/stat": self._stat(),
            "procfs/vmstat": f"pgpgin {int(self._read) >> 10}\npgpgout {int(self._written) >> 10}\n"
            f"pswpin {swapped // 16384}\npswpout {swapped // 4096}\npgmajfault 18211\noom_kill 0\n",
            "procfs/loadavg": f"{self._load:.2f} {0.8 * self._load + 0.04:.2f} {0.6 * self._load + 0.08:.2f} "
            f"{1 + round(threads)}/1734 24817\n",
            "procfs/pressure/memory": self._pressure("memory"),
            "procfs/pressure/io": self._pressure("io"),
            "sysfs/block/nvme0n1/stat": self._disk(),
            f"{below}/rx_bytes": f"{int(self._received)}\n",
            f"{below}/tx_bytes": f"{int(self._sent)}\n",
        }

    def _work(self, ticks: float, threads: float, reading: float) -> None:
        waiting = min(0.9, reading)
        for number, cpu in enumerate(self._cpus):
            busy = max(0.0, min(0.98, threads - number) if number else min(0.98, threads))
            wait = waiting * (1 - busy) if number == THREADS // 2 else 0.0
            for place, part in enumerate((0.85 * busy, 0.15 * busy, 1 - busy - wait, wait)):
                cpu[place] += ticks * part

    def _stat(self) -> str:
        """Without the boot time, which is the kernel's own."""
        sums = [sum(column) for column in zip(*self._cpus, strict=True)]
        rows = (
            f"{name} {user:.0f} 0 {system:.0f} {idle:.0f} {wait:.0f} 0 0 0 0 0\n"
            for name, (user, system, idle, wait) in (
                ("cpu ", sums),
                *((f"cpu{number}", cpu) for number, cpu in enumerate(self._cpus)),
            )
        )
        return "".join(rows)

    def _stall(self, what: str, passed: float, part: float) -> None:
        known = self._stalled[what]
        for place, seconds in enumerate((10.0, 60.0, 300.0)):
            known[place] += (100 * part - known[place]) * (1 - math.exp(-passed / seconds))
        known[3] += part * passed

    def _pressure(self, what: str) -> str:
        ten, minute, five, seconds = self._stalled[what]
        return "".join(
            f"{who} avg10={k * ten:.2f} avg60={k * minute:.2f} avg300={k * five:.2f} "
            f"total={int(k * seconds * 1e6)}\n"
            for who, k in (("some", 1.0), ("full", 0.8))
        )

    def _disk(self) -> str:
        reads, writes = int(self._read), int(self._written)
        busy = round(self._disk_seconds * 1000)
        told = (
            reads // REQUEST,
            0,
            reads // SECTOR,
            busy * 2,
            writes // 16384,
            0,
            writes // SECTOR,
            busy // 3,
        )
        return " ".join(f"{number:>8}" for number in (*told, 0, busy, busy * 2, 0, 0, 0, 0, 0, 0)) + "\n"
