"""``halotui line``: a box in one line, for tmux, waybar, polybar and prompts; once, or a line a frame.

A look costs half a second of CPU, mostly to load what judges it. So a single line is taken from the flight
recorder of a cockpit that runs, where its last frame is fresh: a third of that.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from halotui import exits
from halotui.commands import places
from halotui.exits import UnreachableError, UsageError
from halotui.exporters.line import BARS, line
from halotui.exporters.line_values import UNREACHABLE, TemplateError, check, worst
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.commands.cockpit import Live
    from halotui.commands.places import Place
    from halotui.config import Settings
    from halotui.model import Frame

FRESH = 5.0  # seconds that a recorded frame is as good as a look
SILENT = 5.0  # seconds without a frame, beyond three intervals, after which the line says so
_OURS = ("url", "sysfs", "procfs", "log", "gpu_source")  # who names these wants a look of his own

Shown = dict[str, "Frame | None"]  # by the name of the box


async def run(said: Mapping[str, Any], settings: Settings) -> int:
    """Prints; the exit code. Raises UsageError."""
    kind = said.get("format", "plain")
    if kind not in BARS and "{" not in kind:
        raise UsageError(f"--format: '{clean(kind)}' is none of {', '.join(BARS)}, and no template")
    width = said.get("width", 0)
    if width < 0:
        raise UsageError(f"--width: {width} is below 0")
    try:
        if kind not in BARS:
            check(kind)
    except TemplateError as error:
        raise UsageError(f"--format: {error}") from None
    meant = places.places(settings, said)
    bar = _Bar(kind, width, [place.name for place in meant])
    if said.get("follow"):
        return await _follow(meant, bar)
    shown = dict(zip(bar.names, await asyncio.gather(*(_once(place) for place in meant)), strict=True))
    bar.show(shown)
    return _code(shown) if said.get("exit_code") else exits.OK


class _Bar:
    def __init__(self, kind: str, width: int, names: Sequence[str]) -> None:
        self.names = names
        self._kind = kind
        self._width = width

    def show(self, shown: Shown) -> None:
        """A single box needs no name."""
        several = len(self.names) > 1
        boxes = [(name if several else "", shown.get(name)) for name in self.names]
        print(line(boxes, self._kind, width=self._width), flush=True)


def _code(shown: Shown) -> int:
    found = {worst(frame) for frame in shown.values()}
    if found & {"critical", "warning"}:
        return exits.FAILURE
    return exits.UNREACHABLE if found == {UNREACHABLE} else exits.OK


async def _once(place: Place) -> Frame | None:
    """What a cockpit saw a moment ago, else two looks apart: rates need two. Of a box that cannot be reached
    None, and why on stderr."""
    if place.settings.recorder and not any(key in place.said for key in _OURS) and not place.settings.urls:
        from halotui.recording.latest import FOLDER, latest

        frame = await asyncio.to_thread(latest, place.state / FOLDER, time.time() - FRESH)
        if frame is not None:
            return frame
    box = _box(place)
    try:
        if not await _reached(box):
            await box.close()
            return None
        return await _look(box)
    except UnreachableError as error:
        _talk(error)
        return None


def _box(place: Place) -> Live:
    from halotui.commands.cockpit import Live

    return Live(place)


async def _reached(box: Live) -> bool:
    trouble = await box.open(ask=False)  # nobody sits at a status bar
    if trouble is not None:
        _talk(places.unreachable(box.place, trouble))
    return trouble is None


async def _look(box: Live) -> Frame:
    from halotui.commands.looking import ANSWER_SECONDS

    feed = await box.look(True)
    try:
        await feed.one(ANSWER_SECONDS)
        await asyncio.sleep(feed.interval)
        return await feed.one(ANSWER_SECONDS)
    finally:
        await feed.close()


async def _follow(meant: Sequence[Place], bar: _Bar) -> int:
    """A line a frame; of several boxes at most one in half an interval. A silent one shows a dash."""
    shown: Shown = {}
    seen: dict[str, float] = {}
    news = asyncio.Event()
    pause = min(place.settings.interval for place in meant) / 2
    patience = SILENT + 3 * max(place.settings.interval for place in meant)
    clock = asyncio.get_running_loop().time

    def take(name: str, frame: Frame) -> None:
        shown[name], seen[name] = frame, clock()
        news.set()

    tasks = [asyncio.create_task(_frames(place, take)) for place in meant]
    try:
        while not any(task.done() for task in tasks):
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), patience)
            news.clear()
            fresh = {name: frame for name, frame in shown.items() if clock() - seen[name] < patience}
            bar.show(fresh)
            await asyncio.sleep(pause)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error
    return exits.OK


async def _frames(place: Place, take: Any) -> None:
    box = _box(place)
    await _reached(box)  # if not, the feed tries again
    feed = None
    try:
        feed = await box.look(False, _talk)
        async for frame in feed.frames():
            take(place.name, frame)
    finally:
        await (box if feed is None else feed).close()


def _talk(error: object) -> None:
    print(f"halotui: {clean(str(error))}", file=sys.stderr)
