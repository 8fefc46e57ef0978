"""What reading the box costs: CPU of one look at everything, at 1 Hz, beside many processes.

The GPU, disks and network are a demo box's files on a tmpfs; processes are the machine's own, with as many
sleeping ones beside them as ``--processes`` says. No server is asked: that is ``bench/cost.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

from halotui.demo.tree import Load, Tree, scratch
from halotui.hosts.local import LocalHost
from halotui.sampler.clock import Clock
from halotui.sampler.telemetry import Telemetry

GRACE = 0.3
ROOM_BYTES = 1 << 20


class Mixed(LocalHost):
    """The tree's GPU, disks and kernel log; the machine's own processes."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(tree.sysfs)
        self.root = tree.procfs.parent


async def look(host: LocalHost, seconds: int) -> list[float]:
    """CPU milliseconds of each second, all threads, once it has settled."""
    telemetry = Telemetry(host, "sysfs", Clock())
    spent = []
    try:
        for _ in range(seconds + 5):
            began, cpu = time.monotonic(), time.process_time()
            await telemetry.read(GRACE)
            telemetry.told(())
            list(telemetry.sources())
            await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - began)))
            spent.append((time.process_time() - cpu) * 1000)
    finally:
        await telemetry.close()
    return spent[5:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--processes", type=int, default=500, help="sleeping ones beside the machine's own")
    parser.add_argument("--markdown", action="store_true", help="(the same either way)")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    sleepers = [subprocess.Popen(["sleep", "600"]) for _ in range(options.processes)]
    try:
        with tempfile.TemporaryDirectory(dir=scratch(ROOM_BYTES)) as directory:
            tree = Tree(Path(directory))
            tree.update(Load(decoding=1, tokens=4000), 1.0)
            spent = asyncio.run(look(Mixed(tree), options.seconds))
    finally:
        for sleeper in sleepers:
            sleeper.kill()
        for sleeper in sleepers:
            sleeper.wait()
    count = sum(path.name.isdecimal() for path in Path("/proc").iterdir())
    print(f"- machine: Linux {platform.release()}, {os.cpu_count()} cores; load before: {load:.2f}")
    print(f"- {options.seconds} s at 1 Hz, {count + options.processes} processes")
    print(
        f"\n| a look at everything | median ms CPU | mean | highest |\n|---|---|---|---|\n"
        f"| all sources | {median(spent):.2f} | {sum(spent) / len(spent):.2f} | {max(spent):.2f} |"
    )


if __name__ == "__main__":
    main()
