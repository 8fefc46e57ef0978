"""Children that end with us, even when we are killed; else they would at their next line, by SIGPIPE."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

from halotui.hosts import Host


def leash(host: Host) -> tuple[str, ...]:
    """What to write before a command. Nothing where there is no setpriv that can; on a box far away the link
    sees to it.

    The kernel looks at the thread that started it: it must not end before the command may.
    """
    return _leash() if host.here else ()


@cache
def _leash() -> tuple[str, ...]:
    path = shutil.which("setpriv")
    if path is None or Path(path).resolve().name != "setpriv":  # busybox's cannot
        return ()
    return path, "--pdeathsig", "KILL", "--"
