"""Relaunch by keys, in a real terminal, with the real server: what the issue's last line asks for."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from binaries import Brood, Server, binary
from terminal import Terminal


def screen(brood: Brood, server: Server) -> Terminal:
    env = {name: value for name, value in brood.env.items() if name.startswith(("XDG_", "HALOTUI_TEST"))}
    return Terminal("--url", server.url, **env)


def swap(terminal: Terminal) -> None:
    """To the profile ``slow``, not measured, until it loads."""
    terminal.press("b")
    terminal.wait_for("→  slow", 30)
    terminal.wait_for("m measure", 30)
    terminal.press("m")
    terminal.wait_for("before and after: off", 30)
    terminal.wait_for("m measure", 30)
    terminal.press("enter")
    terminal.wait_for("loading slow", 30)


def slow(brood: Brood, program: Path, seconds: int, more: str = "") -> None:
    """The profile: another binary, which takes its time."""
    env = f'{{ HALOTUI_TEST_LOAD_SECONDS = "{seconds}", HALOTUI_TEST_BROOD = "{brood.mark}" }}'
    config(brood, f'[profiles.slow]\nbinary = "{program}"\nbackend = "rocm"\nenv = {env}\n{more}')


def slots(server: Server) -> int:
    with urllib.request.urlopen(f"{server.url}/props", timeout=20) as answer:
        return int(json.load(answer)["total_slots"])


def config(brood: Brood, text: str) -> Path:
    file = Path(brood.env["XDG_CONFIG_HOME"]) / "halotui/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


@pytest.mark.slow
def test_b_on_the_demo_swaps_the_backend_and_shows_the_delta() -> None:
    with Terminal("demo", width=120, height=40) as screen:
        screen.wait_for("vulkan", 30)
        screen.wait_for("decode ")
        screen.press("b")
        screen.wait_for("vulkan  →  rocm", 30)
        screen.wait_for("m measure", 30)
        screen.press("enter")
        screen.wait_for("The new one serves", 110)
        for word in ("pp t/s", "tg t/s", "acceptance", "peak memory", "load time", "before", "after", "%"):
            screen.wait_for(word)  # a pop-up may come in pieces
        screen.press("enter")
        screen.wait_until(lambda: " rocm " in screen.rows[0])
        screen.press("q")
        assert screen.wait_end(15) == 0


def test_the_terminal_is_closed_while_the_server_is_exchanged(brood: Brood, tmp_path: Path) -> None:
    """SIGHUP takes the screen, and nothing else."""
    server = brood.start(binary(tmp_path / "vulkan"), "-np", "2").wait_ready()
    slow(brood, binary(tmp_path / "rocm"), 4, "flags = { np = 3 }\n")
    with screen(brood, server) as terminal:
        terminal.wait_for("tiny")
        swap(terminal)
        os.kill(terminal.pid, signal.SIGHUP)
        assert terminal.wait_end(15) == 128 + signal.SIGHUP
    deadline = time.monotonic() + 30
    while True:
        try:
            if slots(server) == 3:
                break
        except OSError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.2)
    last = Path(brood.env["XDG_STATE_HOME"]) / "halotui/launches/last.json"
    while not last.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert json.loads(last.read_bytes())["outcome"]["step"] == "kept"
    assert len(brood.pids("llama-server")) == 1


def test_what_was_cut_off_is_offered_at_the_next_start(brood: Brood, tmp_path: Path) -> None:
    server = brood.start(binary(tmp_path / "vulkan"), "-np", "2").wait_ready()
    slow(brood, binary(tmp_path / "rocm"), 60)
    with screen(brood, server) as terminal:
        terminal.wait_for("tiny")
        swap(terminal)
        journal = Path(brood.env["XDG_STATE_HOME"]) / "halotui/launches/current.json"
        os.kill(json.loads(journal.read_bytes())["owner"]["pid"], signal.SIGKILL)
        terminal.wait_for("cut off", 30)
    with screen(brood, server) as terminal:
        terminal.wait_for("undo", 30)
        terminal.wait_for("cut off", 30)
        terminal.press("u")
        terminal.wait_for("c copy", 30)
        terminal.press("enter")
        terminal.wait_for("what ran before serves again", 60)
        terminal.press("enter", "q")
        terminal.wait_end(15)
    assert slots(server) == 2
    assert len(brood.pids("llama-server")) == 1


def test_what_runs_is_saved_as_a_profile(brood: Brood, tmp_path: Path) -> None:
    server = brood.start(binary(tmp_path / "vulkan"), "-np", "2").wait_ready()
    file = config(brood, "# mine\ninterval = 1.0  # a second\n")
    with screen(brood, server) as terminal:
        terminal.wait_for("tiny")
        terminal.press("S")
        terminal.wait_for("name of the new profile")
        terminal.press("daily", "enter")
        terminal.wait_for("profile daily", 20)
        terminal.press("q")
        terminal.wait_end(15)
    text = file.read_text()
    assert text.startswith("# mine\ninterval = 1.0  # a second\n")
    assert "[profiles.daily]" in text and "np = 2" in text


def test_read_only(brood: Brood, tmp_path: Path) -> None:
    server = brood.start(binary(tmp_path / "vulkan")).wait_ready()
    env = {name: value for name, value in brood.env.items() if name.startswith("XDG_")}
    with Terminal("--readonly", "--url", server.url, **env) as terminal:
        terminal.wait_for("tiny")
        assert "relaunch" not in terminal.text
        for key in ("r", "b", "u", "x", "S"):
            terminal.press(key)
            terminal.wait_for("read-only")
        terminal.press("q")
        assert terminal.wait_end(15) == 0
    assert server.poll() is None
