"""Where a recording stands: the time, the pace, and a bar with what happened on it; a click goes there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from halotui.runs import Event
from halotui.widgets.event_look import look_of, rank
from halotui.widgets.rows import TIME, Ref, Row, Run, fill, width_of

LEAST = 12  # cells of a bar that is worth drawing
_LINE, _GAP, _HERE = "─", " ", "█"


class Standing(NamedTuple):
    """Where it stands; times in Unix seconds."""

    position: float
    begin: float
    end: float
    playing: bool
    speed: float

    @property
    def over(self) -> bool:
        return self.position >= self.end - 1e-3  # the player pauses after its last frame, unseen

    @property
    def state(self) -> str:
        return "■ end" if self.over else f"{'▶' if self.playing else '‖'} {self.speed:g}x"


class Timeline:
    """One row. The bar is made anew for another width alone; a recording's events do not change."""

    def __init__(self) -> None:
        self._made: tuple[int, int, float, float] | None = None  # for which width and recording
        self._cells: list[tuple[str, str]] = []  # letter, style
        self._events: dict[int, Event] = {}  # what a click on a cell means

    def rows(self, now: Standing, events: Sequence[Event], width: int) -> list[Row]:
        left = [
            Run(f" {time.strftime('%H:%M:%S', time.localtime(now.position))}  ", "value"),
            Run(f"{now.state:<6} ", "warning" if now.over else "life" if now.playing else "value"),
            Run(f" {span(now.position - now.begin)} / {span(now.end - now.begin)}  ", "dim"),
        ]
        room = width - sum(width_of(run.text) for run in left) - 1
        if room < LEAST:
            return [fill(left, width)]
        wanted = room, len(events), now.begin, now.end
        if self._made != wanted:
            self._made = wanted
            self._make(now, events, room)
        here = self._cell(now, now.position)
        cells = list(self._cells)
        empty = cells[here][0] in (_LINE, _GAP)
        cells[here] = (_HERE, "value") if empty else (cells[here][0], "cursor")
        bar, at = [], 0
        for style, same in groupby(cells, key=lambda cell: cell[1]):
            text = "".join(letter for letter, _ in same)
            bar.append(Run(text, style, Ref(TIME, str(at))))
            at += len(text)
        return [fill((*left, *bar), width)]

    def at(self, now: Standing, cell: int) -> tuple[float, Event | None]:
        """The time that a cell of the bar stands for, and what happened then."""
        event = self._events.get(cell)
        if event is not None:
            return event.time, event
        return now.begin + (now.end - now.begin) * cell / max(1, len(self._cells) - 1), None

    def _make(self, now: Standing, events: Sequence[Event], width: int) -> None:
        self._cells = [(_LINE, "faint")] * width
        self._events = {}
        for event in sorted(events, key=rank, reverse=True):  # the last one drawn is what is seen
            first = self._cell(now, event.time)
            if event.kind == "gap":
                last = self._cell(now, event.until_time or event.time)
                self._cells[first + 1 : last] = [(_GAP, "text")] * max(0, last - first - 1)
                continue
            look = look_of(event)
            self._cells[first] = look.letter, look.row
            self._events[first] = event

    def _cell(self, now: Standing, moment: float) -> int:
        last, whole = len(self._cells) - 1, now.end - now.begin
        return round(max(0.0, min(1.0, (moment - now.begin) / whole)) * last) if whole > 0 else 0


def span(seconds: float) -> str:
    """``1:02:10``, ``2:10``: all digits, for they stand still."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
