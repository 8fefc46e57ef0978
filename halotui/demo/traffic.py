"""Bounded, seeded traffic for the demo's server: a few users who ask, read and ask again.

Users know from their own streams what the server does, so the box's sensors can follow without polling it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx

from halotui.demo.model import FIRST_WORD, WORDS
from halotui.demo.tree import Load

OPENINGS = (
    "Tell me how the river finds the sea.",
    "What does the old oak by the wall remember?",
    "Write a short song about rain on stone.",
    "Which wind brings snow, and which one takes it away?",
    "Describe the harbour at dawn, slowly.",
)
FILLER = "Here is what I have so far: the field was white, the lake was grey, and nobody came down the road. "
# How long a question is, in bytes, of which the model makes as many tokens; and how often.
PROMPTS = ((120, 6), (450, 3), (1700, 1))
ANSWERS = (60, 250)  # tokens
HUSH_SECONDS = 0.25
PAUSE_SECONDS = 7.0  # mean; a user reads
CONTEXT_BYTES = 2500  # where a user starts a new conversation: with the answer, below one slot's context
TOO_LONG, TRIES_AGAIN = 6000, 5.0  # bytes, seconds
USERS = 3  # one more than the slots: now and then somebody waits
REFRAIN = "the quiet river walks by old oak and on to sea when wind is cold"
REFRAINS = 4  # requests before speculation is lost: some on every slot
FREE = {"temperature": 0.9, "repeat_penalty": 1.5}  # text that never says the same six words again


@dataclass(eq=False)  # each is itself, however alike two are
class Request:
    """One stream as its user sees it."""

    tokens: int
    decoding: bool = False
    done: bool = False


class Traffic:
    """``await run()`` for as long as there shall be traffic; ``load()`` at any time.

    ``decays``: the first requests ask for a refrain, which n-gram speculation drafts without a miss;
    the later ones for free text, where the server finds nothing to draft. Then, as with llama.cpp #19231,
    drafts are absent, /slots still says speculative, and the acceptance of what was drafted is perfect.
    ``too_long``: one more user asks for more than a slot holds, again and again.
    ``hush``: nobody asks anything for as long as it says so.
    """

    def __init__(
        self,
        url: str,
        *,
        slots: int,
        seed: int,
        decays: bool = False,
        too_long: bool = False,
        hush: Callable[[], bool] = lambda: False,
    ) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(10, read=None, pool=None))
        self._slots = slots
        self._hush = hush
        self._too_long = too_long
        self._dice = random.Random(seed)
        self._first, self._later = (_refrain(), FREE) if decays else ({}, {})
        self._asked = 0
        self._running: list[Request] = []
        self._held: deque[Request] = deque(maxlen=slots)  # what the slots still hold, about

    def load(self) -> Load:
        decoding = sum(request.decoding for request in self._running)
        waiting = len(self._running) - decoding
        return Load(
            prefilling=max(0, min(waiting, self._slots - decoding)),
            decoding=decoding,
            tokens=sum(request.tokens for request in self._held),
        )

    async def run(self, seconds: float) -> None:
        """Users come and go for so long, then all is quiet."""
        end = time.monotonic() + seconds
        async with self._client, asyncio.TaskGroup() as users:
            for number in range(USERS):
                users.create_task(self._user(number, end))
            if self._too_long:
                users.create_task(self._importer(end))

    async def _user(self, number: int, end: float) -> None:
        await asyncio.sleep(number * 1.5)
        talk: list[dict[str, str]] = []
        while time.monotonic() < end:
            asked = self._question()
            if sum(len(message["content"]) for message in talk) + len(asked) > CONTEXT_BYTES:
                talk.clear()
            talk.append({"role": "user", "content": asked})
            while self._hush():  # noqa: ASYNC110 - a file says so
                await asyncio.sleep(HUSH_SECONDS)
            try:
                answered = await self._ask(talk, number)
            except httpx.HTTPError:  # the server is gone, or stands still: users are patient
                talk.clear()
                await asyncio.sleep(2)
                continue
            talk.append({"role": "assistant", "content": FILLER[: 2 * answered]})
            await asyncio.sleep(min(self._dice.expovariate(1 / PAUSE_SECONDS), 3 * PAUSE_SECONDS))

    async def _importer(self, end: float) -> None:
        """Somebody whose documents are longer than a slot, and whose program tries again."""
        while time.monotonic() < end:
            await asyncio.sleep(TRIES_AGAIN)
            with suppress(httpx.HTTPError):
                await self._client.post("/completion", json={"prompt": FILLER * (TOO_LONG // len(FILLER))})

    def _question(self) -> str:
        sizes, weights = zip(*PROMPTS, strict=True)
        size = round(self._dice.choices(sizes, weights)[0] * self._dice.uniform(0.7, 1.3))
        opening = self._dice.choice(OPENINGS)
        return f"{opening} {FILLER * (size // len(FILLER))}"

    async def _ask(self, talk: list[dict[str, str]], number: int) -> int:
        """Stream one answer; its length in tokens. Every other user has a tool that completes plain text."""
        body: dict[str, Any] = {
            "stream": True,
            "max_tokens": self._dice.randint(*ANSWERS),
            "temperature": self._dice.choice((0.0, 0.2, 0.4)),
            "seed": self._dice.getrandbits(31),
        }
        text = "\n".join(message["content"] for message in talk)
        if number % 2:
            path, body["prompt"], body["n_predict"] = "/completion", text, body.pop("max_tokens")
        else:
            path, body["messages"] = "/v1/chat/completions", talk
        body |= self._first if self._asked < REFRAINS else self._later
        self._asked += 1
        request = Request(tokens=len(text))
        self._running.append(request)
        self._held.append(request)
        answered = 0
        try:
            async with self._client.stream("POST", path, json=body) as answer:
                answer.raise_for_status()
                async for chunk in answer.aiter_raw():  # counted, never parsed: about a token each
                    events = chunk.count(b"data: ")
                    request.decoding |= bool(events)
                    request.tokens += events
                    answered += events
        finally:
            self._running.remove(request)
        return answered


def _refrain() -> dict[str, Any]:
    """What makes the model repeat one phrase, each word by one token and not by its letters."""
    words = REFRAIN.split()
    phrase = " ".join(f'" {word}"' for word in words)
    bias = [[FIRST_WORD + WORDS.index(word), 50] for word in words]
    return {"grammar": f"root ::= ({phrase})+", "logit_bias": bias, "ignore_eos": True, "temperature": 0}
