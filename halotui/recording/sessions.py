"""What the flight recorder holds: a session is what one process recorded, in however many segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from halotui.recording.file import RecordingError
from halotui.recording.index import Recording
from halotui.recording.segments import MOST, listed, session_of

RECENT = 86_400.0  # seconds: how long before the newest session a cut-off one may have ended to be "the last"


class Session(Struct, frozen=True, kw_only=True, omit_defaults=True):
    file: str  # its first segment: what ``replay`` takes
    host: str
    begin_time: float  # Unix seconds
    end_time: float
    frames: int
    size_bytes: int
    findings: int
    marks: int
    cut_off: bool  # it ended without a goodbye: a crash, a kill, the plug
    live: bool = False  # it is being written now
    boot: str = ""
    segments: tuple[str, ...] = ()


def sessions(directory: Path, tell: Callable[[str], None]) -> list[Session]:
    """The oldest first. What cannot be read is told, and left out."""
    groups: dict[str, list[Path]] = {}
    for path in listed(directory):
        try:
            groups.setdefault(session_of(path) or path.name, []).append(path)
        except (RecordingError, OSError) as error:
            tell(str(error))
    found = []
    for paths in groups.values():
        try:
            found.append(_session(paths[-MOST:]))
        except (RecordingError, OSError) as error:
            tell(str(error))
    return sorted(found, key=lambda session: session.begin_time)


def _session(paths: list[Path]) -> Session:
    recording = Recording(paths)
    try:
        kinds = [event.kind for event in recording.events]
        return Session(
            file=str(paths[0]),
            host=recording.host,
            begin_time=recording.begin,
            end_time=recording.end,
            frames=recording.frames,
            size_bytes=recording.size,
            findings=kinds.count("finding"),
            marks=kinds.count("mark"),
            cut_off=recording.cut_off and not recording.live,
            live=recording.live,
            boot=recording.boot,
            segments=tuple(map(str, paths)),
        )
    finally:
        recording.close()


def last(found: Sequence[Session]) -> Session | None:
    """The one that a question about "the last seconds" means: how the box, or halotui, went down, unless that
    is more than a day older than the newest; else the newest one. One that is still written comes last: who
    asks while it runs, asks about what was before.
    """
    ended = [session for session in found if not session.live] or list(found)
    newest = max(ended, key=lambda session: session.end_time, default=None)
    cut = [session for session in ended if session.cut_off]
    crash = max(cut, key=lambda session: session.end_time, default=None)
    if newest is None or crash is None or newest.end_time - crash.end_time > RECENT:
        return newest
    return crash
