"""Where the numbers come from, how old they are, and what to do about those that are missing."""

from __future__ import annotations

from halotui import format
from halotui.model import Source, SourceState
from halotui.widgets.rows import Row, Run, fill, fit, right, rule, window
from halotui.widgets.view import View

_STYLES = {
    SourceState.OK: "life",
    SourceState.HUNG: "trouble",
    SourceState.FAILED: "trouble",
    SourceState.STALE: "warning",
}


def rows(view: View, width: int, height: int) -> list[Row]:
    return window(page(view, width), view.top, width, height)


def page(view: View, width: int) -> list[Row]:
    """All of it, however long."""
    out = [rule("sources", width)]
    head = f" {fit('source', 38)}{fit('read by', 14)}{fit('state', 9)}{right('age', 8)}{right('took', 10)}"
    out.append(fill((Run(head, "dim"),), width))
    for source in view.sources.values():
        out.append(_line(source, width))
        told = (text for text in (source.reason, source.hint) if text)
        out += [fill((Run(f"     {text}", "dim"),), width) for text in told]
    return out


def _line(source: Source, width: int) -> Row:
    age = format.duration(source.age_seconds) if source.age_seconds is not None else format.DASH
    took = f"{source.duration_seconds * 1000:.1f} ms" if source.duration_seconds is not None else format.DASH
    return fill(
        (
            Run(f" {fit(source.id, 38)}", "text"),
            Run(fit(source.name or "", 14), "dim"),
            Run(fit(str(source.state), 9), _STYLES.get(source.state, "dim")),
            Run(right(age, 8), "text"),
            Run(right(took, 10), "dim"),
        ),
        width,
    )
