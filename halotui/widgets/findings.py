"""What is wrong, one line each; nothing at all on a quiet box."""

from __future__ import annotations

from halotui.model import Severity
from halotui.widgets.rows import FINDING, Ref, Row, Run, fill, spread
from halotui.widgets.tabs import number_of
from halotui.widgets.view import View

MARKS = {Severity.CRITICAL: ("✖", "trouble"), Severity.WARNING: ("▲", "warning"), Severity.INFO: ("·", "dim")}


def rows(view: View, width: int, height: int) -> list[Row]:
    findings = view.frame.findings if view.frame is not None else ()
    out: list[Row] = []
    shown = findings if len(findings) <= height else findings[: max(0, height - 1)]
    for finding in shown:
        mark, style = MARKS[finding.severity]
        ref = Ref(FINDING, f"{finding.id} {finding.subject}")
        tab = number_of(view, finding.subject)
        whose = () if tab is None else (Run(f"{tab} ", "dim"),)
        title = Run(finding.title, style, ref)
        line = (Run(f" {mark} ", style), *whose, title, Run(f"  {finding.evidence}", "text"))
        hint = (Run("  e explains ", "dim"),) if not out and width >= 100 else ()
        out.append(spread(line, hint, width))
    if len(shown) < len(findings):
        out.append(fill((Run(f"   and {len(findings) - len(shown)} more", "dim"),), width))
    return out
