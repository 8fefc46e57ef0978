"""The log, newest line last; the first panel to shrink."""

from __future__ import annotations

import re
from collections.abc import Sequence

from halotui.model import LogLine
from halotui.widgets.rows import Ref, Row, Run, fill, rule
from halotui.widgets.view import View

_GAPS = re.compile(r" {2,}")
_ROOMY = 150  # columns from which the log's own alignment fits
_STYLES = {"error": "trouble", "warning": "warning", "debug": "faint"}


def rows(view: View, width: int, height: int) -> list[Row]:
    """A rule and the last lines that fit."""
    server = view.server
    source = view.sources.get(f"log {server.url}") if server is not None else None
    note: list[Run] = []
    if view.scroll:
        note.append(Run(f"{view.scroll} more below  ", "warning"))
    if view.filter:
        note.append(Run(f"filter: {view.filter}", "warning"))
    elif server is not None and server.log_path is not None:
        name = server.log_path.rpartition("/")[2] if server.log_path != "-" else "standard input"
        note.append(Run(name, "dim", Ref("server.log_path", server.url)))
    out = [rule("log", width, note)]
    lines = _window(view.log(), height - 1, view.scroll)
    if not lines:
        why = "no log followed: start the server with --log-file, or give --log"
        if source is not None:
            why = source.reason or ("no lines of that time" if view.clock else "nothing yet")
        if view.filter:
            why = f"no line matches '{view.filter}'"
        lines_out = [fill((Run(f" {why}", "dim"),), width)]
    else:
        squeeze = width < _ROOMY
        runs = (
            (
                Run(" ", "text"),
                Run(_GAPS.sub(" ", line.text) if squeeze else line.text, _STYLES.get(line.level, "text")),
            )
            for line in lines
        )
        lines_out = [fill(line, width) for line in runs]
    out += lines_out
    out += [fill((), width)] * (height - len(out))
    return out[:height]


def _window(lines: Sequence[LogLine], height: int, below: int) -> Sequence[LogLine]:
    end = max(min(height, len(lines)), len(lines) - below)
    return lines[max(0, end - height) : end] if height > 0 else ()
