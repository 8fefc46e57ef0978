"""``halotui peak``: around what runs already, until Ctrl-C, --for, or its end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from benched import Place, Raw

from halotui.runs import Kind, Status
from sysfs_tree import build

pytestmark = pytest.mark.slow
MIB = 1024 * 1024


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_for_a_while(place: Place) -> None:
    began = time.monotonic()
    done = place.run("peak", "--for", "2", "--label", "idle")
    assert done.returncode == 0 and time.monotonic() - began < 20
    assert re.search(r"^RAM +\d+ +\d+ ", done.stdout.decode(), re.M)
    assert done.stderr.decode().splitlines() == ["halotui: run stored as 1: halotui runs show 1"]
    run = place.last()
    assert (run.kind, run.status, run.label) == (Kind.PEAK, Status.OK, "idle")
    assert run.summary and 1.8 < run.summary.seconds < 5 and run.environment


def test_as_json_with_a_gpu(place: Place, tmp_path: Path) -> None:
    device = build(tmp_path / "sys", mem_info_gtt_used=str(100 * MIB))
    peak = place.start("peak", "--json", "--for", "4", "--sysfs", tmp_path / "sys")
    place.wait_for_run()
    with (device / "mem_info_gtt_used").open("r+") as file:
        file.write(f"{700 * MIB}\n")
    out, _ = peak.communicate(timeout=30)
    told = json.loads(out)
    assert told["max_memory"]["gtt"] == {"peak_bytes": 700 * MIB, "delta_peak_bytes": 600 * MIB}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_how_it_ends(place: Place, number: int) -> None:
    peak = place.start("peak")
    place.wait_for_run()
    peak.send_signal(number)
    out, err = peak.communicate(timeout=30)
    assert peak.returncode == 0 and b"baseline" in out, err
    assert place.last().status is Status.OK


def test_kill_9(place: Place) -> None:
    peak = place.start("peak")
    place.wait_for_run()
    time.sleep(2)
    peak.kill()
    peak.communicate(timeout=10)
    run = place.last()
    assert run.status is Status.LOST and run.summary and run.summary.track("memory.used_bytes")


def test_a_process_and_its_end(place: Place) -> None:
    grow = "x = bytearray(150 << 20); x[::4096] = b'x' * len(x[::4096])"
    code = f"import time; time.sleep(3); {grow}; time.sleep(3)"
    process = subprocess.Popen([sys.executable, "-c", code])
    began = time.monotonic()
    done = place.run("peak", "--pid", process.pid, "--json")
    process.wait()
    assert done.returncode == 0 and time.monotonic() - began < 40
    told: dict[str, Any] = json.loads(done.stdout)
    mine = next(one for one in told["summary"]["processes"] if one["pid"] == process.pid)
    assert 150 * MIB <= mine["rss_bytes"] < 200 * MIB
    assert told["label"].startswith("python")
    assert b"has ended" in done.stderr


@pytest.mark.parametrize("pid", ["999999999", "0", "-3"])
def test_no_such_process(place: Place, pid: str) -> None:
    done = place.run("peak", f"--pid={pid}")
    assert done.returncode == 3
    assert done.stderr.count(b"\n") == 1 and not place.state.exists()


def test_no_such_server(place: Place) -> None:
    done = place.run("peak", "--server", "http://127.0.0.1:1")
    assert done.returncode == 3 and b"halotui: no " in done.stderr


def test_a_server(place: Place, start_server: Any) -> None:
    with start_server() as server:
        for name in (server.url, server.pid):
            done = place.run("peak", "--server", name, "--for", "1.5", "--json")
            assert done.returncode == 0, done.stderr
            told = json.loads(done.stdout)
            assert server.pid in [one["pid"] for one in told["summary"]["processes"]]
            assert told["label"] == "tiny.gguf"


@pytest.mark.parametrize(
    "words", [("--for", "soon"), ("--hz", "0"), ("--pid", "1", "--server", "x"), ("--for", "-1")]
)
def test_usage(place: Place, words: tuple[str, ...]) -> None:
    done = place.run("peak", *words)
    assert done.returncode == 2 and done.stdout == b""


def test_on_a_terminal(place: Place) -> None:
    """The line every second; what is typed becomes a mark; Ctrl-C ends it with the table."""
    screen = Raw(place, "peak")
    screen.wait_for(b"RAM")
    time.sleep(0.5)
    screen.type("model loaded\n")
    screen.wait_for(b"marked: model loaded")
    count = screen.out.count(b"(MiB)")
    time.sleep(2.5)
    screen.read(0.2)
    assert screen.out.count(b"(MiB)") > count
    screen.type("\x03")
    assert screen.end() == 0
    assert b"baseline" in screen.out and b"mark: model loaded" in screen.out
    assert [mark.label for mark in place.last().marks] == ["model loaded"]


def test_quiet_on_a_terminal(place: Place) -> None:
    screen = Raw(place, "peak", "--quiet", "--for", "2")
    assert screen.end() == 0
    assert b"(MiB)" not in screen.out and b"baseline" in screen.out
