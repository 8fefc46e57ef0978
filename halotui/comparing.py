"""Before and after in numbers: one table for the screen and the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from halotui import format
from halotui.actions import Outcome, Speed

# What is no difference: luck, the page cache, other programs' memory.
RATIO_NOISE = 0.02
MEMORY_NOISE = 0.01  # of what it was before
LOAD_NOISE = 0.5  # seconds


class Row(NamedTuple):
    """A quantity; ``better`` is 1 when more is better, -1 when less is, 0 when neither."""

    label: str
    before: float | None
    after: float | None
    show: Callable[[float], str]
    better: int
    spread: tuple[float | None, float | None] = (None, None)  # ±, in the value's unit
    noise: float = 0.0  # what is no difference, beside the spread

    @property
    def cells(self) -> tuple[str, str]:
        """Both values as text, with their spread."""
        return _cell(self, self.before, self.spread[0]), _cell(self, self.after, self.spread[1])


class Delta(NamedTuple):
    """The change: in per cent, a word for it, and whether it is good (1), bad (-1) or neither (0)."""

    text: str
    word: str = ""
    sense: int = 0


def table(outcome: Outcome) -> list[Row]:
    """What is known of before or after, row by row."""
    old, new = outcome.speed_before or Speed(), outcome.speed_after or Speed()

    def row(
        label: str, key: str, show: Callable[[float], str], better: int, spread: str = "", noise: float = 0.0
    ) -> Row:
        spreads = (getattr(old, spread), getattr(new, spread)) if spread else (None, None)
        return Row(label, getattr(old, key), getattr(new, key), show, better, spreads, noise)

    loads = outcome.load_seconds_before, outcome.load_seconds_after
    rows = (
        row("pp t/s", "prompt_tokens_per_second", format.rate, 1, "prompt_spread"),
        row("tg t/s", "generation_tokens_per_second", format.rate, 1, "generation_spread"),
        row("acceptance", "draft_acceptance_ratio", format.percent, 1, noise=RATIO_NOISE),
        row("coverage", "draft_coverage_ratio", format.percent, 0, noise=RATIO_NOISE),
        row(
            "peak memory",
            "peak_memory_bytes",
            format.size,
            -1,
            noise=MEMORY_NOISE * (old.peak_memory_bytes or 0),
        ),
        Row("load time", *loads, _seconds, -1, noise=LOAD_NOISE),
    )
    return [one for one in rows if one.before is not None or one.after is not None]


def delta(row: Row) -> Delta:
    """The change; within the spread it is none, and – where one of the two is unknown."""
    if row.before is None or row.after is None or not row.before:
        return Delta(format.DASH)
    change = (row.after - row.before) / row.before
    percent = round(change * 100)
    text = f"{percent:+d} %" if percent else "0 %"
    noise = row.noise + sum(spread or 0.0 for spread in row.spread)
    if abs(row.after - row.before) <= noise or not percent:
        return Delta(text, "≈")
    sense = (1 if change > 0 else -1) * row.better
    return Delta(text, ("▲" if change > 0 else "▼") + {1: " better", -1: " worse", 0: ""}[sense], sense)


def notes(outcome: Outcome) -> Iterator[str]:
    """What is to be known of the numbers."""
    yield from outcome.notes
    for when, speed in (("before", outcome.speed_before), ("after", outcome.speed_after)):
        if speed is not None and speed.note:
            yield f"{when}: {speed.note}"


def _cell(row: Row, value: float | None, spread: float | None) -> str:
    if value is None:
        return format.DASH
    return f"{row.show(value)} ±{format.digits(spread)}" if spread else row.show(value)


def _seconds(seconds: float) -> str:
    return f"{format.digits(seconds)} s"
