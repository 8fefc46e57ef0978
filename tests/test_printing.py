"""What the commands print: the table of a result, and nothing that reaches into the terminal."""

from __future__ import annotations

import unicodedata

from halotui.actions import (
    Ask,
    Change,
    Check,
    Kind,
    Outcome,
    ProfileRow,
    Proposal,
    ServerRow,
    Speed,
    Standing,
    Step,
    Verdict,
)
from halotui.commands import printing


def test_an_outcome_as_a_table() -> None:
    end = Outcome(
        id="1",
        step=Step.KEPT,
        kind=Kind.RELAUNCH,
        before="vulkan",
        after="rocm",
        url="http://127.0.0.1:8080",
        pid=4711,
        speed_before=Speed(
            prompt_tokens_per_second=303.4,
            prompt_spread=2.5,
            generation_tokens_per_second=24.7,
            peak_memory_bytes=76 << 30,
            runs=3,
        ),
        speed_after=Speed(
            prompt_tokens_per_second=404.0,
            generation_tokens_per_second=18.2,
            draft_acceptance_ratio=0.71,
            peak_memory_bytes=76 << 30,
            runs=3,
            note="1 request was running: not comparable",
        ),
        load_seconds_after=41.3,
    )
    assert (
        printing.outcome(end)
        == """\
relaunch vulkan → rocm: kept
serving: http://127.0.0.1:8080  pid 4711
                        before             after        Δ
pp t/s               303 ±2.50               404    +33 % ▲ better
tg t/s                    24.7              18.2    -26 % ▼ worse
acceptance                   –              71 %        –
peak memory           76.0 GiB          76.0 GiB      0 % ≈
load time                    –            41.3 s        –
note: after: 1 request was running: not comparable"""
    )


def test_a_launch_has_nothing_to_compare_nor_to_go_back_to() -> None:
    end = Outcome(
        id="1",
        step=Step.KEPT,
        kind=Kind.LAUNCH,
        after="rocm",
        url="http://x:1",
        pid=5,
        load_seconds_after=2.0,
    )
    assert printing.outcome(end) == "launch rocm: serves\nserving: http://x:1  pid 5"
    end = Outcome(id="1", step=Step.ROLLED_BACK, kind=Kind.LAUNCH, after="rocm", reason="it ended")
    assert printing.outcome(end) == "launch rocm: failed, and was taken away\nreason: it ended"


def test_nothing_printed_reaches_into_the_terminal() -> None:
    evil = "\x1b]0;title\x07\x1b[2Jplain\u202e\x9b31m\nsecond"
    end = Outcome(
        id=evil,
        step=Step.LOST,
        kind=Kind.STOP,
        before=evil,
        reason=evil,
        log_tail=(evil,),
        notes=(evil,),
        log_path=evil,
    )
    change = Change(part="env", name=evil, before=evil, after=evil)
    check = Check(id="x", title=evil, verdict=Verdict.FAIL, detail=evil, fix=evil)
    proposal = Proposal(
        id="1",
        ask=Ask(kind=Kind.STOP),
        before=evil,
        after=evil,
        url=evil,
        checks=(check,),
        changes=(change,),
        command_before=(evil,),
    )
    server = ServerRow(url=evil, pid=1, model=evil, command=(evil,), refusal=evil, hint=evil)
    profile = ProfileRow(name=evil, preset=True, complete=False, summary=evil, problem=evil)
    standing = Standing(
        id="1", kind=Kind.STOP, step=Step.LOADING, before=evil, after=evil, url=evil, text=evil
    )
    for text in (
        printing.outcome(end),
        printing.proposal(proposal),
        printing.servers([server]),
        printing.profiles([profile]),
        printing.standing(standing),
    ):
        assert "plain" in text
        assert not [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf")], repr(text)
