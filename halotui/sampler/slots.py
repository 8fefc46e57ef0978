"""What each slot is doing, for how long, and for how long nothing of it has moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from halotui.model import Request, Slot, SlotPhase, SlotReading
from halotui.sampler.rates import Key
from halotui.sampler.speculation import mean_length
from halotui.sampler.throughput import Throughput


@dataclass(slots=True)
class _Watched:
    """Times are those of looks, monotonic seconds."""

    task: int | None
    phase: SlotPhase
    began: float  # the phase
    moved: float  # the last look that saw another state than the one before, or the first
    state: tuple[object, ...]


class SlotWatch:
    """Of one server process: ``look`` at each answer of /slots."""

    def __init__(self) -> None:
        self._slots: dict[int, _Watched] = {}
        self._at: float | None = None

    def look(
        self, slots: tuple[SlotReading, ...], at: float, progress: Callable[[Key], float | None]
    ) -> None:
        """``progress``: how much of a prompt is done, by the log."""
        before, self._slots, self._at = self._slots, {}, at
        for slot in slots:
            phase = phase_of(slot)
            done = progress((slot.id, slot.task)) if phase is SlotPhase.PROMPT else None
            state = (slot.decoded, slot.prompt_processed, slot.tokens, done)
            old = before.get(slot.id)
            if old is None or (old.task, old.phase) != (slot.task, phase):
                old = _Watched(slot.task, phase, at, at, state)
            elif old.state != state:
                old.moved, old.state = at, state
            self._slots[slot.id] = old

    def phase_began(self, slot: int) -> float | None:
        watched = self._slots.get(slot)
        return watched.began if watched is not None else None

    def still_seconds(self, slot: int) -> float | None:
        """Between the last look and the one that last saw it move; None for a slot that has no work."""
        watched = self._slots.get(slot)
        if watched is None or watched.phase is SlotPhase.IDLE or self._at is None:
            return None
        return self._at - watched.moved

    @property
    def moved_at(self) -> float | None:
        """When the last of the slots at work was seen to move; None when none is at work."""
        return max((w.moved for w in self._slots.values() if w.phase is not SlotPhase.IDLE), default=None)


def phase_of(slot: SlotReading) -> SlotPhase:
    if not slot.processing:
        return SlotPhase.IDLE
    return SlotPhase.DECODE if slot.decoded else SlotPhase.PROMPT


def slot_of(
    reading: SlotReading,
    now: float,
    watch: SlotWatch,
    throughput: Throughput,
    *,
    live: bool,
    held: int | None,
    progress: float | None,
    last: Request | None,
) -> Slot:
    """``live``: the reading is of now. ``held``: tokens of all slots; ``last``: its last finished request."""
    key = (reading.id, reading.task)
    phase = phase_of(reading)
    generated, prefilled = throughput.speeds(reading.id) if live else (None, None)
    used, limit = reading.tokens, reading.context_tokens
    drafted = last if last is not None and reading.speculative else None
    at_work = reading.processing
    return Slot(
        id=reading.id,
        phase=phase,
        task=reading.task,
        context_tokens=limit,
        used_tokens=used,
        used_ratio=used / limit if used is not None and limit else None,
        prompt_processed_tokens=reading.prompt_processed if at_work else None,
        prompt_cached_tokens=reading.prompt_cached if at_work else None,
        prompt_progress_ratio=progress if phase is SlotPhase.PROMPT else None,
        generated_tokens=reading.decoded if at_work else None,
        remaining_tokens=reading.remaining if at_work else None,
        generation_tokens_per_second=generated if phase is SlotPhase.DECODE else None,
        prompt_tokens_per_second=prefilled if phase is SlotPhase.PROMPT else None,
        speculative=reading.speculative,
        draft_acceptance_ratio=drafted.draft_acceptance_ratio if drafted else None,
        draft_coverage_ratio=drafted.draft_coverage_ratio if drafted else None,
        draft_mean_tokens=mean_length((drafted,)) if drafted else None,
        kv_ratio=used / held if used is not None and held else None,
        elapsed_seconds=age(now, throughput.began(key)),
        phase_seconds=age(now, watch.phase_began(reading.id)),
        still_seconds=watch.still_seconds(reading.id) if live else None,
    )


def age(now: float, then: float | None) -> float | None:
    """Seconds since, never below 0."""
    if then is None:
        return None
    return now - then if now > then else 0.0
