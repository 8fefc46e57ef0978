"""What a server shows before it is touched, and that it is left asleep."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from binaries import Brood, Server, binary
from halotui.actions import Ask, Kind, Step
from halotui.collectors.llama_process import find
from halotui.hosts.hands import Identity
from halotui.hosts.local import LocalHost
from halotui.model import ServerProcess
from halotui.servers import unfinished
from halotui.servers.journal import Journal
from halotui.servers.launch import Before, Launch, Plan
from halotui.servers.observing import Observed, load_seconds, observe

HOST = LocalHost(sysfs=Path("/nonexistent"))


def facts(server: Server) -> ServerProcess:
    [found] = find(HOST, [server.url])
    return found


async def test_what_it_shows(tmp_path: Path, models: Path) -> None:
    with Brood(tmp_path, models) as brood:
        server = brood.start(binary(tmp_path / "cpu"), "-np", "2", "-c", "4096").wait_ready()
        seen = await observe(HOST, facts(server), None)
    assert (seen.slots, seen.slot_context_tokens, seen.speculative, seen.busy) == (2, 2048, False, 0)
    assert seen.load_seconds is not None and 0 < seen.load_seconds < 60
    assert seen.held_bytes is None  # no driver tells


async def test_a_sleeping_server_sleeps_on(tmp_path: Path, models: Path) -> None:
    with Brood(tmp_path, models) as brood:
        server = brood.start(binary(tmp_path / "cpu"), "--sleep-idle-seconds", "1").wait_ready()
        deadline = time.monotonic() + 30
        while not server.get_json("/props")["is_sleeping"]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        seen = await observe(HOST, facts(server), None)
        assert seen.busy is None and seen.speculative is None
        assert server.get_json("/props")["is_sleeping"]


async def test_who_does_not_answer_shows_nothing() -> None:
    nobody = ServerProcess(pid=1 << 30, url="http://127.0.0.1:1")
    assert await observe(HOST, nobody, None) == Observed()


@pytest.mark.parametrize(
    ("log", "seconds"),
    [
        ("0.00.001.000 I srv  x: y\n0.00.036.611 I srv  llama_server: model loaded\n", 0.036),
        ("1.02.500.000 I srv          init: model loaded\n0.00.200.000 I slot x: y\n", 62.5),
        ("0.09.000.000 I srv  l: model loaded\n0.05.250.000 I srv  l: model loaded\n", 5.25),  # started twice
        ("\x1b[34m0.07.100.000\x1b[0m \x1b[32mI \x1b[0msrv  llama_server: model loaded\n", 7.1),
        ("main: model loaded\n", None),  # an era without times
        ("", None),
    ],
)
def test_load_seconds(tmp_path: Path, log: str, seconds: float | None) -> None:
    (tmp_path / "log").write_text(log)
    assert load_seconds(LocalHost(), str(tmp_path / "log")) == seconds
    assert load_seconds(LocalHost(), "/nonexistent") is None


async def test_its_share_of_the_gpus_memory(tmp_path: Path) -> None:
    """As kernels of two eras write it; how clients are counted, is with the room of the pre-flight."""
    directory = tmp_path / "7" / "fdinfo"
    directory.mkdir(parents=True)
    client = "drm-driver:\tamdgpu\ndrm-client-id:\t{}\n{}"
    (directory / "3").write_text(client.format(12, "drm-memory-vram:\t1024 KiB\ndrm-memory-gtt:\t3072 KiB\n"))
    (directory / "4").write_text(client.format(13, "drm-resident-vram:\t0\ndrm-resident-gtt:\t5 MiB\n"))
    seen = await observe(LocalHost(procfs=tmp_path), ServerProcess(pid=7, url="http://127.0.0.1:1"), None)
    assert seen.held_bytes == 9 << 20


def journal(**more: Any) -> Journal:
    launch = Launch(
        name="vulkan", argv=("/b/llama-server", "--odd-token", "s3cr3t"), url="http://127.0.0.1:1"
    )
    other = Launch(name="rocm", argv=("/c/llama-server",), url="http://127.0.0.1:1")
    who = Identity(1, 1, "boot")
    plan = Plan(id="x", kind=Kind.RELAUNCH, before=Before(who=who, launch=launch), after=other)
    return Journal(plan=plan, owner=who, began_time=1.0, step_time=1.0, **more)


@pytest.mark.parametrize(
    ("said", "at_it", "told"),
    [
        ({"step": Step.LOADING}, True, "relaunch vulkan → rocm is under way: loading"),
        ({"step": Step.LOADING}, False, "relaunch vulkan → rocm was cut off while loading"),
        (
            {"step": Step.LOST, "reason": "bad"},
            False,
            "relaunch vulkan → rocm failed, and nothing serves: bad",
        ),
    ],
)
def test_where_it_stands(said: dict[str, Any], at_it: bool, told: str) -> None:
    standing = unfinished.standing(journal(**said), at_it)
    assert (standing.text, standing.running, standing.step) == (told, at_it, said["step"])


def test_taken_up_on_or_back() -> None:
    on, back = (
        unfinished.taken_up(Ask(kind=kind), journal(step=Step.LOADING)) for kind in (Kind.FINISH, Kind.UNDO)
    )
    assert (on.id, on.before, on.after) == ("finish", "vulkan", "rocm")
    assert (back.id, back.before, back.after) == ("undo", "rocm", "vulkan")
    assert on.command_before == back.command_after == ("/b/llama-server", "--odd-token", "***")
