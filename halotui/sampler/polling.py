"""When to ask a llama-server what: one request in flight, never abandoned, and as few as will do.

A server that may fall asleep is never asked for ``/slots`` while it idles: that would keep the model
loaded for good. Older builds answer only between two prompt batches: a late answer means "at work".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from halotui.collectors.llama_http import HttpKind, HttpProblem, LlamaHttp
from halotui.model import Metrics, Props, ServerState, SlotReading
from halotui.sampler.clock import Clock

T = TypeVar("T")

PROPS_EVERY = 15.0  # seconds between looks at what hardly changes
SLEEP_EVERY = 2.0  # ... where the server may sleep: /props alone never wakes it
METRICS_EVERY = 2.0
IDLE_SLOTS_EVERY = 5.0  # builds up to b8390 log a line for every look
RETRY_EVERY = {ServerState.LOCKED: 10.0, ServerState.FAILED: 5.0}  # a refused key is a line in its log

_STATES = {
    HttpKind.REFUSED: ServerState.DOWN,
    HttpKind.LOADING: ServerState.LOADING,
    HttpKind.LOCKED: ServerState.LOCKED,
}


class Poller:
    """The last answers of one server, and the schedule of the next questions."""

    def __init__(self, http: LlamaHttp, clock: Clock) -> None:
        self._http = http
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._due: dict[str, float] = {}
        self.state = ServerState.WAITING  # until the first answer, or a refusal
        self.reason: str | None = "not asked yet"
        self.props: Props | None = None
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

    def start(self, *, may_sleep: bool, has_log: bool, stirred: bool) -> asyncio.Task[None]:
        """The round in flight, or a new one. ``stirred``: the log moved, so an idle server may be busy."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._round(may_sleep, has_log, stirred))
        return self._task

    @property
    def busy(self) -> bool:
        return any(slot.processing for slot in self.slots or ())

    def hurry(self) -> None:
        """Everything is due in the next round."""
        self._due.clear()

    async def reconnect(self, http: LlamaHttp) -> None:
        """Ask through another client from now on: the key has changed."""
        old, self._http = self._http, http
        self.hurry()
        await old.aclose()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._http.aclose()

    async def _round(self, may_sleep: bool, has_log: bool, stirred: bool) -> None:
        try:
            await self._questions(may_sleep, has_log, stirred)
        except HttpProblem as problem:
            self._fail(problem)
        except Exception as error:  # must not end in a task that nobody asks
            self._fail(HttpProblem(HttpKind.FAILED, f"an error of halotui's own: {type(error).__name__}"))
        finally:
            self.asked_at = None

    async def _questions(self, may_sleep: bool, has_log: bool, stirred: bool) -> None:
        if self.props is None:
            if not self._is_due("retry"):
                return
            await self._ask(self._http.health)
        if self.props is None or self._is_due("props"):
            await self._look_at_props(may_sleep)
        if self._asleep():
            return
        first = (self.slots is None and "/slots" not in self.off) or self.state is ServerState.SLEEPING
        shy = may_sleep and not self.busy and not first
        exact = not has_log and "/metrics" not in self.off  # only the counters tell of short requests
        if (not shy or self.counts_drafts) and (exact or self._is_due("metrics")):
            await self._look_at_metrics()
        waiting = self.metrics is not None and (self.metrics.requests_processing or 0) > 0
        if self.busy or first or stirred or waiting or (not shy and self._is_due("slots")):
            if shy:  # it may have fallen asleep since
                await self._look_at_props(may_sleep)
                if self._asleep():
                    return
            if "/slots" not in self.off or self._is_due("slots"):
                await self._look_at_slots()
                waiting = waiting and self.slots is None  # newer than the gauge
        self._settle(ServerState.BUSY if self.busy or waiting else ServerState.IDLE)

    @property
    def counts_drafts(self) -> bool:
        """Of builds from v0.4.0 on: their /metrics wakes nobody, and they answer during a prompt batch."""
        return self.metrics is not None and self.metrics.draft_tokens_total is not None

    def _asleep(self) -> bool:
        if self.props is None or not self.props.is_sleeping:
            return False
        self._settle(ServerState.SLEEPING)
        self.slots = ()
        return True

    async def _look_at_props(self, may_sleep: bool) -> None:
        self.props = await self._ask(self._http.props)
        self._again("props", SLEEP_EVERY if may_sleep or self.props.is_sleeping else PROPS_EVERY)

    async def _look_at_metrics(self) -> None:
        answer = await self._optional("/metrics", self._http.metrics)
        if answer is not None:
            self.metrics = answer
            self.metric_looks += 1
        self._again("metrics", METRICS_EVERY if answer is not None else PROPS_EVERY)

    async def _look_at_slots(self) -> None:
        answer = await self._optional("/slots", self._http.slots)
        if answer is not None:
            self.slots, self.slots_at = answer, self.answered_at
            self.looks += 1
        self._again("slots", IDLE_SLOTS_EVERY if answer is not None else PROPS_EVERY)

    async def _optional(self, endpoint: str, ask: Callable[[], Awaitable[T]]) -> T | None:
        """An endpoint that the server may have been started without."""
        try:
            answer = await self._ask(ask)
        except HttpProblem as problem:
            if problem.kind in _STATES:
                raise
            self.off[endpoint] = problem.reason
            return None
        self.off.pop(endpoint, None)
        return answer

    async def _ask(self, ask: Callable[[], Awaitable[T]]) -> T:
        self.asked_at = self._clock.monotonic()
        answer = await ask()
        self.answered_at = self._clock.monotonic()
        self.took = self.answered_at - self.asked_at
        return answer

    def _settle(self, state: ServerState) -> None:
        self.state, self.reason = state, None

    def _fail(self, problem: HttpProblem) -> None:
        self.state = _STATES.get(problem.kind, ServerState.FAILED)
        self.reason = problem.reason
        self.epoch += 1
        self.props = self.metrics = self.slots = None
        self.off.clear()
        self.hurry()
        self._again("retry", RETRY_EVERY.get(self.state, 0.0))

    def _is_due(self, what: str) -> bool:
        return self._clock.monotonic() >= self._due.get(what, 0.0)

    def _again(self, what: str, seconds: float) -> None:
        self._due[what] = self._clock.monotonic() + seconds - 0.05  # a tick a hair early is on time
