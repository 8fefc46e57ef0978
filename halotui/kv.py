"""The KV cache in numbers: what it holds, what a token of it takes, what another slot or type would cost.

Pure; the sampler, the screen and the pre-flight check ask here, so they cannot disagree.
"""

from __future__ import annotations

from msgspec import Struct

from halotui.format import count, size
from halotui.model import Server, ServerFacts, SlotReading

# bytes an element of ggml's types: a block's size over its elements
ELEMENT = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}
OFFERED = ("f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")  # of these a screen tells the cost


class TypeCost(Struct, frozen=True):
    """The whole cache, if K and V both were of this type."""

    type: str
    bytes: int


class Costs(Struct, frozen=True):
    """What the KV cache takes, and would take; unknown is None."""

    formula: str  # in words and numbers
    slot_bytes: int | None = None  # of one more slot with the same context: 0 in a unified cache
    types: tuple[TypeCost, ...] = ()  # empty where the types are not known, or K has another one than V


def used_tokens(slots: tuple[SlotReading, ...]) -> int | None:
    """Tokens that the slots hold, idle ones included. None when a slot's are not known: older builds."""
    total = 0
    for slot in slots:
        if slot.tokens is None and slot.task is not None:
            return None
        total += slot.tokens or 0  # one that never worked has none
    return total if slots else None


def capacity_tokens(
    slots: int | None, slot_context: int | None, unified: bool | None, context: int | None
) -> int | None:
    """Tokens that the cache has room for. ``context``: of all slots together, as the log says."""
    if context is not None:
        return context
    if slot_context is None or slots is None:
        return None
    if slots == 1 or unified:
        return slot_context
    return slot_context * slots if unified is False else None


def token_bytes(
    cache: int | None, capacity: int | None, slots: int | None, unified: bool | None, facts: ServerFacts
) -> float | None:
    """KV cache that a token takes, over all layers: plain attention alone, where each token has one cell.

    A sliding window has fewer cells than the context, so the quotient would say nothing: None.
    """
    if not cache or not capacity or not facts.kv_cells:
        return None
    streams = 1 if unified or slots is None else slots  # a split cache tells the cells of one slot
    return cache / capacity if facts.kv_cells * streams == capacity else None


def costs(server: Server) -> Costs | None:
    """Of a running server. None where the size of its cache, or what a token of it takes, is not known."""
    cache, each, capacity = server.kv_cache_bytes, server.kv_token_bytes, server.kv_capacity_tokens
    if not cache or not each or not capacity:
        return None
    facts = server.facts or ServerFacts()
    k, v = facts.cache_type_k, facts.cache_type_v
    layers = f"{count(facts.kv_layers)} layers" if facts.kv_layers else "all layers"
    kinds = f"K {k}, V {v}" if k and v else "K and V of unknown types"
    slots, context = server.slots_total, server.slot_context_tokens
    if server.kv_unified is False and slots and slots > 1 and context:
        room = f"{count(slots)} slots × {count(context)} tokens"
    else:
        room = f"{count(capacity)} tokens"
    return Costs(
        formula=f"{room} × {size(each)} ({layers}, {kinds}) = {size(cache)}",
        slot_bytes=_slot_bytes(server, each),
        types=_types(cache, k, v),
    )


def _types(cache: int, k: str | None, v: str | None) -> tuple[TypeCost, ...]:
    """A type scales K and V alike; where they have two, the share of each is not known."""
    now = ELEMENT.get(k or "")
    if now is None or k != v:
        return ()
    return tuple(TypeCost(name, round(cache * ELEMENT[name] / now)) for name in OFFERED)


def _slot_bytes(server: Server, each: float) -> int | None:
    """One more slot shares a unified cache; a split one grows by its context. One slot alone is either."""
    if server.kv_unified:
        return 0
    if server.slot_context_tokens is None or (server.kv_unified is None and server.slots_total != 1):
        return None
    return round(each * server.slot_context_tokens)
