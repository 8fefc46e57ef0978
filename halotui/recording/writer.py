"""Writing a recording: frames to blocks, blocks to the disk; nothing that is there is ever touched."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
import zlib
from collections import deque
from pathlib import Path

import msgspec

from halotui.model import SCHEMA_VERSION, Frame
from halotui.recording import chunks
from halotui.recording.digest import Digester
from halotui.recording.reader import FRAME, MARK, Header, Reader, RecordingError
from halotui.recording.redact import redacted
from halotui.runs import Mark
from halotui.safe import clean

BLOCK = 60  # frames of a block: what a seek reads at most, and what damage costs
LARGEST = 8 << 20  # bytes of JSON in a block: a reader takes no more than a few times that
LEVEL = 6  # of deflate: 9 is 3 % smaller and takes half as long again
PENDING = 1 << 20  # bytes that wait for the disk: half an hour of frames


class Writer:
    """Appends to one file, new or there already. What ``flush`` has returned from is on the disk.

    ``frame`` and ``mark`` only fill memory. ``flush`` raises OSError and loses nothing: what waits is tried
    again by the next one, up to PENDING bytes, then the oldest blocks go.
    """

    def __init__(self, path: Path, *, append: bool = False, session: str = "", boot: str = "") -> None:
        """Makes the file, for its owner alone. Raises RecordingError (it is there already, is no recording,
        is written to by another process), OSError."""
        self.path = path
        self.lost = 0  # frames that could not wait any longer
        self._session, self._boot = session, boot
        self._encoder = msgspec.json.Encoder()
        self._pending: deque[tuple[bool, bytes, int]] = deque()  # whether it begins a block, bytes, frames
        self._waiting = 0  # bytes of it
        self._started = False
        self._interval = 1.0
        self._descriptor = _create(path, append)
        try:
            if append:
                Reader(path, self._descriptor).head()
            size = os.lseek(self._descriptor, 0, os.SEEK_END)
            if size < chunks.HEAD_SIZE:  # new, or cut off within its first bytes, which are always the same
                self._queue(chunks.head()[size:])
        except BaseException:
            os.close(self._descriptor)
            raise
        self.size = size  # bytes on disk
        self._fresh()

    @property
    def waiting(self) -> bool:
        """Whether anything it took is not on the disk yet."""
        return bool(self._pending or self._lines)

    def frame(self, frame: Frame) -> None:
        """Take one; what may not be kept is left out."""
        if not self._started:
            self._begin(frame)
        if self._digester.frames and frame.time < self._digester.last:
            self.end_block()  # the clock was put back: within a block, times rise
        kept = redacted(frame)
        line = FRAME + self._encoder.encode(kept) + b"\n"
        self._lines.append(line)
        self._new += 1
        self._bytes += len(line)
        self._digester.frame(kept)
        if self._digester.frames >= BLOCK or self._bytes >= LARGEST:
            self.end_block()

    def mark(self, mark: Mark) -> None:
        kept = Mark(time=mark.time, label=clean(mark.label))
        self._lines.append(MARK + self._encoder.encode(kept) + b"\n")
        self._digester.mark(kept)

    def flush(self) -> None:
        """All of it to the disk. Raises OSError."""
        self._piece(zlib.Z_SYNC_FLUSH)
        while self._pending:
            begins, raw, frames = self._pending[0]
            written = os.write(self._descriptor, raw)
            self.size += written
            self._waiting -= written
            if written == len(raw):
                self._pending.popleft()
            else:  # the rest goes on where this ends: the chunk becomes whole
                self._pending[0] = begins, raw[written:], frames
        try:
            os.fdatasync(self._descriptor)
        except OSError:  # what the kernel had taken may be gone: rely on nothing of it
            self.end_block()
            raise

    def end_block(self) -> None:
        """What follows can be read without what went before."""
        self._piece(zlib.Z_SYNC_FLUSH)
        if self._begun:
            digest = self._digester.digest()
            self._interval = digest.interval
            packer = zlib.compressobj(LEVEL, zlib.DEFLATED, -15)
            payload = packer.compress(self._encoder.encode(digest)) + packer.flush()
            self._queue(chunks.pack(chunks.DIGEST, payload))
        self._fresh()

    def close(self) -> None:
        """Say goodbye. Raises OSError when not all of it came to the disk; it is closed all the same."""
        try:
            if self._started:
                self.end_block()
                self._queue(chunks.pack(chunks.END, b""))
            self.flush()
        finally:
            os.close(self._descriptor)

    def _begin(self, frame: Frame) -> None:
        self._started = True
        header = Header(
            schema_version=SCHEMA_VERSION,
            host=frame.host,
            started=frame.time,
            session=self._session,
            boot=self._boot,
        )
        self._queue(chunks.pack(chunks.HEADER, self._encoder.encode(header)))

    def _fresh(self) -> None:
        """A new block, once there is something for it."""
        self._digester = Digester(self._interval)
        self._packer = zlib.compressobj(LEVEL, zlib.DEFLATED, -15, 9)
        self._lines: list[bytes] = []
        self._new = 0  # frames among them
        self._bytes = 0  # of the block, as JSON
        self._begun = False

    def _piece(self, how: int) -> None:
        """A chunk of what came since the last one."""
        if not self._lines:
            return
        payload = self._packer.compress(b"".join(self._lines)) + self._packer.flush(how)
        begins, frames = not self._begun, self._new
        self._lines, self._new, self._begun = [], 0, True
        self._queue(chunks.pack(chunks.BLOCK if begins else chunks.PIECE, payload), begins, frames)

    def _queue(self, raw: bytes, begins: bool = False, frames: int = 0) -> None:
        self._pending.append((begins, raw, frames))
        self._waiting += len(raw)
        while self._waiting > PENDING and len(self._pending) > 1:
            self._drop()

    def _drop(self) -> None:
        """The oldest block goes, also what is left of one that is partly on disk: never the head of a file,
        without which nothing of it can be read."""
        if self.size < chunks.HEAD_SIZE:
            head = self._pending.popleft()
            header = self._pending.popleft()
            self._drop_block()
            self._pending.extendleft((header, head))
        else:
            self._drop_block()

    def _drop_block(self) -> None:
        while self._pending:
            _, raw, frames = self._pending.popleft()
            self._waiting -= len(raw)
            self.lost += frames
            if not self._pending:
                self._fresh()  # it was the one under way
            elif self._pending[0][0]:
                break


def _create(path: Path, append: bool) -> int:
    how = os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_CREAT | (0 if append else os.O_EXCL)
    try:
        descriptor = os.open(path, how, 0o600)
    except FileExistsError:
        raise RecordingError(f"{path}: is there already", "another name, or --append") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise RecordingError(f"{path}: is no file")
        _lock(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock(descriptor: int, path: Path) -> None:
    """One writer at a time. Who looks whether there is one holds the lock for a moment: hence the tries."""
    for left in (3, 2, 1, 0):
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not left:
                raise RecordingError(f"{path}: another process records into it") from None
            time.sleep(0.02)
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                return None  # a file system without locks: nobody can tell then
            raise
    return None
