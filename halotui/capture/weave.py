"""The rows of several sources, each from its own thread, as one table in order of time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain, groupby

from halotui.capture.probe import NAN
from halotui.capture.source import Source
from halotui.runs import Samples


class Weaver:
    """Gives out each beat once: when every source that keeps the full pace has come past it, or is stuck.

    Where a source has no row for a beat, its columns are NaN.
    """

    def __init__(self) -> None:
        self._given = -1
        self._until = 0.0  # seconds of that beat

    def weave(self, sources: Sequence[Source], now: float, *, all_: bool = False) -> Samples | None:
        """What is whole by ``now`` (monotonic); with ``all_`` whatever there is. None: nothing. Nothing waits
        for sources that leave out beats."""
        pace = [source.beat for source in sources if source.every == 1 and not source.stuck(now)]
        until = float("inf") if all_ else min(pace, default=-1)
        seconds: dict[int, float] = {}
        taken = [self._take(source, until, seconds) for source in sources]
        if not seconds:
            return None
        beats = sorted(seconds)
        self._given = beats[-1]
        times = tuple(accumulate((seconds[beat] for beat in beats), max, initial=self._until))[1:]
        self._until = times[-1]
        values: list[tuple[float, ...]] = []
        for source, rows in zip(sources, taken, strict=True):
            blank = (NAN,) * len(source.columns)
            values += zip(*(rows.get(beat, blank) for beat in beats), strict=True)
        return Samples(
            columns=tuple(column for source in sources for column in source.columns),
            seconds=times,
            values=tuple(values),
        )

    def _take(self, source: Source, until: float, seconds: dict[int, float]) -> dict[int, Sequence[float]]:
        """The values by beat. A row that comes after its beat was given out belongs to the next."""
        rows, taken = source.rows, {}
        while rows and rows[0][0] <= until:
            beat, time, raw = rows.popleft()
            beat = max(beat, self._given + 1)
            if raw is not None:
                taken[beat] = source.understand(raw)
            seconds.setdefault(beat, time)
        return taken


def joined(parts: Sequence[Samples]) -> list[Samples]:
    """The same rows in as few pieces as their columns allow."""
    whole: list[Samples] = []
    for columns, group in groupby(parts, lambda part: part.columns):
        pieces = list(group)
        rows = (
            tuple(chain.from_iterable(values)) for values in zip(*(p.values for p in pieces), strict=True)
        )
        seconds = tuple(chain.from_iterable(piece.seconds for piece in pieces))
        whole.append(Samples(columns=columns, seconds=seconds, values=tuple(rows)))
    return whole
