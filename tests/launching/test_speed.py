"""The speed check on the real server: its figures, its bounds, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halotui.actions import Speed
from halotui.demo.model import SLOW, write_preset
from halotui.servers.speed import measure
from running import Crowd, busy


def nothing() -> None:
    """A memory that cannot be read."""


async def at_rest(server: Any) -> None:
    """Within two seconds."""
    for _ in range(20):
        slots = await asyncio.to_thread(server.get_json, "/slots")
        if not any(slot["is_processing"] for slot in slots):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it still works on it")


async def test_figures_of_a_server_with_a_perfect_draft(server: Any) -> None:
    said: list[str] = []
    level = iter(range(1, 10**6))
    began = time.monotonic()
    speed = await measure(server.url, None, lambda: next(level), tell=said.append)
    assert time.monotonic() - began < 45
    assert speed.runs == 3 and speed.note == ""
    assert speed.prompt_tokens_per_second and speed.generation_tokens_per_second
    assert speed.prompt_tokens_per_second > speed.generation_tokens_per_second > 10
    assert speed.prompt_spread is not None and speed.generation_spread is not None
    assert speed.draft_acceptance_ratio == 1.0
    assert speed.draft_coverage_ratio and 0.5 < speed.draft_coverage_ratio < 1
    assert speed.peak_memory_bytes and speed.peak_memory_bytes >= 2  # seen again and again
    assert said[0] == "waiting for quiet" and said[-1] == "decode 3/3"


async def test_no_prompt_comes_from_the_cache(start_server: Callable[..., Any]) -> None:
    with start_server("-np", "1", "-c", "2048", "--metrics") as server:
        before = prompted(server)
        assert (await measure(server.url, None, nothing)).runs == 3
        assert prompted(server) - before == 64 + 3 * (512 + 24)


def prompted(server: Any) -> float:
    """Prompt tokens computed; none where the counter of the cached ones moves."""
    lines = server.get("/metrics").decode().splitlines()
    counts = {name: float(value) for name, value in (line.split() for line in lines if line[:1] != "#")}
    assert counts["llamacpp:prompt_tokens_cached_total"] == 0
    return counts["llamacpp:prompt_tokens_total"]


async def test_without_drafts_nothing_is_said_of_them(start_server: Callable[..., Any]) -> None:
    with start_server("-np", "1", "-c", "512") as server:  # smaller than the prompt
        speed = await measure(server.url, None, nothing)
    assert speed.runs == 3
    assert speed.draft_acceptance_ratio is speed.draft_coverage_ratio is speed.peak_memory_bytes is None
    assert speed.note == "a short check: 487 tokens of prompt, 128 generated"


async def test_a_slow_model_is_given_less(start_server: Callable[..., Any], tmp_path: Path) -> None:
    model = write_preset(tmp_path / "slow.gguf", SLOW)
    with start_server("-m", model, "-np", "1", "-c", "2048") as server:
        began = time.monotonic()
        speed = await measure(server.url, None, nothing, seconds=0.5)
        assert time.monotonic() - began < 1.0
        assert speed.note.startswith(("a short check", "too slow for more than the warm-up"))
        assert speed.prompt_tokens_per_second and speed.generation_tokens_per_second
        await at_rest(server)  # what did not end in time was dropped
        began = time.monotonic()
        speed = await measure(server.url, None, nothing, seconds=0.05)
        assert time.monotonic() - began < 0.5
        assert speed == Speed(note="too slow for a check of 0.05 s")
        await at_rest(server)


async def test_others_at_work_are_named(start_server: Callable[..., Any]) -> None:
    with start_server("-np", "2", "-c", "65536") as server, Crowd(server) as crowd:
        crowd.hold()
        await asyncio.to_thread(busy, server)
        speed = await measure(server.url, None, nothing, seconds=8)
    assert "1 request was running: not comparable" in speed.note
    assert speed.generation_tokens_per_second


async def test_a_key_is_wanted_and_given(start_server: Callable[..., Any]) -> None:
    with start_server("-np", "1", "-c", "1024", "--api-key", "sesame") as server:
        assert await measure(server.url, "wrong", nothing) == Speed(note="it wants an API key")
        assert (await measure(server.url, "sesame", nothing)).runs == 3


async def test_nobody_there() -> None:
    assert await measure("http://127.0.0.1:9", None, nothing) == Speed(note="no connection")


async def test_it_can_be_cancelled(server: Any) -> None:
    task = asyncio.create_task(measure(server.url, None, nothing))
    await asyncio.to_thread(busy, server)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 2)
    await at_rest(server)
