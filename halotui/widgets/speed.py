"""How fast: decode, prefill, and whether drafting pays, each with its history."""

from __future__ import annotations

from collections.abc import Iterator

from halotui import fields, format
from halotui.widgets.chart import Look
from halotui.widgets.columns import chart_width, figures, pictures
from halotui.widgets.rows import Row, Run, joined, rule, width_of
from halotui.widgets.view import View

# key, how its chart looks, the figure beside it when there is room
_COLUMNS: tuple[tuple[str, Look, str | None], ...] = (
    ("generation_tokens_per_second", Look(), "last_generation_tokens_per_second"),
    ("prompt_tokens_per_second", Look(), "last_prompt_tokens_per_second"),
    ("draft_acceptance_ratio", Look(top=1.0, edge=True), None),
    ("draft_coverage_ratio", Look(least=1.0, edge=True), None),
)
_CEILINGS = ("decode_bandwidth_ratio", "prefill_compute_ratio")
_TITLE = 11  # cells of the rule that are no note


def rows(view: View, width: int, height: int) -> list[Row]:
    """A rule, the numbers, and as many rows of charts as ``height`` leaves."""
    charts = height - 2
    size = chart_width(width, len(_COLUMNS))
    out = [rule("speed", width, joined(_note(view, size if charts > 0 else 0), width - _TITLE))]
    drawn = [view.draw(view.server, key, size, charts, look) for key, look, _ in _COLUMNS]
    out.append(figures([_figure(view, *column, size, charts) for column in _COLUMNS], width))
    return out + pictures(drawn, width, charts, "chart")


def _note(view: View, charts: int) -> Iterator[tuple[int, list[Run]]]:
    """How near the limits of the box, what a token costs, and how long ``charts`` cells are: in the rule, for
    there they have room on every screen, and stand still."""
    server = view.server
    if server is None:
        return
    for key in _CEILINGS:
        ratio = getattr(server, key)
        if ratio is not None:
            label = fields.BY_ID[f"server.{key}"].label
            yield 0, [view.value(server, key, 4 if ratio < 0.995 else 5, "dim"), Run(f" {label}", "dim")]
    energy = view.frame.energy if view.frame is not None else None
    if energy is not None and energy.decode_joules_per_token is not None:
        joules = view.value(energy, "decode_joules_per_token", 7, "dim")
        yield 2, [joules, Run(" a token", "dim")]
    if charts:
        seconds = 2 * charts * view.interval
        span = f"{seconds:.0f} s" if seconds < 180 else format.duration(seconds)
        yield 1, [Run(f"charts: last {span}", "dim")]


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
