"""Where the numbers come from, how old they are, and what to do about those that are missing."""

from __future__ import annotations

from halotui import format
from halotui.model import Source, SourceState
from halotui.widgets.rows import Row, Run, fill, fit, right, rule, window
from halotui.widgets.sheet import wrapped
from halotui.widgets.view import View

_STYLES = {
    SourceState.OK: "life",
    SourceState.HUNG: "trouble",
    SourceState.FAILED: "trouble",
    SourceState.STALE: "warning",
    SourceState.DENIED: "warning",
}
_ID, _NAME, _STATE = 38, 22, 23  # cells
_AGE, _TOOK = 8, 10


def rows(view: View, width: int, height: int) -> list[Row]:
    return window(page(view, width), view.top, width, height)


def page(view: View, width: int) -> list[Row]:
    """All of it, however long. Those that are not asked stand at the end."""
    out = [rule("sources", width)]
    name, state = (_NAME, _STATE) if width >= 104 else (14, 8)
    head = f" {fit('source', _ID)}{fit('read by', name)}{fit('state', state)}"
    out.append(fill((Run(head + right("last", _AGE) + right("took", _TOOK), "dim"),), width))
    for source in sorted(view.sources.values(), key=lambda source: source.state is SourceState.UNUSED):
        out.append(_line(source, name, state, width))
        since = _since(source) if state < _STATE else ""
        reason = ": ".join(text for text in (since, source.reason) if text)
        told = (text for text in (reason, source.hint) if text)
        lines = [line for text in told for line in wrapped(text, width - 6)]
        out += [fill((Run(f"     {line}", "dim"),), width) for line in lines]
    return out


def _since(source: Source) -> str:
    """Of no use where it never was asked."""
    asked = source.state is not SourceState.UNUSED
    return f"since {format.clock(source.since_time)}" if asked and source.since_time is not None else ""


def _line(source: Source, name: int, state: int, width: int) -> Row:
    age = f"{format.duration(source.age_seconds)}" if source.age_seconds is not None else format.DASH
    took = f"{source.duration_seconds * 1000:.1f} ms" if source.duration_seconds is not None else format.DASH
    said = str(source.state).replace("_", " ")
    if state == _STATE and (since := _since(source)):
        said += f" {since}"
    return fill(
        (
            Run(f" {fit(source.id, _ID)}", "text"),
            Run(fit(source.name or "", name), "dim"),
            Run(fit(said, state), _STYLES.get(source.state, "dim")),
            Run(right(age, _AGE), "text"),
            Run(right(took, _TOOK), "dim"),
        ),
        width,
    )
