"""The keys that matter most, always at hand; a click does the same. At the right: what goes on meanwhile."""

from __future__ import annotations

from collections.abc import Mapping

from halotui.widgets.rows import KEY, Ref, Row, Run, fill, spread, width_of
from halotui.widgets.view import View

# id in keymap, word
_SHOWN = (
    ("quit", "quit"),
    ("help", "help"),
    ("enter", "open"),
    ("explain", "explain"),
    ("login", "log in"),
    ("fleet", "boxes"),
    ("order", "order"),
    ("reverse", "reverse"),
    ("window", "window"),
    ("cockpit", "cockpit"),
    ("play", "play"),
    ("back", "-10 s"),
    ("forward", "+10 s"),
    ("next-event", "next"),
    ("go-to", "go to"),
    ("relaunch", "relaunch"),
    ("swap", "swap"),
    ("undo", "undo"),
    ("peak", "peak"),
    ("box", "box"),
    ("requests", "requests"),
    ("processes", "processes"),
    ("palette", "all"),
    ("server", "server"),
    ("stop", "stop"),
    ("filter", "filter"),
    ("play-faster", "faster"),
    ("mark", "mark"),
    ("sources", "sources"),
    ("history", "history"),
    ("freeze", "freeze"),
    ("theme", "theme"),
    ("copy", "copy"),
    ("write", "write"),
    ("next-server", "next server"),
    ("next-box", "next box"),
)
_UNFILTERED = ("sources", "server", "box", "processes")  # views without a list


def rows(
    view: View,
    width: int,
    height: int,
    *,
    keys: Mapping[str, str] | None = None,
    note: str = "",
    loud: bool = False,
    here: str = "",
) -> list[Row]:
    """One row. ``keys``: those that are there, by id; ``note``: a click on it does what ``r`` does;
    ``here``: the view on screen."""
    right = [Run(f" {note} ", "headtrouble" if loud else "headlife", Ref(KEY, "relaunch"))] if note else []
    runs: list[Run] = []
    there = keys or {}
    room = width - sum(width_of(run.text) for run in right)
    for id_, word in _SHOWN:
        key = there.get(id_, "").partition(" ")[0].replace("ctrl+", "^")
        if not key or id_ == here or (id_ == "filter" and here in _UNFILTERED):
            continue
        room -= len(key) + len(word) + 3
        if room < 0:
            break
        ref = Ref(KEY, id_)
        runs += [Run(f" {key} ", "headvalue", ref), Run(f"{word} ", "headdim", ref)]
    return [spread(runs, right, width, "head") if right else fill(runs, width, "head")]
