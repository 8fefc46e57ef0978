"""The desk with real servers: what it lists, and what it would do, which touches nothing."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from office import Office, done, failed, relaunch
from stand_ins import StandIns

from halotui.actions import (
    ActionError,
    Ask,
    Change,
    Kind,
)
from halotui.config import ConfigError
from halotui.servers.drafting import revealed
from halotui.servers.profile import Profile
from halotui.servers.running import Running


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else has."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


# --- what there is


async def test_what_runs_is_listed(office: Office) -> None:
    server = office.serve("-np", "2", "--alias", "mine")
    [row] = [row for row in await office.desk().servers() if row.pid == server.pid]
    assert (row.url, row.model, row.backend, row.runner) == (server.url, "mine", "vulkan", "plain")
    assert row.started_time and not row.refusal and not row.profile
    assert "-np" in row.command


async def test_a_distrobox_that_is_not_there_is_not_made(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``distrobox enter`` would pull an image and make one; only podman is asked (stand-ins of both)."""
    server = office.serve()
    tools = StandIns(tmp_path / "bin")
    monkeypatch.setenv("PATH", tools.path)
    office.profile("box", runner="distrobox", container="none-such", binary="llama-server")
    proposal = await office.desk().prepare(Ask(kind=Kind.RELAUNCH, server=str(server.pid), profile="box"))
    assert not proposal.possible and "none-such" in proposal.checks[0].detail
    assert tools.calls("distrobox") == [] and ["podman", "container", "exists", "none-such"] in tools.calls()
    assert server.poll() is None


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process of another user that is called llama-server."""
    if os.geteuid() != 0:
        pytest.skip("only root can start one")
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        program = shutil.copy("/bin/sleep", f"{directory}/llama-server")
        process = subprocess.Popen([program, "60"], user=65534)
        yield process.pid
        process.kill()
        process.wait()


async def test_a_server_of_somebody_else_is_listed_with_why_not(office: Office, stranger: int) -> None:
    desk = office.desk()
    [row] = [row for row in await desk.servers() if row.pid == stranger]
    assert row.refusal and row.hint
    for kind in (Kind.STOP, Kind.RELAUNCH):
        with pytest.raises(ActionError) as refused:
            await desk.prepare(Ask(kind=kind, server=str(stranger)))
        assert refused.value.reason == row.refusal


async def test_the_form_shows_what_runs(office: Office) -> None:
    env = {"LLAMA_ARG_CACHE_RAM": "64"}
    server = office.serve("-np", "2", "-c", "4096", "--threads-http", "2", env=env)
    fields = {field.name: field for field in await office.desk().form(server.url)}
    said = {name: field.value for name, field in fields.items() if field.value}
    assert said == {"np": "2", "c": "4096", "cram": "64", "extra": "--threads-http 2"}
    assert list(fields)[-1] == "extra"
    assert "on" in fields["fa"].choices and "off" in fields["kvu"].choices
    assert all(field.label and field.help for field in fields.values())


async def test_profiles_tell_what_they_are(office: Office) -> None:
    server = office.serve()
    office.profile("rocm", backend="rocm")
    office.profiles["broken"] = Profile(inherits="nobody")
    rows = {row.name: row for row in await office.desk().profiles(server.url)}
    assert rows["rocm"].complete and not rows["rocm"].problem and not rows["rocm"].preset
    assert "nobody" in rows["broken"].problem
    assert rows["vulkan"].preset and not rows["vulkan"].complete and not rows["vulkan"].problem
    assert "no binary" in rows["rocm-hipblaslt"].problem  # what runs is another backend's binary
    assert next(iter(rows)) == "rocm"  # the user's own come first
    bare = await office.desk(shipped=False).profiles()
    assert [row.name for row in bare] == ["rocm", "broken"]


async def test_an_edit_of_the_profiles_counts_at_once(office: Office) -> None:
    desk = office.desk(shipped=False)
    assert await desk.profiles() == []
    office.profile("new")
    assert [row.name for row in await desk.profiles()] == ["new"]


async def test_a_config_that_cannot_be_read_is_said(office: Office) -> None:
    def profiles() -> dict[str, Profile]:
        raise ConfigError("config.toml:3: no \x1b[2Jsuch key")

    desk = office.desk(profiles=profiles)
    for ask in (desk.profiles(), desk.prepare(Ask(kind=Kind.LAUNCH, profile="x")), desk.save("1", "x")):
        with pytest.raises(ActionError, match=r"^config.toml:3: no such key$"):
            await ask


# --- what would happen


async def test_one_flag_changes_and_nothing_is_touched(office: Office) -> None:
    server = office.serve("-np", "1")
    desk = office.desk()
    proposal = await desk.prepare(relaunch(server, {"np": 2}))
    assert proposal.possible, failed(proposal)
    assert proposal.changes == (Change(part="flag", name="np", before="1", after="2"),)
    assert proposal.url == server.url
    assert proposal.command_before != proposal.command_after
    assert office.only() == server.pid
    [plan] = (office.state / "launches").glob("plan-*")
    assert stat.S_IMODE(plan.stat().st_mode) == 0o600
    assert stat.S_IMODE(plan.parent.stat().st_mode) == 0o700
    await desk.close()
    assert not plan.exists()  # nobody said yes


async def test_a_plain_restart_says_so(office: Office) -> None:
    server = office.serve()
    proposal = await office.desk().prepare(relaunch(server))
    assert proposal.possible and not proposal.changes
    assert [check.id for check in proposal.checks if check.title == "Changes"] == ["changes"]


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        ({"extra": ("--no-such-flag", "1")}, "--no-such-flag"),
        ({"patch": {"model": "/nonexistent/model.gguf"}}, "/nonexistent/model.gguf"),
        ({"patch": {"draft": "/nonexistent/draft.gguf"}}, "/nonexistent/draft.gguf"),
    ],
)
async def test_what_cannot_work_is_refused_before_the_stop(
    office: Office, ask: dict[str, Any], told: str
) -> None:
    server = office.serve()
    desk = office.desk()
    proposal = await desk.prepare(Ask(kind=Kind.RELAUNCH, server=server.url, **ask))
    assert any(told in check.title + check.detail for check in failed(proposal)), proposal.checks
    assert not list((office.state / "launches").glob("plan-*"))
    with pytest.raises(ActionError, match="no such plan"):
        await done(desk, msgspec.structs.replace(proposal, checks=()))
    assert office.only() == server.pid and server.get_json("/props")


async def test_every_unknown_flag_is_named(office: Office) -> None:
    server = office.serve()
    proposal = await office.desk().prepare(
        relaunch(server, extra=("--odd", "--spec-ngram-size-n", "4", "--even"))
    )
    checks = failed(proposal)
    assert [check.id for check in checks] == ["flags"] * 3
    for flag, check in zip(("--odd", "--spec-ngram-size-n", "--even"), checks, strict=True):
        assert flag in check.detail
    assert checks[1].fix  # removed from this build: what to use instead
    assert office.only() == server.pid


async def test_a_masked_flag_comes_back_as_it_was() -> None:
    words = ("-np", "1", "--odd-token", "s3cr3t", "--other", "x")
    running = cast(Running, SimpleNamespace(arguments=words))
    assert revealed(("--odd-token", "***", "--other", "y"), running) == (
        *("--odd-token", "s3cr3t", "--other", "y"),
    )
    assert revealed(None, running) is None
    assert revealed(("--x",), None) == ("--x",)


async def test_a_port_that_somebody_else_has_is_refused(office: Office, taken: int) -> None:
    server = office.serve()
    office.profile("beside", port=taken)
    desk = office.desk()
    moved = await desk.prepare(relaunch(server, {"port": taken}))
    beside = await desk.prepare(Ask(kind=Kind.LAUNCH, profile="beside"))
    for proposal in (moved, beside):
        assert [check.id for check in failed(proposal)] == ["port"]
    assert office.only() == server.pid


async def test_a_binary_that_does_not_run_is_refused(office: Office) -> None:
    server = office.serve()
    office.profile("gone", binary="/nonexistent/llama-server")
    proposal = await office.desk().prepare(relaunch(server, profile="gone"))
    assert [check.id for check in failed(proposal)] == ["binary"]
    assert office.only() == server.pid


async def test_no_state_no_relaunch(office: Office) -> None:
    server = office.serve()
    (office.brood.directory / "file").touch()
    with pytest.raises(ActionError, match=r"Not a directory|File exists"):
        await office.desk(state=office.brood.directory / "file").prepare(relaunch(server, {"np": 2}))
    assert office.only() == server.pid
