"""The workloads on the real server: their sizes, their figures, and what they say when they cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from halotui.benching.workloads import WORKLOADS, WorkError, work
from halotui.demo.model import SLOW, write_model, write_preset
from halotui.runs import Result
from running import busy, counters

START = Callable[..., Any]


@pytest.fixture(scope="module")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer, quick even at eight thousand tokens."""
    return write_model(tmp_path_factory.mktemp("long") / "long.gguf", layers=1, context=16384)


@pytest.fixture(scope="module")
def roomy(start_server: START, long_model: Path) -> Any:
    """A slot for any workload."""
    return start_server("-m", long_model, "-np", "1", "-c", "9216", "--metrics")


@pytest.fixture
def slow(start_server: START, tmp_path: Path) -> Iterator[Any]:
    """Seconds for any workload; a request that is given up ends with its batch."""
    model = write_preset(tmp_path / "slow.gguf", SLOW)
    with start_server("-m", model, "-np", "1", "-c", "9216", "-b", "128") as server:
        yield server


async def dropped(server: Any) -> None:
    """The server says that it gave the request up, and does nothing more. Its log tells: who asks for /slots
    twice a second keeps it from noticing that a client has gone (any answer starts its wait anew)."""
    for _ in range(200):
        if "cancel task" in server.log():
            break
        await asyncio.sleep(0.1)
    else:
        raise AssertionError("it worked to the end")
    for _ in range(100):
        slots = await asyncio.to_thread(server.get_json, "/slots")
        if not any(slot["is_processing"] for slot in slots):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it still works on it")


def test_they_are_the_published_ones() -> None:
    sizes = {name: (load.prompt, load.answer) for name, load in WORKLOADS.items()}
    assert sizes == {"chat": (30, 1000), "code": (2000, 2000), "summarise": (8000, 256)}


async def test_each_is_as_long_as_it_says_and_nothing_comes_from_the_cache(roomy: Any) -> None:
    before = counters(roomy)
    said: list[str] = []
    results = await work(roomy.url, None, list(WORKLOADS), repeats=2, tell=said.append)
    after = counters(roomy)
    moved = {name: after[name] - before[name] for name in after}
    assert moved["prompt_tokens_total"] == 64 + 2 * (30 + 2000 + 8000)
    assert moved["prompt_tokens_cached_total"] == 0
    assert moved["tokens_predicted_total"] == 8 + 2 * (1000 + 2000 + 256)
    assert said == ["warming up", *(f"{name} {n}/2" for name in WORKLOADS for n in (1, 2))]

    assert [result.test for result in results] == list(WORKLOADS)
    for result in results:
        load = WORKLOADS[result.test]
        assert (result.prompt_tokens, result.generation_tokens) == (load.prompt, load.answer)
        assert result.settings == {"prompt": str(load.prompt), "generate": str(load.answer)}
        assert len(result.samples) == 2 and result.spread is not None
        assert result.tokens_per_second == result.generation_tokens_per_second
        assert result.tokens_per_second == pytest.approx(sum(result.samples) / 2)
        prefill, decode = result.prompt_tokens_per_second, result.generation_tokens_per_second
        assert prefill and decode and result.seconds
        # what the client waited is what the server worked, and little more
        worked = load.prompt / prefill + load.answer / decode
        assert 0.8 * worked < result.seconds < 1.5 * worked + 1
        assert (result.model, result.draft_acceptance_ratio) == ("long.gguf", None)
        assert result.build and result.tested_time


async def test_drafts_are_counted(server: Any) -> None:
    (chat,) = await work(server.url, None, ["chat"], repeats=1)
    assert chat.draft_acceptance_ratio == 1.0
    assert chat.draft_coverage_ratio and 0.5 < chat.draft_coverage_ratio < 1
    assert chat.spread is None and len(chat.samples) == 1


async def test_what_does_not_fit_is_left_out_and_said(server: Any) -> None:
    said: list[str] = []
    results = await work(server.url, None, ["code", "chat", "summarise"], repeats=1, tell=said.append)
    assert [result.test for result in results] == ["chat"]
    assert said[:2] == [
        "code is left out: it takes 4000 tokens, and a slot holds 2048",
        "summarise is left out: it takes 8256 tokens, and a slot holds 2048",
    ]
    assert await work(server.url, None, ["summarise"]) == []


async def test_too_slow_is_dropped_at_the_server(slow: Any) -> None:
    with pytest.raises(WorkError, match=r"^a request took longer than 2 s$") as caught:
        await work(slow.url, None, ["summarise"], limit=2)
    assert caught.value.results == []
    await dropped(slow)


async def test_results_before_a_fault_are_handed_over(roomy: Any, start_server: START) -> None:
    """The server goes down in its second workload."""
    put: list[Result] = []
    with start_server("-m", roomy_model(roomy), "-np", "1", "-c", "9216") as server:

        def tell(words: str) -> None:
            if words.startswith("summarise"):
                assert [result.test for result in put] == ["chat"]  # before the next begins
                server.process.kill()
                server.process.wait()

        with pytest.raises(WorkError, match=r"no connection|broken HTTP") as caught:
            await work(server.url, None, ["chat", "summarise"], repeats=1, tell=tell, put=put.append)
    assert [result.test for result in caught.value.results] == ["chat"]


def roomy_model(server: Any) -> str:
    return str(server.get_json("/props")["model_path"])


async def test_it_can_be_cancelled(slow: Any) -> None:
    begun = asyncio.Event()
    task = asyncio.create_task(
        work(slow.url, None, ["code"], tell=lambda words: begun.set() if words == "code 1/3" else None)
    )
    await begun.wait()
    await asyncio.to_thread(busy, slow)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    await dropped(slow)


async def test_keys_and_nobody(start_server: START) -> None:
    with start_server("-np", "1", "-c", "2048", "--api-key", "sesame") as server:
        with pytest.raises(WorkError, match="it wants an API key"):
            await work(server.url, "wrong", ["chat"])
        assert len(await work(server.url, "sesame", ["chat"], repeats=1)) == 1
    with pytest.raises(WorkError, match="no connection"):
        await work("http://127.0.0.1:9", None, ["chat"])
    with pytest.raises(KeyError):
        await work("http://127.0.0.1:9", None, ["poem"])
