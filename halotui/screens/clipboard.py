"""To the clipboard of the terminal that the user sits at, through SSH, tmux and GNU screen: OSC 52.

The terminal takes it or ignores it, and says nothing. tmux takes the plain form where ``set-clipboard`` is
on, and hands on what is wrapped where ``allow-passthrough`` is: it is sent both. GNU screen hands on what is
wrapped, in pieces.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

OSC52 = "\x1b]52;c;"
LONGEST = 74_994  # bytes of base64: what the strictest of the terminals takes
TOO_LONG = "too much for a clipboard behind a terminal: w writes a file"
_PIECE = 250  # bytes of a string that GNU screen hands on, older ones too
_ST = "\x1b\\"


def wrapped(plain: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """An OSC 52 as it comes to the terminal; None: it is too long, and would be dropped on the way."""
    if len(plain) > len(OSC52) + LONGEST + 1:
        return None
    if environ.get("TMUX"):
        return f"{plain}\x1bPtmux;{plain.replace(chr(27), chr(27) * 2)}{_ST}"
    if environ.get("STY"):
        pieces = (plain[at : at + _PIECE] for at in range(0, len(plain), _PIECE))
        return "".join(f"\x1bP{piece}{_ST}" for piece in pieces)
    return plain
