"""Undertakings with the real server: every way ends with a server that serves."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest
from msgspec.structs import replace
from stage import HASTY, PATIENCE, Stage, steps

from binaries import binary
from halotui.actions import Kind, Step
from halotui.servers.launch import Expect


def test_one_slot_to_four_and_back(stage: Stage) -> None:
    stage.serve("-np", "1")
    plan = stage.plan(stage.launch("-np", "4", expect=Expect(slots=4)), stage.before())
    worker = stage.worker(plan.id)
    outcome = worker.end()
    assert outcome.step is Step.KEPT and outcome.reason == "", outcome
    assert stage.serving()["total_slots"] == 4
    assert stage.only() == outcome.pid
    assert steps(worker) == [
        Step.RECORDED,
        Step.STOPPING,
        Step.STOPPED,
        Step.STARTING,
        Step.LOADING,
        Step.VERIFYING,
        Step.KEPT,
    ]
    assert stage.book.current() is None
    last = stage.book.last()
    assert last is not None and last.plan.before is not None and last.outcome == outcome
    # Undo: what is recorded of the old one is enough to bring it back.
    undo = stage.plan(last.plan.before.launch, stage.standing(outcome.pid, last.plan.after), Kind.UNDO)
    assert stage.worker(undo.id).end().step is Step.KEPT
    assert stage.serving()["total_slots"] == 1
    stage.only()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--no-such-flag",), "no-such-flag"),
        (("-m", "/nonexistent/model.gguf"), "/nonexistent/model.gguf"),
        (("-c", "2000000000", "-np", "1"), "failed to create context"),
    ],
    ids=["bad-flag", "missing-model", "out-of-memory"],
)
def test_what_does_not_come_up_is_rolled_back(stage: Stage, flags: tuple[str, ...], says: str) -> None:
    stage.serve("-np", "2")
    outcome = stage.relaunch(
        *flags, through=("prlimit", "--as=4000000000")
    )  # spares this machine the real thing
    assert outcome.step is Step.ROLLED_BACK, outcome
    assert "ended with code 1" in outcome.reason and says in " ".join(outcome.log_tail), outcome
    assert stage.serving()["total_slots"] == 2
    assert stage.only() == outcome.pid


def test_a_port_that_somebody_holds(stage: Stage) -> None:
    """It would listen elsewhere, where somebody is."""
    stage.serve("-np", "2")
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        after = stage.launch("-np", "1")
        argv = (*after.argv[:-1], str(other.getsockname()[1]))
        plan = stage.plan(replace(after, argv=argv, url=url), stage.before())
        outcome = stage.worker(plan.id, patience=HASTY).end()
    assert outcome.step is Step.ROLLED_BACK and "port" in outcome.reason, outcome
    assert stage.serving()["total_slots"] == 2
    stage.only()


def test_a_port_that_is_taken_between_two_servers(stage: Stage) -> None:
    """Somebody is faster: nothing of ours can serve there, and the one who does is left alone."""
    first = stage.serve("-np", "2")
    plan = stage.plan(stage.launch("-np", "1", name="late"), stage.before())
    worker = stage.worker(plan.id, dies="stopped")
    worker.process.wait(30)
    faster = stage.brood.start(stage.binary, "--port", first.port, "-np", "3").wait_ready()
    outcome = stage.worker("--finish", patience=HASTY).end()
    assert outcome.step is Step.ROLLED_BACK and "another process" in outcome.reason, outcome
    assert stage.only() == faster.pid


def test_one_that_ignores_term_is_killed_with_consent_only(stage: Stage) -> None:
    stage.serve("-np", "2", HALOTUI_TEST_IGNORE_TERM="1")
    pid = stage.only()
    plan = stage.plan(stage.launch("-np", "1"), stage.before())
    worker = stage.worker(plan.id, patience=HASTY)
    worker.wait_for(lambda progress: progress.question == "kill")
    worker.say(question="kill", yes=False)
    outcome = worker.end()
    assert outcome.step is Step.REFUSED and outcome.pid == pid == stage.only(), outcome
    plan = stage.plan(stage.launch("-np", "1"), stage.before())
    worker = stage.worker(plan.id, patience=HASTY)
    worker.wait_for(lambda progress: progress.question == "kill")
    worker.say(question="kill", yes=True)
    assert worker.end().step is Step.KEPT
    assert stage.serving()["total_slots"] == 1
    assert stage.only() != pid


def test_nobody_to_ask_is_a_no(stage: Stage) -> None:
    stage.serve(HALOTUI_TEST_IGNORE_TERM="1")
    pid = stage.only()
    worker = stage.worker(stage.plan(stage.launch(), stage.before()).id, patience=HASTY)
    worker.wait_for(lambda progress: progress.step is Step.STOPPING)
    worker.look_away()
    worker.process.wait(PATIENCE)
    last = stage.book.last()
    assert last and last.outcome and last.outcome.step is Step.REFUSED
    assert not any(progress.outcome for progress in worker.progress)
    assert stage.only() == pid


def test_slots_that_were_not_asked_for_are_rolled_back(stage: Stage) -> None:
    """llama.cpp #17989, on the new one only."""
    stage.serve("-np", "2")
    env = {**stage.brood.env, "HALOTUI_TEST_SLOTS": "4"}
    outcome = stage.relaunch("-np", "1", expect=Expect(slots=1), env=env)
    assert outcome.step is Step.ROLLED_BACK and "asked for 1 slot, it has 4" in outcome.reason
    assert stage.serving()["total_slots"] == 2
    stage.only()


def test_a_fault_that_was_there_before_is_only_noted(stage: Stage) -> None:
    stage.serve("-np", "1", HALOTUI_TEST_SLOTS="4")
    env = {**stage.brood.env, "HALOTUI_TEST_SLOTS": "4"}
    before = stage.before(asked=Expect(slots=1), slots=4)
    after = stage.launch("-np", "1", "-b", "256", expect=Expect(slots=1), env=env)
    outcome = stage.worker(stage.plan(after, before).id).end()
    assert outcome.step is Step.KEPT and "it has 4" in outcome.notes[0], outcome
    stage.only()


def test_speculation_that_does_not_come_up_is_rolled_back(stage: Stage, models: Path) -> None:
    """-md without --spec-type: this build loads the draft model and does not use it."""
    stage.serve()
    outcome = stage.relaunch("-md", models / "draft-good.gguf", expect=Expect(speculative=True))
    assert outcome.step is Step.ROLLED_BACK and "speculat" in outcome.reason, outcome
    stage.only()


def test_one_that_never_serves_is_rolled_back(stage: Stage) -> None:
    stage.serve()
    env = {**stage.brood.env, "HALOTUI_TEST_LOAD_SECONDS": "60"}
    outcome = stage.relaunch(env=env, load_seconds=1.0)
    assert outcome.step is Step.ROLLED_BACK and "did not serve within" in outcome.reason, outcome
    stage.only()


def test_cancelled_while_it_loads(stage: Stage) -> None:
    stage.serve("-np", "3")
    env = {**stage.brood.env, "HALOTUI_TEST_LOAD_SECONDS": "60"}
    worker = stage.worker(stage.plan(stage.launch(env=env), stage.before()).id)
    worker.wait_for(lambda progress: progress.step is Step.LOADING)
    worker.say(cancel=True)
    outcome = worker.end()
    assert outcome.step is Step.ROLLED_BACK and outcome.reason == "cancelled"
    assert stage.serving()["total_slots"] == 3
    stage.only()


def test_cancelled_while_it_is_measured_touches_nothing(stage: Stage) -> None:
    stage.serve()
    pid = stage.only()
    worker = stage.worker(stage.plan(stage.launch(), stage.before(), measure=True).id)
    worker.wait_for(lambda progress: progress.step is Step.MEASURING)
    worker.say(cancel=True)
    outcome = worker.end()
    assert outcome.step is Step.REFUSED and outcome.pid == pid == stage.only()


def test_before_and_after_in_numbers(stage: Stage) -> None:
    stage.serve("-np", "1")
    outcome = stage.worker(stage.plan(stage.launch("-np", "2"), stage.before(), measure=True).id).end()
    assert outcome.step is Step.KEPT
    for speed in (outcome.speed_before, outcome.speed_after):
        assert speed is not None and speed.prompt_tokens_per_second and speed.generation_tokens_per_second
        assert speed.runs and speed.peak_memory_bytes
    assert outcome.load_seconds_after is not None


def test_what_ran_has_gone_by_itself(stage: Stage) -> None:
    first = stage.serve("-np", "2")
    plan = stage.plan(stage.launch("-np", "1"), stage.before())
    first.process.kill()
    first.wait()
    outcome = stage.worker(plan.id).end()
    assert outcome.step is Step.KEPT and "had gone by itself" in outcome.notes[0]
    stage.only()


def test_the_new_one_is_killed_by_others(stage: Stage) -> None:
    stage.serve("-np", "2")
    env = {**stage.brood.env, "HALOTUI_TEST_LOAD_SECONDS": "60"}
    worker = stage.worker(stage.plan(stage.launch(env=env), stage.before()).id)
    worker.wait_for(lambda progress: progress.step is Step.LOADING)
    journal = stage.book.current()
    assert journal is not None and journal.new is not None
    os.kill(journal.new.pid, signal.SIGKILL)
    outcome = worker.end()
    assert outcome.step is Step.ROLLED_BACK and "signal 9" in outcome.reason, outcome
    assert stage.only() == outcome.pid


def test_neither_comes_up_and_then_it_does(stage: Stage) -> None:
    """Lost is said, kept on disk, and put right by one word."""
    first = stage.serve("-np", "2")
    before = stage.before()
    gone = stage.binary.with_name("gone")
    plan = stage.plan(stage.launch("--no-such-flag"), before)
    worker = stage.worker(plan.id, dies="stopped")
    worker.process.wait(30)
    stage.binary.rename(gone)
    worker = stage.worker("--finish")
    outcome = worker.end()
    assert outcome.step is Step.LOST and not outcome.serving, outcome
    assert first.poll() is not None and not stage.servers()
    journal = stage.book.current()
    assert journal is not None and journal.step is Step.LOST
    gone.rename(stage.binary)
    outcome = stage.worker("--undo").end()
    assert outcome.step is Step.ROLLED_BACK and stage.only() == outcome.pid
    assert stage.serving()["total_slots"] == 2
    assert stage.book.current() is None


def test_stop_and_start(stage: Stage) -> None:
    stage.serve("-np", "2")
    before = stage.before()
    outcome = stage.worker(stage.plan(None, before, Kind.STOP).id).end()
    assert outcome.step is Step.STOPPED_FOR_GOOD and not stage.servers()
    outcome = stage.worker(stage.plan(before.launch, None, Kind.START).id).end()
    assert outcome.step is Step.KEPT and stage.only() == outcome.pid


def test_two_at_once(stage: Stage) -> None:
    stage.serve()
    env = {**stage.brood.env, "HALOTUI_TEST_LOAD_SECONDS": "3"}
    plans = [stage.plan(stage.launch(env=env), stage.before()) for _ in range(2)]
    one = stage.worker(plans[0].id)
    one.wait_for(lambda progress: progress.step is Step.LOADING)
    other = stage.worker(plans[1].id)
    assert other.process.wait(20) == 1
    assert other.process.stderr and b"under way" in other.process.stderr.read()
    assert one.end().step is Step.KEPT
    stage.only()


FORWARD = ("recorded", "stopping", "stopped", "starting", "launched", "loading", "verifying", "kept")
MOMENTS = [
    (step, when) for step in FORWARD for when in ("before", "after") if (step, when) != ("kept", "after")
]


@pytest.mark.parametrize("way", ["--finish", "--undo"])
@pytest.mark.parametrize(("step", "when"), [moment for moment in MOMENTS if moment != ("launched", "before")])
def test_killed_at_any_step_and_started_again(stage: Stage, step: str, when: str, way: str) -> None:
    stage.serve("-np", "2")
    plan = stage.plan(stage.launch("-np", "3"), stage.before())
    worker = stage.worker(plan.id, dies=f"{step}:{when}")
    assert worker.process.wait(30) == -signal.SIGKILL
    if (step, when) == ("recorded", "before"):  # nobody knows of it, nothing was touched
        assert stage.book.current() is None and stage.serving()["total_slots"] == 2
        return
    assert stage.book.current() is not None
    outcome = stage.worker(way).end()
    wanted = 3 if way == "--finish" else 2
    assert stage.serving()["total_slots"] == wanted, outcome
    assert stage.only() == outcome.pid
    assert stage.book.current() is None


@pytest.mark.parametrize("way", ["--finish", "--undo"])
@pytest.mark.parametrize("step", ["undoing:before", "undoing:after", "rolled back:before"])
def test_killed_on_the_way_back(stage: Stage, step: str, way: str) -> None:
    """From there both ways are the way back."""
    stage.serve("-np", "2")
    plan = stage.plan(stage.launch("--no-such-flag"), stage.before())
    worker = stage.worker(plan.id, dies=step)
    assert worker.process.wait(30) == -signal.SIGKILL
    outcome = stage.worker(way).end()
    if outcome.step is not Step.ROLLED_BACK:  # killed before the failure was on disk: it was tried again
        assert (step, way) == ("undoing:before", "--finish"), outcome
    assert stage.serving()["total_slots"] == 2
    assert stage.only() == outcome.pid


def test_a_full_disk_does_not_keep_it_from_coming_back(stage: Stage) -> None:
    """The state directory is swept away in mid-course: the server comes back all the same."""
    stage.serve("-np", "2")
    env = {**stage.brood.env, "HALOTUI_TEST_LOAD_SECONDS": "60"}
    worker = stage.worker(stage.plan(stage.launch(env=env), stage.before()).id)
    worker.wait_for(lambda progress: progress.step is Step.LOADING)
    shutil.rmtree(stage.state)
    stage.state.write_text("not a directory")
    worker.say(cancel=True)
    outcome = worker.end()
    assert outcome.step is Step.ROLLED_BACK, outcome
    assert stage.only() == outcome.pid and stage.serving()["total_slots"] == 2


def test_an_old_build(stage: Stage, old_wheel: Path) -> None:
    """Back and forth between two eras of llama.cpp, by two binaries."""
    stage.serve("-np", "1")
    new = stage.binary
    stage.binary = binary(stage.directory / "rocm", old_wheel)
    after = stage.launch("-np", "2", expect=Expect(slots=2))
    outcome = stage.worker(stage.plan(after, stage.before()).id).end()
    assert outcome.step is Step.KEPT, outcome
    assert stage.only() == outcome.pid
    assert Path(f"/proc/{outcome.pid}/cmdline").read_bytes().count(b"rocm/llama-server") == 1
    stage.binary = new


def test_modes_of_the_files(stage: Stage) -> None:
    """They hold environments: nobody else may look."""
    stage.serve()
    stage.relaunch("-np", "2")
    for path in [stage.book.directory, *stage.book.directory.iterdir(), *(stage.state / "logs").iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path
    assert time.time() - (stage.book.directory / "last.json").stat().st_mtime < 60
