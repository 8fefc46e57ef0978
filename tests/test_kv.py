"""The KV cache in numbers, against sizes that llama.cpp printed itself."""

from __future__ import annotations

from typing import Any

import pytest

from builders import server
from halotui import kv
from halotui.model import Server, ServerFacts, SlotReading

# llama.cpp b11549: 2 slots of 2048, "size = 4.00 MiB ( 2048 cells, 4 layers, 2/2 seqs), K (f16), V (f16)"
SPLIT = ServerFacts(context_tokens=4096, kv_cells=2048, kv_layers=4, cache_type_k="f16", cache_type_v="f16")


def running(facts: ServerFacts = SPLIT, **more: Any) -> Server:
    told: dict[str, Any] = {
        "slots_total": 2,
        "slot_context_tokens": 2048,
        "kv_unified": False,
        "kv_cache_bytes": 4 << 20,
        "kv_capacity_tokens": 4096,
        "kv_token_bytes": 1024.0,
    }
    return server(facts=facts, **{**told, **more})


def slots(*tokens: int | None, worked: bool = True) -> tuple[SlotReading, ...]:
    return tuple(SlotReading(id=n, task=n if worked else None, tokens=t) for n, t in enumerate(tokens))


def test_used() -> None:
    assert kv.used_tokens(slots(100, 50)) == 150
    assert kv.used_tokens(slots(None, None, worked=False)) == 0
    assert kv.used_tokens(slots(100, None)) is None  # an older build
    assert kv.used_tokens(()) is None


@pytest.mark.parametrize(
    ("count", "context", "unified", "whole", "capacity"),
    [
        (4, 4096, True, None, 4096),
        (4, 4096, False, None, 16384),
        (4, 4096, None, None, None),
        (1, 4096, None, None, 4096),
        (3, 1024, False, 3072, 3072),
        (None, 4096, False, None, None),
    ],
)
def test_capacity(
    count: int | None, context: int, unified: bool | None, whole: int | None, capacity: int | None
) -> None:
    assert kv.capacity_tokens(count, context, unified, whole) == capacity


def test_a_token_takes_what_the_buffer_says() -> None:
    assert kv.token_bytes(4 << 20, 4096, 2, False, SPLIT) == 1024
    unified = ServerFacts(kv_cells=4096)
    assert kv.token_bytes(4 << 20, 4096, 4, True, unified) == 1024


def test_a_sliding_window_has_no_size_of_a_token() -> None:
    assert kv.token_bytes(4 << 20, 4096, 2, False, ServerFacts(kv_cells=768)) is None
    assert kv.token_bytes(4 << 20, 4096, 2, False, ServerFacts()) is None
    assert kv.token_bytes(None, 4096, 2, False, SPLIT) is None


def test_costs_of_a_split_cache() -> None:
    costs = kv.costs(running())
    assert costs is not None
    assert costs.formula == "2 slots × 2,048 tokens × 1.00 KiB (4 layers, K f16, V f16) = 4.00 MiB"
    assert costs.slot_bytes == 2 << 20
    # llama.cpp with -ctk q8_0 -ctv q8_0 printed 2.12 MiB for the same cache, with q4_0 1.12 MiB
    by_type = {cost.type: round(cost.bytes / 2**20, 2) for cost in costs.types}
    assert by_type == {"f16": 4.0, "q8_0": 2.12, "q5_1": 1.5, "q5_0": 1.38, "q4_1": 1.25, "q4_0": 1.12}


def test_costs_of_a_unified_cache() -> None:
    costs = kv.costs(running(kv_unified=True, slots_total=4, slot_context_tokens=4096))
    assert costs is not None and costs.slot_bytes == 0
    assert costs.formula.startswith("4,096 tokens × ")


@pytest.mark.parametrize(("k", "v"), [(None, None), ("q8_0", "f16"), ("tq9", "tq9")])
def test_types_that_cannot_be_scaled(k: str | None, v: str | None) -> None:
    costs = kv.costs(running(ServerFacts(kv_layers=4, cache_type_k=k, cache_type_v=v)))
    assert costs is not None and costs.types == () and costs.slot_bytes == 2 << 20


def test_without_its_size_nothing_is_said() -> None:
    assert kv.costs(running(kv_cache_bytes=None)) is None
    assert kv.costs(running(kv_token_bytes=None)) is None
    assert kv.costs(server()) is None


def test_whether_the_cache_is_split_may_not_be_known() -> None:
    costs = kv.costs(running(kv_unified=None))
    assert costs is not None and costs.slot_bytes is None
