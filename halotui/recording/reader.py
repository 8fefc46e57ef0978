"""Reading a recording: every whole frame of it, however it ended and whatever happened to it."""

from __future__ import annotations

import fcntl
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from halotui import __version__
from halotui.model import SCHEMA_VERSION, Frame
from halotui.recording import chunks
from halotui.recording.chunks import Chunks
from halotui.recording.digest import Digest, Digester
from halotui.runs import Mark
from halotui.safe import clean

FRAME, MARK = b"F", b"M"  # what begins a line
_UNPACKED = 64 << 20  # bytes of one block at most: more is no recording but a trap


class RecordingError(Exception):
    """What is wrong with a recording, in one line, and in one what to do. Nothing was touched."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class Header(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who records from here on."""

    schema_version: int  # of the frames
    host: str
    started: float  # Unix seconds
    session: str = ""  # of a flight recorder: its segments have it in common
    boot: str = ""
    version: str = __version__  # of halotui


class Block(Struct, frozen=True):
    """Where a block lies, and what is in it."""

    offset: int
    end: int
    digest: Digest


class Reader:
    """A recording as it lies there: what is whole of it. Reads nothing but its chunks' heads and digests
    until a block is loaded. Raises RecordingError when it is none."""

    def __init__(self, path: Path, descriptor: int | None = None) -> None:
        self.path = path
        self._own = descriptor is None
        self._descriptor = _open(path) if descriptor is None else descriptor
        try:
            self.size = os.fstat(self._descriptor).st_size
            self.live = self._own and is_live(self._descriptor)
            self._chunks = Chunks(self._descriptor, self.size)
            self._check_version()
            self.header: Header | None = None
            self.blocks: list[Block] = []
            self.damaged = False  # bytes in its midst that are none of a recording
            self.cut_off = True  # it ends without a goodbye
            self._loaded = False
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def head(self) -> Header | None:
        """Who began it; None where that is torn. Raises RecordingError: its frames are newer."""
        first = self._chunks.at(chunks.HEAD_SIZE)
        if self.header is None and first is not None and first.kind == chunks.HEADER:
            self._header(first.payload)
        return self.header

    def scan(self) -> Self:
        """Find its blocks. Raises RecordingError, OSError."""
        try:
            self._scan()
        except BaseException:
            self.close()
            raise
        return self

    def load(self, block: Block) -> Iterator[tuple[bytes, bytes]]:
        """Its lines: ``(kind, JSON)`` of frames and marks, in order, as they were written."""
        unpacker = zlib.decompressobj(-15)
        rest, room = b"", _UNPACKED
        for chunk in self._chunks.run(block.offset, block.end):
            if chunk.kind == chunks.DIGEST:
                break
            try:
                rest += unpacker.decompress(chunk.payload, room)
            except zlib.error:
                break
            *lines, rest = rest.split(b"\n")
            for line in lines:
                room -= len(line) + 1
                yield line[:1], line[1:]
            if unpacker.unconsumed_tail or room <= 0:
                break

    def frames(self) -> Iterator[bytes]:
        """The JSON of every frame, in order."""
        for block in self.blocks:
            yield from (raw for kind, raw in self.load(block) if kind == FRAME)

    def close(self) -> None:
        if self._own and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _check_version(self) -> None:
        version = chunks.version_of(os.pread(self._descriptor, chunks.HEAD_SIZE, 0))
        if version is None:
            raise RecordingError(f"{self.path}: is no recording of halotui")
        if version != chunks.VERSION:
            raise _newer(self.path, f"its format is {version}, known is {chunks.VERSION}")

    def _header(self, payload: bytes) -> None:
        with suppress(msgspec.MsgspecError):
            header = _HEADERS.decode(payload)
            if header.schema_version > SCHEMA_VERSION:
                raise _newer(self.path, f"its frames are {header.schema_version}, known are {SCHEMA_VERSION}")
            words = {key: clean(getattr(header, key)) for key in ("host", "session", "boot", "version")}
            self.header = self.header or replace(header, **words)

    def _scan(self) -> None:
        offset, begin = chunks.HEAD_SIZE, -1  # of the block that is being passed; -1: of none
        while offset < self.size:
            chunk = self._chunks.at(offset)
            if chunk is None:
                self._add(begin, offset)
                begin = -1
                resumed = self._chunks.resume(offset + 1)
                if resumed is None:  # a torn end, or nothing but damage
                    self.cut_off = True
                    break
                self.damaged, offset = True, resumed
                continue
            self.cut_off = chunk.kind != chunks.END
            if chunk.kind == chunks.BLOCK:
                self._add(begin, offset)
                begin = offset
            elif chunk.kind == chunks.DIGEST:
                self._add(begin, chunk.end, chunk.payload)
                begin = -1
            elif chunk.kind != chunks.PIECE:
                self._add(begin, offset)
                begin = -1
                if chunk.kind == chunks.HEADER:
                    self._header(chunk.payload)
            offset = chunk.end
        self._add(begin, min(offset, self.size))

    def _add(self, begin: int, end: int, payload: bytes = b"") -> None:
        """A block that has been passed. One without a digest, as it was cut off, is read to make it."""
        if begin < 0:
            return
        digest = None
        with suppress(msgspec.MsgspecError, zlib.error):
            unpacked = zlib.decompressobj(-15).decompress(payload, chunks.LONGEST) if payload else b""
            digest = _DIGESTS.decode(unpacked) if unpacked else None
        if digest is None:
            digester = Digester()
            for kind, raw in self.load(Block(begin, end, Digest(first=0, last=0, frames=0))):
                with suppress(msgspec.MsgspecError):
                    if kind == FRAME:
                        digester.frame(_FRAMES.decode(raw))
                    elif kind == MARK:
                        digester.mark(_MARKS.decode(raw))
            digest = digester.digest()
        if digest.frames or digest.marks:
            self.blocks.append(Block(begin, end, digest))


def _open(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise RecordingError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RecordingError(f"{path}: is no file", "a recording is sought in: save it first")
    return descriptor


def _newer(path: Path, why: str) -> RecordingError:
    return RecordingError(f"{path}: was recorded by another halotui: {why}", "a newer halotui can read it")


_HEADERS = msgspec.json.Decoder(Header)
_FRAMES = msgspec.json.Decoder(Frame)
_MARKS = msgspec.json.Decoder(Mark)
_DIGESTS = msgspec.json.Decoder(Digest)


def is_live(descriptor: int) -> bool:
    """Whether a process is writing to the file now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
