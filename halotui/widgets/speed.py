"""How fast: decode, prefill, and whether drafting pays, each with its history."""

from __future__ import annotations

from halotui import fields, format
from halotui.widgets.rows import Row, Run, fill, rule, width_of
from halotui.widgets.view import View

# key, fixed top of its chart, the figure beside it when there is room
_COLUMNS: tuple[tuple[str, float | None, str | None], ...] = (
    ("generation_tokens_per_second", None, "last_generation_tokens_per_second"),
    ("prompt_tokens_per_second", None, "last_prompt_tokens_per_second"),
    ("draft_acceptance_ratio", 1.0, None),
    ("draft_coverage_ratio", None, None),
)


def rows(view: View, width: int, height: int) -> list[Row]:
    """A rule, the numbers, and as many rows of charts as ``height`` leaves."""
    server = view.server
    seconds = view.interval
    column = (width - 1) // len(_COLUMNS)
    charts = height - 2
    span = format.duration(2 * (column - 2) * seconds)
    out = [rule("speed", width, (Run(f"charts: last {span}", "dim"),) if charts > 0 else ())]
    numbers: list[Run] = []
    pictures: list[list[str]] = []
    for key, top, beside in _COLUMNS:
        picture = view.draw(server, key, column - 2, charts, top) if charts > 0 else []
        runs = [Run(f" {fields.BY_ID[f'server.{key}'].label} ", "dim"), view.value(server, key, 9)]
        last = getattr(server, beside) if server is not None and beside else None
        if beside and last is not None and column >= 34:
            runs += [Run("   last ", "dim"), view.value(server, beside, 0, "text")]
        if charts > 0 and server is not None and column >= 24 and top is None:
            scale = view.chart(server, key, column - 2, charts).top
            unit = fields.BY_ID[f"server.{key}"].unit
            text = format.percent(scale) if unit == "ratio" else format.digits(scale)
            room = column - 1 - sum(width_of(run.text) for run in runs)
            if room > len(text) + 4:
                runs += [Run(" " * (room - len(text) - 2), "text"), Run(f"≤{text} ", "faint")]
        numbers += fill(runs, column)
        pictures.append(picture)
    out.append(fill(numbers, width))
    for y in range(charts):
        line: list[Run] = []
        for picture in pictures:
            line += (Run(" ", "text"), Run(picture[y], "chart"), Run(" ", "text"))
        out.append(fill(line, width))
    return out
