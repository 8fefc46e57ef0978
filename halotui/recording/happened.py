"""What stands on the time axis: findings, marks, captures, and where nothing was recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import groupby

from msgspec.structs import replace

from halotui import format
from halotui.recording.digest import is_gap
from halotui.recording.index import _events as events_of
from halotui.recording.minutes import Minutes
from halotui.runs import Event, Kind, Run, Status, Store, StoreError
from halotui.safe import clean

SAME = 2.0  # seconds between one mark's two records: of the capture and of the flight recorder


def happened(recorded: Iterable[Minutes], captured: Iterable[Event] = ()) -> list[Event]:
    """By time. What several processes recorded of the same is one."""
    by_session = sorted(recorded, key=lambda kept: kept.session)
    sessions = [list(same) for _, same in groupby(by_session, key=lambda kept: kept.session)]
    events = [*captured]
    for session in sessions:
        session.sort(key=lambda kept: kept.first)
        blocks = [block for kept in session for block in kept.blocks]
        events.extend(event for event in events_of(blocks) if event.kind != "gap")
    events.sort(key=lambda event: event.time)
    once: dict[tuple[str, str, str], list[Event]] = {}
    for event in events:
        same = once.setdefault((event.kind, event.label, event.severity), [])
        if same and event.kind != "capture" and event.time <= (same[-1].until_time or same[-1].time) + SAME:
            over = max(same[-1].until_time or 0.0, event.until_time or 0.0)
            same[-1] = replace(same[-1], until_time=over or None)
        else:
            same.append(event)
    found = [*(event for same in once.values() for event in same), *_gaps(by_session)]
    return sorted(found, key=lambda event: event.time)


def captures(open_store: Callable[[], Store] | None, since: float, until: float) -> list[Event]:
    """With their marks; none where the store cannot be read."""
    if open_store is None:
        return []
    try:
        with closing(open_store()) as store:
            runs = store.runs(since=since, until=until)
    except (StoreError, OSError):
        return []
    return [event for run in runs if run.kind is not Kind.IMPORT for event in _of_run(run)]


def _of_run(run: Run) -> Iterator[Event]:
    words = [clean(run.label) or str(run.kind)]
    if run.status is not Status.OK:
        words.append(str(run.status))
    over = run.started_time + run.seconds if run.seconds is not None else None
    yield Event(time=run.started_time, kind="capture", label=": ".join(words), until_time=over)
    for mark in run.marks:
        yield Event(time=mark.time, kind="mark", label=clean(mark.label))


def _gaps(recorded: Iterable[Minutes]) -> Iterator[Event]:
    """Where nobody recorded, between the first and the last frame."""
    end = interval = 0.0
    for begin, until, usual in sorted(piece for kept in recorded for piece in _pieces(kept)):
        if end and is_gap(begin - end, interval):
            words = f"nothing recorded for {format.duration(begin - end)}"
            yield Event(time=end, kind="gap", label=words, until_time=begin)
        if until >= end:
            end, interval = until, usual


def _pieces(kept: Minutes) -> Iterator[tuple[float, float, float]]:
    """From when to when there are frames, and how far apart."""
    for digest in kept.digests:
        begin = digest.first
        for gap in digest.gaps:
            yield begin, gap.begin, digest.interval
            begin = gap.end
        yield begin, digest.last, digest.interval
