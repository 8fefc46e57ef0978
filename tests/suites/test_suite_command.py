"""``halotui bench SUITE.toml`` from the outside: what runs, what goes wrong, and what is never lost."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import stat
import time

import pytest
from lab import SUITE, Lab, end, end_orphans, orphans
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


def test_what_failed_is_run_again_only_when_asked_for(lab: Lab) -> None:
    lab.behave(lab.vulkan, "-p 512 fail")
    assert lab.bench().returncode == 1
    again = lab.bench("--resume")
    assert again.returncode == 1 and len(lab.runs()) == 4
    assert again.stdout.splitlines()[1].split()[0] == "Vulkan"  # the table is there all the same
    (lab.vulkan / "behaviour").unlink()
    retried = lab.bench("--resume", "--retry")
    assert retried.returncode == 0, retried.stderr
    assert len(lab.runs()) == 5 and len({run.series for run in lab.runs()}) == 1
    assert "failed" not in retried.stdout


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_item_and_resume_goes_on(lab: Lab, number: int) -> None:
    lab.behave(lab.rocm, "-p 512 hang")
    process = lab.start()
    lab.until_called(lab.rocm)
    lab.until_stored(1)
    _, err, code = end(process, number)
    assert code == 130 and "--resume goes on" in err
    assert [run.status for run in lab.runs()] == [Status.OK, Status.OK, Status.INTERRUPTED]
    (lab.rocm / "behaviour").unlink()
    again = lab.bench("--resume")
    assert again.returncode == 0, again.stderr
    assert len(lab.calls(lab.vulkan)) == 2 and len(lab.calls(lab.rocm)) == 3
    assert len(again.stdout.splitlines()) == 3


def test_a_second_interrupt_does_not_wait_for_a_deaf_one(lab: Lab) -> None:
    lab.behave(lab.vulkan, "-p 512 deaf")
    process = lab.start()
    lab.until_stored(1)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    _, err, code = end(process, signal.SIGINT)
    assert code == 130 and "--resume goes on" in err
    [run] = lab.runs()
    assert run.status is Status.INTERRUPTED and [result.test for result in run.results] == ["pp512"]


def test_an_interrupt_while_it_cools_down(lab: Lab) -> None:
    lab.write(SUITE.replace("repeats", "pause_seconds = 60\nrepeats"))
    process = lab.start()
    assert process.stderr is not None
    assert "4 items" in process.stderr.readline()
    time.sleep(0.5)
    _, err, code = end(process, signal.SIGINT)
    assert code == 130 and "--resume" in err
    assert not lab.runs() and not lab.calls(lab.vulkan)


def cut_off(lab: Lab) -> None:
    """kill -9 in the midst of the second row's first test, after its first record."""
    lab.behave(lab.rocm, "-p 512 hang")
    process = lab.start()
    lab.until_called(lab.rocm)
    lab.until_stored(1)
    lab.until_sampled()
    end(process)
    end_orphans(lab.directory)
    (lab.rocm / "behaviour").unlink()


def test_kill_9_costs_one_item(lab: Lab) -> None:
    cut_off(lab)
    again = lab.bench("--resume")
    assert again.returncode == 0, again.stderr
    ok, _, lost, rerun, last = lab.runs()
    assert lost.status is Status.LOST and [result.test for result in lost.results] == ["pp512"]
    assert (rerun.item, rerun.status) == (lost.item, Status.OK) and last.status is Status.OK
    assert len({run.series for run in (ok, lost, rerun, last)}) == 1
    assert len(lab.calls(lab.vulkan)) == 2
    assert "HIP" in again.stdout and "lost" not in again.stdout


def test_what_a_killed_halotui_left_running_is_ended(lab: Lab) -> None:
    """Beside it the next item would be measured wrongly."""
    lab.behave(lab.rocm, "-p 512 hang")
    process = lab.start()
    lab.until_called(lab.rocm)
    lab.until_stored(1)
    end(process)
    (lab.rocm / "behaviour").unlink()
    [left] = orphans(lab.directory)
    again = lab.bench("--resume")
    assert again.returncode == 0, again.stderr
    assert left not in orphans(lab.directory)
    assert not any("HALOTUI_LAUNCH" in run.env for run in lab.runs())  # one row would differ from another


def test_a_dry_run_of_a_resume_lists_what_is_left(lab: Lab) -> None:
    cut_off(lab)
    before = [run.status for run in lab.runs()]
    listed = lab.bench("--resume", "--dry-run")
    assert listed.returncode == 0, listed.stderr
    names = [line for line in listed.stdout.splitlines() if re.match(r"\d\. ", line)]
    assert [name.partition(",")[0] for name in names] == ["1. HIP · pp512 tg128", "2. HIP · pp8192 tg8192"]
    rebooted(lab)
    listed = lab.bench("--resume", "--dry-run")
    assert listed.stdout.startswith("1. HIP · pp8192 tg8192") and "1 item, about" in listed.stderr
    again = lab.bench("--resume", "--retry", "--dry-run")
    assert again.stdout.startswith("1. HIP · pp512 tg128")
    assert [run.status for run in lab.runs()] == before  # nothing was settled


def rebooted(lab: Lab) -> None:
    """As if the box had gone down: what was running belongs to another boot."""
    connection = sqlite3.connect(lab.store_file)
    with connection:
        changed = connection.execute(
            "UPDATE runs SET owner_boot = 'of-another-boot', status = 'running' WHERE owner_pid IS NOT NULL"
            " AND item = (SELECT item FROM runs ORDER BY id DESC LIMIT 1)"
        ).rowcount
    connection.close()
    assert changed == 1


@pytest.mark.parametrize("lines", [TIMEOUT_LINE, ""])
def test_a_box_that_went_down_is_a_hang(lab: Lab, lines: str) -> None:
    cut_off(lab)
    rebooted(lab)
    lab.journal.with_name("journal.before").write_text(f"kernel: {lines}\n")
    again = lab.bench("--resume")
    assert again.returncode == 1, again.stderr
    _, _, hung, last = lab.runs()
    assert hung.status is Status.HUNG and "the box went down during this run" in hung.reason
    assert hung.reason.startswith("GPU Hang") is bool(lines)
    assert any(TIMEOUT_LINE in line for line in hung.evidence) is bool(lines)
    assert hung.summary is not None and hung.summary.samples  # what was sampled until then
    assert last.status is Status.OK
    assert len(lab.calls(lab.rocm)) == 2  # it is not run again by itself
    assert ("GPU Hang" if lines else "hung") in again.stdout
    retried = lab.bench("--resume", "--retry")
    assert retried.returncode == 0, retried.stderr


def test_a_changed_suite_keeps_what_is_the_same(lab: Lab) -> None:
    cut_off(lab)
    lab.write(SUITE.replace("pp = 8192\ntg = 8192", "pp = 4096").replace("repeats", "hz = 10\nrepeats"))
    again = lab.bench("--resume")
    assert again.returncode == 0, again.stderr
    assert "has changed: 1 item is no longer in it" in again.stderr
    assert [call["argv"][3] for call in lab.calls(lab.vulkan)] == ["512", "8192", "4096"]
    assert "pp8192" not in again.stdout and "pp4096" in again.stdout


def test_the_order_is_kept_over_a_resume(lab: Lab) -> None:
    lab.write(SUITE.replace('order = "as written"\n', ""))
    listed = lab.bench("--dry-run", "--seed", 5)
    names = [line.partition(". ")[2] for line in listed.stdout.splitlines() if re.match(r"\d\. ", line)]
    other = lab.bench("--dry-run", "--seed", 11)
    assert listed.stdout != other.stdout and sorted(listed.stdout.split()) != []
    for where in (lab.vulkan, lab.rocm):
        lab.behave(where, "-p 512 slow")
    process = lab.start("--seed", 5)
    assert process.stderr is not None
    heard = []
    for line in process.stderr:
        heard.append(line)
        if line.startswith("1/4"):
            break
    end(process)
    end_orphans(lab.directory)
    again = lab.bench("--resume")
    assert again.returncode == 0, again.stderr
    heard += again.stderr.splitlines()
    ran = [line.partition(" ")[2].partition(": ok")[0] for line in heard if re.match(r"\d/4 ", line)]
    assert ran == names
    assert "-s5-" in lab.runs()[0].series


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
