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
from halotui.sampler.throughput import Throughput, exact

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
        self._throughput = Throughput()
        self._epoch = 0
        self._looks = 0
        self._metric_looks = 0
        self._metrics_before: Metrics | None = None
        self._recent: deque[Request] = deque(maxlen=RECENT)
        self._since_start: tuple[Request, ...] = ()  # all that ended before we looked, by the counters
        self._last_of_slot: dict[int, Request] = {}

    async def gather(self, grace: float) -> None:
        """Ask the log and the server; what takes longer than ``grace`` seconds goes on by itself."""
        stirred = await self.tap.read() if self.tap is not None else False
        round_ = self._poller.start(may_sleep=self._may_sleep(), has_log=self._has_log, stirred=stirred)
        await asyncio.wait((round_,), timeout=grace)

    def lose_process(self) -> None:
        """It has gone, and what was known of it with it: see at once who answers now, if anybody."""
        if self.process is not None:
            self.process = None
            self._poller.hurry()

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
        if poller.epoch != self._epoch:
            self._forget()
        waiting = now - poller.asked_at if poller.asked_at is not None else 0.0
        state, reason = poller.state, poller.reason
        late = waiting > WAITS and state is not ServerState.DOWN
        if late:
            what = "no answer for" if poller.counts_drafts else "in a prompt batch for"
            state, reason = ServerState.WAITING, f"{what} {duration(waiting)}"
        up = state in (ServerState.IDLE, ServerState.BUSY)
        if up and self._blind:
            up, reason = False, "requests not watched: that would keep it awake; add --log-file"
        readings = poller.slots or ()
        speculative = any(slot.speculative for slot in readings) if readings else None
        finished = tap.requests() if tap is not None else ()
        if speculative:
            finished = tuple(map(_drafted_nothing, finished))
        looked = self._count(finished)
        rates: tuple[float | None, float | None] = (None, None)
        if up and poller.slots is not None and (looked or state is ServerState.IDLE):
            rates = self._throughput.rates(now)
        if self._metric_looks < poller.metric_looks and not self._has_log:
            finished = (*finished, *self._from_counters())
        self._metric_looks = poller.metric_looks
        self._remember(finished)
        facts = tap.facts if tap is not None else LogFacts()
        asked = process or _UNSEEN
        props = poller.props
        last = self._recent[-1] if self._recent else None
        drafts = self._recent or self._since_start
        accepted, coverage = draft_ratios(drafts) if speculative is not False else (None, None)
        deferred = poller.metrics.requests_deferred if poller.metrics is not None else None
        return Server(
            url=self.url,
            state=state,
            reason=reason,
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
            generation_tokens_per_second=rates[0],
            prompt_tokens_per_second=rates[1],
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

    @property
    def _has_log(self) -> bool:
        return self.tap is not None and self.tap.alive

    @property
    def _blind(self) -> bool:
        """It may sleep, so an idle one is not asked for its slots; its build's /metrics would wake it too."""
        poller = self._poller
        shy = self._may_sleep() and not poller.busy
        return shy and not self._has_log and not poller.counts_drafts

    def _forget(self) -> None:
        """Another process may answer from now on."""
        self._epoch, self._looks = self._poller.epoch, self._poller.looks
        self._throughput, self._metrics_before = Throughput(), None
        self._recent.clear()
        self._since_start = ()
        self._last_of_slot.clear()

    def _count(self, finished: Iterable[Request]) -> bool:
        """Tell the throughput what slots, log and counters say; True when the slots were looked at."""
        poller, throughput = self._poller, self._throughput
        by_counters = not self._has_log and exact(poller.metrics)
        looked = poller.looks > self._looks and poller.slots is not None
        self._looks = poller.looks
        if looked:
            throughput.look(poller.slots or (), poller.slots_at or 0.0, by_counters)
        throughput.finished(finished, past=self.tap is not None and self.tap.catching_up)
        whole = poller.asked_at is None  # counters and slots of the same round, not of two
        if by_counters and whole and poller.metrics is not None and poller.slots is not None:
            throughput.audit(poller.metrics, poller.slots)
        return looked

    def _slot(self, reading: SlotReading, now: float, *, live: bool) -> Slot:
        key = (reading.id, reading.task)
        phase = SlotPhase.IDLE
        if reading.processing:
            phase = SlotPhase.DECODE if reading.decoded else SlotPhase.PROMPT
        generated, prefilled = self._throughput.speeds(reading.id) if live else (None, None)
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
            elapsed_seconds=_age(now, self._throughput.began(key)),
        )

    def _from_counters(self) -> tuple[Request, ...]:
        """What ended between two looks at /metrics, summed: its slots are unknown."""
        before, self._metrics_before = self._metrics_before, self._poller.metrics
        now = self._poller.metrics
        if now is None or now.draft_tokens_total is None:
            return ()
        ended = self._between(before or Metrics(), now)
        if before is None:  # ended before we looked: nothing to report, and better than no figure
            self._since_start = ended
            return ()
        return ended

    def _between(self, before: Metrics, now: Metrics) -> tuple[Request, ...]:
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
