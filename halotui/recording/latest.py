"""The last frame that a flight recorder wrote, from the end of its file: a fraction of what a look costs."""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from pathlib import Path

import msgspec

from halotui.model import SCHEMA_VERSION, Frame
from halotui.recording import chunks
from halotui.recording.frames import frame_of
from halotui.recording.reader import FRAME, is_live

FOLDER = (
    "flight"  # as in ``recorder``, and ``*.halo`` as in ``segments``: to import those costs as much again
)
TAIL = 1 << 20  # bytes from the end among which the last block begins: one takes a tenth of it
_MOST = 64 << 20  # bytes unpacked
_BEGINS = chunks.SYNC + chunks.BLOCK


def latest(directory: Path, since: float) -> Frame | None:
    """The newest frame of a halotui that records there now, not older than ``since`` (Unix seconds)."""
    found = [frame for path in directory.glob("*.halo") if (frame := _last(path, since))]
    return max(found, key=lambda frame: frame.time, default=None)


def _last(path: Path, since: float) -> Frame | None:
    with suppress(OSError, zlib.error, msgspec.MsgspecError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            state = os.fstat(descriptor)
            if state.st_mtime < since or not is_live(descriptor):
                return None
            raw = _line(descriptor, state.st_size)
        finally:
            os.close(descriptor)
        if raw is not None and msgspec.json.decode(raw, type=_Version).schema_version == SCHEMA_VERSION:
            frame = frame_of(raw)
            return frame if frame.time >= since else None
    return None


class _Version(msgspec.Struct):
    schema_version: int


def _line(descriptor: int, size: int) -> bytes | None:
    """The JSON of the last frame of the last block that can be read."""
    start = max(0, size - TAIL)
    tail = os.pread(descriptor, size - start, start)
    reader = chunks.Chunks(descriptor, size)
    at = len(tail)
    while (at := tail.rfind(_BEGINS, 0, at)) >= 0:
        unpacker = zlib.decompressobj(-15)
        raw = b""
        for chunk in reader.run(start + at, size):
            if chunk.kind not in (chunks.BLOCK, chunks.PIECE) or len(raw) >= _MOST:
                break
            raw += unpacker.decompress(chunk.payload, _MOST - len(raw))
        for line in reversed(raw.split(b"\n")[:-1]):
            if line[:1] == FRAME:
                return line[1:]
    return None
