"""Braille charts that grow by what is new: two samples a cell, and the picture moves every second sample.

A chart keeps its text. A tick appends or completes one cell per row; history is drawn again only when
the size or the scale changes.
"""

from __future__ import annotations

from typing import NamedTuple

from halotui.history import Ring

# dots filled from below, for the left and the right sample of a cell
_LEFT = (0, 0x40, 0x44, 0x46, 0x47)
_RIGHT = (0, 0x80, 0xA0, 0xB0, 0xB8)


def _cell(dots: int) -> str:
    return chr(0x2800 + dots) if dots else " "


_CELLS = tuple(tuple(_cell(a + b) for b in _RIGHT) for a in _LEFT)
_STEPS = (1.0, 2.0, 5.0)


def _dot(dots: tuple[int, ...], level: int) -> int:
    """The one dot at ``level`` (1..4) of a cell, or none."""
    return dots[level] & ~dots[level - 1] if 1 <= level <= 4 else 0


def ceiling(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten: a scale that people read at a glance."""
    power = 1.0
    while power * 10 < value:
        power *= 10
    while power > value > 0:
        power /= 10
    return next((step * power for step in _STEPS if step * power >= value), 10 * power)


class Look(NamedTuple):
    """How a series is drawn."""

    top: float | None = None  # the value at the upper edge; None: grows and shrinks with the series
    least: float = 0.0  # a growing scale never ends below this
    edge: bool = False  # a line instead of a filled area: for what hardly moves


class Chart:
    """One series drawn in ``width`` × ``height`` cells. ``top`` is the value at the upper edge."""

    def __init__(self, look: Look = Look()) -> None:  # noqa: B008  frozen
        self._fixed = look.top
        self._least = look.least
        self._edge = look.edge
        self.top = look.top or look.least or 1.0
        self._pushed = -1
        self._shape = (0, 0)
        self._rows: list[str] = []
        self._half: float | None = None  # the sample that waits for its right neighbour

    def rows(self, ring: Ring | None, width: int, height: int) -> list[str]:
        """Rows of exactly ``width`` cells, the newest sample at the right."""
        if ring is None or width < 1 or height < 1:
            return [" " * max(0, width)] * max(0, height)
        new = ring.pushed - self._pushed
        if new == 0 and self._shape == (width, height):
            return self._rows
        if new == 1 and self._shape == (width, height) and self._fits(ring):
            self._append(ring.last(1)[0], ring.pushed)
        else:
            self._rebuild(ring, width, height)
        self._pushed = ring.pushed
        return self._rows

    def _fits(self, ring: Ring) -> bool:
        """Whether the scale still suits; looked at in full every 32 samples only, to let it shrink."""
        if self._fixed is not None:
            return True
        value = ring.last(1)[0]
        return (value is None or value <= self.top) and ring.pushed % 32 != 0

    def _append(self, value: float | None, pushed: int) -> None:
        left_half = pushed % 2 == 1
        first, second = (value, None) if left_half else (self._half, value)
        cells = self._column(first, second)
        if left_half:
            self._rows = [row[1:] + cell for row, cell in zip(self._rows, cells, strict=True)]
        else:
            self._rows = [row[:-1] + cell for row, cell in zip(self._rows, cells, strict=True)]
        self._half = value

    def _rebuild(self, ring: Ring, width: int, height: int) -> None:
        self._shape = (width, height)
        odd = ring.pushed % 2
        values = ring.last(2 * width - odd)
        if self._fixed is None:
            highest = max((v for v in values if v is not None), default=0.0)
            if not 0.3 * self.top <= highest <= self.top:
                self.top = max(self._least, ceiling(highest)) if highest > 0 else self._least or 1.0
        values = [None] * (2 * width - odd - len(values)) + values + [None] * odd
        columns = [self._column(values[i], values[i + 1]) for i in range(0, 2 * width, 2)]
        self._rows = ["".join(column[row] for column in columns) for row in range(height)]
        self._half = values[-2] if odd else values[-1]

    def _column(self, first: float | None, second: float | None) -> list[str]:
        height = self._shape[1]
        left, right = self._level(first), self._level(second)
        bases = range(4 * (height - 1), -1, -4)
        if self._edge:
            return [_cell(_dot(_LEFT, left - base) + _dot(_RIGHT, right - base)) for base in bases]
        return [_CELLS[min(4, max(0, left - base))][min(4, max(0, right - base))] for base in bases]

    def _level(self, value: float | None) -> int:
        """Dots above the ground: a known zero keeps one, an unknown has none."""
        if value is None:
            return 0
        return max(1, min(4 * self._shape[1], round(value / self.top * 4 * self._shape[1])))
