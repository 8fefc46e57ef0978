"""``halotui bench`` and ``peak`` as their users run them: with pipes, or in a terminal of their own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

from halotui.runs import Run
from halotui.store import open_store
from running import HALOTUI, environment

FIXTURES = Path(__file__).parents[1] / "fixtures/llama_bench"
PATIENCE = 60.0  # seconds


class Place:
    """A state directory, and what runs with it."""

    def __init__(self, root: Path) -> None:
        self.state = root / "state"
        self.env = environment(XDG_STATE_HOME=str(self.state), XDG_CONFIG_HOME=str(root / "config"))

    def run(self, *args: object, stdin: bytes = b"", **more: Any) -> subprocess.CompletedProcess[bytes]:
        """To its end, through pipes."""
        return subprocess.run(
            [*HALOTUI, *map(str, args)],
            env=self.env,
            input=stdin,
            capture_output=True,
            timeout=PATIENCE,
            **more,
        )

    def start(self, *args: object, **more: Any) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen([*HALOTUI, *map(str, args)], env=self.env, **pipes)

    def runs(self) -> list[Run]:
        store = open_store(self.state / "halotui/store.sqlite", readonly=True)
        try:
            return store.runs()
        finally:
            store.close()

    def last(self) -> Run:
        return self.runs()[0]

    def wait_for_run(self, seconds: float = PATIENCE) -> Run:
        """Until one is under way and has samples."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (self.state / "halotui/store.sqlite").exists() and (runs := self.runs()):
                store = open_store(self.state / "halotui/store.sqlite", readonly=True)
                if store.samples(runs[0].id):
                    return runs[0]
            time.sleep(0.1)
        raise AssertionError("no run came")


class Raw:
    """In a terminal that changes nothing: every byte as it was written. ``apart``: stderr is a pipe."""

    def __init__(self, place: Place, *args: object, apart: bool = False, width: int = 100) -> None:
        self._fd, end = pty.openpty()
        modes = termios.tcgetattr(end)
        modes[1] &= ~termios.OPOST
        termios.tcsetattr(end, termios.TCSANOW, modes)
        self.resize(width, 30)
        self.out = bytearray()
        errors = subprocess.PIPE if apart else end

        def own_terminal() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [*HALOTUI, *map(str, args)],
            env={**place.env, "TERM": "xterm-256color", "LANG": "C.UTF-8"},
            stdin=end,
            stdout=end,
            stderr=errors,
            preexec_fn=own_terminal,
        )
        os.close(end)

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("4H", height, width, 0, 0))

    @property
    def modes(self) -> list[Any]:
        return termios.tcgetattr(self._fd)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def read(self, seconds: float) -> bool:
        """Some of it; False at the end."""
        if select.select([self._fd], [], [], seconds)[0]:
            try:
                data = os.read(self._fd, 65536)
            except OSError:
                return False
            self.out += data
            return bool(data)
        return self.process.poll() is None

    def wait_for(self, text: bytes, seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.out:
            assert time.monotonic() < deadline, f"never came: {text!r}\n{bytes(self.out[-2000:])!r}"
            self.read(0.05)

    def end(self, seconds: float = PATIENCE) -> int:
        """Its exit code, once all it wrote is read."""
        deadline = time.monotonic() + seconds
        while self.read(0.05):
            if time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(f"still there\n{bytes(self.out[-2000:])!r}")
        code = self.process.wait(10)
        os.close(self._fd)
        return code


def script(path: Path, text: str) -> list[str]:
    """A Python program as a command."""
    path.write_text(text)
    return [sys.executable, str(path)]


def replay(path: Path, fixture: str, *, err: bool = False, pause: float = 0.02) -> list[str]:
    """Stands in for llama-bench: prints what a real one printed, line by line, and takes its time."""
    return script(
        path,
        "import sys, time\n"
        f"out = sys.std{'err' if err else 'out'}.buffer\n"
        f"for line in open({str(FIXTURES / fixture)!r}, 'rb'):\n"
        f"    out.write(line); out.flush(); time.sleep({pause})\n",
    )
