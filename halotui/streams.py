"""Standard streams that take whatever is printed: also where there is none, or none but ASCII."""

from __future__ import annotations

import codecs
import os
import sys
from typing import TextIO

# What a terminal without Unicode shows instead; the rest is a ?.
PLAIN = {
    "✓": "ok",
    "✗": "x",
    "→": "->",
    "·": "-",
    "…": "...",
    "–": "-",
    "’": "'",
    "°": "deg ",
    "×": "x",
    "█": "#",
    "░": ".",
    "±": "+-",
    "Δ": "d",
    "≈": "=",
    "▲": "^",
    "▼": "v",
    "≥": ">=",
    "≤": "<=",
}


def mend() -> None:
    """A closed stream becomes an empty one, and no character is an error any more."""
    codecs.register_error("halotui", _plainly)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as we live
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="halotui")


def _plainly(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(letter, "?") for letter in text), error.end
