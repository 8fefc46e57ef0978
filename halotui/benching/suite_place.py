"""Where suites keep what does not go into the store: each item's output, the desk's books, and the lock."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from halotui import private
from halotui.actions import ActionError
from halotui.hosts import Host

_TAIL = 64 * 1024  # bytes


class Place:
    """``directory`` is ``bench`` in the state directory. Nothing is made before it is needed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def mark(self) -> str:
        """Of the llama-benches of suites that are kept here."""
        return f"suite-{hashlib.sha256(bytes(self.directory.absolute())).hexdigest()[:12]}"

    def log(self, name: str, series: str, item: str) -> Path:
        """Of one item; its directory is made. Where it cannot be: /dev/null."""
        log = self.directory / name / series / f"{item}.log"
        try:
            private.folder(log.parent)
            log.touch(mode=0o600)
        except OSError:
            return Path(os.devnull)
        return log

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One suite at a time on a box: two would measure each other. Raises ActionError, OSError."""
        private.folder(self.directory)
        fd = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ActionError("another suite runs on this box", "two would measure each other") from None
            yield
        finally:
            os.close(fd)


def tail(path: Path, lines: int, start: int = 0) -> list[str]:
    """The last lines of a file, from byte ``start`` on, as they came; nothing where there is none."""
    with suppress(OSError), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - _TAIL))
        return _last(file.read(_TAIL), lines)
    return []


def tail_there(host: Host, path: Path, lines: int, start: int = 0) -> list[str]:
    """The same of a file of the box that is measured."""
    with suppress(OSError):
        size = host.stat(path).size
        return _last(host.part(path, max(start, size - _TAIL), _TAIL), lines)
    return []


def _last(data: bytes, lines: int) -> list[str]:
    found = data.decode("utf-8", "replace").replace("\r", "\n").split("\n")
    return [line for line in found if line.strip()][-lines:]
