"""What the desk proposes is done, by a real worker to real servers; and no key is told on the way."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
import time
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from office import PATIENCE, Office, done, failed, relaunch, until

from binaries import MARK, Brood, Server, free_port
from halotui.actions import (
    ActionError,
    Ask,
    Change,
    Kind,
    Step,
)
from halotui.servers.journal import Book
from halotui.servers.profile import Profile
from halotui.servers.stopping import Patience


async def test_there_and_back(office: Office) -> None:
    corpses = _corpses()  # of other tests
    server = office.serve("-np", "1")
    desk = office.desk()
    outcome = await done(desk, await desk.prepare(relaunch(server, {"np": 2})))
    assert outcome.step is Step.KEPT and outcome.pid == office.only() != server.pid
    assert server.get_json("/props")["total_slots"] == 2
    assert await desk.last() == outcome
    assert await desk.standing() is None
    assert _corpses() == corpses

    undo = await desk.prepare(Ask(kind=Kind.UNDO))
    assert [change.name for change in undo.changes] == ["np"]
    outcome = await done(desk, undo)
    assert outcome.step is Step.KEPT and outcome.pid == office.only()
    assert server.get_json("/props")["total_slots"] == 1

    redo = await done(desk, await desk.prepare(Ask(kind=Kind.UNDO)))
    assert redo.pid == office.only()
    assert server.get_json("/props")["total_slots"] == 2


async def test_the_backend_is_swapped_and_swapped_back(office: Office) -> None:
    office.profile("fast", binary=str(office.vulkan), backend="vulkan")
    office.profile("other", backend="rocm")
    desk = office.desk(shipped=False)
    port = free_port()
    office.profiles["fast"] = msgspec.structs.replace(office.profiles["fast"], port=port)
    first = await done(desk, await desk.prepare(Ask(kind=Kind.LAUNCH, profile="fast")))
    assert first.step is Step.KEPT and first.url.endswith(f":{port}")

    assert await desk.swap_profile(first.url) == "other"
    swap = await desk.prepare(Ask(kind=Kind.RELAUNCH, server=first.url, profile="other"))
    assert {"binary", "backend"} <= {change.name for change in swap.changes if change.part == "how"}
    assert swap.url == first.url  # its clients find it again
    second = await done(desk, swap)
    assert second.pid == office.only() != first.pid
    [row] = [row for row in await desk.servers() if row.pid == second.pid]
    assert (row.profile, row.backend) == ("other", "rocm")
    assert [row.name for row in await desk.profiles(first.url) if row.current] == ["other"]
    assert await desk.swap_profile(first.url) == "fast"


async def test_stop_and_start(office: Office) -> None:
    server = office.serve("-np", "3")
    desk = office.desk()
    stopped = await done(desk, await desk.prepare(Ask(kind=Kind.STOP, server=server.url)))
    assert stopped.step is Step.STOPPED_FOR_GOOD and not office.brood.pids("llama-server")
    started = await done(desk, await desk.prepare(Ask(kind=Kind.START)))
    assert started.step is Step.KEPT and started.pid == office.only()
    assert server.get_json("/props")["total_slots"] == 3


async def test_nothing_to_undo_and_nothing_to_start(office: Office) -> None:
    desk = office.desk()
    for kind in (Kind.UNDO, Kind.START, Kind.FINISH):
        with pytest.raises(ActionError):
            await desk.prepare(Ask(kind=kind))
    for call in (desk.cancel(), desk.answer("kill", True)):
        with pytest.raises(ActionError, match="nothing is under way"):
            await call


async def test_cancelled_while_it_loads_the_old_one_serves(office: Office) -> None:
    server = office.serve("-np", "2")
    office.profile("slow", env={"HALOTUI_TEST_LOAD_SECONDS": "40"})
    desk = office.desk()
    proposal = await desk.prepare(relaunch(server, profile="slow"))
    async with aclosing(desk.carry_out(proposal.id)) as news:
        await until(news, Step.LOADING)
        await desk.cancel()
        end = await until(news, Step.ROLLED_BACK)
    assert end.outcome and end.outcome.pid == office.only()
    assert server.get_json("/props")["total_slots"] == 2


@pytest.mark.parametrize("yes", [True, False])
async def test_one_that_does_not_stop_is_killed_only_if_told(office: Office, yes: bool) -> None:
    server = office.serve("-np", "1", env={"HALOTUI_TEST_IGNORE_TERM": "1"})
    desk = office.desk(patience=Patience(first=1.0, second=2.0))
    proposal = await desk.prepare(relaunch(server, {"np": 2}))
    asked = []
    async with asyncio.timeout(PATIENCE):
        async for progress in desk.carry_out(proposal.id):
            if progress.question:
                asked.append(progress.question)
                await desk.answer(progress.question, yes)
    assert asked == ["kill"]
    assert progress.step is (Step.KEPT if yes else Step.REFUSED)
    assert (office.only() == server.pid) is not yes
    assert server.get_json("/props")["total_slots"] == (2 if yes else 1)


async def test_who_looks_away_does_not_stop_it(office: Office) -> None:
    server = office.serve("-np", "1")
    desk = office.desk()
    proposal = await desk.prepare(relaunch(server, {"np": 2}))
    async with aclosing(desk.carry_out(proposal.id)) as news:
        await anext(news)
    async with asyncio.timeout(PATIENCE):  # and looks again
        async for progress in desk.carry_out(proposal.id):
            last = progress
    assert last.step is Step.KEPT
    assert server.get_json("/props")["total_slots"] == 2


def test_it_outlives_the_loop_that_began_it(tmp_path: Path, models: Path) -> None:
    async def begin(office: Office, server: Server) -> None:
        desk = office.desk()
        proposal = await desk.prepare(relaunch(server, {"np": 2}))
        async for _ in desk.carry_out(proposal.id):
            return

    with Brood(tmp_path, models) as brood:
        office = Office(brood, models)
        server = office.serve("-np", "1")
        asyncio.run(begin(office, server))
        book, deadline = Book(office.state / "launches"), time.monotonic() + PATIENCE
        while (last := book.last()) is None:
            assert time.monotonic() < deadline, book.current()
            time.sleep(0.05)
        assert last.step is Step.KEPT and last.new and last.new.pid == office.only()


async def test_two_at_once(office: Office) -> None:
    server = office.serve()
    office.profile("slow", env={"HALOTUI_TEST_LOAD_SECONDS": "40"})
    one, other = office.desk(), office.desk()
    mine, theirs = [await desk.prepare(relaunch(server, profile="slow")) for desk in (one, other)]
    async with aclosing(one.carry_out(mine.id)) as news:
        await until(news, Step.LOADING)
        standing = await other.standing()
        assert standing and standing.running and standing.kind is Kind.RELAUNCH
        with pytest.raises(ActionError, match="under way"):
            await done(other, theirs)
        late = await other.prepare(Ask(kind=Kind.LAUNCH, profile="slow"))
        assert "standing" in [check.id for check in failed(late)]
        for kind in (Kind.UNDO, Kind.FINISH):
            with pytest.raises(ActionError, match="under way"):
                await other.prepare(Ask(kind=kind))
        await one.cancel()
        end = await until(news, Step.ROLLED_BACK)
    assert end.outcome and end.outcome.pid == office.only()


@pytest.mark.parametrize("way", [Kind.FINISH, Kind.UNDO])
async def test_cut_off_and_taken_up(office: Office, way: Kind) -> None:
    server = office.serve("-np", "1")
    office.profile("slow", env={"HALOTUI_TEST_LOAD_SECONDS": "3"}, flags={"t": 1, "np": 2})
    desk = office.desk()
    proposal = await desk.prepare(relaunch(server, profile="slow"))
    with pytest.raises(ActionError, match="cut off while") as broken:
        async with aclosing(desk.carry_out(proposal.id)) as news:
            await until(news, Step.LOADING)
            standing = await desk.standing()
            assert standing and standing.running
            os.kill(_worker(proposal.id), signal.SIGKILL)
            async for _ in news:
                pass
    assert "--finish" in broken.value.hint
    standing = await desk.standing()
    assert standing and not standing.running and "cut off" in standing.text
    taken_up = await desk.prepare(Ask(kind=way))
    assert taken_up.id == way.value
    assert (taken_up.after == "slow") is (way is Kind.FINISH)
    outcome = await done(desk, taken_up)
    assert outcome.step is (Step.KEPT if way is Kind.FINISH else Step.ROLLED_BACK)
    assert outcome.pid == office.only()
    assert server.get_json("/props")["total_slots"] == (2 if way is Kind.FINISH else 1)
    assert await desk.standing() is None


async def test_one_that_cannot_be_put_right_is_given_up(office: Office) -> None:
    """Lost, and both binaries gone: it must not be in the way for good."""
    server = office.serve("-np", "1")
    desk = office.desk()
    proposal = await desk.prepare(relaunch(server, {"np": 2}))
    plan = Book(office.state / "launches").load_plan(proposal.id)
    assert plan.before and plan.after
    gone = [
        msgspec.structs.replace(end, argv=("/nowhere", *end.argv)) for end in (plan.before.launch, plan.after)
    ]
    plan = msgspec.structs.replace(
        plan, before=msgspec.structs.replace(plan.before, launch=gone[0]), after=gone[1]
    )
    Book(office.state / "launches").save_plan(plan)
    assert (await done(desk, proposal)).step is Step.LOST
    again = office.serve("-np", "1", "--port", server.port)
    refused = await desk.prepare(relaunch(again, {"np": 2}))
    assert not refused.possible and "--give-up" in refused.checks[0].fix
    standing = await desk.give_up()
    assert standing.step is Step.LOST and await desk.standing() is None
    assert (await done(desk, await desk.prepare(relaunch(again, {"np": 2})))).step is Step.KEPT
    with pytest.raises(ActionError, match="nothing was cut off"):
        await desk.give_up()


def _corpses() -> list[str]:
    """Children of ours that nobody has buried."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            stat = place.read_text().rpartition(")")
            if stat[2].split()[:2] == ["Z", str(os.getpid())]:
                found.append(stat[0])
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # gone
        return b""


def _worker(plan: str) -> int:
    """Its pid: a child of ours with the plan on its command line."""
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        words = _command(int(place.parent.name)).split(b"\0")
        if b"halotui.servers.worker" in words and plan.encode() in words:
            return int(place.parent.name)
    raise AssertionError("no worker")


async def test_a_worker_that_does_not_start(office: Office) -> None:
    server = office.serve()
    desk = office.desk(python="/nonexistent/python")
    with pytest.raises(ActionError, match="does not start"):
        await done(desk, await desk.prepare(relaunch(server, {"np": 2})))
    assert office.only() == server.pid


async def test_a_worker_that_ends_without_a_word(office: Office) -> None:
    server = office.serve()
    silent = office.brood.directory / "silent"
    silent.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no \\x1b[2Jmore')\n")
    silent.chmod(0o755)
    desk = office.desk(python=str(silent))
    with pytest.raises(ActionError, match=r"^no more$"):
        await done(desk, await desk.prepare(relaunch(server, {"np": 2})))
    assert office.only() == server.pid


async def test_a_worker_has_no_secret_of_ours(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "s3cr3t-of-mine")
    server = office.serve()
    teller = office.brood.directory / "teller"
    teller.write_text(f"#!{sys.executable}\nimport os, sys\nsys.exit(repr(dict(os.environ)))\n")
    teller.chmod(0o755)
    desk = office.desk(python=str(teller))
    with pytest.raises(ActionError, match="'PATH'") as told:
        await done(desk, await desk.prepare(relaunch(server, {"np": 2})))
    assert "s3cr3t" not in told.value.reason
    log = office.state / "logs" / "worker.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


# --- profiles and secrets


async def test_a_server_becomes_a_profile_that_launches(office: Office) -> None:
    server = office.serve("-np", "2")
    desk = office.desk()
    path = await desk.save(server.url, "kept")
    assert path == str(office.config_file)
    saved = msgspec.toml.decode(office.config_file.read_bytes(), type=dict[str, dict[str, Profile]])
    office.profiles = saved["profiles"]
    with pytest.raises(ActionError, match="there is a profile kept"):
        await desk.save(server.url, "kept")
    stopped = await done(desk, await desk.prepare(Ask(kind=Kind.STOP, server=server.url)))
    assert stopped.step is Step.STOPPED_FOR_GOOD
    office.profiles["kept"] = msgspec.structs.replace(
        office.profiles["kept"], env={**office.profiles["kept"].env, MARK: office.brood.mark}
    )
    outcome = await done(desk, await desk.prepare(Ask(kind=Kind.LAUNCH, profile="kept")))
    assert outcome.pid == office.only() and outcome.url == server.url
    assert server.get_json("/props")["total_slots"] == 2


KEY = "s3cr3t-of-mine"


@pytest.mark.parametrize("place", ["argv", "env", "file", "unknown file"])
async def test_a_key_is_never_told(office: Office, place: str) -> None:
    file = office.brood.directory / "key"
    file.write_text(KEY)
    flags = {"argv": ["--api-key", KEY], "env": []}.get(place, ["--api-key-file", str(file)])
    env = {"LLAMA_API_KEY": KEY} if place == "env" else {}
    server = office.brood.start(office.vulkan, "-np", "1", *flags, env=env)
    server._headers = {"Authorization": f"Bearer {KEY}"}
    server.wait_ready()
    desk = office.desk(api_key=KEY if place == "file" else None)
    told: list[Any] = [await desk.servers(), await desk.profiles(server.url), await desk.form(server.url)]
    proposal = await desk.prepare(relaunch(server, {"np": 2}))
    assert proposal.changes == (Change(part="flag", name="np", before="1", after="2"),)
    told.append(proposal)
    async for progress in desk.carry_out(proposal.id):
        told.append(progress)
    assert progress.step is Step.KEPT, progress.outcome
    assert server.get_json("/props")["total_slots"] == 2  # the key still holds
    assert KEY.encode() not in _command(office.only())
    told += [await desk.last(), await desk.prepare(Ask(kind=Kind.UNDO)), await desk.standing()]
    await desk.save(server.url, "kept")
    assert KEY.encode() not in msgspec.json.encode(told)
    assert KEY not in repr(told)
    assert KEY not in office.config_file.read_text()
    for path in office.state.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
