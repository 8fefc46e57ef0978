"""The keys that matter most, always at hand; a click does the same."""

from __future__ import annotations

from halotui.widgets.rows import KEY, Ref, Row, Run, fill
from halotui.widgets.view import View

# id in keymap, key, word
_SHOWN = (
    ("quit", "q", "quit"),
    ("help", "?", "help"),
    ("explain", "e", "explain"),
    ("palette", "^p", "all"),
    ("freeze", "space", "freeze"),
    ("filter", "/", "filter"),
    ("theme", "t", "theme"),
    ("sources", "3", "sources"),
    ("copy", "y", "copy"),
    ("write", "w", "write"),
    ("next-server", "]", "server"),
)


def rows(view: View, width: int, height: int) -> list[Row]:
    """One row."""
    runs: list[Run] = []
    room = width
    for id_, key, word in _SHOWN:
        room -= len(key) + len(word) + 3
        if room < 0:
            break
        ref = Ref(KEY, id_)
        runs += [Run(f" {key} ", "headvalue", ref), Run(f"{word} ", "headdim", ref)]
    return [fill(runs, width, "head")]
