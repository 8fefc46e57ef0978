"""What belongs to one box: its feed and what is drawn of it, and all that its keys have begun."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from textual.app import App

from halotui.model import Finding, Frame, Link, LinkState, Server
from halotui.safe import clean
from halotui.screens.pages import Pages
from halotui.stations import Station
from halotui.widgets.canvas import Canvas
from halotui.widgets.rows import Ref
from halotui.widgets.view import View

if TYPE_CHECKING:
    from halotui.feed import Feed
    from halotui.screens.capturing import Capturing, Strip
    from halotui.screens.relaunch import Relaunch
    from halotui.screens.replaying import Replay


class Hall(Protocol):
    """What is needed of the app."""

    canvas: Canvas

    def changed(self, seat: Seat) -> None:
        """There is something else to see of that box."""

    def settle_keys(self) -> None:
        """Other keys are there now."""

    def key(self, id_: str) -> str:
        """What to press, in words."""
        ...

    async def keep(self, name: str, data: bytes) -> None:
        """Into the state directory."""


class Seat:
    """One for the app's life. What it has to say waits until the box is looked at."""

    def __init__(self, app: App[Any], hall: Hall, station: Station, title: str = "") -> None:
        self._app, self._hall, self.station = app, hall, station
        self.view = View(label=station.label, acting=station.desk is not None, title=title)
        self.pages = Pages(app, self.view, hall.canvas)
        self.feed: Feed | None = None
        self.latest: Frame | None = None  # also while the picture is held still
        self.taken = 0  # frames
        self._taken_at = 0.0  # Unix seconds, of the last one
        self.trouble = ""  # why no frames come, where that is not its link
        self.replay: Replay | None = None
        self.strip_rows: Strip | None = None  # the line above the foot
        self.said = ("", False)  # at the foot: what goes on meanwhile, and whether it is loud
        self.cursor: Ref | None = None  # while it is not looked at
        self._looked = asyncio.Event()
        self._relaunch: Relaunch | None = None
        self._capturing: Capturing | None = None
        self._warned: str | None = None  # of what is wrong with what is kept

    # --- whether it is looked at

    @property
    def looked_at(self) -> bool:
        return self._looked.is_set()

    @looked_at.setter
    def looked_at(self, yes: bool) -> None:
        (self._looked.set if yes else self._looked.clear)()

    async def looked(self) -> None:
        """Returns once it is looked at."""
        await self._looked.wait()

    @property
    def link(self) -> Link | None:
        """To a far box; None: it is this one. One that came back is there with its first frame."""
        link = self.station.link() if self.station.link is not None else None
        if link is not None and link.state is LinkState.UP and 0 < self._taken_at < link.since_time:
            return msgspec.structs.replace(link, state=LinkState.CONNECTING)
        return link

    @property
    def far(self) -> str:
        """The name of a far box; empty: it is this one."""
        return self.station.name if self.station.link is not None else ""

    @property
    def away(self) -> bool:
        """Whether the box cannot be asked at the moment."""
        link = self.link
        return link is not None and link.state is not LinkState.UP

    @property
    def refused(self) -> bool:
        """Whether a person has to do something about its link."""
        link = self.link
        return link is not None and link.state is LinkState.REFUSED

    @property
    def absent(self) -> bool:
        """Whether what was seen of it last is not of now."""
        return bool(self.trouble) or self.away

    def fail(self, trouble: str) -> None:
        """No more frames come."""
        self.trouble = trouble
        self._hall.changed(self)

    # --- frames

    async def open(self) -> None:
        """Raises whatever the feed does."""
        feed = await self.station.open_feed()
        self.feed = feed
        self.view.history = feed.history
        self.view.interval = feed.interval
        if hasattr(feed, "to_event"):
            self._begin_replay(feed)

    async def show(self, taken: Callable[[Seat], None]) -> None:
        """Each frame as it comes, until the feed ends; ``taken`` is told of each."""
        assert self.feed is not None
        async for frame in self.feed.frames():
            self.latest, self.trouble = frame, ""
            self.taken, self._taken_at = self.taken + 1, time.time()
            if self.replay is not None and self.replay.anew:
                self.view.anew(self.feed.history, self.replay.logs)
            if not self.view.frozen:
                self.view.take(frame)
            if self.replay is not None:
                self.replay.draw()
            elif not self.view.frozen or not self.looked_at:
                self._hall.changed(self)
            if self.station.recorder_trouble is not None and self.looked_at:
                self._warn(self.station.recorder_trouble())
            taken(self)

    def _begin_replay(self, feed: Feed) -> None:
        """When it is a recording."""
        from halotui.screens.replaying import Player, Replay

        if not isinstance(feed, Player):
            return
        self.replay = Replay(self._app, feed, self._hall.canvas.update)
        self.strip_rows = self.replay.rows
        self.view.label, self.view.clock = self.view.label or "REPLAY", True
        self._hall.settle_keys()
        self._hall.canvas.repaint()

    def _warn(self, trouble: str | None) -> None:
        """Once, when it appears."""
        if trouble and trouble != self._warned:
            said = clean(trouble)
            self._app.notify(said, title="what is kept", severity="warning", timeout=10, markup=False)
        self._warned = trouble

    # --- what its keys begin: in the background, the frames go on

    def act(self, name: str, *more: Finding) -> None:
        """A key of ``Relaunch``."""
        from halotui.screens.relaunch import Relaunch

        if self._relaunch is None and self.station.desk is not None:
            self._relaunch = Relaunch(self._app, self, self.station.desk)
        if self._relaunch is not None:
            self._app.run_worker(self._relaunch.guarded(getattr(self._relaunch, name)(*more)))

    def capture(self, name: str) -> None:
        """A key of ``Capturing``."""
        from halotui.screens.capturing import Capturing

        if self._capturing is None and self.station.recorder is not None:
            self._capturing = Capturing(self._app, self, self.station.recorder)
        if self._capturing is not None:
            self._app.run_worker(self._capturing.guarded(getattr(self._capturing, name)()))

    async def close(self) -> None:
        """Put recorder, feed and desk away; the screen has gone already."""
        try:
            if self._capturing is not None:
                await self._capturing.close()
        except Exception as error:  # the capture's own trouble: everything else is put away all the same
            print(f"halotui: the capture: {clean(str(error))}", file=sys.stderr)
        if self.feed is not None:
            await self.feed.close()
        if self._relaunch is not None:
            await self._relaunch.close()

    # --- what those need

    def frame(self) -> Frame | None:
        return self.view.frame

    def server(self) -> Server | None:
        """The one that is looked at."""
        return self.view.server

    def note(self, text: str, loud: bool = False) -> None:
        """At the foot, until it is taken back by an empty one."""
        self.said = (text, loud)
        self._hall.changed(self)

    def strip(self, rows: Strip | None) -> None:
        """The line above the foot; None: there is none."""
        self.strip_rows = rows
        self._hall.changed(self)

    def key(self, id_: str) -> str:
        return self._hall.key(id_)

    async def keep(self, name: str, data: bytes) -> None:
        await self._hall.keep(name, data)
