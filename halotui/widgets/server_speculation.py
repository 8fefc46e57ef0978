"""Whether speculation pays: what was drafted, what of it was accepted, and what that gained."""

from __future__ import annotations

from halotui import fields, format
from halotui.model import Server
from halotui.widgets.rows import Ref, Run
from halotui.widgets.sheet import LABEL, Line, Section, fact, facts, lead, wrapped
from halotui.widgets.view import View

BARS = " ▁▂▃▄▅▆▇█"
_POSITIONS = 32  # drawn at most
_TOLD = 4  # shares told in numbers


def speculation(view: View, server: Server, width: int) -> Section:
    """Nothing where a server does not speculate and was not asked to."""
    if not (server.speculative or server.spec_type or server.draft_model):
        return Section("speculation", ())
    lines = facts(view, server, ((server, "spec_type"), (server, "draft_model")))
    if server.speculative is not None:
        line = fact(view, server, server, "speculative")
        if not server.speculative:
            line = line._replace(runs=[line.runs[0], line.runs[1]._replace(style="warning")])
        lines.append(line)
    lines += [
        fact(view, server, server, key)
        for key in ("draft_acceptance_ratio", "draft_coverage_ratio")
        if server.speculative or getattr(server, key) is not None
    ]
    lines += facts(view, server, ((server, "draft_mean_tokens"),))
    if server.draft_accepted_per_position:
        lines.append(_positions(server))
    if server.draft_gained_tokens is not None:
        lines.append(
            fact(
                view,
                server,
                server,
                "draft_gained_tokens",
                Run(" · passes saved", "dim"),
            )
        )
    lines += gain(server, width)
    return Section("speculation", lines)


def _positions(server: Server) -> Line:
    """A bar for each place in the draft, and the first ones in numbers."""
    shares = server.draft_accepted_per_position[:_POSITIONS]
    field = fields.BY_ID["server.draft_accepted_per_position"]
    bars = "".join(BARS[max(1 if share > 0 else 0, min(8, round(share * 8)))] for share in shares)
    told = " ".join(f"{share * 100:.0f}" for share in shares[:_TOLD])
    more = " …" if len(shares) > _TOLD else ""
    ref = Ref(field.id, server.url)
    return Line((lead(field.label), Run(bars, "chart", ref), Run(f"  {told}{more} %", "text", ref)))


def gain(server: Server, width: int) -> list[Line]:
    """In words: who reads a ratio has to think."""
    ratio, error = server.draft_gain_ratio, server.draft_gain_error_ratio
    if ratio is None:
        return []
    field = fields.BY_ID["server.draft_gain_ratio"]
    ref = Ref(field.id, server.url)
    text, style = gain_words(ratio, error)
    parts = wrapped(text, width - LABEL)
    return [Line((lead("" if at else field.label), Run(part, style, ref))) for at, part in enumerate(parts)]


def gain_words(ratio: float, error: float | None) -> tuple[str, str]:
    """ "34 % ± 8 % faster than without (estimated)" and its style."""
    change = abs(ratio - 1)
    margin = f" ± {format.percent(error)}" if error is not None else ""
    if change <= (error or 0) or change < 0.005:
        return f"no difference that can be told{margin} (estimated)", "text"
    faster = ratio > 1
    words = f"{format.percent(change)}{margin} {'faster' if faster else 'slower'} than without (estimated)"
    return words, "life" if faster else "warning"
