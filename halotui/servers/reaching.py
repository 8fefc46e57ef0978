"""What an undertaking asks of its box while it lasts, and the guard that a far one has meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from halotui.collectors.llama_http import HttpKind, HttpProblem, LlamaHttp
from halotui.hosts import Host, LinkDown
from halotui.hosts.hands import Hands, Identity
from halotui.servers import there
from halotui.servers.guard import BACK, Guard
from halotui.servers.journal import Journal
from halotui.servers.launch import Launch, Plan

T = TypeVar("T")

HEALTH_SECONDS = 5.0
BEATS = 6  # in the time that the guard waits for one
DISMISSALS = 30  # tries, a second between them


class Failed(Exception):
    """The new server is not one to keep."""

    def __init__(self, reason: str, tail: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.tail = tail


class Reaching:
    """One box and one journal. ``guard`` is a far box's; a worker's host waits for its link."""

    def __init__(self, journal: Journal, host: Host, hands: Hands, guard: Guard | None) -> None:
        self.journal = journal
        self._host = host
        self._hands = hands
        self._guard = guard
        self._beating: asyncio.Task[None] | None = None

    @property
    def _plan(self) -> Plan:
        return self.journal.plan

    async def _already(self, launch: Launch, mark: str) -> Identity | None:
        """What was started before it was cut off, if it lives."""
        if launch.hands_over:
            return await self._found(launch)
        living = await asyncio.to_thread(self._hands.marked, mark)
        return self.journal.new if self.journal.new in living else living[0] if living else None

    async def _found(self, launch: Launch) -> Identity | None:
        """The process behind a command that handed over; never what ran before."""
        try:
            told = await self._hands.run(launch.find_pid, env=launch.env or None)
        except LinkDown:
            raise
        except (OSError, TimeoutError):
            return None
        pid = told.out.strip()
        known = pid.isdecimal() and int(pid)
        who = await asyncio.to_thread(self._hands.identify, int(pid)) if known else None
        before = self._plan.before
        return None if before is not None and who == before.who else who

    async def _alive(self, who: Identity) -> bool:
        return await asyncio.to_thread(self._hands.alive, who)

    async def _healthy(self, http: LlamaHttp) -> bool:
        return await self._through(lambda: _healthy(http))

    async def _through(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Its answer. While there is no link nothing is known: a worker's host waits until there is."""
        while True:
            try:
                return await ask()
            except LinkDown:
                await asyncio.to_thread(there.stat, self._host, "/")

    # --- the guard of a far box

    async def _guarded_there(self) -> None:
        """From now on the box itself puts back what ran, should we be gone. Raises OSError."""
        guard = self._guard
        if guard is None or self._plan.before is None or self._plan.after is None:
            return
        await self._through(lambda: asyncio.to_thread(guard.stand))
        self._beating = self._beating or asyncio.create_task(self._beat(guard))

    async def _beat(self, guard: Guard) -> None:
        while True:
            await asyncio.sleep(guard.heart / BEATS)
            with suppress(OSError):  # there is no link: who needs it waits for it
                await asyncio.to_thread(guard.beat)

    async def _unguarded(self) -> None:
        """It has come to its end, or is taken up anew. Without a link it sees itself that a server lives."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
            self._beating = None
        if self._guard is None:
            return
        for _ in range(DISMISSALS):
            try:
                await asyncio.to_thread(self._guard.dismiss)
                break
            except OSError:
                await asyncio.sleep(1)

    async def _came_back(self) -> Identity | None:
        """What the box has put back itself."""
        if self._guard is None or self._plan.before is None:
            return None
        return await self._already(self._plan.before.launch, self._plan.id + BACK)

    async def _raise_if_back(self) -> None:
        """Raises Failed: the new one is not to be started beside it."""
        if not self.journal.undoing and await self._came_back():
            raise Failed("the link was down, and the box has put back what ran by itself")


async def _healthy(http: LlamaHttp) -> bool:
    """Whether it serves; one that wants another key does. Raises nothing."""
    try:
        async with asyncio.timeout(HEALTH_SECONDS):
            await http.health()
    except HttpProblem as problem:
        return problem.kind is HttpKind.LOCKED
    except TimeoutError:
        return False
    return True
