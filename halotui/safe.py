"""Every byte from a log, a file name, a process or a server is hostile: made harmless here, once."""

from __future__ import annotations

import re
import unicodedata

# CSI, OSC (ended by BEL or ST), DCS/PM/APC/SOS strings, and the two-byte escapes; 8-bit C1 forms too.
_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x1b\x9c]*(?:\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_PLAIN = re.compile(r"[ -~]*\Z")
_HARMFUL = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
LONGEST = 2000


def clean(raw: bytes | str, longest: int = LONGEST) -> str:
    """One line of harmless text: no control, escape, bidi or invisible characters, at most ``longest``.

    Tabs and odd spaces become a space, a broken byte U+FFFD; other harmful characters go. Printable
    ASCII, the common case, is returned as it came.
    """
    text = raw[: longest * 4].decode("utf-8", "replace") if isinstance(raw, bytes) else raw[: longest * 4]
    if _PLAIN.match(text):
        return text[:longest]
    text = _ESCAPE.sub("", text).expandtabs(1)
    return "".join(map(_harmless, text))[:longest]


def _harmless(char: str) -> str:
    kind = unicodedata.category(char)
    return " " if kind == "Zs" else "" if kind in _HARMFUL else char
