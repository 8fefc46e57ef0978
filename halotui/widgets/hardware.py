"""The chip: busy, clocks with their limit, power, temperature; with history where there is room."""

from __future__ import annotations

from halotui import fields, format
from halotui.widgets.rows import Row, Run, fill, rule, width_of
from halotui.widgets.view import View

_LINE = (
    "busy_percent",
    "sclk_hertz",
    "socket_power_watts",
    "gfx_power_watts",
    "temperature_celsius",
    "mclk_hertz",
    "fclk_hertz",
    "sclk_limit_hertz",
    "performance_level",
)
_CHARTS: tuple[tuple[str, float | None], ...] = (
    ("busy_percent", 100.0),
    ("sclk_hertz", 3e9),
    ("socket_power_watts", None),
    ("temperature_celsius", 100.0),
)


def rows(view: View, width: int, height: int) -> list[Row]:
    """A rule, the figures on as many lines as they need, charts below."""
    gpu = view.gpu
    source = view.sources.get("gpu")
    if gpu is None:
        why = "not read yet"
        if source is not None:
            why = " — ".join(text for text in (source.reason, source.hint) if text) or why
        return [rule("hardware", width), fill((Run(f" {format.DASH} {why}", "dim"),), width)][:height]
    note = [Run(f"{gpu.name or 'GPU'} · {gpu.source}", "dim")]
    if source is not None and view.late("gpu"):
        age = format.duration(source.age_seconds) if source.age_seconds is not None else "?"
        note = [Run(f"{source.state}: last answer {age} ago", "trouble")]
    out = [rule("hardware", width, note)]
    out += _figures(view, width)[: max(1, height - 1)]
    charts = height - len(out)
    if charts >= 2:
        out += _charts(view, width, charts)
    return out[:height]


def _figures(view: View, width: int) -> list[Row]:
    """Label and value pairs, broken into lines; each value keeps its width, so nothing jumps."""
    gpu = view.gpu
    lines: list[list[Run]] = [[]]
    used = 0
    for key in _LINE:
        value = view.value(gpu, key, 9)
        label = Run(f"  {fields.BY_ID[f'gpu.{key}'].label}", "dim")
        size = width_of(label.text) + 9
        if used + size > width and lines[-1]:
            lines.append([])
            used = 0
        lines[-1] += (label, value)
        used += size
    return [fill(line, width) for line in lines]


def _charts(view: View, width: int, height: int) -> list[Row]:
    gpu = view.gpu
    column = (width - 1) // len(_CHARTS)
    titles: list[Run] = []
    for key, _ in _CHARTS:
        titles += fill((Run(f" {fields.BY_ID[f'gpu.{key}'].label}", "faint"),), column)
    out = [fill(titles, width)]
    pictures = [view.draw(gpu, key, column - 2, height - 1, top) for key, top in _CHARTS]
    for y in range(height - 1):
        line: list[Run] = []
        for picture in pictures:
            line += (Run(" ", "text"), Run(picture[y], "chart2"), Run(" ", "text"))
        out.append(fill(line, width))
    return out
