"""tg-regressed and pp-regressed: what is slower than usual, and all that only looks so."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from msgspec.structs import replace

from builders import URL, frame
from halotui.baselines.setups import setup_of
from halotui.ledger import Baseline, Baselines, Metric
from halotui.rules import ALL, View
from halotui.rules.engine import State
from rules.synthetic import Synthetic
from rules.usual import NOW, SETUP, Box, answer, around, baseline, same, serving

TG, PP = "tg-regressed", "pp-regressed"
SPEC: dict[str, Any] = {"speculative": True, "spec_type": "draft-simple", "draft_model": "small.gguf"}
NEWER = replace(SETUP, build="b11600")


def test_it_fires_and_says_by_how_much() -> None:
    box = Box(baseline())
    assert TG not in box.serve(same(31.2, 7))  # too few to say so
    found = box.serve(same(31.2, 3))[TG]
    assert found.subject == URL and found.title == "Decode is 35 % slower than usual"
    assert found.evidence.startswith("decode 31.")
    assert "t/s (median of 8), usually 48." in found.evidence
    assert found.evidence.endswith("(64 requests), p <0.0001; at 2-8K tokens, 1 request at a time")
    assert [cause.id for cause in found.causes] == ["unknown"]
    assert box.engine.frozen(URL)  # what is slow now does not become what is usual


def test_it_clears_above_the_clear_level_and_rearms() -> None:
    box = Box(baseline())
    assert TG in box.serve(same(31.2))
    assert TG in box.serve(same(42.5))  # 0.89 of the usual: not well yet
    assert TG not in box.serve(same(45.5))
    assert TG not in box.serve(same(42.5))  # nor ill enough to fire anew
    assert TG in box.serve(same(31.2))


def test_it_is_over_when_nobody_asks_any_more_or_it_is_relaunched() -> None:
    box = Box(baseline())
    assert TG in box.serve(same(31.2))
    assert TG in box.look(box.now + 1700)
    assert TG not in box.look(box.now + 2100)
    box = Box(baseline())
    assert TG in box.serve(same(31.2))
    assert TG not in box.look(box.now + 2, uptime_seconds=1)


@pytest.mark.parametrize(
    ("known", "answers"),
    [
        ([baseline()], same(48.0, 16)),
        ([baseline()], same(42.0)),  # 12 % is within what a day brings
        ([baseline()], [(s, {}) for s in (48, 20, 47.6, 48.3, 12, 48, 47, 30, 48.2)]),  # outliers
        ([baseline()], [(s, {}) for s in (30, 48, 31, 30, 48, 31, 30, 48)]),  # the requests, not the box
        ([baseline(values=[30, 60] * 32)], same(34.0)),  # this box is never the same
        ([baseline(), baseline(30.0, depth=12000)], same(30.0, depth=12000)),  # another band
        ([baseline(depth=2500), baseline(30.0, depth=12000)], same(36.0, depth=7900)),  # deep in its band
        ([baseline(depth=2500)], same(33.0, depth=7900)),  # no curve: it may be the depth
        ([baseline()], same(31.2, generation_tokens=20)),  # too short to tell
        ([baseline()], same(31.2, source="metrics")),
    ],
    ids=["well", "a little", "outliers", "some", "wild", "band", "deep", "no curve", "short", "summed"],
)
def test_no_alarm(known: list[Baseline], answers: Any) -> None:
    assert TG not in Box(*known).serve(answers)


def test_noise_is_no_alarm_and_a_fall_is_one() -> None:
    """Against requests of which every fifth is anything from a fifth to all of the usual speed."""
    dice = random.Random(7)

    def draw(count: int) -> list[float]:
        return [
            48 * (dice.gauss(1, 0.03) if dice.random() < 0.8 else dice.uniform(0.2, 1)) for _ in range(count)
        ]

    wrong = sum(TG in Box(baseline(values=draw(40))).finish(draw(8)) for _ in range(150))
    right = sum(TG in Box(baseline(values=draw(40))).finish([0.7 * s for s in draw(8)]) for _ in range(50))
    assert wrong == 0 and right >= 45


def test_deeper_than_the_depth_explains() -> None:
    known = baseline(depth=2500), baseline(40.0, depth=12000)
    found = Box(*known).serve(same(25.0, depth=7900))[TG]
    deeper = found.causes[0]
    assert deeper.id == "deeper-context" and deeper.share is not None and 0 < deeper.share < 0.3


def test_streams_have_bands_of_their_own() -> None:
    """Three at once, each as slow as that is usual; then one of them alone, as slow as those."""
    box = Box(baseline(), baseline(20.0, streams=3))
    for i in range(9):
        box.now += 30
        at_once = [answer(box.now, 20.0, slot=slot, task=3 * i + slot) for slot in range(3)]
        assert TG not in box.look(requests=tuple(at_once))
    assert TG in box.serve(same(20.0))


def test_a_prompt_of_somebody_else_is_no_alarm() -> None:
    """Both are worked at in one batch: who decodes meanwhile all but stands still."""
    box = Box(baseline(40.0, streams=2))
    for i in range(10):
        box.now += 30
        slow = answer(box.now, 22.0, task=2 * i)
        began = box.now - 9
        other = {"slot": 1, "started_time": began, "prompt_seconds": 8.0, "generation_seconds": 0.2}
        cold = answer(box.now, generation_tokens=10, task=2 * i + 1, **other)
        assert TG not in box.look(requests=(slow, cold))


def test_the_context_of_somebody_else_is_no_alarm() -> None:
    """Each pass reads the KV cache of all slots: at 0.1 ms for 200 tokens, 60K of another's take 30 ms."""
    known = baseline(40.0, streams=2), baseline(44.4), baseline(36.4, depth=13000)
    for deep, fires in ((60_000, False), (500, True)):
        box = Box(*known)
        for i in range(10):
            box.now += 30
            other = answer(box.now, 22.0, slot=1, task=2 * i + 1, depth=deep, generation_tokens=30)
            found = box.look(requests=(answer(box.now, 22.0, task=2 * i), other))
        assert (TG in found) is fires


@pytest.mark.parametrize(
    ("acceptance", "coverage", "fires"),
    [(0.4, 1.0, False), (0.5, 0.6, False), (0.8, 1.0, True), (0.8, 0.1, True)],
    ids=["other text", "shorter drafts", "as ever", "it ceased to draft"],
)
def test_how_well_drafts_fit_is_the_texts_doing(acceptance: float, coverage: float, fires: bool) -> None:
    setup = setup_of(serving(**SPEC))
    assert setup is not None
    box = Box(baseline(setup=setup, draft_acceptance_ratio=0.8, draft_coverage_ratio=1.0))
    drafts = {"draft_acceptance_ratio": acceptance, "draft_coverage_ratio": coverage}
    found = box.serve(same(31.2, **drafts), **SPEC)
    assert (TG in found) is fires


def test_streams_are_those_that_were_learned() -> None:
    """Slots at work as frames told, not what the log's spans overlap: near a band's edge these differ."""
    box = Box(baseline(20.0, streams=2), baseline())
    for i in range(9):
        box.look(box.now + 1, slots_busy=2)
        box.now += 30
        assert TG not in box.look(requests=(answer(box.now - 29.5, 20.0, task=i),), slots_busy=2)


@pytest.mark.parametrize("drafts", [False, True])
def test_a_day_of_users_is_no_alarm_and_a_fall_is_one(drafts: bool) -> None:
    """Lean: bench/regression.py does it for 20 seeds of 2,000 requests each."""
    box = Synthetic(5, speculates=drafts, step=2)
    box.run(150)
    assert box.found == []
    box.cut = 0.6
    assert box.run(100, until=TG) < 50


def test_a_colder_cache_is_no_alarm() -> None:
    """More to compute: another band. A warmer one: little to compute, and a band of its own as well."""
    known = [baseline(600.0, metric=Metric.PREFILL, depth=2000, prompt=800)]
    box = Box(*known)
    assert PP not in box.serve(same(48.0, prompt=6000, depth=6200, pp=300.0))
    assert PP not in box.serve(same(48.0, prompt=300, pp=280.0))  # a short prompt, in the same band
    assert PP not in box.serve(same(48.0, prompt=40, pp=90.0))


def test_prefill() -> None:
    box = Box(baseline(600.0, metric=Metric.PREFILL, depth=2000), baseline())
    findings = box.serve(same(48.0, pp=330.0))
    assert TG not in findings and findings[PP].title == "Prefill is 45 % slower than usual"
    assert findings[PP].evidence.endswith("prompts of 256-1K tokens after 0-2K cached, 1 request at a time")
    assert PP not in box.serve(same(48.0, pp=590.0))


def test_a_newer_build_that_is_slower() -> None:
    box = Box(baseline(), baseline(31.0, setup=NEWER, count=3))
    found = box.serve(same(31.2), build="b11600")[TG]
    assert found.title == "Decode is 35 % slower than with b11549"
    assert "with b11549 48." in found.evidence
    assert found.causes[0].id == "other-build" and "b11549" in found.why
    assert "build" in found.fix


def test_a_newer_build_that_is_faster_is_no_alarm() -> None:
    box = Box(baseline(31.0), baseline(48.0, setup=NEWER, count=3))
    assert TG not in box.serve(same(48.0), build="b11600")


def test_other_flags_are_another_thing() -> None:
    box = Box(baseline(setup=replace(SETUP, flags="b=256")))
    assert TG not in box.serve(same(31.2))
    assert box.engine.state(TG, URL) is State.UNDEFINED


def test_without_enough_samples_it_is_undefined() -> None:
    box = Box(baseline(count=19))
    assert TG not in box.serve(same(31.2))
    assert box.engine.state(TG, URL) is State.UNDEFINED
    box.engine.baselines = Baselines([baseline(count=20)])
    assert TG in box.serve(same(31.2, 1))


def test_what_is_slow_already_teaches_nothing() -> None:
    """The first slow requests are learned before it fires: they are no part of what was usual."""
    known = baseline()
    late = tuple(replace(known.observations[0], time=NOW + 30 * i, value=31.0) for i in range(1, 40))
    box = Box(replace(known, observations=(*known.observations[:25], *late)))
    assert "usually 48." in box.serve(same(31.2))[TG].evidence


def test_it_costs_next_to_nothing_between_two_requests() -> None:
    depths = (1000, 3000, 9000, 20000, 40000, 90000)
    setups = [replace(SETUP, build=f"b{n}") for n in range(11000, 11033)]
    others = [baseline(depth=depth, setup=setup) for depth in depths for setup in setups]
    box = Box(baseline(), *others)
    requests = tuple(answer(NOW + i / 10, speed) for i, speed in enumerate(around(48.0, 2000)))
    box.look(NOW + 250, requests=requests)
    rules = [rule for rule in ALL if rule.id in (TG, PP)]
    now = frame(NOW + 251, servers=[serving()])
    took = []
    for _ in range(50):
        began = time.perf_counter()
        for rule in rules:
            levels = {level.name: level.value for level in rule.levels}
            list(rule.check(View(now, box.history, {}, box.engine.baselines, levels)))
        took.append(time.perf_counter() - began)
    assert min(took) < 0.001  # 30 µs each on a quiet machine


def test_three_slow_ones_in_a_row_are_not_learned_from() -> None:
    box = Box(baseline())
    box.serve(same(30.0, 2))
    assert box.engine.state(TG, URL) is State.OK
    assert not box.serve(same(30.0, 1))
    assert box.engine.state(TG, URL) is State.PENDING and box.engine.frozen(URL)
    box.look(box.now + 1)
    assert box.engine.state(TG, URL) is State.PENDING  # no news
    assert not box.serve(same(48.0, 1))
    assert box.engine.state(TG, URL) is State.OK and not box.engine.frozen(URL)
    assert TG in box.serve(same(30.0, 8))
