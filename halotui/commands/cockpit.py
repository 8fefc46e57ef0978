"""What the screen is given: frames to draw, and what its keys act on. Each is opened when it is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halotui.commands.feeding import STORE, live_feed
from halotui.exits import UsageError

if TYPE_CHECKING:
    from halotui.actions import Desk
    from halotui.config import Settings
    from halotui.demo.box import Box
    from halotui.feed import Feed, LiveFeed
    from halotui.notebook import Notebook
    from halotui.recording.recorder import FlightRecorder
    from halotui.runs import Past, Recorder, Store

Said = Mapping[str, Any]
_NO_NOTEBOOK = "there is no feed yet that could keep it"


class Live:
    """This box, or the one that ``said`` roots in sysfs and procfs."""

    label = ""

    def __init__(self, settings: Settings, said: Said) -> None:
        from halotui import config

        self.settings = settings
        self.said: dict[str, Any] = dict(said)
        self.state = config.state_dir()
        self._flight: FlightRecorder | None = None
        self._notebook: Notebook | None = None

    async def look(self, one_shot: bool) -> LiveFeed:
        """The bare feed, for whoever draws nothing. A look that is one alone has nothing to remember."""
        ledger = None if one_shot else self.state / STORE
        feed = await asyncio.to_thread(live_feed, self.settings, self.said, one_shot, ledger)
        self._notebook = feed.notebook
        return feed

    async def feed(self) -> Feed:
        """The feed, with its frames kept by the flight recorder."""
        feed = await self.look(False)
        if not self.settings.recorder:
            return feed
        return await asyncio.to_thread(self._recorded, feed)

    def _recorded(self, feed: LiveFeed) -> Feed:
        from halotui.recording.recorded import RecordedFeed
        from halotui.recording.recorder import FOLDER, FlightRecorder

        self._flight = FlightRecorder(self.state / FOLDER, self.settings.recorder_megabytes)
        return RecordedFeed(feed, self._flight)

    def trouble(self) -> str | None:
        """Of the flight recorder and of the notebook."""
        keepers = (self._flight, self._notebook)
        return "; ".join(one.trouble for one in keepers if one is not None and one.trouble) or None

    async def silence(self, id_: str, subject: str, seconds: float | None) -> str | None:
        """Hear no more of a rule: from the next frame on. None once that is kept, else why it is not."""
        if self._notebook is None:
            return _NO_NOTEBOOK
        return await self._notebook.silence(id_, subject, seconds)

    async def hear(self, id_: str, subject: str) -> str | None:
        """Take that back, likewise."""
        return _NO_NOTEBOOK if self._notebook is None else await self._notebook.hear(id_, subject)

    async def desk(self) -> Desk:
        from halotui.commands import opening

        return await asyncio.to_thread(opening.open_desk, self.settings, self.said)

    async def recorder(self) -> Recorder:
        return await asyncio.to_thread(self._recorder)

    def _recorder(self) -> Recorder:
        from halotui.benching.on_screen import ScreenRecorder
        from halotui.hosts.local import LocalHost
        from halotui.hosts.local_hands import LocalHands

        host = LocalHost(self.said.get("sysfs", Path("/sys")), self.said.get("procfs", Path("/proc")))
        return ScreenRecorder(host, LocalHands(), self._kept, self._flight)

    async def past(self) -> Past:
        return await asyncio.to_thread(self._past)

    def _past(self) -> Past:
        from halotui.recording.past import RecordedPast
        from halotui.recording.recorder import FOLDER

        return RecordedPast(self.state / FOLDER, lambda: self._store(readonly=True))

    def _kept(self) -> Store:
        """Where captures go. Raises StoreError."""
        return self._store(readonly=False)

    def _store(self, *, readonly: bool) -> Store:
        from halotui.commands.keeping import open_store

        return open_store({**self.said, "store": self.state / STORE}, self.settings, readonly=readonly)


class Demo(Live):
    """A demo box, which goes with its feed; nothing of the user's is read or written."""

    label = "DEMO"

    def __init__(self, settings: Settings, said: Said) -> None:
        super().__init__(settings, said)
        self._box: Box | None = None

    async def look(self, one_shot: bool) -> LiveFeed:
        import msgspec

        from halotui.demo.box import BoxError, start_box

        try:
            box = await start_box(fault=self.said.get("fault"), seed=self.said.get("seed", 0))
        except BoxError as error:
            raise UsageError(str(error)) from None
        self._box, self.state = box, box.state
        self.said |= {"sysfs": box.sysfs, "procfs": box.procfs}
        self.settings = msgspec.structs.replace(self.settings, urls=(box.url,))
        try:
            feed = await super().look(one_shot)
        except BaseException:
            await box.stop()
            raise
        feed.on_close = box.stop
        return feed

    def _kept(self) -> Store:
        from halotui.runs import StoreError

        raise StoreError("the demo keeps nothing")

    async def desk(self) -> Desk:
        from halotui.commands import opening

        assert self._box is not None  # the key was pressed on its picture
        return await asyncio.to_thread(opening.open_demo_desk, self.settings, self.said, self._box)
