"""The flight recorder's directory: one file an hour and process, the oldest go when there are too many."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from halotui import private
from halotui.model import Frame
from halotui.recording import minutes
from halotui.recording.file import Reader, RecordingError, Writer
from halotui.recording.reader import is_live
from halotui.runs import Mark

SUFFIX = ".halo"
HOUR = 3600.0
LARGEST = 8 << 20  # bytes of one segment: two hours of a busy box
SHARE = 8  # no segment takes more than this part of the budget
MOST = 500  # segments of one session that are opened, the newest: three weeks, and files held open
MARKS = 100  # that wait for a first frame
_NAME = re.compile(r"\d{8}T\d{6}\.\d{3}Z-\d+\.halo")  # when it began (UTC) and the process: they sort by time


class Segments:
    """Where the flight recorder's frames go: a :class:`scribe.Sink`.

    Nothing is made before the first frame. A directory that refuses is tried again with the next one.
    """

    def __init__(self, directory: Path, megabytes: int) -> None:
        self._directory = directory
        budget = megabytes * 1_000_000
        self._minutes = budget // SHARE  # of it, for the minutes of segments that have gone
        self._budget = budget - self._minutes
        self._largest = min(LARGEST, budget // SHARE)
        self._session = ""
        self._writer: Writer | None = None
        self._until = 0.0
        self._early: list[Mark] = []

    def put(self, item: Frame | Mark) -> None:
        if isinstance(item, Mark):
            if self._writer is None:
                self._early = [*self._early, item][-MARKS:]
            else:
                self._writer.mark(item)
            return
        if self._writer is not None and self._is_full():
            writer, self._writer = self._writer, None
            with suppress(OSError):  # all but its goodbye is on the disk
                writer.close()
        if self._writer is None:
            self._writer = self._open()
            self._until = time.monotonic() + HOUR
        self._writer.frame(item)
        for mark in self._early:
            self._writer.mark(mark)
        self._early = []

    def flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _is_full(self) -> bool:
        """Only one that has all it took on the disk is closed for the next."""
        writer = self._writer
        assert writer is not None
        return not writer.waiting and (writer.size >= self._largest or time.monotonic() >= self._until)

    def _open(self) -> Writer:
        private.folder(self._directory)
        self._prune()
        stem = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"[:-3] + f"Z-{os.getpid()}"
        self._session = self._session or stem
        return Writer(self._directory / f"{stem}{SUFFIX}", session=self._session, boot=boot())

    def _prune(self) -> None:
        """Make room for one more: the oldest go, never one that is being written, which will grow as large as
        ours. Their minutes stay, within a share of their own."""
        sizes = {path: _size(path) for path in listed(self._directory)}
        live = {path for path in sizes if _is_live(path)}
        taken = sum(max(size, self._largest) if path in live else size for path, size in sizes.items())
        over = taken + self._largest - self._budget
        for path in sizes:
            if over <= 0:
                break
            if path not in live:
                minutes.leave(path)
                with suppress(OSError):
                    path.unlink()
                    over -= sizes[path]
        minutes.trim(self._directory, self._minutes)


def listed(directory: Path) -> Iterator[Path]:
    """The segments of a directory, the oldest first; none where there is no directory."""
    with suppress(OSError):
        yield from sorted(path for path in directory.iterdir() if _NAME.fullmatch(path.name))


def boot() -> str:
    """Which boot of the box this is; empty where the kernel does not tell."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _is_live(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_live(file.fileno())
    except OSError:
        return False


def session_of(path: Path) -> str:
    """What a segment belongs to; empty for a file that was named. Raises RecordingError, OSError."""
    with Reader(path) as reader:
        header = reader.head()
    return header.session if header and _NAME.fullmatch(path.name) else ""


def of_session(path: Path) -> list[Path]:
    """A segment with those that the same process wrote before and after it; any other file alone.

    Raises RecordingError.
    """
    session = session_of(path)
    if not session:
        return [path]
    return [other for other in listed(path.parent) if _is_of(other, session)][-MOST:]


def _is_of(path: Path, session: str) -> bool:
    try:
        return session_of(path) == session
    except (RecordingError, OSError):
        return False
