"""Figures over charts, side by side in columns that keep their place from tick to tick."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from halotui.widgets.rows import Row, Run, fill

Figures = Sequence[Run]


class Ranked(Protocol):
    """A column of a table."""

    @property
    def width(self) -> int:
        """Cells, with the gap before it."""
        ...

    @property
    def rank(self) -> int:
        """0 stays longest when room is short."""
        ...


C = TypeVar("C", bound=Ranked)


def fitting(columns: Iterable[C], room: int) -> list[C]:
    """Those that fit, the more important ones first; in the order in which they came."""
    all_ = list(columns)
    kept = []
    for column in sorted(all_, key=lambda column: column.rank):
        if column.width <= room:
            kept.append(column)
            room -= column.width
    return [column for column in all_ if column in kept]


def figures(columns: Sequence[Figures], width: int) -> Row:
    """One line: each column's runs, cut or padded to its share of ``width``."""
    share = width // len(columns)
    line: list[Run] = []
    for runs in columns:
        line += fill(runs, share)
    return fill(line, width)


def pictures(columns: Sequence[Sequence[str]], width: int, height: int, style: str) -> list[Row]:
    """``height`` lines of charts, each drawn ``chart_width`` wide."""
    lines = []
    for y in range(height):
        line: list[Run] = []
        for picture in columns:
            line += (Run(" "), Run(picture[y], style), Run(" "))
        lines.append(fill(line, width))
    return lines


def chart_width(width: int, columns: int) -> int:
    """Cells of one chart, a blank on either side of it left out."""
    return width // columns - 2
