"""The keys that matter most, always at hand."""

from __future__ import annotations

from halotui.widgets.rows import Row, Run, fill
from halotui.widgets.view import View

KEYS = (
    ("q", "quit"),
    ("?", "help"),
    ("e", "explain"),
    ("space", "freeze"),
    ("/", "filter"),
    ("+-", "interval"),
    ("t", "theme"),
    ("y", "copy"),
    ("w", "write"),
    ("[ ]", "server"),
)


def rows(view: View, width: int, height: int) -> list[Row]:
    runs: list[Run] = []
    for key, what in KEYS:
        runs += [Run(f" {key} ", "headvalue"), Run(f"{what} ", "headdim")]
    return [fill(runs, width, "head")]
