"""The real server, folded: what one Frame says of it against what it says of itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from halotui import kv
from halotui.hosts.local import LocalHost
from halotui.model import End, Request, Server, ServerState
from halotui.recording.frames import frame_of
from halotui.sampler.core import Options, Sampler
from running import NOWHERE


class Watch:
    """A sampler and one server: ``await see(wanted)`` ticks until a frame will do."""

    def __init__(self, server: Any, log: str | None = None) -> None:
        self.server = server
        self.sampler = Sampler(LocalHost(), Options(urls=(server.url,), log=log))
        self.seen: list[Server] = []

    async def __aenter__(self) -> Watch:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sampler.close()

    async def tick(self) -> Server:
        frame = await self.sampler.tick()
        assert frame_of(msgspec.json.encode(frame)) == frame
        self.seen.append(frame.servers[0])
        return frame.servers[0]

    async def see(self, wanted: Callable[[Server], bool], seconds: float = 15.0) -> Server:
        deadline = time.monotonic() + seconds
        while not wanted(seen := await self.tick()):
            assert time.monotonic() < deadline, seen
            await asyncio.sleep(0.3)
        return seen

    async def ask(self, prompt: str, tokens: int, **body: Any) -> Any:
        """The timings of a reply, while frames go on."""
        work = asyncio.create_task(asyncio.to_thread(self.server.complete, prompt, tokens, **body))
        while not work.done():
            await self.tick()
            await asyncio.sleep(0.3)
        return work.result()["timings"]

    async def settle(self, seconds: float) -> Server:
        """Until requests are told, or for so long."""
        deadline = time.monotonic() + seconds
        seen = await self.see(idle)
        while not self.requests and time.monotonic() < deadline:
            await asyncio.sleep(0.3)
            seen = await self.tick()
        return seen

    @property
    def requests(self) -> list[Request]:
        return [request for seen in self.seen for request in seen.requests]


def idle(seen: Server) -> bool:
    return seen.state is ServerState.IDLE


@pytest.fixture(scope="module")
def talkative(start_server: Callable[..., Any], models: Path) -> Any:
    draft = ("-md", models / "draft-mid.gguf", "--spec-type", "draft-simple", "--spec-draft-n-max", "4")
    return start_server("-np", "2", "-c", "4096", "--metrics", "-lv", "4", *draft)


def printed(log: str, needle: str) -> Iterator[str]:
    return (line.partition(needle)[2] for line in log.splitlines() if needle in line)


async def test_all_that_a_talkative_server_tells(talkative: Any) -> None:
    async with Watch(talkative) as watch:
        await watch.see(lambda seen: idle(seen) and seen.facts is not None and bool(seen.facts.buffers))
        timings = [await watch.ask(f"Song {n}", 90) for n in range(3)]
        seen = await watch.see(lambda seen: idle(seen) and len(watch.requests) == 3)
        accepted = sum(timing["draft_n_accepted"] for timing in timings)
        seen = await watch.see(lambda seen: seen.draft_gained_tokens == accepted)
    facts, log = seen.facts, talkative.log()
    assert facts is not None and seen.facts_hidden is None
    (size, *_) = printed(log, "llama_kv_cache: size = ")
    assert seen.kv_cache_bytes == round(float(size.split()[0]) * 2**20)
    assert (facts.kv_cells, facts.cache_type_k, facts.cache_type_v) == (2048, "f16", "f16")
    assert seen.kv_unified is False and seen.kv_capacity_tokens == 4096
    assert seen.kv_token_bytes == seen.kv_cache_bytes / 4096
    costs = kv.costs(seen)
    assert costs is not None and costs.slot_bytes == seen.kv_cache_bytes / 2
    assert costs.types[0] == kv.TypeCost("f16", seen.kv_cache_bytes)
    assert facts.batch_tokens == 2048 and facts.threads == 1 and facts.verbosity == 4
    assert facts.parameters and facts.model_type and facts.context_trained_tokens
    assert seen.spec_type == "draft-simple" and seen.speculative
    slots = talkative.get_json("/slots")
    assert seen.kv_used_tokens == sum(slot.get("n_prompt_tokens", 0) for slot in slots)
    assert sum(slot.kv_ratio or 0 for slot in seen.slots) == pytest.approx(1)
    names = {key: seen.provenance[key] for key in ("build", "spec_type", "kv_unified", "model_type")}
    assert names == {
        "build": "/props",
        "spec_type": "/slots",
        "kv_unified": "log",
        "model_type": "/v1/models",
    }
    generated = sum(timing["predicted_n"] for timing in timings)
    assert seen.draft_mean_tokens == pytest.approx(generated / (generated - accepted))
    assert 0 < seen.draft_accepted_per_position[-1] < seen.draft_accepted_per_position[0] <= 1
    assert seen.ttft_seconds is not None and seen.ttft_seconds > 0
    for request, timing in zip(watch.requests, timings, strict=True):
        assert (request.source, request.end) == ("log", End.DONE)
        assert request.generation_tokens == timing["predicted_n"] == 90
        assert (request.prompt_tokens, request.cached_tokens) == (timing["prompt_n"], timing["cache_n"])
        assert request.draft_accepted_tokens == timing["draft_n_accepted"]


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
async def test_without_a_log_its_slots_tell(
    start_server: Callable[..., Any], old_wheel: Path, old: bool
) -> None:
    """Newer builds leave the tokens in the slot, older ones the count: exact, or not told at all."""
    wheel = {"wheel": old_wheel} if old else {}
    with start_server("-np", "1", "-c", "4096", "--metrics", **wheel) as server:
        async with Watch(server, log=NOWHERE) as watch:
            await watch.see(idle)
            for attempt in range(4):  # on a busy machine a look may come too late to tell
                timing = await watch.ask(f"The old oak {attempt}", 2600)
                seen = await watch.settle(4.0)
                if watch.requests:
                    break
    (request,) = (request for request in watch.requests if request.source == "slots")
    assert request.generation_tokens == timing["predicted_n"]
    assert request.end is None and request.draft_tokens is None
    if not old:
        assert (request.prompt_tokens, request.cached_tokens) == (timing["prompt_n"], timing["cache_n"])
    assert (request.ttft_seconds is None) is (request.ttft_error_seconds is None)
    if request.ttft_seconds is not None and request.ttft_error_seconds is not None:  # a look came in time
        assert request.ttft_seconds - request.ttft_error_seconds <= timing["prompt_ms"] / 1000 + 0.05
    rate = request.generation_tokens_per_second
    assert rate is None or rate == pytest.approx(timing["predicted_per_second"], rel=0.4)
    assert seen.facts_hidden is not None and "--log-file" in seen.facts_hidden
    assert seen.ttft_seconds is None  # that is the log's to tell


async def test_killed_at_work_it_leaves_no_number_that_looks_live(
    start_server: Callable[..., Any],
) -> None:
    with start_server("-np", "1", "-c", "4096", "--metrics") as server:
        async with Watch(server) as watch:
            await watch.see(idle)
            work = asyncio.create_task(asyncio.to_thread(server.complete, "The old oak", 3900))
            busy = await watch.see(lambda seen: seen.state is ServerState.BUSY)
            assert busy.still_seconds == 0.0 and busy.slots[0].phase_seconds is not None
            server.process.kill()
            server.process.wait()
            down = await watch.see(lambda seen: seen.state is ServerState.DOWN)
            with pytest.raises(OSError):
                await work
    assert down.slots == () and down.still_seconds is None and down.kv_used_tokens is None
    assert down.generation_tokens_per_second is None and down.slots_busy is None
