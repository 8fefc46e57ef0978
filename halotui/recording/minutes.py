"""A segment in short, minute by minute: what a chart of days is made of, and what is left when its frames go.

It lies beside the segment, as ``SEGMENT.minutes``, and is made anew when it does not fit that any more:

    file = MAGIC, CRC-32 of the rest (u32, little-endian), Minutes (msgpack)
"""

from __future__ import annotations

import os
import struct
import threading
import time
import zlib
from array import array
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from math import inf, isfinite, nan
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from halotui.fields import BY_ID
from halotui.recording.digest import Digest, Digester, Range
from halotui.recording.file import Block, Reader, RecordingError
from halotui.recording.frames import frame_of
from halotui.recording.reader import FRAME
from halotui.safe import clean

SUFFIX = ".minutes"
MAGIC = b"\x89halomin\x01"
MINUTE = 60.0
WHOLE = 150.0  # seconds: a block that is no longer is one minute, one that is longer is cut into minutes
LATEST = 1e11  # Unix seconds: a time beyond it is damage
_SUM = struct.Struct("<I")
_LEFT = 3600.0  # seconds after which a file that was never finished is litter
_Ranges = dict[str, dict[str, Range]]


class Stretch(NamedTuple):
    """A field over a minute, or at one instant."""

    time: float  # Unix seconds, where it begins
    least: float
    mean: float
    most: float
    frames: int


class Minutes(Struct, frozen=True):
    size: int  # bytes of the segment
    changed: int  # when it was written last, in ns
    session: str  # what else the same process recorded
    blocks: tuple[Block, ...]  # their digests without the ranges
    times: bytes  # where each minute begins: Unix seconds, f64
    columns: dict[str, dict[str, bytes]]  # subject -> field id -> deflated f32: all least, mean, most, frames

    @property
    def digests(self) -> list[Digest]:
        """Of the blocks that have frames."""
        return [block.digest for block in self.blocks if block.digest.frames]

    @property
    def first(self) -> float:
        return min((digest.first for digest in self.digests), default=inf)

    @property
    def last(self) -> float:
        return max((digest.last for digest in self.digests), default=-inf)

    def column(self, subject: str, field: str) -> Iterator[Stretch]:
        """The minutes that know the field."""
        packed = self.columns.get(subject, {}).get(field)
        if packed is None:
            return
        times, values = array("d", self.times), array("f", zlib.decompress(packed))
        size = len(times)
        for number, frames in enumerate(values[3 * size :]):
            if frames:
                least, mean, most = values[number], values[size + number], values[2 * size + number]
                yield Stretch(times[number], least, mean, most, int(frames))


_MINUTES = msgspec.msgpack.Decoder(Minutes)


def of(segment: Path) -> Minutes | None:
    """From its sidecar, or made now; and kept then, unless the segment is still written to. None where
    neither can be read."""
    kept = read(segment)
    if kept is not None:
        return kept
    with suppress(RecordingError, OSError):
        made, live = make(segment)
        if not live:
            with suppress(OSError):
                write(segment, made)
        return made
    return None


def read(segment: Path) -> Minutes | None:
    """What lies beside a segment, or in its place. None: nothing, or nothing that fits."""
    try:
        raw = _beside(segment).read_bytes()
        body = raw[len(MAGIC) + _SUM.size :]
        if raw[: len(MAGIC) + _SUM.size] != MAGIC + _SUM.pack(zlib.crc32(body)):
            return None
        kept = _MINUTES.decode(body)
    except (OSError, msgspec.MsgspecError):
        return None
    with suppress(OSError):
        state = segment.stat()
        return kept if (kept.size, kept.changed) == (state.st_size, state.st_mtime_ns) else None
    return kept  # the frames have gone


def make(segment: Path) -> tuple[Minutes, bool]:
    """Of what is whole of it now; and whether it is still written to. Raises RecordingError, OSError."""
    state = segment.stat()
    with Reader(segment) as reader:
        reader.scan()
        blocks = [block for block in reader.blocks if 0 < block.digest.first <= block.digest.last < LATEST]
        rows = [row for block in blocks for row in _rows(reader, block)]
        session = reader.header.session if reader.header else ""
        live = reader.live
    made = Minutes(
        size=state.st_size,
        changed=state.st_mtime_ns,
        session=session or segment.name,
        blocks=tuple(replace(block, digest=replace(block.digest, ranges={})) for block in blocks),
        times=array("d", [begin for begin, _ in rows]).tobytes(),
        columns=_columns([ranges for _, ranges in rows]),
    )
    return made, live


def write(segment: Path, minutes: Minutes, *, last: bool = False) -> None:
    """Whole or not at all, for its owner alone. ``last``: the segment is about to go, so it has to be on the
    disk. Raises OSError."""
    body = msgspec.msgpack.encode(minutes)
    path = _beside(segment)
    new = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(MAGIC + _SUM.pack(zlib.crc32(body)) + body)
            file.flush()
            if last:
                os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def leave(segment: Path) -> None:
    """Before a segment goes. What cannot be read or written leaves nothing."""
    with suppress(RecordingError, OSError):
        if read(segment) is None:
            write(segment, make(segment)[0], last=True)


def trim(directory: Path, budget: int) -> None:
    """The oldest go, until they take no more than so many bytes; what was never finished goes too."""
    with suppress(OSError):
        for path in directory.glob(f".*{SUFFIX}.*"):
            if time.time() - path.stat().st_mtime > _LEFT:
                path.unlink()
    total = 0
    for path in sorted(sidecars(directory), reverse=True):
        with suppress(OSError):
            total += path.stat().st_size
            if total > budget:
                path.unlink()


def sidecars(directory: Path) -> Iterator[Path]:
    """In no order; none where there is no directory."""
    with suppress(OSError):
        yield from (path for path in directory.iterdir() if path.suffix == SUFFIX and path.name[0] != ".")


def began(segment: Path) -> float:
    """When a segment was begun, by its name: Unix seconds. Raises ValueError."""
    stamp = datetime.strptime(segment.name.partition("Z-")[0], "%Y%m%dT%H%M%S.%f")
    return stamp.replace(tzinfo=UTC).timestamp()


def _beside(segment: Path) -> Path:
    return segment.with_name(segment.name + SUFFIX)


def _rows(reader: Reader, block: Block) -> Iterator[tuple[float, _Ranges]]:
    """The minutes of a block: where each begins, and its ranges."""
    digest = block.digest
    if digest.last - digest.first <= WHOLE and not digest.gaps:
        if digest.frames:
            yield digest.first, digest.ranges
        return
    begin, digester = 0.0, Digester()
    for kind, raw in reader.load(block):
        with suppress(msgspec.MsgspecError):
            frame = frame_of(raw) if kind == FRAME else None
            if frame is None or not 0 < frame.time < LATEST:
                continue
            if not begin <= frame.time < begin + MINUTE:
                if digester.frames:
                    yield begin, digester.digest().ranges
                begin, digester = frame.time, Digester()
            digester.frame(frame)
    if digester.frames:
        yield begin, digester.digest().ranges


def _columns(rows: list[_Ranges]) -> dict[str, dict[str, bytes]]:
    size = len(rows)
    columns: dict[str, dict[str, array[float]]] = {}
    for number, ranges in enumerate(rows):
        for subject, by_field in ranges.items():
            for field, range_ in by_field.items():
                if field not in BY_ID or not all(map(isfinite, (range_.least, range_.mean, range_.most))):
                    continue
                column = columns.setdefault(clean(subject), {}).get(field)
                if column is None:
                    column = columns[clean(subject)][field] = array("f", [nan]) * (3 * size)
                    column.extend([0.0] * size)
                column[number], column[size + number] = range_.least, range_.mean
                column[2 * size + number], column[3 * size + number] = range_.most, max(0, range_.count)
    return {
        subject: {field: zlib.compress(column.tobytes()) for field, column in by_field.items()}
        for subject, by_field in columns.items()
    }
