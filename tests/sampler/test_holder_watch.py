"""Holders over time: rates, rows, what a hung driver costs, and when memory may be called leaked."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from builders import URL, server
from halotui.account import Owned
from halotui.model import Holder, ModelState, ServedModel, Server, SourceState
from halotui.sampler.clock import Clock
from halotui.sampler.holders import HolderWatch
from proc_tree import GIB, SLOT, Box, told

ID = "0123456789ab" + "c" * 52


class Watch:
    def __init__(self, box: Box) -> None:
        self.now = 1000.0
        self.holders = HolderWatch(box.host, Clock(monotonic=lambda: self.now, wall=lambda: self.now))

    async def look(self, *servers: Server, after: float = 2.0) -> dict[int, Holder]:
        self.now += after
        await self.holders.read(5.0)
        return {row.pid: row for row in self.holders.told(servers)}

    @property
    def owned(self) -> Owned:
        assert self.holders.owned is not None
        return self.holders.owned


async def test_rates_and_facts(tmp_path: Path) -> None:
    box = Box(tmp_path, {SLOT: 60})
    unit = "/system.slice/llama.service"
    box.process(10, cpu=5, rss=1.5, cgroup=unit)
    box.opens(10, fd3=told(1, 60, 0.5, gfx=int(9e9)))
    watch = Watch(box)
    row = (await watch.look())[10]
    assert (row.gtt_bytes, row.vram_bytes, row.rss_bytes) == (60 * GIB, GIB // 2, int(1.5 * GIB))
    assert row.cpu_percent is None and row.gpu_percent is None and row.unit == "llama.service"
    assert row.started_time == pytest.approx(1700000000.1) and row.user and row.name == "llama-server"
    box.process(10, cpu=8, rss=1.5, cgroup=unit)
    box.opens(10, fd3=told(1, 60, 0.5, gfx=int(9.5e9), compute=int(1.8e9)))  # its first compute
    row = (await watch.look())[10]
    assert row.cpu_percent == pytest.approx(150) and row.gpu_percent == pytest.approx(90)
    box.opens(10, fd3=told(1, 60, 0.5, gfx=5, compute=int(2e9)))  # began anew: a reset
    assert (await watch.look())[10].gpu_percent is None
    box.opens(10, fd3=told(1, 60, 0.5, gfx=5, compute=int(12e9)))  # several rings at once
    assert (await watch.look())[10].gpu_percent == 100


async def test_the_same_pid_is_not_the_same_process(tmp_path: Path) -> None:
    box = Box(tmp_path, {SLOT: 1})
    box.process(10, cpu=1, rss=2, ticks=5)
    watch = Watch(box)
    await watch.look()
    box.process(10, cpu=90, rss=2, ticks=500)
    rows = await watch.look() or await watch.look()
    assert rows[10].cpu_percent is None


async def test_values_are_kept_between_looks(tmp_path: Path) -> None:
    box = Box(tmp_path, {SLOT: 1})
    box.process(10, rss=2)
    watch = Watch(box)
    first = await watch.look()
    box.process(10, rss=3)
    assert await watch.look(after=1.0) == first  # a look each second tick
    assert watch.holders.source().age_seconds == 1.0
    assert (await watch.look(after=1.0))[10].rss_bytes == 3 * GIB


async def test_a_server_has_a_row_with_its_url(tmp_path: Path) -> None:
    box = Box(tmp_path, {SLOT: 1})
    box.process(10, rss=0.1, cgroup=f"/machine.slice/libpod-{ID}.scope")
    box.process(11, "ollama_runner")
    box.process(12, "bash")
    watch = Watch(box)
    runner = ServedModel(id="gemma3", state=ModelState.LOADED, pid=11)
    ours = (server(pid=10), server("http://127.0.0.1:11434", models=(runner,)), server("http://far:1"))
    assert await watch.look(*ours) == {}
    rows = await watch.look(*ours, after=0.1)  # at once: it is new
    assert {pid: row.url for pid, row in rows.items()} == {10: URL, 11: "http://127.0.0.1:11434"}
    assert rows[10].container == ID[:12] and rows[10].gtt_bytes is None and not rows[10].hidden
    named = server(pid=10, container="toolbox", unit="llama.service")
    row = (await watch.look(named))[10]
    assert (row.container, row.unit) == ("toolbox", "llama.service")
    assert 11 not in await watch.look(named)


async def test_the_largest_first_and_not_too_many(tmp_path: Path) -> None:
    box = Box(tmp_path, {SLOT: 1})
    for pid in range(100, 140):
        box.process(pid, "app", rss=1 + pid / 100)
    box.process(50, "gpu")
    box.opens(50, fd3=told(1, 0.1))
    box.process(51)
    watch = Watch(box)
    await watch.look(server(pid=51))
    rows = list((await watch.look(server(pid=51))).values())
    assert len(rows) == 32 and rows[0].pid == 50 and rows[1].pid == 139 and rows[-1].pid == 51
    assert sorted(row.rss_bytes or 0 for row in rows[1:])[::-1] == [row.rss_bytes for row in rows[1:]]


async def test_what_is_hidden_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(tmp_path, {SLOT: 60})
    box.process(10)
    box.process(11)
    listdir = os.listdir

    def refuses(path: str) -> list[str]:
        if path.endswith("/fd"):
            raise PermissionError
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuses)
    watch = Watch(box)
    await watch.look(server(pid=10))
    rows = await watch.look(server(pid=10))
    assert rows[10].hidden and rows[10].gtt_bytes is None and rows[10].url == URL
    said = watch.holders.source()
    assert said.state is SourceState.OK and said.hint
    assert said.reason == "GPU memory of 2 processes of other users is theirs and root's to see"
    await watch.look(after=20)
    assert not watch.owned.complete


async def test_leaked_is_told_once_it_stands_still(tmp_path: Path) -> None:
    box = Box(tmp_path, {SLOT: 60})
    box.process(10)
    box.opens(10, fd3=told(1, 59.5))
    watch = Watch(box)
    await watch.look()
    assert not watch.owned.complete and watch.owned.gtt_bytes[SLOT] == int(59.5 * GIB)
    assert watch.owned.used_bytes == {SLOT: 60 * GIB}
    for _ in range(6):
        await watch.look()
    assert watch.owned.complete
    box.ends(10)  # and its memory stays
    await watch.look()
    assert not watch.owned.complete and watch.owned.gtt_bytes == {}
    for _ in range(6):
        await watch.look()
    assert watch.owned.complete


async def test_a_container_sees_its_own_processes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Box(tmp_path, {SLOT: 60})
    (box.proc / "self/ns").mkdir(parents=True)
    (box.proc / "self/ns/pid").symlink_to("pid:[4026532000]")
    host = box.host
    host.native = True
    monkeypatch.setattr(Box, "host", host)
    watch = Watch(box)
    for _ in range(8):
        await watch.look()
    said = watch.holders.source()
    assert not watch.owned.complete and said.state is SourceState.OK and "container" in (said.reason or "")


async def test_a_driver_that_hangs_costs_this_alone(tmp_path: Path) -> None:
    box = Box(tmp_path, {SLOT: 60})
    box.process(10)
    box.opens(10, fd3=told(1, 60))
    watch = Watch(box)
    assert 10 in await watch.look()
    info = box.proc / "10/fdinfo/3"
    info.unlink()
    os.mkfifo(info)
    watch.now += 2
    await watch.holders.read(0.05)
    said = watch.holders.source()
    assert said.state is SourceState.HUNG and said.age_seconds == 2 and said.hint
    assert [row.pid for row in watch.holders.told(())] == [10]  # for a while yet
    assert await watch.look(after=20) == {} and watch.holders.owned is None
    await asyncio.to_thread(info.write_text, told(1, 50))
    info.unlink()
    info.write_text(told(1, 40))
    for _ in range(50):
        if 10 in (rows := await watch.look()) and rows[10].gtt_bytes == 40 * GIB:
            break
        await asyncio.sleep(0.02)
    assert rows[10].gtt_bytes == 40 * GIB and watch.holders.source().state is SourceState.OK


async def test_no_gpu(tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.process(10, rss=4)
    watch = Watch(box)
    assert watch.holders.source().state is SourceState.NO_DATA
    rows = await watch.look()
    assert rows[10].rss_bytes == 4 * GIB and rows[10].gtt_bytes is None
    said = watch.holders.source()
    assert (said.state, said.reason) == (SourceState.NO_DATA, "no GPU device")


async def test_an_error_of_our_own_is_contained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(Box(tmp_path))

    def fails(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(watch.holders._books._scan, "look", fails)
    assert await watch.look() == {} and watch.holders.source().state is SourceState.FAILED
