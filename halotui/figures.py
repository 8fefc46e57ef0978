"""What many requests say together: percentiles, histograms, and those that one wants to see.

Pure: samples in, numbers out. The screen and ``halotui requests`` ask here, so they cannot disagree.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from operator import eq, ge, gt, le, lt
from typing import Any

from msgspec import Struct

from halotui.history import Sample
from halotui.model import End, Request

QUANTITIES = ("ttft_seconds", "prompt_tokens_per_second", "generation_tokens_per_second")
LEAST_P95, LEAST_P99 = 20, 100  # values below which a percentile would only be the largest of them
LOG_RANGE = 20  # largest ÷ smallest from which on bins are spaced by their logarithm

# A word to sort and filter by -> the key of a Request; "time" is when it ended.
SORTS = {
    "time": "ended_time",
    "slot": "slot",
    "task": "task",
    "prompt": "prompt_tokens",
    "cached": "cached_tokens",
    "prefill": "prompt_tokens_per_second",
    "ttft": "ttft_seconds",
    "generated": "generation_tokens",
    "decode": "generation_tokens_per_second",
    "drafted": "draft_tokens",
    "accepted": "draft_accepted_tokens",
    "draft": "draft_acceptance_ratio",
    "cover": "draft_coverage_ratio",
    "length": "draft_mean_tokens",
    "depth": "context_tokens",
    "end": "end",
    "wall": "wall_seconds",
}


class Spread(Struct, frozen=True):
    """Where values lie, by the nearest rank: each is a value that was there. None: too few for it."""

    count: int
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    least: float | None = None
    most: float | None = None


class Figures(Struct, frozen=True):
    """Of all requests of a window. ``by_end`` leaves out those whose end nobody saw."""

    count: int
    by_end: dict[End, int]
    spreads: dict[str, Spread]  # by the keys of QUANTITIES


class Bin(Struct, frozen=True):
    """``low`` ≤ value < ``high``; the last bin holds its ``high`` too."""

    low: float
    high: float
    count: int


def spread(values: Iterable[float | None]) -> Spread:
    """Percentiles of what is known."""
    known = sorted(_known(values))
    count = len(known)
    if not count:
        return Spread(0)

    def rank(percent: int) -> float:
        return known[-(-percent * count // 100) - 1]  # the ceiling, in whole numbers

    return Spread(
        count,
        rank(50),
        rank(95) if count >= LEAST_P95 else None,
        rank(99) if count >= LEAST_P99 else None,
        known[0],
        known[-1],
    )


def figures(samples: Sequence[Sample], now: float, window: float | None) -> Figures:
    """Of the last ``window`` seconds before ``now``; None: of all."""
    since = float("-inf") if window is None else now - window
    requests = [sample.request for sample in samples if sample.time >= since and _single(sample.request)]
    ends = [request.end for request in requests]
    return Figures(
        len(requests),
        {end: ends.count(end) for end in End if end in ends},
        {key: spread(getattr(request, key) for request in requests) for key in QUANTITIES},
    )


def histogram(values: Iterable[float | None], bins: int = 12) -> tuple[Bin, ...]:
    """Bins from the smallest to the largest value; one when all are the same, none without values."""
    known = _known(values)
    if not known:
        return ()
    low, high = min(known), max(known)
    steps = [step / bins for step in range(1, bins)]
    if low > 0 and high / low > LOG_RANGE:
        inner = [low * (high / low) ** step for step in steps]
    else:
        inner = [low + (high - low) * step for step in steps]
    edges = sorted({low, high, *(edge for edge in inner if low < edge < high)})
    if len(edges) == 1:
        return (Bin(low, high, len(known)),)
    counts = [0] * (len(edges) - 1)
    for value in known:
        counts[min(bisect_right(edges, value), len(counts)) - 1] += 1
    return tuple(map(Bin, edges, edges[1:], counts))


def chosen(
    samples: Iterable[Sample], *, sort: str = "time", descending: bool = False, words: str = ""
) -> list[Sample]:
    """Those that ``words`` hold for, by a key of SORTS; what is not known comes last either way."""
    kept = list(filter(matching(words), samples))
    known = [sample for sample in kept if _value(sample, sort) is not None]
    unknown = [sample for sample in kept if _value(sample, sort) is None]
    known.sort(key=lambda sample: _value(sample, sort))
    if descending:  # equals too: the newest first
        known.reverse()
        unknown.reverse()
    return known + unknown


def matching(words: str) -> Callable[[Sample], bool]:
    """Whether all words hold for a request. Sums of several, out of counters, are none.

    A word is a comparison (``ttft>2``, ``slot=0``, ``draft<50%``, ``wall>500ms``, ``prompt>=4k``), the number
    of a task, or a piece of the end or its reason. What :func:`trouble` complains of hides nothing.
    """
    tests = [test for word in words.split() if (test := _test(word))]
    return lambda sample: _single(sample.request) and all(test(sample) for test in tests)


def trouble(words: str) -> str | None:
    """The first word that cannot be read, and why; None when all can."""
    for word in words.split():
        said = _COMPARISON.fullmatch(word)
        if said is None:
            continue
        name, operator, value = said.groups()
        if name not in SORTS:
            return f"'{word}': there is no '{name}', but {', '.join(SORTS)}"
        if name == "end" and (operator != "=" or value.lower() not in set(End)):
            return f"'{word}': end= is one of {', '.join(End)}"
        if name != "end" and _number(value) is None:
            return f"'{word}': '{value}' is no number"
    return None


_COMPARISON = re.compile(r"(\w*)(<=|>=|<|>|=)(.*)")
_NUMBER = re.compile(r"(\d{1,12}(?:\.\d{0,9})?|\.\d{1,9})(ms|s|k|%)?")
_OPERATORS: dict[str, Callable[[float, float], bool]] = {"<": lt, "<=": le, "=": eq, ">": gt, ">=": ge}
_UNITS = {None: 1.0, "s": 1.0, "ms": 1e-3, "k": 1e3, "%": 1e-2}
_Test = Callable[[Sample], bool]


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and isfinite(value)]


def _single(request: Request) -> bool:
    """Counters make one of several: they count in no list of requests."""
    return request.source != "metrics"


def _value(sample: Sample, sort: str) -> Any:
    return sample.time if sort == "time" else getattr(sample.request, SORTS[sort])


def _number(text: str) -> float | None:
    said = _NUMBER.fullmatch(text)
    return float(said[1]) * _UNITS[said[2]] if said else None


def _test(word: str) -> _Test | None:
    """None when it says nothing, or only half."""
    said = _COMPARISON.fullmatch(word)
    if said is None:
        return lambda sample: _mentions(sample.request, word.lower())
    if trouble(word):
        return None
    name, operator, text = said.groups()
    if name == "end":
        return lambda sample: sample.request.end == text.lower()
    compare, wanted = _OPERATORS[operator], _number(text)

    def test(sample: Sample) -> bool:
        value = _value(sample, name)
        return isinstance(value, (int, float)) and wanted is not None and compare(value, wanted)

    return test


def _mentions(request: Request, word: str) -> bool:
    texts = (request.end or "", (request.reason or "").lower())
    return word == str(request.task) or any(word in text for text in texts)
