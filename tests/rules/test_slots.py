"""np-slots: fires on a difference that is known, and claims no cost that is not."""

from __future__ import annotations

import msgspec
import pytest

from builders import GIB, Watch, server
from halotui.model import Finding, ServerState


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
