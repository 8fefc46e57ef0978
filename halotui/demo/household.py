"""The llama-servers of a box, whoever started them: known by the mark in their environment."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from halotui.demo.life import BOX, started

ASKING = frozenset((b"-h", b"--help", b"--usage", b"--version"))  # these load nothing
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Resident:
    """One server. ``age``: seconds since its process began."""

    pid: int
    binary: str
    age: float


def mark() -> str:
    """Of the box that asks, for the environment of its servers."""
    return f"{os.getpid()}:{started(os.getpid())}"


def residents(box: str) -> list[Resident]:
    """Those that serve or load, the oldest first."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    found = []
    for pid in _pids(box, b"llama-server\n"):
        with suppress(OSError, IndexError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            binary = next((word for word in words if word.endswith(b"/llama-server")), b"")
            if ASKING.isdisjoint(words):
                found.append(Resident(pid, os.fsdecode(binary), now - int(started(pid)) / TICKS))
    return sorted(found, key=lambda resident: -resident.age)


def evict(box: str, state: Path, seconds: float) -> None:
    """End everything of this box: wake it, TERM, TERM, KILL, each with so many seconds to go. First of all
    a relaunch under way, which would put back what ran, and write into a directory that has gone.
    """
    for pid in _workers(state):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        end = time.monotonic() + seconds
        for pid in _pids(box):
            _signal(pid, box, signal.SIGCONT, number)
        while pids := list(_pids(box)):
            if time.monotonic() > end:
                break
            _wait(pids[0], min(0.2, seconds))
        else:
            return


def _pids(box: str, name: bytes = b"") -> Iterator[int]:
    """Living processes with the mark, and of that name if told."""
    wanted = f"{BOX}={box}".encode()
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or name not in (b"", _content(process / "comm")):
            continue
        if wanted in _content(process / "environ").split(b"\0"):
            yield int(process.name)


def _workers(state: Path) -> Iterator[int]:
    """Processes that write launches down there."""
    wanted = {b"halotui.servers.worker", os.fsencode(state)}
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and wanted <= set(_content(process / "cmdline").split(b"\0")):
            yield int(process.name)


def _content(path: Path) -> bytes:
    """Nothing where the process is gone, or not ours."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _signal(pid: int, box: str, *numbers: int) -> None:
    with suppress(OSError):
        held = os.pidfd_open(pid)
        try:
            if pid in _pids(box):  # still the one that was found
                for number in numbers:
                    signal.pidfd_send_signal(held, number)
        finally:
            os.close(held)


def _wait(pid: int, seconds: float) -> None:
    with suppress(OSError):
        held = os.pidfd_open(pid)
        try:
            select.select([held], [], [], seconds)
        finally:
            os.close(held)
