"""What the screen is given: frames to draw, and what its keys act on. Each is opened when it is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from halotui.commands.feeding import STORE, live_feed
from halotui.exits import UsageError
from halotui.stations import Station

if TYPE_CHECKING:
    from halotui.actions import Desk
    from halotui.commands.places import Place
    from halotui.demo.box import Box
    from halotui.far_stream import StreamFeed
    from halotui.feed import Feed, LiveFeed
    from halotui.hooks.teller import Hooks
    from halotui.hosts import Host
    from halotui.hosts.ssh import LinkError, SshHost
    from halotui.model import Link
    from halotui.notebook import Notebook
    from halotui.recording.recorder import FlightRecorder
    from halotui.runs import Past, Recorder, Store

_AGAIN = 1.0  # seconds
_NO_NOTEBOOK = "there is no feed yet that could keep it"


class Live:
    """One box: this one, the one that ``said`` roots in sysfs and procfs, or a far one."""

    label = ""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.settings = place.settings
        self.said: dict[str, Any] = dict(place.said)
        self.state = place.state
        self._far: SshHost | None = None
        self._stream: StreamFeed | None = None
        self._addresses: tuple[str, ...] | None = None  # not asked for yet
        self._flight: FlightRecorder | None = None
        self._notebook: Notebook | None = None
        self._hooks: Hooks | None = None

    @property
    def far(self) -> SshHost:
        """The way to a far box, one for everything."""
        if self._far is None:
            self._far = cast("SshHost", self.place.host())
        return self._far

    def _host(self) -> Host:
        return self.far if self.place.target is not None else self.place.host()

    def station(self) -> Station:
        """What the screen is given."""
        acts, far = not self.settings.readonly, self.place.target is not None
        return Station(
            name=self.place.name,
            groups=self.place.groups,
            open_feed=self.feed,
            desk=self.desk if acts else None,
            unfinished=self.state / "launches/current.json",
            recorder=self.recorder,
            recorder_trouble=self.trouble,
            past=self.past,
            silence=self.silence if acts and not self.place.streamed else None,  # it is the judge who is told
            label=self.label,
            link=self._link if far else None,
            login=(lambda: self.far.open(ask=True)) if far else None,
            again=self._again if far else None,
            addresses=self.addresses,
        )

    def _link(self) -> Link:
        return self._stream.link if self._stream is not None else self.far.link

    def _again(self) -> None:
        (self._stream or self.far).again()

    def addresses(self) -> tuple[str, ...]:
        """The box's own, as far as they are known: they are asked for in a thread, at the first call."""
        from halotui.model import LinkState

        if self._addresses is None and (self._far is None or self._far.link.state is LinkState.UP):
            self._addresses = ()
            asyncio.get_running_loop().run_in_executor(None, self._ask_addresses)
        return self._addresses or ()

    def _ask_addresses(self) -> None:
        from halotui.collectors import netspace

        host = self._host()
        with suppress(OSError):
            self._addresses = tuple(str(one) for one in netspace.addresses(host) if not one.is_loopback)

    async def open(self, *, ask: bool) -> LinkError | None:
        """Log in to a far box; why that is not possible."""
        if self.place.target is None:
            return None
        from halotui.hosts.ssh import LinkError

        try:
            await self.far.open(ask=ask)
        except LinkError as error:
            return error
        return None

    async def close(self) -> None:
        """Log out, where no feed has done so."""
        if self._far is not None:
            await self._far.close()

    async def look(self, one_shot: bool, say: Callable[[str], None] | None = None) -> LiveFeed | StreamFeed:
        """The bare feed, for whoever draws nothing; of a far box once it can be reached, however long that
        takes. A look that is one alone has nothing to remember.

        ``say``: what hears of trouble with telling others of findings.
        """
        if self.place.target is None:
            return await self._look(one_shot, say)
        from halotui.hosts import LinkDown

        while True:
            await self.far.up()
            try:
                return await self._look(one_shot, say)
            except LinkDown:  # it went again meanwhile
                await asyncio.sleep(_AGAIN)

    async def _look(self, one_shot: bool, say: Callable[[str], None] | None) -> LiveFeed | StreamFeed:
        if self.place.streamed:
            return await asyncio.to_thread(self._streamed, one_shot, say)
        ledger = None if one_shot else self.state / STORE
        host = self.far if self.place.target is not None else None
        feed = await asyncio.to_thread(live_feed, self.settings, self.said, one_shot, ledger, host, say)
        self._notebook, self._hooks = feed.notebook, feed.hooks
        if host is not None:
            feed.on_close = host.close
        return feed

    def _streamed(self, one_shot: bool, say: Callable[[str], None] | None) -> StreamFeed:
        """Frames that the far box's own halotui makes and judges; silences are kept there too."""
        from halotui.commands.feeding import told
        from halotui.far_stream import StreamFeed

        self._hooks = None if one_shot else told(self.settings, self.state, say)
        self._stream = StreamFeed(self.far, self.settings.interval, self.settings.urls, self._hooks)
        return self._stream

    async def feed(self) -> Feed:
        """The feed, with its frames kept by the flight recorder."""
        feed = await self.look(False)
        if not self.settings.recorder:
            return feed
        return await asyncio.to_thread(self._recorded, feed)

    def _recorded(self, feed: LiveFeed | StreamFeed) -> Feed:
        from halotui.recording.recorded import RecordedFeed
        from halotui.recording.recorder import FOLDER, FlightRecorder

        self._flight = FlightRecorder(self.state / FOLDER, self.settings.recorder_megabytes)
        return RecordedFeed(feed, self._flight)

    def trouble(self) -> str | None:
        """Of the flight recorder, of the notebook, and of who tells others."""
        keepers = (self._flight, self._notebook, self._hooks)
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
        from halotui.commands.places import hands

        host = self._host()
        return await asyncio.to_thread(opening.open_desk, self.place, host, hands(host))

    async def recorder(self) -> Recorder:
        return await asyncio.to_thread(self._recorder)

    def _recorder(self) -> Recorder:
        from halotui.benching.on_screen import ScreenRecorder
        from halotui.commands.places import hands

        host = self._host()
        return ScreenRecorder(host, hands(host), self._kept, self._flight)

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

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._box: Box | None = None

    async def look(self, one_shot: bool, say: Callable[[str], None] | None = None) -> LiveFeed | StreamFeed:
        import msgspec

        from halotui.demo.box import BoxError, start_box
        from halotui.hooks.settings import HookSettings

        try:
            box = await start_box(fault=self.said.get("fault"), seed=self.said.get("seed", 0))
        except BoxError as error:
            raise UsageError(str(error)) from None
        self._box, self.state = box, box.state
        self.said |= {"sysfs": box.sysfs, "procfs": box.procfs}
        self.place = replace(self.place, said=self.said)
        self.settings = msgspec.structs.replace(self.settings, urls=(box.url,), hooks=HookSettings())
        try:
            feed = await super().look(one_shot, say)
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
