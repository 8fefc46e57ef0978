"""What a router, Ollama or llama-swap serves: a row a model, in place of the slots that its children have."""

from __future__ import annotations

from typing import NamedTuple

from halotui.model import ModelState, Server
from halotui.widgets.columns import fitting
from halotui.widgets.rows import Ref, Row, Run, fill, fit, right, rule, width_of
from halotui.widgets.view import View

_STYLES = {
    ModelState.LOADED: "life",
    ModelState.LOADING: "value",
    ModelState.DOWNLOADING: "value",
    ModelState.FAILED: "trouble",
}
_STATE, _NAME, _REASON = 13, 24, 24  # cells of the state; at least those of the name, and of why it failed
_ROOMY = 72  # columns from which every state is counted
_ORDER = (
    ModelState.FAILED,
    ModelState.LOADING,
    ModelState.DOWNLOADING,
    ModelState.LOADED,
    ModelState.SLEEPING,
    ModelState.UNLOADED,
)


class Column(NamedTuple):
    heading: str
    width: int
    key: str
    rank: int


_COLUMNS = (
    Column("memory", 10, "bytes", 0),
    Column("on GPU", 10, "gpu_bytes", 2),
    Column("context", 13, "context_tokens", 3),
    Column("until", 10, "expires_time", 1),
    Column("address", 26, "address", 4),
)


def rows(view: View, width: int, height: int) -> list[Row]:
    """A rule, the headings, a row a model, unloaded ones last; the last row says how many are not shown."""
    server = view.server
    return [head(server, width), *table(view, server, width, height - 1)][:height]


def head(server: Server | None, width: int) -> Row:
    """The rule, with how many are in which state."""
    states = [model.state for model in server.models] if server is not None else []
    told = " · ".join(f"{states.count(state)} {state}" for state in _ORDER if state in states)
    if states and width < _ROOMY:
        told = f"{states.count(ModelState.LOADED)} of {len(states)} loaded"
    return rule("models", width, [Run(told, "dim")] if told else [])


def table(view: View, server: Server | None, width: int, height: int) -> list[Row]:
    """Without the rule."""
    if server is None or not server.models or height < 2:
        return []
    known = [c for c in _COLUMNS if any(getattr(model, c.key) is not None for model in server.models)]
    reason = _REASON if any(model.reason for model in server.models) else 0
    columns = fitting(known, width - _STATE - _NAME - reason - 2)
    longest = max(width_of(model.id) for model in server.models) + 1
    name = max(_NAME, min(longest, width - 2 - _STATE - reason - sum(column.width for column in columns)))
    headings = [Run(f"  {fit('model', name)}{fit('state', _STATE)}", "dim")]
    headings += [Run(right(column.heading, column.width), "dim") for column in columns]
    out = [fill(headings, width)]
    order = sorted(server.models, key=lambda model: _ORDER.index(model.state))
    shown = order if len(order) < height else order[: height - 2]
    for model in shown:
        subject = f"{server.url}#{model.id}"
        style = _STYLES.get(model.state, "dim")
        line = [
            Run("  "),
            Run(fit(model.id, name - 1) + " ", "text" if style != "dim" else "dim", Ref("model.id", subject)),
            Run(fit(str(model.state), _STATE), style, Ref("model.state", subject)),
        ]
        line += [view.value(model, c.key, c.width, "text", subject) for c in columns]
        if model.reason:
            line.append(Run(f"  {model.reason}", "trouble" if style == "trouble" else "dim"))
        out.append(fill(line, width))
    if len(shown) < len(order):
        out.append(fill((Run(f"  and {len(order) - len(shown)} more", "dim"),), width))
    return out
