"""Percentiles to the value, bins that lose nothing, and filters that say what they do not understand."""

from __future__ import annotations

from itertools import pairwise
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import builders
from halotui.figures import (
    QUANTITIES,
    SORTS,
    Bin,
    Spread,
    chosen,
    figures,
    histogram,
    spread,
    trouble,
)
from halotui.history import Sample
from halotui.model import End, Request

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


def sample(time: float, **more: Any) -> Sample:
    return Sample(time, builders.request(task=int(time), **more))


def tasks(samples: list[Sample]) -> list[int | None]:
    return [one.request.task for one in samples]


# --- percentiles


def test_nearest_rank_is_a_value_that_was_there() -> None:
    assert spread(range(100, 0, -1)) == Spread(100, 50, 95, 99, 1, 100)
    assert spread(range(1, 201)) == Spread(200, 100, 190, 198, 1, 200)
    assert spread([1, 2, 3, 4, 5]) == Spread(5, 3, None, None, 1, 5)
    assert spread([4.0, 1.0]) == Spread(2, 1.0, None, None, 1.0, 4.0)


@pytest.mark.parametrize(
    ("count", "p95", "p99"), [(19, None, None), (20, 19, None), (99, 95, None), (100, 95, 99), (101, 96, 100)]
)
def test_too_few_for_a_percentile(count: int, p95: int | None, p99: int | None) -> None:
    found = spread(range(1, count + 1))
    assert (found.count, found.p95, found.p99) == (count, p95, p99)


def test_what_is_not_known_does_not_count() -> None:
    assert spread([None, nan, inf, 7.5, None]) == Spread(1, 7.5, None, None, 7.5, 7.5)
    assert spread([None]) == Spread(0)


@given(st.lists(st.one_of(st.none(), FINITE)))
def test_a_spread_is_in_order(values: list[float | None]) -> None:
    found = spread(values)
    known = [value for value in values if value is not None]
    steps = [v for v in (found.least, found.p50, found.p95, found.p99, found.most) if v is not None]
    assert found.count == len(known) and steps == sorted(steps) and set(steps) <= set(known)


# --- figures


def test_figures_of_a_window() -> None:
    samples = [
        sample(10, end=End.DONE, ttft_seconds=9.0),
        sample(90, end=End.DONE, ttft_seconds=0.5, generation_tokens_per_second=40.25),
        sample(95, end=End.CANCELLED),
        sample(100, end=End.DONE, ttft_seconds=0.7, prompt_tokens_per_second=512.5),
        sample(100, source="metrics", generation_tokens_per_second=3.0),  # several in one: no request
        sample(100),  # nobody saw its end
    ]
    found = figures(samples, now=100, window=10)
    assert found.count == 4 and found.by_end == {End.DONE: 2, End.CANCELLED: 1}
    assert found.spreads == {
        "ttft_seconds": Spread(2, 0.5, None, None, 0.5, 0.7),
        "prompt_tokens_per_second": Spread(1, 512.5, None, None, 512.5, 512.5),
        "generation_tokens_per_second": Spread(1, 40.25, None, None, 40.25, 40.25),
    }
    assert (
        figures(samples, 100, None).count == 5
        and figures(samples, 100, None).spreads[QUANTITIES[0]].most == 9
    )
    assert figures([], 0, None).by_end == {}


# --- histograms


def test_bins_to_the_value() -> None:
    assert histogram([0, 1, 2, 3, 4], 2) == (Bin(0, 2, 2), Bin(2, 4, 3))
    assert histogram([5, 5, 5]) == (Bin(5, 5, 3),)
    assert histogram([None, nan]) == ()
    wide = histogram([1, 2, 50, 100, 10000], 2)
    assert [(round(b.low, 6), round(b.high, 6), b.count) for b in wide] == [(1, 100, 3), (100, 10000, 2)]
    assert histogram([10, 200], 2)[0].high == pytest.approx(105)  # 20x: not yet
    assert histogram([0, 1000], 2)[0].high == 500  # nothing has a logarithm of 0


@given(st.lists(FINITE, min_size=1), st.integers(1, 30))
def test_every_value_is_in_its_bin(values: list[float], bins: int) -> None:
    found = histogram(values, bins)
    assert len(found) <= bins and sum(b.count for b in found) == len(values)
    assert (found[0].low, found[-1].high) == (min(values), max(values))
    for one in found[:-1]:
        assert one.count == sum(one.low <= value < one.high for value in values)
    for one, other in pairwise(found):
        assert one.low < one.high == other.low


# --- which, and in what order

MANY = [
    sample(1, slot=0, end=End.DONE, ttft_seconds=0.4, draft_acceptance_ratio=0.9, prompt_tokens=4000),
    sample(2, slot=1, end=End.CANCELLED, ttft_seconds=2.5, draft_acceptance_ratio=0.3, prompt_tokens=12),
    sample(3, slot=1, end=End.ERROR, reason="context exceeded"),
    sample(4, slot=0, end=End.DONE, ttft_seconds=2.0),
    sample(5, source="metrics"),
]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("", [1, 2, 3, 4]),
        ("slot=0", [1, 4]),
        ("ttft>=2", [2, 4]),
        ("ttft>2 slot=1", [2]),
        ("ttft<=400ms", [1]),
        ("draft<50%", [2]),
        ("prompt>=4k", [1]),
        ("end=done ttft>1s", [4]),
        ("CANCEL", [2]),
        ("exceeded", [3]),
        ("3", [3]),
        ("task>2", [3, 4]),
        ("nothing-of-it", []),
        ("ttft>", [1, 2, 3, 4]),  # half typed: hides nothing
    ],
)
def test_words(words: str, wanted: list[int]) -> None:
    assert tasks(chosen(MANY, words=words)) == wanted


def test_order_and_the_unknown_last() -> None:
    assert tasks(chosen(MANY, descending=True)) == [4, 3, 2, 1]
    assert tasks(chosen(MANY, sort="ttft")) == [1, 4, 2, 3]
    assert tasks(chosen(MANY, sort="ttft", descending=True)) == [2, 4, 1, 3]
    assert tasks(chosen(MANY, sort="slot")) == [1, 4, 2, 3]  # equals stay in their order
    assert tasks(chosen(MANY, sort="slot", descending=True)) == [3, 2, 4, 1]  # or all is turned round
    assert tasks(chosen(MANY, sort="end")) == [2, 1, 4, 3]


def test_words_that_cannot_be_read() -> None:
    assert trouble("ttft>2 done slot=0 draft<=.5") is None
    for words, said in (
        ("swim>2", "there is no 'swim'"),
        ("slot=0 ttft>", "no number"),
        (">2", "there is no"),
        ("end=dome", "done, cancelled, truncated, error"),
        ("end>done", "end= is one of"),
    ):
        assert said in str(trouble(words))
    assert trouble("ttft>2000000000000000") is not None


def test_every_sort_is_a_key_of_a_request() -> None:
    assert set(SORTS.values()) <= set(Request.__struct_fields__)


@given(st.text(max_size=40))
def test_any_words_do_no_harm(words: str) -> None:
    trouble(words)
    assert set(tasks(chosen(MANY, words=words))) <= {1, 2, 3, 4}
