"""The past behind one question: what the flight recorder holds, of every process, and the captures."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import inf
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from halotui.fields import FIELDS
from halotui.recording import minutes
from halotui.recording.file import Block, Reader, RecordingError
from halotui.recording.happened import captures, happened
from halotui.recording.minutes import SUFFIX, Minutes, Stretch
from halotui.recording.segments import listed
from halotui.recording.values import values
from halotui.runs import Bucket, Event, Store

FRAMES = 7200.0  # seconds: a longer span is answered by the minute
KEPT = 1000  # blocks of which a field's values are at hand: a pan reads what is new
SLACK = 3600.0  # seconds that a clock may have been put back while a segment was written
STANDING = 86_400.0  # seconds: how long before a view something may have begun that stands in it
_RANK = {field.id: number for number, field in enumerate(FIELDS)}
_Value = dict[str, list[tuple[float, float]]]


class _Segment(NamedTuple):
    path: Path
    began: float  # by its name, Unix seconds
    changed: float  # when it, or what is left of it, was written last
    state: tuple[int, int]  # by which to tell whether it has changed


class RecordedPast:
    """A :class:`runs.Past` over a flight recorder's directory. Its files come and go meanwhile: every answer
    is of what lies there now. ``store`` opens the one whose captures stand among the events."""

    def __init__(self, directory: Path, store: Callable[[], Store] | None = None) -> None:
        self._directory = directory
        self._store = store
        self._known: dict[Path, tuple[tuple[int, int], Minutes | None]] = {}
        self._values: OrderedDict[tuple[Path, int, int, str], _Value] = OrderedDict()
        self._lock = Lock()

    def span(self) -> tuple[float, float] | None:
        with self._lock:
            found = self._segments()
            first = next((m.first for s in found if (m := self._of(s)) and m.digests), None)
            found.sort(key=lambda segment: segment.changed, reverse=True)
            last = next((m.last for s in found if (m := self._of(s)) and m.digests), None)
        return None if first is None or last is None else (first, last)

    def subjects(self, since: float, until: float) -> list[tuple[str, str]]:
        with self._lock:
            pairs = {
                (subject, field)
                for _, kept in self._between(since, until)
                for subject, by_field in kept.columns.items()
                for field in by_field
            }
        return sorted(pairs, key=lambda pair: (_owner(pair[1]), pair[0], _RANK[pair[1]]))

    def series(self, subject: str, field: str, since: float, until: float, buckets: int) -> list[Bucket]:
        stretches: list[Stretch] = []
        with self._lock:
            for path, kept in self._between(since, until):
                fine = self._fine(path, kept, subject, field, since, until)
                stretches.extend(kept.column(subject, field) if fine is None else fine)
        inside = sorted(stretch for stretch in stretches if since <= stretch.time <= until)
        return _bucketed(inside, since, until, max(1, buckets))

    def events(self, since: float, until: float) -> list[Event]:
        with self._lock:
            found = [kept for _, kept in self._between(since - STANDING, until)]
        events = happened(found, captures(self._store, since - STANDING, until))
        return [e for e in events if e.time <= until and (e.until_time or e.time) >= since]

    def _segments(self) -> list[_Segment]:
        """What lies there: the oldest first; of one that has gone, what it left."""
        found: dict[str, _Segment] = {}
        left = [path.with_name(path.name.removesuffix(SUFFIX)) for path in minutes.sidecars(self._directory)]
        for path, file in (
            *((path, path.with_name(path.name + SUFFIX)) for path in left),
            *((path, path) for path in listed(self._directory)),  # the frames are worth more
        ):
            with suppress(OSError, ValueError):
                state = file.stat()
                key = state.st_size, state.st_mtime_ns
                found[path.name] = _Segment(path, minutes.began(path), state.st_mtime, key)
        gone = self._known.keys() - {segment.path for segment in found.values()}
        for path in gone:
            del self._known[path]
        return [found[name] for name in sorted(found)]

    def _of(self, segment: _Segment) -> Minutes | None:
        known = self._known.get(segment.path)
        if known is None or known[0] != segment.state:
            known = self._known[segment.path] = segment.state, minutes.of(segment.path)
        return known[1]

    def _between(self, since: float, until: float) -> list[tuple[Path, Minutes]]:
        """Those that have anything in a span, the oldest first."""
        return [
            (segment.path, kept)
            for segment in self._segments()
            if segment.began - SLACK <= until
            and segment.changed + SLACK >= since
            and (kept := self._of(segment)) is not None
            and kept.first <= until
            and kept.last >= since
        ]

    def _fine(
        self, path: Path, kept: Minutes, subject: str, field: str, since: float, until: float
    ) -> list[Stretch] | None:
        """By the frame; None where that would take too long, or the frames have gone."""
        if until - since > FRAMES:
            return None
        found: list[Stretch] = []
        try:
            with Reader(path) as reader:
                for block in kept.blocks:
                    if block.digest.frames and block.digest.first <= until and block.digest.last >= since:
                        of = self._block(reader, block, field).get(subject, ())
                        found.extend(Stretch(time, value, value, value, 1) for time, value in of)
        except (RecordingError, OSError):
            return None
        return found

    def _block(self, reader: Reader, block: Block, field: str) -> _Value:
        key = reader.path, block.offset, block.end, field
        kept = self._values.pop(key, None)
        self._values[key] = kept = values(reader, block, field) if kept is None else kept
        if len(self._values) > KEPT:
            self._values.popitem(last=False)
        return kept


def _owner(field: str) -> int:
    return _RANK[next(id_ for id_ in _RANK if id_.partition(".")[0] == field.partition(".")[0])]


def _bucketed(stretches: list[Stretch], since: float, until: float, buckets: int) -> list[Bucket]:
    """As they are where there is room for each, else put together: least and most stay what they were."""
    if len(stretches) <= buckets:
        return [Bucket(s.time, s.least, s.mean, s.most) for s in stretches]
    width = (until - since) / buckets
    cells: dict[int, list[Stretch]] = {}
    for stretch in stretches:
        cells.setdefault(min(buckets - 1, int((stretch.time - since) / width)), []).append(stretch)
    return [_joined(since + number * width, cells[number]) for number in sorted(cells)]


def _joined(begin: float, stretches: Iterable[Stretch]) -> Bucket:
    least, most, total, frames = inf, -inf, 0.0, 0
    for stretch in stretches:
        least, most = min(least, stretch.least), max(most, stretch.most)
        total, frames = total + stretch.mean * stretch.frames, frames + stretch.frames
    return Bucket(begin, least, total / frames, most)
