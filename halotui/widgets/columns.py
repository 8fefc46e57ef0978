"""Figures over charts, side by side in columns that keep their place from tick to tick."""

from __future__ import annotations

from collections.abc import Sequence

from halotui.widgets.rows import Row, Run, fill

Figures = Sequence[Run]


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
