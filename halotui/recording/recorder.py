"""Who records: the flight recorder, always on and small, and the one of a named file."""

from __future__ import annotations

from pathlib import Path

from halotui.model import Frame
from halotui.recording.file import Writer
from halotui.recording.scribe import Scribe
from halotui.recording.segments import Segments
from halotui.runs import Mark

FOLDER = "flight"  # in the state directory


class FlightRecorder(Scribe):
    """Keeps the last frames of this process in segments of a directory, within a budget of so many MB that
    it shares with the segments that lie there. ``take`` never raises and never waits."""

    def __init__(self, directory: Path, megabytes: int) -> None:
        super().__init__(Segments(directory, megabytes), "flight recorder")
        self.directory = directory


class FileRecorder(Scribe):
    """Records into one file. Raises RecordingError, OSError where it cannot begin."""

    def __init__(self, path: Path, *, append: bool = False) -> None:
        self._file = _File(path, append)
        super().__init__(self._file, "recorder")

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return self._file.writer.size

    @property
    def lost(self) -> int:
        """Frames that could wait no longer for a full disk."""
        return self._file.writer.lost


class _File:
    def __init__(self, path: Path, append: bool) -> None:
        self.writer = Writer(path, append=append)
        self.flush = self.writer.flush
        self.close = self.writer.close

    def put(self, item: Frame | Mark) -> None:
        if isinstance(item, Mark):
            self.writer.mark(item)
        else:
            self.writer.frame(item)
