"""spec-harmful: by what this box does without it, by its own figures, and by a real server that loses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from builders import URL
from halotui.demo.model import Shape, write_preset
from halotui.ledger import Baseline
from halotui.model import Finding
from halotui.rules.engine import State
from rules.usual import SETUP, Box, answer, baseline, same
from running import Stream, server_of

ID = "spec-harmful"
SPEC: dict[str, Any] = {"speculative": True, "spec_type": "draft-simple", "draft_model": "small.gguf"}


def drafts(drafted: int = 400, accepted: int = 60) -> dict[str, Any]:
    return {
        "draft_tokens": drafted,
        "draft_accepted_tokens": accepted,
        "draft_acceptance_ratio": accepted / drafted if drafted else None,
        "draft_coverage_ratio": drafted / 200,
    }


def gain(ratio: float | None, error: float | None = 0.1) -> dict[str, Any]:
    return SPEC | {"draft_gain_ratio": ratio, "draft_gain_error_ratio": error}


def test_slower_than_without() -> None:
    box = Box(baseline(count=10))
    found = box.serve(same(30.0, **drafts()), **SPEC)[ID]
    assert found.title == "Speculation makes decoding 38 % slower"
    assert found.evidence.startswith("decode 30.1 t/s with speculation, 48.1 t/s without (10 requests), p ")
    assert found.evidence.endswith(
        "at 2-8K tokens, 1 request at a time; 15 % of the drafts accepted, 200 % of tokens drafted"
    )
    assert found.patch == {"draft": None, "spec": None} and "rejected" in found.why
    assert ID in box.serve(same(47.0, **drafts()), **SPEC)  # not over yet
    assert ID not in box.serve(same(52.0, **drafts()), **SPEC)
    assert ID in box.serve(same(30.0, **drafts()), **SPEC)


def test_several_streams() -> None:
    """Each alone it gains; three at once it does not."""
    box = Box(baseline(), baseline(20.0, streams=3))
    findings: dict[str, Finding] = {}
    for i in range(9):
        box.now += 30
        three = (answer(box.now, 14.0, slot=n, task=3 * i + n, **drafts(200, 140)) for n in range(3))
        findings = box.look(requests=tuple(three), **gain(1.4))
    assert "Several requests" in findings[ID].why and "3-4 requests at a time" in findings[ID].evidence


def test_a_loss_by_its_own_figures() -> None:
    box = Box()
    assert ID not in box.serve(same(30.0, 7, **drafts()), **gain(0.62))
    found = box.serve(same(30.0, 2, **drafts()), **gain(0.62))[ID]
    assert found.title == "Speculation makes decoding at least 28 % slower"
    assert found.evidence.startswith("62 % ± 10 % of the speed without speculation, estimated; 15 %")
    assert ID in box.serve(same(30.0, 1, **drafts()), **gain(0.97))
    assert ID not in box.serve(same(30.0, 1, **drafts()), **gain(1.02))
    assert ID in box.serve(same(30.0, 1, **drafts()), **gain(0.7))
    assert ID not in box.look(uptime_seconds=0, **gain(None))  # relaunched


@pytest.mark.parametrize(
    ("known", "speed", "how", "facts"),
    [
        ([], 48.0, drafts(), gain(1.02)),
        ([], 48.0, drafts(), gain(0.9)),  # ± 0.1: it may be none
        ([baseline()], 60.0, drafts(), gain(0.6)),  # what was measured outweighs what is estimated
        ([baseline()], 47.0, drafts(), SPEC),
        ([baseline(values=[30, 60] * 20)], 41.0, drafts(), SPEC),  # noise
        ([baseline()], 30.0, drafts(0, 0), SPEC),  # n-grams that draft nothing cost nothing
        ([baseline(depth=2500)], 33.0, drafts() | {"depth": 7900}, SPEC),  # the depth may be it
        ([baseline(setup=replace(SETUP, build="b1"))], 30.0, drafts(), SPEC),  # another build
        ([baseline()], 30.0, drafts(), {"speculative": False}),
    ],
    ids=["pays", "unsure", "measured", "as fast", "noise", "no drafts", "deep", "build", "off"],
)
def test_no_alarm(known: list[Baseline], speed: float, how: dict[str, Any], facts: dict[str, Any]) -> None:
    assert ID not in Box(*known).serve(same(speed, **how), **facts)


def test_with_nothing_to_hold_it_against_it_is_undefined() -> None:
    box = Box(baseline(count=9))
    box.serve(same(30.0, **drafts()), **SPEC)
    assert box.engine.state(ID, URL) is State.UNDEFINED
    box.serve(same(50.0, **drafts()), **gain(1.2))
    assert box.engine.state(ID, URL) is State.OK


def test_a_real_draft_that_is_hardly_ever_right(start_server: Callable[..., Any], tmp_path: Path) -> None:
    """Larger than the model, and wrong nine times of ten: a loss even where times scatter. With -lv 4 the
    log tells what drafting takes."""
    draft = write_preset(tmp_path / "draft-low.gguf", Shape(dim=64, layers=12), noise=0.2)
    flags = ("-md", draft, "--spec-type", "draft-simple", "--spec-draft-n-max", "4", "-lv", "4")
    with start_server("-np", "1", "-c", "2048", *flags) as server, Stream("--url", server.url) as stream:
        stream.wait_for(lambda frame: server_of(frame, server.url)["state"] == "idle")
        found = None
        for i in range(60):  # nine will do where the machine is not busy
            server.complete(f"Song {i}", 48, cache_prompt=False)
            told = (one for frame in stream.frames[-2:] for one in frame["findings"] if one["id"] == ID)
            if found := next(told, None):
                break
    assert found is not None and i >= 7, stream.frames[-1]
    assert found["evidence"].partition(" ± ")[2] and found["patch"] == {"draft": None, "spec": None}
    assert "rejected" in found["why"]
