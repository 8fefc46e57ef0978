"""What the chip could reach with this model, and how near the server comes to it."""

from __future__ import annotations

from halotui import format
from halotui.model import Server, ServerFacts
from halotui.widgets.rows import Ref, Run
from halotui.widgets.sheet import Line, Section, fact, lead, source_of
from halotui.widgets.view import View

_PAIRS = (
    ("decode_ceiling_tokens_per_second", "decode_bandwidth_ratio", "of bandwidth"),
    ("prefill_ceiling_tokens_per_second", "prefill_compute_ratio", "of compute"),
)


def limits(view: View, server: Server) -> Section:
    """Nothing of a model whose weights are not known."""
    known = server.facts or ServerFacts()
    lines = []
    if known.active_parameters is not None:
        lines.append(_active(server, known, known.active_parameters))
    if known.token_bytes is not None:
        lines.append(fact(view, server, known, "token_bytes", Run(" of weights", "dim")))
    for ceiling, ratio, of in _PAIRS:
        if getattr(server, ceiling) is not None:
            near = view.value(server, ratio, style="value")
            lines.append(fact(view, server, server, ceiling, Run(" · ", "dim"), near, Run(f" {of}", "dim")))
    return Section("limits of the chip", lines)


def _active(server: Server, known: ServerFacts, active: int) -> Line:
    many = active >= 1e9
    number = format.digits(active / (1e9 if many else 1e6))
    size = Run(
        f"{number} {'billion' if many else 'million'}", "text", Ref("facts.active_parameters", server.url)
    )
    runs = [lead("active"), size, Run(" parameters", "dim")]
    if known.experts is not None and known.experts_used is not None:
        runs.append(Run(f" · {known.experts_used} of {known.experts} experts", "dim"))
    return Line(runs, source_of(server, "active_parameters"))
