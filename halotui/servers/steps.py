"""The single steps of an undertaking: stop, start, watch it load, verify, measure. Each tells where it is."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec.structs import replace

from halotui.actions import Progress, Speed, Step
from halotui.collectors.http_wire import door_of
from halotui.collectors.llama_http import HttpKind, HttpProblem
from halotui.collectors.llama_process import NAME
from halotui.format import duration
from halotui.hosts import Host
from halotui.hosts.hands import MARK, Hands, Identity
from halotui.safe import clean
from halotui.servers import pools, stopping, there, verify
from halotui.servers.guard import BACK, Guard
from halotui.servers.journal import Book, Journal
from halotui.servers.launch import Launch
from halotui.servers.loading import Loading
from halotui.servers.reaching import Failed as Failed
from halotui.servers.reaching import Reaching
from halotui.servers.speed import measure
from halotui.servers.stopping import Patience

LOOK_SECONDS = 0.25
LINGER_SECONDS = 70.0  # what the kernel keeps of closed connections
TAIL_LINES = 15
_NO_PORT = "couldn't bind HTTP server socket"


class Cancelled(Exception):
    """The user wants back what ran."""


class Steps(Reaching):
    """What an undertaking is made of. ``tell`` hears of progress, ``ask`` answers a question ("kill"),
    ``cancel`` is set to go back.
    """

    def __init__(
        self,
        journal: Journal,
        host: Host,
        hands: Hands,
        book: Book,
        tell: Callable[[Progress], None],
        ask: Callable[[str], Awaitable[bool]],
        patience: Patience | None = None,
        guard: Guard | None = None,
    ) -> None:
        super().__init__(journal, host, hands, guard)
        self.cancel = asyncio.Event()
        self._book = book
        self._tell = tell
        self._ask = ask
        self._patience = patience or Patience()
        self._loading: Loading | None = None
        self._started: float | None = None  # when we started what loads now
        self._served = 0.0  # since when it serves
        self._step_began = time.monotonic()

    async def _stop(self, who: Identity, launch: Launch) -> None:
        held = await asyncio.to_thread(pools.pool_bytes, self._host)
        step = self.journal.step

        async def may_kill() -> bool:
            return await self._ask("kill")

        await stopping.stop(
            self._hands, who, launch, may_kill, lambda text: self._say(step, text), self._patience
        )
        self._say(step, "waiting for its port and its memory")
        await self._port_free(launch, self._patience.port)
        pool = self._pool
        await stopping.memory_back(pool, self._plan.gtt_bytes, held, self._patience.memory)

    async def _port_free(self, launch: Launch, seconds: float, *, lingering: bool = False) -> bool:
        return await stopping.port_free(self._host, self._hands, launch.url, seconds, lingering=lingering)

    async def _take_down(self, who: Identity, launch: Launch | None) -> None:
        """It is ours and nobody uses it yet: no consent is needed."""

        async def yes() -> bool:
            return True

        if launch is not None:
            await stopping.stop(
                self._hands, who, launch, yes, lambda text: self._say(Step.UNDOING, text), self._patience
            )

    async def _start(self, launch: Launch, mark: str) -> Identity:
        """Raises Failed, OSError."""
        self._write(Step.UNDOING if self.journal.undoing else Step.STARTING, f"starting {launch.name}")
        self._loading = await asyncio.to_thread(Loading, self._host, launch, self._pool)
        self._started = time.monotonic()
        self.journal = replace(self.journal, log_start=await asyncio.to_thread(self._size, launch.log))
        if launch.hands_over:
            new = await self._handed_over(launch)
        else:
            new = await self._detached(launch, mark)
        self.journal = replace(self.journal, new=new, back=new if self.journal.undoing else None)
        self._write(Step.UNDOING if self.journal.undoing else Step.LOADING, f"loading {launch.name}")
        return new

    async def _detached(self, launch: Launch, mark: str) -> Identity:
        """Without a place for its log it is put back all the same."""
        env = {**launch.env, MARK: mark}
        try:
            return await self._hands.launch(launch.argv, env, launch.cwd, Path(launch.log))
        except OSError:
            if not self.journal.undoing:
                raise
        return await self._hands.launch(launch.argv, env, launch.cwd, Path(os.devnull))

    async def _handed_over(self, launch: Launch) -> Identity:
        """A command starts it; another one tells which process it is."""
        done = await self._hands.run(launch.argv, env=launch.env or None, seconds=self._patience.command)
        if done.code and (self._host.here or not await self._found(launch)):  # asked twice, by a cut link
            raise Failed(f"{' '.join(launch.argv[:4])}: {clean(done.err.strip()) or f'code {done.code}'}")
        deadline = time.monotonic() + self._patience.command
        while time.monotonic() < deadline:
            if who := await self._found(launch):
                return who
            await asyncio.sleep(LOOK_SECONDS)
        raise Failed(f"{' '.join(launch.argv[:4])} has started no process")

    async def _serve(self, launch: Launch, new: Identity) -> None:
        """Until it serves. Raises Failed, Cancelled."""
        if self.journal.new != new:  # taken up after it was cut off
            self.journal = replace(self.journal, new=new, back=new if self.journal.undoing else None)
        if not self.journal.undoing and self.journal.step is not Step.LOADING:
            self._write(Step.LOADING, f"loading {launch.name}")
        began = time.monotonic()
        http = verify.same_server(self._host, launch)
        lingering = False
        try:
            while True:
                if not await self._alive(new):
                    tail = await self._tail(launch)
                    if not lingering and any(_NO_PORT in line for line in tail):
                        lingering = True
                        self._say(self.journal.step, "waiting for the kernel to forget old connections")
                        await self._port_free(launch, LINGER_SECONDS, lingering=True)
                        mark = self._plan.id + (BACK if self.journal.undoing else "")
                        new = await self._start(launch, mark)
                        continue
                    raise Failed(self._last_words(new, tail), tail)
                if await self._healthy(http):
                    break
                self._stop_if_cancelled()
                seconds = time.monotonic() - began
                if seconds > launch.load_seconds:
                    raise Failed(f"it did not serve within {duration(seconds)}", await self._tail(launch))
                ratio = await asyncio.to_thread(self._ratio, launch, new)
                self._say(self.journal.step, f"loading {launch.name}", ratio)
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await http.aclose()
        self._served = time.monotonic()
        took = None if self._started is None else round(self._served - self._started, 1)
        who = await asyncio.to_thread(self._server, new)
        self.journal = replace(
            self.journal, new=who, back=who if self.journal.undoing else None, load_seconds=took
        )

    def _server(self, new: Identity) -> Identity:
        """The server itself, where a script or a container's client was started: it is what is stopped next,
        and may outlive the other."""
        servers = {process.pid for process in self._host.processes((NAME,), ())}
        if new.pid in servers:
            return new
        ours = self._hands.marked(self._plan.id + (BACK if self.journal.undoing else ""))
        return next((who for who in ours if who.pid in servers), new)

    async def _verify(self, after: Launch) -> None:
        """Raises Failed, Cancelled."""
        self._write(Step.VERIFYING)
        new = self.journal.new
        http = verify.same_server(self._host, after)
        try:
            start = self.journal.log_start
            facts = await asyncio.to_thread(verify.log_facts, self._host, after.log, start)
            shown = await self._through(lambda: verify.look(http, facts))
        except HttpProblem as problem:
            if problem.kind is HttpKind.LOCKED:
                self._note("its API key is not known: only that it serves was verified")
                return
            tail = await self._tail(after)
            raise Failed(f"it serves, but does not answer: {problem.reason}", tail) from None
        except TimeoutError:
            raise Failed("it serves, but does not answer", await self._tail(after)) from None
        finally:
            await http.aclose()
        if new is not None and not await self._alive(new):
            tail = await self._tail(after)
            raise Failed(self._last_words(new, tail), tail)
        for deviation in verify.deviations(after.expect, shown, self._plan.before):
            if not deviation.excused:
                raise Failed(deviation.text, await self._tail(after))
            self._note(f"{deviation.text}, as what ran before")
        self._stop_if_cancelled()

    async def _watch(self, after: Launch) -> None:
        """One that breaks down at once is not kept. Raises Failed, Cancelled."""
        until = self._served + self._patience.watch
        while self.journal.new is not None:
            if not await self._alive(self.journal.new):
                tail = await self._tail(after)
                raise Failed(f"it served, then {self._last_words(self.journal.new, tail)}", tail)
            self._stop_if_cancelled()
            if time.monotonic() >= until:
                return
            self._say(self.journal.step, "watching whether it stays")
            await asyncio.sleep(LOOK_SECONDS)

    async def _measure(self, launch: Launch) -> Speed:
        """Raises Cancelled."""
        step = self.journal.step
        job = asyncio.ensure_future(
            measure(
                launch.url,
                launch.api_key,
                self._pool,
                door=door_of(self._host),
                tell=lambda text: self._say(step, text),
            )
        )
        cancelled = asyncio.ensure_future(self.cancel.wait())
        try:
            await asyncio.wait({job, cancelled}, return_when=asyncio.FIRST_COMPLETED)
            if job.done():
                return job.result()
            raise Cancelled
        finally:
            for task in (job, cancelled):
                task.cancel()
            await asyncio.gather(job, cancelled, return_exceptions=True)

    def _pool(self) -> int | None:
        return pools.pool_bytes(self._host)

    def _ratio(self, launch: Launch, new: Identity) -> float | None:
        self._loading = self._loading or Loading(self._host, launch, self._pool)
        return self._loading.ratio(new.pid)

    async def _answers(self, launch: Launch) -> bool:
        http = verify.same_server(self._host, launch)
        try:
            return await self._healthy(http)
        finally:
            await http.aclose()

    def _stop_if_cancelled(self) -> None:
        if self.cancel.is_set() and not self.journal.undoing:
            raise Cancelled

    def _last_words(self, new: Identity, tail: tuple[str, ...]) -> str:
        code = self._hands.exit_code(new)
        how = "it has gone" if code is None else f"it ended with code {code}"
        if code is not None and code < 0:
            how = f"it was ended by signal {-code}"
        telling = next((line for line in tail if _telling(line)), tail[-1] if tail else "")
        return f"{how}: {telling}" if telling else how

    async def _tail(self, launch: Launch) -> tuple[str, ...]:
        start = self.journal.log_start
        lines = await asyncio.to_thread(verify.log_lines, self._host, launch.log, start, 64 << 10)
        words = [clean(line).strip() for line in lines]
        return tuple(line for line in words if line)[-TAIL_LINES:]

    def _size(self, path: str) -> int:
        found = there.stat(self._host, path) if path else None
        return found.size if found is not None else 0

    def _note(self, text: str) -> None:
        self.journal = replace(self.journal, notes=(*self.journal.notes, text))

    def _say(self, step: Step, text: str, ratio: float | None = None) -> None:
        seconds = round(time.monotonic() - self._step_began, 1)
        self._tell(Progress(step=step, text=text, ratio=ratio, seconds=seconds))

    def _write(self, step: Step, text: str = "") -> None:
        """On disk first, then told."""
        self.journal = replace(self.journal, step=step, step_time=time.time())
        try:
            self._book.write(self.journal)
        except OSError as error:
            if not self.journal.undoing:
                raise
            self._note(f"not written down: {error.strerror}")  # a full disk must not keep it from coming back
        self._step_began = time.monotonic()
        self._say(step, text)


def _telling(line: str) -> bool:
    return " E " in line[:24] or "error" in line.lower()
