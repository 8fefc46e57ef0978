"""Terminal modes that a command sets on its output's PTY, carried over to the real terminal.

Programs that read keys through stdin or /dev/tty have the real terminal already. ncurses sets the modes of
its stdout instead, which is our PTY, and would get its keys a line at a time.
"""

from __future__ import annotations

import os
import termios
from contextlib import suppress
from typing import Any

_INPUT, _OUTPUT, _LOCAL, _CHARS = 0, 1, 3, 6  # of what tcgetattr gives


class Modes:
    """Of one PTY, by our end ``fd``; ``terminal`` is the real one. Made before the command starts.

    OPOST is off on the PTY, so that the bytes come as they were written; the real terminal does to them what
    it does to all. The rest is as there: ONLCR does nothing then, but tells what ncurses wants.
    """

    def __init__(self, fd: int, terminal: int) -> None:
        self._fd = fd
        self._terminal = terminal
        self._before = termios.tcgetattr(terminal)
        self._changed = False
        start: list[Any] = [*self._before]
        start[_OUTPUT] &= ~termios.OPOST
        termios.tcsetattr(fd, termios.TCSANOW, start)
        self._last: list[Any] = termios.tcgetattr(fd)

    @property
    def by_key(self) -> bool:
        """Whether the command wants its keys one by one, as far as it said so here."""
        return not self._last[_LOCAL] & termios.ICANON

    def follow(self) -> bool:
        """Carry over what has changed since the last look; one ioctl, and False, when nothing has."""
        try:
            now: list[Any] = termios.tcgetattr(self._fd)
        except termios.error:  # nobody holds the other end any more
            return False
        if now == self._last:
            return False
        wanted = now
        if now[_OUTPUT] & termios.OPOST:
            now = [*now]
            now[_OUTPUT] &= ~termios.OPOST
            with suppress(termios.error):
                termios.tcsetattr(self._fd, termios.TCSANOW, now)
        self._apply(wanted)
        self._last = now
        return True

    def restore(self) -> None:
        """As it was, if it was changed."""
        if self._changed and is_foreground(self._terminal):
            self._changed = False
            with suppress(termios.error):
                termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._before)

    def _apply(self, wanted: list[Any]) -> None:
        if not is_foreground(self._terminal):  # it is not the command's to change, and would stop us
            return
        with suppress(termios.error):
            real: list[Any] = termios.tcgetattr(self._terminal)
            for part in (_INPUT, _LOCAL, _CHARS):
                real[part] = wanted[part]
            real[_OUTPUT] = (real[_OUTPUT] & ~termios.ONLCR) | (wanted[_OUTPUT] & termios.ONLCR)
            termios.tcsetattr(self._terminal, termios.TCSADRAIN, real)
            self._changed = True


def is_foreground(terminal: int) -> bool:
    """Whether the terminal's keys and lines are ours now, and not those of the shell that we run behind."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # not our controlling terminal: nobody is stopped for it
        return True
