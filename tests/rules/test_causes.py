"""Why it fell: one test a cause, and which of them comes first."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from builders import GIB, frame, gpu, server
from halotui.history import History
from halotui.ledger import Baseline, Baselines, Conditions, Metric, Observation, Software
from halotui.model import (
    Cause,
    Frame,
    HeldBy,
    Holder,
    Platform,
    Server,
    ServerFacts,
    ServerState,
    System,
)
from halotui.rules import View
from halotui.rules.causes import differences, explain_fall, fix_of, rank
from halotui.rules.falls import Fall, typical
from rules.usual import FACTS, NOW, SETUP, Box, baseline, same, serving

QUIET = frame(NOW)
AS_EVER = {
    "sclk_hertz": 2.9e9,
    "temperature_celsius": 70.0,
    "cpu_power_watts": 12.0,
    "cpu_busy_percent": 5.0,
    "available_bytes": 40.0 * GIB,
    "swap_bytes_per_second": 0.0,
    "others_bytes": 1.0 * GIB,
    "draft_acceptance_ratio": 0.8,
    "draft_coverage_ratio": 1.0,
}


def why(
    seen: Frame = QUIET,
    *,
    by: Server | None = None,
    value: float = 31.2,
    metric: Metric = Metric.DECODE,
    usual: Baseline | None = None,
    kin: tuple[Baseline, ...] = (),
    setup: Any = SETUP,
    **now: Any,
) -> tuple[Cause, ...]:
    """48 t/s of yesterday against ``value`` under conditions that are as ever but for ``now``."""
    usual = usual or baseline(metric=metric, **AS_EVER)
    how = Conditions(**{"depth_tokens": 3000, "streams": 1, "prompt_tokens": 800, **AS_EVER, **now})
    fall = Fall(key=replace(usual.key, setup=setup), value=value, now=how, usual=usual, kin=(usual, *kin))
    return rank(View(seen, History()), by or serving(), fall)


def only(causes: tuple[Cause, ...]) -> Cause:
    assert len(causes) == 1, causes
    assert causes[0].text and causes[0].proof
    return causes[0]


def test_nothing_has_changed() -> None:
    assert only(why()).id == "unknown" and fix_of(only(why())) is None


def test_deeper_by_its_own_curve() -> None:
    found = only(why(depth_tokens=7500, kin=(baseline(24.0, depth=12000),)))
    assert found.id == "deeper-context" and found.text.startswith(
        "The context is deeper: 7,500 tokens, usually 3,000"
    )
    assert "makes 32.1 of 48.1" in found.text and found.share == pytest.approx(0.94, abs=0.02)


def test_deeper_by_what_a_token_reads() -> None:
    facts = replace(FACTS, token_bytes=4_000_000_000)
    found = only(why(depth_tokens=7500, by=serving(facts=facts, kv_token_bytes=500_000.0)))
    assert found.id == "deeper-context" and found.share == pytest.approx(0.79, abs=0.02)


def test_deeper_without_a_curve_has_no_share() -> None:
    assert only(why(depth_tokens=7500)).share is None
    assert only(why(depth_tokens=3100)).id == "unknown"


def test_more_streams() -> None:
    usual = baseline(streams=3, **AS_EVER)
    found = only(why(usual=usual, streams=4, kin=(baseline(96.0, streams=1.4),)))
    assert found.id == "more-streams" and found.text.startswith("More requests at once: 4.0, usually 3.0")
    assert found.share is not None and 0.3 < found.share < 0.8


def test_shorter_prompts() -> None:
    usual = baseline(600.0, metric=Metric.PREFILL, depth=1000, **AS_EVER)
    kin = (baseline(900.0, metric=Metric.PREFILL, depth=1000, prompt=3000),)
    found = only(why(usual=usual, value=400.0, prompt_tokens=300, depth_tokens=1000, kin=kin))
    assert found.id == "shorter-prompts" and found.share is not None and found.share > 0.5


def test_fewer_drafts_accepted_or_made() -> None:
    found = only(why(draft_acceptance_ratio=0.4))
    assert found.text == "Fewer drafts are accepted: 40 %, usually 80 %." and found.share == 1.0
    found = only(why(draft_coverage_ratio=0.7))
    assert found.id == "coverage" and found.share == pytest.approx(1.0, abs=0.2)
    assert only(why(draft_acceptance_ratio=0.78)).id == "unknown"


def test_a_lower_clock_is_a_share_of_prefill_alone() -> None:
    usual = baseline(600.0, metric=Metric.PREFILL, depth=1000, **AS_EVER)
    found = only(why(usual=usual, value=300.0, depth_tokens=1000, sclk_hertz=1.45e9))
    assert found.id == "lower-clock" and found.share == pytest.approx(1.0, abs=0.01)
    found = only(why(sclk_hertz=1.45e9))
    assert found.share is None and "memory more than" in found.text


@pytest.mark.parametrize(
    ("held", "id_", "words"),
    [
        (HeldBy.POWER, "power-limited", "at 118 W (engaged: sppt)"),
        (HeldBy.HEAT, "heat", "The chip is hotter: 96 °C, usually 70 °C (engaged: sppt)"),
        (HeldBy.PROCHOT, "prochot", "PROCHOT"),
        (HeldBy.CPU, "cpu-power", "The CPU takes 45.0 W of the package's 118 W, usually 12.0 W"),
    ],
)
def test_what_holds_the_gpu_back(held: HeldBy, id_: str, words: str) -> None:
    seen = frame(NOW, gpus=[gpu(held_by=held, throttle={"sppt": 40.0})])
    hot = {"temperature_celsius": 96.0} if held is HeldBy.HEAT else {}
    drawn = {"cpu_power_watts": 45.0} if held is HeldBy.CPU else {}
    found = only(why(seen, socket_power_watts=118.0, **hot, **drawn))
    assert found.id == id_ and words in found.text and fix_of(found)


def test_what_always_holds_it_back_is_no_cause() -> None:
    seen = frame(NOW, gpus=[gpu(held_by=HeldBy.POWER)])
    assert only(why(seen, usual=baseline(**AS_EVER, held_by="power"))).id == "unknown"


def test_what_held_it_back_once_is_not_usual() -> None:
    many = [Conditions(held_by="power"), *[Conditions(sclk_hertz=2.9e9)] * 9]
    assert typical(many).held_by is None
    assert typical([Conditions(held_by="heat")] * 5 + many[1:5]).held_by == "heat"


def test_what_held_it_back_is_what_was_noted_of_the_slow_requests() -> None:
    """The frame of the alarm is between two requests, when nothing holds it back any more."""
    known = baseline()
    hot = Conditions(depth_tokens=3000, streams=1, held_by="heat")
    late = tuple(Observation(time=NOW + 30 * i, value=31.0, conditions=hot) for i in range(1, 7))
    box = Box(replace(known, observations=(*known.observations[:40], *late)))
    assert [cause.id for cause in box.serve(same(31.2))["tg-regressed"].causes] == ["heat"]


def test_heat_and_the_cpus_watts_without_a_limiter() -> None:
    assert only(why(temperature_celsius=95.0)).id == "heat"
    assert only(why(cpu_power_watts=40.0)).id == "cpu-power"
    assert only(why(cpu_busy_percent=80.0)).id == "cpu-busy"


def test_memory_and_swap() -> None:
    found = only(why(available_bytes=1.5 * GIB))
    assert found.id == "memory" and found.text == "Memory is short: 1.50 GiB available, usually 40.0 GiB."
    pressed = replace(QUIET, system=System(memory_pressure_percent=34.0))
    assert only(why(pressed)).id == "memory"
    assert only(why(swap_bytes_per_second=40e6)).id == "swap"


def test_another_process_on_the_gpu() -> None:
    blender = Holder(pid=4711, name="blender", gpu_percent=63.0, gtt_bytes=4 * GIB)
    own = Holder(pid=42, name="llama-server", gpu_percent=90.0, gtt_bytes=60 * GIB)
    found = only(why(replace(QUIET, holders=(own, blender))))
    assert found.text == "blender (PID 4711) works on the GPU: 63 %."
    assert found.proof == "Stop blender (PID 4711) and look again."
    idle = replace(blender, gpu_percent=0.0)
    found = only(why(replace(QUIET, holders=(own, idle)), others_bytes=5.0 * GIB))
    assert found.id == "other-process" and "5.00 GiB, usually 1.00 GiB, blender" in found.text
    assert only(why(replace(QUIET, holders=(own, idle)))).id == "unknown"  # it always was there
    beside = frame(NOW, servers=[serving(), server("http://127.0.0.1:9", ServerState.BUSY)])
    assert only(why(beside)).id == "other-server"


def test_another_build_or_other_flags() -> None:
    found = only(why(setup=replace(SETUP, build="b11600")))
    assert found.text == "Another build: b11600; it was b11549 when that speed was usual."
    found = only(why(setup=replace(SETUP, flags="b=2048 fa=off np=4 ub=256")))
    assert found.text == "Other flags: fa on → off, ub 512 → 256."
    assert differences("a=1", "") == "a (none) → 1"


@pytest.mark.parametrize(
    ("software", "platform", "id_"),
    [
        (Software(kernel="6.18.9"), Platform(kernel="6.19.2"), "kernel-changed"),
        (Software(firmware="20260101"), Platform(firmware="20260301"), "firmware-changed"),
        (Software(mesa="26.0"), Platform(mesa="26.1"), "mesa-changed"),
        (Software(power_mode="performance"), Platform(power_mode="low-power"), "power-mode"),
        (Software(rocm="7.1.1"), Platform(rocm="7.2"), "unknown"),  # it runs on Vulkan
        (Software(), Platform(kernel="6.19.2"), "unknown"),
    ],
)
def test_what_it_runs_on(software: Software, platform: Platform, id_: str) -> None:
    found = only(why(replace(QUIET, platform=platform), usual=baseline(**AS_EVER, software=software)))
    assert found.id == id_


def test_what_explains_more_comes_first() -> None:
    """A share that is reckoned, then how much such a change uses to matter."""
    curve = (baseline(44.0, depth=12000),)
    causes = why(depth_tokens=7500, kin=curve, setup=replace(SETUP, build="b11600"), sclk_hertz=2e9)
    assert [cause.id for cause in causes] == ["other-build", "lower-clock", "deeper-context"]
    steep = (baseline(24.0, depth=12000),)
    causes = why(depth_tokens=7500, kin=steep, setup=replace(SETUP, build="b11600"))
    assert [cause.id for cause in causes] == ["deeper-context", "other-build"]


def test_explained_at_a_key_press_without_an_alarm() -> None:
    box = Box(baseline(depth=2500), baseline(40.0, depth=12000))
    box.serve(same(44.0, 3, depth=7000))
    view = View(frame(box.now, servers=[serving()]), box.history, {}, box.engine.baselines)
    assert [cause.id for cause in explain_fall(view, serving(), Metric.DECODE)] == ["deeper-context"]
    assert explain_fall(view, serving(), Metric.PREFILL) == ()
    assert explain_fall(View(QUIET, History()), serving(facts=ServerFacts()), Metric.DECODE) == ()
    newer = serving(build="b11600")  # nothing is known of it but what another build did
    causes = explain_fall(view, newer, Metric.DECODE)
    assert {cause.id for cause in causes} == {"deeper-context", "other-build"}
    known = View(view.frame, box.history, {}, Baselines([baseline(40.0)]))
    assert explain_fall(known, serving(), Metric.DECODE) == ()  # it is faster than ever
