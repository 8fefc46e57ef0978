"""What an event looks like on a time axis: of the cockpit, whose rows name a style, and of a pop-up."""

from __future__ import annotations

from typing import NamedTuple

from halotui.runs import Event


class Look(NamedTuple):
    letter: str
    row: str  # style of the cockpit's rows
    popup: str  # Textual style


FAINT = "$foreground 60%"
_LOOKS = {  # when several fall into one cell, the first of these is seen
    "critical": Look("✖", "trouble", "bold $error"),
    "warning": Look("▲", "warning", "bold $warning"),
    "mark": Look("✚", "value", "bold $foreground"),
    "capture": Look("●", "life", "bold $primary"),
    "info": Look("·", "text", "$foreground"),
    "gap": Look("╌", "text", FAINT),
}
_RANKS = {name: rank for rank, name in enumerate(_LOOKS)}


def look_of(event: Event) -> Look:
    return _LOOKS[_name(event)]


def rank(event: Event) -> tuple[int, float]:
    """What is seen first comes first."""
    return _RANKS[_name(event)], event.time


def _name(event: Event) -> str:
    name = event.severity if event.kind == "finding" else event.kind
    return name if name in _LOOKS else "info"
