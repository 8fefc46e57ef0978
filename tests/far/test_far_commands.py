"""The commands with ``--ssh``: through a real sshd they answer as they do on the box itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from box_trees import build
from running import HALOTUI, PATIENCE, environment, run
from sshd import Sshd, sshd

Halotui = Callable[..., "subprocess.CompletedProcess[str]"]
LOGS = Path(__file__).parent.parent / "fixtures/logs"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("far")) as server:
        yield server


@pytest.fixture
def far(box: Sshd, tmp_path: Path) -> Halotui:
    def halotui(command: str, *args: object) -> subprocess.CompletedProcess[str]:
        options = ("--ssh", "box", "--ssh-config", box.config)
        return run(command, *options, *args, XDG_STATE_HOME=str(tmp_path))

    return halotui


def test_bench_runs_it_there_with_its_stdin_output_and_exit_code(far: Halotui, tmp_path: Path) -> None:
    words = "a 'quoted' $word\nand a line"
    done = far("bench", "--label", "far", "--", "sh", "-c", 'printf %s "$1"; echo no >&2; exit 3', "-", words)
    assert (done.returncode, done.stdout) == (3, words)
    assert done.stderr.startswith("no\n") and "RAM" in done.stderr
    kept = far("runs", "--json")
    assert [one["label"] for one in json.loads(kept.stdout)] == ["far"]
    assert (tmp_path / "halotui/hosts/box/store.sqlite").is_file()
    assert run("runs", "--json", XDG_STATE_HOME=str(tmp_path)).stdout.strip() == "[]"


def test_bench_hands_on_a_pipe_and_a_signal_and_leaves_nothing(box: Sshd, tmp_path: Path) -> None:
    argv = [*HALOTUI, "bench", "--ssh", "box", "--ssh-config", str(box.config), "--no-store", "--quiet", "--"]
    child = subprocess.Popen(
        [*argv, "sh", "-c", "read line; echo $line $$; sleep 97; echo never"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(XDG_STATE_HOME=str(tmp_path)),
    )
    assert child.stdin and child.stdout
    with child:
        child.stdin.write(b"hello\n")
        child.stdin.flush()
        word, pid = child.stdout.readline().split()
        assert (word, Path(f"/proc/{int(pid)}").exists()) == (b"hello", True)
        child.send_signal(signal.SIGTERM)
        # until the far command is known to run the signal is ours, and ends us at once
        assert child.wait(PATIENCE) in (128 + signal.SIGTERM, -signal.SIGTERM)
    assert _gone(int(pid))


def test_a_command_ends_there_when_we_are_killed(box: Sshd, tmp_path: Path) -> None:
    argv = [*HALOTUI, "bench", "--ssh", "box", "--ssh-config", str(box.config), "--no-store", "--quiet", "--"]
    child = subprocess.Popen(
        [*argv, "sh", "-c", "echo $$; exec sleep 97"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(XDG_STATE_HOME=str(tmp_path)),
    )
    assert child.stdout
    with child:
        pid = int(child.stdout.readline())
        child.kill()
    assert _gone(pid)


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not Path(f"/proc/{pid}").exists()


def test_peak_has_the_memory_of_that_box(far: Halotui) -> None:
    done = far("peak", "--for", 1, "--json", "--no-store", "--pid", os.getpid())
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["max_memory"]["ram"]["peak_bytes"] > 0
    assert told["summary"]["processes"][0]["pid"] == os.getpid()


def test_doctor_says_of_a_far_box_what_it_says_of_it_there(far: Halotui, tmp_path: Path) -> None:
    build(tmp_path, "128-512m")
    roots = ("--sysfs", tmp_path / "sysfs", "--procfs", tmp_path / "procfs")
    here, there = run("doctor", "--json", *roots), far("doctor", "--json", *roots)
    assert (there.returncode, there.stderr) == (here.returncode, "")
    assert json.loads(there.stdout) == json.loads(here.stdout)


def test_a_log_there_is_read_as_one_here(far: Halotui, tmp_path: Path) -> None:
    log = tmp_path / "a log.txt"
    log.write_bytes((LOGS / "new-two-slots.log").read_bytes())
    for command in ("requests", "check"):
        here, there = run(command, "--log", log, "--json"), far(command, "--log", log, "--json")
        assert (there.returncode, there.stdout) == (here.returncode, here.stdout), there.stderr
    none = far("requests", "--log", tmp_path / "none.log")
    assert (none.returncode, none.stderr.count("\n")) == (2, 1) and "no such file" in none.stderr


def test_servers_are_those_of_that_box(far: Halotui, tmp_path: Path) -> None:
    there = far("servers", "--json", "--procfs", tmp_path, "--sysfs", tmp_path)
    assert (there.returncode, there.stdout.strip()) == (0, "[]"), there.stderr


@pytest.mark.parametrize("command", ["doctor", "bench"])
def test_a_box_that_is_not_reached_is_one_line(command: str) -> None:
    done = run(command, "--ssh", "nowhere.invalid", *(["--", "true"] if command == "bench" else []))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert "nowhere.invalid" in done.stderr


@pytest.mark.parametrize("command", ["doctor", "replay"])
def test_one_box_at_a_time(command: str) -> None:
    done = run(command, "--ssh", "a", "--ssh", "b", *(["--last"] if command == "replay" else []))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "one box at a time" in done.stderr
