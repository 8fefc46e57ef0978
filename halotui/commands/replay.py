"""``halotui replay``: what was recorded, listed, as text or JSON at a time, or handed to the screen."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halotui import exits, format, times
from halotui.commands.keeping import told
from halotui.commands.places import place
from halotui.exits import UsageError
from halotui.recording.index import Recording
from halotui.recording.player import LAST_SECONDS, SPEEDS, ReplayFeed
from halotui.recording.reader import RecordingError
from halotui.recording.recorder import FOLDER
from halotui.recording.segments import of_session
from halotui.recording.sessions import Session, last, sessions
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.config import Settings


def is_headless(said: Mapping[str, Any]) -> bool:
    """Whether text is asked for, and not the screen, or there is no terminal for one."""
    asked = said.get("list") or said.get("once") or said.get("json")
    return bool(asked) or not (sys.stdin.isatty() and sys.stdout.isatty())


async def run(said: Mapping[str, Any], settings: Settings) -> int:
    """``--list``, ``--once`` and ``--json``; the exit code."""
    if said.get("list"):
        return _list(_directory(said, settings), as_json=bool(said.get("json")))
    try:
        recording = Recording(_paths(said, settings))
        try:
            return _look(recording, said)
        finally:
            recording.close()
    except RecordingError as error:
        return _complain(told(error))


def open_player(said: Mapping[str, Any], settings: Settings) -> ReplayFeed:
    """The feed of what was asked for, at the time and speed that were asked for. Raises UsageError (exit 2),
    RecordingError (exit 1: nothing there, or none of ours), OSError."""
    speed = said.get("speed", 1.0)
    if not SPEEDS[0] <= speed <= SPEEDS[-1]:
        raise UsageError(f"--speed: {speed:g} is not between {SPEEDS[0]:g} and {SPEEDS[-1]:g}")
    player = ReplayFeed(_paths(said, settings), speed=speed)
    if "at" in said:
        player.seek(when(said["at"], player.begin, player.end))
    elif said.get("last"):
        player.seek(player.end - LAST_SECONDS)
    return player


def when(text: str, begin: float, end: float) -> float:
    """What ``--at`` means, as Unix seconds. Raises UsageError."""
    try:
        return times.within(text, begin, end)
    except ValueError as error:
        raise UsageError(f"--at: {error}") from None


def _paths(said: Mapping[str, Any], settings: Settings) -> Sequence[Path]:
    """Of the files that are one recording. Raises UsageError, RecordingError."""
    file = said.get("file")
    if (file is None) is not bool(said.get("last")):
        raise UsageError("replay: a file or --last; replay --list tells what the flight recorder holds")
    if file is not None:
        return of_session(file)
    directory = _directory(said, settings)
    held = _sessions(directory)
    found = last(held)
    if found is None:
        raise RecordingError(f"the flight recorder holds nothing yet ({directory})")
    newest = max(session.end_time for session in held if not session.live or session is found)
    if newest > found.end_time:
        words = f"this one was cut off; a later one was closed at {times.stamp(newest)}: replay --list"
        print(f"halotui: {words}", file=sys.stderr)
    return [Path(segment) for segment in found.segments]


def _look(recording: Recording, said: Mapping[str, Any]) -> int:
    at = when(said["at"], recording.begin, recording.end) if "at" in said else None
    frame = recording.frame(recording.frames - 1 if at is None else recording.at(at))
    if said.get("json"):
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(frame), indent=2).decode(), flush=True)
    else:
        from halotui.exporters.text import text

        print(text(frame), flush=True)
    return exits.OK


def _list(directory: Path, *, as_json: bool) -> int:
    found = _sessions(directory)
    if as_json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode(), flush=True)
        return exits.OK
    if not found:
        print(f"halotui: the flight recorder holds nothing yet ({directory})", file=sys.stderr)
        return exits.OK
    rows = [_HEAD, *map(_row, found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (
            cell.rjust(width) if column in _FIGURES else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(padded).rstrip())
    sys.stdout.flush()
    return exits.OK


_HEAD = ("BEGAN", "ENDED", "LENGTH", "FRAMES", "SIZE", "FINDINGS", "MARKS", "HOST", "END", "FILE")
_FIGURES = range(2, 7)


def _row(session: Session) -> tuple[str, ...]:
    return (
        times.stamp(session.begin_time),
        times.stamp(session.end_time),
        format.duration(session.end_time - session.begin_time),
        str(session.frames),
        format.size(session.size_bytes),
        str(session.findings or format.DASH),
        str(session.marks or format.DASH),
        session.host,
        "recording" if session.live else "cut off" if session.cut_off else "closed",
        clean(session.file),
    )


def _sessions(directory: Path) -> list[Session]:
    return sessions(directory, lambda words: print(f"halotui: {clean(words)}", file=sys.stderr))


def _directory(said: Mapping[str, Any], settings: Settings) -> Path:
    """Where the flight recorder keeps what it saw of the box. Raises UsageError."""
    return place(settings, said).state / FOLDER


def _complain(words: str) -> int:
    print(f"halotui: {clean(words)}", file=sys.stderr)
    return exits.FAILURE
