"""``probe speed``: prefill and decode at several depths of the context, beside what is usual and possible.

Named as llama-bench names its tests: ``pp512 @ d4096`` computes 512 tokens behind 4096 that are in the slot
already. The prompt before is sent once and reused; a model that cannot go back in its context has to compute
it anew, and is not asked to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from halotui.actions import Verdict
from halotui.collectors.llama_http import LlamaHttp
from halotui.format import count, digits, percent
from halotui.ledger import Baseline
from halotui.probing import Aim, Column, Tell
from halotui.probing.probe import Probe
from halotui.probing.usual import Usual
from halotui.runs import Result
from halotui.servers.completing import Completer, Timings, turned

PREFILL, DECODE = 512, 128  # tokens
LEAST = 64, 16
BEFORE = 24  # tokens of prompt before what is generated
WARM_UP = 64, 8
ROUNDS = 3
SLACK = 8  # tokens that a slot needs beside
REUSED = 0.9  # of the depth
SLOWER = 0.85  # of the usual speed, and three of its spreads away: slower than usual
DEPTHS = (0, 4096)
LONGEST = 32768  # tokens of text that is not repeated


@dataclass
class _Test:
    """One of them, as far as it was measured."""

    depth: int
    prompt: int  # tokens
    answer: int  # tokens; 0: a test of prefill
    usual: Baseline | None = None
    replies: list[Timings] = field(default_factory=list)

    @property
    def name(self) -> str:
        words = f"tg{self.answer}" if self.answer else f"pp{self.prompt}"
        return f"{words} @ d{self.depth}" if self.depth else words

    @property
    def speeds(self) -> tuple[float, ...]:
        rates = (one.predicted_per_second if self.answer else one.prompt_per_second for one in self.replies)
        return tuple(rate for rate in rates if rate)

    @property
    def mean(self) -> float | None:
        return fmean(self.speeds) if self.speeds else None

    @property
    def spread(self) -> float | None:
        return stdev(self.speeds) if len(self.speeds) > 1 else None

    @property
    def passes(self) -> float | None:
        """Times a second that the weights are read: a draft that is accepted saves one."""
        rates = [
            one.predicted_per_second * (1 - min(1.0, one.draft_n_accepted / one.predicted_n))
            for one in self.replies
            if one.predicted_per_second and one.predicted_n
        ]
        return fmean(rates) if rates else None

    @property
    def of_usual(self) -> float | None:
        return self.mean / self.usual.median if self.mean and self.usual and self.usual.median else None

    @property
    def slower(self) -> bool:
        if self.usual is None or self.mean is None or self.of_usual is None:
            return False
        return self.of_usual < SLOWER and self.usual.median - self.mean > 3 * self.usual.spread


class Speed(Probe):
    name = "speed"
    columns = (
        Column("depth", "depth", count),
        Column("test", "test"),
        Column("tokens_per_second", "t/s", digits),
        Column("spread", "±", digits),
        Column("repeats", "n"),
        Column("of_usual_ratio", "of usual", percent),
        Column("of_ceiling_ratio", "of ceiling", percent),
    )

    def __init__(self, aim: Aim, tell: Tell, depths: Sequence[int] = DEPTHS) -> None:
        super().__init__(aim, tell)
        self._depths = sorted(set(depths))
        self._tests: list[_Test] = []
        self._usual = Usual(self.baselines, self.server)

    @property
    def plan(self) -> str:
        depths = ", ".join(map(count, self._depths))
        return f"prompts of {PREFILL} tokens and answers of {DECODE}, {ROUNDS} times each, at depth {depths}"

    async def measure(self, model: Completer, http: LlamaHttp) -> None:
        where = self.take_slot()
        self.step(0.0, "warming up", "everything")
        depths = [depth for depth in self._depths if self._fits(depth)]
        if not depths:
            return
        text = await _text(model, max(depths) + PREFILL)
        warm = await model.tokens(turned(text, 1)[: WARM_UP[0]], WARM_UP[1], cache_prompt=False, **where)
        pace = warm.prompt_per_second or 1000.0, warm.predicted_per_second or 100.0
        for at, depth in enumerate(depths):
            share = 1 / len(depths)
            sizes = self._sizes(depth, pace, self.seconds_left / (len(depths) - at))
            if sizes is None:
                self.notes.append(f"depth {count(depth)} left out: too slow for the time")
                continue
            await self._at_depth(model, text, depth, sizes, at * share, share, where)
            pace = self._pace(pace)
            await self.look(http)
        if self.speculative:
            self.notes.append("speculation is on: decode depends on how well drafts fit the text")

    def _fits(self, depth: int) -> bool:
        needed = depth + max(PREFILL + 1, BEFORE + DECODE) + SLACK
        room = self.room
        if room is None or room >= needed or (depth == 0 and room >= sum(LEAST) + SLACK):
            return True
        self.notes.append(
            f"depth {count(depth)} left out: it takes {count(needed)} tokens, a slot has {count(room)}"
        )
        return False

    def _pace(self, before: tuple[float, float]) -> tuple[float, float]:
        """Of the deepest that was measured: deeper ones are no faster."""
        prefill, decode = before
        for test in self._tests:
            prefill, decode = (
                (prefill, test.mean or decode) if test.answer else (test.mean or prefill, decode)
            )
        return prefill, decode

    def _sizes(self, depth: int, pace: tuple[float, float], seconds: float) -> tuple[int, int] | None:
        """Tokens of prefill and decode such that at least one round fits, at the pace so far."""
        prefill, decode = pace
        left = (seconds - depth / prefill) * 0.7
        room = (self.room or depth + 2 * PREFILL) - depth - SLACK
        sizes = (
            min(PREFILL, room, int(left / 2 * prefill)),
            min(DECODE, room - BEFORE, int(left / 2 * decode)),
        )
        return sizes if sizes[0] >= LEAST[0] and sizes[1] >= LEAST[1] else None

    async def _at_depth(
        self,
        model: Completer,
        text: list[int],
        depth: int,
        sizes: tuple[int, int],
        done: float,
        share: float,
        where: dict[str, int],
    ) -> None:
        prefill = _Test(depth, sizes[0], 0, self._usual.prefill(depth, sizes[0]))
        decode = _Test(depth, BEFORE, sizes[1], self._usual.decode(depth + BEFORE + sizes[1]))
        end = self.seconds_left - self.seconds_left * share / max(share, 1 - done)
        left = f"the rest at depth {count(depth)} and beyond"
        before = turned(text, 0)[:depth]
        if depth:
            self.step(done, f"{count(depth)} tokens to begin with", left)
            await model.tokens(before, 1, cache_prompt=True, **where)
        self._tests += [prefill, decode]
        for number in range(1, ROUNDS + 1):
            began = self.seconds_left
            for at, test in enumerate((prefill, decode)):
                so_far = done + share * (0.1 + 0.9 * (2 * number - 2 + at) / (2 * ROUNDS))
                self.step(so_far, f"{test.name} {number}/{ROUNDS}", left)
                prompt = [*before, *turned(text, 2 * number + at)[1 if depth else 0 :][: test.prompt]]
                reply = await model.tokens(prompt, test.answer or 1, cache_prompt=bool(depth), **where)
                if depth and reply.prompt_n > test.prompt + depth * (1 - REUSED):
                    self._tests = [one for one in self._tests if one.replies]
                    self.notes.append(
                        f"depth {count(depth)} left out: the {count(depth)} tokens were not reused"
                    )
                    return
                test.replies.append(reply)
            spent = began - self.seconds_left
            if self.seconds_left - spent * 1.2 < end and number < ROUNDS:  # another would not fit
                self.notes.append(f"depth {count(depth)}: {number} of {ROUNDS} rounds, for want of time")
                return

    def verdict(self) -> tuple[Verdict, str]:
        tests = [test for test in self._tests if test.speeds]
        self.rows = [
            {
                "depth": test.depth,
                "test": test.name,
                "tokens_per_second": test.mean,
                "spread": test.spread,
                "repeats": len(test.speeds),
                "of_usual_ratio": test.of_usual,
                "of_ceiling_ratio": self._of_ceiling(test),
            }
            for test in tests
        ]
        if not tests:
            return Verdict.UNKNOWN, "nothing was measured"
        fast = ", ".join(f"{test.name} {digits(test.mean or 0)} t/s" for test in tests)
        if self._others:
            return Verdict.UNKNOWN, f"{fast}, while others were served: try when it is quiet"
        slower = [test for test in tests if test.slower]
        if slower:
            told = ", ".join(f"{test.name} {percent(test.of_usual or 0)}" for test in slower)
            return Verdict.FAIL, f"slower than usual: {told} of it"
        known = sum(test.usual is not None for test in tests)
        if not known:
            return Verdict.OK, f"{fast}; what is usual here is not known yet"
        return Verdict.OK, f"{fast}; as usual" + ("" if known == len(tests) else ", where that is known")

    def _of_ceiling(self, test: _Test) -> float | None:
        ceiling = (
            self.server.decode_ceiling_tokens_per_second
            if test.answer
            else self.server.prefill_ceiling_tokens_per_second
        )
        speed = test.passes if test.answer else test.mean
        return speed / ceiling if ceiling and speed else None

    def results(self) -> list[Result]:
        return [
            self.result(
                test.name,
                test.replies if test.answer else (),
                prompt_tokens=0 if test.answer else test.prompt,
                generation_tokens=test.answer,
                depth_tokens=test.depth,
                tokens_per_second=test.mean,
                spread=test.spread,
                samples=test.speeds,
                settings={"of usual": percent(test.of_usual)} if test.of_usual else {},
            )
            for test in self._tests
            if test.speeds
        ]


async def _text(model: Completer, tokens: int) -> list[int]:
    """So many: a long one says the same again, for it comes in one answer."""
    text = await model.text(min(tokens, LONGEST))
    return [*text, *(text[1:] * (tokens // len(text)))]
