"""A server of numbers alone: a token takes ``A + B`` × depth seconds, give or take. The rules and the
learning are the real ones, and all that changes is what users do: how deep, how many, how cold, how well
drafts fit their text."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from builders import frame
from halotui.baselines.observing import Observer, Taught
from halotui.history import History
from halotui.ledger import Baseline, Key, Observation, Software
from halotui.model import Finding, Request, ServerState, Slot, SlotPhase
from halotui.rules import ALL
from halotui.rules.engine import Engine
from halotui.store.ledger import _merged
from rules.usual import NOW, serving

RULES = ("tg-regressed", "pp-regressed", "spec-harmful")
A, B = 0.02, 5e-7  # seconds of a token; more of them for each token before it
SHARED = 0.002  # for each other stream
PP, PP_DEEP = 1 / 700, 2.5e-8  # seconds of a prompt's token; more for each one before it
ASIDE = 0.1  # of its speed that decoding keeps while another prompt is computed
DRAFTS, DRAFT = 4, 0.0015  # a pass; seconds each
LEARN = 10.0  # seconds between two lessons, as of the notebook
SLOTS = 4


@dataclass
class User:
    dice: random.Random
    fit: float = 0.0  # of a draft's token, by the text; 0: no drafts
    cold: bool = False
    depth: int = 0
    until: int = 8000  # depth at which a new chat begins
    think: float = 20.0
    next: float = 0.0


@dataclass
class Work:
    """A request at work."""

    user: User
    slot: int
    began: float
    cached: int
    prompt: int
    tokens: int
    luck: float
    drafts: int
    fit: float
    left_prompt: float = 0.0  # seconds of computing, alone
    decoding: float = 0.0  # seconds so far
    computing: float = 0.0
    done: float = 0.0  # tokens

    @property
    def depth(self) -> float:
        return self.cached + self.prompt + self.done


@dataclass
class Synthetic:
    """``cut``: what is left of its speed."""

    seed: int
    speculates: bool = False
    step: float = 1.0  # seconds of a frame
    cut: float = 1.0
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.now, self.requests, self.alarms = NOW, 0, dict.fromkeys(RULES, 0)
        self.found: list[tuple[int, Finding]] = []
        self.history, self.observer = History(), Observer()
        self.engine = Engine([rule for rule in ALL if rule.id in RULES])
        self.known: dict[Key, Baseline] = {}
        self._taught: list[Taught] = []
        self._learned = self.now
        self._work: dict[int, Work] = {}
        self._users: list[User] = []
        self._firing: set[str] = set()
        self._change = 0

    def run(self, requests: int, *, until: str = "") -> int:
        """Serve so many more, or until that rule fires; how many it were."""
        began = self.requests
        while self.requests - began < requests and until not in self._firing:
            self._tick()
        return self.requests - began

    def _tick(self) -> None:
        if self.requests >= self._change:
            self._mood()
        if not self._work:  # the next comes at once, after a while of which nothing is seen
            wait = min(user.next for user in self._users) - self.now
            self.now += max(0.0, wait - self.step)
        for user in self._users:
            if (
                user.next <= self.now
                and len(self._work) < SLOTS
                and all(w.user is not user for w in self._work.values())
            ):
                self._begin(user)
        over = tuple(self._advance())
        self.now += self.step
        self._see(over)

    def _mood(self) -> None:
        """Others come, with other habits."""
        dice = self.dice
        self._change = self.requests + dice.randint(20, 200)
        self._users = [
            User(
                dice,
                fit=dice.choice((0.5, 0.65, 0.75, 0.85)) if self.speculates else 0.0,
                cold=dice.random() < 0.4,
                depth=dice.choice((0, 0, 1000, 6000, 14000, 30000)),
                until=dice.choice((4000, 8000, 20000, 40000, 60000)),
                think=dice.choice((2.0, 10.0, 40.0, 120.0)),
                next=self.now + dice.uniform(0, 20),
            )
            for _ in range(dice.choice((1, 1, 1, 2, 2, 3, 5)))
        ]

    def _begin(self, user: User) -> None:
        dice = self.dice
        if user.depth > user.until:
            user.depth = 0
        new = int(dice.choice((40, 150, 600, 2500)) * dice.uniform(0.7, 1.4))
        cached = 0 if user.cold else user.depth
        luck = dice.gauss(1, 0.03) if dice.random() < 0.95 else 1 / dice.uniform(0.3, 1)
        work = Work(
            user=user,
            slot=next(n for n in range(SLOTS) if n not in self._work),
            began=self.now,
            cached=cached,
            prompt=user.depth - cached + new,
            tokens=int(dice.choice((80, 200, 400)) * dice.uniform(0.7, 1.3)),
            luck=max(0.8, luck),
            drafts=dice.randint(2, DRAFTS) if user.fit else 0,
            fit=min(0.95, max(0.05, user.fit + dice.gauss(0, 0.05))) if user.fit else 0.0,
        )
        work.left_prompt = 0.05 + work.prompt * (PP + PP_DEEP * (cached + work.prompt / 2))
        self._work[work.slot] = work

    def _advance(self) -> Iterator[Request]:
        """By one frame, in pieces."""
        piece = self.step / 4
        for i in range(4):
            prompts = [w for w in self._work.values() if w.left_prompt > 0]
            decoding = [w for w in self._work.values() if w.left_prompt <= 0]
            for work in prompts[:1]:
                work.left_prompt -= piece * self.cut / work.luck
            for work in prompts:
                work.computing += piece
            pace = ASIDE if prompts else 1.0
            pass_ = A + B * sum(w.depth for w in decoding) + SHARED * (len(decoding) - 1)
            pass_ += DRAFT * sum(w.drafts for w in decoding) / max(1, len(decoding))
            for work in decoding:
                work.decoding += piece
                work.done += piece * pace * self.cut / (pass_ * work.luck) * gained(work)
            for work in [w for w in decoding if w.done >= w.tokens]:
                yield self._end(work, self.now + (i + 1) * piece)

    def _end(self, work: Work, at: float) -> Request:
        del self._work[work.slot]
        speed = work.done / work.decoding
        taken = work.tokens / speed
        ended = at - (work.decoding - taken)
        user, depth = work.user, work.cached + work.prompt + work.tokens
        user.depth, user.next = depth, at + user.think * self.dice.uniform(0.5, 1.5)
        self.requests += 1
        how: dict[str, Any] = {}
        if self.speculates:
            passes = work.tokens / gained(work)
            drafted = max(1, int(passes * work.drafts))
            accepted = min(drafted, int(work.tokens - passes))
            how = {
                "draft_tokens": drafted,
                "draft_accepted_tokens": accepted,
                "draft_acceptance_ratio": accepted / drafted,
                "draft_coverage_ratio": drafted / work.tokens,
            }
        return Request(
            source="log",
            slot=work.slot,
            task=self.requests,
            context_tokens=depth,
            cached_tokens=work.cached,
            prompt_tokens=work.prompt,
            prompt_tokens_per_second=work.prompt / max(0.05, work.computing),
            prompt_seconds=work.computing,
            generation_tokens=work.tokens,
            generation_tokens_per_second=speed,
            generation_seconds=taken,
            started_time=work.began,
            ended_time=ended,
            **how,
        )

    def _see(self, over: tuple[Request, ...]) -> None:
        if self._taught and self.now - self._learned >= LEARN:
            self._learn()
        busy = len(self._work)
        spec = {"speculative": True, "spec_type": "draft-simple", "draft_model": "small.gguf"}
        server = serving(
            state=ServerState.BUSY if busy else ServerState.IDLE,
            slots_busy=busy,
            slots=tuple(self._slot(n) for n in range(SLOTS)),
            requests=over,
            **((spec if self.speculates else {}) | self.facts),
        )
        seen = frame(self.now, servers=[server])
        self.history.push(seen)
        findings = self.engine.evaluate(seen, self.history).findings
        firing = {finding.id for finding in findings}
        for finding in findings:
            if finding.id not in self._firing:
                self.alarms[finding.id] += 1
                self.found.append((self.requests, finding))
        self._firing = firing
        self._taught += self.observer.take(seen, self.history, self.engine.frozen)

    def _slot(self, number: int) -> Slot:
        if (work := self._work.get(number)) is None:
            return Slot(id=number, phase=SlotPhase.IDLE)
        phase = SlotPhase.PROMPT if work.left_prompt > 0 else SlotPhase.DECODE
        lasts = work.computing if work.left_prompt > 0 else work.decoding
        return Slot(
            id=number,
            phase=phase,
            elapsed_seconds=self.now - work.began,
            phase_seconds=lasts,
            used_tokens=int(work.depth),
        )

    def _learn(self) -> None:
        new: dict[Key, list[Observation]] = {}
        for key, one in self._taught:
            new.setdefault(key, []).append(one)
        for key, many in new.items():
            self.known[key] = _merged(self.known.get(key), key, many, Software())
        self._taught, self._learned = [], self.now
        self.engine.baselines = self.engine.baselines.learned(self.known[key] for key in new)


def gained(work: Work) -> float:
    """Tokens of a pass."""
    return sum(work.fit**n for n in range(work.drafts + 1)) if work.drafts else 1.0
