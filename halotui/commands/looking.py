"""The looks that draw nothing: one as text or JSON, or a stream of frames, of one box or of several."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from halotui import exits
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.commands.cockpit import Live
    from halotui.model import Frame

ANSWER_SECONDS = 2.0  # what a one-shot look waits for answers


async def enter(boxes: Sequence[Live]) -> dict[Live, str]:
    """Log in to all of them: without a question at once, then one after the other those that have to ask.

    Returns why some cannot be reached. Raises UnreachableError where that is the only one.
    """
    from halotui.commands.places import unreachable

    troubles = {}
    tried = await asyncio.gather(*(box.open(ask=False) for box in boxes))
    for box, trouble in zip(boxes, tried, strict=True):
        if trouble is not None and trouble.refused:
            trouble = await box.open(ask=True)
        if trouble is not None:
            troubles[box] = unreachable(box.place, trouble)
    if len(boxes) == 1 and troubles:
        await boxes[0].close()
        raise troubles[boxes[0]]
    return {box: str(error) for box, error in troubles.items()}


async def look(boxes: Sequence[Live], *, as_json: bool) -> int:
    """Two polls apart, so that rates are real; then the second frame of each box that can be reached.

    JSON: one frame, or a list where several boxes are named. Exit code 3 when none of them shows anything.
    """
    troubles = await enter(boxes)
    for box, trouble in troubles.items():
        say(trouble)
        await box.close()
    there = [box for box in boxes if box not in troubles]
    pairs = await asyncio.gather(*(_two(box) for box in there))
    if as_json:
        _print_json([_whole(*pair) for pair in pairs], several=len(boxes) > 1)
    else:
        _print_text(there, pairs, several=len(boxes) > 1)
    codes = [_verdict(frame, bool(box.settings.urls)) for box, (_, frame) in zip(there, pairs, strict=True)]
    return exits.OK if exits.OK in codes else exits.UNREACHABLE


async def _two(box: Live) -> tuple[Frame, Frame]:
    feed = await box.look(True)
    try:
        first = await feed.one(ANSWER_SECONDS)
        await asyncio.sleep(feed.interval)
        return first, await feed.one(ANSWER_SECONDS)
    finally:
        await feed.close()


def _whole(first: Frame, frame: Frame) -> Frame:
    """The second frame, with what the kernel said meanwhile: that is told once."""
    import msgspec

    return msgspec.structs.replace(frame, kernel=(*first.kernel, *frame.kernel))


def _print_json(frames: list[Frame], *, several: bool) -> None:
    import msgspec

    what: Any = frames if several else frames[0] if frames else None
    if what is not None:
        print(msgspec.json.format(msgspec.json.encode(what), indent=2).decode(), flush=True)


def _print_text(boxes: Sequence[Live], pairs: Sequence[tuple[Frame, Frame]], *, several: bool) -> None:
    from halotui.exporters.text import text

    heads = [f"== {box.place.name or frame.host} ==\n" for box, (_, frame) in zip(boxes, pairs, strict=True)]
    parts = [text(frame, first) for first, frame in pairs]
    if several:
        parts = [head + part for head, part in zip(heads, parts, strict=True)]
    if parts:
        print("\n\n".join(parts), flush=True)


def _verdict(frame: Frame, urls: bool) -> int:
    """3 when what was asked for cannot be reached; the reason goes to stderr."""
    from halotui.model import ServerState

    up = any(server.state is not ServerState.DOWN for server in frame.servers)
    if up or (not urls and frame.gpus and not frame.servers):
        return exits.OK
    reasons = [f"{server.url}: {server.reason or server.state}" for server in frame.servers]
    print(
        f"halotui: nothing reachable: {'; '.join(reasons) or 'no llama-server, no AMD GPU'}", file=sys.stderr
    )
    return exits.UNREACHABLE


def say(text: str) -> None:
    """One harmless line on stderr."""
    print(f"halotui: {clean(text)}", file=sys.stderr)


async def stream(boxes: Sequence[Live], count: int | None) -> int:
    """A frame a line until interrupted, or until ``count`` are out; of several boxes as they come."""
    for trouble in (await enter(boxes)).values():
        say(f"{trouble}; it is tried again")
    lines = _Lines(count)
    ended = asyncio.create_task(lines.enough.wait())
    readers = [asyncio.create_task(_write(box, lines)) for box in boxes]
    going: set[asyncio.Task[Any]] = set(readers)
    try:
        while going and not ended.done():
            done, _ = await asyncio.wait({ended, *going}, return_when=asyncio.FIRST_COMPLETED)
            going -= done
            for reader in done - {ended}:
                reader.result()
    finally:
        for task in (ended, *readers):
            task.cancel()
        await asyncio.gather(ended, *readers, return_exceptions=True)
        await asyncio.gather(*(box.close() for box in boxes))
    return exits.OK


class _Lines:
    """Frames on stdout; ``enough`` is set when ``count`` of them are out."""

    def __init__(self, count: int | None) -> None:
        import msgspec

        self.enough = asyncio.Event()
        self._left = count
        self._encode = msgspec.json.Encoder().encode

    def write(self, frame: Frame) -> None:
        if self.enough.is_set():
            return
        sys.stdout.buffer.write(self._encode(frame) + b"\n")
        sys.stdout.buffer.flush()
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.enough.set()


async def _write(box: Live, lines: _Lines) -> None:
    feed = await box.look(False, say)
    try:
        async for frame in feed.frames():
            lines.write(frame)
    finally:
        await feed.close()
