"""``halotui record FILE``: the frames of this box into a file, until Ctrl-C, a signal or the time is up."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halotui import exits, format
from halotui.commands.feeding import STORE, live_feed, until
from halotui.commands.keeping import seconds, told
from halotui.commands.places import opened, place
from halotui.exits import UsageError
from halotui.recording.file import RecordingError
from halotui.recording.recorder import FileRecorder
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.config import Settings
    from halotui.model import Frame

PATIENCE = 10.0  # seconds that the last frames may take to the disk
_CLEAR = "\r\x1b[K"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def run(said: Mapping[str, Any], settings: Settings) -> int:
    """Records; the exit code. A file that is there is only gone on with when that was asked for."""
    path: Path = said["file"]
    where = place(settings, said)
    limit = seconds(said["duration"]) if "duration" in said else None
    async with opened(where) as (host, _):
        try:
            recorder = FileRecorder(path, append=bool(said.get("append")))
        except RecordingError as error:
            raise UsageError(told(error)) from None
        except OSError as error:
            raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from None
        status = _Status(recorder, path, shown=not said.get("quiet"))
        enough = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, enough.set)
        ledger = where.state / STORE
        feed = await asyncio.to_thread(live_feed, where.settings, where.said, False, ledger, host)
        try:
            async with aclosing(until(feed.frames(), enough, limit)) as frames:
                async for frame in frames:
                    recorder.take(frame)
                    status.show(frame)
        finally:
            in_time = await asyncio.to_thread(recorder.close, PATIENCE)
            await feed.close()
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
    return status.end(in_time)


class _Status:
    """One live line on a terminal; elsewhere only what went wrong, and the end."""

    def __init__(self, recorder: FileRecorder, path: Path, shown: bool) -> None:
        self._recorder = recorder
        self._name = clean(str(path))
        self._live = shown and sys.stderr.isatty()
        self._shown = shown
        self._began = time.monotonic()
        self._trouble: str | None = None
        self._finding = ""

    def show(self, frame: Frame) -> None:
        if frame.findings:
            self._finding = clean(frame.findings[0].title)
        trouble = self._recorder.trouble
        if trouble != self._trouble:
            words = f"not on the disk: {trouble}; keeps trying" if trouble else "on the disk again"
            self._say(f"halotui: {self._name}: {clean(words)}")
            self._trouble = trouble
        if self._live:
            parts = [self._name, *self._figures()]
            if self._finding:
                parts.append(self._finding)
            print(f"{_CLEAR}{_fitting(' · '.join(parts))}", end="", file=sys.stderr, flush=True)

    def end(self, in_time: bool) -> int:
        trouble = self._recorder.trouble or (None if in_time else "the disk does not answer")
        lost = self._recorder.lost
        if self._shown:
            self._say(f"halotui: recorded {', '.join(self._figures())} into {self._name}")
        if trouble is not None or lost:
            what = f"{lost} frames are lost" if lost else "the last frames are not on the disk"
            self._say(f"halotui: {self._name}: {what}" + (f": {clean(trouble)}" if trouble else ""))
            return exits.FAILURE
        return exits.OK

    def _figures(self) -> list[str]:
        frames = self._recorder.taken
        return [
            f"{frames} frame{'s' * (frames != 1)}",
            format.duration(time.monotonic() - self._began),
            format.size(self._recorder.size),
        ]

    def _say(self, line: str) -> None:
        print(f"{_CLEAR if self._live else ''}{line}", file=sys.stderr, flush=True)


def _fitting(line: str) -> str:
    import shutil

    return line[: max(20, shutil.get_terminal_size().columns - 1)]
