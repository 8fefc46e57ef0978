"""The bytes of a recording: a head, then chunks, each with its length and checksum. Files only grow.

    file   = MAGIC, format version (u32), chunk ...
    chunk  = SYNC, kind (1 byte), length (u32), CRC-32 of kind, length and payload (u32), payload
    kinds  = H  header (JSON): who records from here on
             B  the first piece of a block: begins a raw deflate stream, ends with Z_SYNC_FLUSH
             C  the next piece of the same stream
             D  digest of the block (raw deflate of JSON): its last chunk
             E  the end: the recorder said goodbye

A reader that finds no valid chunk where one should be goes on at the next H, B or E: what is torn or
corrupt costs the block it stands in. All numbers are little-endian.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

MAGIC = b"\x89halotui\r\n\x1a\n"
VERSION = 1
SYNC = b"\xf5\xc3\x1f\x8d"
HEADER, BLOCK, PIECE, DIGEST, END = b"H", b"B", b"C", b"D", b"E"
LONGEST = 16 << 20  # bytes of a payload: a longer one is damage

_VERSION = struct.Struct("<I")
_CHUNK = struct.Struct("<4scII")
_SUM = struct.Struct("<cI")
HEAD_SIZE = len(MAGIC) + _VERSION.size
_FIRST = tuple(SYNC + kind for kind in (HEADER, BLOCK, END))  # where reading may begin anew
_WINDOW = 1 << 20
_LOOK = 1 << 16


class Chunk(NamedTuple):
    offset: int  # of its first byte
    kind: bytes
    payload: bytes

    @property
    def end(self) -> int:
        return self.offset + _CHUNK.size + len(self.payload)


def head(version: int = VERSION) -> bytes:
    return MAGIC + _VERSION.pack(version)


def version_of(raw: bytes) -> int | None:
    """The format version that the head of a file tells; None: it is no recording.

    A head that was cut off is of this version: there is nothing behind it that could tell another.
    """
    if len(raw) < HEAD_SIZE:
        return VERSION if head().startswith(raw) else None
    return _VERSION.unpack_from(raw, len(MAGIC))[0] if raw.startswith(MAGIC) else None


def pack(kind: bytes, payload: bytes) -> bytes:
    total = crc32(payload, crc32(_SUM.pack(kind, len(payload))))
    return _CHUNK.pack(SYNC, kind, len(payload), total) + payload


class Chunks:
    """Reads chunks of an open file; never more of it than a window at a time, and never a mapping: a file
    that shrinks or a disk that fails is an OSError then, and no signal."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._window = b""
        self._at = 0  # of the window
        self.size = size

    def at(self, offset: int) -> Chunk | None:
        """The chunk that begins there; None when there is none, or not all of it."""
        raw = self._bytes(offset, _CHUNK.size)
        if len(raw) < _CHUNK.size:
            return None
        sync, kind, length, total = _CHUNK.unpack(raw)
        if sync != SYNC or length > LONGEST or offset + _CHUNK.size + length > self.size:
            return None
        payload = self._bytes(offset + _CHUNK.size, length)
        if len(payload) < length or crc32(payload, crc32(_SUM.pack(kind, length))) != total:
            return None
        return Chunk(offset, kind, payload)

    def run(self, offset: int, end: int) -> Iterator[Chunk]:
        """Chunks in a row from ``offset`` up to ``end``, or to the first that is damaged."""
        while offset < end and (chunk := self.at(offset)) is not None:
            yield chunk
            offset = chunk.end

    def resume(self, offset: int) -> int | None:
        """Where, from there on, a whole chunk stands that reading may begin with."""
        while offset < self.size:
            window = self._bytes(offset, min(_LOOK, self.size - offset))
            found = min((at for sync in _FIRST if (at := window.find(sync)) >= 0), default=None)
            if found is None:
                if len(window) < _LOOK:
                    return None
                offset += len(window) - len(SYNC)  # a kind may stand behind the edge
            elif self.at(offset + found) is not None:
                return offset + found
            else:
                offset += found + 1
        return None

    def _bytes(self, offset: int, length: int) -> bytes:
        start = offset - self._at
        if start < 0 or start + length > len(self._window):
            self._window = os.pread(self._descriptor, max(length, _WINDOW), offset)
            self._at, start = offset, 0
        return self._window[start : start + length]
