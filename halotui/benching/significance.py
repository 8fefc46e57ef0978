"""Whether two sets of repeats differ, in a word.

Welch's t-test, from the repeats or from mean ± standard deviation alone: so every format of llama-bench gives
the same answer. Its p is corrected for the number of rows in a table (Holm): of twenty rows one would be
"likely" by chance. Where the repeats themselves are known, an exact permutation test, which assumes no normal
distribution, may veto.

All of it speaks of the repeats within a run. What differs from run to run (heat, other load, where the memory
came to lie) only several runs can show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean, stdev
from typing import NamedTuple

CLEAR, LIKELY, NOISE = "clear", "likely", "≈ noise"
ONE_RUN, NO_SPREAD = "one run", "no spread"  # why there is none of those words
CLEAR_P, LIKELY_P = 0.01, 0.05
LEAST_CHANGE = 0.01  # of the first: below, nobody cares
REPEATS = 5  # llama-bench's default, where nothing tells
_SPLITS = 20, 20_000  # how many a permutation test needs to say anything, and may have at most


class Repeats(NamedTuple):
    """Of one test on one side. ``samples`` may be empty, then ``times`` may be assumed."""

    mean: float
    spread: float | None  # standard deviation
    times: int
    samples: tuple[float, ...] = ()

    @classmethod
    def of(cls, samples: Sequence[float]) -> Repeats:
        spread = stdev(samples) if len(samples) > 1 else None
        return cls(fmean(samples), spread, len(samples), tuple(samples))


class Verdict(NamedTuple):
    word: str
    p: float | None = None  # Welch's, two-sided
    p_holm: float | None = None  # the same, corrected for the rows of the table
    p_exact: float | None = None  # of the permutation test


def judge(pairs: Sequence[tuple[Repeats, Repeats]]) -> list[Verdict]:
    """A verdict for each pair, in the light of all of them."""
    silent = [_silence(*pair) for pair in pairs]
    raw = [None if silence else welch(*pair) for silence, pair in zip(silent, pairs, strict=True)]
    corrected = holm(raw)
    return [
        Verdict(silence) if silence else _verdict(pair, p, p_holm)
        for pair, silence, p, p_holm in zip(pairs, silent, raw, corrected, strict=True)
    ]


def _silence(a: Repeats, b: Repeats) -> str:
    if a.times < 2 or b.times < 2:
        return ONE_RUN
    return "" if a.spread and b.spread else NO_SPREAD  # not told; or 0.00: one run, or rounded away


def _verdict(pair: tuple[Repeats, Repeats], p: float | None, p_holm: float | None) -> Verdict:
    a, b = pair
    exact = permutation(a.samples, b.samples)
    if p_holm is None or p_holm >= LIKELY_P or (exact is not None and exact >= LIKELY_P):
        word = NOISE
    elif p_holm < CLEAR_P and abs(b.mean - a.mean) > LEAST_CHANGE * abs(a.mean):
        word = CLEAR
    else:
        word = LIKELY
    return Verdict(word, p, p_holm, exact)


def welch(a: Repeats, b: Repeats) -> float | None:
    """Two-sided p of Welch's t-test; None where a side has no spread."""
    if not a.spread or not b.spread or a.times < 2 or b.times < 2:
        return None
    va, vb = a.spread**2 / a.times, b.spread**2 / b.times
    error = va + vb
    if not error:  # so small that its square is 0
        return None
    freedom = 1 / ((va / error) ** 2 / (a.times - 1) + (vb / error) ** 2 / (b.times - 1))
    return two_sided((a.mean - b.mean) / math.sqrt(error), freedom)


def permutation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Exact two-sided p of the difference of means: the share of all ways to deal the repeats out anew that
    part them at least as far. None where there are too few ways to say anything, or too many to count."""
    ways = math.comb(len(a) + len(b), len(a)) if a and b else 0
    if not _SPLITS[0] <= ways <= _SPLITS[1] or 2 / ways >= LIKELY_P:
        return None
    both = (*a, *b)
    whole = math.fsum(both)

    def gap(of_a: float) -> float:
        return abs(of_a / len(a) - (whole - of_a) / len(b))

    far = gap(math.fsum(a)) * (1 - 1e-9)  # sums in another order round otherwise
    return sum(gap(sum(part)) >= far for part in combinations(both, len(a))) / ways


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p corrected for how many there are, by Holm's step-down; None stays."""
    known = sorted((p, at) for at, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    least = 0.0
    for rank, (p, at) in enumerate(known):
        least = max(least, min(1.0, p * (len(known) - rank)))
        corrected[at] = least
    return corrected


def two_sided(t: float, freedom: float) -> float:
    """P(abs(T) ≥ abs(t)) of Student's t-distribution."""
    if math.isinf(t):
        return 0.0
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (Numerical Recipes, 6.4)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # there the fraction of the mirror image converges fast
        return 1 - incomplete_beta(b, a, 1 - x)
    front = a * math.log(x) + b * math.log1p(-x) - math.log(a)
    front -= math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 300):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            c, d = _away(1 + term / c), 1 / _away(1 + term * d)
            fraction *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return min(1.0, math.exp(front) * fraction)


def _away(value: float) -> float:
    """From zero: it will be divided by."""
    return value if abs(value) > 1e-300 else 1e-300
