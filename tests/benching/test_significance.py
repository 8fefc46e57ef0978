"""A word on significance: against printed tables, by counting, and by drawing lots many times."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halotui.benching.significance import (
    CLEAR,
    LIKELY,
    NO_SPREAD,
    NOISE,
    ONE_RUN,
    Repeats,
    holm,
    incomplete_beta,
    judge,
    permutation,
    two_sided,
    welch,
)

# Critical values of Student's t, as every textbook prints them: freedom, two-sided p, t.
TABLE = [
    *((1, 0.10, 6.314), (1, 0.05, 12.706), (1, 0.01, 63.657), (2, 0.05, 4.303), (2, 0.01, 9.925)),
    *((4, 0.10, 2.132), (4, 0.05, 2.776), (4, 0.001, 8.610), (8, 0.05, 2.306), (8, 0.01, 3.355)),
    *((10, 0.05, 2.228), (20, 0.02, 2.528), (30, 0.05, 2.042), (60, 0.01, 2.660), (120, 0.05, 1.980)),
]


@pytest.mark.parametrize(("freedom", "p", "t"), TABLE)
def test_student_s_table(freedom: int, p: float, t: float) -> None:
    assert two_sided(t, freedom) == pytest.approx(p, rel=2e-3)
    assert two_sided(-t, freedom) == two_sided(t, freedom)


@given(st.floats(-40, 40))
def test_two_freedoms_that_have_a_closed_form(t: float) -> None:
    assert two_sided(t, 1) == pytest.approx(1 - 2 * math.atan(abs(t)) / math.pi, abs=1e-9)
    assert two_sided(t, 2) == pytest.approx(1 - abs(t) / math.sqrt(2 + t * t), abs=1e-9)


@given(st.floats(0.1, 200), st.floats(0.1, 200), st.floats(0.001, 0.999))
def test_the_beta_function_and_its_mirror(a: float, b: float, x: float) -> None:
    assert 0 <= incomplete_beta(a, b, x) <= 1
    assert incomplete_beta(a, b, x) + incomplete_beta(b, a, 1 - x) == pytest.approx(1, abs=1e-7)
    assert incomplete_beta(a, 1, x) == pytest.approx(x**a, abs=1e-9)


def test_welch_against_r() -> None:
    """The example of R's own t.test, data ``sleep``: t = -1.8608, df = 17.776, p = 0.07939."""
    a = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    b = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    p = welch(Repeats.of(a), Repeats.of(b))
    assert p == pytest.approx(0.07939, abs=5e-6)
    assert p == pytest.approx(welch(Repeats(fmean(a), stdev(a), 10), Repeats(fmean(b), stdev(b), 10)))


def test_permutations_by_counting() -> None:
    assert permutation([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(2 / 252)  # 0.0079
    assert permutation([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx(2 / 70)
    assert permutation([5, 5, 5, 5], [5, 5, 5, 5]) == 1
    # of the 70 ways, 4 part them as far: 1234|5678, 1235|4678 and their mirrors
    assert permutation([1, 2, 3, 5], [4, 6, 7, 8]) == pytest.approx(4 / 70)
    assert permutation([1, 2, 3], [4, 5, 6]) is None  # 0.1 at best: it can say nothing
    assert permutation([], [1.0]) is None
    assert permutation(range(40), range(40)) is None  # too many to count


@given(st.lists(st.none() | st.floats(0, 1), max_size=12))
def test_holm(values: list[float | None]) -> None:
    corrected = holm(values)
    known = sorted((p, c) for p, c in zip(values, corrected, strict=True) if p is not None and c is not None)
    assert [c is None for c in corrected] == [p is None for p in values]
    assert all(p <= c <= 1 for p, c in known)
    assert all(first[1] <= second[1] for first, second in pairwise(known))
    if known:
        assert known[0][1] == min(1, known[0][0] * len(known))


FIVE = [881.0, 883.5, 880.2, 882.9, 881.6]


def judged(a: Repeats, b: Repeats) -> str:
    return judge([(a, b)])[0].word


def test_the_words() -> None:
    base = Repeats.of(FIVE)
    assert judged(base, Repeats.of([x * 1.05 for x in FIVE])) == CLEAR
    assert judged(base, Repeats.of([x * 1.005 for x in FIVE])) == LIKELY  # sure, and not worth a word
    assert judged(base, Repeats.of(FIVE[::-1])) == NOISE
    assert judged(base, Repeats.of([x + 0.3 for x in FIVE])) == NOISE
    assert judged(base, Repeats.of([950.0])) == ONE_RUN
    assert judged(base, Repeats(950.0, None, 5)) == NO_SPREAD
    assert judged(base, Repeats(950.0, 0.0, 5)) == NO_SPREAD  # "950.00 ± 0.00"


def test_mean_and_spread_say_what_the_repeats_say() -> None:
    a, b = Repeats.of(FIVE), Repeats.of([x * 1.05 for x in FIVE])
    told = judge([(a._replace(samples=()), b._replace(samples=()))])[0]
    (exact,) = judge([(a, b)])
    assert (told.word, told.p, told.p_exact) == (exact.word, exact.p, None)
    assert exact.p_exact == pytest.approx(2 / 252)


def test_many_rows_make_it_harder() -> None:
    same = Repeats.of(FIVE)
    near = Repeats.of([x + 2.4 for x in FIVE])
    assert judge([(same, near)])[0].word == LIKELY
    assert judge([(same, near), *[(same, same)] * 20])[0].word == NOISE
    assert [verdict.word for verdict in judge([(same, Repeats.of([2 * x for x in FIVE]))] * 40)] == [
        CLEAR
    ] * 40


def test_an_outlier_is_no_difference() -> None:
    """The first repeat without a warm-up."""
    assert judged(Repeats.of([11.8, 155, 154, 155, 156]), Repeats.of([154, 155, 156, 155, 154])) == NOISE


def test_the_ranks_may_veto() -> None:
    a, b = Repeats.of([10, 10.1, 10, 10.1]), Repeats.of([10.05, 10.3, 10.31, 10.32])
    (verdict,) = judge([(a, b)])
    assert verdict.p is not None and verdict.p_exact is not None
    assert (verdict.word == NOISE) == (max(verdict.p, verdict.p_exact) >= 0.05)


def test_by_chance_few_tables_hold_a_false_word() -> None:
    """2000 tables of ten rows without any difference: in about one of twenty a word is said, not in eight."""
    dice = random.Random(7)

    def repeats() -> Repeats:
        return Repeats.of([dice.gauss(100, 3) for _ in range(5)])._replace(samples=())

    said = sum(
        any(verdict.word in (CLEAR, LIKELY) for verdict in judge([(repeats(), repeats()) for _ in range(10)]))
        for _ in range(2000)
    )
    assert 20 <= said <= 130


def test_a_true_difference_is_seen() -> None:
    """5 % at a spread of 1 %, five repeats each: nearly always clear."""
    dice = random.Random(11)

    def around(mean: float) -> Repeats:
        return Repeats.of([dice.gauss(mean, 1) for _ in range(5)])

    assert sum(judged(around(100), around(105)) == CLEAR for _ in range(200)) > 180


@given(
    *[st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=9)] * 2,
)
def test_any_repeats(a: list[float], b: list[float]) -> None:
    (verdict,) = judge([(Repeats.of(a), Repeats.of(b))])
    for p in (verdict.p, verdict.p_holm, verdict.p_exact):
        assert p is None or 0 <= p <= 1
    assert verdict.word in (CLEAR, LIKELY, NOISE, ONE_RUN, NO_SPREAD)
    assert (verdict.p is None) <= (verdict.word in (ONE_RUN, NO_SPREAD, NOISE))
