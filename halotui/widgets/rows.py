"""What panels are made of: rows of runs. A run is text, the name of a style, and the field it shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

FINDING, EVENT, HOST = "finding", "event", "host"  # what a Ref may name besides a field ...
KEY, TIME, TAB, ORDER = "key", "time", "tab", "order"  # ... and for the mouse alone


class Ref(NamedTuple):
    """What a run shows: the field's id in ``fields``, a finding or a key; and of whom, or which."""

    field: str
    # GPU id, server URL, ``URL#slot``, pid, "memory" and what else a box has one of; a finding's or a key's
    # id; a row of the fleet; a bar's cell; what to order by
    subject: str


class Run(NamedTuple):
    text: str
    style: str = "text"
    ref: Ref | None = None


Row = tuple[Run, ...]


# What the panels draw with, a cell each: the common case, told ten times faster than by a table of widths.
_SINGLE = re.compile(
    "[ -~\u00b0\u00b1\u00b7\u00d7\u0394\u2013\u2016\u2026\u2039\u203a\u2190-\u2193\u2264\u2500-\u2503"
    "\u2514\u251c\u2581-\u2588\u2591-\u2593\u25a0\u25b2\u25b6\u25cf\u2716\u271a\u2800-\u28ff]*\\Z"
)


def width_of(text: str) -> int:
    """Terminal cells that the text takes."""
    return len(text) if text.isascii() or _SINGLE.match(text) else cell_len(text)


def fit(text: str, width: int) -> str:
    """Exactly ``width`` cells: padded on the right, or cut with an ellipsis."""
    if width <= 0:
        return ""
    length = width_of(text)
    if length <= width:
        return text + " " * (width - length)
    return set_cell_size(text, width - 1) + "…"


def right(text: str, width: int) -> str:
    """Right-aligned in ``width`` cells; a text that is too long is cut."""
    length = width_of(text)
    return " " * (width - length) + text if length <= width else fit(text, width)


def fill(runs: Iterable[Run], width: int, style: str = "text") -> Row:
    """The runs as a row of exactly ``width`` cells."""
    row: list[Run] = []
    left = width
    for run in runs:
        size = width_of(run.text)
        if size > left:
            if left:
                row.append(run._replace(text=fit(run.text, left)))
            left = 0
            break
        row.append(run)
        left -= size
    if left:
        row.append(Run(" " * left, style))
    return tuple(row)


def spread(left: Sequence[Run], right_: Sequence[Run], width: int, style: str = "text") -> Row:
    """Left runs, a gap, right runs that end at the edge. The right ones go first when room is short."""
    taken = sum(width_of(run.text) for run in right_)
    room = width - taken
    if room < 8:
        return fill(left, width, style)
    return (*fill(left, room, style), *right_)


def joined(pieces: Iterable[tuple[int, Sequence[Run]]], room: int, gap: str = " · ") -> list[Run]:
    """Those that fit, by rank (0 stays longest), in the order in which they came, and gaps between them."""
    all_ = [(rank, runs) for rank, runs in pieces if runs]
    kept: list[tuple[int, Sequence[Run]]] = []
    for piece in sorted(all_, key=lambda piece: piece[0]):
        size = sum(width_of(run.text) for run in piece[1]) + (len(gap) if kept else 0)
        if size <= room:
            kept.append(piece)
            room -= size
    out: list[Run] = []
    for piece in all_:
        if any(piece is one for one in kept):
            out += [*([Run(gap, "dim")] if out else []), *piece[1]]
    return out


def rule(title: str, width: int, note: Sequence[Run] = ()) -> Row:
    """The head of a panel: its name, a thin line, and a note at the right end."""
    taken = sum(width_of(run.text) for run in note) + (2 if note else 0)
    line = width - len(title) - 4 - taken
    if line < 1:
        return fill((Run(f"─ {title} ", "rule"),), width)
    tail = (Run(" ", "rule"), *note, Run(" ", "rule")) if note else ()
    return (Run("─ ", "rule"), Run(title, "title"), Run(" " + "─" * (line + 1), "rule"), *tail)


def window(page: Sequence[Row], top: int, width: int, height: int) -> list[Row]:
    """``height`` rows of a page that may be longer; the last one says how much follows."""
    out = list(page[top : top + height])
    more = len(page) - top - height
    if more > 0:
        out[-1] = fill((Run(f"   {more + 1} more lines: page down", "dim"),), width)
    return out + [fill((), width)] * (height - len(out))
