"""Percentiles of the requests of a window, a line a quantity, with a small histogram where there is room."""

from __future__ import annotations

from collections.abc import Sequence

from halotui import fields, figures, format
from halotui.model import End, Server
from halotui.widgets.request_list import WINDOWS
from halotui.widgets.rows import KEY, Ref, Row, Run, fill, right
from halotui.widgets.view import View

_BARS = "▁▂▃▄▅▆▇█"
_LABEL, _CELL, _END = 9, 11, 10  # cells
_BINS, _MANY = 12, 100  # bins; twice as many from so many requests on
_LOW = 13  # rows of a body below which only the middles are told, on one line
_ROOMY = 100  # columns from which ends are told in words
MARKS = {  # a letter for where there is no room for the word, and a style
    End.ERROR: ("✖", "trouble"),
    End.TRUNCATED: ("▲", "warning"),
    End.CANCELLED: ("■", "dim"),
}


def height_of(width: int, height: int) -> int:
    return 1 if height < _LOW else 1 + len(figures.QUANTITIES)


def rows(view: View, server: Server, width: int, height: int) -> list[Row]:
    """Of ``server``, on a body of that size."""
    frame = view.frame
    assert frame is not None
    told = view.requests.together(view.history, server.url, frame.time)
    if height_of(width, height) == 1:
        return [_middles(view, told, width)]
    out = [_head(view, told, width)]
    room = width - 1 - _LABEL - 3 * _CELL
    for key in figures.QUANTITIES:
        spread = told.spreads[key]
        line = [Run(f" {fields.BY_ID[f'request.{key}'].label:<{_LABEL}}", "dim")]
        line += [
            Run(right(show(key, value), _CELL), "value" if value is not None else "dim")
            for value in (spread.p50, spread.p95, spread.p99)
        ]
        line += _picture(view, key, spread, room)
        out.append(fill(line, width))
    return out


def show(key: str, value: float | None) -> str:
    return format.show(fields.BY_ID[f"request.{key}"], value)


def bars(bins: Sequence[figures.Bin]) -> str:
    """A cell a bin; what is not empty is seen."""
    most = max((bin_.count for bin_ in bins), default=0)
    return "".join(_BARS[max(1, round(bin_.count / most * 8)) - 1] if bin_.count else " " for bin_ in bins)


def _head(view: View, told: figures.Figures, width: int) -> Row:
    name = WINDOWS[view.requests.window][0]
    left = [Run(f" {name:<{_LABEL}}", "text", Ref(KEY, "window"))]
    left += [Run(right(word, _CELL), "dim") for word in ("p50", "p95", "p99")]
    ends = [Run(f"   {format.count(told.count)} ended", "dim")]
    for end, count in told.by_end.items():
        if end is not End.DONE:
            letter, style = MARKS[end]
            name = f"{format.count(count)} {end}" if width >= _ROOMY else f"{letter} {format.count(count)}"
            ends.append(Run(f" · {name}", style))
    return fill([*left, *ends], width)


def _middles(view: View, told: figures.Figures, width: int) -> Row:
    runs = [Run(" p50", "dim"), Run(f" {WINDOWS[view.requests.window][0]:<5}", "text", Ref(KEY, "window"))]
    for key in figures.QUANTITIES:
        value = told.spreads[key].p50
        runs += [
            Run(f"  {fields.BY_ID[f'request.{key}'].label} ", "dim"),
            Run(right(show(key, value), 8), "value" if value is not None else "dim"),
        ]
    return fill(runs, width)


def _picture(view: View, key: str, spread: figures.Spread, room: int) -> list[Run]:
    """Least, histogram, most."""
    if room < 2 * _END + 14 or spread.least is None or spread.most is None:
        return []
    count = _BINS if spread.count < _MANY else 2 * _BINS
    drawn = bars(view.requests.bins(key, min(count, room - 2 * _END - 4)))
    return [
        Run(right(show(key, spread.least), _END + 2), "dim"),
        Run(f" {drawn} ", "chart2"),
        Run(show(key, spread.most), "dim"),
    ]
