"""The box as its parent sees it: started in a moment, alive, at fault as asked, and gone without a trace."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from halotui.collectors import amdgpu_sysfs, llama_process, memory, process_use
from halotui.demo import traffic
from halotui.demo.backends import LOG, command, profile
from halotui.demo.box import Box, BoxError, start_box
from halotui.demo.faults import TABLE
from halotui.demo.traffic import REFRAINS, Traffic
from halotui.demo.tree import DESKTOP, Load
from halotui.hosts.local import LocalHost
from halotui.servers import room

BOX = [sys.executable, "-m", "halotui.demo.box"]


@asynccontextmanager
async def box_with(fault: str | None = None) -> AsyncIterator[Box]:
    box = await start_box(fault=fault, seed=1)
    try:
        yield box
    finally:
        await box.stop()


def state(pid: int) -> str:
    """The letter that /proc gives; empty when gone or waiting to be buried."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
    return "" if letter in "ZX" else letter


def command_line(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def listing(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*")) if directory.exists() else []


async def until(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_box_lives_and_leaves_nothing() -> None:
    said: list[str] = []
    start = time.monotonic()
    box = await start_box(progress=said.append)
    try:
        assert time.monotonic() - start < 10
        assert said == ["making model…", "starting llama-server…"]
        host = LocalHost(box.sysfs, box.procfs)
        gpu = amdgpu_sysfs.read(host)[0]
        assert gpu.name == "Radeon 8060S"
        assert gpu.gtt_used_bytes and gpu.gtt_used_bytes >= 58 << 30
        assert memory.read(host).total_bytes > 120 << 30
        facts = llama_process.find(host, ())
        assert [(server.pid, server.url, server.slots_asked) for server in facts] == [(box.pid, box.url, 2)]
        assert facts[0].log_path == str(box.log)
        assert facts[0].started_time == pytest.approx(time.time(), abs=20)
        await until(lambda: (amdgpu_sysfs.read(host)[0].busy_percent or 0) > 80)
        assert "listening" in box.log.read_text()
    finally:
        await box.stop()
    assert box.process.returncode == 0
    assert not box.directory.exists()
    assert not state(box.pid)


async def test_a_box_follows_its_killed_parent() -> None:
    code = """
import asyncio, json
from halotui.demo import traffic
from halotui.demo.box import start_box
async def main():
    box = await start_box()
    print(json.dumps([box.process.pid, box.pid, str(box.directory)]), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
    assert parent.stdout
    box, server, directory = json.loads(await parent.stdout.readline())
    parent.kill()
    await parent.wait()
    await until(lambda: not state(box) and not state(server))
    assert not listing(Path(directory))


async def test_a_server_follows_its_killed_box() -> None:
    async with box_with() as box:
        box.process.kill()
        await until(lambda: not state(box.pid))
    shutil.rmtree(box.directory)  # nobody was left to do it


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_even_while_it_starts(number: signal.Signals, tmp_path: Path) -> None:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = await asyncio.create_subprocess_exec(*BOX, "--dir", str(tmp_path), **pipes)
    assert process.stderr
    await process.stderr.readline()  # making model…
    assert listing(tmp_path)
    process.send_signal(number)
    assert await process.wait() == 0
    assert not listing(tmp_path)


async def test_no_patience() -> None:
    with pytest.raises(BoxError):
        await start_box(patience=0.1)


async def test_hang_blocks_readers_and_stops_the_server() -> None:
    async with box_with("gpu-fault") as box:
        metrics = box.sysfs / "class/drm/card1/device/gpu_metrics"
        assert len(metrics.read_bytes()) == 264
        await until(lambda: state(box.pid) == "T")
        came_back = threading.Event()

        def read() -> None:
            metrics.read_bytes()
            came_back.set()

        threading.Thread(target=read, daemon=True).start()
        assert not await asyncio.to_thread(came_back.wait, 0.5)
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(f"{box.url}/slots", timeout=0.5)
    assert await asyncio.to_thread(came_back.wait, 5)
    assert box.process.returncode == 0
    assert not state(box.pid)
    assert not box.directory.exists()


async def test_np_slots() -> None:
    async with box_with("np-slots") as box:
        argv = command_line(box.pid)
        assert argv[argv.index("-np") + 1] == "1"
        async with httpx.AsyncClient() as client:
            slots = (await client.get(f"{box.url}/slots")).json()
        assert [slot["n_ctx"] for slot in slots] == [8192] * 4


async def test_gtt_pressure() -> None:
    async with box_with("gtt-pressure") as box:
        host = LocalHost(box.sysfs, box.procfs)
        before = memory.read(host).available_bytes
        assert before
        await until(lambda: (memory.read(host).available_bytes or 0) < before - (10 << 30))


async def test_spec_decay_stops_the_drafts(
    start_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As llama.cpp #19231: all that was drafted was right, then nothing is drafted, and no one says so."""
    monkeypatch.setattr(traffic, "PAUSE_SECONDS", 0.05)
    flags = command(profile("vulkan", Path(), TABLE["spec-decay"], 1, {}), Path(LOG))
    speculation = flags[flags.index("--spec-type") : flags.index("--log-file")]
    with start_server("-np", "2", "-c", "8192", *speculation) as server:
        users = Traffic(server.url, slots=2, seed=2, decays=True)
        await users.run(8)  # seconds: on a machine that does much else a request takes one
        assert users.load() == Load(tokens=users.load().tokens)
        log = server.log()
        assert all(slot["speculative"] for slot in server.get_json("/slots"))
    drafts = dict(re.findall(r"task (\d+) \| draft acceptance = ([\d.]+)", log))
    tasks = sorted(re.findall(r"task (\d+) \| stop processing", log), key=int)
    later = tasks[REFRAINS:]
    assert [drafts.get(task) for task in tasks[:REFRAINS]] == ["1.00000"] * REFRAINS
    assert len(later) > 3
    assert not any(task in drafts for task in later)


async def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gguf.py").write_text("raise ImportError('not here', name='gguf')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(BoxError, match=r"the demo needs gguf: pip install halotui\[demo\]"):
        await start_box()


def test_the_parents_side_is_light() -> None:
    code = "import sys, halotui.demo.box as box; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "gguf", "xllamacpp", "httpx", "textual", "psutil"} & set(modules.split())


async def test_what_holds_the_memory_of_a_box() -> None:
    async with box_with() as box:
        host = LocalHost(box.sysfs, box.procfs)
        (server,) = host.processes(("llama-server",), ())
        assert f"http://127.0.0.1:{server.ports[0]}" == box.url
        assert server.cwd == str(box.directory)
        assert room.read(host, None).gtt_bytes  # without it there would be its 58 GiB more
        gained = (room.read(host, server.pid).gtt_bytes or 0) - (room.read(host, None).gtt_bytes or 0)
        assert gained > 57 << 30
        shares = (process_use.read(host, pid) for pid in (server.pid, DESKTOP))
        used = amdgpu_sysfs.read(host)[0].gtt_used_bytes
        assert sum(share.gtt_bytes or 0 for share in shares) == pytest.approx(used, rel=0.001)
