"""What a llama-bench of the box is doing, in a note that it leaves for the sensors.

A note lies below the box's directory and is named by its writer's pid; one whose writer has gone says nothing
any more. Standard library only.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

NAME = "llama-bench"
REST, PREFILL, DECODE = "rest", "prefill", "decode"


@dataclass(frozen=True)
class Note:
    """``held``: bytes of GPU memory that its model and context would take."""

    pid: int
    backend: str
    held: int
    phase: str


def leave(box: Path, backend: str, held: int, phase: str) -> None:
    """Ours, in place of the one before. Raises OSError, as when the box has gone."""
    place = _place(box) / str(os.getpid())
    spare = place.with_suffix(".new")
    spare.write_text(f"{backend} {held} {phase}")
    spare.replace(place)


def clear(box: Path) -> None:
    """Nothing is held any more."""
    (_place(box) / str(os.getpid())).unlink(missing_ok=True)


def notes(box: Path) -> list[Note]:
    """Of those that live."""
    found = []
    with suppress(FileNotFoundError):
        for place in _place(box).iterdir():
            if not place.name.isdecimal():
                continue
            if not _lives(int(place.name)):
                place.unlink(missing_ok=True)
                continue
            backend, held, phase = place.read_text().split()
            found.append(Note(int(place.name), backend, int(held), phase))
    return found


def end_all(box: Path) -> None:
    """None of them outlives its box."""
    for note in notes(box):
        with suppress(OSError):
            os.kill(note.pid, signal.SIGKILL)


def prepare(box: Path) -> None:
    _place(box).mkdir()


def _place(box: Path) -> Path:
    return box / "at-work"


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text() == f"{NAME}\n"
    except OSError:
        return False
