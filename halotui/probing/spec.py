"""``probe spec``: chat requests on one slot, one after the other: does it go on drafting, and does it pay?

The fault of llama.cpp #19231 shows from a slot's second request on, and leaves the acceptance of what is
still drafted at 100 %: coverage, drafted of generated, is what falls. So there is no warm-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from statistics import fmean, median, stdev
from time import monotonic

from halotui.actions import Verdict
from halotui.collectors.llama_http import LlamaHttp
from halotui.format import digits, percent
from halotui.probing import Aim, Column, Tell
from halotui.probing.probe import Probe
from halotui.probing.usual import Usual
from halotui.rules.speculation import ACCEPTANCE_FALLEN, COVERAGE_FALLEN
from halotui.runs import Result
from halotui.servers.completing import Completer, Timings, drafting

ANSWER, LEAST_ANSWER = 200, 96  # tokens
SHORT = 16  # tokens: a shorter answer says too little
LATER = 5  # requests at the end that are held against the first
FLOOR = 0.1  # coverage of a first request that has nothing to lose
UNUSED = 2  # requests are enough where the server says that it does not speculate
NOISE = 0.03  # of a decode speed
_SUBJECTS = (
    "a water mill",
    "a sundial",
    "a bicycle gear",
    "a printing press",
    "a pendulum clock",
    "a steam engine",
    "a canal lock",
    "a lighthouse lamp",
    "a spinning wheel",
    "a wind pump",
)


class Spec(Probe):
    name = "spec"
    columns = (
        Column("request", "request"),
        Column("prompt_tokens", "prompt"),
        Column("generated_tokens", "generated"),
        Column("drafted_tokens", "drafted"),
        Column("accepted_tokens", "accepted"),
        Column("acceptance_ratio", "acceptance", percent),
        Column("coverage_ratio", "coverage", percent),
        Column("tokens_per_second", "t/s", digits),
    )

    def __init__(self, aim: Aim, tell: Tell, requests: int = 10) -> None:
        super().__init__(aim, tell)
        self._requests = requests
        self._replies: list[Timings] = []
        self._waits: list[float] = []  # seconds of each request
        types = [
            kind for kind in (self.server.spec_type or "").split(",") if kind.strip() not in ("", "none")
        ]
        self._ngram = any("ngram" in kind for kind in types)
        self._asked = f"--spec-type {','.join(types)}" if types else ""
        if not types and self.server.draft_model:
            self._asked = f"draft model {PurePath(self.server.draft_model).name}"

    @property
    def plan(self) -> str:
        if self.server.speculative is False and not self._asked:
            return ""
        return f"{self._requests} chat requests of up to {ANSWER} tokens on one slot"

    async def measure(self, model: Completer, http: LlamaHttp) -> None:
        where, answer, began = self.take_slot(), ANSWER, monotonic()
        for number in range(1, self._requests + 1):
            left = (
                f"requests {number} to {self._requests}" if number < self._requests else f"request {number}"
            )
            self.step((number - 1) / self._requests, f"request {number}/{self._requests}", left)
            sent = monotonic()
            reply = await model.chat(self._question(number), answer, **where)
            self._replies.append(reply)
            self._waits.append(monotonic() - sent)
            await self.look(http)
            self.rows.append(self._row(number, reply))
            if number == UNUSED and not self.speculative and not any(one.draft_n for one in self._replies):
                return
            needed = (monotonic() - began) / number * (self._requests - number)
            if needed > self.seconds_left:
                answer = max(LEAST_ANSWER, int(answer * self.seconds_left / needed))

    def _question(self, number: int) -> str:
        """Drafts out of the text itself need one that repeats itself."""
        subject = _SUBJECTS[(number - 1) % len(_SUBJECTS)]
        if self._ngram:
            line = (
                f"This is {subject}: it turns slowly, it needs care, and it has served its village for long."
            )
            return f"Write this line out eight times, changing nothing.\n{line}"
        return f"Explain to a child, step by step and in plain words, how {subject} works."

    def _row(self, number: int, reply: Timings) -> dict[str, str | int | float | None]:
        acceptance, coverage = drafting([reply], speculative=self.speculative)
        return {
            "request": number,
            "prompt_tokens": reply.prompt_n + (reply.cache_n or 0),
            "generated_tokens": reply.predicted_n,
            "drafted_tokens": reply.draft_n,
            "accepted_tokens": reply.draft_n_accepted,
            "acceptance_ratio": acceptance,
            "coverage_ratio": coverage,
            "tokens_per_second": reply.predicted_per_second,
        }

    def verdict(self) -> tuple[Verdict, str]:
        known = [one for one in self._replies if one.predicted_n >= SHORT]
        if not any(one.draft_n for one in self._replies):
            return self._without(len(self._replies))
        if len(known) < 2:
            return Verdict.UNKNOWN, f"too few answers of {SHORT} tokens or more to judge by"
        verdict, words = self._decay(known)
        if verdict is not Verdict.OK:
            return verdict, words
        pays, told = self._pays(known)
        return (verdict if pays is not False else Verdict.FAIL), f"{words}; {told}"

    def _without(self, requests: int) -> tuple[Verdict, str]:
        """Nothing was drafted."""
        if not self._asked and not self.speculative:
            return Verdict.OK, "no speculation here: nothing to probe"
        if not requests:
            return Verdict.UNKNOWN, "nothing was measured"
        asked = self._asked or "the server says that it speculates"
        words = f"never drafts: {asked}, and 0 tokens drafted in {_requests(requests)}"
        if not self.speculative:
            return Verdict.FAIL, f"{words}; /slots says speculative: false (spec-unused)"
        if not self._ngram:
            return Verdict.FAIL, words
        why = (
            "no answer repeated itself, or it lost it in earlier requests (#19231): relaunch, and probe again"
        )
        return Verdict.UNKNOWN, f"{words}: {why}"

    def _decay(self, known: Sequence[Timings]) -> tuple[Verdict, str]:
        last = known[-min(LATER, len(known) - 1) :]
        first, later = _coverage(known[:1]), median(_coverage([one]) for one in last)
        at = self._replies.index(known[0]) + 1
        beside = f"request {at} drafted {percent(first)}, the last {len(last)} {percent(later)}"
        if first < FLOOR and later < FLOOR:
            return Verdict.UNKNOWN, f"drafts next to nothing ({percent(later)} of what it generates)"
        if later < first * COVERAGE_FALLEN:
            return Verdict.FAIL, f"decays: {beside} (#19231)"
        rates = [one.draft_n_accepted / one.draft_n for one in known if one.draft_n >= SHORT]
        if len(rates) >= 6 and median(rates[-3:]) < median(rates[:3]) * ACCEPTANCE_FALLEN:
            fell = f"{percent(median(rates[:3]))} at first, {percent(median(rates[-3:]))} at last"
            return Verdict.FAIL, f"drafts are accepted less and less: {fell}"
        if len(known) <= LATER:
            return Verdict.OK, f"still drafts after {_requests(len(known))}: {beside}"
        return Verdict.OK, f"survives: {beside}"

    def _pays(self, known: Sequence[Timings]) -> tuple[bool | None, str]:
        """Whether it is faster than without, where that is known."""
        speeds = [one.predicted_per_second for one in known if one.predicted_per_second]
        if self._others:
            return None, "whether it pays is not known: others were served meanwhile"
        usual = Usual(self.baselines, self.server).decode_without_drafts(_depth(known[-1]))
        if usual is None or not speeds:
            return None, "whether it pays is not known: no decode speed without speculation was seen here yet"
        gain = median(speeds) / usual.median
        told = f"{digits(median(speeds))} t/s, {digits(usual.median)} usual without ({gain - 1:+.0%})"
        least = 1 - max(NOISE, usual.spread / usual.median)
        return gain >= least, f"{'pays' if gain > 1 else 'does not pay'}: {told}"

    def results(self) -> list[Result]:
        if not self._replies:
            return []
        speeds = tuple(one.predicted_per_second for one in self._replies if one.predicted_per_second)
        return [
            self.result(
                "spec",
                self._replies,
                tokens_per_second=fmean(speeds) if speeds else None,
                spread=stdev(speeds) if len(speeds) > 1 else None,
                samples=speeds,
                seconds=fmean(self._waits),
                seconds_samples=tuple(self._waits),
                settings={
                    "requests": str(len(self._replies)),
                    "speculation": self._asked,
                    "coverage by request": " ".join(percent(_coverage([one])) for one in self._replies),
                },
            )
        ]


def _coverage(replies: Sequence[Timings]) -> float:
    generated = sum(one.predicted_n for one in replies)
    return sum(one.draft_n for one in replies) / generated if generated else 0.0


def _depth(reply: Timings) -> int:
    return reply.prompt_n + (reply.cache_n or 0) + reply.predicted_n


def _requests(number: int) -> str:
    return f"{number} request{'s' if number != 1 else ''}"
