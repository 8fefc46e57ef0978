"""The log, newest line last; the first panel to shrink."""

from __future__ import annotations

from halotui.widgets.rows import Ref, Row, Run, fill, rule
from halotui.widgets.view import View

_STYLES = {"error": "trouble", "warning": "warning", "debug": "faint"}


def rows(view: View, width: int, height: int) -> list[Row]:
    """A rule and the last lines that fit."""
    server = view.server
    source = view.sources.get(f"log {server.url}") if server is not None else None
    note: list[Run] = []
    if view.filter:
        note.append(Run(f"filter: {view.filter}", "warning"))
    elif server is not None and server.log_path is not None:
        name = server.log_path.rpartition("/")[2]
        note.append(Run(name, "dim", Ref("server.log_path", server.url)))
    out = [rule("log", width, note)]
    lines = list(view.log())[-(height - 1) :] if height > 1 else []
    if not lines:
        why = "no log followed: start the server with --log-file, or give --log"
        if source is not None:
            why = source.reason or "nothing yet"
        if view.filter:
            why = f"no line matches '{view.filter}'"
        lines_out = [fill((Run(f" {why}", "dim"),), width)]
    else:
        lines_out = [
            fill((Run(" ", "text"), Run(line.text, _STYLES.get(line.level, "text"))), width) for line in lines
        ]
    out += lines_out
    out += [fill((), width)] * (height - len(out))
    return out[:height]
