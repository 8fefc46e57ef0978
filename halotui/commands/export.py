"""``halotui export``: a Prometheus exporter of one box or several. It holds the last frames; a scrape reads
them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from halotui import exits
from halotui.commands.exporting import INTERVAL
from halotui.exits import UsageError
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.commands.cockpit import Live
    from halotui.commands.listening import Door
    from halotui.config import Settings
    from halotui.exporters.prometheus_scrape import Scrape
    from halotui.model import Link

Said = Mapping[str, Any]
_T = TypeVar("_T")
_ENDS = {signal.SIGINT: exits.INTERRUPTED, signal.SIGTERM: exits.OK, signal.SIGHUP: exits.OK}
_GOODBYE = 5.0  # seconds that the boxes may take to say theirs


async def run(said: Said, settings: Settings) -> int:
    """Serve until a signal comes; the exit code. Raises UsageError, UnreachableError."""
    if said.get("alert_rules"):
        from halotui.exporters.alerts import alert_rules

        print(alert_rules(), end="", flush=True)
        return exits.OK
    from halotui.commands.listening import door

    way_in = door(said, os.environ)  # wrong words are told before a box is asked
    return await serve(_boxes(said, settings), way_in)


def _boxes(said: Said, settings: Settings) -> list[Live]:
    import msgspec

    from halotui.commands import cockpit, places
    from halotui.demo import FAULTS

    if said.get("log") == "-":
        raise UsageError("--log: an exporter has no standard input; name a file")
    if "fault" in said and not said.get("demo"):
        raise UsageError("--fault: only of a --demo box")
    if "fault" in said and said["fault"] not in FAULTS:
        raise UsageError(f"--fault: one of {', '.join(FAULTS)}")
    settings = msgspec.structs.replace(settings, interval=said.get("interval", INTERVAL))
    if said.get("demo"):
        return [cockpit.Demo(places.this_box(settings, said))]
    return [cockpit.Live(place) for place in places.places(settings, said)]


async def serve(boxes: Sequence[Live], door: Door) -> int:
    """Scrapes of all ``boxes`` at one ``door``; the exit code. Raises UsageError, UnreachableError."""
    from halotui.commands.looking import enter
    from halotui.exporters.prometheus_http import Server
    from halotui.exporters.prometheus_scrape import Scrape

    scrape = Scrape()
    try:
        server = Server(*door.address, scrape, door.path, door.tls, door.users)
    except OSError as error:
        _say(f"{door.listen}: {(error.strerror or str(error)).lower()}")
        return exits.FAILURE
    try:
        with _Stop() as stop:
            troubles = await stop.during(enter(boxes))
            if troubles is None:
                return stop.code
            for trouble in troubles.values():
                _say(f"{trouble}; it is tried again")
            named = dict(zip(_names(boxes), boxes, strict=True))
            for name, box in named.items():
                scrape.watch(name, box.settings.interval, _link(box))
            server.run()
            _say(f"{door.url(server.port)} of {', '.join(named)}")
            for warning in door.warnings:
                _say(warning)
            notify("READY=1")
            await stop.during(_watch_all(named, scrape))
            notify("STOPPING=1")
            return stop.code
    finally:
        server.stop()


def _names(boxes: Sequence[Live]) -> list[str]:
    """The hosts' labels: as the user calls them, this box by its own name."""
    here = clean(socket.gethostname())
    named = {box.place.name for box in boxes}
    return [box.place.name or (here if here not in named else "localhost") for box in boxes]


def _link(box: Live) -> Callable[[], Link] | None:
    return (lambda: box.far.link) if box.place.target is not None else None


async def _watch_all(named: Mapping[str, Live], scrape: Scrape) -> None:
    """Until no box has any more frames."""
    await asyncio.gather(*(_watch(name, box, scrape) for name, box in named.items()))


async def _watch(name: str, box: Live, scrape: Scrape) -> None:
    """Its frames, for as long as there are any. What goes wrong with one box is no other's concern."""
    feed = None
    try:
        try:
            feed = await box.look(False, _say)
            async for frame in feed.frames():
                scrape.take(name, frame)
        finally:
            await (box if feed is None else feed).close()
    except Exception as error:
        _say(f"{name}: no more frames: {error or repr(error)}")


class _Stop:
    """The signal that ends it."""

    def __init__(self) -> None:
        self.code = exits.FAILURE  # unless one comes
        self._came = asyncio.Event()

    def __enter__(self) -> _Stop:
        for number in _ENDS:
            asyncio.get_running_loop().add_signal_handler(number, self._come, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in _ENDS:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _come(self, number: signal.Signals) -> None:
        self.code = _ENDS[number]
        self._came.set()

    async def during(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """What comes of it; None: it was ended before."""
        doing, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self._came.wait())
        try:
            await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return doing.result() if doing.done() else None
        finally:
            stopping.cancel()
            doing.cancel()
            await asyncio.wait({doing}, timeout=_GOODBYE)


def notify(state: str) -> None:
    """Tell systemd, where it asked to be told (Type=notify)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.setblocking(False)
        line.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


def _say(text: str) -> None:
    print(f"halotui: {clean(text)}", file=sys.stderr, flush=True)
