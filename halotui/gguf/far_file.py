"""The front of a file on a box far away, as a stream: what the link can bring within a bounded time."""

from __future__ import annotations

import errno
import io
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from halotui.hosts import Host

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE = 256 << 10  # bytes a trip: others wait for it
SECONDS = 30.0  # for one file: a header of 10 MB at 3 Mbit/s


def opened(host: Host, path: Path) -> tuple[BinaryIO | None, int]:
    """And its size; None: it is no regular file. Raises OSError."""
    about = host.stat(path)
    if not stat.S_ISREG(about.mode):
        return None, 0
    raw = _Far(host, path, about.size)
    return cast(BinaryIO, io.BufferedReader(raw, PIECE)), about.size


class _Far(io.RawIOBase):
    def __init__(self, host: Host, path: Path, size: int) -> None:
        self._host, self._path, self._size = host, path, size
        self._at = 0
        self._until = time.monotonic() + SECONDS

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        if time.monotonic() > self._until:
            raise OSError(errno.ETIMEDOUT, "the link is too slow for its header")
        view = memoryview(buffer).cast("B")
        data = self._host.part(self._path, self._at, min(len(view), PIECE))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
