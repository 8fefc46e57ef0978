"""A router: a llama-server that starts others, one for each model.

It is asked for its list of models alone: whatever names a model could load it, or throw out another.
Its children are servers like any other, on ports of their own, and are watched there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec.structs import replace

from halotui.collectors.llama_http import HttpProblem, LlamaHttp
from halotui.collectors.llama_models import Offered, child_url
from halotui.format import duration
from halotui.hosts import LinkDown
from halotui.model import (
    ModelState,
    ServedModel,
    Server,
    ServerProcess,
    ServerState,
    Source,
    SourceState,
)
from halotui.sampler.clock import Clock
from halotui.sampler.polling import RETRY_EVERY, STATES

if TYPE_CHECKING:
    from halotui.sampler.log import ChildTap, LogTap

LIST_EVERY = 5.0  # seconds
WAITS = 2.0  # without an answer before it is worth a word
_UNSEEN = ServerProcess(pid=0, url="")
_IN_MEMORY = (ModelState.LOADED, ModelState.SLEEPING)


class RouterTracker:
    """``offered``: its models, as of look number ``looks``. ``plain``: it is no router after all."""

    def __init__(self, url: str, http: LlamaHttp, clock: Clock) -> None:
        self.url = url
        self.process: ServerProcess | None = None
        self.tap: LogTap | ChildTap | None = None
        self.offered: tuple[Offered, ...] = ()
        self.looks = 0
        self.plain = False
        self.tabs: set[str] = set()  # of its models; this and the next are told by who follows them
        self.working = False  # one of them is at work
        self.deaf: set[str] = set()  # addresses of its list that lead to nobody here, as behind a tunnel
        self._http = http
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._due_at = 0.0
        self._state = ServerState.WAITING
        self._reason: str | None = "not asked yet"
        self._met = False  # it has said that it is a router
        self._build: str | None = None
        self._asked_at: float | None = None
        self._answered_at: float | None = None
        self._took: float | None = None

    async def gather(self, grace: float) -> None:
        if self.tap is not None:
            await self.tap.read()
        if self._task is None or self._task.done():
            if self._clock.monotonic() < self._due_at:
                return
            self._task = asyncio.create_task(self._round())
        await asyncio.wait((self._task,), timeout=grace)

    def hurry(self) -> None:
        """Something of it has come or gone: its list is due."""
        self._due_at = 0.0

    def skip(self) -> None:
        """It has no rates."""

    def lose_process(self) -> None:
        if self.process is not None:
            self.process = None
            self.hurry()

    async def reconnect(self, http: LlamaHttp) -> None:
        old, self._http = self._http, http
        self._due_at, self._met = 0.0, False
        self.deaf.clear()
        await old.aclose()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        await self._http.aclose()
        if self.tap is not None:
            await self.tap.close()

    def child(self, model: Offered) -> ServerProcess | None:
        """The server of a model that has one, as far as the list tells; None where it cannot be reached."""
        if model.child is None:
            return None
        own, child = urlsplit(self._address), urlsplit(model.child.url)
        host = own.hostname or ""
        if _loopback(child.hostname or ""):
            if not self._here(host):
                return None  # it answers on the router's machine alone
            host = "127.0.0.1"
        address = f"http://{f'[{host}]' if ':' in host else host}:{child.port}"
        if address in self.deaf:
            return None
        return replace(
            model.child,
            url=child_url(self.url, model.id),
            address=address,
            behind=self.url,
            alias=model.id,
        )

    def holds(self, url: str) -> bool:
        """Whether it says that the model known by that URL is in memory."""
        return any(child_url(self.url, one.id) == url for one in self.offered if one.state in _IN_MEMORY)

    def fold(self) -> Server:
        now, asked = self._clock.monotonic(), self.process or _UNSEEN
        waiting = now - self._asked_at if self._asked_at is not None else 0.0
        state, reason = self._state, self._reason
        if waiting > WAITS and state is not ServerState.DOWN:
            state, reason = ServerState.WAITING, f"no answer for {duration(waiting)}"
        if state is ServerState.IDLE:
            loaded = sum(model.state in _IN_MEMORY for model in self.offered)
            reason = f"router: {loaded} of {len(self.offered)} models loaded"
            state = ServerState.BUSY if self.working else state
        tap, started = self.tap, asked.started_time
        return Server(
            url=self.url,
            state=state,
            reason=reason,
            address=asked.address,
            unit=asked.unit,
            container=asked.container,
            pid=asked.pid or None,
            build=self._build,
            backend=asked.backend,
            uptime_seconds=max(0.0, self._clock.wall() - started) if started is not None else None,
            waiting_seconds=waiting if waiting > WAITS else None,
            models=tuple(map(self._served, self.offered)),
            log_path=tap.name if tap is not None else None,
            events=tap.events() if tap is not None else (),
            log=tap.lines() if tap is not None else (),
        )

    def sources(self) -> Iterable[Source]:
        answers = self._state is ServerState.IDLE
        age = self._clock.monotonic() - self._answered_at if self._answered_at is not None else None
        yield Source(
            id=f"server {self.url}",
            name="llama-server",
            state=SourceState.OK if answers else SourceState.NO_DATA,
            age_seconds=age,
            duration_seconds=self._took,
            reason=None if answers else self._reason,
        )
        if self.tap is not None:
            yield self.tap.source(self.url)

    @property
    def _address(self) -> str:
        return (self.process.address if self.process is not None else None) or self.url

    def _here(self, host: str) -> bool:
        """Whether its loopback is ours. In a network of its own it is not: there the processes tell."""
        process = self.process
        if process is not None and process.pid:
            return not process.own_network
        return _loopback(host)

    async def _round(self) -> None:
        began = self._asked_at = self._clock.monotonic()
        try:
            if not self._met:
                self._met, self._build = await self._http.router()
                self.plain = not self._met
                if self.plain:
                    return
            self.offered = await self._http.offered()
            self.looks += 1
            self._state, self._reason = ServerState.IDLE, None
            self._answered_at = self._clock.monotonic()
            self._took = self._answered_at - began
            self._due_at = began + LIST_EVERY - 0.05
        except HttpProblem as problem:
            self._fail(STATES.get(problem.kind, ServerState.FAILED), problem.reason)
        except LinkDown:  # nothing is known of it, and nothing new
            pass
        except Exception as error:  # must not end in a task that nobody asks
            self._fail(ServerState.FAILED, f"an error of halotui's own: {type(error).__name__}")
        finally:
            self._asked_at = None

    def _fail(self, state: ServerState, reason: str) -> None:
        self._state, self._reason = state, reason
        self._met, self._build, self.offered = False, None, ()
        self._due_at = self._clock.monotonic() + RETRY_EVERY.get(state, 0.0) - 0.05

    def _served(self, model: Offered) -> ServedModel:
        child, url = self.child(model), child_url(self.url, model.id)
        return ServedModel(
            id=model.id,
            state=model.state,
            reason=model.reason,
            context_tokens=model.context_tokens,
            address=child.address if child is not None else None,
            url=url if url in self.tabs else None,
        )


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
