"""A field's past as a picture: the mean as a line, least to most as a shade, the real clock below."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from statistics import median
from typing import NamedTuple

from halotui.fields import Field
from halotui.runs import Bucket, Event
from halotui.screens.popup import Part
from halotui.widgets.event_look import FAINT, look_of, rank

SHADE = "░"
LINE = "bold $primary"
_BAND = "$primary 60%"
_BRAILLE = re.compile(r"[\u2801-\u28ff]+|░+|[^\u2801-\u28ff░]+")
_SILENCE = 5.0  # seconds without a value that are no gap yet
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200)
_DAY = 86_400
_BINARY = ((1024.0**4, "TiB"), (1024.0**3, "GiB"), (1024.0**2, "MiB"), (1024.0, "KiB"))
_UNITS = {"hertz": (1e6, "MHz"), "ratio": (0.01, "%"), "percent": (1.0, "%"), "tokens/s": (1.0, "t/s")}
_UNITS |= {"watts": (1.0, "W"), "celsius": (1.0, "°C"), "seconds": (1.0, "s"), "tokens": (1.0, "tok")}


class Picture(NamedTuple):
    parts: list[Part]
    left: int  # the first column of the canvas
    columns: int  # of the canvas


def drawn(
    field: Field, buckets: Sequence[Bucket], since: float, until: float, width: int, height: int
) -> Picture:
    """Of at least one bucket. Times in Unix seconds."""
    from plotext import figure, terminal, uncolorize  # on a key, never on the live path

    unit, name = scale(field, max(abs(bucket.most) for bucket in buckets))
    terminal.limit(False, False)
    figure.clear()
    figure.plot_size(width, height)
    times = [bucket.time - since for bucket in buckets]
    low = figure.signal(times, [bucket.least / unit for bucket in buckets], marker=SHADE)
    high = figure.signal(times, [bucket.most / unit for bucket in buckets], marker=SHADE)
    if any(bucket.most > bucket.least for bucket in buckets):
        figure.draw(high.fill(low))
    mean = figure.signal(times, [bucket.mean / unit for bucket in buckets], marker="braille").lines()
    for number in breaks(times):
        mean.line(number, False)
    figure.draw(mean)
    heights = levels(field, min(b.least for b in buckets) / unit, max(b.most for b in buckets) / unit)
    labels = [f"{round(level, 9):g}" for level in heights]
    figure.ruler("y").ticks(heights, [*labels[:-1], f"{labels[-1]} {name}".strip()])
    figure.ruler("y").lim(heights[0], heights[-1])
    ticks = clock_ticks(since, until, max(2, (width - 10) // 11))
    figure.ruler("x").ticks([moment - since for moment, _ in ticks], [label for _, label in ticks])
    figure.ruler("x").lim(0, until - since)
    lines = str(uncolorize(str(figure.build()))).rstrip("\n").split("\n")
    foot = next((line for line in reversed(lines) if "└" in line), "└┘")
    left = foot.index("└") + 1
    return Picture(list(_styled("\n".join(lines))), left, max(1, foot.rindex("┘") - left))


def _styled(text: str) -> Iterator[Part]:
    for found in _BRAILLE.finditer(text):
        words = found[0]
        yield words, _BAND if words[0] == SHADE else LINE if words[0] >= "\u2801" else FAINT


def breaks(times: Sequence[float]) -> list[int]:
    """Numbers of those before which there is a gap: longer than their usual distance, and than a silence."""
    steps = [after - before for before, after in pairwise(times)]
    longest = max(_SILENCE, 1.5 * median(steps)) if steps else 0.0
    return [number for number, step in enumerate(steps, 1) if step > longest]


def scale(field: Field, most: float) -> tuple[float, str]:
    """What to divide by, and the unit then."""
    if field.unit == "bytes":
        return next((step for step in _BINARY if most >= step[0]), (1.0, "B"))
    return _UNITS.get(field.unit, (1.0, ""))


def levels(field: Field, least: float, most: float) -> list[float]:
    """Round heights from below the least to above the most; shares from 0 to 100."""
    if field.unit in ("percent", "ratio"):
        least, most = min(0.0, least), max(100.0, most)
    elif 0 <= least < most / 2:
        least = 0.0
    size = max(abs(least), abs(most))
    span = max(most - least, size / 50, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(unit * power for unit in (1, 2, 2.5, 5, 10) if span / 4 <= unit * power * 1.0001)
    first = math.floor(least / step + 1e-9)
    last = max(first + 1, math.ceil(most / step - 1e-9))
    return [step * number for number in range(first, last + 1)]


def clock_ticks(since: float, until: float, most: int) -> list[tuple[float, str]]:
    """Round local times and what to call them: at most so many."""
    span = until - since
    step = next((step for step in _STEPS if span / step <= most), 0)
    step = step or _DAY * math.ceil(span / most / _DAY)
    offset = time.localtime(since).tm_gmtoff
    wall = math.ceil((since + offset) / step) * step  # as the clock on the wall shows it
    ticks: list[tuple[float, str]] = []
    while (moment := wall - time.localtime(wall - offset).tm_gmtoff) <= until:  # summer time may end in view
        here = time.localtime(moment)
        midnight = here.tm_hour == here.tm_min == here.tm_sec == 0
        shape = "%m-%d" if step >= _DAY or (midnight and span > _DAY / 2) else "%H:%M"
        ticks.append((moment, time.strftime(shape if step >= 60 else "%H:%M:%S", here)))
        wall += step
    return ticks


def cell(moment: float, since: float, until: float, columns: int) -> int:
    """The column of a time; out of view it is below 0 or too high."""
    return round((moment - since) / (until - since) * (columns - 1))


def axis(
    events: Sequence[Event], chosen: Event | None, since: float, until: float, columns: int
) -> list[Part]:
    """The row of events: each a letter where it begins, and a line for as long as it lasts."""
    cells: list[tuple[str, str]] = [(" ", "")] * columns
    order = sorted(events, key=rank, reverse=True)
    for event in order:
        look = look_of(event)
        first = max(0, cell(event.time, since, until, columns))
        last = min(columns - 1, cell(event.until_time or event.time, since, until, columns))
        for at in range(first, last + 1):
            cells[at] = (look.letter if event.kind == "gap" else "─"), look.popup
    for event in order:  # letters above all lines
        at = cell(event.time, since, until, columns)
        if event.kind != "gap" and 0 <= at < columns:
            look = look_of(event)
            cells[at] = look.letter, f"{look.popup} reverse" if event is chosen else look.popup
    return [
        ("".join(letter for letter, _ in same), style)
        for style, same in groupby(cells, key=lambda one: one[1])
    ]
