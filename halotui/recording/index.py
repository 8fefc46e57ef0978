"""A recording as one row of frames, whatever number of files it lies in: by number, by time, by event."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from statistics import median
from threading import Lock

import msgspec
from msgspec import Struct

from halotui import format
from halotui.model import Frame
from halotui.recording.digest import Shown, is_gap
from halotui.recording.file import Block, Reader, RecordingError
from halotui.recording.frames import frame_of
from halotui.recording.reader import FRAME
from halotui.runs import Event
from halotui.safe import clean

KEPT = 4  # decoded blocks at hand: playing and small steps read the disk once a block


class _Place(Struct, frozen=True):
    reader: Reader
    block: Block


class Recording:
    """Raises RecordingError when any of the files is none, or when there is no frame in them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._readers: list[Reader] = []
        self._kept: OrderedDict[int, list[Frame]] = OrderedDict()
        self._lock = Lock()  # a seek may read ahead of the one that is under way
        try:
            self._readers.extend(Reader(path).scan() for path in paths)
        except BaseException:
            self.close()
            raise
        self._readers.sort(key=lambda reader: reader.blocks[0].digest.first if reader.blocks else 0.0)
        places = [_Place(reader, block) for reader in self._readers for block in reader.blocks]
        self.events: Sequence[Event] = _events([place.block for place in places])
        self._places = [place for place in places if place.block.digest.frames]
        if not self._places:
            self.close()
            raise RecordingError(f"{', '.join(map(str, paths))}: holds no frame")
        digests = [place.block.digest for place in self._places]
        self._ends = list(accumulate(digest.frames for digest in digests))
        self._times = [digest.first for digest in digests]
        self.frames = self._ends[-1]
        self.begin = min(self._times)
        self.end = max(digest.last for digest in digests)
        steps = [(d.last - d.first) / (d.frames - 1) for d in digests if d.frames > 1 and not d.gaps]
        self.interval = max(0.05, median(steps)) if steps else 1.0  # between two frames, as a rule
        self.gaps = frozenset(event.time for event in self.events if event.kind == "gap")
        last = self._readers[-1]
        self.cut_off, self.live = last.cut_off, last.live
        self.damaged = any(reader.damaged for reader in self._readers)
        self.size = sum(reader.size for reader in self._readers)
        header = next((reader.header for reader in self._readers if reader.header), None)
        self.host = header.host if header else ""
        self.boot = header.boot if header else ""

    @property
    def blocks(self) -> list[Block]:
        """In order; each knows what is in it without being read."""
        return [place.block for place in self._places]

    def close(self) -> None:
        for reader in self._readers:
            reader.close()

    def frame(self, number: int) -> Frame:
        """Counted from 0. Raises RecordingError, OSError."""
        block = bisect_right(self._ends, number)
        return self._frames(block)[number - self._start(block)]

    def at(self, time: float) -> int:
        """The number of the last frame at or before that time; of the earliest one, before all."""
        before = [(first, number) for number, first in enumerate(self._times) if first <= time]
        if not before:
            return self._start(self._times.index(self.begin))
        block = max(before)[1]  # not simply the last one: the clock may have been put back
        frames = self._frames(block)
        return self._start(block) + max(
            (i for i, frame in enumerate(frames) if frame.time <= time), default=0
        )

    def run(self, begin: int, end: int) -> Iterator[Frame]:
        """Frames number ``begin`` to ``end - 1``."""
        begin = max(0, begin)
        while begin < end:
            block = bisect_right(self._ends, begin)
            start = self._start(block)
            frames = self._frames(block)[begin - start : end - start]
            yield from frames
            begin += len(frames)

    def _start(self, block: int) -> int:
        return self._ends[block - 1] if block else 0

    def _frames(self, number: int) -> list[Frame]:
        with self._lock:
            if (kept := self._kept.get(number)) is not None:
                self._kept.move_to_end(number)
                return kept
            frames = self._kept[number] = self._load(self._places[number])
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return frames

    def _load(self, place: _Place) -> list[Frame]:
        frames = []
        for kind, raw in place.reader.load(place.block):
            with suppress(msgspec.MsgspecError):
                if kind == FRAME:
                    frames.append(frame_of(raw))
        if len(frames) != place.block.digest.frames:  # by its checksums it was so written, or has changed
            raise RecordingError(f"{place.reader.path}: a block holds other frames than it says")
        return frames


def _events(blocks: list[Block]) -> list[Event]:
    """Findings, marks and gaps by time. A finding that goes on from block to block is one."""
    events: list[Event] = []
    standing: dict[tuple[str, str], Shown] = {}
    end = interval = 0.0
    for block in blocks:
        digest = block.digest
        events.extend(Event(time=mark.time, kind="mark", label=clean(mark.label)) for mark in digest.marks)
        if not digest.frames:
            continue
        if end and is_gap(digest.first - end, interval):
            events.append(_gap(end, digest.first))
        events.extend(_gap(gap.begin, gap.end) for gap in digest.gaps)
        before, standing = standing, {}
        for shown in digest.shown:
            key = shown.id, shown.subject
            if shown.begin == digest.first and (was := before.pop(key, None)) is not None:
                shown = msgspec.structs.replace(was, end=shown.end)
            if shown.end == digest.last:
                standing[key] = shown
            else:
                events.append(_finding(shown))
        events.extend(map(_finding, before.values()))
        end, interval = digest.last, digest.interval
    events.extend(map(_finding, standing.values()))
    return sorted(events, key=lambda event: event.time)


def _finding(shown: Shown) -> Event:
    return Event(
        time=shown.begin,
        kind="finding",
        label=f"{clean(shown.id)}: {clean(shown.title)}",
        severity=clean(shown.severity),
        until_time=shown.end,
    )


def _gap(begin: float, end: float) -> Event:
    return Event(
        time=begin, kind="gap", label=f"nothing recorded for {format.duration(end - begin)}", until_time=end
    )
