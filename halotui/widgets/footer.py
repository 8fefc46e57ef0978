"""The keys that matter most, always at hand; a click does the same. At the right: what goes on meanwhile."""

from __future__ import annotations

from halotui.keymap import usable
from halotui.widgets.rows import KEY, Ref, Row, Run, fill, spread, width_of
from halotui.widgets.view import View

# id in keymap, key, word
_SHOWN = (
    ("quit", "q", "quit"),
    ("help", "?", "help"),
    ("explain", "e", "explain"),
    ("relaunch", "r", "relaunch"),
    ("swap", "b", "swap"),
    ("undo", "u", "undo"),
    ("stop", "x", "stop"),
    ("palette", "^p", "all"),
    ("freeze", "space", "freeze"),
    ("filter", "/", "filter"),
    ("theme", "t", "theme"),
    ("sources", "3", "sources"),
    ("copy", "y", "copy"),
    ("write", "w", "write"),
    ("next-server", "]", "server"),
)


def rows(
    view: View, width: int, height: int, *, acting: bool = False, note: str = "", loud: bool = False
) -> list[Row]:
    """One row. ``acting``: servers may be changed; ``note``: a click on it does what ``r`` does."""
    ids = {key.id for key in usable(acting)}
    right = [Run(f" {note} ", "headtrouble" if loud else "headlife", Ref(KEY, "relaunch"))] if note else []
    runs: list[Run] = []
    room = width - sum(width_of(run.text) for run in right)
    for id_, key, word in _SHOWN:
        if id_ not in ids:
            continue
        room -= len(key) + len(word) + 3
        if room < 0:
            break
        ref = Ref(KEY, id_)
        runs += [Run(f" {key} ", "headvalue", ref), Run(f"{word} ", "headdim", ref)]
    return [spread(runs, right, width, "head") if right else fill(runs, width, "head")]
