"""Recordings by a few words."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import msgspec

from builders import URL, frame, gpu, memory, server, source
from halotui.model import Finding, Frame, LogLine, ServerState, Severity, Slot, SlotPhase
from halotui.recording.file import Reader, Writer
from halotui.recording.redact import redacted
from halotui.runs import Mark

BEGIN = 1_700_000_000.0


def second(number: int, *findings: str, begin: float = BEGIN, **more: object) -> Frame:
    """A frame of a small box, ``number`` seconds after the start."""
    chance = random.Random(number)
    slot = Slot(id=0, phase=SlotPhase.DECODE, generated_tokens=number, elapsed_seconds=chance.random())
    return frame(
        begin + number,
        servers=[
            server(
                state=ServerState.BUSY,
                slots=(slot,),
                generation_tokens_per_second=20 + chance.random(),
                log=(LogLine(text=f"slot update_slots: id  0 | task {number} | n_tokens = {number}"),),
            )
        ],
        gpus=[gpu(gtt=60 + chance.random(), socket_power_watts=80 + chance.random())],
        memory=memory(available=40 + chance.random()),
        sources=[source("gpu"), source("memory"), source(f"server {URL}")],
        findings=[finding(id_) for id_ in findings],
        **more,  # type: ignore[arg-type]
    )


def finding(id_: str, severity: Severity = Severity.WARNING) -> Finding:
    return Finding(
        id=id_, severity=severity, title=f"{id_} it is", evidence="1 of 2", why="because", fix="mend it"
    )


def write(path: Path, items: Iterable[Frame | Mark], *, flush_every: int = 1, **more: object) -> Path:
    """A closed recording of them."""
    writer = Writer(path, **more)  # type: ignore[arg-type]
    for number, item in enumerate(items, 1):
        if isinstance(item, Mark):
            writer.mark(item)
        else:
            writer.frame(item)
        if number % flush_every == 0:
            writer.flush()
    writer.close()
    return path


def kept(frames: Iterable[Frame]) -> list[bytes]:
    """What a recording has to hold of them."""
    return [msgspec.json.encode(redacted(frame)) for frame in frames]


def frames_of(path: Path) -> list[bytes]:
    with Reader(path) as reader:
        return list(reader.scan().frames())


def everything_in(path: Path) -> bytes:
    """Every byte of a recording, unpacked."""
    with Reader(path) as reader:
        reader.scan()
        lines = [raw for block in reader.blocks for _, raw in reader.load(block)]
        return b"\n".join([*lines, msgspec.json.encode([block.digest for block in reader.blocks])])
