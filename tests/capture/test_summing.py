"""Sums are those of a naive computation over all rows, however they were cut."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halotui.runs import Samples, Summary
from halotui.summing import BRIDGE_SECONDS, Sums

NAN = math.nan
COLUMNS = (
    ("memory.used_bytes", ""),
    ("gpu.socket_power_watts", "a"),
    ("gpu.socket_power_watts", "b"),
    ("throttle.spl", "a"),
    ("throttle.spl", "b"),
)
number = st.one_of(st.just(NAN), st.integers(0, 2**47).map(float), st.floats(0, 500))
rows = st.lists(
    st.tuples(st.floats(0.001, 3.0), st.tuples(number, number, number, number, number)),
    min_size=1,
    max_size=40,
)


def table(steps: list[tuple[float, tuple[float, ...]]]) -> tuple[list[float], list[tuple[float, ...]]]:
    seconds, now = [], 0.0
    for gap, _ in steps:
        now += gap
        seconds.append(now)
    return seconds, [values for _, values in steps]


def summed(
    seconds: list[float], values: list[tuple[float, ...]], cuts: list[int], hertz: float = 20.0
) -> Summary:
    sums = Sums(hertz, 1000.0)
    for begin, end in pairwise(sorted({0, *cuts, len(seconds)})):
        part = values[begin:end]
        sums.add(
            Samples(columns=COLUMNS, seconds=tuple(seconds[begin:end]), values=tuple(zip(*part, strict=True)))
        )
    return sums.summary()


def near(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9))


@given(rows, st.lists(st.integers(0, 40)))
def test_any_cut_gives_the_same(steps: list[tuple[float, tuple[float, ...]]], cuts: list[int]) -> None:
    seconds, values = table(steps)
    assert summed(seconds, values, [cut for cut in cuts if cut < len(seconds)]) == summed(seconds, values, [])


@given(rows)
def test_as_one_would_by_hand(steps: list[tuple[float, tuple[float, ...]]]) -> None:
    seconds, values = table(steps)
    summary = summed(seconds, values, [])
    assert (summary.samples, summary.seconds) == (len(seconds), seconds[-1])
    joules, any_power = 0.0, False
    for index, (field, subject) in enumerate(COLUMNS[:3]):
        known = [
            (t, row[index]) for t, row in zip(seconds, values, strict=True) if not math.isnan(row[index])
        ]
        found = summary.track(field, subject)
        assert found is not None and found.samples == len(known)
        if not known:
            assert (found.baseline, found.peak, found.least, found.mean, found.last) == (None,) * 5
            continue
        numbers = [value for _, value in known]
        assert (found.baseline, found.last) == (numbers[0], numbers[-1])
        assert (found.peak, found.least) == (max(numbers), min(numbers))
        assert found.peak_seconds == next(t for t, value in known if value == max(numbers))
        pieces = [
            (after - before, (a + b) / 2)
            for (before, a), (after, b) in pairwise(known)
            if after - before <= BRIDGE_SECONDS
        ]
        area, covered = sum(dt * value for dt, value in pieces), sum(dt for dt, _ in pieces)
        assert near(found.mean, area / covered if covered else numbers[-1])
        if "power" in field:
            joules += area
            any_power |= bool(pieces)
    assert near(summary.energy_joules, joules if any_power else None)


@given(st.lists(st.lists(st.integers(0, 1000), min_size=1), min_size=1))
def test_a_counter_that_falls_began_anew(lives: list[list[int]]) -> None:
    """Each life counts from 0, the first from where it was found."""
    lives = [sorted(life) for life in lives]
    counts = [float(count) for life in lives for count in life]
    falls = [after < before for before, after in pairwise(counts)]
    expected = sum(
        after if fell else after - before
        for (before, after), fell in zip(pairwise(counts), falls, strict=True)
    )
    values = [(NAN, NAN, NAN, count, NAN) for count in counts]
    seconds = [0.05 * at for at in range(len(counts))]
    assert summed(seconds, values, []).throttled == {"SPL": expected}


def test_limiters_of_all_gpus_are_one_sum_and_no_track() -> None:
    summary = summed([0.0, 0.05], [(NAN, NAN, NAN, 5.0, 7.0), (NAN, NAN, NAN, 15.0, 8.0)], [])
    assert summary.throttled == {"SPL": 11}
    assert not any(track.field.startswith("throttle") for track in summary.tracks)


def test_nothing_known_is_none() -> None:
    summary = summed([0.0, 0.05], [(NAN,) * 5] * 2, [])
    assert summary.throttled == {}
    assert summary.energy_joules is summary.gfx_energy_joules is summary.longest_gap_seconds is None
    assert summary.late == 0
    assert Sums(20.0, 0.0).summary().tracks == ()


def test_energy_of_a_ramp() -> None:
    """0 to 100 W in 10 s, sampled irregularly: exact, for the trapezoid follows a straight line."""
    seconds = [0.0, 0.05, 0.17, 1.0, 2.9, 4.8, 6.0, 7.7, 9.6, 10.0]
    summary = summed(seconds, [(NAN, 10 * t, NAN, NAN, NAN) for t in seconds], [3, 5])
    assert summary.energy_joules == pytest.approx(500)
    assert not summary.notes


def test_a_gap_is_not_bridged_and_is_said() -> None:
    seconds = [0.05 * at for at in range(200)]
    values = [(NAN, 100.0 if t < 2 or t > 7 else NAN, NAN, NAN, NAN) for t in seconds]
    summary = summed(seconds, values, [])
    assert summary.energy_joules == pytest.approx(100 * (9.95 - 5.05), rel=0.02)
    assert "energy leaves out 5." in summary.notes[0]


@pytest.mark.parametrize(
    ("seconds", "late", "gap"),
    [
        ([0.0, 0.05, 0.1, 0.15], 0, 0.05),
        ([0.0, 0.05, 0.12, 0.15], 0, 0.07),  # less than half an interval
        ([0.0, 0.05, 0.13, 0.15], 1, 0.08),
        ([0.0, 0.05, 0.25, 0.3], 3, 0.2),  # three did not come
    ],
)
def test_late(seconds: list[float], late: int, gap: float) -> None:
    summary = summed(seconds, [(1.0, NAN, NAN, NAN, NAN)] * len(seconds), [])
    assert summary.late == late
    assert summary.longest_gap_seconds == pytest.approx(gap)


def test_a_pool_that_fell_silent_is_late_to_the_end() -> None:
    seconds = [0.05 * at for at in range(41)]
    values = [(1.0 if t <= 1 else NAN, 10.0, NAN, NAN, NAN) for t in seconds]
    summary = summed(seconds, values, [])
    assert summary.late == 20
    assert summary.longest_gap_seconds == pytest.approx(1.0)


def test_columns_may_come_later() -> None:
    sums = Sums(20.0, 0.0)
    sums.add(Samples(columns=COLUMNS[:1], seconds=(0.0,), values=((5.0,),)))
    sums.add(Samples(columns=COLUMNS[:2], seconds=(0.05,), values=((6.0,), (50.0,))))
    summary = sums.summary()
    assert [(track.field, track.baseline, track.samples) for track in summary.tracks] == [
        ("memory.used_bytes", 5.0, 2),
        ("gpu.socket_power_watts", 50.0, 1),
    ]
