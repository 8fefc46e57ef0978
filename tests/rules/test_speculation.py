"""spec-decay and spec-unused, on the measured figures of healthy and faulty builds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import URL, Watch, request, server
from halotui.history import REQUESTS
from halotui.model import Finding, Request, ServerState
from halotui.rules.engine import State

NGRAM = {"spec_type": "ngram-simple", "speculative": True}
DRAFT = {"draft_model": "small.gguf", "spec_type": "draft-simple", "speculative": True}


def chat(watch: Watch, requests: list[Request], start: float = 0, **facts: Any) -> list[Finding | None]:
    """What stands after each of the requests, one a frame."""
    return [
        next(iter(watch.see(start + i, servers=[server(requests=(one,), **facts)])), None)
        for i, one in enumerate(requests)
    ]


def drafts(*pairs: int | None, generated: int = 400, slot: int | None = 0) -> list[Request]:
    """Requests by their drafted tokens, all of them accepted."""
    return [request(n, n, generated, slot=slot) for n in pairs]


# llama.cpp b8390 with the fault of #19231, ten chats: it drafts once, and what it drafts is accepted.
FAULT = drafts(275, 2, 1, *[0] * 7)


def test_the_fault_of_19231() -> None:
    seen = chat(Watch(), FAULT, **NGRAM)
    assert seen[:3] == [None] * 3
    assert all(found is not None and found.id == "spec-decay" for found in seen[3:])
    last = seen[-1]
    assert last is not None and last.subject == URL and last.since_time == 3
    assert last.evidence == "slot 0: coverage 69 % over 1 earlier, 0 % over the last 3 requests"
    assert "19231" in last.why and "N-gram" in last.why
    assert last.patch == {"draft": None, "spec": None}


def test_a_draft_model_needs_two_later_requests() -> None:
    seen = chat(Watch(), drafts(530, 2, 1), **DRAFT)
    assert [found is not None for found in seen] == [False, False, True]


@pytest.mark.parametrize(
    ("requests", "facts"),
    [
        (drafts(*[287] * 10), NGRAM),
        (drafts(276, *[392] * 9), NGRAM),  # ngram-mod: the table fills
        (
            [request(d, a, 96) for d, a in [(131, 50), (141, 47), (128, 51), *[(121, 53), (145, 46)] * 3]],
            DRAFT,
        ),
        ([request(128, 0) for _ in range(10)], NGRAM),  # ngram-cache: nothing accepted, from the first on
        (drafts(0, 0, 300, 0, 250, 280, 0, 310, 290, 0), NGRAM),  # drafts where the text repeats
        (drafts(*[30, 0, 12, 5] * 4), NGRAM),  # never drafted enough to lose it
        (drafts(*[None] * 10), NGRAM),
        (drafts(275, *[0] * 9, generated=15), NGRAM),  # too short to say anything
        (FAULT, {"speculative": False}),
        ([request(400, 360), request(400, 300), request(400, 120), request(400, 380)] * 3, DRAFT),
    ],
    ids=["steady", "fills", "model", "refused", "bursts", "little", "unknown", "short", "off", "noise"],
)
def test_no_alarm(requests: list[Request], facts: dict[str, Any]) -> None:
    assert chat(Watch(), requests, **facts) == [None] * len(requests)


def test_acceptance_that_collapses() -> None:
    good, bad = [request(400, 340)] * 4, [request(400, 60)] * 3
    seen = chat(Watch(), [*good, *bad], **DRAFT)
    assert seen[4] is None  # one bad answer in three is a prompt, not a fault
    last = seen[-1]
    assert last is not None
    assert last.evidence == "slot 0: acceptance 85 % over 4 earlier, 15 % over the last 3 requests"


def test_one_finding_a_server_names_the_worst_slot() -> None:
    pairs = zip(drafts(275, 60, 60, 60, slot=0), drafts(275, 0, 0, 0, slot=3), strict=True)
    watch = Watch()
    chat(watch, [one for pair in pairs for one in pair], **NGRAM)
    findings = watch.see(99, servers=[server(**NGRAM)])
    assert len(findings) == 1
    assert findings[0].evidence.startswith("slot 3: ") and findings[0].evidence.endswith("; 2 slots affected")


def test_a_healthy_slot_does_not_hide_a_faulty_one() -> None:
    pairs = zip(drafts(*[275] * 4, slot=0), drafts(275, 0, 0, 0, slot=1), strict=True)
    assert chat(Watch(), [one for pair in pairs for one in pair], **NGRAM)[-1]


def test_counters_without_a_slot_are_a_series_of_their_own() -> None:
    found = chat(Watch(), drafts(275, 0, 0, 0, slot=None), **NGRAM)[-1]
    assert found is not None and found.evidence.startswith("all slots: ")


def test_requests_that_were_only_watched_know_of_no_drafts() -> None:
    """Without a log the counters tell of drafts, and slots of each request beside them."""
    watched = Request(source="slots", slot=0, generation_tokens=400)
    summed = drafts(275, 2, 1, *[0] * 7, slot=None)
    seen = chat(Watch(), [one for both in summed for one in (both, watched)], **NGRAM)
    assert seen[-1] is not None and seen[-1].id == "spec-decay"
    watch = Watch()
    chat(watch, [watched] * 5, **NGRAM)
    assert watch.engine.state("spec-decay", URL) is State.OK


def test_evidence_tells_the_speed_when_it_is_known() -> None:
    requests = [
        request(n, n, generation_tokens_per_second=speed)
        for n, speed in ((275, 1005.0), (2, 840.0), (1, 830.0), (0, 820.0))
    ]
    found = chat(Watch(), requests, **NGRAM)[-1]
    assert found is not None and found.evidence.startswith("decode 1005 → 830 t/s; ")


def test_it_clears_above_the_clear_level_and_rearms() -> None:
    watch = Watch()
    assert chat(watch, drafts(400, 0, 0, 0), **NGRAM)[-1]
    between, well = drafts(*[200] * 3), drafts(*[300] * 3)
    assert all(chat(watch, between, 10, **NGRAM))  # 200 / 400: not enough to call it healed
    assert chat(watch, well, 20, **NGRAM)[-1] is None
    assert chat(watch, drafts(0, 0, 0), 30, **NGRAM)[-1]


def test_without_draft_figures_it_is_undefined() -> None:
    watch = Watch()
    chat(watch, FAULT, **NGRAM)
    assert chat(watch, drafts(None, None, None), 20, **NGRAM)[-1]  # kept for a while
    assert watch.engine.state("spec-decay", URL) == State.UNDEFINED


def test_a_relaunch_is_a_clean_slate() -> None:
    watch = Watch()
    chat(watch, FAULT, **NGRAM)
    assert watch.see(20, servers=[server(uptime_seconds=100, **NGRAM)])
    assert watch.see(21, servers=[server(uptime_seconds=5, **NGRAM)]) == ()


def test_a_dead_server_has_no_decay() -> None:
    watch = Watch(hold=True)
    chat(watch, FAULT, **NGRAM)
    findings = watch.see(20, servers=[server(state=ServerState.DOWN)])
    assert "spec-decay" not in {finding.id for finding in findings}


def test_it_stands_when_the_healthy_requests_are_forgotten() -> None:
    watch = Watch()
    last = chat(watch, drafts(275, *[0] * (REQUESTS + 5)), **NGRAM)[-1]
    assert last is not None and last.since_time == 3
    assert "higher once" in last.evidence


REQUESTS_OF_ANY_KIND = st.lists(
    st.builds(
        request,
        drafted=st.none() | st.integers(-5, 500),
        accepted=st.none() | st.integers(-5, 500),
        generated=st.none() | st.integers(-5, 500),
        slot=st.none() | st.integers(0, 2),
    ),
    max_size=30,
)


@given(REQUESTS_OF_ANY_KIND, st.sampled_from([NGRAM, DRAFT, {}]))
def test_no_run_of_requests_upsets_it(requests: list[Request], facts: dict[str, Any]) -> None:
    for found in chat(Watch(), requests, **facts):
        assert found is None or found.id == "spec-decay"


UNUSED = {"draft_model": "small.gguf", "speculative": False}


def unused(**facts: Any) -> Finding | None:
    return next(iter(Watch(hold=False).see(0, servers=[server(**facts)])), None)


def test_a_draft_model_without_a_type() -> None:
    found = unused(**UNUSED)
    assert found is not None and found.id == "spec-unused"
    assert "--spec-type draft-simple" in found.fix
    assert found.patch == {"spec": "draft-simple"}
    assert found.evidence.startswith("draft model small.gguf, yet /slots says speculative: false; 0 tokens")


def test_a_type_that_was_refused() -> None:
    found = unused(spec_type="draft-simple", **UNUSED)
    assert found is not None and "vocabularies" in found.why and "log" in found.fix
    assert found.patch is None  # no flag cures two vocabularies


@pytest.mark.parametrize(
    "facts",
    [
        {"draft_model": None, "speculative": False},
        {"spec_type": "none", "speculative": False},
        UNUSED | {"speculative": True},
        UNUSED | {"state": ServerState.SLEEPING},
        UNUSED | {"state": ServerState.DOWN},
        UNUSED | {"requests": (request(20, 10),)},  # tokens outweigh a flag
    ],
)
def test_speculation_is_not_unused(facts: dict[str, Any]) -> None:
    found = unused(**facts)
    assert found is None or found.id != "spec-unused"


def test_unused_is_undefined_without_slots() -> None:
    watch = Watch(hold=False)
    assert watch.see(0, servers=[server(draft_model="small.gguf")]) == ()
    assert watch.engine.state("spec-unused", URL) == State.UNDEFINED


def test_without_slots_the_log_tells() -> None:
    asked = server(draft_model="small.gguf", requests=(request(None), request(None, generated=300)))
    (found,) = Watch(hold=False).see(0, servers=[asked])
    assert found.id == "spec-unused" and found.patch == {"spec": "draft-simple"}
    assert found.evidence == "draft model small.gguf; 0 tokens drafted in 2 finished requests"
    for known in (
        (request(None), request(None, generated=8)),  # one too short to say so
        (request(None), request(None, source="metrics")),
        (request(None), request(40, 20)),
    ):
        assert not Watch(hold=False).see(0, servers=[server(draft_model="small.gguf", requests=known)])


def test_unused_holds_clears_and_rearms() -> None:
    watch, wrong, right = Watch(), server(**UNUSED), server(**DRAFT)
    for time, one, fires in ((0, wrong, 0), (3, wrong, 1), (4, right, 0), (5, wrong, 0), (8, wrong, 1)):
        assert bool(watch.see(time, servers=[one])) == bool(fires), time
