"""Tokens per second of one server process, over all slots and of each: from slots, log and counters."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from halotui.model import Metrics, Request, SlotReading
from halotui.sampler.rates import EXACT, CounterCheck, Key, Ledger

STEPS = 4  # batches of a prompt that its speed is taken over


class Throughput:
    """Two ledgers, decode and prefill, and the speed of each slot. A new process gets a new one.

    With a log, slots and finished requests are counted by task. Without one, the counters of ``/metrics``
    are the truth, as long as they are exact: they alone tell of requests between two looks.
    """

    def __init__(self) -> None:
        self._generation = Ledger()
        self._prompt = Ledger()
        self._generation_check = CounterCheck()
        self._prompt_check = CounterCheck()
        self._before: tuple[float, dict[int, SlotReading]] | None = None
        self._speeds: dict[int, tuple[float | None, float | None]] = {}
        self._began: dict[Key, float] = {}  # when a running task was first seen
        self._steps: dict[Key, deque[tuple[float, int]]] = {}  # when batches of a slot were seen, its tokens

    def skip(self) -> None:
        """The next look does not follow from the one before: what ran meanwhile has no rate."""
        self._before = None
        self._speeds, self._steps = {}, {}
        self._generation.skip()
        self._prompt.skip()
        self._generation_check, self._prompt_check = CounterCheck(), CounterCheck()

    def look(self, slots: tuple[SlotReading, ...], at: float, by_counters: bool) -> None:
        """Take one answer of ``/slots``, read at ``at`` seconds. The first one tells of the past."""
        count = self._before is not None and not by_counters
        before_at, before = self._before or (at, {})
        elapsed = at - before_at
        self._speeds = {}
        self._began = {
            key: self._began.get(key, at)
            for slot in slots
            if slot.processing
            for key in [(slot.id, slot.task)]
        }
        self._steps = {key: step for key, step in self._steps.items() if key in self._began}
        for slot in slots:
            old = before.get(slot.id)
            if slot == old and not slot.processing:
                continue
            key = (slot.id, slot.task)
            for ledger, tokens in ((self._generation, slot.decoded), (self._prompt, slot.prompt_processed)):
                if tokens is not None:
                    (ledger.up_to if count else ledger.mark)(key, tokens)
            if (
                slot.processing
                and old is not None
                and old.task == slot.task
                and old.processing
                and elapsed > 0
            ):
                generated = _grown(old.decoded, slot.decoded)
                self._speeds[slot.id] = (
                    generated / elapsed if generated is not None else None,
                    self._step(key, old, slot, at),
                )
        self._before = (at, {slot.id: slot for slot in slots})

    def finished(self, requests: Iterable[Request]) -> None:
        """Take what the log says has ended since we look."""
        for request in requests:
            key = (request.slot, request.task)
            for ledger, tokens in (
                (self._generation, request.generation_tokens),
                (self._prompt, request.prompt_tokens),
            ):
                if tokens is not None:
                    ledger.end(key, tokens)

    def audit(self, metrics: Metrics, slots: tuple[SlotReading, ...]) -> None:
        """Count by the counters: they, and what runs now, are all there ever was."""
        decoded = sum(slot.decoded or 0 for slot in slots if slot.processing)
        prefilled = sum(slot.prompt_processed or 0 for slot in slots if slot.processing and not slot.decoded)
        for ledger, check, counter, running in (
            (self._generation, self._generation_check, metrics.generation_tokens_total, decoded),
            (self._prompt, self._prompt_check, metrics.prompt_tokens_total, prefilled),
        ):
            ledger.add(check.missing(counter, running, ledger.total))

    def rates(self, now: float) -> tuple[float | None, float | None]:
        """Decode and prefill tokens per second since the call before."""
        running = self._before[1].values() if self._before is not None else ()
        prompting = any(slot.processing and not slot.decoded for slot in running)
        return self._generation.rate(now), self._prompt.rate(now, hold=prompting)

    def speeds(self, slot: int) -> tuple[float | None, float | None]:
        """Decode and prefill speed of one slot at the last look."""
        return self._speeds.get(slot, (None, None))

    def began(self, key: Key) -> float | None:
        """When the running task was first seen."""
        return self._began.get(key)

    def _step(self, key: Key, old: SlotReading, now: SlotReading, at: float) -> float | None:
        """Prefill speed of a slot: its last batches over the time they took, until the next one is done.

        A batch is seen late by up to a look, so one alone would say little.
        """
        done = now.prompt_processed
        if done is None:
            return None
        steps = self._steps.setdefault(key, deque([(self._began[key], old.prompt_processed or 0)], STEPS + 1))
        if done > steps[-1][1] and at > steps[-1][0]:
            steps.append((at, done))
        (since, before), (until, tokens) = steps[0], steps[-1]
        return (tokens - before) / (until - since) if until > since else None


def exact(metrics: Metrics | None) -> bool:
    """Whether the counters can be counted by: they print six digits."""
    total = metrics.generation_tokens_total if metrics is not None else None
    return total is not None and total < EXACT


def _grown(before: int | None, now: int | None) -> int | None:
    return max(0, now - (before or 0)) if now is not None else None
