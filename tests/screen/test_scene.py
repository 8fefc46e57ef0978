"""The scripted box: the same on every run and machine, and true to what it pretends to be."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from halotui.collectors.llama_http import parse_metrics, parse_slots
from halotui.demo.scene import FAULTS as SHOWN
from halotui.demo.scene import START, Scene
from halotui.demo.script import Script
from halotui.demo.tree import SYSTEM_BYTES
from halotui.model import Frame, ServerState, SlotPhase, SourceState
from halotui.sampler import gpu

DIGEST = """
import asyncio, hashlib, msgspec
from halotui.demo.scene import Scene
from halotui.sampler import gpu

async def main():
    scene = Scene(seconds=40)
    frames = await scene.take()
    await scene.close()
    print(hashlib.sha256(msgspec.json.encode(frames)).hexdigest())

gpu.DEADLINE = 2.0
asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is not a hung GPU."""
    monkeypatch.setattr(gpu, "DEADLINE", 2.0)


async def play(fault: str | None = None, *, seconds: int = 40, bare: bool = False) -> list[Frame]:
    scene = Scene(fault, seconds=seconds, bare=bare)
    try:
        return await scene.take()
    finally:
        await scene.close()


def tokens(script: Script) -> float:
    """All that it ever generated: what has ended, and what runs."""
    metrics = parse_metrics(script.answer("/metrics").encode())
    slots = parse_slots(script.answer("/slots").encode())
    return (metrics.generation_tokens_total or 0) + sum(
        slot.decoded or 0 for slot in slots if slot.processing
    )


@pytest.mark.parametrize("fault", [None, "spec-decay", "gpu-fault"])
async def test_two_scenes_give_the_same_frames(fault: str | None) -> None:
    first, second = await play(fault), await play(fault)
    assert msgspec.json.encode(first) == msgspec.json.encode(second)


def test_another_zone_seed_and_place_give_the_same_frames(tmp_path: Path) -> None:
    mine = hashlib.sha256(msgspec.json.encode(asyncio.run(play()))).hexdigest()
    there = {**os.environ, "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "7", "LC_ALL": "C"}
    command = [sys.executable, "-c", DIGEST]
    other = subprocess.run(command, cwd=tmp_path, env=there, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == mine


async def test_no_path_of_this_machine_shows() -> None:
    said = msgspec.json.encode(await play()).decode()
    assert "halotui-scene" not in said
    assert '"log_path":"/srv/llama/llama-server.log"' in said


async def test_a_healthy_box() -> None:
    frames = await play(seconds=163)
    assert frames[0].time == START
    assert not any(frame.findings for frame in frames)
    for frame in frames:
        (server,) = frame.servers
        (chip,) = frame.gpus
        assert {source.state for source in frame.sources} <= {SourceState.OK, SourceState.UNUSED}
        assert server.slots_busy == sum(slot.phase is not SlotPhase.IDLE for slot in server.slots)
        assert server.state == ServerState.BUSY or not server.slots_busy
        assert server.draft_coverage_ratio and 0.5 < server.draft_coverage_ratio < 1.5
        assert server.draft_acceptance_ratio and 0.6 < server.draft_acceptance_ratio < 0.9
        assert frame.memory is not None
        parts = frame.account
        assert parts is not None and parts.gtt_bytes == chip.gtt_used_bytes
        whole = parts.carve_out_bytes + parts.gtt_bytes + parts.other_bytes + parts.free_bytes
        assert whole == parts.total_bytes
    assert {slot.phase for slot in frames[-1].servers[0].slots} == set(SlotPhase)


async def test_a_slot_at_work_is_seen_at_work() -> None:
    frames = await play(seconds=163)
    for before, frame in pairwise(frames):
        decoding = [
            slot
            for slot, old in zip(frame.servers[0].slots, before.servers[0].slots, strict=True)
            if slot.phase == old.phase == SlotPhase.DECODE and slot.task == old.task
        ]
        prompting = any(
            slot.phase == SlotPhase.PROMPT for f in (before, frame) for slot in f.servers[0].slots
        )
        if decoding and not prompting:  # a prompt's batch may take more than a second
            assert all((slot.generation_tokens_per_second or 0) > 0 for slot in decoding)
            assert (frame.servers[0].generation_tokens_per_second or 0) > 0
            assert (frame.gpus[0].busy_percent or 0) > 20


async def test_the_rates_add_up_to_what_was_generated() -> None:
    scene = Scene(seconds=163)
    frames, told = [], []
    for second in range(164):
        frames.append(await scene._frame(second))
        told.append(tokens(scene.script))
    await scene.close()
    rates = [frame.servers[0].generation_tokens_per_second for frame in frames]
    assert sum(rate or 0 for rate in rates[1:]) == pytest.approx(told[-1] - told[0], abs=1)


@pytest.mark.parametrize("fault", SHOWN)
async def test_a_fault_is_found_and_no_other(fault: str) -> None:
    frames = await play(fault, seconds=120)
    assert [found.id for found in frames[-1].findings] == [fault]
    assert {found.id for frame in frames for found in frame.findings} == {fault}
    assert not frames[0].findings


async def test_a_bare_box() -> None:
    frame = (await play(bare=True, seconds=3))[-1]
    assert not frame.gpus
    assert not frame.servers
    assert {source.id: source.state for source in frame.sources}["gpu"] == SourceState.ABSENT
    assert frame.memory is not None
    assert frame.memory.used_bytes == pytest.approx(SYSTEM_BYTES, abs=1 << 20)


async def test_after_the_last_frame_it_waits() -> None:
    scene = Scene(seconds=3)
    frames = scene.frames()
    seen = [await anext(frames) for _ in range(4)]
    assert not scene.shown.is_set()
    waiting = asyncio.ensure_future(anext(frames))
    await asyncio.wait_for(scene.shown.wait(), 1)
    waiting.cancel()
    await scene.close()
    assert [frame.time - START for frame in seen] == [0, 1, 2, 3]


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="none of"):
        Scene("rust")
