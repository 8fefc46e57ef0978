"""A program in a terminal of its own, as a person has it: a real PTY, drawn by pyte."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable
from typing import Any

import pyte

from running import environment

PATIENCE = 10.0  # seconds; the first picture takes one or two

KEYS = {
    "tab": "\t",
    "enter": "\r",
    "esc": "\x1b",
    "space": " ",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "ctrl+c": "\x03",
    "ctrl+p": "\x10",
}


class Terminal:
    """``with Terminal("--url", url) as screen: screen.wait_for("tiny.gguf")``.

    ``raw`` holds every byte that was written to the terminal.
    """

    def __init__(self, *args: object, width: int = 120, height: int = 40, **env: str) -> None:
        self.raw = bytearray()
        self.screen = pyte.Screen(width, height)
        self._stream = pyte.ByteStream(self.screen)
        env = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8", **env}
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [sys.executable, "-m", "halotui", *map(str, args)], environment(**env))
        self.modes_before = termios.tcgetattr(self._fd)
        self.code: int | None = None
        self.resize(width, height)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)

    # --- out

    def resize(self, width: int, height: int) -> None:
        """As a window manager does; the kernel tells the program."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("4H", height, width, 0, 0))
        self.screen.resize(height, width)
        self.screen.erase_in_display(2)  # whatever is seen from now on was drawn for this size

    def press(self, *keys: str) -> None:
        """Names of ``KEYS``, or what is typed."""
        for key in keys:
            os.write(self._fd, KEYS.get(key, key).encode())
            self.read(0.25 if key == "esc" else 0.03)  # what follows esc at once is alt and a letter

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    # --- in

    def read(self, seconds: float) -> None:
        """Draw what comes for so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._fd], [], [], left)[0]:
                break
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # the other side is closed
                data = b""
            if not data:
                return
            self.raw += data
            self._stream.feed(data)

    @property
    def rows(self) -> list[str]:
        return list(self.screen.display)

    @property
    def text(self) -> str:
        return "\n".join(self.rows)

    def wait_until(self, wanted: Callable[[], Any], seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not wanted():
            assert time.monotonic() < deadline, f"never came:\n{self.text}"
            self.read(0.1)

    def wait_for(self, text: str, seconds: float = PATIENCE) -> None:
        self.wait_until(lambda: text in self.text, seconds)

    def wait_gone(self, text: str, seconds: float = PATIENCE) -> None:
        self.wait_until(lambda: text not in self.text, seconds)

    def wait_end(self, seconds: float = 10.0) -> int:
        """Its exit code, or minus the signal that ended it."""
        deadline = time.monotonic() + seconds
        while True:
            self.read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.read(0.1)
                self.code = os.waitstatus_to_exitcode(status)
                return self.code
            assert time.monotonic() < deadline, f"still there:\n{self.text}"

    # --- looks

    def styles(self, text: str) -> Any:
        """The pyte cell in which ``text`` begins: fg, bg, bold, reverse."""
        for y, row in enumerate(self.rows):
            if text in row:
                return self.screen.buffer[y][row.index(text)]
        raise AssertionError(f"{text!r} is not on screen:\n{self.text}")

    def cells(self) -> list[tuple[Any, ...]]:
        """Every cell with its looks: what changes when only a colour changes."""
        size = range(self.screen.lines), range(self.screen.columns)
        return [tuple(self.screen.buffer[y][x] for x in size[1]) for y in size[0]]

    @property
    def modes(self) -> list[Any]:
        return termios.tcgetattr(self._fd)
