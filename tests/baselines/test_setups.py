"""Which numbers may be compared with each other."""

from __future__ import annotations

from typing import Any

import pytest

from builders import request, server
from halotui.baselines.setups import depth_band, key_of, prompt_band, setup_of, streams_band
from halotui.ledger import Metric
from halotui.model import Server, ServerFacts

FACTS = ServerFacts(
    model_type="Q4_K - Medium",
    context_tokens=131072,
    batch_tokens=2048,
    ubatch_tokens=512,
    cache_type_k="q8_0",
    cache_type_v="q8_0",
    flash_attention="on",
    layers_asked="99",
    mmap=False,
)


def serving(**more: Any) -> Server:
    known: dict[str, Any] = {
        "model_path": "/models/qwen/Qwen3-30B-A3B-Q4_K_M.gguf",
        "model": "coder",
        "backend": "vulkan",
        "build": "b8672-1",
        "slots_total": 4,
        "kv_unified": True,
        "facts": FACTS,
    }
    return server(**(known | more))


def test_a_setup_says_what_serves_and_how() -> None:
    setup = setup_of(serving(spec_type="draft-simple", draft_model="/models/Qwen3-0.6B.gguf"))
    assert setup is not None
    assert setup.model == "Qwen3-30B-A3B-Q4_K_M.gguf"
    assert setup.quant == "Q4_K - Medium"
    assert setup.flags == "b=2048 c=131072 ctk=q8_0 ctv=q8_0 fa=on kvu=on mmap=off ngl=99 np=4 ub=512"
    assert setup.speculation == "draft-simple Qwen3-0.6B.gguf"


def test_what_is_not_known_is_no_flag_and_no_reason_to_refuse() -> None:
    setup = setup_of(serving(model_path=None, backend=None, kv_unified=None, facts=ServerFacts()))
    assert setup is not None
    assert (setup.model, setup.backend, setup.flags) == ("coder", "", "np=4")


@pytest.mark.parametrize(
    ("url", "pid", "host"),
    [
        ("http://127.0.0.1:8080", None, ""),
        ("unix:/run/llama.sock", None, ""),
        ("http://10.88.0.7:8080", 42, ""),  # of a container here: another address at each start
        ("http://10.0.0.5:8080", None, "10.0.0.5"),
        ("http://[fd00::5]:8080", None, "fd00::5"),
    ],
)
def test_another_box_has_keys_of_its_own(url: str, pid: int | None, host: str) -> None:
    setup = setup_of(serving(url=url, pid=pid))
    assert setup is not None and setup.host == host


@pytest.mark.parametrize("gap", [{"model_path": None, "model": None}, {"facts": None}])
def test_without_a_name_or_facts_there_is_no_key(gap: dict[str, Any]) -> None:
    assert setup_of(serving(**gap)) is None
    assert key_of(serving(**gap), Metric.LOAD) is None


def test_bands() -> None:
    assert [depth_band(n) for n in (0, 2047, 2048, 8192, 16384, 32768, 65535, 65536, 1e6)] == [
        *("0-2K", "0-2K", "2-8K", "8-16K", "16-32K", "32-64K", "32-64K", "64K+", "64K+")
    ]
    assert [prompt_band(n) for n in (255, 256, 1024, 4096, 16384)] == ["", "256-1K", "1-4K", "4-16K", "16K+"]
    assert [streams_band(n) for n in (0, 1.4, 1.6, 3, 4.4, 4.6, 30)] == [
        "1",
        "1",
        "2",
        "3-4",
        "3-4",
        "5+",
        "5+",
    ]


def test_a_deeper_context_more_streams_and_a_colder_cache_are_other_keys() -> None:
    def decode(context: int, streams: float) -> object:
        return key_of(serving(), Metric.DECODE, request(context_tokens=context), streams)

    def prefill(cached: int, computed: int) -> object:
        asked = request(prompt_tokens=computed, cached_tokens=cached)
        return key_of(serving(), Metric.PREFILL, asked, 1)

    assert decode(1000, 1) == decode(1900, 1.2)
    assert len({decode(1000, 1), decode(9000, 1), decode(1000, 2)}) == 3
    assert len({prefill(0, 5000), prefill(9000, 5000), prefill(0, 500)}) == 3


def test_depth_and_cache_follow_from_the_other_counts() -> None:
    whole = request(prompt_tokens=3000, context_tokens=9400)  # 400 generated: 6000 were there
    assert (key := key_of(serving(), Metric.PREFILL, whole, 1)) is not None and key.depth == "2-8K"
    parts = request(prompt_tokens=3000, cached_tokens=6000)
    assert (key := key_of(serving(), Metric.DECODE, parts, 1)) is not None and key.depth == "8-16K"
    assert key_of(serving(), Metric.DECODE, request(prompt_tokens=3000), 1) is None
    assert key_of(serving(), Metric.PREFILL, request(prompt_tokens=3000), 1) is None


def test_unknown_streams_are_one_only_where_there_is_one_slot() -> None:
    asked = request(context_tokens=1000)
    assert key_of(serving(), Metric.DECODE, asked) is None
    assert key_of(serving(slots_total=1), Metric.DECODE, asked) is not None


def test_drafts_do_not_ask_how_many_are_served() -> None:
    asked = request(40, 30, context_tokens=1000)
    keys = {key_of(serving(), Metric.ACCEPTANCE, asked, streams) for streams in (None, 1, 7)}
    assert len(keys) == 1 and None not in keys
