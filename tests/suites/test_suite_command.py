"""``halotui bench SUITE.toml`` from the outside: what runs, what goes wrong, and what is never lost."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import time

import pytest
from lab import SUITE, Lab, end
from stand_in_bench import TIMEOUT_LINE

from halotui.runs import Kind, Status
from sysfs_tree import build


def test_the_published_table_comes_out(lab: Lab) -> None:
    done = lab.bench("--format", "markdown")
    assert done.returncode == 0, done.stderr
    head, _, vulkan, hip = done.stdout.splitlines()
    assert [cell.strip() for cell in head.split("|")[1:-1]] == [
        *("Run", "pp512", "tg128", "Max Mem (MiB RAM)"),
        *("pp8192", "tg8192", "Max Mem (MiB RAM)"),
    ]
    assert vulkan.startswith("| Vulkan | 1000.00 | 50.00 |") and hip.startswith("| HIP | 1000.00 | 50.00 |")
    lines = [line for line in done.stderr.splitlines() if re.match(r"\d/4 ", line)]
    assert len(lines) == 4 and lines[0].startswith("1/4 Vulkan · pp512 tg128: ok")
    assert "\x1b" not in done.stderr
    runs = lab.runs()
    assert [run.status for run in runs] == [Status.OK] * 4
    assert {run.kind for run in runs} == {Kind.SUITE} and {run.suite for run in runs} == {"backends"}
    assert len({run.series for run in runs}) == 1 and len({run.item for run in runs}) == 4
    assert all(run.summary and run.summary.samples for run in runs)


def test_what_is_left_is_told_from_the_first_item_on(lab: Lab) -> None:
    """The item that has just ended is no part of it, and its time counts already."""
    lab.write(SUITE.partition("[[test]]\npp = 8192")[0])
    for where in (lab.vulkan, lab.rocm):
        lab.behave(where, "-p 512 slow")
    done = lab.bench()
    assert done.returncode == 0, done.stderr
    first, last = (line for line in done.stderr.splitlines() if re.match(r"\d/2 ", line))
    told = re.search(r"about (\d+) s left", first)
    took = [run.seconds for run in lab.runs()]
    assert told and took[1] and 1 <= int(told[1]) < 2 * took[1] + 3
    assert "left" not in last


def test_a_profile_lends_its_binary_flags_and_environment(lab: Lab) -> None:
    assert lab.bench().returncode == 0
    vulkan, hip = lab.calls(lab.vulkan)[0], lab.calls(lab.rocm)[0]
    assert vulkan["argv"] == [
        *("-m", str(lab.directory / "m.gguf"), "-p", "512", "-n", "128"),
        *("-ub", "256", "-fa", "off", "-r", "2", "-o", "jsonl", "--progress"),
    ]
    assert vulkan["env"] == "of the profile" and hip["env"] == "of the row"
    run = lab.runs()[0]
    assert run.env == {"ROW_ENV": "of the profile", "MY_API_KEY": "***"}
    assert b"s3cr3t" not in lab.store_file.read_bytes()
    [log] = lab.state.glob(f"bench/backends/{run.series}/{run.item}.log")
    assert "benchmark 1/2" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_what_goes_wrong_is_marked_and_the_rest_goes_on(lab: Lab) -> None:
    lab.behave(lab.vulkan, "-p 512 fail", "-p 8192 refuse")
    lab.behave(lab.rocm, "-p 512 crash", "-p 8192 gpu-hang")
    done = lab.bench()
    assert done.returncode == 1
    fail, refused, crash, hang = lab.runs()
    assert fail.status is Status.FAILED and "failed to load model" in " ".join(fail.evidence)
    assert hang.status is Status.HUNG and hang.reason == "GPU Hang: ring time-out"
    assert any(TIMEOUT_LINE in line for line in hang.evidence)
    assert crash.status is Status.CRASHED and "SIGSEGV" in crash.reason
    assert [result.test for result in crash.results] == ["pp512"]
    assert refused.status is Status.FAILED and refused.reason == "it printed no result" and refused.evidence
    assert "HIP: hung: GPU Hang: ring time-out" in done.stderr and TIMEOUT_LINE in done.stderr
    assert "4 of 4 went wrong" in done.stderr and "--resume --retry" in done.stderr


def test_the_table_says_what_went_wrong_in_the_place_of_a_result(lab: Lab) -> None:
    lab.behave(lab.rocm, "-p 512 crash", "-p 8192 gpu-hang")
    hip = lab.bench("--format", "csv").stdout.splitlines()[-1]
    assert hip.startswith("HIP,1000.00,crashed,") and "GPU Hang" in hip


def test_a_lost_device_is_a_gpu_hang(lab: Lab) -> None:
    lab.behave(lab.vulkan, "-p 512 lost")
    assert lab.bench("--only", "Vulkan*").returncode == 1
    assert lab.runs()[0].reason.startswith("GPU Hang: GPU hang")


def test_longer_than_it_may_take_is_a_hang(lab: Lab) -> None:
    lab.write(SUITE.replace("repeats", 'timeout = "1.5s"\nrepeats'))
    lab.behave(lab.vulkan, "-p 512 hang")
    assert lab.bench().returncode == 1
    hung, *others = lab.runs()
    assert hung.status is Status.HUNG and "longer than 1.5 s" in hung.reason
    assert [result.test for result in hung.results] == ["pp512"]
    assert [run.status for run in others] == [Status.OK] * 3


def test_three_hangs_in_a_row_are_the_box(lab: Lab) -> None:
    for where in (lab.vulkan, lab.rocm):
        lab.behave(where, "-m gpu-hang")
    done = lab.bench()
    assert done.returncode == 1 and len(lab.runs()) == 3
    assert "3 hangs in a row" in done.stderr
    assert "--resume goes on" in done.stderr


def test_an_interrupt_while_it_cools_down(lab: Lab) -> None:
    lab.write(SUITE.replace("repeats", "pause_seconds = 60\nrepeats"))
    process = lab.start()
    assert process.stderr is not None
    assert "4 items" in process.stderr.readline()
    time.sleep(0.5)
    _, err, code = end(process, signal.SIGINT)
    assert code == 130 and "--resume" in err
    assert not lab.runs() and not lab.calls(lab.vulkan)


def test_a_dry_run_writes_nothing(lab: Lab) -> None:
    listed = lab.bench("--dry-run", "--only", "Vulkan*")
    assert listed.returncode == 0 and "none was timed yet" in listed.stderr
    assert listed.stdout.count("llama-bench -m") == 2 and "s3cr3t" not in listed.stdout
    assert not lab.state.exists() and not lab.calls(lab.vulkan)
    assert lab.bench().returncode == 0
    timed = lab.bench("--dry-run")
    assert "4 items, about" in timed.stderr and ", about" in timed.stdout.splitlines()[0]


def test_a_dry_run_says_what_cannot_be_run(lab: Lab) -> None:
    changed = SUITE.replace('fa = "off"', 'fa = "off", ctv = "q8_0"')
    lab.write(changed.replace('"rocm/llama-bench"', '"nowhere/llama-bench"'))
    listed = lab.bench("--dry-run")
    assert listed.returncode == 1
    assert "cannot be run" in listed.stdout and "nowhere/llama-bench" in listed.stdout
    assert "! A quantised V cache needs flash attention" in listed.stdout


def test_an_item_that_cannot_be_started_is_a_result(lab: Lab) -> None:
    lab.write(SUITE.replace('"rocm/llama-bench"', '"nowhere/llama-bench"'))
    done = lab.bench()
    assert done.returncode == 1
    assert [run.status for run in lab.runs()] == [Status.OK, Status.OK, Status.FAILED, Status.FAILED]
    assert "nowhere/llama-bench does not run: No such file" in lab.runs()[-1].reason


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--retry",), "--retry goes with --resume"),
        (("--resume",), "no store|was not begun"),
        (("--resume", "--seed", "3"), "--resume does not go with --seed"),
        (("--resume", "--no-store"), "--resume does not go with --no-store"),
        (("--only", "nothing*"), "--only: no item matches; there are Vulkan · pp512 tg128"),
        (("--label", "x"), "--label"),
        (("--hz", "0"), "--hz"),
        (("--timeout", "nan"), "--timeout: 'nan' is no length of time"),
        (("--timeout", "1e9"), "--timeout: '1000000000.0' is no length of time"),
        (("--resume", "--dry-run"), "was not begun"),
        (("none.toml",), "none.toml: No such file"),
        (("-o", "/nowhere/table.md"), "cannot be written"),
    ],
)
def test_one_line_for_what_makes_no_sense(lab: Lab, args: tuple[str, ...], told: str) -> None:
    done = lab.bench(*args)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and re.search(told, done.stderr)
    assert not done.stdout


def test_an_error_of_the_file_names_its_line(lab: Lab) -> None:
    lab.write(SUITE.replace("repeats = 2", "repeat = 2"))
    done = lab.bench()
    assert done.returncode == 2
    assert done.stderr == f"halotui: {lab.file}:3: repeat: no such key\n"


def test_one_suite_at_a_time(lab: Lab) -> None:
    lab.behave(lab.vulkan, "-p 512 hang")
    process = lab.start()
    try:
        lab.until_called(lab.vulkan)
        other = lab.bench()
        assert other.returncode == 1 and "another suite runs on this box" in other.stderr
    finally:
        end(process)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_state_directory_as_a_user(lab: Lab) -> None:
    lab.state.parent.mkdir()
    lab.state.parent.chmod(0o500)
    done = lab.bench("--only", "Vulkan · pp512*")
    assert done.returncode == 0 and "1000.00" in done.stdout


def test_no_place_to_keep_anything(lab: Lab) -> None:
    """A file where the state directory should be."""
    lab.state.parent.write_text("")
    done = lab.bench("--only", "Vulkan · pp512*")
    assert done.returncode == 0, done.stderr
    assert "1000.00" in done.stdout
    warnings = [line for line in done.stderr.splitlines() if "kept" in line]
    assert len(warnings) == 2  # the store, and the output


def test_no_store(lab: Lab) -> None:
    done = lab.bench("--no-store")
    assert done.returncode == 0 and done.stdout.count("1000.00") == 4
    assert not lab.store_file.exists()
    assert "halotui compare" not in done.stderr


def test_json_has_the_runs(lab: Lab) -> None:
    done = lab.bench("--json")
    assert done.returncode == 0
    runs = json.loads(done.stdout)
    assert [run["label"] for run in runs] == ["Vulkan", "Vulkan", "HIP", "HIP"]
    assert runs[0]["results"][0]["test"] == "pp512" and "max_memory" in runs[0]


def test_it_waits_until_the_gpu_is_cool(lab: Lab) -> None:
    device = build(lab.directory / "sys")
    sensor = device / "hwmon/hwmon6/temp1_input"
    sensor.write_text("71000\n")
    lab.write(SUITE.replace("repeats", "cooldown_celsius = 55\ncooldown_seconds = 60\nrepeats"))
    process = lab.start("--only", "Vulkan · pp512*")
    time.sleep(2.5)
    assert not lab.calls(lab.vulkan)
    sensor.write_text("48000\n")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "did not cool" not in err and "1000.00" in out


def test_it_waits_no_longer_than_it_may(lab: Lab) -> None:
    (build(lab.directory / "sys") / "hwmon/hwmon6/temp1_input").write_text("71000\n")
    lab.write(SUITE.replace("repeats", "cooldown_celsius = 55\ncooldown_seconds = 1\nrepeats"))
    done = lab.bench("--only", "Vulkan · pp512*")
    assert done.returncode == 0
    assert "began at 71 °C: it did not cool to 55 °C in 1 s" in done.stderr


def test_hostile_output_stays_in_its_log(lab: Lab) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J"
    lab.write(SUITE.replace('"Vulkan"', json.dumps(f"Vul{evil}kan")))
    done = lab.bench("--only", "Vul*")
    assert "\x1b" not in done.stdout + done.stderr
