"""Slots: the server has as many as it was asked for."""

from __future__ import annotations

from collections.abc import Iterator

from halotui.format import count, size
from halotui.model import Server
from halotui.rules import Rule, Symptom, Undefined, View

_WHY_ONE = (
    "Builds around b7347 take -np 1 for their default and start 4 slots with a unified KV cache: "
    "the slots then share one context."
)
_FIX_ONE = "Relaunch with a newer build (b7836 has PR #17997), or add -kvu: on b7347 that gives 1 slot."

_CONTEXT = {True: "shared by all slots", False: "for each slot", None: "shown by each slot"}


def _np_slots(view: View) -> Iterator[Symptom | Undefined]:
    for server in view.running:
        asked, total = server.slots_asked, server.slots_total
        if asked is None or asked <= 0:  # left to the server
            continue
        if not total:
            yield Undefined(server.url)
        elif total != asked:
            known_fault = asked == 1 and total == 4
            yield Symptom(
                subject=server.url,
                title=f"The server has {'more' if total > asked else 'fewer'} slots than asked for",
                evidence=", ".join(_evidence(server, asked, total)),
                why=_WHY_ONE if known_fault else None,
                fix=_FIX_ONE if known_fault else None,
                patch={"kvu": True} if known_fault else None,
            )


def _evidence(server: Server, asked: int, total: int) -> Iterator[str]:
    """The cost in KV cache as far as it is known: a unified cache is one pool, whatever the slots."""
    yield f"-np {asked}, the server has {total} ({total / asked:.3g}×)"
    kv, context = server.kv_cache_bytes, server.slot_context_tokens
    if context is not None:
        yield f"{count(context)} tokens of context {_CONTEXT[server.kv_unified]}"
    if kv is not None:
        yield f"KV cache {size(kv)}"
    if kv is not None and server.kv_unified is False:
        yield f"{_slots(asked)} of that context would need {size(kv * asked / total)}"


def _slots(number: int) -> str:
    return f"{count(number)} slot{'' if number == 1 else 's'}"


RULES = (
    Rule(
        id="np-slots",
        check=_np_slots,
        hold_seconds=3,
        marks=("server.slots_total",),
        needs=(
            "server.slots_asked",
            "server.slots_total",
            "server.slot_context_tokens",
            "server.kv_cache_bytes",
            "server.kv_unified",
        ),
        why="The server did not follow its command line: each slot costs context or KV cache.",
        fix="Check -np and LLAMA_ARG_N_PARALLEL, then relaunch, with another build if need be.",
        reference="https://github.com/ggml-org/llama.cpp/issues/17989",
    ),
)
