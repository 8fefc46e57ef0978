"""In a real tmux, as on a box that one has logged in to: copied, resized, detached, hung up; and in its
status line. And without any terminal at all, as ``ssh box halotui --once``."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from fake_server import FakeServer
from running import environment, run
from terminal import Terminal

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux")
PATIENCE = 20.0


class Tmux:
    """A server of its own, with nobody's configuration."""

    def __init__(self, place: Path) -> None:
        self._socket = place / "tmux.sock"
        self.env = {**environment(TERM="screen-256color", LANG="C.UTF-8"), "COLORTERM": "", "TMUX": ""}

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), "-f", "/dev/null", *words],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=15,
        )
        return done.stdout

    def start(self, *words: object) -> int:
        """halotui in a pane; its pid."""
        command = shlex.join([sys.executable, "-m", "halotui", *map(str, words)])
        self("new-session", "-d", "-s", "main", "-x", "120", "-y", "40", f"exec {command}")
        self("set", "-g", "set-clipboard", "on")
        return int(self("display-message", "-p", "-t", "main", "#{pane_pid}"))

    @property
    def screen(self) -> str:
        return self("capture-pane", "-p", "-t", "main")


def until(wanted: Callable[[], Any], say: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not wanted():
        assert time.monotonic() < deadline, f"never came:\n{say()}"
        time.sleep(0.1)


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    one = Tmux(tmp_path)
    yield one
    one("kill-server")


@pytest.mark.slow
def test_copied_resized_detached_and_hung_up(tmux: Tmux) -> None:
    with FakeServer() as fake:
        pid = tmux.start("--url", fake.url)
        until(lambda: "fake" in tmux.screen and "quit" in tmux.screen, lambda: tmux.screen)
        everything = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        tmux("send-keys", "-t", "main", "y")
        until(lambda: "halotui" in tmux("show-buffer"))
        assert "fake" in tmux("show-buffer")  # what was on the screen, as text
        tmux("set", "-g", "set-clipboard", "off")
        tmux("set", "-g", "allow-passthrough", "on")
        with Attached(tmux) as client:
            client.wait_for("fake", PATIENCE)
            client.resize(90, 30)
            until(lambda: "quit" in tmux.screen.splitlines()[28:][0], lambda: tmux.screen)
            assert max(map(len, tmux.screen.splitlines())) <= 90
            tmux("send-keys", "-t", "main", "y")
            client.wait_until(lambda: b"\x1b]52;c;" in client.raw, PATIENCE)  # passed through
            tmux("detach-client", "-s", "main")
            assert client.wait_end() == 0
        with Attached(tmux) as client:
            client.resize(130, 36)
            until(lambda: any(len(row) > 110 for row in tmux.screen.splitlines()), lambda: tmux.screen)
            assert "fake" in tmux.screen and "Traceback" not in tmux.screen
        tmux("kill-session", "-t", "main")  # SIGHUP
        _, alive = psutil.wait_procs(everything, 10)
        assert not alive


@pytest.mark.slow
def test_the_line_in_a_status_line(tmux: Tmux) -> None:
    """A hostile name is a name there, and orders nothing."""
    with FakeServer() as fake:
        fake.answers["/props"] = (200, {"total_slots": 1, "model_path": "/m/ev#[fg=red]il#{pid}.gguf"})
        tmux("new-session", "-d", "-s", "main", "-x", "120", "-y", "10", "sleep 60")
        words = [sys.executable, "-m", "halotui", "line", "-f", "-i", "0.5", "--url", fake.url]
        tmux("set", "-g", "status-right-length", "90")
        tmux("set", "-g", "status-right", f"#({shlex.join([*words, '--format', 'tmux'])})")
        with Attached(tmux) as terminal:
            terminal.wait_for("ev#[fg=red]il#{pid} idle", PATIENCE)


class Attached(Terminal):
    """A tmux client on a terminal that is drawn."""

    def __init__(self, tmux: Tmux) -> None:
        self._argv = ["tmux", "-S", str(tmux._socket), "attach", "-t", "main"]
        execve = os.execve

        def instead(_: str, __: list[str], env: dict[str, str]) -> None:
            execve(str(shutil.which("tmux")), self._argv, {**env, "TMUX": ""})

        os.execve = instead  # type: ignore[assignment]
        try:
            super().__init__(width=120, height=10)
        finally:
            os.execve = execve


@pytest.mark.parametrize("words", [["--once"], []])
def test_without_a_terminal(words: list[str]) -> None:
    """``ssh box halotui``: text without codes, and a width that nobody knows is no reason to cut."""
    with FakeServer() as fake:
        done = run(*words, "-i", 0.25, "--url", fake.url, TERM="dumb", FORCE_COLOR="1")
    assert done.returncode == 0 and not done.stderr
    assert "fake" in done.stdout and fake.url in done.stdout
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", done.stdout)


@pytest.mark.slow
def test_few_bytes_a_second() -> None:
    """What a slow link carries: changed cells, and nothing where nothing changes."""
    with FakeServer() as fake, Terminal("--url", fake.url) as terminal:
        terminal.wait_for("fake")
        terminal.read(2.0)
        mark = len(terminal.raw)
        terminal.read(2.0)
        assert 0 < (len(terminal.raw) - mark) / 2 < 4000
        assert b"\x1b[2J" not in terminal.raw[mark:]  # never the whole screen
        terminal.press("space")
        terminal.wait_for("FROZEN")
        terminal.read(0.5)
        mark = len(terminal.raw)
        terminal.read(1.5)
        assert len(terminal.raw) == mark
