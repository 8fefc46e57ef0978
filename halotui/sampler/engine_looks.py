"""The last looks at one engine, and what changed between them: rates, medians, shares."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from halotui.collectors.engine_reading import Reading
from halotui.collectors.process_use import Use
from halotui.model import Metrics

WINDOW = 60  # looks that the median of TTFT and the draft figures are taken over: five minutes
CORES = 0.2  # of a CPU: a runner at rest takes none, one at work spins on several
GPU = 0.02  # of the GPU's time

Uses = dict[int, Use]  # by pid


class Look(Struct, frozen=True):
    at: float  # monotonic seconds
    reading: Reading
    uses: Uses


class Looks:
    """Of one process: whoever may ask another one forgets them."""

    def __init__(self) -> None:
        self._looks: deque[Look] = deque(maxlen=WINDOW)

    @property
    def last(self) -> Look | None:
        return self._looks[-1] if self._looks else None

    def add(self, look: Look) -> None:
        self._looks.append(look)

    def forget(self) -> None:
        self._looks.clear()

    def computes(self) -> bool | None:
        """Whether its processes had the CPU or the GPU between the last two looks; None: not known."""
        if len(self._looks) < 2:
            return None
        before, after = self._looks[-2], self._looks[-1]
        spent = after.at - before.at
        if not after.uses or after.uses.keys() != before.uses.keys() or spent <= 0:
            return None
        shares = [
            (old, new)
            for old, new in ((before.uses[pid], use) for pid, use in after.uses.items())
            if old.started == new.started
        ]
        cores = sum(new.cpu_seconds - old.cpu_seconds for old, new in shares) / spent
        gpu = sum((new.gpu_seconds or 0.0) - (old.gpu_seconds or 0.0) for old, new in shares) / spent
        return cores >= CORES or gpu >= GPU

    def rate(self, counter: str) -> float | None:
        """Mean over the last two looks, tokens per second; None at rest and when the counter fell."""
        if len(self._looks) < 2:
            return None
        before, after = self._looks[-2], self._looks[-1]
        grown = _grown(before.reading.metrics, after.reading.metrics, counter)
        if grown is None or (grown == 0 and not after.reading.busy):
            return None
        return grown / (after.at - before.at) if after.at > before.at else None

    def ttft(self) -> float | None:
        """The median over the window; over all requests since its start when the window saw none."""
        if not self._looks:
            return None
        last = self._looks[-1].reading.ttft_buckets
        first = dict(self._looks[0].reading.ttft_buckets)
        fresh = tuple((bound, count - first.get(bound, 0.0)) for bound, count in last)
        return median(fresh) or median(last)

    def drafts(self) -> dict[str, Any]:
        """As for llama-server: over the window, else since its start."""
        if not self._looks or self._looks[-1].reading.metrics.draft_tokens_total is None:
            return {}
        first, last = self._looks[0].reading.metrics, self._looks[-1].reading.metrics
        if not _grown(first, last, "draft_tokens_total"):
            first = Metrics()
        drafted, accepted, generated, drafts = (
            _grown(first, last, key) or 0.0
            for key in (
                "draft_tokens_total",
                "draft_accepted_total",
                "generation_tokens_total",
                "draft_steps_total",
            )
        )
        early = first.draft_accepted_per_position
        places = (
            count - (early[place] if place < len(early) else 0.0)
            for place, count in enumerate(last.draft_accepted_per_position)
        )
        return {
            "speculative": True,
            "draft_acceptance_ratio": accepted / drafted if drafted else None,
            "draft_coverage_ratio": drafted / generated if generated else None,
            "draft_mean_tokens": 1 + accepted / drafts if drafts else None,
            "draft_gained_tokens": whole(last.draft_accepted_total),
            "draft_accepted_per_position": tuple(place / drafts for place in places) if drafts else (),
        }


def median(buckets: Sequence[tuple[float, float]]) -> float | None:
    """Of a cumulative histogram, even within its bucket, as Prometheus' histogram_quantile has it.

    ``buckets``: upper bound and count up to it, ascending. Past the last finite bound it is that bound.
    """
    if not buckets or buckets[-1][1] <= 0:
        return None
    half, low, below = buckets[-1][1] / 2, 0.0, 0.0
    for bound, count in buckets:
        if count >= half:
            if bound == float("inf"):
                return low or None
            inside = (half - below) / (count - below) if count > below else 1.0
            return low + (bound - low) * inside
        low, below = bound, count
    return None


def _grown(before: Metrics, after: Metrics, counter: str) -> float | None:
    """None when it is not known, or fell: another process counts."""
    new, old = getattr(after, counter), getattr(before, counter)
    if new is None:
        return None
    grown = float(new - (old or 0.0))
    return grown if grown >= 0 else None


def whole(number: float | None) -> int | None:
    return int(number) if number is not None else None
