"""The kernel's log of a box far away without a journal: what a command there prints of /dev/kmsg."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import aclosing, suppress
from typing import NoReturn

from halotui.collectors.kernel_follow import (
    GROUP,
    LINES_AT_ONCE,
    MOST_WAITING,
    Line,
    denied,
    record,
    worth,
)
from halotui.hosts import Host
from halotui.model import SourceState, Unavailable

LIVE = 3.0  # seconds after which what comes was written just now
APART = 60.0  # seconds that its clock may be wrong, as after a suspend
_READ = 'cat "$1/uptime" && exec %s "$2" 2>&1'


class KmsgTail:
    """A ``Tail``. Its first line tells how long the box has been up."""

    name = "/dev/kmsg"

    def __init__(self, host: Host) -> None:
        self.heard = False
        self._host = host
        self._lines: deque[Line] = deque(maxlen=MOST_WAITING)
        self._booted = 0.0  # Unix seconds
        self._newest = -1.0  # seconds since then

    def take(self) -> list[Line]:
        lines = list(self._lines)
        self._lines.clear()
        return lines

    async def follow(self) -> NoReturn:
        """For as long as it lasts; then raises Unavailable. A line that was heard before is left out."""
        reader = "cat" if self._host.native else "tail -c +1 -F"  # a tree's is a file
        path = self._host.root / "dev/kmsg"
        argv = ("sh", "-c", _READ % reader, "sh", str(self._host.procfs), str(path))
        before, began, looked = -1.0, None, 0
        async with aclosing(self._host.stream(argv)) as lines:
            async for raw in lines:
                now = time.time()
                if began is None:
                    began, before = now, self._begin(raw, now)
                    continue
                self._hear(raw, before, now, now - began > LIVE)
                looked += 1
                if looked % LINES_AT_ONCE == 0:
                    await asyncio.sleep(0)
        if began is None:
            raise Unavailable(SourceState.ABSENT, f"there is no {self._host.procfs}/uptime")
        raise Unavailable(SourceState.FAILED, "what read /dev/kmsg has ended")

    def _begin(self, raw: bytes, now: float) -> float:
        """Since boot: what comes up to then was heard before."""
        up = 0.0
        with suppress(ValueError, IndexError):
            up = float(raw.split()[0])
        same = abs(now - up - self._booted) < APART
        self._booted = now - up
        self._newest = self._newest if same else -1.0
        self.heard = True
        return self._newest

    def _hear(self, raw: bytes, before: float, now: float, live: bool) -> None:
        if denied(raw):
            raise Unavailable(SourceState.DENIED, "the kernel's log is not ours to read", GROUP)
        found = record(raw.rstrip(b"\n"))
        if found is None or found.time <= before:
            return
        self._newest = max(self._newest, found.time)
        when = min(now, self._booted + found.time)
        if worth(raw):
            self._lines.append(Line(now if live and now - when > APART else when, found.text))
