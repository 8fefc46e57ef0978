"""Changes are found, and noise is not: counted over many draws."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from random import Random

import pytest

from halotui.baselines.comparing import CLEAR, LEAST, NOISE, Change, compare, mann_whitney

USUAL = 40.0  # tokens/s
DRAWS = 2000


def draw(random: Random, count: int, centre: float = USUAL, outliers: float = 0.0) -> list[float]:
    """3 % of noise; of ``outliers``, a share, each is 25 % slower."""
    return [
        random.gauss(centre, 0.03 * centre) * (0.75 if random.random() < outliers else 1.0)
        for _ in range(count)
    ]


def alarms(centre: float, outliers: float) -> Iterator[bool]:
    random = Random(7)
    for _ in range(DRAWS):
        change = compare(draw(random, 8, centre, outliers), draw(random, 20, outliers=outliers))
        assert change is not None
        yield change.p < 0.01 and change.ratio < 0.85


@pytest.mark.parametrize("outliers", [0.0, 0.1])
def test_noise_is_no_change(outliers: float) -> None:
    assert sum(alarms(USUAL, outliers)) < DRAWS / 1000


@pytest.mark.parametrize("outliers", [0.0, 0.1, 0.25])
def test_a_quarter_less_is_found(outliers: float) -> None:
    assert sum(alarms(0.75 * USUAL, outliers)) > 0.95 * DRAWS


def test_p_is_about_what_it_says() -> None:
    random = Random(1)
    below = sum(mann_whitney(draw(random, 8), draw(random, 20)) < 0.05 for _ in range(DRAWS))
    assert 0.03 < below / DRAWS < 0.06


def test_p_by_hand() -> None:
    """Ten values apart: U = 0, mean 12, variance 4·6·11/12 = 22."""
    assert mann_whitney([1, 2, 3, 4], [5, 6, 7, 8, 9, 10]) == pytest.approx(0.0071, abs=1e-4)
    assert mann_whitney([5, 6, 7, 8, 9, 10], [1, 2, 3, 4]) > 0.99
    assert mann_whitney([3] * 9, [3] * 9) == 1.0


def test_what_a_change_says() -> None:
    usual = [40.0, 41, 39, 40, 42, 38, 40, 41]
    change = compare([30.0, 31, 29, 30, 32, 28, 30, 31, 30], usual)
    assert isinstance(change, Change)
    assert (change.ratio, change.recent, change.usual) == (0.75, 30, 40)
    assert (change.recent_count, change.usual_count) == (9, 8)
    assert change.z == pytest.approx(-10 / 1.4826)
    assert change.word == CLEAR
    rise = compare(usual, [30.0] * 8)
    assert rise is not None and rise.ratio > 1.3 and rise.z == inf and rise.p < 0.01


def test_little_or_nothing_is_noise() -> None:
    same = compare([40.0] * 8, [40.0] * 8)
    assert same is not None and (same.word, same.z, same.ratio) == (NOISE, 0.0, 1.0)
    tiny = compare([39.9] * 8, [40.0] * 30)  # as sure as can be, and of no account
    assert tiny is not None and tiny.p < 0.01 and tiny.word == NOISE
    zero = compare([0.0] * 8, [0.0] * 8)
    assert zero is not None and zero.ratio == 1.0


def test_too_few_say_nothing() -> None:
    assert compare([30.0] * (LEAST - 1), [40.0] * 64) is None
    assert compare([30.0] * 64, [40.0] * (LEAST - 1)) is None
