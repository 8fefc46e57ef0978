"""One llama-server over time: the answers, the log and the process folded into one ``Server``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from halotui import kv
from halotui.collectors.llama_http import LlamaHttp
from halotui.format import duration
from halotui.model import (
    LogFacts,
    Request,
    Server,
    ServerFacts,
    ServerProcess,
    ServerState,
    Slot,
    SlotPhase,
    Source,
    SourceState,
)
from halotui.sampler.clock import Clock
from halotui.sampler.facts import FactBook, Known
from halotui.sampler.log import ChildTap, LogTap, no_log
from halotui.sampler.polling import Poller
from halotui.sampler.requests import CounterBook, RequestBook
from halotui.sampler.slots import SlotWatch, age, phase_of, slot_of
from halotui.sampler.speculation import DraftFigures, Gained, SpecBook
from halotui.sampler.throughput import Throughput, exact

WAITS = 2.0  # seconds without an answer before it is worth a word
HOLD = 2.5  # seconds that a rate stands without another look
HEALTHY = 25.0  # seconds that a word of /health counts
GONE = Known({}, ServerFacts(), {})  # of a server that is down
_UNSEEN = ServerProcess(pid=0, url="")  # a server whose process cannot be seen: nothing is known of it


class _Life:
    """What is counted of one process: another one begins at nothing."""

    def __init__(self, poller: Poller) -> None:
        self.epoch = poller.epoch
        self.looks = poller.looks  # those that were counted
        self.metric_looks = poller.metric_looks
        self.throughput = Throughput()
        self.watch = SlotWatch()
        self.requests = RequestBook()
        self.counters = CounterBook()
        self.drafts = SpecBook()
        self.rates: tuple[float | None, float | None] = (None, None)
        self.rated_at = float("-inf")
        self.decode_calls: float | None = None
        self.decoded_at = 0.0  # when their count was last seen to grow


class ServerTracker:
    """Owns the deltas of one server. ``gather`` asks, ``fold`` says what is known now."""

    def __init__(self, url: str, poller: Poller, clock: Clock) -> None:
        self.url = url
        self.process: ServerProcess | None = None
        self.tap: LogTap | ChildTap | None = None
        self._poller = poller
        self._clock = clock
        self._facts = FactBook()
        self._gained = Gained()
        self._life = _Life(poller)

    async def gather(self, grace: float) -> None:
        """Ask the log and the server; what takes longer than ``grace`` seconds goes on by itself."""
        tap = self.tap
        stirred = tap is not None and await tap.read() and tap.at_work  # old builds log each of our looks
        round_ = self._poller.start(may_sleep=self._may_sleep(), has_log=self._has_log, stirred=stirred)
        await asyncio.wait((round_,), timeout=grace)

    def skip(self) -> None:
        """Its next look does not follow from the one before."""
        self._life.throughput.skip()
        self._life.rates = (None, None)

    def lose_process(self) -> None:
        """It has gone, and what was known of it with it: see at once who answers now, if anybody."""
        if self.process is not None:
            self.process = None
            self._poller.hurry()

    async def reconnect(self, http: LlamaHttp) -> None:
        """The server was started again with another key, or at another address."""
        await self._poller.reconnect(http)

    async def close(self) -> None:
        await self._poller.close()
        if self.tap is not None:
            await self.tap.close()

    def fold(self) -> Server:
        """Everything known about the server at this moment; call it once a frame."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        poller, tap = self._poller, self.tap
        log = tap.requests() if tap is not None else ()
        ended: tuple[Request, ...] = ()
        if poller.epoch != self._life.epoch or self._counts_anew():
            ended = self._die(log, now, wall)
            log = ()
        life = self._life
        waiting = now - poller.asked_at if poller.asked_at is not None else 0.0
        late = waiting > WAITS and poller.state is not ServerState.DOWN
        state, reason, up = self._state(waiting if late else None)
        readings = poller.slots or ()
        speculative = self._speculative()
        looked = self._look(log)
        finished = (*ended, *self._finished(log, now, wall, speculative))
        if up and poller.slots is not None and (looked or state is ServerState.IDLE):
            life.rates, life.rated_at = life.throughput.rates(now), now
        rates = life.rates if up and now - life.rated_at <= HOLD else (None, None)
        drafts = self._drafts(speculative)
        process = self.process or _UNSEEN
        known = GONE  # what its log told is of a process that has ended
        if state is not ServerState.DOWN or self.process is not None:
            known = self._facts.know(self.process, poller.props, poller.meta, readings, self._log_facts)
        capacity = known.server.get("kv_capacity_tokens")
        held = kv.used_tokens(readings)
        deferred = poller.metrics.requests_deferred if poller.metrics is not None else None
        last = life.requests.last
        return Server(
            **known.server,
            url=self.url,
            state=state,
            engine=process.engine,
            address=process.address,
            behind=process.behind,
            unit=process.unit,
            container=process.container,
            reason=reason,
            pid=process.pid or None,
            uptime_seconds=age(wall, process.started_time),
            waiting_seconds=waiting if late else None,
            slots_asked=process.slots_asked,
            slots_busy=sum(slot.processing for slot in readings) if poller.slots is not None and up else None,
            kv_used_tokens=held,
            kv_used_ratio=held / capacity if held is not None and capacity and held <= capacity else None,
            facts=known.facts,
            provenance=known.provenance,
            facts_hidden=known.hidden,
            speculative=speculative,
            requests_deferred=int(deferred) if deferred is not None and up else None,
            generation_tokens_per_second=rates[0],
            prompt_tokens_per_second=rates[1],
            last_generation_tokens_per_second=last.generation_tokens_per_second if last else None,
            last_prompt_tokens_per_second=last.prompt_tokens_per_second if last else None,
            draft_acceptance_ratio=drafts.acceptance,
            draft_coverage_ratio=drafts.coverage,
            draft_mean_tokens=drafts.mean_tokens,
            draft_gained_tokens=drafts.gained,
            draft_accepted_per_position=drafts.per_position,
            draft_gain_ratio=drafts.gain,
            draft_gain_error_ratio=drafts.gain_error,
            ttft_seconds=life.requests.ttft_seconds,
            still_seconds=self._still_seconds(now),
            log_path=tap.name if tap is not None else None,
            slots=tuple(self._slots(now, held, live=up)),
            requests=finished,
            events=tap.events() if tap is not None else (),
            log=tap.lines() if tap is not None else (),
        )

    def sources(self) -> Iterable[Source]:
        """How its HTTP endpoints and its log stand."""
        now, poller = self._clock.monotonic(), self._poller
        late = poller.asked_at is not None and now - poller.asked_at > WAITS
        answering = poller.props is not None and not late
        yield Source(
            id=f"server {self.url}",
            name="llama-server",
            state=SourceState.OK if answering else SourceState.NO_DATA,
            age_seconds=age(now, poller.answered_at),
            duration_seconds=poller.took,
            reason=None if answering else poller.reason or "no answer yet",
        )
        for endpoint, reason in poller.off.items():
            flag = "--metrics" if endpoint == "/metrics" else "--slots"
            yield Source(
                id=f"{endpoint} {self.url}",
                state=SourceState.NO_DATA,
                reason=reason,
                hint=f"start the server with {flag}",
            )
        if self.tap is not None:
            yield self.tap.source(self.url)
        elif self.process is not None and self.process.behind is None:
            yield no_log(self.url, self.process.stderr_to)

    @property
    def rated_at(self) -> float:
        """Monotonic seconds of the last rate that was reckoned; one that is told later is a repetition."""
        return self._life.rated_at

    # --- what it is

    @property
    def _has_log(self) -> bool:
        return self.tap is not None and self.tap.alive

    @property
    def _log_facts(self) -> LogFacts | None:
        """None where no log is followed; one that can no longer be read has told what it told."""
        if self.tap is None:
            return None
        facts = self.tap.facts
        return facts if self.tap.alive or facts.model_loaded is not None else None

    def _may_sleep(self) -> bool:
        """True unless it is known that it cannot: by its command line, or by a build that never sleeps."""
        if self.process is not None:
            return (self.process.sleep_idle_seconds or 0) > 0
        props = self._poller.props
        return props is not None and props.is_sleeping is not None

    @property
    def _blind(self) -> bool:
        """It may sleep, so an idle one is not asked for its slots; its build's /metrics would wake it too."""
        poller = self._poller
        shy = self._may_sleep() and not poller.busy
        return shy and not self._has_log and not poller.counts_drafts

    def _state(self, waiting: float | None) -> tuple[ServerState, str | None, bool]:
        """The state, why, and whether what is known is of now."""
        poller = self._poller
        state, reason = poller.state, poller.reason
        if waiting is not None:
            what = "in a prompt batch for" if self._waits_its_turn else "no answer for"
            state, reason = ServerState.WAITING, f"{what} {duration(waiting)}"
        if state not in (ServerState.IDLE, ServerState.BUSY):
            return state, reason, False
        if self._blind:
            return state, "requests not watched: that would keep it awake; add --log-file", False
        return state, reason, True

    @property
    def _waits_its_turn(self) -> bool:
        """In older builds a question waits for the prompt batch in hand. The very first ones do not."""
        poller = self._poller
        if poller.props is None or poller.counts_drafts:
            return False
        return poller.metrics is not None or poller.props.is_sleeping is None  # else its age is not known

    def _speculative(self) -> bool | None:
        """Whether speculation came up: /slots knows, and where it is off the log may have told."""
        if self._poller.slots:
            return any(slot.speculative for slot in self._poller.slots)
        hidden = self.tap is not None and "/slots" in self._poller.off
        return self.tap.server.speculative if self.tap is not None and hidden else None

    # --- what it does

    def _counts_anew(self) -> bool:
        """Another process answers, started so fast that no question failed: its counters tell."""
        before, metrics = self._life.decode_calls, self._poller.metrics
        now = metrics.decode_calls_total if metrics is not None else None
        if before is None or now is None or now >= before:
            return False
        self._poller.meta = None  # it may serve another model
        self._poller.hurry()
        return True

    def _die(self, log: tuple[Request, ...], now: float, wall: float) -> tuple[Request, ...]:
        """What the log told till now is the old process's, whose tasks are numbered like the next one's."""
        ended = self._life.requests.finished(log, now, wall, has_log=False, speculative=None)
        self._gained.count(ended, self.process)
        looks, metric_looks = self._life.looks, self._life.metric_looks
        self._life = _Life(self._poller)
        self._life.looks, self._life.metric_looks = looks, metric_looks  # what came since is of the next one
        return ended

    def _look(self, log: tuple[Request, ...]) -> bool:
        """Tell the books what slots, log and counters say; True when the slots were looked at."""
        poller, life, tap = self._poller, self._life, self.tap
        by_counters = not self._has_log and exact(poller.metrics)
        slots, at = poller.slots, poller.slots_at or 0.0
        looked = poller.looks > life.looks and slots is not None
        life.looks = poller.looks
        if looked and slots is not None:
            life.throughput.look(slots, at, by_counters)
            life.watch.look(slots, at, tap.progress if tap is not None else _untold)
            life.requests.look(slots, at)
        if (
            tap is not None and not tap.catching_up
        ):  # else it ended before we looked, maybe in another process
            life.throughput.finished(log)
        whole = poller.asked_at is None  # counters and slots of the same round, not of two
        if by_counters and whole and poller.metrics is not None and slots is not None:
            life.throughput.audit(poller.metrics, slots)
        calls = poller.metrics.decode_calls_total if poller.metrics is not None else None
        if calls != life.decode_calls:
            life.decode_calls, life.decoded_at = calls, poller.answered_at or 0.0
        return looked

    def _finished(
        self, log: tuple[Request, ...], now: float, wall: float, speculative: bool | None
    ) -> tuple[Request, ...]:
        """The requests that ended since the frame before, told to whoever reckons with them."""
        poller, life, tap = self._poller, self._life, self.tap
        ended = life.requests.finished(log, now, wall, has_log=self._has_log, speculative=speculative)
        if life.metric_looks < poller.metric_looks and not self._has_log:
            ended = (*ended, *life.counters.look(poller.metrics, bool(speculative)))
        life.metric_looks = poller.metric_looks
        if ended:
            life.drafts.finished(
                ended,
                began=life.requests.began(wall - now),
                slots=len(poller.slots) if poller.slots else None,
                kind=self._facts.known.server.get("spec_type"),
                totals=tap.server.draft if tap is not None else None,
            )
            self._gained.count(ended, self.process)
        return ended

    def _drafts(self, speculative: bool | None) -> DraftFigures:
        if speculative is False:
            return DraftFigures()
        life, tap = self._life, self.tap
        return life.drafts.figures(
            self._poller.metrics,
            tap.server.draft if tap is not None else None,
            counted=self._gained.tokens(self.process, self._log_facts) if speculative else None,
            since_start=life.counters.since_start,
        )

    def _slots(self, now: float, held: int | None, *, live: bool) -> Iterator[Slot]:
        life, tap = self._life, self.tap
        fresh = live and now - (self._poller.slots_at or 0.0) <= HOLD
        for reading in self._poller.slots or ():
            prompting = phase_of(reading) is SlotPhase.PROMPT
            yield slot_of(
                reading,
                now,
                life.watch,
                life.throughput,
                live=fresh,
                held=held,
                progress=tap.progress((reading.id, reading.task)) if tap is not None and prompting else None,
                last=life.drafts.last_of(reading.id),
            )

    def _still_seconds(self, now: float) -> float | None:
        """How long ago anything moved of a server that has work. One that answers nothing, not even /health,
        may be slow, or gone, rather than stuck: None."""
        life, poller = self._life, self._poller
        moved = life.watch.moved_at
        if "/slots" in poller.off and poller.metrics is not None and poller.metrics.requests_processing:
            moved = life.decoded_at  # no slot is shown: the count of passes tells
        if moved is None:
            return None
        if moved == poller.slots_at and now - moved <= HOLD:
            return 0.0
        answered = poller.answered_at is not None and now - poller.answered_at <= HOLD
        healthy = poller.healthy_at is not None and now - poller.healthy_at <= HEALTHY
        if not (answered or healthy):
            return None
        told = self.tap.moved_at if self.tap is not None else None
        return max(0.0, now - max(moved, life.decoded_at, told or moved))


def _untold(_: object) -> None:
    """No log tells how far a prompt has come."""
