"""When to ask a llama-server what: one request in flight, never abandoned, and as few as will do.

A server that may fall asleep is never asked for ``/slots`` while it idles: that would keep the model
loaded for good. Older builds answer only between two prompt batches: a late answer means "at work".

``/slots`` and ``/metrics`` go through the server's queue of results, and each result there lets every
waiting request wait for another second before it looks whether its client has hung up. So they are asked
in rounds, with more than a second of silence between two: b11549 cancels nothing while that is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from halotui.collectors.llama_http import HttpKind, HttpProblem, LlamaHttp
from halotui.hosts import LinkDown
from halotui.model import Metrics, ModelMeta, Props, ServerState, SlotReading
from halotui.sampler.clock import Clock

T = TypeVar("T")

ROUND_EVERY = 1.02  # seconds from one round to the next, at least
SILENCE = 1.005  # ... and from the last answer of one to the first question of the next
PATIENCE = 0.1  # a round that is due so soon is waited for, not left to the next tick
PROPS_EVERY = 30.0  # what hardly changes
SLEEP_EVERY = 2.0  # ... where the server may sleep: /props alone never wakes it
ASLEEP_EVERY = 5.0  # ... and where its log tells that it woke
METRICS_EVERY = 2.0
IDLE_METRICS_EVERY = 5.0  # where a log tells when something begins
IDLE_SLOTS_EVERY = 5.0  # builds up to b8390 log a line for every look
OFF_EVERY = 15.0  # an endpoint that is not there
HEALTH_EVERY = 10.0
STILL = 10.0  # seconds without an answer, or without any progress, before its health is asked for
RETRY_EVERY = {ServerState.LOCKED: 10.0, ServerState.FAILED: 5.0}  # a refused key is a line in its log

STATES = {
    HttpKind.REFUSED: ServerState.DOWN,
    HttpKind.LOADING: ServerState.LOADING,
    HttpKind.LOCKED: ServerState.LOCKED,
}


class Poller:
    """The last answers of one server, and the schedule of the next questions.

    ``apart`` makes a client of its own for ``/health``: never asked through a connection that is waiting.
    """

    def __init__(self, http: LlamaHttp, clock: Clock, apart: Callable[[], LlamaHttp] | None = None) -> None:
        self._http = http
        self._clock = clock
        self._apart = apart
        self._task: asyncio.Task[None] | None = None
        self._health: asyncio.Task[None] | None = None
        self._asked: dict[str, float] = {}  # when each question was last put
        self._retry_at = 0.0
        self._free_at = 0.0  # the queue's silence is over then
        self._stirred = False  # since the last look at the slots
        self._moving: object = None  # what changes while a server gets on
        self._moved_at = 0.0
        self._resting: tuple[ServerState, str] | None = None
        self.state = ServerState.WAITING  # until the first answer, or a refusal
        self.reason: str | None = "not asked yet"
        self.router = False  # it said that it is one
        self.props: Props | None = None
        self.meta: ModelMeta | None = None
        self.metrics: Metrics | None = None
        self.slots: tuple[SlotReading, ...] | None = None
        self.off: dict[str, str] = {}  # endpoint -> why it is not there
        self.epoch = 0  # grows whenever what answers next may be another process
        self.looks = 0  # answers of /slots so far
        self.metric_looks = 0
        self.asked_at: float | None = None  # start of the request in flight
        self.slots_at: float | None = None
        self.answered_at: float | None = None
        self.took: float | None = None  # seconds the last answer took
        self.healthy_at: float | None = None  # /health said so, while it was at work and nothing moved

    def start(self, *, may_sleep: bool, has_log: bool, stirred: bool) -> asyncio.Task[None]:
        """The round in flight, or a new one. ``stirred``: the log moved, so an idle server may be busy."""
        self._stirred |= stirred
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._round(may_sleep, has_log))
        self._check_health()
        return self._task

    @property
    def busy(self) -> bool:
        return any(slot.processing for slot in self.slots or ())

    @property
    def counts_drafts(self) -> bool:
        """Of builds from v0.4.0 on: their /metrics wakes nobody, and they answer during a prompt batch."""
        return self.metrics is not None and self.metrics.draft_tokens_total is not None

    @property
    def turn_in(self) -> float:
        """Seconds until the queue may be asked again; 0: now."""
        return max(0.0, self._free_at - self._clock.monotonic())

    def hurry(self) -> None:
        """Everything is due in the next round."""
        self._asked.clear()
        self._retry_at = 0.0

    def renew(self) -> None:
        """Another process answers from now on, and nobody saw the one before go."""
        self._forget(ServerState.WAITING, "started again")

    def rest(self, state: ServerState, reason: str) -> None:
        """Nobody is there to ask, and that is known from elsewhere, until ``reconnect``."""
        if self._resting != (state, reason):
            self._resting = (state, reason)
            if self._task is not None:
                self._task.cancel()
            self._forget(state, reason)

    @property
    def resting(self) -> bool:
        return self._resting is not None

    async def reconnect(self, http: LlamaHttp) -> None:
        """Ask through another client from now on: another key, or another address."""
        old, self._http = self._http, http
        if self._resting is not None:
            self._resting, self._free_at = None, 0.0
            self._forget(ServerState.WAITING, "not asked yet")
        self.hurry()
        await old.aclose()

    async def close(self) -> None:
        for task in (self._task, self._health):
            if task is not None:
                task.cancel()
        await self._http.aclose()

    async def _round(self, may_sleep: bool, has_log: bool) -> None:
        http = self._http
        try:
            await self._questions(may_sleep, has_log)
        except HttpProblem as problem:
            if http is self._http and not self.resting:
                self._fail(problem)
        except LinkDown:  # nothing is known of the server, and nothing new
            pass
        except Exception as error:  # must not end in a task that nobody asks
            self._fail(HttpProblem(HttpKind.FAILED, f"an error of halotui's own: {type(error).__name__}"))
        finally:
            self.asked_at = None

    async def _questions(self, may_sleep: bool, has_log: bool) -> None:
        if self.resting or self._clock.monotonic() < self._retry_at:
            return
        if self.props is None:
            await self._ask(self._http.health)
        if self.props is None or self._is_due("props", self._props_every(may_sleep, has_log)):
            await self._look_at_props()
        if self._asleep():
            return
        if self.meta is None and self._is_due("meta", PROPS_EVERY * 10):
            await self._look_at_meta()
        first = (self.slots is None and "/slots" not in self.off) or self.state is ServerState.SLEEPING
        shy = may_sleep and not self.busy and not first
        metrics = (not shy or self.counts_drafts) and self._is_due("metrics", self._metrics_every(has_log))
        slots = first or self._at_work or (not shy and self._is_due("slots", IDLE_SLOTS_EVERY))
        if (metrics or slots) and not await self._turn():
            return
        if (metrics or slots) and may_sleep and self._is_due("props", 0.1):
            await self._look_at_props()  # it may have fallen asleep since
            if self._asleep():
                return
        if metrics:
            await self._look_at_metrics()
        if slots or self._at_work:
            self._stirred = False
            if "/slots" not in self.off or self._is_due("slots", OFF_EVERY):
                await self._look_at_slots()
        self._note_progress()
        self._settle(ServerState.BUSY if self.busy or self._waiting else ServerState.IDLE)

    async def _turn(self) -> bool:
        """Whether the queue has been silent for long enough; so it is when this returns True."""
        wait = self.turn_in
        if wait > PATIENCE:
            return False
        if wait > 0:
            await self._clock.sleep(wait)
        self._free_at = self._clock.monotonic() + ROUND_EVERY
        return True

    @property
    def _waiting(self) -> bool:
        """The gauge counts requests that no slot shows, or that no slots can show."""
        if self.metrics is None or not self.metrics.requests_processing:
            return False
        return self.slots is None or self._asked.get("slots", 0.0) < self._asked.get("metrics", 0.0)

    @property
    def _at_work(self) -> bool:
        return self.busy or self._stirred or self._waiting

    def _props_every(self, may_sleep: bool, has_log: bool) -> float:
        if self.props is not None and self.props.is_sleeping and has_log:
            return 0.0 if self._stirred else ASLEEP_EVERY
        return SLEEP_EVERY if may_sleep else PROPS_EVERY

    def _metrics_every(self, has_log: bool) -> float:
        if "/metrics" in self.off:
            return OFF_EVERY
        if self._at_work:
            return METRICS_EVERY if has_log else 0.0  # without a log they alone tell of short requests
        return IDLE_METRICS_EVERY if has_log else METRICS_EVERY

    def _asleep(self) -> bool:
        if self.props is None or not self.props.is_sleeping:
            return False
        self._settle(ServerState.SLEEPING)
        self.slots = ()
        self._stirred = False
        return True

    async def _look_at_props(self) -> None:
        self._ask_again("props")
        try:
            self.props = await self._ask(self._http.props)
        except HttpProblem as problem:
            self.router = problem.kind is HttpKind.ROUTER
            raise
        self.router = False

    async def _look_at_meta(self) -> None:
        """Once, and worth no alarm: some builds and proxies do not tell."""
        self._ask_again("meta")
        with suppress(HttpProblem):
            self.meta = await self._ask(self._http.meta)

    async def _look_at_metrics(self) -> None:
        self._ask_again("metrics")
        answer = await self._optional("/metrics", self._http.metrics)
        if answer is not None:
            self.metrics = answer
            self.metric_looks += 1

    async def _look_at_slots(self) -> None:
        self._ask_again("slots")
        answer = await self._optional("/slots", self._http.slots)
        if answer is not None:
            self.slots, self.slots_at = answer, self.answered_at
            self.looks += 1

    async def _optional(self, endpoint: str, ask: Callable[[], Awaitable[T]]) -> T | None:
        """An endpoint that goes through the queue, and that the server may have been started without."""
        try:
            answer = await self._ask(ask)
        except HttpProblem as problem:
            if problem.kind in STATES:
                raise
            if problem.kind is not HttpKind.OFF:  # is it still a llama-server?
                await self._look_at_props()
            self.off[endpoint] = problem.reason
            return None
        finally:
            self._free_at = max(self._free_at, self._clock.monotonic() + SILENCE)
        self.off.pop(endpoint, None)
        return answer

    async def _ask(self, ask: Callable[[], Awaitable[T]]) -> T:
        self.asked_at = self._clock.monotonic()
        answer = await ask()
        self.answered_at = self._clock.monotonic()
        self.took = self.answered_at - self.asked_at
        self.asked_at = None
        return answer

    def _note_progress(self) -> None:
        moving = (
            [(slot.task, slot.decoded, slot.prompt_processed, slot.tokens) for slot in self.slots or ()],
            self.metrics and self.metrics.decode_calls_total,
        )
        if moving != self._moving or not self.busy:
            self._moving, self._moved_at = moving, self._clock.monotonic()

    def _check_health(self) -> None:
        """Slow, stuck or gone: /health tells, as it needs no turn in the queue. It wakes nothing."""
        now = self._clock.monotonic()
        late = self.asked_at is not None and now - self.asked_at > STILL
        still = self.busy and now - self._moved_at > STILL
        if self._apart is None or not (late or still) or not self._is_due("health", HEALTH_EVERY):
            return
        if self._health is None or self._health.done():
            self._ask_again("health")
            self._health = asyncio.create_task(self._ask_health(self._apart()))

    async def _ask_health(self, http: LlamaHttp) -> None:
        epoch = self.epoch
        with suppress(HttpProblem, LinkDown):
            await http.health()
            if epoch == self.epoch:
                self.healthy_at = self._clock.monotonic()
        await http.aclose()

    def _settle(self, state: ServerState) -> None:
        self.state, self.reason = state, None

    def _fail(self, problem: HttpProblem) -> None:
        self._forget(STATES.get(problem.kind, ServerState.FAILED), problem.reason)
        self._retry_at = self._clock.monotonic() + RETRY_EVERY.get(self.state, 0.0) - 0.05

    def _forget(self, state: ServerState, reason: str) -> None:
        self.state, self.reason = state, reason
        self.epoch += 1
        self.props = self.meta = self.metrics = self.slots = self.healthy_at = None
        self.off.clear()
        self.hurry()

    def _is_due(self, what: str, every: float) -> bool:
        """A tick that is a hair early is on time."""
        asked = self._asked.get(what)
        return asked is None or self._clock.monotonic() >= asked + every - 0.05

    def _ask_again(self, what: str) -> None:
        self._asked[what] = self._clock.monotonic()
