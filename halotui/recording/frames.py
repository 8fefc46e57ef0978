"""A frame from its JSON. A recording is a file like any other: its words are made harmless."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from halotui.model import Frame
from halotui.safe import clean

_HARMLESS = re.compile(  # as JSON: no control character, raw or escaped, and no letters that may hide one
    r'(?:[ !#-\[\]-~"\xa1-\xac\xae-\u02ff–—‘’“”…·×→±Δ≈≤≥°]++|\\["\\/])*+\Z'
)
_FRAMES = msgspec.json.Decoder(Frame)


def frame_of(raw: bytes) -> Frame:
    """A frame from its JSON. A recording is a file like any other: its words are made harmless.

    Raises msgspec.MsgspecError.
    """
    frame = _FRAMES.decode(raw)
    if _HARMLESS.match(raw.decode("utf-8", "replace")):
        return frame
    return msgspec.convert(_cleaned(msgspec.to_builtins(frame)), Frame)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key): _cleaned(below) for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(below) for below in value]
    return value
