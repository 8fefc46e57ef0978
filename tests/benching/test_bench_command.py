"""``halotui bench -- COMMAND``, whole: tables, exit codes, and whatever kills it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from benched import FIXTURES, Place, Raw, replay, script

from halotui.benching import tables
from halotui.demo.box import start_box
from halotui.hosts.local_hands import LocalHands
from halotui.runs import Run, Status
from running import HALOTUI

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def llama_bench(tmp_path: Path) -> list[str]:
    return replay(tmp_path / "llama-bench", "bench-v0.5.0.jsonl")


def until(wanted: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < deadline, "never came"
        time.sleep(0.05)


def test_the_published_table_on_a_terminal(place: Place, llama_bench: list[str]) -> None:
    screen = Raw(place, "bench", "--quiet", "--label", "Vulkan + FA", "--", *llama_bench)
    assert screen.end() == 0
    fixture = (FIXTURES / "bench-v0.5.0.jsonl").read_bytes()
    assert screen.out.startswith(fixture + b"\n")  # untouched, then a blank line
    text = screen.out[len(fixture) :].decode()
    assert re.search(r"^Run +pp64 +tg16 .*Max Mem \(MiB RAM\)$", text, re.M)
    assert re.search(r"^Vulkan \+ FA +143\.51 +\d+\.\d\d ", text, re.M)
    assert re.search(r"^MiB +baseline +peak +Δ +Δ peak +at$", text, re.M)
    assert re.search(r"^RAM +\d+ +\d+ ", text, re.M)
    assert f"run stored as {place.last().id}: halotui runs show {place.last().id}" in text
    assert place.last().label == "Vulkan + FA"


def test_a_pipe_has_the_command_s_bytes_alone(place: Place, llama_bench: list[str]) -> None:
    done = place.run("bench", "--", *llama_bench)
    assert done.stdout == (FIXTURES / "bench-v0.5.0.jsonl").read_bytes()
    assert b"Max Mem" in done.stderr and b"run stored as 1" in done.stderr


def test_a_format_that_is_asked_for_has_stdout_to_itself(place: Place, llama_bench: list[str]) -> None:
    done = place.run("bench", "--json", "--", *llama_bench)
    told = json.loads(done.stdout)
    assert [result["test"] for result in told["results"]][:2] == ["pp64", "tg16"]
    assert told["status"] == "ok" and told["id"] == 1 and told["environment"]["kernel"]
    assert {"baseline", "peak", "delta_peak", "peak_seconds"} <= told["summary"]["tracks"][0].keys()
    assert (FIXTURES / "bench-v0.5.0.jsonl").read_bytes() in done.stderr
    done = place.run("bench", "--format", "csv", "--", *llama_bench)
    rows = list(csv.reader(io.StringIO(done.stdout.decode())))
    assert rows[0][:3] == ["Run", "pp64", "tg16"] and rows[1][1] == "143.51" and len(rows) == 2
    done = place.run("bench", "--format", "markdown", "--label", "a", "--", *llama_bench)
    label, _, head, *_ = done.stdout.decode().splitlines()
    assert "b1 (de3ff81)" in label and "kernel " in label and head.startswith("| Run | pp64 | tg16 |")


def test_variables_that_move_the_numbers_are_kept(place: Place) -> None:
    place.env |= {"ROCBLAS_USE_HIPBLASLT": "1", "GGML_TOKEN": "hf_secret", "EDITOR": "vi"}
    place.run("bench", "--", "true")
    assert place.last().env == {"GGML_TOKEN": "***", "ROCBLAS_USE_HIPBLASLT": "1"}


def test_into_a_file(place: Place, llama_bench: list[str], tmp_path: Path) -> None:
    file = tmp_path / "table.md"
    done = place.run("bench", "--format", "markdown", "-o", file, "--", *llama_bench)
    assert done.stdout == (FIXTURES / "bench-v0.5.0.jsonl").read_bytes()
    assert "\n| Run | pp64 |" in file.read_text()
    file.unlink()
    done = place.run("bench", "-o", file, "--", *llama_bench)  # no format: still a file, and a pipe
    assert done.stdout == (FIXTURES / "bench-v0.5.0.jsonl").read_bytes()
    assert "143.51" in file.read_text()
    file.unlink()
    done = place.run("bench", "-o", tmp_path / "no/such", "--", "touch", tmp_path / "touched")
    assert done.returncode == 2 and not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 42"), 42),
        (("sh", "-c", "kill -9 $$"), 137),
        (("sh", "-c", "kill -TERM $$"), 143),
        (("nosuch-command",), 127),
        (("/etc/passwd",), 126),
        (("/etc",), 126),
    ],
)
def test_exit_codes(place: Place, words: tuple[str, ...], code: int) -> None:
    done = place.run("bench", "--", *words)
    assert done.returncode == code
    if code in (126, 127):
        assert done.stderr.count(b"\n") == 1 and not place.state.exists()


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--",),
        ("llama-bench",),
        ("suite.toml", "--", "true"),
        ("--resume", "--", "true"),
        ("--hz", "0", "--", "true"),
        ("--hz", "1000", "--", "true"),
        ("--hz", "nan", "--", "true"),
        ("--timeout", "0", "--", "true"),
        ("--timeout", "nan", "--", "true"),
    ],
)
def test_usage(place: Place, words: tuple[str, ...]) -> None:
    done = place.run("bench", *words)
    assert done.returncode == 2
    assert done.stdout == b"" and done.stderr.count(b"\n") == 1


def test_halotui_s_own_words_after_the_dashes_are_the_command_s(place: Place) -> None:
    done = place.run("bench", "--no-store", "--", "echo", "--json", "--", "-o")
    assert done.stdout == b"--json -- -o\n"


async def test_the_demo_s_llama_bench(place: Place) -> None:
    """It really measures, and the demo's sensors show what it takes: the table, peaks included."""
    box = await start_box(serve=False)
    try:
        model = next(box.directory.glob("demo-7B*.gguf"))
        flags = ("-m", model, "-p", "64", "-n", "16", "-r", "2", "-fa", "1", "-o", "jsonl")
        roots = ("--sysfs", box.sysfs, "--procfs", box.procfs)
        command = (box.directory / "vulkan/llama-bench", *flags)
        done = await asyncio.to_thread(place.run, "bench", *roots, "--json", "--", *command)
    finally:
        await box.stop()
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["label"] == "Vulkan + FA"
    assert [result["test"] for result in told["results"]] == ["pp64", "tg16"]
    grown = {pool: peak["delta_peak_bytes"] for pool, peak in told["max_memory"].items()}
    assert grown["gtt"] > 1 << 30 and grown["vram"] > 1 << 20 and grown["ram"] > 1 << 30
    assert told["summary"]["energy_joules"] > 0
    run = place.last()
    assert run.results and run.summary and tables.max_mem(run) == tables.published([run]).rows[0][-1]


# --- signals


def test_ctrl_c_is_the_command_s(place: Place) -> None:
    """It ends as it likes; the table comes all the same."""
    words = "trap 'echo caught; exit 9' INT; echo go; while :; do sleep 0.1; done"
    screen = Raw(place, "bench", "--", "sh", "-c", words)
    screen.wait_for(b"go")
    time.sleep(1)
    screen.type("\x03")
    assert screen.end() == 9
    assert screen.out.count(b"caught") == 1 and b"baseline" in screen.out
    assert place.last().status is Status.INTERRUPTED


def test_a_command_that_takes_no_notice_of_ctrl_c(place: Place) -> None:
    screen = Raw(place, "bench", "--", "sh", "-c", "trap '' INT; echo go; sleep 4; echo done")
    screen.wait_for(b"go")
    time.sleep(0.5)
    screen.type("\x03")
    assert screen.end() == 0
    assert b"done\n" in screen.out and place.last().status is Status.OK


def test_stopped_and_continued(place: Place) -> None:
    """Ctrl-Z stops us and the command as one job."""
    screen = Raw(place, "bench", "--no-store", "--", "sh", "-c", "echo go; sleep 1; echo done")
    screen.wait_for(b"go")
    os.kill(screen.process.pid, 0)
    os.killpg(screen.process.pid, signal.SIGSTOP)
    time.sleep(2)
    assert b"done" not in screen.out
    os.killpg(screen.process.pid, signal.SIGCONT)
    assert screen.end() == 0
    assert b"done" in screen.out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_what_is_sent_to_us_is_passed_on(place: Place, tmp_path: Path, number: int) -> None:
    command = script(
        tmp_path / "waits.py",
        "import os, signal, sys, time\n"
        "def end(number, _): print('got', number, flush=True); sys.exit(3)\n"
        "for number in (1, 2, 15): signal.signal(number, end)\n"
        "print(os.getpid(), flush=True); time.sleep(60)\n",
    )
    bench = place.start("bench", "--", *command)
    place.wait_for_run()
    bench.send_signal(number)
    out, err = bench.communicate(timeout=30)
    assert bench.returncode == 3, err
    assert out.split() == [out.split()[0], b"got", str(number).encode()]
    assert place.last().status is Status.INTERRUPTED


def test_timeout(place: Place) -> None:
    done = place.run("bench", "--timeout", "1", "--", "sleep", "60")
    assert done.returncode == 124
    run = place.last()
    assert (run.status, run.reason) == (Status.HUNG, "longer than 1 s")
    assert run.summary and run.summary.seconds >= 1


# --- whatever kills it


def test_kill_9_of_the_command(place: Place, tmp_path: Path) -> None:
    command = ("sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 60")
    bench = place.start("bench", "--", *command)
    place.wait_for_run()
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    bench.communicate(timeout=30)
    assert bench.returncode == 137
    assert (place.last().status, place.last().exit_code) == (Status.CRASHED, -9)


def test_kill_9_of_halotui_loses_a_second_at_most(place: Place, tmp_path: Path) -> None:
    """What was sampled and every result is there; the run is LOST; the command goes on."""
    command = script(
        tmp_path / "llama-bench",
        "import os, sys, time\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        f"line = open({str(FIXTURES / 'bench-v0.5.0.jsonl')!r}).readline()\n"
        "print(line, end='', flush=True); time.sleep(60)\n",
    )
    bench = place.start("bench", "--", *command)
    began = place.wait_for_run().started_time
    time.sleep(4)
    bench.kill()
    killed = time.time()
    bench.wait(10)
    pid = int((tmp_path / "pid").read_text())
    try:
        run = place.last()
        assert run.status is Status.LOST
        assert len(run.results) == 1 and run.summary
        assert run.summary.began_time + run.summary.seconds > killed - 2.5  # 1 s, on a machine under load
        ram = run.summary.track("memory.used_bytes")
        assert ram and ram.peak and ram.baseline and run.started_time == began
        assert LocalHands().identify(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_state_directory_that_cannot_be(tmp_path: Path) -> None:
    """One warning; everything else as ever."""
    place = Place(tmp_path)
    (tmp_path / "state").write_text("a file")
    done = place.run("bench", "--", "sh", "-c", "echo out; exit 3")
    assert (done.returncode, done.stdout) == (3, b"out\n")
    assert done.stderr.count(b"halotui: nothing will be kept") == 1
    assert b"baseline" in done.stderr and b"run stored" not in done.stderr


def mounted(options: str, directory: Path, words: list[str], before: str = "true") -> list[str]:
    """The command in a mount namespace of its own, with a tmpfs there."""
    mount = f"mount -t tmpfs -o {options} tmpfs '{directory}' && {before} && exec \"$@\""
    return ["unshare", "-m", "sh", "-c", mount, "sh", *words]


can_mount = pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /mnt"], capture_output=True).returncode
    != 0,
    reason="may not mount a tmpfs here",
)


@can_mount
def test_a_read_only_state_directory(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.state.mkdir()
    words = [*HALOTUI, "bench", "--", "sh", "-c", "echo out; exit 3"]
    done = subprocess.run(
        mounted("ro", place.state, words),
        env=place.env,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (3, b"out\n"), done.stderr
    assert done.stderr.count(b"halotui: ") == 2  # that nothing is kept, and how the command ended
    assert b"Read-only" in done.stderr and b"baseline" in done.stderr


@can_mount
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_full_disk(tmp_path: Path, llama_bench: list[str], when: str) -> None:
    place = Place(tmp_path)
    place.state.mkdir()
    fill = f"cat /dev/zero > {place.state}/rest 2> /dev/null"
    both = f"{sys.executable} {llama_bench[1]}"
    command = f"{fill}; sleep 2; {both}; exit 3" if when == "meanwhile" else f"{both}; exit 3"
    words = [*HALOTUI, "bench", "--json", "-o", str(tmp_path / "out.json"), "--", "sh", "-c", command]
    done = subprocess.run(
        mounted(
            "size=512k", place.state, words, before=f"{{ {fill}; true; }}" if when == "before" else "true"
        ),
        env=place.env,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=90,
    )
    assert done.returncode == 3, done.stderr
    assert done.stdout == (FIXTURES / "bench-v0.5.0.jsonl").read_bytes()
    told = json.loads((tmp_path / "out.json").read_text())
    assert len(told["results"]) >= 2 and told["summary"]["samples"] > 0
    assert b"Traceback" not in done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith(b"halotui: ")]
    assert 2 <= len(warnings) <= 4, warnings  # how it ended, and what could not be kept


def test_no_store(place: Place) -> None:
    done = place.run("bench", "--no-store", "--", "true")
    assert done.returncode == 0 and not place.state.exists() and b"stored" not in done.stderr


def test_another_store(place: Place, tmp_path: Path) -> None:
    done = place.run("bench", "--store", tmp_path / "mine.sqlite", "--", "true")
    assert done.returncode == 0 and (tmp_path / "mine.sqlite").exists() and not place.state.exists()


def test_a_hostile_command_line(place: Place) -> None:
    done = place.run("bench", "--label", "x\x1b[2Jy", "--", "sh", "-c", "exit 1", "\x1b[31m", "--token=abc")
    assert b"\x1b" not in done.stderr
    run: Run = place.last()
    assert "--token=***" in run.command


def test_stdout_on_a_full_disk(place: Place) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*HALOTUI, "bench", "--", "sh", "-c", "yes | head -c 1000000"],
            env=place.env,
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    assert b"No space left on device" in done.stderr and b"Traceback" not in done.stderr
