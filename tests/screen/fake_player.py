"""A scripted Player over the frames of a scene, for pictures and keys alone."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence

from halotui.demo.scene import START
from halotui.history import History
from halotui.model import Frame, LogLine
from halotui.runs import Event

# A finding, a mark, half a minute without frames and a hang, on the box of ``Scene``.
EVENTS = (
    Event(time=START + 35, kind="mark", label="long prompt"),
    Event(time=START + 50, kind="finding", label="Speculation drafts far less", severity="warning"),
    Event(time=START + 60, kind="gap", label="nothing recorded for 25 s", until_time=START + 85),
    Event(time=START + 120, kind="finding", label="GPU hang", severity="critical"),
    Event(time=START + 140, kind="finding", label="Idle", severity="info"),
)
SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


class FakePlayer:
    def __init__(self, frames: Sequence[Frame], events: Sequence[Event] = (), at: int = -1) -> None:
        self._frames = frames
        self._times = [frame.time for frame in frames]
        self._at = at % len(frames)
        self.events = events
        self.interval = 1.0
        self.playing, self.speed = False, 1.0
        self.begin, self.end = self._times[0], self._times[-1]
        self.generation = 0
        self.history = History()
        self.logs: dict[str, list[LogLine]] = {}
        self.closed = False
        self._news = asyncio.Event()
        self._build()

    @property
    def position(self) -> float:
        return self._times[self._at]

    def play(self) -> None:
        self.playing = True
        self._news.set()

    def pause(self) -> None:
        self.playing = False

    def faster(self, step: int) -> None:
        self.speed = SPEEDS[max(0, min(len(SPEEDS) - 1, SPEEDS.index(self.speed) + step))]

    def seek(self, time: float) -> None:
        self._at = max(0, bisect_right(self._times, time) - 1)
        self.generation += 1
        self._build()
        self._news.set()

    def step(self, frames: int) -> None:
        self.playing = False
        self.seek(self._times[max(0, min(len(self._times) - 1, self._at + frames))])

    def to_event(self, step: int) -> Event | None:
        known = [event for event in self.events if event.kind in ("finding", "mark")]
        if step < 0:
            known = [event for event in reversed(known) if event.time < self.position]
        else:
            known = [event for event in known if event.time > self.position]
        if not known:
            return None
        self.seek(known[0].time)
        return known[0]

    async def frames(self) -> AsyncIterator[Frame]:
        yield self._frames[self._at]
        while True:
            if self.playing and self._at < len(self._frames) - 1:
                await asyncio.sleep(1.0 / self.speed)
                self._at += 1
                self.history.push(self._frames[self._at])
            else:
                self.playing = False
                await self._news.wait()
            self._news.clear()
            yield self._frames[self._at]

    async def close(self) -> None:
        self.closed = True

    def _build(self) -> None:
        self.history, self.logs = History(), {}
        for frame in self._frames[: self._at + 1]:
            self.history.push(frame)
        for frame in self._frames[: self._at]:
            for server in frame.servers:
                self.logs.setdefault(server.url, []).extend(server.log)
