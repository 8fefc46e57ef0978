"""The keys that matter most, always at hand; a click does the same. At the right: what goes on meanwhile."""

from __future__ import annotations

from collections.abc import Collection

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
    ("play", "space", "play"),
    ("back", ",", "-10 s"),
    ("forward", ".", "+10 s"),
    ("next-event", "n", "next"),
    ("go-to", "g", "go to"),
    ("play-faster", "+", "faster"),
    ("palette", "^p", "all"),
    ("peak", "P", "peak"),
    ("mark", "m", "mark"),
    ("freeze", "space", "freeze"),
    ("filter", "/", "filter"),
    ("theme", "t", "theme"),
    ("sources", "3", "sources"),
    ("history", "4", "history"),
    ("copy", "y", "copy"),
    ("write", "w", "write"),
    ("next-server", "]", "server"),
)


def rows(
    view: View, width: int, height: int, *, ids: Collection[str] = (), note: str = "", loud: bool = False
) -> list[Row]:
    """One row. ``ids``: of the keys that are there; ``note``: a click on it does what ``r`` does."""
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
