"""``P`` and ``m``: a capture of peak memory begins and ends, a moment is given a name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from textual.app import App

from halotui.model import Frame, Server
from halotui.runs import Recorder, Run, StoreError
from halotui.safe import clean
from halotui.screens.captured import Captured
from halotui.screens.prompt import Prompt
from halotui.widgets import capture_line
from halotui.widgets.rows import Row

PATIENCE = 5.0  # seconds that a capture may take to begin or end when halotui is left

OpenRecorder = Callable[[], Awaitable[Recorder]]
Strip = Callable[[int], list[Row]]


class Cockpit(Protocol):
    """What is needed of the app."""

    @property
    def far(self) -> str:
        """The name of a far box; empty: it is this one."""
        ...

    def server(self) -> Server | None: ...

    def frame(self) -> Frame | None: ...

    async def looked(self) -> None:
        """Returns once the box is what is looked at."""

    def key(self, id_: str) -> str:
        """What to press, in words."""
        ...

    def strip(self, rows: Strip | None) -> None:
        """The line above the foot; None: there is none."""


class Capturing:
    """One a box. ``peak`` and ``mark`` are keys, and return when their pop-ups are gone."""

    def __init__(self, app: App[Any], cockpit: Cockpit, open_recorder: OpenRecorder) -> None:
        self._app, self._cockpit, self._open = app, cockpit, open_recorder
        self._opening: asyncio.Task[Recorder] | None = None
        self._turning: asyncio.Future[Run | None] | None = None  # a capture is being started or ended
        self._marks = 0  # without a capture

    async def recorder(self) -> Recorder:
        """Opened on first need, once; after a failure anew."""
        if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
            self._opening = asyncio.ensure_future(self._open())
        return await asyncio.shield(self._opening)

    async def close(self) -> None:
        """A capture under way ends, and is kept; also one that was only just being started."""
        if self._turning is not None:
            await asyncio.wait({self._turning}, timeout=PATIENCE)
        if self._opened is not None:
            await self._opened.close()

    @property
    def _opened(self) -> Recorder | None:
        opening = self._opening
        if opening is None or not opening.done() or opening.cancelled() or opening.exception() is not None:
            return None
        return opening.result()

    async def peak(self) -> None:
        """Begin one, or end it."""
        if self._turning is not None:
            return
        self._turning = asyncio.ensure_future(self._turn())
        try:
            run = await asyncio.shield(self._turning)  # whoever quits meanwhile does not leave it half done
        finally:
            if self._turning.done():
                self._turning = None
                self._settle()
        if run is not None:
            await self._cockpit.looked()
            await self._app.push_screen_wait(Captured(run, self._cockpit.far))

    async def _turn(self) -> Run | None:
        """The run that has ended, if one has."""
        recorder = await self.recorder()
        begin = recorder.now() is None
        word = "starting…" if begin else "ending…"
        self._cockpit.strip(lambda width: capture_line.rows(None, width, word))
        if not begin:
            return await recorder.stop()
        await recorder.start(self._label())
        return None

    async def mark(self) -> None:
        pressed = time.time()  # typing takes its time
        recorder = await self.recorder()
        under_way = recorder.now()
        count = len(under_way.marks) if under_way is not None else self._marks
        name = f"mark {count + 1}"
        label = await self._app.push_screen_wait(Prompt(f"what happens here; enter alone: {name}"))
        if label is None:
            return
        mark = recorder.mark(label.strip() or name, pressed)
        self._marks += under_way is None
        when = time.strftime("%H:%M:%S", time.localtime(mark.time))
        self._app.notify(f"✚ {clean(mark.label)} · {when}", timeout=3, markup=False)

    async def guarded(self, doing: Awaitable[None]) -> None:
        """Whatever goes wrong is said: it costs the key, not the cockpit."""
        try:
            await doing
        except StoreError as error:
            self._say(error.reason, error.hint)
        except Exception as error:
            self._say(f"{type(error).__name__}: {error}")

    def _settle(self) -> None:
        """The line is there while anything is captured, however that began or ended."""
        recorder = self._opened
        under_way = recorder is not None and recorder.now() is not None
        self._cockpit.strip(self._line if under_way else None)

    def _line(self, width: int) -> list[Row]:
        now = self._opened.now() if self._opened is not None else None
        return capture_line.rows(now, width, "…", self._cockpit.key("peak"))

    def _say(self, *lines: str) -> None:
        said = "\n".join(clean(line) for line in lines if line)
        self._app.notify(said, severity="error", timeout=10, markup=False)

    def _label(self) -> str:
        server, frame = self._cockpit.server(), self._cockpit.frame()
        name = (server.model or "").rpartition("/")[2] if server is not None else ""
        return f"{name or (frame.host if frame is not None else 'peak')} {time.strftime('%H:%M:%S')}"
