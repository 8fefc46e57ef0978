"""Keys for a program that reads them where its output goes: less opens the terminal of its stderr by name."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from halotui.benching.modes import is_foreground

_CHUNK = 1024


def awaited(pts: str) -> bool:
    """Whether a process has opened that terminal for reading alone. What was handed down, and its copies, are
    open for both: ncurses has no other, and reads its keys from stdin."""
    for place in Path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError, ValueError):
            for fd in place.iterdir():
                if os.readlink(fd) == pts:  # noqa: PTH115 - many
                    told = (place.parent / "fdinfo" / fd.name).read_text().partition("flags:")[2].split()[0]
                    if int(told, 8) & os.O_ACCMODE == os.O_RDONLY:
                        return True
    return False


def hand_in(terminal: int, pty: int) -> bool:
    """What is typed goes into the PTY; False when there is no more, or it is not ours to read."""
    if not is_foreground(terminal):
        return False
    with suppress(OSError):
        data = os.read(terminal, _CHUNK)
        return bool(data) and os.write(pty, data) > 0
    return False
