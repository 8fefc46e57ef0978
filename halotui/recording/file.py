"""A recording: :class:`Writer` appends frames and marks to one, :class:`Reader` opens it. See ``chunks``."""

from halotui.recording.reader import Block, Header, Reader, RecordingError
from halotui.recording.writer import Writer

__all__ = ["Block", "Header", "Reader", "RecordingError", "Writer"]
