"""One field of many frames: nothing else of them is made into objects, so that hours are read in a blink."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct, defstruct

from halotui.model import GPU_SOURCE, SOLE, SourceState
from halotui.recording.file import Block, Reader
from halotui.recording.minutes import LATEST
from halotui.recording.reader import FRAME
from halotui.safe import clean

Named = Iterator[tuple[str, float | None]]  # subject, value


class _Source(Struct):
    id: str
    state: str


def values(reader: Reader, block: Block, field: str) -> dict[str, list[tuple[float, float]]]:
    """Of a block's frames: subject -> time (Unix seconds) and value, where it is known."""
    owner, _, key = field.partition(".")
    decoder, source, named = _reading(owner, key)
    found: dict[str, list[tuple[float, float]]] = {}
    for kind, raw in reader.load(block):
        if kind != FRAME:
            continue
        with suppress(msgspec.MsgspecError):
            frame = decoder.decode(raw)
            if not 0 < frame.time < LATEST or (source and not _is_fresh(frame.sources, source)):
                continue
            for subject, value in named(frame):
                if value is not None:
                    found.setdefault(clean(subject), []).append((frame.time, value))
    return found


def _is_fresh(sources: tuple[_Source, ...], wanted: str) -> bool:
    return any(source.id == wanted and source.state == SourceState.OK for source in sources)


@cache
def _reading(owner: str, key: str) -> tuple[msgspec.json.Decoder[Any], str, Callable[[Any], Named]]:
    """What of a frame to decode, the source that has to be fresh, and where the values stand in it."""
    value = (key, float | None, None)

    def decoder(*parts: Any) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(
            defstruct("Part", [("time", float), *parts, ("sources", tuple[_Source, ...], ())])
        )

    if owner in SOLE:
        sole = defstruct("Sole", [value])
        return (
            decoder((owner, sole | None, None)),
            SOLE[owner],
            lambda frame: ((owner, getattr(getattr(frame, owner), key, None)) for _ in "1"),
        )
    if owner == "gpu":
        gpu = defstruct("Gpu", [("id", str), value])
        return (
            decoder(("gpus", tuple[gpu, ...], ())),  # type: ignore[valid-type]
            GPU_SOURCE,
            lambda frame: ((gpu.id, getattr(gpu, key)) for gpu in frame.gpus),
        )
    if owner == "server":
        server = defstruct("Server", [("url", str), value])
        return (
            decoder(("servers", tuple[server, ...], ())),  # type: ignore[valid-type]
            "",
            lambda frame: ((server.url, getattr(server, key)) for server in frame.servers),
        )
    if owner == "slot":
        slot = defstruct("Slot", [("id", int), *([value] if key != "id" else [])])
        server = defstruct("Server", [("url", str), ("slots", tuple[slot, ...], ())])  # type: ignore[valid-type]
        return (
            decoder(("servers", tuple[server, ...], ())),  # type: ignore[valid-type]
            "",
            lambda frame: (
                (f"{server.url}#{slot.id}", getattr(slot, key))
                for server in frame.servers
                for slot in server.slots
            ),
        )
    return decoder(), "", lambda frame: iter(())
