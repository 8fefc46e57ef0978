"""The keys of a recording: play, pause, seek. What is shown is a Frame like any other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from inspect import isawaitable
from typing import Any, Protocol, runtime_checkable

from textual.app import App
from textual.timer import Timer

from halotui import times
from halotui.model import LogLine
from halotui.runs import Event
from halotui.safe import clean
from halotui.screens.prompt import Prompt
from halotui.widgets.rows import Row
from halotui.widgets.timeline import Standing, Timeline

DRAWN_SECONDS = 0.25  # between two pictures: nobody reads faster, and a slow link carries no more at 64x
_SEVERITIES: dict[str, Any] = {"critical": "error", "warning": "warning"}


@runtime_checkable
class Player(Protocol):
    """A feed of frames that were. Times are Unix seconds."""

    @property
    def logs(self) -> Mapping[str, Sequence[LogLine]]:
        """By server URL: what was said before the frame that was gone to."""
        ...

    @property
    def playing(self) -> bool: ...

    @property
    def speed(self) -> float:
        """0.25 .. 64"""
        ...

    @property
    def position(self) -> float: ...

    @property
    def begin(self) -> float: ...

    @property
    def end(self) -> float: ...

    @property
    def generation(self) -> int:
        """One more whenever history was built anew: the view starts anew."""
        ...

    @property
    def events(self) -> Sequence[Event]:
        """Of the whole recording, in order."""
        ...

    def play(self) -> None: ...

    def pause(self) -> None: ...

    def faster(self, step: int) -> None: ...

    def seek(self, time: float) -> None:
        """The frame at or before that time; clamps."""

    def step(self, frames: int) -> None: ...

    def to_event(self, step: int) -> Event | None:
        """Goes to the next or previous finding or mark."""
        ...


class Replay:
    """One for the app's life: its keys, by name through ``guarded``; ``rows`` is its line above the foot."""

    def __init__(self, app: App[Any], player: Player, update: Callable[[], None]) -> None:
        self._app, self.player, self._update = app, player, update
        self._generation = -1  # the first frame begins a view, too
        self._timeline = Timeline()
        self._drawn = 0.0  # monotonic
        self._waiting: Timer | None = None

    @property
    def anew(self) -> bool:
        """Whether history was built anew since this was asked last."""
        before, self._generation = self._generation, self.player.generation
        return before != self._generation

    @property
    def logs(self) -> Mapping[str, Sequence[LogLine]]:
        """By server URL: the lines of the frames that history was made of, where the player has kept them."""
        return self.player.logs

    def draw(self) -> None:
        """The picture at once, or soon when the last one was just drawn."""
        wait = self._drawn + DRAWN_SECONDS - time.monotonic()
        if wait <= 0:
            self._draw()
        elif self._waiting is None:
            self._waiting = self._app.set_timer(wait, self._draw)

    def _draw(self) -> None:
        if self._waiting is not None:
            self._waiting.stop()
        self._waiting, self._drawn = None, time.monotonic()
        self._update()

    def rows(self, width: int) -> list[Row]:
        return self._timeline.rows(self._standing, self.player.events, width)

    async def guarded(self, key: str, *more: float) -> None:
        """A recording that cannot be read there costs the key, not the cockpit."""
        try:
            done = getattr(self, key)(*more)
            if isawaitable(done):
                await done
        except Exception as error:
            self._app.notify(clean(str(error)), severity="error", timeout=10, markup=False)
        self._update()

    def play(self) -> None:
        if self._standing.over:
            self._app.notify("the recording ends here; go back to see it again", timeout=3)
        elif self.player.playing:
            self.player.pause()
        else:
            self.player.play()

    def seek(self, seconds: float) -> None:
        self.player.seek(self.player.position + seconds)

    def speed(self, step: int) -> None:
        self.player.faster(step)

    def event(self, step: int) -> None:
        event = self.player.to_event(step)
        if event is None:
            self._app.notify(f"no {'later' if step > 0 else 'earlier'} finding or mark", timeout=3)
        else:
            self._tell(event)

    def click(self, cell: int) -> None:
        """On the bar."""
        moment, event = self._timeline.at(self._standing, cell)
        self.player.seek(moment)
        if event is not None:
            self._tell(event)

    async def go_to(self) -> None:
        text = await self._app.push_screen_wait(Prompt("go to 03:12, 03:12:40, +90s, -5m …"))
        if not text or not text.strip():
            return
        player = self.player
        try:
            player.seek(times.within(text, player.begin, player.end, player.position))
        except ValueError as error:
            self._app.notify(clean(str(error)), severity="warning", timeout=6, markup=False)

    @property
    def _standing(self) -> Standing:
        player = self.player
        return Standing(player.position, player.begin, player.end, player.playing, player.speed)

    def _tell(self, event: Event) -> None:
        when = time.strftime("%H:%M:%S", time.localtime(event.time))
        severity = _SEVERITIES.get(event.severity, "information")
        self._app.notify(f"{when}  {clean(event.label)}", severity=severity, timeout=4, markup=False)
