"""How fast: decode, prefill, and whether drafting pays, each with its history."""

from __future__ import annotations

from halotui import fields, format
from halotui.widgets.chart import Look
from halotui.widgets.columns import chart_width, figures, pictures
from halotui.widgets.rows import Row, Run, rule, width_of
from halotui.widgets.view import View

# key, how its chart looks, the figure beside it when there is room
_COLUMNS: tuple[tuple[str, Look, str | None], ...] = (
    ("generation_tokens_per_second", Look(), "last_generation_tokens_per_second"),
    ("prompt_tokens_per_second", Look(), "last_prompt_tokens_per_second"),
    ("draft_acceptance_ratio", Look(top=1.0, edge=True), None),
    ("draft_coverage_ratio", Look(least=1.0, edge=True), None),
)


def rows(view: View, width: int, height: int) -> list[Row]:
    """A rule, the numbers, and as many rows of charts as ``height`` leaves."""
    charts = height - 2
    size = chart_width(width, len(_COLUMNS))
    seconds = 2 * size * view.interval
    span = f"{seconds:.0f} s" if seconds < 180 else format.duration(seconds)
    drawing = charts > 0 and view.server is not None
    out = [rule("speed", width, (Run(f"charts: last {span}", "dim"),) if drawing else ())]
    drawn = [view.draw(view.server, key, size, charts, look) for key, look, _ in _COLUMNS]
    out.append(figures([_figure(view, *column, size, charts) for column in _COLUMNS], width))
    return out + pictures(drawn, width, charts, "chart")


def _figure(view: View, key: str, look: Look, beside: str | None, size: int, charts: int) -> list[Run]:
    """Label and value; the last request's where there is room; the chart's scale at the right."""
    server = view.server
    field = fields.BY_ID[f"server.{key}"]
    runs = [Run(f" {field.label:<8}", "dim"), view.value(server, key, 9)]
    if beside and size >= 32 and server is not None and getattr(server, beside) is not None:
        runs += [Run("  last ", "dim"), view.value(server, beside, 9, "text")]
    if charts > 0 and server is not None and look.top is None:
        scale = view.chart(server, key, size, charts, look).top
        text = f"≤{format.percent(scale) if field.unit == 'ratio' else format.digits(scale)}"
        room = size + 1 - sum(width_of(run.text) for run in runs)
        if room > len(text) + 1:
            runs += [Run(" " * (room - len(text))), Run(text, "dim")]
    return runs
