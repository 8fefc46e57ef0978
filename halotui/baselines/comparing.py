"""Whether what is measured of late differs from what is usual, honest about noise and outliers.

Medians and ranks alone: one odd request moves neither. The rank test assumes that requests are independent,
which those of one minute hardly are: its p is a hurdle, and the size of the change is another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import copysign, erfc, inf, sqrt
from statistics import median
from typing import NamedTuple

CLEAR, LIKELY, NOISE = "clear", "likely", "≈ noise"  # the words of benching.significance
CLEAR_P, LIKELY_P = 0.01, 0.05
LEAST = 8  # of either side: from here on the normal approximation of U is good
LEAST_CHANGE = 0.01  # of the usual: below, nobody cares
SCALE = 1.4826  # MAD of normal noise times this is its standard deviation


class Change(NamedTuple):
    """From what was usual to what is measured of late."""

    ratio: float  # of the medians; inf when the usual one is 0
    p: float  # one-sided, of a change in that direction by chance
    z: float  # between the medians, in robust standard deviations of the usual; inf when it has no spread
    word: str  # clear | likely | ≈ noise
    recent: float  # medians
    usual: float
    recent_count: int
    usual_count: int


def compare(recent: Sequence[float], usual: Sequence[float]) -> Change | None:
    """None when there are too few of either to say anything."""
    if len(recent) < LEAST or len(usual) < LEAST:
        return None
    now, before = median(recent), median(usual)
    p = mann_whitney(recent, usual) if now < before else mann_whitney(usual, recent)
    ratio = now / before if before else (1.0 if now == before else inf)
    spread = SCALE * median(abs(value - before) for value in usual)
    z = (now - before) / spread if spread else copysign(inf, now - before) if now != before else 0.0
    return Change(ratio, p, z, _word(p, ratio), now, before, len(recent), len(usual))


def mann_whitney(low: Sequence[float], high: Sequence[float]) -> float:
    """One-sided p that ``low`` lies as far below ``high`` by chance alone.

    The normal approximation of U with the correction for ties and for continuity: Mann and Whitney 1947;
    Hollander, Wolfe, Chicken, Nonparametric Statistical Methods (2013), 4.1.
    """
    m, n = len(low), len(high)
    counts = Counter((*low, *high))
    ranks: dict[float, float] = {}
    below = 0
    for value in sorted(counts):
        ranks[value] = below + (counts[value] + 1) / 2  # of a tie, the middle one
        below += counts[value]
    u = sum(ranks[value] for value in low) - m * (m + 1) / 2
    total = m + n
    ties = sum(count**3 - count for count in counts.values())
    variance = m * n / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0:  # all are the same
        return 1.0
    return 0.5 * erfc(-(u - m * n / 2 + 0.5) / sqrt(2 * variance))


def _word(p: float, ratio: float) -> str:
    if p >= LIKELY_P or abs(ratio - 1) < LEAST_CHANGE:
        return NOISE
    return CLEAR if p < CLEAR_P else LIKELY
