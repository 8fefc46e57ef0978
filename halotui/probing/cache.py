"""``probe cache``: is a prompt that was seen before reused: whole, with another tail, after other prompts?

The server is asked as any client asks it: its own default decides whether a prompt is kept, and it chooses
the slot. With answers of one token, what the client waits is the time to the first token.
"""

from __future__ import annotations

from random import Random
from time import monotonic

from halotui.actions import Verdict
from halotui.collectors.llama_http import LlamaHttp
from halotui.format import count, percent, seconds
from halotui.probing import Aim, Column, Tell
from halotui.probing.probe import Probe
from halotui.runs import Result
from halotui.servers.completing import Completer

PROMPT, LEAST = 1024, 64  # tokens
KEPT = 0.75  # of the prompt that a changed tail leaves alone
REUSED = 0.9  # of what could be reused: the last tokens are always computed
CHUNK = 16  # tokens: reuse may begin at whole batches
OTHERS = 4  # prompts at most, to drive the first one out of the slots
FIRST, AGAIN, TAIL, BACK = "first time", "again", "another tail", "back after others"


class Cache(Probe):
    name = "cache"
    columns = (
        Column("request", "request"),
        Column("prompt_tokens", "prompt"),
        Column("cached_tokens", "cached"),
        Column("computed_tokens", "computed"),
        Column("reused_ratio", "reused", percent),
        Column("ttft_seconds", "TTFT", seconds),
    )

    def __init__(self, aim: Aim, tell: Tell) -> None:
        super().__init__(aim, tell)
        self._ratios: dict[str, float] = {}  # of what could be reused, what was
        self._others_sent = 0

    @property
    def plan(self) -> str:
        return f"a prompt of up to {count(PROMPT)} tokens, four times, with others between"

    async def measure(self, model: Completer, http: LlamaHttp) -> None:
        slots = max(1, self.server.slots_total or 1)
        others = min(slots, OTHERS)
        room = self.room or PROMPT
        size = min(PROMPT, (room if self.server.kv_unified is False else room // (slots + 1)) - CHUNK)
        if size < LEAST:
            self.trouble = f"a slot has room for {count(room)} tokens: too few to tell"
            return
        text = await model.text(2 * size)
        prompt, tail = _fresh(text, size), _fresh(text, size)
        kept = int(size * KEPT)
        steps = 4 + others
        self._say(0, steps, FIRST)
        await self._ask(model, FIRST, prompt, 0)
        self._say(1, steps, AGAIN)
        await self._ask(model, AGAIN, prompt, size)
        self._say(2, steps, TAIL)
        await self._ask(model, TAIL, prompt[:kept] + tail[kept:], kept)
        for number in range(others):
            self._say(3 + number, steps, f"other prompt {number + 1}")
            await self._ask(model, f"other prompt {number + 1}", _fresh(text, size), 0)
            self._others_sent += 1
        self._say(3 + others, steps, BACK)
        await self._ask(model, BACK, prompt[:kept] + tail[kept:], size)
        await self.look(http)
        if slots > others:
            self.notes.append(f"{count(slots)} slots, {others} other prompts: it may not have left its slot")

    def _say(self, step: int, steps: int, words: str) -> None:
        self.step(step / steps, words, f"from '{words}' on")

    async def _ask(self, model: Completer, name: str, prompt: list[int], reusable: int) -> None:
        """One request; ``reusable``: tokens that the server has seen just so."""
        began = monotonic()
        reply = await model.tokens(prompt, 1)
        waited = monotonic() - began
        cached = reply.cache_n if reply.cache_n is not None else max(0, len(prompt) - reply.prompt_n)
        could = reusable - CHUNK if reusable else 0
        if could > 0:
            self._ratios[name] = cached / could
        self.rows.append(
            {
                "request": name,
                "prompt_tokens": len(prompt),
                "cached_tokens": cached,
                "computed_tokens": reply.prompt_n,
                "reused_ratio": cached / len(prompt),
                "ttft_seconds": round(waited, 4),
            }
        )

    def verdict(self) -> tuple[Verdict, str]:
        again, tail, back = map(self._ratios.get, (AGAIN, TAIL, BACK))
        if again is None:
            return Verdict.UNKNOWN, "nothing was sent twice: not known"
        gain = self._gain()
        if again < REUSED:
            return Verdict.FAIL, f"lost: the same prompt again, {_computed(self.rows[1])} (see #28049){gain}"
        if tail is None:
            return Verdict.OK, f"reused: the same prompt again{gain}"
        if tail < REUSED:
            return Verdict.FAIL, (
                f"lost with another tail: the same prompt is reused, yet with its last quarter changed "
                f"{_computed(self.rows[2])} (see #28049)"
            )
        if back is None:
            return Verdict.OK, f"reused: whole, and with another tail{gain}"
        if back >= REUSED:
            return (
                Verdict.OK,
                f"reused: whole, with another tail, and after {_prompts(self._others_sent)}{gain}",
            )
        limit = self.server.facts.prompt_cache_bytes if self.server.facts else None
        why = "--cache-ram is 0" if limit == 0 else "--cache-ram keeps prompts, in builds that have it"
        return Verdict.OK, f"reused in its slot{gain}; gone after {_prompts(self._others_sent)} ({why})"

    def _gain(self) -> str:
        first, again = (self.rows[at]["ttft_seconds"] for at in (0, 1))
        return f", TTFT {seconds(float(first or 0))} → {seconds(float(again or 0))}"

    def results(self) -> list[Result]:
        if not self.rows:
            return []
        told = {
            str(row["request"]): f"{row['cached_tokens']} of {row['prompt_tokens']} cached"
            for row in self.rows
            if row["request"] in self._ratios
        }
        waits = {row["request"]: float(row["ttft_seconds"] or 0) for row in self.rows}
        told["TTFT first time"] = seconds(waits[FIRST])
        prompt = int(self.rows[0]["prompt_tokens"] or 0)
        return [self.result("cache", prompt_tokens=prompt, seconds=waits.get(AGAIN), settings=told)]


def _fresh(text: list[int], size: int) -> list[int]:
    """A prompt that no server has seen: what an earlier probe sent may still be kept."""
    body = text[1:]
    Random().shuffle(body)
    return [text[0], *body][:size]


def _computed(row: dict[str, str | int | float | None]) -> str:
    return f"{row['computed_tokens']} of {row['prompt_tokens']} tokens are computed"


def _prompts(number: int) -> str:
    return f"{number} other prompt{'s' if number != 1 else ''}"
