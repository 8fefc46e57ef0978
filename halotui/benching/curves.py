"""Speed over depth: a curve for each side and test, in the terminal (plotext) and as SVG or PNG (matplotlib).

Where nothing was measured at a depth there is nothing to draw a curve of: then a bar for each side and test.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from halotui import format
from halotui.benching.rows import Row
from halotui.benching.tables import write
from halotui.safe import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS, MOST_TICKS = 12, 8
NARROWEST, WIDEST, HEIGHT = 50, 110, 16  # cells of a plot in the terminal
_WIDE_SPAN = 8  # deepest over shallowest: from here on the depths stand at equal ratios
_EXTRA = "halotui[plots]"
# Okabe and Ito's colours, which nobody mixes up; plotext's, in the order it takes them.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333", "#8C6D31")
_TERMINAL_COLOURS = (12, 10, 9, 14, 13, 11, 0, 15)
_MARKERS = "os^Dv<>P"
_INK, _GRID = "#222222", "#DDDDDD"


class PlotError(Exception):
    """Why there is no picture, in one line."""


class Point(NamedTuple):
    place: float  # depth in tokens; of bars the number of the test
    mean: float
    spread: float | None


class Curve(NamedTuple):
    side: str
    points: tuple[Point, ...]


class Panel(NamedTuple):
    """What shares a scale: one test over its depths, or all tests of one kind as bars."""

    title: str
    unit: str
    curves: tuple[Curve, ...]  # of every side, so that each keeps its colour; empty where it has none
    bars: tuple[str, ...] = ()  # their tests

    @property
    def depths(self) -> list[int]:
        return sorted({int(point.place) for curve in self.curves for point in curve.points})


def panels(names: Sequence[str], rows: Sequence[Row]) -> list[Panel]:
    """Curves where any test has several depths, else bars. Raises PlotError where there is nothing."""
    tests = [row for row in rows if row.repeated and any(row.cells)]
    deep = [panel for panel in _curves(names, tests) if len(panel.depths) > 1]
    drawn = deep or list(_bars(names, tests))
    if not drawn:
        raise PlotError("nothing to plot: no test has a result")
    return drawn[:MOST_PANELS]


def _curves(names: Sequence[str], rows: Sequence[Row]) -> Iterator[Panel]:
    for base in dict.fromkeys(row.base for row in rows if row.kind != "work"):
        of_base = [(row.depth, row) for row in rows if row.base == base]
        yield Panel(base, "t/s", tuple(_curve(name, at, of_base) for at, name in enumerate(names)))


def _bars(names: Sequence[str], rows: Sequence[Row]) -> Iterator[Panel]:
    for kind in dict.fromkeys(row.kind for row in rows):
        of_kind = list(enumerate(row for row in rows if row.kind == kind))
        tests = tuple(row.name for _, row in of_kind)
        title = tests[0] if len(tests) == 1 else {"work": "workloads"}.get(kind, kind)
        curves = tuple(_curve(name, at, of_kind) for at, name in enumerate(names))
        yield Panel(title, of_kind[0][1].unit, curves, tests)


def _curve(name: str, side: int, rows: Sequence[tuple[int, Row]]) -> Curve:
    cells = ((place, row.cells[side]) for place, row in rows)
    points = (Point(place, cell.repeats.mean, cell.repeats.spread) for place, cell in cells if cell)
    return Curve(clean(name, 60), tuple(sorted(points)))


def _squeezed(depths: Sequence[int]) -> int | None:
    """Up to which depth the axis is linear, and logarithmic beyond; None: linear all along."""
    above = [depth for depth in depths if depth]
    return above[0] if above and above[-1] > _WIDE_SPAN * above[0] else None


def _tick(depth: int) -> str:
    """4096 as people say it: 4K."""
    return f"{depth // 1024}K" if depth and depth % 1024 == 0 else f"{depth}"


def _ticks(depths: Sequence[int]) -> Sequence[int]:
    """All of them, or as many as there is room for; always the ends."""
    step = math.ceil((len(depths) - 1) / (MOST_TICKS - 1)) or 1
    return [*depths[:-1:step], depths[-1]]


# --- in the terminal


def plot(drawn: Sequence[Panel], width: int, *, colour: bool) -> str:
    """The panels below each other, at most ``width`` cells wide."""
    width = max(NARROWEST, min(width, WIDEST))
    return "\n\n".join(
        "\n".join(_bar_lines(panel, width)) if panel.bars else _plotted(panel, width, colour)
        for panel in drawn
    )


def _letter(number: int) -> str:
    return chr(ord("A") + number % 26)


def _plotted(panel: Panel, width: int, colour: bool) -> str:
    from plotext import colorize, figure, uncolorize  # on demand

    knee = _squeezed(panel.depths)

    def place(depth: float) -> float:
        return math.log2(1 + depth / knee) if knee else depth

    figure.clear()
    figure.theme("simple")  # the terminal's own background
    figure.plot_size(width, HEIGHT)
    letters: list[Any] = []
    title = [f"{panel.title}, {panel.unit}"]
    room = width - len(title[0])
    for number, curve in enumerate(panel.curves):
        if not curve.points:
            continue
        xs, ys = [place(point.place) for point in curve.points], [point.mean for point in curve.points]
        letter = colorize(_letter(number), _TERMINAL_COLOURS[len(letters) % len(_TERMINAL_COLOURS)])
        figure.draw(figure.signal(xs, ys, marker="braille").lines())
        letters.append(figure.signal(xs, ys, marker=letter))
        room -= len(curve.side) + 5
        title += ("   " if room >= 0 else "\n", letter, " ", curve.side)
        room = room if room >= 0 else width - len(curve.side) - 2
    for signal in letters:  # above every line
        figure.draw(signal)
    figure.label(f"depth, tokens{' (not linear)' if knee else ''}", "x")
    ticks = _ticks(panel.depths)
    figure.ruler("x").ticks([place(depth) for depth in ticks], [_tick(depth) for depth in ticks])
    heights = _round_steps(max(point.mean for curve in panel.curves for point in curve.points))
    figure.ruler("y").ticks(heights, [format.digits(height) for height in heights])
    figure.ruler("y").lim(0, heights[-1])
    built = f"{''.join(map(str, title))}\n{figure.build()}"
    text = built if colour else str(uncolorize(built))
    return "\n".join(line.rstrip() for line in text.rstrip("\n").split("\n"))


def _round_steps(most: float) -> list[float]:
    """From 0 to above ``most`` in at most six steps of 1, 2 or 5."""
    power = 10.0 ** math.floor(math.log10(most))
    step = next(unit * power for unit in (0.2, 0.5, 1, 2) if most <= 6 * unit * power)
    return [step * number for number in range(math.ceil(most / step) + 1)]


def _bar_lines(panel: Panel, width: int) -> Iterator[str]:
    most = max(point.mean for curve in panel.curves for point in curve.points)
    names = max(len(curve.side) for curve in panel.curves)
    room = max(10, width - names - 14)
    yield f"{panel.title}, {panel.unit}"
    for place, test in enumerate(panel.bars):
        if len(panel.bars) > 1:
            yield test
        for curve in panel.curves:
            for point in curve.points:
                if point.place == place:
                    cells = max(1, round(room * point.mean / most))
                    yield f"  {curve.side:{names}} {'█' * cells} {format.digits(point.mean)}"


# --- as files


def save(drawn: Sequence[Panel], path: Path, form: str, title: str = "") -> None:
    """Write ``form`` (svg or png), whole or not at all. Raises PlotError."""
    try:
        from matplotlib import rc_context
    except ImportError:
        raise PlotError(f"pictures need matplotlib: pip install '{_EXTRA}'") from None
    out = io.BytesIO()
    style = {
        "svg.hashsalt": "halotui",  # the same numbers give the same file
        "text.parse_math": False,  # a $ in a name is a $
        "font.size": 10.0,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": "#888888",
        "xtick.color": _INK,
        "ytick.color": _INK,
    }
    with rc_context(style), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.simplefilter("ignore")  # a letter that the font lacks
        unsaid = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[form]
        _picture(drawn, title).savefig(out, format=form, dpi=150, metadata=unsaid, facecolor="white")
    try:
        write(path, out.getvalue())
    except OSError as error:
        raise PlotError(f"{path}: {error.strerror}") from None


def _picture(drawn: Sequence[Panel], title: str) -> Figure:
    from matplotlib.figure import Figure

    columns = 1 if len(drawn) == 1 else 2
    lines = math.ceil(len(drawn) / columns)
    figure = Figure(figsize=(6.2 * columns, 0.7 + 3.9 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    for panel, axis in zip(drawn, axes, strict=False):
        (_draw_bars if panel.bars else _draw_curves)(panel, axis)
        axis.set_title(panel.title, loc="left", fontweight="bold", fontsize=11)
        axis.set_ylim(bottom=0)
        axis.grid(axis="y", color=_GRID, linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(drawn) :]:
        axis.set_visible(False)
    _legend(figure, drawn, columns)
    if title:
        figure.suptitle(clean(title, 160), x=0.01, ha="left", fontsize=9, color="#666666")
    return figure


def _pen(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _legend(figure: Figure, drawn: Sequence[Panel], columns: int) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    names = [f" {curve.side}" for curve in drawn[0].curves]  # a leading _ would hide it
    handles = [
        Patch(color=_pen(n))
        if drawn[0].bars
        else Line2D([], [], color=_pen(n), marker=_MARKERS[n % len(_MARKERS)], linewidth=2)
        for n in range(len(names))
    ]
    across = max(1, min(len(names), 110 * columns // 2 // (max(map(len, names)) + 6)))
    figure.legend(handles, names, loc="outside lower center", ncols=across, frameon=False)


def _draw_curves(panel: Panel, axis: Axes) -> None:
    for number, curve in enumerate(panel.curves):
        axis.errorbar(
            [point.place for point in curve.points],
            [point.mean for point in curve.points],
            yerr=[point.spread or 0.0 for point in curve.points],
            color=_pen(number),
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=5.5,
            linewidth=2,
            elinewidth=1.2,
            capsize=3,
        )
    knee = _squeezed(panel.depths)
    if knee:
        axis.set_xscale("symlog", base=2, linthresh=knee)
    ticks = _ticks(panel.depths)
    axis.set_xticks(ticks, [_tick(depth) for depth in ticks])
    axis.minorticks_off()
    axis.set_xlabel("context depth (tokens)")
    axis.set_ylabel(f"{panel.unit}, mean ± standard deviation")


def _draw_bars(panel: Panel, axis: Axes) -> None:
    sides = len(panel.curves)
    width = 0.8 / sides
    for number, curve in enumerate(panel.curves):
        bars = axis.bar(
            [point.place + (number - (sides - 1) / 2) * width for point in curve.points],
            [point.mean for point in curve.points],
            width * 0.92,
            yerr=[point.spread or 0.0 for point in curve.points],
            color=_pen(number),
            error_kw={"elinewidth": 1.2, "capsize": 3, "ecolor": _INK},
        )
        axis.bar_label(bars, [format.digits(point.mean) for point in curve.points], padding=2, fontsize=8)
    axis.set_xticks(range(len(panel.bars)), panel.bars)
    axis.set_xlim(-0.6, len(panel.bars) - 0.4)
    axis.set_ylabel("seconds" if panel.unit == "s" else panel.unit)
