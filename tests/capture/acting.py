"""What is captured in the tests: a GPU whose files a script writes, and a process that holds memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import sysfs_tree
from halotui.hosts.local import LocalHost
from halotui.runs import Mark, Samples, Summary, Track

MIB, GIB = 1 << 20, 1 << 30
GTT, VRAM, USED, RSS = "gpu.gtt_used_bytes", "gpu.vram_used_bytes", "memory.used_bytes", "process.rss_bytes"
SCRIPT = """
import json, os, sys, time
device, acts = sys.argv[1], json.loads(sys.argv[2])
sys.stdin.readline()
began = time.monotonic()
for at, name, value in acts:
    time.sleep(max(0, began + at - time.monotonic()))
    with open(f"{device}/spare", "w") as spare:
        spare.write(f"{value}\\n")
    os.replace(f"{device}/spare", f"{device}/{name}")
print("done", flush=True)
sys.stdin.readline()
"""
HOLDER = """
import mmap, sys, time
held = {}
for line in sys.stdin:
    word, name, size = line.split()
    if word == "take":
        held[name] = mmap.mmap(-1, int(size))
        for at in range(0, int(size), 4096):
            held[name][at] = 1
    else:
        held.pop(name).close()
    print("ok", flush=True)
"""


class Child:
    """A process that does as its standard input says, and answers a line for a line."""

    def __init__(self, code: str, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self.process.pid

    def say(self, line: str = "") -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def ask(self, line: str = "") -> str:
        self.say(line)
        return self.hear()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def child(code: str, *args: str) -> Iterator[Child]:
    it = Child(code, *args)
    try:
        yield it
    finally:
        it.end()


def script(device: Path, acts: Sequence[tuple[float, str, int]]) -> Child:
    return Child(SCRIPT, str(device), json.dumps(acts))


class Box:
    """A fixture sysfs with one GPU, real procfs."""

    def __init__(self, root: Path, **changed: str | None) -> None:
        self.root = root
        self.device = sysfs_tree.build(root, metrics=sysfs_tree.v3_0(), **changed)
        self.host = LocalHost(sysfs=root)

    def write(self, name: str, content: str | bytes | int) -> None:
        """Whole, as a kernel does."""
        spare = self.root / "spare"
        spare.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())
        spare.replace(self.device / name)

    def hang(self, *names: str) -> None:
        for name in names:
            os.mkfifo(self.root / "spare")
            (self.root / "spare").replace(self.device / name)

    def recover(self, name: str, content: str | bytes | int) -> None:
        """Whoever waits comes back with nothing read."""
        writer = os.open(self.device / name, os.O_RDWR)
        self.write(name, content)
        os.close(writer)


class Kept:
    """A sink that keeps."""

    def __init__(self) -> None:
        self.samples: list[Samples] = []
        self.marks: list[Mark] = []
        self.times: list[float] = []

    def write(self, samples: Samples) -> None:
        self.samples.append(samples)
        self.times.append(time.monotonic())

    def mark(self, mark: Mark) -> None:
        self.marks.append(mark)


def track(summary: Summary, field: str) -> Track:
    found = summary.track(field)
    assert found is not None, field
    return found


def until(what: object, seconds: float = 10.0) -> None:
    """Wait until ``what()`` is true."""
    deadline = time.monotonic() + seconds
    assert callable(what)
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)
