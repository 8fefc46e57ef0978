"""A suite that was cut off: by a signal, kill -9 or the box; and what ``--resume`` makes of it."""

from __future__ import annotations

import re
import signal
import sqlite3
import time

import pytest
from lab import SUITE, Lab, end, end_orphans, orphans
from stand_in_bench import TIMEOUT_LINE

from halotui.runs import Status


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
