"""A command's processes: all that it has started, told to end."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from halotui.hosts.hands import Hands, Identity

Finding = Callable[[], list[Identity]]  # who they are now

_PAUSE_SECONDS = 0.05


def tree(hands: Hands, pid: int) -> list[Identity]:
    """The process and its descendants, the eldest first. A daemon that has left its parents is not one."""
    parents = dict(_parents())
    pids, found = [pid], []
    for one in pids:
        if who := hands.identify(one):
            found.append(who)
        pids += [child for child, parent in parents.items() if parent == one and child not in pids]
    return found


def send(hands: Hands, family: Iterable[Identity], number: int) -> None:
    for who in family:
        with suppress(PermissionError):
            hands.signal(who, number)


async def gone(hands: Hands, family: Iterable[Identity], seconds: float) -> bool:
    """Whether all of them have ended by then."""
    deadline = time.monotonic() + seconds
    while await asyncio.to_thread(_any_alive, hands, family):
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(_PAUSE_SECONDS)
    return True


def _any_alive(hands: Hands, family: Iterable[Identity]) -> bool:
    return any(hands.alive(who) for who in family)


def _parents() -> Iterable[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError, IndexError, ValueError):
                yield int(entry.name), int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])


def foreground() -> bool:
    """Whether a terminal's Ctrl-C goes to our process group, and so to the command without us."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
