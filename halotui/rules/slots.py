"""Slots: the server has as many as it was asked for, and each that is at work gets on with it."""

from __future__ import annotations

from collections.abc import Iterator

from halotui.format import count, duration, size
from halotui.model import Server, ServerState, Severity, Slot, SlotPhase
from halotui.rules import Level, Proof, Rule, Symptom, Undefined, View

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


def _stuck(view: View) -> Iterator[Symptom | Undefined]:
    for server in view.running:
        if server.state is ServerState.WAITING:  # it answers nobody: who is silent, not what stands still
            yield Undefined(server.url)
        elif server.state is not ServerState.BUSY:
            continue
        elif symptom := _still(view, server):
            yield symptom


def _still(view: View, server: Server) -> Symptom | None:
    at_work = [slot for slot in server.slots if slot.phase is not SlotPhase.IDLE]
    # The batch of one slot's prompt holds up those that decode as well.
    prompt = not at_work or any(slot.phase is SlotPhase.PROMPT for slot in at_work)
    work = "prompt" if prompt else "decode"
    warns, severe = view.levels[f"{work}_seconds"], view.levels[f"{work}_critical_seconds"]
    stuck = [slot for slot in at_work if (slot.still_seconds or 0.0) >= warns]
    if stuck:
        longest = max(slot.still_seconds or 0.0 for slot in stuck)
        title = f"Slot {stuck[0].id} is stuck" if len(stuck) == 1 else f"{len(stuck)} slots are stuck"
        evidence = "; ".join(map(_where, stuck[:3]))
    else:
        longest = server.still_seconds or 0.0
        if at_work or longest < warns:
            return None
        title = "The server stands still with work to do"
        evidence = f"nothing moved for {duration(longest)}"
    waiting = f"; {count(server.requests_deferred)} requests wait" if server.requests_deferred else ""
    drafts = server.speculative is not False and bool(server.spec_type or server.draft_model)
    return Symptom(
        subject=server.url,
        severity=Severity.CRITICAL if longest >= severe else None,
        title=title,
        evidence=f"{evidence}{waiting}; /health says ok",
        fix="Relaunch it, without speculation." if drafts else None,
        patch={"draft": None, "spec": None} if drafts else None,
    )


def _where(slot: Slot) -> str:
    tokens = f" after {count(slot.generated_tokens)} tokens" if slot.generated_tokens else ""
    where = " in a prompt" if slot.phase is SlotPhase.PROMPT else tokens
    return f"slot {slot.id} still for {duration(slot.still_seconds or 0.0)}{where}"


# A batch of a prompt shows nothing until it is done, and at great depth takes minutes.
_LEVELS = (
    Level(name="decode_seconds", value=60, help="seconds without a token", least=5),
    Level(
        name="decode_critical_seconds", value=300, help="the same, critical", least=5, above="decode_seconds"
    ),
    Level(name="prompt_seconds", value=180, help="seconds without a batch of a prompt", least=5),
    Level(
        name="prompt_critical_seconds", value=600, help="the same, critical", least=5, above="prompt_seconds"
    ),
)

RULES = (
    Rule(
        id="slot-stuck",
        check=_stuck,
        may_patch=True,
        title="A slot at work stands still",
        window="since it last moved",
        clears="a token or a batch comes, or it has no work",
        levels=_LEVELS,
        evidence="{where} for {time}[ in a prompt][ after {tokens} tokens][; {requests} requests wait]"
        "; /health says ok",
        freezes=True,
        marks=("slot.still_seconds", "server.still_seconds"),
        needs=(
            "server.still_seconds",
            "server.state",
            "server.slots",
            "server.requests_deferred",
            "server.speculative",
            "slot.still_seconds",
            "slot.phase",
        ),
        why="It is at work, /health says ok, and no token comes. Known of ngram-mod, which wedges a slot for "
        "good (llama.cpp #23268), and of a GPU that hangs.",
        fix="Relaunch it. If it comes back, see 'journalctl -k' for the GPU.",
        reference="https://github.com/ggml-org/llama.cpp/issues/23268",
    ),
    Rule(
        id="np-slots",
        check=_np_slots,
        may_patch=True,
        title="More or fewer slots than asked for",
        hold_seconds=3,
        clears="it has as many as -np says",
        evidence="-np {asked}, the server has {slots} ({factor}×)[, {tokens} tokens of context {whose}]"
        "[, KV cache {size}][, {slots} of that context would need {size}]",
        proof=Proof.DEMO,
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
