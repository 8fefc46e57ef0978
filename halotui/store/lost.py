"""A run whose owner died: what can still be said of it, from the samples that are on the disk."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import pairwise
from statistics import median

import msgspec

from halotui.runs import Run, Samples, Status, Summary

WENT_DOWN = "the box went down"  # how the reason begins when the boot is another one
_KILLED = "halotui ended without a word"
_NOTE = "put together from the stored samples: what single processes held is not known"


def ended(run: Run, blocks: Iterable[tuple[float, Samples]], *, rebooted: bool) -> Run:
    """The run as LOST. ``blocks``: when each was stored (Unix seconds), and its samples, in order."""
    summary, last = _summary(blocks)
    if not rebooted:
        reason = _KILLED
    elif last is None:
        reason = f"{WENT_DOWN} before the first sample"
    else:
        reason = f"{WENT_DOWN} at about {time.strftime('%H:%M:%S', time.localtime(last))}"
    return msgspec.structs.replace(
        run,
        status=Status.LOST,
        reason=reason,
        summary=summary or run.summary,
        seconds=summary.seconds if summary else run.seconds,
    )


def _summary(blocks: Iterable[tuple[float, Samples]]) -> tuple[Summary | None, float | None]:
    """Of all of them, and when the last was stored. The rate is told by the first block, the hour of the
    start by when that was stored: a moment after its last sample."""
    from halotui.summing import Sums

    sums = None
    stored = None
    for stored, samples in blocks:
        if not samples.seconds:
            continue
        if sums is None:
            sums = Sums(_hertz(samples.seconds), stored - samples.seconds[-1])
        sums.add(samples)
    if sums is None:
        return None, stored
    summary = sums.summary()
    return msgspec.structs.replace(summary, notes=(*summary.notes, _NOTE)), stored


def _hertz(seconds: tuple[float, ...]) -> float:
    gaps = [after - before for before, after in pairwise(seconds) if after > before]
    return round(1 / median(gaps), 1) if gaps else 1.0
