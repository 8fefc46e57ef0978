"""What a slot is doing, since when, and for how long nothing of it has moved."""

from __future__ import annotations

from typing import Any

import pytest

from halotui.model import Request, Slot, SlotPhase, SlotReading
from halotui.sampler.slots import SlotWatch, slot_of
from halotui.sampler.throughput import Throughput


def slot(task: int | None = 7, decoded: int = 0, *, busy: bool = True, **more: Any) -> SlotReading:
    return SlotReading(**{"id": 0, "task": task, "decoded": decoded, "processing": busy, **more})


class Box:
    def __init__(self) -> None:
        self.watch, self.throughput = SlotWatch(), Throughput()
        self.progress: float | None = None

    def look(self, at: float, *slots: SlotReading) -> None:
        self.throughput.look(slots, at, by_counters=False)
        self.watch.look(slots, at, lambda key: self.progress)

    def seen(self, reading: SlotReading, now: float, **more: Any) -> Slot:
        known: dict[str, Any] = {"live": True, "held": None, "progress": self.progress, "last": None}
        return slot_of(reading, now, self.watch, self.throughput, **{**known, **more})


def test_phases_and_their_age() -> None:
    box = Box()
    for at, reading in (
        (0, slot(None, busy=False)),
        (5, slot()),
        (6, slot()),
        (7, slot(7, 3)),
        (8, slot(7, 9)),
    ):
        box.look(at, reading)
    seen = box.seen(slot(7, 9), 8.5)
    assert (seen.phase, seen.phase_seconds, seen.elapsed_seconds) == (SlotPhase.DECODE, 1.5, 3.5)
    assert seen.still_seconds == 0 and seen.generation_tokens_per_second == 6
    box.look(9, slot(8))
    assert box.seen(slot(8), 9).phase_seconds == 0  # another task: its own phase


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (slot(7, 3), slot(7, 4)),
        (slot(prompt_processed=512), slot(prompt_processed=1024)),
        (slot(tokens=512), slot(tokens=1024)),
    ],
)
def test_whatever_moves_is_not_still(first: SlotReading, then: SlotReading) -> None:
    box = Box()
    box.look(0, first)
    box.look(4, first)
    assert box.watch.still_seconds(0) == 4 and box.watch.moved_at == 0
    box.look(5, then)
    assert box.watch.still_seconds(0) == 0 and box.watch.moved_at == 5


def test_the_logs_progress_moves_too() -> None:
    box = Box()
    box.progress = 0.1
    box.look(0, slot())
    box.progress = 0.2
    box.look(1, slot())
    assert box.watch.still_seconds(0) == 0
    assert box.seen(slot(), 1).prompt_progress_ratio == 0.2
    assert box.seen(slot(7, 5), 1).prompt_progress_ratio is None


def test_a_slot_without_work_is_not_still() -> None:
    box = Box()
    box.look(0, slot(busy=False), slot(id=1))
    box.look(9, slot(busy=False), slot(id=1))
    assert box.watch.still_seconds(0) is None and box.watch.still_seconds(1) == 9
    assert box.seen(slot(busy=False), 9).still_seconds is None
    assert box.seen(slot(id=1), 9, live=False).still_seconds is None
    box.look(10, slot(busy=False), slot(id=1, busy=False))
    assert box.watch.moved_at is None


def test_its_share_and_its_limit() -> None:
    box = Box()
    reading = slot(7, 3, tokens=300, context_tokens=1200)
    box.look(0, reading)
    seen = box.seen(reading, 0, held=400)
    assert (seen.used_ratio, seen.kv_ratio) == (0.25, 0.75)
    assert box.seen(reading, 0, held=0).kv_ratio is None


def test_an_idle_slots_counts_of_its_prompt_are_gone() -> None:
    """Newer builds show 0 there."""
    box = Box()
    idle = slot(busy=False, prompt_processed=0, prompt_cached=0, tokens=168)
    box.look(0, idle)
    seen = box.seen(idle, 0)
    assert seen.prompt_processed_tokens is None and seen.prompt_cached_tokens is None
    assert seen.used_tokens == 168


def test_the_last_drafts_of_a_slot() -> None:
    last = Request(
        source="log",
        slot=0,
        generation_tokens=96,
        draft_tokens=131,
        draft_accepted_tokens=50,
        draft_acceptance_ratio=0.38168,
        draft_coverage_ratio=1.36458,
    )
    box = Box()
    box.look(0, slot(speculative=True))
    seen = box.seen(slot(speculative=True), 0, last=last)
    assert (seen.draft_acceptance_ratio, seen.draft_coverage_ratio) == (0.38168, 1.36458)
    assert seen.draft_mean_tokens == pytest.approx(96 / 46)
    assert box.seen(slot(speculative=False), 0, last=last).draft_acceptance_ratio is None
