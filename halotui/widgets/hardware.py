"""The chip: busy, clocks with their limit, power, temperature; with history where there is room."""

from __future__ import annotations

from halotui import fields, format
from halotui.widgets.chart import Look
from halotui.widgets.columns import chart_width, figures, pictures
from halotui.widgets.rows import Ref, Row, Run, fill, rule
from halotui.widgets.view import View

# a column each: the charted figure, the one below it, how the chart looks
_COLUMNS: tuple[tuple[str, str, Look], ...] = (
    ("busy_percent", "mclk_hertz", Look(top=100.0)),
    ("sclk_hertz", "sclk_limit_hertz", Look(top=3e9)),
    ("socket_power_watts", "gfx_power_watts", Look(least=100.0)),
    ("temperature_celsius", "fclk_hertz", Look(top=100.0, edge=True)),
)


def rows(view: View, width: int, height: int) -> list[Row]:
    """A rule, two lines of figures, charts below."""
    gpu = view.gpu
    source = view.sources.get("gpu")
    if gpu is None:
        why = "not read yet"
        if source is not None:
            why = " — ".join(text for text in (source.reason, source.hint) if text) or why
        return [rule("hardware", width), fill((Run(f" {format.DASH} {why}", "dim"),), width)][:height]
    note = [Run(f"{gpu.name or 'GPU'} · {gpu.source}", "dim")]
    if gpu.performance_level is not None:
        note += [
            Run(" · dpm ", "dim"),
            Run(gpu.performance_level, "dim", Ref("gpu.performance_level", gpu.id)),
        ]
    if source is not None and view.late("gpu"):
        age = format.duration(source.age_seconds) if source.age_seconds is not None else "?"
        note = [Run(f"{source.state}: last answer {age} ago", "trouble")]
    out = [rule("hardware", width, note)]
    out.append(figures([_figure(view, key) for key, _, _ in _COLUMNS], width))
    out.append(figures([_figure(view, key) for _, key, _ in _COLUMNS], width))
    charts = height - len(out)
    if charts > 0:
        size = chart_width(width, len(_COLUMNS))
        drawn = [view.draw(gpu, key, size, charts, look) for key, _, look in _COLUMNS]
        out += pictures(drawn, width, charts, "chart2")
    return out[:height]


def _figure(view: View, key: str) -> tuple[Run, ...]:
    label = fields.BY_ID[f"gpu.{key}"].label
    return (Run(f" {label:<9}", "dim"), view.value(view.gpu, key, 8))
