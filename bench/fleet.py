"""What watching far boxes costs: CPU and bytes a host at 1 Hz, of us, of our ssh, and of the boxes' side.

Each host is a session of one real sshd on loopback, with a demo box's tree as its sysfs and procfs; one of
them has a real llama-server at work. We are a feed for each, as the cockpit keeps for boxes not looked at.
Figures are medians of windows, of CPU time: a busy machine hardly changes them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from halotui.commands.feeding import live_feed
from halotui.config import Settings
from halotui.demo.box import start_box
from halotui.demo.tree import Load, Tree, scratch
from halotui.feed import LiveFeed
from halotui.hosts.ssh import Far, SshHost
from sshd import Sshd, descendants, sshd

ROOM_BYTES = 64 << 20
SETTLE_SECONDS = 15.0  # logins, and what is looked for once
TICK = os.sysconf("SC_CLK_TCK")
GOAL_PERCENT = 0.15
COUNTED = re.compile(r"bytes_(?:sent|received):(\d+)")


def cpu_seconds(pids: list[int]) -> float:
    """Of the living, and of those that they have buried."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))
    return ticks / TICK


def wire_bytes(server: Sshd) -> int | None:
    """Of all its connections so far, both ways, as TCP carried them; None where there is no ``ss``."""
    try:
        told = subprocess.run(
            ["ss", "-tinH", f"sport = :{server.port}"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return sum(map(int, COUNTED.findall(told)))


class Own:
    """Our time so far, and that of the children that we have buried."""

    def __init__(self) -> None:
        self.time = time.monotonic()
        told = os.times()
        self.cpu = told.user + told.system
        self.children = told.children_user + told.children_system


class Count:
    """All that grows, at one moment. Counting costs us, too: it is between ``before`` and ``after``."""

    def __init__(self, server: Sshd, hosts: list[SshHost], frames: list[int]) -> None:
        self.before = Own()
        remote = {server.pid, *descendants(server.pid)}
        self.ssh = cpu_seconds([pid for pid in descendants(os.getpid()) if name(pid) == "ssh"])
        self.remote = cpu_seconds(sorted(remote))
        self.bytes = wire_bytes(server)
        self.trips = sum(host.trips for host in hosts)
        self.frames = sum(frames)
        self.after = Own()


def name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


async def watch(feed: LiveFeed, frames: list[int], number: int) -> None:
    async for _ in feed.frames():
        frames[number] += 1


async def windows(directory: Path, count: int, seconds: float, each: float) -> list[tuple[Count, Count]]:
    async with AsyncExitStack() as stack:
        box = await start_box()
        stack.push_async_callback(box.stop)
        names = [f"box{number}" for number in range(count)]
        server = stack.enter_context(sshd(directory, names))
        hosts: list[SshHost] = []
        frames = [0] * count
        tasks: list[asyncio.Task[None]] = []
        for number, alias in enumerate(names):
            sysfs, procfs, urls = box.sysfs, box.procfs, (box.url,)
            if number:
                tree = Tree(directory / alias, seed=number)
                tree.update(Load(models=0), 1.0)
                sysfs, procfs, urls = tree.sysfs, tree.procfs, ()
            host = SshHost(Far(target=alias, ssh_config=server.config, sysfs=sysfs, procfs=procfs))
            await host.open()
            feed = await asyncio.to_thread(live_feed, Settings(urls=urls), {}, False, None, host)
            stack.push_async_callback(feed.close)
            hosts.append(host)
            tasks.append(asyncio.create_task(watch(feed, frames, number)))
        try:
            async with asyncio.timeout(60):
                while not all(frames):  # noqa: ASYNC110 - each feed counts for itself
                    await asyncio.sleep(0.2)
            await asyncio.sleep(SETTLE_SECONDS)
            counts = [await asyncio.to_thread(Count, server, hosts, frames)]
            for _ in range(round(seconds / each)):
                await asyncio.sleep(each)
                counts.append(await asyncio.to_thread(Count, server, hosts, frames))
            ended = [task for task in tasks if task.done()]
            if ended:
                raise RuntimeError(f"{len(ended)} feeds have ended: {ended[0]}")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return list(pairwise(counts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument(
        "--window", type=float, default=10.0, help="seconds of each of which the median is told"
    )
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=scratch(ROOM_BYTES)) as directory:
        seen = asyncio.run(windows(Path(directory), options.hosts, options.seconds, options.window))

    def rate(grown: Callable[[Count, Count], float]) -> float:
        """A host and a second, by the median window."""
        spans = [after.before.time - before.after.time for before, after in seen]
        told = [grown(*pair) / span for pair, span in zip(seen, spans, strict=True)]
        return median(told) / options.hosts

    def ours(before: Count, after: Count) -> float:
        return after.before.cpu - before.after.cpu

    def ssh(before: Count, after: Count) -> float:
        return after.ssh - before.ssh + after.before.children - before.after.children

    def both(before: Count, after: Count) -> float:
        return ours(before, after) + ssh(before, after)

    def wire(before: Count, after: Count) -> float:
        return (after.bytes or 0) - (before.bytes or 0)

    def percent(grown: Callable[[Count, Count], float]) -> str:
        return f"{100 * rate(grown):.3f} %"

    print(f"- machine: Linux {platform.release()}, {os.cpu_count()} cores; load before: {load:.2f}")
    print(
        f"- {options.hosts} hosts at 1 Hz, {options.seconds:.0f} s; goal: {GOAL_PERCENT} % of a core a host"
    )
    print("\n| a host | median |\n|---|---|")
    print(f"| CPU of a core: halotui | {percent(ours)} |")
    print(f"| CPU of a core: ssh | {percent(ssh)} |")
    print(f"| CPU of a core: halotui and ssh | {percent(both)} |")
    print(f"| CPU of a core: the far side (sshd, sh) | {percent(lambda a, b: b.remote - a.remote)} |")
    known = seen[0][0].bytes is not None
    print(f"| bytes a second, both ways | {f'{rate(wire):.0f}' if known else 'unknown: no ss here'} |")
    print(f"| round trips a second | {rate(lambda a, b: b.trips - a.trips):.2f} |")
    print(f"| frames a second | {rate(lambda a, b: b.frames - a.frames):.2f} |")


if __name__ == "__main__":
    main()
