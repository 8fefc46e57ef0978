"""One llama-server over time: the answers, the log and the process folded into one ``Server``."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from msgspec.structs import replace

from halotui.collectors.llama_http import LlamaHttp
from halotui.format import duration
from halotui.model import (
    LogFacts,
    Metrics,
    Request,
    Server,
    ServerProcess,
    ServerState,
    Slot,
    SlotPhase,
    SlotReading,
    Source,
    SourceState,
)
from halotui.sampler.clock import Clock
from halotui.sampler.log import LogTap
from halotui.sampler.polling import Poller
from halotui.sampler.rates import CounterCheck, Key, Ledger

WAITS = 2.0  # seconds without an answer before it is worth a word
_UNSEEN = ServerProcess(pid=0, url="")  # a server whose process cannot be seen: nothing is known of it
RECENT = 4  # finished requests that the draft figures are taken over


class ServerTracker:
    """Owns the deltas of one server. ``gather`` asks, ``fold`` says what is known now."""

    def __init__(self, url: str, poller: Poller, clock: Clock) -> None:
        self.url = url
        self.process: ServerProcess | None = None
        self.tap: LogTap | None = None
        self._poller = poller
        self._clock = clock
        self._generation = Ledger()
        self._prompt = Ledger()
        self._check = CounterCheck()
        self._looks = 0
        self._metric_looks = 0
        self._slot_rates: dict[int, tuple[float | None, float | None]] = {}
        self._slots_before: tuple[float, dict[int, SlotReading]] | None = None
        self._metrics_before: Metrics | None = None
        self._started: dict[Key, float] = {}
        self._steps: dict[Key, tuple[float, float | None]] = {}  # when a slot's last batch was seen, its rate
        self._recent: deque[Request] = deque(maxlen=RECENT)
        self._last_of_slot: dict[int, Request] = {}
        self._rates: tuple[float | None, float | None] = (None, None)

    async def gather(self, grace: float) -> None:
        """Ask the log and the server; what takes longer than ``grace`` seconds goes on by itself."""
        stirred = await self.tap.read() if self.tap is not None else False
        has_log = self.tap is not None and self.tap.alive
        round_ = self._poller.start(may_sleep=self._may_sleep(), has_log=has_log, stirred=stirred)
        await asyncio.wait((round_,), timeout=grace)

    async def reconnect(self, http: LlamaHttp) -> None:
        """The server was started again with another key."""
        await self._poller.reconnect(http)

    async def close(self) -> None:
        await self._poller.close()
        if self.tap is not None:
            await self.tap.close()

    def _may_sleep(self) -> bool:
        """True unless it is known that it cannot: by its command line, or by a build that never sleeps."""
        if self.process is not None:
            return (self.process.sleep_idle_seconds or 0) > 0
        props = self._poller.props
        return props is not None and props.is_sleeping is not None

    def fold(self) -> Server:
        """Everything known about the server at this moment; call it once a frame."""
        now = self._clock.monotonic()
        poller, process, tap = self._poller, self.process, self.tap
        waiting = now - poller.asked_at if poller.asked_at is not None else 0.0
        state, reason = poller.state, poller.reason
        late = waiting > WAITS and state is not ServerState.DOWN
        if late:
            what = "no answer for" if poller.counts_drafts else "in a prompt batch for"
            state, reason = ServerState.WAITING, f"{what} {duration(waiting)}"
        readings = poller.slots or ()
        speculative = any(slot.speculative for slot in readings) if readings else None
        finished = tap.requests() if tap is not None else ()
        if speculative:
            finished = tuple(map(_drafted_nothing, finished))
        self._count(finished)
        up = state in (ServerState.IDLE, ServerState.BUSY) and not late
        if poller.looks > self._looks or (up and state == ServerState.IDLE):
            prompting = any(slot.processing and not slot.decoded for slot in readings)
            self._rates = (self._generation.rate(now), self._prompt.rate(now, hold=prompting))
        if not up or poller.slots is None:
            self._rates = (None, None)
        if self._metric_looks < poller.metric_looks and not (tap is not None and tap.alive):
            finished = (*finished, *self._from_counters())
        self._looks, self._metric_looks = poller.looks, poller.metric_looks
        self._remember(finished)
        facts = tap.facts if tap is not None else LogFacts()
        asked = process or _UNSEEN
        props = poller.props
        last = self._recent[-1] if self._recent else None
        accepted, coverage = draft_ratios(self._recent) if speculative is not False else (None, None)
        deferred = poller.metrics.requests_deferred if poller.metrics is not None else None
        return Server(
            url=self.url,
            state=state,
            reason=reason or self._blind(up),
            pid=asked.pid or None,
            model=(props and props.model) or asked.alias or asked.model_path,
            model_path=(props and props.model_path) or asked.model_path,
            draft_model=asked.draft_model,
            build=(props and props.build) or facts.build,
            backend=facts.backend or asked.backend,
            uptime_seconds=_age(self._clock.wall(), asked.started_time),
            waiting_seconds=waiting if late else None,
            slots_total=(props and props.total_slots) or facts.slots_total,
            slots_asked=asked.slots_asked,
            slots_busy=sum(slot.processing for slot in readings) if poller.slots is not None and up else None,
            slot_context_tokens=readings[0].context_tokens if readings else facts.slot_context_tokens,
            kv_unified=facts.kv_unified if facts.kv_unified is not None else asked.kv_unified,
            kv_cache_bytes=facts.kv_cache_bytes,
            speculative=speculative,
            spec_type=asked.spec_type,
            requests_deferred=int(deferred) if deferred is not None and up else None,
            generation_tokens_per_second=self._rates[0],
            prompt_tokens_per_second=self._rates[1],
            last_generation_tokens_per_second=last.generation_tokens_per_second if last else None,
            last_prompt_tokens_per_second=last.prompt_tokens_per_second if last else None,
            draft_acceptance_ratio=accepted,
            draft_coverage_ratio=coverage,
            log_path=tap.path if tap is not None else None,
            slots=tuple(self._slot(slot, now, live=up) for slot in readings),
            requests=tuple(finished),
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
            age_seconds=_age(now, poller.answered_at),
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

    def _blind(self, up: bool) -> str | None:
        """Why the requests of a server that may sleep are not seen."""
        if up and self._may_sleep() and self._poller.metrics is None and self.tap is None:
            return "requests not watched: asking /slots would keep it awake; add --metrics or --log-file"
        return None

    def _count(self, finished: Iterable[Request]) -> None:
        """Bring both ledgers up to what slots and log say."""
        poller = self._poller
        new_look = poller.looks > self._looks and poller.slots is not None
        if new_look:
            self._look(poller.slots or (), poller.slots_at or 0.0, first=self._looks == 0)
        history = self.tap is not None and self.tap.catching_up  # ended before we came: known, not counted
        for request in finished:
            key = (request.slot, request.task)
            for ledger, tokens in (
                (self._generation, request.generation_tokens),
                (self._prompt, request.prompt_tokens),
            ):
                if tokens is not None:
                    (ledger.mark if history else ledger.up_to)(key, tokens)
        no_log = self.tap is None or not self.tap.alive
        if new_look and no_log and poller.metrics is not None and poller.slots is not None:
            self._generation.add(self._check.missing(poller.metrics, poller.slots, self._generation.total))

    def _look(self, slots: tuple[SlotReading, ...], at: float, first: bool) -> None:
        before_at, before = self._slots_before or (at, {})
        elapsed = at - before_at
        self._slot_rates = {}
        started: dict[Key, float] = {}
        for slot in slots:
            key = (slot.id, slot.task)
            pairs = ((self._generation, slot.decoded), (self._prompt, slot.prompt_processed))
            new: list[int | None] = []
            for ledger, tokens in pairs:
                if first and tokens is not None:
                    ledger.mark(key, tokens)
                new.append(ledger.up_to(key, tokens) if tokens is not None and not first else None)
            old = before.get(slot.id)
            same = old is not None and old.task == slot.task and old.processing and elapsed > 0
            if slot.processing:
                started[key] = self._started.get(key, at)
            if same and slot.processing:
                generated = new[0] / elapsed if new[0] is not None else None
                self._slot_rates[slot.id] = (generated, self._step(key, new[1], at, started[key]))
        self._started = started
        self._slots_before = (at, {slot.id: slot for slot in slots})

    def _step(self, key: Key, tokens: int | None, at: float, began: float) -> float | None:
        """Prefill speed of one slot: its last batch over the time that took, until the next batch is done."""
        since, rate = self._steps.get(key, (began, None))
        if tokens and at > since:
            rate = tokens / (at - since)
            self._steps = {key: (at, rate)} | {k: v for k, v in self._steps.items() if k in self._started}
        return rate

    def _slot(self, reading: SlotReading, now: float, *, live: bool) -> Slot:
        key = (reading.id, reading.task)
        phase = SlotPhase.IDLE
        if reading.processing:
            phase = SlotPhase.DECODE if reading.decoded else SlotPhase.PROMPT
        generated, prefilled = self._slot_rates.get(reading.id, (None, None)) if live else (None, None)
        last = self._last_of_slot.get(reading.id)
        accepted, coverage = draft_ratios((last,)) if last is not None else (None, None)
        used = reading.tokens
        progress = self.tap.progress(key) if self.tap is not None and phase == SlotPhase.PROMPT else None
        return Slot(
            id=reading.id,
            phase=phase,
            task=reading.task,
            context_tokens=reading.context_tokens,
            used_tokens=used,
            used_ratio=used / reading.context_tokens if used is not None and reading.context_tokens else None,
            prompt_processed_tokens=reading.prompt_processed,
            prompt_cached_tokens=reading.prompt_cached,
            prompt_progress_ratio=progress,
            generated_tokens=reading.decoded if reading.processing else None,
            remaining_tokens=reading.remaining if reading.processing else None,
            generation_tokens_per_second=generated if phase == SlotPhase.DECODE else None,
            prompt_tokens_per_second=prefilled if phase == SlotPhase.PROMPT else None,
            speculative=reading.speculative,
            draft_acceptance_ratio=accepted if reading.speculative else None,
            draft_coverage_ratio=coverage if reading.speculative else None,
            elapsed_seconds=_age(now, self._started.get(key)),
        )

    def _from_counters(self) -> Iterable[Request]:
        """What ended between two looks at /metrics, summed: its slots are unknown."""
        before, self._metrics_before = self._metrics_before, self._poller.metrics
        now = self._poller.metrics
        if before is None or now is None or now.draft_tokens_total is None:
            return ()
        generated, drafted, accepted = (
            (getattr(now, key) or 0.0) - (getattr(before, key) or 0.0)
            for key in ("generation_tokens_total", "draft_tokens_total", "draft_accepted_total")
        )
        if generated <= 0 or drafted < 0 or accepted < 0:
            return ()
        speculative = any(slot.speculative for slot in self._poller.slots or ())
        return (
            Request(
                source="metrics",
                generation_tokens=int(generated),
                draft_tokens=int(drafted) if speculative else None,
                draft_accepted_tokens=int(accepted) if speculative else None,
            ),
        )

    def _remember(self, finished: Iterable[Request]) -> None:
        for request in finished:
            self._recent.append(request)
            if request.slot is not None:
                self._last_of_slot[request.slot] = request


def draft_ratios(requests: Iterable[Request]) -> tuple[float | None, float | None]:
    """Acceptance (accepted ÷ drafted) and coverage (drafted ÷ generated) over requests; None: unknown.

    Nothing drafted while speculation is on is coverage 0, and no acceptance at all.
    """
    known = [r for r in requests if r.draft_tokens is not None and r.generation_tokens]
    drafted = sum(r.draft_tokens or 0 for r in known)
    generated = sum(r.generation_tokens or 0 for r in known)
    accepted = sum(r.draft_accepted_tokens or 0 for r in known)
    return (accepted / drafted if drafted else None, drafted / generated if generated else None)


def _drafted_nothing(request: Request) -> Request:
    """Speculation is on and the log has no draft line: none was drafted, the fault that hides itself."""
    if request.draft_tokens is not None:
        return request
    return replace(request, draft_tokens=0, draft_accepted_tokens=0)


def _age(now: float, then: float | None) -> float | None:
    return max(0.0, now - then) if then is not None else None
