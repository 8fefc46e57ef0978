"""The demo's llama-server: the real one, of two eras, that stops when told and dies with its parent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ACCEPTANCE = re.compile(r"draft acceptance = [\d.]+ \( +(\d+) accepted / +(\d+) generated\)")
OLD_ACCEPTANCE = re.compile(r"^draft acceptance rate = [\d.]+", re.MULTILINE)


def test_it_is_found_as_a_llama_server(server: Any) -> None:
    assert Path(f"/proc/{server.pid}/comm").read_text() == "llama-server\n"
    assert [slot["n_ctx"] for slot in server.get_json("/slots")] == [2048, 2048]
    assert server.get_json("/props")["total_slots"] == 2
    assert b"llamacpp:n_decode_total" in server.get("/metrics")


def test_it_starts_in_a_moment(start_server: Callable[..., Any]) -> None:
    start = time.monotonic()
    with start_server("-np", "1", "-c", "512"):
        assert time.monotonic() - start < 1.5


def test_reply_log_and_counters_agree_on_drafts(start_server: Callable[..., Any], models: Path) -> None:
    draft = ("-md", models / "draft-mid.gguf", "--spec-type", "draft-simple", "--spec-draft-n-max", "4")
    with start_server("-np", "1", "-c", "1024", "--metrics", *draft) as server:
        timings = server.complete("rain on stone", 120)["timings"]
        metrics = server.get("/metrics").decode()
        found = ACCEPTANCE.search(server.log())
    drafted = timings["draft_n_accepted"], timings["draft_n"]
    assert found
    assert tuple(map(int, found.groups())) == drafted
    for name, count in zip(("accepted", "draft"), drafted, strict=True):
        assert f"llamacpp:spec_decode_num_{name}_tokens_total {count}\n" in metrics


def test_an_old_wheel_speaks_the_old_log(
    start_server: Callable[..., Any], models: Path, old_wheel: Path
) -> None:
    flags = ("-np", "1", "-c", "1024", "-md", models / "draft-good.gguf", "--metrics")
    with start_server(*flags, "--spec-type", "draft-simple", wheel=old_wheel) as server:
        timings = server.complete("rain on stone", 100)["timings"]
        assert timings["draft_n"] == timings["draft_n_accepted"] > 0
        assert server.get_json("/slots")[0]["speculative"]
        log = server.log()
    assert OLD_ACCEPTANCE.search(log)
    assert "n_slots = 1" in log
    assert not re.search(r"^\d+\.\d\d\.\d{3}\.\d{3} ", log, re.MULTILINE)


def test_np_slots_fault_starts_four_where_one_was_asked(start_server: Callable[..., Any]) -> None:
    with start_server("-np", "1", "-c", "2048", env={"HALOTUI_DEMO_FAULT": "np-slots"}) as server:
        argv = Path(f"/proc/{server.pid}/cmdline").read_text().split("\0")
        assert argv[argv.index("-np") + 1] == "1"
        assert [slot["n_ctx"] for slot in server.get_json("/slots")] == [2048] * 4  # one pool for all
        assert "n_slots = 4, n_ctx_slot = 2048, kv_unified = 'true'" in server.log()


@pytest.mark.parametrize(("flags", "path", "code"), [((), "/metrics", 501), (("--no-slots",), "/slots", 501)])
def test_endpoints_follow_the_flags(
    start_server: Callable[..., Any], flags: tuple[str, ...], path: str, code: int
) -> None:
    with start_server(*flags, "-c", "512") as server, pytest.raises(urllib.error.HTTPError) as refused:
        server.get(path)
    assert refused.value.code == code


def test_it_wants_its_key(start_server: Callable[..., Any]) -> None:
    with start_server("-c", "512", "--api-key", "sesame", "-a", "cave") as server:
        assert server.get_json("/v1/models")["data"][0]["id"] == "cave"
        del server._headers["Authorization"]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            server.get("/slots")


def test_it_sleeps_when_asked(start_server: Callable[..., Any]) -> None:
    with start_server("-c", "512", "--sleep-idle-seconds", "1") as server:
        deadline = time.monotonic() + 10
        while not (asleep := server.get_json("/props")["is_sleeping"]) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert asleep


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_told(start_server: Callable[..., Any], number: signal.Signals) -> None:
    server = start_server("-c", "512")
    start = time.monotonic()
    server.process.send_signal(number)
    assert server.process.wait(10) == 0
    assert time.monotonic() - start < 2


def test_it_ends_with_its_parents_pipe(start_server: Callable[..., Any]) -> None:
    server = start_server("-c", "512")
    server.process.stdin.close()
    assert server.process.wait(10) == 0


def test_it_dies_with_its_parent_even_when_stopped(models: Path, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    command = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "halotui.demo.server", "-m", {str(models / "tiny.gguf")!r},
    "-c", "512", "-t", "1", "--port", "0", "--log-file", {str(log)!r}, "--die-with-parent", "thread"],
    stdin=subprocess.PIPE)
print(child.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        deadline = time.monotonic() + 10
        while not (log.exists() and "listening" in log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(pid, signal.SIGSTOP)
        parent.kill()
    deadline = time.monotonic() + 5
    while running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(pid)


def running(pid: int) -> bool:
    """Neither gone nor waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_missing_model_is_an_error(models: Path) -> None:
    argv = [sys.executable, "-m", "halotui.demo.server", "-m", str(models / "none.gguf"), "--port", "0"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert "none.gguf" in ended.stderr


def test_an_unknown_flag_is_an_error() -> None:
    argv = [sys.executable, "-m", "halotui.demo.server", "-m", "x", "--draft-max", "4"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert "--draft-max" in ended.stderr


def test_without_the_wheel_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('not here')")
    argv = [sys.executable, "-m", "halotui.demo.server", "-m", "x"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "pip install halotui[demo]" in ended.stderr
