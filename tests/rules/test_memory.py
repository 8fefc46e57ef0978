"""gtt-pressure: GTT or the RAM under it near its end, never the carve-out."""

from __future__ import annotations

from typing import Any

import pytest

from builders import GIB, GPU, Watch, gpu, memory, server, source
from halotui.model import SYSTEM_SOURCE, Finding, Server, ServerFacts, ServerState, Severity, System
from halotui.rules.engine import KEEP, State


def judge(watch: Watch | None = None, time: float = 0, **parts: Any) -> Finding | None:
    return next(iter((watch or Watch(hold=False)).see(time, **parts)), None)


@pytest.mark.parametrize(
    ("gtt", "severity"),
    [(113, None), (114, Severity.WARNING), (117, Severity.WARNING), (118, Severity.CRITICAL)],
)
def test_gtt_levels(gtt: float, severity: Severity | None) -> None:
    found = judge(gpus=[gpu(gtt=gtt)])
    assert (found.severity if found else None) == severity


def test_evidence_names_the_true_headroom() -> None:
    found = judge(gpus=[gpu(gtt=115)], memory=memory(available=3.5, swap=2))
    assert found is not None and found.subject == GPU
    assert (
        found.evidence
        == "GTT 115 GiB of 120 GiB (96 %), RAM available 3.50 GiB, swap used 2.00 GiB, headroom 3.50 GiB"
    )


def test_no_headroom_is_claimed_without_the_ram() -> None:
    found = judge(gpus=[gpu(gtt=115)])
    assert found is not None and found.evidence == "GTT 115 GiB of 120 GiB (96 %)"


@pytest.mark.parametrize(
    ("gtt", "available", "severity"),
    [
        (60, 6, None),
        (60, 5, Severity.WARNING),
        (60, 2, Severity.CRITICAL),
        (30, 2, None),  # the GPU is not what fills it
    ],
)
def test_ram_under_the_gtt(gtt: float, available: float, severity: Severity | None) -> None:
    found = judge(gpus=[gpu(gtt=gtt)], memory=memory(available=available))
    assert (found.severity if found else None) == severity


def test_a_full_carve_out_is_no_alarm() -> None:
    full = gpu(gtt=1, vram_used_bytes=GIB // 2, vram_total_bytes=GIB // 2)
    assert judge(gpus=[full], memory=memory()) is None


@pytest.mark.parametrize("unknown", [{"gtt": None}, {"gtt_total": None}, {"gtt_total": 0}])
def test_undefined_without_data(unknown: dict[str, Any]) -> None:
    watch = Watch(hold=False)
    assert judge(watch, gpus=[gpu(**unknown)]) is None
    assert watch.engine.state("gtt-pressure", GPU) == State.UNDEFINED


@pytest.mark.parametrize(
    ("servers", "patch"),
    [
        ([server()], {"ctk": "q8_0", "ctv": "q8_0"}),
        ([server(), server("http://127.0.0.1:8081", ServerState.DOWN)], {"ctk": "q8_0", "ctv": "q8_0"}),
        ([server(facts=ServerFacts(flash_attention="off"))], {"ctk": "q8_0", "ctv": "q8_0", "fa": "on"}),
        ([server(), server("http://127.0.0.1:8081")], None),
        ([], None),
        ([server(facts=ServerFacts(cache_type_k="q4_0", cache_type_v="q4_0"))], None),  # it would grow
        ([server(engine="ollama")], None),
    ],
    ids=["one", "one-runs", "flash-off", "two", "none", "small-already", "another-engine"],
)
def test_a_smaller_cache_is_offered_where_its_owner_is_known(
    servers: list[Server], patch: dict[str, str] | None
) -> None:
    found = judge(gpus=[gpu(gtt=119)], servers=servers)
    assert found is not None and found.patch == patch


def swapping(
    watch: Watch, time: float, available: float, into: float, out: float, **more: Any
) -> Finding | None:
    """``into`` and ``out`` in MB a second."""
    rates = System(swap_in_bytes_per_second=into * 1e6, swap_out_bytes_per_second=out * 1e6)
    parts = {"gpus": [gpu()], "memory": memory(available, swap=4), "sources": [source(SYSTEM_SOURCE)], **more}
    return judge(watch, time, system=rates, **parts)


@pytest.mark.parametrize(
    ("available", "before", "then"),
    [(10, None, Severity.WARNING), (5, Severity.WARNING, Severity.CRITICAL)],
    ids=["sooner", "worse"],
)
def test_to_swap_to_and_fro_makes_it_one_step_worse(
    available: float, before: Severity | None, then: Severity
) -> None:
    watch = Watch(hold=False)
    for time in range(10):  # not yet for long
        found = swapping(watch, time, available, 20, 30)
        assert (found.severity if found else None) == before
    found = swapping(watch, 10, available, 20, 30)
    assert found is not None and (found.severity, found.title) == (
        then,
        "The box swaps, and much of its RAM is GTT",
    )
    assert ", swap used 4.00 GiB, swapping 19.1 MiB/s in and 28.6 MiB/s out, headroom " in found.evidence
    for time in range(11, 20):  # a breath is no end
        found = swapping(watch, time, available, 0, 0)
        assert found is not None and found.severity is then
    found = swapping(watch, 21, available, 0, 0)
    assert (found.severity if found else None) == before


@pytest.mark.parametrize(
    ("available", "into", "out", "more"),
    [
        (10, 0, 300, {}),  # a model is loaded: what nobody uses goes out
        (10, 300, 0, {}),  # and is read back later
        (60, 20, 30, {}),  # there is room: it is something else that swaps
        (10, 20, 30, {"gpus": [gpu(gtt=20)]}),  # not the GPU's
    ],
    ids=["out", "in", "room", "others"],
)
def test_swap_that_is_no_pressure(available: float, into: float, out: float, more: dict[str, Any]) -> None:
    watch = Watch(hold=False)
    assert all(swapping(watch, time, available, into, out, **more) is None for time in range(15))


def test_swap_that_is_not_known_or_comes_in_gusts() -> None:
    watch = Watch(hold=False)
    for time in range(30):
        gust = time % 5 > 0
        assert swapping(watch, time, 10, 20 * gust, 30 * gust) is None
    unknown = {"gpus": [gpu()], "memory": memory(10), "sources": [source(SYSTEM_SOURCE)]}
    assert all(judge(Watch(hold=False), time, system=System(), **unknown) is None for time in range(15))


def test_a_container_s_share_of_the_ram_says_nothing_of_gtt() -> None:
    assert judge(gpus=[gpu()], memory=memory(available=0.3, total=16)) is None
    assert judge(gpus=[gpu(gtt=12)], memory=memory(available=0.3, total=16)) is not None


def test_holds_and_clears_below_its_clear_level() -> None:
    watch = Watch()
    steps = (
        (0, 115, False),
        (2, 115, False),
        (3, 115, True),
        (4, 111, True),
        (5, 110, False),
        (6, 113, False),
    )
    for time, gtt, fires in steps:
        assert bool(judge(watch, time, gpus=[gpu(gtt=gtt)])) == fires, time
    judge(watch, 7, gpus=[gpu(gtt=115)])
    assert judge(watch, 10, gpus=[gpu(gtt=115)])


def test_a_gpu_that_vanishes_keeps_its_alarm_for_a_while() -> None:
    watch = Watch(hold=False)
    judge(watch, 0, gpus=[gpu(gtt=119)])
    assert judge(watch, 1)
    assert judge(watch, 1 + KEEP) is None
    assert judge(watch, 2 + KEEP) is None
