"""A worker's way to a far box: while the link is down it waits, for the undertaking must come to an end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

from halotui.actions import ActionError
from halotui.hosts import Host, LinkDown
from halotui.hosts.hands import MARK, Done, Hands, Identity
from halotui.hosts.ssh import Far, LinkError, SshHost
from halotui.hosts.ssh_hands import SshHands
from halotui.safe import clean
from halotui.servers.guard import Guard
from halotui.servers.launch import Plan

WAIT_SECONDS = 3600.0  # of our own time awake; then it is left as it stands, for --finish or --undo
SOON = 0.3


class Gone(BaseException):
    """It stays away. No failure of what was started: nothing may be undone for it."""


class Outage:
    """Waits for the link; ``back`` is called once it is there again, before anything else goes on."""

    def __init__(self, host: SshHost, loop: asyncio.AbstractEventLoop, tell: Callable[[str], None]) -> None:
        self.back: Callable[[], None] = lambda: None
        self._host = host
        self._loop = loop
        self._tell = tell
        self._lock = threading.Lock()
        self._times = 0  # that it has come back
        self._gone = ""

    def wait(self, seen: int) -> None:
        """From a thread that has had LinkDown. ``seen``: ``times`` before it asked. Raises Gone."""
        with self._lock:
            while self._times == seen:
                if self._gone:
                    raise Gone(self._gone)
                self._up()
                with suppress(OSError):
                    try:
                        self.back()
                    except LinkDown:
                        time.sleep(SOON)
                        continue
                self._times += 1

    @property
    def times(self) -> int:
        return self._times

    def _up(self) -> None:
        self._tell(f"{self._host.name} cannot be reached: waiting")
        try:
            asyncio.run_coroutine_threadsafe(self._logged_in(), self._loop).result()
        except (LinkError, TimeoutError):
            self._gone = f"{self._host.name} stayed away for an hour"
            raise Gone(self._gone) from None

    async def _logged_in(self) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            await self._host.up()


class Enduring:
    """A host or hands whose verbs, from a thread, wait for the link where it is down, and then ask again."""

    def __init__(self, of: SshHost | SshHands, outage: Outage) -> None:
        self._of = of
        self._outage = outage

    def __getattr__(self, name: str) -> Any:
        found = self._asked(partial(getattr, self._of, name))
        if not callable(found) or asyncio.iscoroutinefunction(found):
            return found
        return partial(self._asked, found)

    def _asked(self, verb: Callable[..., Any], *args: Any, **more: Any) -> Any:
        while True:
            seen = self._outage.times
            try:
                return verb(*args, **more)
            except LinkDown:
                self._outage.wait(seen)


class EnduringHands(Enduring):
    """What was on its way when the link broke may have been done."""

    def __init__(self, hands: SshHands, outage: Outage) -> None:
        super().__init__(hands, outage)
        self._hands = hands

    async def run(self, argv: Sequence[str], **more: Any) -> Done:
        """Asked again: a unit or a container that is started or stopped twice is so once."""
        while True:
            seen = self._outage.times
            try:
                return await self._hands.run(argv, **more)
            except LinkDown:
                await asyncio.to_thread(self._outage.wait, seen)

    async def launch(self, argv: Sequence[str], env: Mapping[str, str], cwd: str, log: Path) -> Identity:
        """By its mark it is seen whether it was started."""
        while True:
            seen = self._outage.times
            try:
                return await self._hands.launch(argv, env, cwd, log)
            except LinkDown:
                await asyncio.to_thread(self._outage.wait, seen)
            started: list[Identity] = await asyncio.to_thread(self.marked, env[MARK])
            if started:
                return started[0]


@asynccontextmanager
async def away(
    far: Far, plan: Plan, heart: float, tell: Callable[[str], None]
) -> AsyncIterator[tuple[Host, Hands, Guard]]:
    """A worker's far box, logged in to without a question. Raises ActionError: it is not let in; Gone."""
    host = SshHost(far)
    host.fresh_seconds = 0.0
    try:
        try:
            await host.open()
        except LinkError as error:
            reason = f"a relaunch needs a login of its own to {clean(far.target)}, without a question"
            raise ActionError(f"{reason}: {error.reason}", error.hint or "a key in ssh-agent") from None
        hands = SshHands(host)
        outage = Outage(host, asyncio.get_running_loop(), tell)
        guard = Guard(hands, plan, heart, host.procfs)
        outage.back = guard.renew
        keeping = asyncio.create_task(_keep_up(host))
        try:
            yield cast(Host, Enduring(host, outage)), cast(Hands, EnduringHands(hands, outage)), guard
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
    finally:
        await host.close()


async def _keep_up(host: SshHost) -> None:
    """Whether anybody asks just now or not."""
    while True:
        await host.up()
        await asyncio.sleep(1)
