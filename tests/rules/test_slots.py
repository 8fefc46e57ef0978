"""np-slots: fires on a difference that is known, and claims no cost that is not. slot-stuck: see below."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from builders import GIB, URL, Watch, server
from halotui.model import Finding, ServerState, Severity, Slot, SlotPhase
from halotui.rules.engine import State
from halotui.rules.slots import RULES


def judge(**facts: object) -> Finding | None:
    return next(iter(Watch(hold=False).see(0, servers=[server(**facts)])), None)


def test_fires_when_the_server_has_other_slots_than_asked() -> None:
    found = judge(slots_asked=1, slots_total=4)
    assert found is not None and found.id == "np-slots"
    assert found.title == "The server has more slots than asked for"
    assert found.evidence == "-np 1, the server has 4 (4×)"
    assert "-kvu" in found.fix and "17997" in found.fix
    assert found.patch == {"kvu": True}
    assert b'"patch":{"kvu":true}' in msgspec.json.encode(found)
    assert b"patch" not in msgspec.json.encode(msgspec.structs.replace(found, patch=None))


@pytest.mark.parametrize(
    "facts",
    [
        {"slots_asked": 4, "slots_total": 4},
        {"slots_asked": -1, "slots_total": 4},
        {"slots_asked": 0, "slots_total": 4},
        {"slots_asked": None, "slots_total": 4},
        {"slots_asked": 1, "slots_total": None},
        {"slots_asked": 1, "slots_total": 4, "state": ServerState.DOWN},
    ],
)
def test_does_not_fire(facts: dict[str, object]) -> None:
    found = judge(**facts)
    assert found is None or found.id != "np-slots"


def test_a_shared_cache_is_not_multiplied() -> None:
    found = judge(
        slots_asked=1, slots_total=4, kv_unified=True, kv_cache_bytes=8 * GIB, slot_context_tokens=131072
    )
    assert found is not None
    assert "131,072 tokens of context shared by all slots, KV cache 8.00 GiB" in found.evidence
    assert "would need" not in found.evidence


def test_caches_of_their_own_cost_by_the_slot() -> None:
    found = judge(
        slots_asked=2, slots_total=8, kv_unified=False, kv_cache_bytes=8 * GIB, slot_context_tokens=4096
    )
    assert found is not None
    assert found.evidence.endswith("KV cache 8.00 GiB, 2 slots of that context would need 2.00 GiB")
    assert "-kvu" not in found.fix and found.patch is None  # not the fault of #17989


def test_an_unknown_layout_claims_no_cost() -> None:
    found = judge(slots_asked=1, slots_total=4, kv_cache_bytes=8 * GIB, slot_context_tokens=4096)
    assert found is not None
    assert "would need" not in found.evidence and "shared" not in found.evidence


def test_holds_clears_and_rearms() -> None:
    watch, wrong, right = (
        Watch(),
        [server(slots_asked=1, slots_total=4)],
        [server(slots_asked=1, slots_total=1)],
    )
    seen = [
        bool(watch.see(time, servers=servers))
        for time, servers in ((0, wrong), (3, wrong), (4, right), (5, wrong), (7, wrong), (8, wrong))
    ]
    assert seen == [False, True, False, False, False, True]


def test_unknown_for_a_moment_keeps_it() -> None:
    watch = Watch()
    watch.see(0, servers=[server(slots_asked=1, slots_total=4)])
    watch.see(3, servers=[server(slots_asked=1, slots_total=4)])
    assert watch.see(4, servers=[server(slots_asked=1, state=ServerState.WAITING)])


# A slot that is stuck

DECODE, PROMPT, IDLE = SlotPhase.DECODE, SlotPhase.PROMPT, SlotPhase.IDLE


def slot(phase: SlotPhase = DECODE, still: float | None = None, id: int = 0, **more: Any) -> Slot:
    return Slot(id=id, phase=phase, still_seconds=still, **more)


def stuck(*slots: Slot, state: ServerState = ServerState.BUSY, **facts: Any) -> Finding | None:
    found = judge(slots=slots, state=state, **facts)
    assert found is None or found.id == "slot-stuck"
    return found


def test_a_slot_that_stands_still_is_stuck() -> None:
    found = stuck(slot(still=75, id=2, generated_tokens=65), slot(still=0), requests_deferred=3)
    assert found is not None
    assert (found.title, found.severity, found.patch) == ("Slot 2 is stuck", Severity.WARNING, None)
    assert found.evidence == "slot 2 still for 1 min after 65 tokens; 3 requests wait; /health says ok"
    assert "23268" in found.why and "23268" in (found.reference or "")


@pytest.mark.parametrize(
    ("slots", "severity"),
    [
        ((slot(still=59),), None),
        ((slot(still=60),), Severity.WARNING),
        ((slot(still=299),), Severity.WARNING),
        ((slot(still=300),), Severity.CRITICAL),
        ((slot(PROMPT, 179),), None),
        ((slot(PROMPT, 180),), Severity.WARNING),
        ((slot(PROMPT, 600),), Severity.CRITICAL),
        ((slot(still=100, id=1), slot(PROMPT, 100)), None),  # the batch of a prompt holds up the others
        ((slot(still=None),), None),
        ((slot(IDLE, 1000),), None),
        ((), None),
    ],
)
def test_a_prompt_batch_gets_longer(slots: tuple[Slot, ...], severity: Severity | None) -> None:
    found = stuck(*slots)
    assert (found.severity if found is not None else None) == severity


def test_several_slots() -> None:
    found = stuck(*(slot(still=400, id=n) for n in range(5)))
    assert found is not None and found.title == "5 slots are stuck" and found.evidence.count("slot ") == 3


def test_without_speculation_it_is_relaunched_where_it_was_on() -> None:
    found = stuck(slot(still=75), spec_type="ngram-mod", speculative=True)
    assert found is not None and found.patch == {"draft": None, "spec": None}
    off = stuck(slot(still=75), spec_type="ngram-mod", speculative=False)
    assert off is not None and off.patch is None


def test_a_server_without_slots_to_look_at() -> None:
    assert stuck(still_seconds=100) is None
    found = stuck(still_seconds=200, requests_deferred=1)
    assert found is not None and found.title == "The server stands still with work to do"
    assert found.evidence == "nothing moved for 3 min; 1 requests wait; /health says ok"


@pytest.mark.parametrize("state", [ServerState.IDLE, ServerState.SLEEPING, ServerState.DOWN])
def test_who_has_no_work_is_not_stuck(state: ServerState) -> None:
    watch = Watch(*RULES, hold=False)
    assert watch.see(0, servers=[server(state=state, slots=(slot(still=900),), still_seconds=900)]) == ()


def test_it_clears_when_a_token_comes_and_rearms() -> None:
    watch = Watch(*RULES)
    steps = ((0, 59, 0), (1, 60, 1), (2, 61, 1), (3, 0, 0), (4, 30, 0), (5, 61, 1), (6, None, 0))
    for time, still, fires in steps:
        found = watch.see(time, servers=[server(state=ServerState.BUSY, slots=(slot(still=still),))])
        assert bool(found) == bool(fires), time


def test_while_it_answers_nobody_it_is_undefined_and_stays_said() -> None:
    watch = Watch(*RULES)
    assert watch.see(0, servers=[server(state=ServerState.BUSY, slots=(slot(still=90),))])
    assert watch.see(1, servers=[server(state=ServerState.WAITING, waiting_seconds=3)])
    assert watch.engine.state("slot-stuck", URL) == State.UNDEFINED
    assert not watch.see(2, servers=[server(state=ServerState.BUSY, slots=(slot(still=1),))])
