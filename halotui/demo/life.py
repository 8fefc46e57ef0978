"""How the demo's llama-server ends with whoever needs it: its parent, or the box it belongs to.

Standard library only. A box is named ``PID:TICKS``, its process and when that began.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import threading
import time
from pathlib import Path

BOX = "HALOTUI_DEMO_BOX"
PR_SET_PDEATHSIG = 1
STOP_SECONDS = 3  # a stop may be lost, or wait for a stream


def die_with_parent(how: object) -> None:
    """``pipe``: a pipe ends with whoever holds its other end, however that one died."""
    if how == "thread":
        _killed_with_parent()
    if how:
        threading.Thread(target=_watch_stdin, daemon=True).start()


def _watch_stdin() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _killed_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # reaches a stopped process too


def belong_to(box: str) -> bool:
    """End with that process; False when it has gone already."""
    pid, _, ticks = box.partition(":")
    try:
        watched = os.pidfd_open(int(pid))
        if started(int(pid)) != ticks:
            return False
    except (OSError, ValueError):
        return False
    if started_by(box):
        _killed_with_parent()
    threading.Thread(target=_watch, args=(watched,), daemon=True).start()
    return True


def _watch(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def started_by(box: str) -> bool:
    """Whether that process is our parent."""
    return str(os.getppid()) == box.partition(":")[0]


def started(pid: int) -> str:
    """Clock ticks since boot, which tell a process from the next one of that pid. Raises OSError."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
