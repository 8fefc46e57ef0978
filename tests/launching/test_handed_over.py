"""Undertakings whose servers systemd or podman starts: their real command lines, done by stand-ins.

There is neither of them on the machines that test this: ``stand_ins`` records the calls and does them in a
simple way with the real llama.cpp server. docs/hardware.md says how to see the real ones.
"""

from __future__ import annotations

import signal

import pytest
from msgspec.structs import replace
from stage import Stage
from stand_ins import StandIns

from halotui.actions import Kind, Step
from halotui.servers import runners
from halotui.servers.launch import Before, Expect, Launch, Runner
from halotui.servers.units import Unit
from halotui.servers.wish import Wish

UNIT = Unit(name="llama.service")


@pytest.fixture
def tools(stage: Stage) -> StandIns:
    tools = StandIns(stage.directory / "bin")
    stage.brood.env["PATH"] = tools.path
    return tools


def unit_of(stage: Stage, tools: StandIns) -> Before:
    """What runs is a unit's."""
    server = stage.serve("-np", "2")
    tools.unit(UNIT.name, server.process.args, stage.brood.env, server.log_path, server.pid)
    who = stage.hands.identify(server.pid)
    assert who
    launch = runners.unit_launch(UNIT, name="llama.service", url=server.url, api_key=None)
    return Before(who=who, launch=replace(launch, env=stage.brood.env))


def test_a_unit_gives_way_and_comes_back(stage: Stage, tools: StandIns) -> None:
    before = unit_of(stage, tools)
    outcome = stage.worker(stage.plan(stage.launch("-np", "1"), before).id).end()
    assert outcome.step is Step.KEPT and stage.only() == outcome.pid, outcome
    assert ["systemctl", "--user", "stop", UNIT.name] in tools.calls()
    now = stage.hands.identify(outcome.pid or 0)
    last = stage.book.last()
    assert now and last and last.plan.after
    undo = stage.plan(before.launch, Before(who=now, launch=last.plan.after), Kind.UNDO)
    outcome = stage.worker(undo.id).end()
    assert outcome.step is Step.KEPT and stage.serving()["total_slots"] == 2, outcome
    assert stage.only() == outcome.pid
    assert ["systemctl", "--user", "start", UNIT.name] in tools.calls()


def test_a_unit_comes_back_when_the_new_one_fails(stage: Stage, tools: StandIns) -> None:
    before = unit_of(stage, tools)
    outcome = stage.worker(stage.plan(stage.launch("--no-such-flag"), before).id).end()
    assert outcome.step is Step.ROLLED_BACK and stage.only() == outcome.pid, outcome
    assert stage.serving()["total_slots"] == 2


@pytest.mark.parametrize("way", ["--finish", "--undo"])
@pytest.mark.parametrize("step", ["stopping", "stopped", "starting", "loading", "verifying", "undoing"])
def test_killed_at_any_step_beside_a_unit(stage: Stage, tools: StandIns, step: str, way: str) -> None:
    before = unit_of(stage, tools)
    flags = ("--no-such-flag",) if step == "undoing" else ("-np", "3")
    worker = stage.worker(stage.plan(stage.launch(*flags), before).id, dies=step)
    assert worker.process.wait(30) == -signal.SIGKILL
    outcome = stage.worker(way).end()
    wanted = 3 if way == "--finish" and step != "undoing" else 2
    assert stage.serving()["total_slots"] == wanted, outcome
    assert stage.only() == outcome.pid


@pytest.mark.parametrize("step", ["starting", "loading"])
@pytest.mark.parametrize("way", ["--finish", "--undo"])
def test_killed_while_a_unit_starts(stage: Stage, tools: StandIns, step: str, way: str) -> None:
    """Nobody wrote its pid down: systemd is asked."""
    server = stage.serve("-np", "1")
    argv = [*server.process.args, "-np", "3"]
    tools.unit(UNIT.name, argv, stage.brood.env, server.log_path)
    after = runners.unit_launch(UNIT, name="llama.service", url=server.url, api_key=None)
    plan = stage.plan(replace(after, env=stage.brood.env), stage.before())
    worker = stage.worker(plan.id, dies=step)
    assert worker.process.wait(30) == -signal.SIGKILL
    outcome = stage.worker(way).end()
    assert stage.serving()["total_slots"] == (3 if way == "--finish" else 1), outcome
    assert stage.only() == outcome.pid


def test_a_unit_that_does_not_start(stage: Stage, tools: StandIns) -> None:
    """systemd's own words are the reason."""
    server = stage.serve("-np", "2")
    after = runners.unit_launch(Unit(name="none.service"), name="none", url=server.url, api_key=None)
    outcome = stage.worker(stage.plan(replace(after, env=stage.brood.env), stage.before()).id).end()
    assert outcome.step is Step.ROLLED_BACK and "none.service" in outcome.reason, outcome
    assert stage.only() == outcome.pid


def container(stage: Stage, id_: str, *flags: str) -> Launch:
    """The podman command line that halotui builds; the stand-in runs it without a wall."""
    wish = Wish(
        name="podman",
        runner=Runner.PODMAN,
        binary=(str(stage.binary),),
        image="localhost/llama:vulkan",
        backend="vulkan",
        env={key: value for key, value in stage.brood.env.items() if key.startswith("HALOTUI_TEST")},
        cwd=str(stage.directory),
        url=stage.url,
    )
    arguments = stage.launch(*flags).argv[1:]
    log = str(stage.state / "logs" / "podman.log")
    launch = runners.launch(wish, arguments, id=id_, log=log, environ=stage.brood.env)
    return replace(launch, expect=Expect(slots=int(flags[-1])), load_seconds=30.0)


def test_podman_and_back(stage: Stage, tools: StandIns) -> None:
    stage.serve("-np", "2")
    before = stage.before()
    plan = stage.plan(container(stage, "abc", "-np", "1"), before)
    outcome = stage.worker(plan.id).end()
    assert outcome.step is Step.KEPT and stage.serving()["total_slots"] == 1, outcome
    run = next(call for call in tools.calls("podman") if call[1] == "run")
    assert "--device=/dev/dri" in run and "--pull=never" in run
    now = stage.hands.identify(stage.only())
    assert now
    undo = stage.plan(before.launch, Before(who=now, launch=plan.after or before.launch), Kind.UNDO)
    outcome = stage.worker(undo.id).end()
    assert outcome.step is Step.KEPT and stage.serving()["total_slots"] == 2, outcome
    assert stage.only() == outcome.pid
    assert any(call[1] == "stop" for call in tools.calls("podman"))


def test_podman_without_its_image_is_rolled_back(stage: Stage, tools: StandIns) -> None:
    stage.serve("-np", "2")
    (tools.directory / "podman").write_text(
        "#!/bin/sh\necho 'Error: localhost/llama:vulkan: image not known' >&2\nexit 125\n"
    )
    outcome = stage.worker(stage.plan(container(stage, "abc", "-np", "1"), stage.before()).id).end()
    assert outcome.step is Step.ROLLED_BACK, outcome
    assert "image not known" in outcome.reason and "code 125" in outcome.reason
    assert stage.only() == outcome.pid
