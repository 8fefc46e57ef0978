"""A small file of sysfs or procfs that is read many times a second, and is held open for that."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Protocol

from halotui.collectors.gpu_metrics import Unit
from halotui.hosts import Host

NAN = float("nan")
RETRY_SECONDS = 0.2


def kernel(host: Host, path: str) -> bool:
    """Whether the path is on the kernel's own sysfs or procfs. There a name keeps its file for as long as
    the file can be read; elsewhere, in a tree that stands in for them, files are replaced by renaming."""
    if not host.here:
        return True
    with suppress(OSError):
        device = os.stat(path).st_dev  # noqa: PTH116
        return any(os.path.ismount(root) and os.stat(root).st_dev == device for root in ("/sys", "/proc"))  # noqa: PTH116
    return False


class Reads(Protocol):
    """One file, again and again. For one thread. ``error`` is what the kernel said last; None while it
    answers."""

    error: OSError | None

    def read(self, now: float) -> bytes | None:
        """What the file holds now; None where it cannot be read. ``now``: monotonic seconds."""
        ...

    def close(self) -> None: ...


def probe(host: Host, path: str, size: int = 64, *, watch: bool = True) -> Reads:
    """Held open where we run on its box."""
    return Probe(path, size, watch=watch) if host.here else FarProbe(host, path, size)


class FarProbe:
    """Over a link a path is asked for by its name."""

    __slots__ = ("_again", "_host", "error", "path", "size")

    def __init__(self, host: Host, path: str, size: int) -> None:
        self._host, self.path, self.size = host, path, size
        self.error: OSError | None = None
        self._again = 0.0

    def read(self, now: float) -> bytes | None:
        if now < self._again:
            return None
        try:
            data = self._host.read(self.path)[: self.size]
        except OSError as error:
            self.error, self._again = error, now + RETRY_SECONDS
            return None
        self.error = None
        return data

    def close(self) -> None:
        """Nothing is held."""


class Probe:
    """Reads one file from its beginning again and again. For one thread.

    ``watch``: look each time whether it is still the file of that name. ``error`` is what the kernel said
    last; None while it answers.
    """

    __slots__ = ("_again", "_fd", "_watch", "error", "path", "size")

    def __init__(self, path: str, size: int = 64, *, watch: bool = True) -> None:
        self.path = path
        self.size = size  # bytes at most
        self.error: OSError | None = None
        self._watch = watch
        self._fd = -1
        self._again = 0.0  # not to be tried before

    def read(self, now: float) -> bytes | None:
        """What the file holds now; None where it cannot be read. ``now``: monotonic seconds."""
        try:
            if self._fd >= 0:
                if not self._watch or os.fstat(self._fd).st_nlink:  # replaced or deleted: no name is left
                    return os.pread(self._fd, self.size, 0)
                self.close()
            elif now < self._again:
                return None
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            data = os.pread(self._fd, self.size, 0)
            self.error = None
            return data
        except OSError as error:
            self.error = error
            self._again = now + RETRY_SECONDS
            self.close()
            return None

    def close(self) -> None:
        """To be opened anew with the next read."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)


def number(data: bytes | None, unit: Unit) -> float:
    """A decimal number in our unit; NaN for whatever is none, or out of range."""
    if data is None:
        return NAN
    try:
        raw = int(data)
    except ValueError:
        return NAN
    return unit.convert(raw) if unit.least <= raw <= unit.most else NAN


def once(path: str, size: int = 65536) -> bytes:
    """A file that is seldom read. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)
