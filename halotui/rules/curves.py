"""How a speed follows depth, streams and length of prompt: what a band still leaves room for.

The time that a token takes grows in a line with each of them: with the depth, as the KV cache is read; with
the streams, as they share; with one over the prompt's length, as a batch costs something whatever its size.
The line is this model's own, through its baselines of other bands. And each draft that is accepted saves a
pass: how many are is the text's doing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from statistics import median
from typing import NamedTuple

from msgspec.structs import replace

from halotui.ledger import Baseline, Conditions, Key, Metric
from halotui.rules.recent import Group, Measured
from halotui.rules.speculation import COVERAGE_FALLEN

LEAST = 8  # observations of a baseline that gives a point of a line

Line = tuple[float, float]  # seconds of a token at 0, and more of them a unit


class Mover(NamedTuple):
    """Something that changes a speed and is no fault."""

    condition: str  # of Conditions
    band: str  # of Key
    grows: Callable[[float], float]  # what the time of a token follows


DEPTH = Mover("depth_tokens", "depth", float)
STREAMS = Mover("streams", "streams", float)
PROMPT = Mover("prompt_tokens", "prompt", lambda tokens: 1 / max(1.0, tokens))
MOVERS = (DEPTH, STREAMS, PROMPT)

LEAST_PASSES = 0.02  # of a token: a share of 100 % is rounded

AT_MOST: Line = (0.0, 1.0)  # where no line is known: all of a token's time follows


def own_line(mover: Mover, key: Key, kin: Sequence[Baseline]) -> Line | None:
    """Through the baselines that differ from ``key`` in this band alone; None: they are not enough."""
    points = []
    for one in kin:
        if len(one.observations) >= LEAST and one.median > 0 and _but_for(mover, one.key, key):
            x = one.usual(mover.condition)
            if x is not None:
                points.append((mover.grows(x), 1 / one.median))
    return _line(points)


def _but_for(mover: Mover, one: Key, other: Key) -> bool:
    return one.setup == other.setup and all(
        getattr(one, band) == getattr(other, band) for _, band, _ in MOVERS if band != mover.band
    )


def _line(points: Sequence[tuple[float, float]]) -> Line | None:
    """By least squares; never one that falls or begins below 0."""
    if len({x for x, _ in points}) < 2:
        return None
    n = len(points)
    x_mean, y_mean = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    slope = sum((x - x_mean) * (y - y_mean) for x, y in points) / sum((x - x_mean) ** 2 for x, _ in points)
    slope = max(0.0, slope)
    start = y_mean - slope * x_mean
    if start < 0:
        return 0.0, y_mean / x_mean
    return start, slope


def expected(mover: Mover, line: Line, now: float | None, usual: float | None) -> float:
    """The speed that it alone would leave, as a share of the usual one; 1 where nothing grew."""
    if now is None or usual is None:
        return 1.0
    start, slope = line
    was, is_ = (start + slope * mover.grows(x) for x in (usual, now))
    return min(1.0, was / is_) if is_ > 0 else 1.0


def passes(conditions: Conditions) -> float | None:
    """Of the model, for a token: less than one where drafts are accepted; None where nothing tells."""
    covered, accepted = conditions.draft_coverage_ratio, conditions.draft_acceptance_ratio
    if covered is None or (accepted is None and covered):
        return None
    return max(LEAST_PASSES, 1 - covered * (accepted or 0.0))


def _by_drafts(group: Group, usual: Baseline) -> list[float]:
    """The speed that other drafts alone would leave, likewise, of each number. N-gram types draft what the
    text offers; a draft model that all but ceased to draft is at fault, and explains nothing away."""
    known = [one for each in usual.observations if (one := passes(each.conditions)) is not None]
    covered = usual.usual("draft_coverage_ratio")
    if not known or not covered or usual.key.metric is not Metric.DECODE:
        return [1.0] * len(group.measured)
    least = 0.0 if "ngram" in usual.key.setup.speculation else COVERAGE_FALLEN * covered
    was = median(known)
    return [
        min(1.0, was / now)
        if (now := passes(one.conditions)) and (one.conditions.draft_coverage_ratio or 0.0) >= least
        else 1.0
        for one in group.measured
    ]


def with_usual_drafts(usual: Baseline) -> list[float]:
    """Its values as with the drafts of its median: what the scatter of texts adds is out."""
    if usual.key.metric is not Metric.DECODE:
        return list(usual.values)
    taken = [passes(one.conditions) for one in usual.observations]
    known = [one for one in taken if one is not None]
    was = median(known) if known else 1.0
    return [value * (own or was) / was for value, own in zip(usual.values, taken, strict=True)]


def _by_others(one: Measured, usual: Baseline, line: Line | None) -> float:
    """The speed that the context of others alone leaves. Nobody keeps how deep these usually are: with a line
    none is thought usual; without one, where depth may be all, as much as its own is."""
    own = one.conditions.depth_tokens
    if not own or not one.beside:
        return 1.0
    if line is not None:
        return expected(DEPTH, line, own + one.beside, own)
    beside = max(0.0, (usual.usual("streams") or 1.0) - 1) * (usual.usual("depth_tokens") or 0.0)
    return expected(DEPTH, AT_MOST, own + one.beside, own + beside)


def as_usual(group: Group, usual: Baseline, kin: Sequence[Baseline]) -> list[float]:
    """The values as they would have been at the usual depth, streams and prompt, with the usual drafts: what
    these explain is out. Where no line is known they are thought to explain as much as they can."""
    lines = [
        (mover, own_line(mover, usual.key, kin) or AT_MOST, usual.usual(mover.condition))
        for mover in MOVERS
        if getattr(usual.key, mover.band)
    ]
    # where several are served, depths of all make one number: only who is alone shows what a token costs
    alone = own_line(DEPTH, replace(usual.key, streams="1"), kin)
    return [
        one.value
        / drafts
        / _by_others(one, usual, alone)
        / prod(expected(m, line, getattr(one.conditions, m.condition), x) for m, line, x in lines)
        for one, drafts in zip(group.measured, _by_drafts(group, usual), strict=True)
    ]
