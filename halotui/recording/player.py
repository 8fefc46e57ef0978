"""Plays a recording: a feed like any other, with a tape's keys."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from halotui.history import LENGTH, History
from halotui.model import Frame, LogLine
from halotui.recording.index import Recording
from halotui.runs import Event

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
SHORTEST = 0.005  # seconds between two frames: others want to run as well
LOG_LINES = 2000
LAST_SECONDS = 30.0  # where ``--last`` begins, before the end

Logs = dict[str, deque[LogLine]]


class ReplayFeed:
    """Frames of one or several files, at the pace they were made times ``speed``.

    A gap is jumped, not waited out. At the end it pauses; ``play`` there begins anew. After a seek the
    history and ``logs`` are made of the frames before, and ``generation`` counts one up. Raises
    RecordingError at once.
    """

    def __init__(self, paths: Path | Sequence[Path], *, at: float | None = None, speed: float = 1.0) -> None:
        self.recording = Recording([paths] if isinstance(paths, Path) else paths)
        self.history = History()
        self.logs = Logs()  # what servers said before the frame that was gone to, by URL
        self.playing = True
        self.speed = min(max(speed, SPEEDS[0]), SPEEDS[-1])
        self.generation = 0
        self.begin, self.end = self.recording.begin, self.recording.end
        self.events: Sequence[Event] = self.recording.events
        self.interval = self.recording.interval  # of the frames; changing it changes nothing
        self._number = -1  # of the frame shown; -1: none yet
        self._time = self.begin
        self._wanted: int | None = 0 if at is None else self.recording.at(at)
        self._event: tuple[int, int] | None = None  # the one we went to: its index, and the frame it led to
        self._changed = asyncio.Event()

    @property
    def position(self) -> float:
        """Time of the frame shown, or of the one that is asked for."""
        return self._time if self._wanted is None else self.recording.frame(self._wanted).time

    async def frames(self) -> AsyncIterator[Frame]:
        """Without an end; one after every seek and step, also while paused."""
        while True:
            self._changed.clear()
            if self._wanted is not None:
                frame = await self._go()
            elif not self.playing:
                await self._changed.wait()
                continue
            elif self._number + 1 >= self.recording.frames:
                self.playing = False
                continue
            else:
                frame = self.recording.frame(self._number + 1)
                if await self._wait(frame.time - self._time):
                    continue
                self._show(frame, self._number + 1)
                self.history.push(frame)
            yield frame

    async def close(self) -> None:
        self.recording.close()

    def play(self) -> None:
        if not self.playing and self._at_end():
            self._ask(0)
        self.playing = True
        self._changed.set()

    def pause(self) -> None:
        self.playing = False
        self._changed.set()

    def faster(self, step: int) -> None:
        """So many steps up the list of speeds; down when negative."""
        index = min(bisect_left(SPEEDS, self.speed), len(SPEEDS) - 1)
        self.speed = SPEEDS[min(max(index + step, 0), len(SPEEDS) - 1)]
        self._changed.set()

    def seek(self, time: float) -> None:
        self._ask(self.recording.at(time))

    def step(self, frames: int) -> None:
        self.playing = False
        here = self._number if self._wanted is None else self._wanted
        self._ask(here + frames)

    def to_event(self, step: int) -> Event | None:
        """The next (1) or the previous (-1) finding or mark; None when there is none."""
        events = [event for event in self.events if event.kind != "gap"]
        here = self._number if self._wanted is None else self._wanted
        times = [event.time for event in events]
        if self._event is not None and self._event[1] == here:
            index = self._event[0] + step
        elif step > 0:
            index = bisect_right(times, self.position) + step - 1
        else:
            index = bisect_left(times, self.position) + step
        if not 0 <= index < len(events):
            return None
        self._ask(self.recording.at(events[index].time))
        self._event = index, self._wanted or 0
        return events[index]

    def _ask(self, number: int) -> None:
        self._wanted = min(max(number, 0), self.recording.frames - 1)
        self._changed.set()

    def _at_end(self) -> bool:
        return self._wanted is None and self._number + 1 >= self.recording.frames

    async def _go(self) -> Frame:
        """To the frame that is wanted, whichever that is by then. The next one needs no new history."""
        assert self._wanted is not None
        while True:
            number = self._wanted
            if number == self._number + 1 and self._number >= 0:
                frame = self.recording.frame(number)
                self.history.push(frame)
            else:
                frame, history, logs = await asyncio.to_thread(self._rebuilt, number)
                if number != self._wanted:
                    continue
                self.history, self.logs = history, logs
                self.generation += 1
            self._wanted = None
            self._show(frame, number)
            return frame

    def _rebuilt(self, number: int) -> tuple[Frame, History, Logs]:
        """The frame, and what was before: its own lines it brings itself."""
        history, logs = History(), Logs()
        lines: dict[str, tuple[LogLine, ...]] = {}
        for frame in self.recording.run(number + 1 - LENGTH, number + 1):
            history.push(frame)
            for url, said in lines.items():
                logs.setdefault(url, deque(maxlen=LOG_LINES)).extend(said)
            lines = {server.url: server.log for server in frame.servers if server.log}
        return frame, history, logs

    def _show(self, frame: Frame, number: int) -> None:
        self._number, self._time = number, frame.time

    async def _wait(self, silence: float) -> bool:
        """For the next frame's time; True when something else was asked for meanwhile."""
        if silence < 0 or self._time in self.recording.gaps:  # the clock was put back, or nobody was there
            silence = self.interval
        try:
            async with asyncio.timeout(max(SHORTEST, silence / self.speed)):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True
