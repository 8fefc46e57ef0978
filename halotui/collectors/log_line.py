"""One line of a llama-server log, taken apart: who wrote it, when, how loud, and what it says.

Before the message may stand, in this order: the stamp of a journal or of podman and docker, a router's
``[port] ``, the server's own ``M.SS.mmm.uuu L ``. ``--log-jsonl`` keeps clock and level in keys.
"""

from __future__ import annotations

import re
from datetime import datetime

import msgspec

from halotui.safe import clean


class Line(msgspec.Struct, frozen=True):
    """``text`` is the bare message: hostile bytes, to be matched, and cleaned before they are kept."""

    text: bytes
    level: str | None = None  # info | warning | error | debug; None: the line does not say
    clock: float | None = None  # seconds since the start of its process, to the microsecond
    stamp: float | None = None  # Unix seconds, when whoever passed it on took it
    child: int | None = None  # the port of the router's child that wrote it
    json: bytes = b""  # a line of --log-jsonl that is no message, whole


class _Json(msgspec.Struct):
    type: str = ""
    msg: str = ""
    level: str = "info"
    time: int | None = None  # microseconds


def cut(raw: bytes) -> Line:
    """Take a line without its newline apart. Never raises."""
    return _cut(*_head(raw))


def unquoted(line: Line) -> Line:
    """Without what others wrote and the server quotes: it may look like anything, and hold secrets."""
    if quote := _QUOTING.search(line.text):
        return msgspec.structs.replace(line, text=line.text[: quote.end()])
    return line


def shown(raw: bytes) -> tuple[str, str, Line]:
    """The text of a line as a person reads it, harmless, its level, and the line itself.

    The server's own clock and level stay in the text; a stamp and a router's port do not.
    """
    raw, own, stamp = _head(raw)
    line = _cut(raw, own, stamp)
    of_json = raw.startswith(b'{"', own.end()) and line.level is not None and not line.json
    text = clean(line.text if of_json else raw[own.end(1) + 2 if own[1] else own.start() :])
    return text, line.level or _guessed(text), line


def _head(raw: bytes) -> tuple[bytes, re.Match[bytes], float | None]:
    """The line without colours, what it begins with, its stamp."""
    if b"\x1b[" in raw:  # the server's own colours
        raw = _COLOUR.sub(b"", raw)
    stamp, own = None, _OWN.match(raw)
    assert own is not None  # all of it is optional
    if not own.end() and raw[:1] in _STAMP_BEGINS:
        stamp, start = _stamp(raw)
        own = _OWN.match(raw, start) or own
    return raw, own, stamp


def _cut(raw: bytes, own: re.Match[bytes], stamp: float | None) -> Line:
    port, minutes, micros, letter = own.groups()
    child = int(port) if port else None
    text = raw[own.end() :]
    if text.startswith(b'{"'):
        try:
            said = _DECODER.decode(text)
        except (msgspec.MsgspecError, ValueError, RecursionError):  # looks like it, and is not
            return Line(text, None, None, stamp, child)
        clock = said.time / 1e6 if said.time is not None and 0 <= said.time < 10**15 else None
        if not said.msg:
            return Line(b"", "info", clock, stamp, child, text)
        text = said.msg.strip().replace("\n", " ").encode("utf-8", "replace")
        return Line(text, _LEVELS.get(said.level, "info"), clock, stamp, child)
    clock = (int(minutes) * 60_000_000 + int(micros.replace(b".", b""))) / 1e6 if minutes else None
    return Line(text, _LETTERS[letter] if letter else None, clock, stamp, child)


def _stamp(raw: bytes) -> tuple[float | None, int]:
    """Unix seconds, and where what follows begins."""
    if found := _UNIX.match(raw):
        return float(found[1]), found.end()
    if found := _ISO.match(raw):
        day, fraction, zone = (part.decode() for part in found.group(1, 2, 3))
        try:
            whole = datetime.fromisoformat(day + zone.replace("Z", "+00:00")).timestamp()
        except (ValueError, OverflowError):
            return None, 0
        return whole + float("0" + fraction), found.end()
    if found := _SYSLOG.match(raw):  # it does not say the year
        return None, found.end()
    return None, 0


def _guessed(text: str) -> str:
    low = text.lower()
    for level, words in _WORDS:
        for word in words:
            if word in low:
                return level
    return "info"


_DECODER = msgspec.json.Decoder(_Json)
_QUOTING = re.compile(
    rb'got exception: (?:(?:\{"error": ?)?\{"code": ?\d{3})?|error parsing grammar: |::= |\brequest: |\{"'
    rb"|^error: invalid argument: (?:-[\w-]{0,60})?"
)
_COLOUR = re.compile(rb"\x1b\[[0-9;]{0,16}m")
_OWN = re.compile(rb"(?:\[ {0,4}(\d{1,5})\] )?(?:(\d{1,9})\.(\d\d\.\d{3}\.\d{3}) )?(?:([IWED]) )?")
_WHO = rb"\S{1,255} [^\s:]{1,255}: "  # host program[pid]:
_UNIX = re.compile(rb"(\d{9,11}\.\d{1,9}) " + _WHO)
_ISO = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)((?:\.\d{1,9})?)(Z|[+-]\d\d:?\d\d) "
    rb"(?:\S{1,255} [^\s:\[]{1,255}\[\d{1,9}\]: )?"
)
_SYSLOG = re.compile(rb"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,6})? " + _WHO)
_STAMP_BEGINS = frozenset(bytes([c]) for c in b"0123456789JFMASOND")
_LETTERS = {b"I": "info", b"W": "warning", b"E": "error", b"D": "debug"}
_LEVELS = {"warn": "warning", "error": "error", "debug": "debug"}
_WORDS = (
    ("error", ("error", "failed", "couldn't", "insufficient memory", "device lost", "ggml_assert")),
    ("warning", ("warn", "not compatible", "cancel task", "context shift", "retrying with")),
)
