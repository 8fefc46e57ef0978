"""The chip: busy, clocks with their limit, power, temperature; with history where there is room."""

from __future__ import annotations

from collections.abc import Iterator

from halotui import fields, format
from halotui.model import Gpu, HeldBy
from halotui.widgets.chart import Look
from halotui.widgets.columns import chart_width, figures, pictures
from halotui.widgets.rows import Ref, Row, Run, fill, joined, rule
from halotui.widgets.view import View

# a column each: the charted figure, the one below it, how the chart looks
_COLUMNS: tuple[tuple[str, str, Look], ...] = (
    ("busy_percent", "mclk_hertz", Look(top=100.0)),
    ("sclk_hertz", "sclk_limit_hertz", Look(top=3e9)),
    ("socket_power_watts", "gfx_power_watts", Look(least=100.0)),
    ("temperature_celsius", "fclk_hertz", Look(top=100.0, edge=True)),
)
LIMITERS: dict[HeldBy, tuple[str, ...]] = {  # what may hold it back, as ``Gpu.throttle`` names them
    HeldBy.POWER: ("spl", "fppt", "sppt"),
    HeldBy.HEAT: ("thm_core", "thm_gfx", "thm_soc"),
    HeldBy.PROCHOT: ("prochot",),
}
NPU_WATTS = 0.1  # from which it is worth a word
_TITLE = 14  # cells of the rule that are no note


def rows(view: View, width: int, height: int) -> list[Row]:
    """A rule, two lines of figures, charts below."""
    gpu = view.gpu
    if gpu is None:
        return [rule("hardware", width), fill((Run(f" {format.DASH} {why_none(view)}", "dim"),), width)][
            :height
        ]
    out = [rule("hardware", width, joined(_note(view, gpu), width - _TITLE))]
    out.append(figures([_figure(view, key) for key, _, _ in _COLUMNS], width))
    out.append(figures([_figure(view, key) for _, key, _ in _COLUMNS], width))
    charts = height - len(out)
    if charts > 0:
        size = chart_width(width, len(_COLUMNS))
        drawn = [view.draw(gpu, key, size, charts, look) for key, _, look in _COLUMNS]
        out += pictures(drawn, width, charts, "chart2")
    return out[:height]


def why_none(view: View) -> str:
    """Why there is no GPU."""
    source = view.sources.get("gpu")
    if source is None:
        return "not read yet"
    return " — ".join(text for text in (source.reason, source.hint) if text) or "not read yet"


def held(gpu: Gpu) -> tuple[str, str] | None:
    """What keeps it below its clock, in words, and their style."""
    if gpu.held_by is None:
        return None
    if gpu.held_by is HeldBy.CPU:
        return "CPU takes the watts", "dim"  # no fault
    engaged = [name for name in LIMITERS[gpu.held_by] if gpu.throttle.get(name)]
    most = max(engaged, key=lambda name: gpu.throttle[name], default=None)
    known = most is not None and gpu.held_by is not HeldBy.PROCHOT
    limiter = f" ({fields.BY_ID[f'throttle.{most}'].label})" if known else ""
    return f"held by {gpu.held_by}{limiter}", "warning"


def npu_words(gpu: Gpu) -> str:
    """Whole watts, which stand still; nothing while it idles."""
    watts = gpu.npu_power_watts or 0.0
    return "" if watts <= NPU_WATTS else "NPU <1 W" if watts < 0.5 else f"NPU {watts:.0f} W"


def _note(view: View, gpu: Gpu) -> Iterator[tuple[int, list[Run]]]:
    """Words that seldom change, with their ranks."""
    standing = view.standing("gpu")
    if standing is not None:
        yield 0, [standing]
    yield 4, [Run(gpu.name or "GPU", "dim")]
    yield 6, [Run(gpu.source, "dim")]
    if gpu.performance_level is not None:
        level = Run(gpu.performance_level, "dim", Ref("gpu.performance_level", gpu.id))
        yield 5, [Run("dpm ", "dim"), level]
    others = len(view.frame.gpus) - 1 if view.frame is not None else 0
    if others > 0:
        yield 3, [Run(f"+{others} GPU{'s' if others > 1 else ''}", "dim")]
    if npu := npu_words(gpu):
        yield 3, [Run(npu, "dim", Ref("gpu.npu_power_watts", gpu.id))]
    if standing is not None:
        return  # the rest was true once
    if gpu.asleep:
        yield 1, [Run("asleep", "dim")]
    if gpu.busy_doubtful:
        yield 1, [Run("100 % is doubtful", "warning", Ref("gpu.busy_doubtful", gpu.id))]
    if told := held(gpu):
        yield 2, [Run(*told, Ref("gpu.held_by", gpu.id))]


def _figure(view: View, key: str) -> tuple[Run, ...]:
    label = fields.BY_ID[f"gpu.{key}"].label
    return (Run(f" {label:<9}", "dim"), view.value(view.gpu, key, 8))
