"""One engine other than llama-server over time: what it says and what its processes do."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from msgspec.structs import replace

from halotui.collectors import process_use, rpc_server
from halotui.collectors.engine_reading import Reading
from halotui.collectors.engines import ENGINES, RPC_SERVER, Engine
from halotui.collectors.llama_http import HttpKind, HttpProblem, LlamaHttp
from halotui.collectors.llama_models import child_url
from halotui.format import duration
from halotui.hosts import Host, LinkDown
from halotui.model import (
    Metrics,
    ModelState,
    ServedModel,
    Server,
    ServerProcess,
    ServerState,
    Source,
    SourceState,
    Unavailable,
)
from halotui.sampler.clock import Clock
from halotui.sampler.engine_looks import Look, Looks, Uses, whole
from halotui.sampler.log import ChildTap, LogTap
from halotui.sampler.standing import unforeseen
from halotui.sampler.worker import Worker

EVERY = 5.0  # seconds between looks
LOCKED_EVERY = 30.0  # a refused key may be a line in its log
ONCE = 60.0  # seconds that an answer to ``once`` is believed
WAITS = 2.0  # seconds without an answer before it is worth a word
LOOK_DEADLINE = 3.0  # of a look at processes
RUNNERS = 8  # processes of one engine, at most

_STATES = {
    HttpKind.REFUSED: ServerState.DOWN,
    HttpKind.LOADING: ServerState.LOADING,
    HttpKind.LOCKED: ServerState.LOCKED,
}
_AT_WORK = (ServerState.IDLE, ServerState.BUSY)
_HELD = (ModelState.LOADED, ModelState.LOADING)


def tracker(process: ServerProcess, host: Host, clock: Clock, client: LlamaHttp) -> EngineTracker:
    """For an engine other than llama.cpp. ``client`` is asked where the engine has an HTTP API."""
    if process.engine == RPC_SERVER:
        return RpcTracker(process, host, clock)
    return HttpTracker(process, host, clock, client, ENGINES[process.engine])


class EngineTracker(ABC):
    """Owns the deltas of one engine. ``gather`` asks, ``fold`` says what is known now."""

    title: str

    def __init__(self, process: ServerProcess, host: Host, clock: Clock) -> None:
        self.url = process.url
        self.process: ServerProcess | None = process
        self.tap: LogTap | ChildTap | None = None
        self._engine = process.engine
        self._host = host
        self._clock = clock
        self._worker = Worker("engine", host=host)
        self._task: asyncio.Task[None] | None = None
        self._due = 0.0
        self._asked_at: float | None = None  # start of the round in flight
        self._answered_at: float | None = None
        self._took: float | None = None
        self._state = ServerState.WAITING
        self._reason: str | None = "not asked yet"
        self._looks = Looks()
        self._asked_of: int | None = process.pid  # whose answers these are

    async def gather(self, grace: float) -> None:
        """Ask when it is due; what takes longer than ``grace`` seconds goes on by itself."""
        if self.tap is not None:
            await self.tap.read()
        if self.process is not None and self.process.pid != self._asked_of:  # started again
            self._asked_of = self.process.pid
            self._forget()
        if self._task is None or self._task.done():
            if self._clock.monotonic() < self._due:
                return
            self._task = asyncio.create_task(self._round())
        await asyncio.wait((self._task,), timeout=grace)

    def skip(self) -> None:
        self._looks.forget()

    def lose_process(self) -> None:
        """It has gone: see at once who answers now, if anybody."""
        if self.process is not None:
            self.process = None
            self._forget()

    async def reconnect(self, http: LlamaHttp) -> None:
        """It was started again with another key."""
        await http.aclose()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self.tap is not None:
            await self.tap.close()

    def fold(self) -> Server:
        """Everything known about the engine at this moment; call it once a frame."""
        now, process = self._clock.monotonic(), self.process
        waiting = now - self._asked_at if self._asked_at is not None else 0.0
        state, reason = self._state, self._reason
        late = waiting > WAITS and state is not ServerState.DOWN
        if late:
            state, reason = ServerState.WAITING, f"no answer for {duration(waiting)}"
        look = self._looks.last
        reading = look.reading if look is not None else Reading()
        models = self._models(reading.models, look.uses if look is not None else {})
        live = state in _AT_WORK
        metrics = reading.metrics if live else Metrics()
        filled, capacity = reading.kv_used_ratio if live else None, reading.kv_capacity_tokens
        return Server(
            url=self.url,
            state=state,
            engine=self._engine,
            address=process.address if process is not None else None,
            behind=process.behind if process is not None else None,
            unit=process.unit if process is not None else None,
            container=process.container if process is not None else None,
            reason=reason,
            pid=process.pid or None if process is not None else None,
            model=reading.model or _named(models) or (process.alias if process is not None else None),
            build=reading.build,
            uptime_seconds=_age(self._clock.wall(), process.started_time if process is not None else None),
            waiting_seconds=waiting if late else None,
            slots_busy=whole(metrics.requests_processing),
            slot_context_tokens=reading.context_tokens,
            requests_deferred=whole(metrics.requests_deferred),
            kv_capacity_tokens=capacity,
            kv_used_ratio=filled,
            kv_used_tokens=round(filled * capacity) if filled is not None and capacity else None,
            facts=reading.facts,
            models=models,
            generation_tokens_per_second=self._looks.rate("generation_tokens_total") if live else None,
            prompt_tokens_per_second=self._looks.rate("prompt_tokens_total") if live else None,
            last_generation_tokens_per_second=reading.generation_tokens_per_second,
            ttft_seconds=reading.ttft_seconds or self._looks.ttft(),
            log_path=self.tap.name if self.tap is not None else None,
            requests=self.tap.requests() if self.tap is not None else (),
            events=self.tap.events() if self.tap is not None else (),
            log=self.tap.lines() if self.tap is not None else (),
            **self._looks.drafts(),
        )

    def sources(self) -> Iterable[Source]:
        answering = self._state in (*_AT_WORK, ServerState.SLEEPING)
        yield Source(
            id=f"server {self.url}",
            name=self.title,
            state=SourceState.OK if answering else SourceState.NO_DATA,
            age_seconds=_age(self._clock.monotonic(), self._answered_at),
            duration_seconds=self._took,
            reason=None if answering else self._reason or "no answer yet",
        )
        if self.tap is not None:
            yield self.tap.source(self.url)

    @abstractmethod
    async def _look(self) -> tuple[Reading, Uses]:
        """Raises HttpProblem, Unavailable."""

    def _models(self, models: tuple[ServedModel, ...], uses: Uses) -> tuple[ServedModel, ...]:
        return models

    def _forget(self) -> None:
        """Another process may answer from now on."""
        self._looks.forget()
        self._due = 0.0

    async def _round(self) -> None:
        self._asked_at = began = self._clock.monotonic()
        self._due = began + EVERY - 0.05
        try:
            reading, uses = await self._look()
        except HttpProblem as problem:
            self._fail(_STATES.get(problem.kind, ServerState.FAILED), problem.reason)
        except Unavailable as trouble:
            ended = trouble.state is SourceState.ABSENT
            self._fail(ServerState.DOWN if ended else ServerState.WAITING, trouble.reason)
        except LinkDown:  # nothing is known of it, and nothing new
            self._looks.forget()
        except Exception as error:  # must not end in a task that nobody asks
            self._fail(ServerState.FAILED, unforeseen(error).reason)
        else:
            now = self._clock.monotonic()
            self._looks.add(Look(now, reading, uses))
            self._answered_at, self._took = now, now - began
            self._state, self._reason = self._standing(reading)
        finally:
            self._asked_at = None

    def _standing(self, reading: Reading) -> tuple[ServerState, str | None]:
        if reading.sleeping:
            return ServerState.SLEEPING, reading.reason
        busy = reading.busy if reading.busy is not None else self._looks.computes()
        if busy:
            return ServerState.BUSY, reading.reason
        held = sum(model.state in _HELD for model in reading.models)
        if reading.model is not None or reading.facts is not None or reading.reason:
            return ServerState.IDLE, reading.reason
        if not held:
            return ServerState.IDLE, "no model loaded"
        if busy is None:
            return ServerState.IDLE, f"{held} loaded; it does not tell whether it is at work"
        return ServerState.IDLE, None

    def _fail(self, state: ServerState, reason: str) -> None:
        self._state, self._reason = state, reason
        self._looks.forget()
        if state is ServerState.LOCKED:
            self._due += LOCKED_EVERY - EVERY


class RpcTracker(EngineTracker):
    """llama.cpp's rpc-server: its process is all there is to ask."""

    title = "rpc-server"

    async def _look(self) -> tuple[Reading, Uses]:
        process = self.process
        if process is None:
            raise Unavailable(SourceState.ABSENT, "its process has ended")
        port = _port(process.address or process.url)
        reading, use = await self._worker.call(
            lambda: rpc_server.read(self._host, process.pid, port), LOOK_DEADLINE
        )
        known = self._looks.last.uses.get(process.pid) if self._looks.last is not None else None
        if known is not None and known.started != use.started:  # its pid is another's now
            raise Unavailable(SourceState.ABSENT, "its process has ended")
        return reading, {process.pid: use}


class HttpTracker(EngineTracker):
    """An engine with an API of its own."""

    def __init__(
        self, process: ServerProcess, host: Host, clock: Clock, client: LlamaHttp, engine: Engine
    ) -> None:
        super().__init__(process, host, clock)
        self.title = engine.title
        self._how = engine
        self._http = client
        self._kept: dict[str, tuple[float, bytes | HttpProblem]] = {}
        self._runners: tuple[int, ...] = ()
        self._runners_of: tuple[str, ...] = ()  # the models that were loaded when they were looked for

    async def reconnect(self, http: LlamaHttp) -> None:
        old, self._http = self._http, http
        self._forget()
        await old.aclose()

    async def close(self) -> None:
        await super().close()
        await self._http.aclose()

    async def __call__(self, path: str) -> bytes:
        return await self._http.get(path)

    async def once(self, path: str) -> bytes:
        """A refusal is kept as well as an answer; no connection is neither."""
        now = self._clock.monotonic()
        kept = self._kept.get(path)
        if kept is None or now >= kept[0]:
            answer: bytes | HttpProblem
            try:
                answer = await self._http.get(path)
            except HttpProblem as problem:
                if problem.kind not in (HttpKind.OFF, HttpKind.FAILED, HttpKind.LOCKED):
                    raise
                answer = problem
            kept = self._kept[path] = now + ONCE, answer
        if isinstance(kept[1], HttpProblem):
            raise HttpProblem(kept[1].kind, kept[1].reason)
        return kept[1]

    async def _look(self) -> tuple[Reading, Uses]:
        process = self.process
        if process is not None and process.unreachable:
            raise Unavailable(SourceState.DENIED, process.unreachable)
        try:
            reading = await self._how.read(self)
        except HttpProblem as problem:
            starting = self._how.starts_silent and process is not None and self._answered_at is None
            if problem.kind is HttpKind.REFUSED and starting:
                raise HttpProblem(HttpKind.LOADING, "its process runs, and does not listen yet") from None
            raise
        return reading, await self._uses(reading)

    async def _uses(self, reading: Reading) -> Uses:
        """Of the processes that hold its models, where it is known which they are."""
        process = self.process
        loaded = tuple(model.id for model in reading.models if model.state in _HELD)
        if process is None or not process.pid or not loaded or not self._how.runners:
            return {}
        again = loaded != self._runners_of
        with suppress(Unavailable):
            uses = await self._worker.call(lambda: self._read_uses(process.pid, again), LOOK_DEADLINE)
            self._runners, self._runners_of = tuple(uses), loaded if uses else ()
            return uses
        return {}

    def _read_uses(self, parent: int, again: bool) -> Uses:
        """In the worker's thread."""
        pids: Sequence[int] = self._runners
        if again or not pids:
            found = self._host.processes(self._how.runners, ())
            pids = [process.pid for process in found if process.parent == parent][:RUNNERS]
        uses: Uses = {}
        for pid in pids:
            with suppress(Unavailable):
                uses[pid] = process_use.read(self._host, pid)
        return uses

    def _models(self, models: tuple[ServedModel, ...], uses: Uses) -> tuple[ServedModel, ...]:
        held = [model for model in models if model.state in _HELD]
        if self._how.parent:
            return tuple(
                replace(model, url=child_url(self.url, model.id)) if model in held else model
                for model in models
            )
        if len(held) == 1 and len(uses) == 1 and held[0].pid is None:
            return tuple(replace(m, pid=next(iter(uses))) if m is held[0] else m for m in models)
        return models

    def _forget(self) -> None:
        super()._forget()
        self._kept.clear()
        self._runners, self._runners_of = (), ()
        self._answered_at = None

    def _fail(self, state: ServerState, reason: str) -> None:
        super()._fail(state, reason)
        if state is ServerState.DOWN:
            self._kept.clear()


def _named(models: Sequence[ServedModel]) -> str | None:
    held = [model.id for model in models if model.state is ModelState.LOADED]
    return f"{held[0]} +{len(held) - 1}" if len(held) > 1 else held[0] if held else None


def _port(url: str) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError:
        return None


def _age(now: float, then: float | None) -> float | None:
    return max(0.0, now - then) if then is not None else None
