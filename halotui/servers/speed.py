"""A short speed check of a live llama-server: fixed prompts, prefill and decode apart, bounded in time.

The rates are the server's own (``timings`` of each reply): tokens a second of the prompt and of what was
generated. No reply comes from the prompt cache, and no two prompts begin alike.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from time import monotonic

from halotui.actions import Speed
from halotui.collectors.http_wire import Door
from halotui.collectors.llama_answers import HttpProblem
from halotui.collectors.llama_http import LlamaHttp
from halotui.hosts import LinkDown
from halotui.servers.completing import Completer, Timings, completer, drafting

PREFILL_TOKENS, DECODE_TOKENS = 512, 128
DECODE_PROMPT = 24  # tokens before what is generated
LEAST = 32, 8  # tokens, below which a rate says nothing
WARM_UP = 64, 8  # tokens of prompt and answer: it tells the pace
ROUNDS = 3
ROUND_SHARE = 0.7  # of the time that is left, for the first round
QUIET_SHARE = 0.2  # of the time, to wait for others' requests to end
MEMORY_SECONDS = 0.1  # between two looks at the memory
POLL_SECONDS = 0.25


@dataclass
class _Findings:
    """What is known so far, so that a check that is cut short still says it."""

    prefill: list[Timings] = field(default_factory=list)
    decode: list[Timings] = field(default_factory=list)
    warm: Timings | None = None
    peak: int | None = None
    busy: int = 0  # requests of others, the most that were seen
    speculative: bool = False
    room: int = PREFILL_TOKENS  # tokens that a prompt or an answer may have in a slot
    notes: list[str] = field(default_factory=list)

    def fall_back(self, reason: str) -> None:
        """To the warm-up, where nothing better came."""
        if self.prefill and self.decode:
            return
        self.notes.append("too slow for more than the warm-up" if self.warm else reason)
        if self.warm:
            self.prefill, self.decode = self.prefill or [self.warm], self.decode or [self.warm]

    def speed(self) -> Speed:
        prompt = _rates(timings.prompt_per_second for timings in self.prefill)
        generation = _rates(timings.predicted_per_second for timings in self.decode)
        acceptance, coverage = drafting(self.decode, speculative=self.speculative)
        if self.busy:
            plural = "s were" if self.busy > 1 else " was"
            self.notes.append(f"{self.busy} request{plural} running: not comparable")
        return Speed(
            prompt_tokens_per_second=median(prompt) if prompt else None,
            prompt_spread=_spread(prompt),
            generation_tokens_per_second=median(generation) if generation else None,
            generation_spread=_spread(generation),
            draft_acceptance_ratio=acceptance,
            draft_coverage_ratio=coverage,
            peak_memory_bytes=self.peak,
            runs=min(len(prompt), len(generation)),
            note="; ".join(dict.fromkeys(self.notes)),
        )


async def measure(
    url: str,
    api_key: str | None,
    memory: Callable[[], int | None],
    *,
    door: Door | None = None,
    seconds: float = 45.0,
    tell: Callable[[str], None] = lambda words: None,
) -> Speed:
    """Up to three runs of 512 tokens of prefill and 128 of decode, less on a slow model.

    ``memory`` is asked for bytes in use ten times a second, in a thread; ``tell`` gets a few words now and
    then. Never raises but for cancellation: what went wrong is the note. A request that does not end in
    time is dropped by closing its connection, at which the server cancels it.
    """
    found = _Findings()
    watch = asyncio.create_task(_watch(memory, found))
    try:
        async with asyncio.timeout(seconds), completer(url, api_key, door) as model:
            await _check(model, LlamaHttp(url, api_key, door=door), found, monotonic() + seconds, tell)
    except TimeoutError:
        found.fall_back(f"too slow for a check of {seconds:g} s")
    except HttpProblem as problem:
        found.notes.append(problem.reason)
    except LinkDown:
        found.notes.append("the link was cut")
    finally:
        watch.cancel()
        await asyncio.wait({watch})
    return found.speed()


async def _check(
    model: Completer, http: LlamaHttp, found: _Findings, end: float, tell: Callable[[str], None]
) -> None:
    try:
        tell("waiting for quiet")
        await _quiet(http, found, (end - monotonic()) * QUIET_SHARE)
        tell("warming up")
        text = await model.text(PREFILL_TOKENS)
        found.warm = await model.complete(text, 0, *WARM_UP)
        sizes = _sizes(found.warm, end - monotonic(), found.room)
        if sizes is None:
            found.fall_back("")
            return
        prefill, decode = sizes
        if prefill < PREFILL_TOKENS or decode < DECODE_TOKENS:
            found.notes.append(f"a short check: {prefill} tokens of prompt, {decode} generated")
        for number in range(1, ROUNDS + 1):
            began = monotonic()
            tell(f"prefill {number}/{ROUNDS}")
            found.prefill.append(await model.complete(text, 2 * number - 1, prefill, 1))
            tell(f"decode {number}/{ROUNDS}")
            found.decode.append(await model.complete(text, 2 * number, DECODE_PROMPT, decode))
            await _look(http, found)
            if monotonic() + (monotonic() - began) * 1.2 > end:  # another would not fit
                return
    finally:
        await http.aclose()


def _sizes(warm: Timings, seconds: float, room: int) -> tuple[int, int] | None:
    """Tokens of prefill and of decode, such that a round of both fits; None when hardly any would."""

    def size(most: int, rate: float | None) -> int:
        return min(most, room, int((rate or most) * seconds * ROUND_SHARE / 2))

    prefill = size(PREFILL_TOKENS, warm.prompt_per_second)
    decode = size(DECODE_TOKENS, warm.predicted_per_second)
    return (prefill, decode) if prefill >= LEAST[0] and decode >= LEAST[1] else None


async def _quiet(http: LlamaHttp, found: _Findings, seconds: float) -> None:
    """Until nobody else is served, for so long at most."""
    end = monotonic() + seconds
    while True:
        found.busy = 0
        await _look(http, found)
        if not found.busy or monotonic() > end:
            return
        await asyncio.sleep(POLL_SECONDS)


async def _look(http: LlamaHttp, found: _Findings) -> None:
    """Who is being served, where the server tells."""
    with suppress(HttpProblem):
        slots = await http.slots()
        found.busy = max(found.busy, sum(slot.processing for slot in slots))
        found.speculative |= any(slot.speculative for slot in slots)
        contexts = [slot.context_tokens for slot in slots if slot.context_tokens]
        found.room = min([PREFILL_TOKENS, *(context - DECODE_PROMPT - 1 for context in contexts)])


async def _watch(memory: Callable[[], int | None], found: _Findings) -> None:
    while True:
        now = await asyncio.to_thread(memory)
        if now is not None:
            found.peak = max(now, found.peak or 0)
        await asyncio.sleep(MEMORY_SECONDS)


def _rates(values: Iterable[float | None]) -> list[float]:
    """Those that are measurements."""
    return [value for value in values if value is not None and math.isfinite(value) and value > 0]


def _spread(values: list[float]) -> float | None:
    return (max(values) - min(values)) / 2 if len(values) > 1 else None
