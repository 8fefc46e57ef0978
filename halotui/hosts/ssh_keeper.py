"""Keeps one login: makes it, notices its end, makes it again with back-off, and tells how it stands."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, cast

from halotui.hosts import LinkDown
from halotui.hosts.ssh_errors import LinkError
from halotui.hosts.ssh_login import Far, Login
from halotui.hosts.ssh_place import Place
from halotui.hosts.ssh_terminal import there_is_one
from halotui.model import Link, LinkState
from halotui.safe import clean

T = TypeVar("T")

_FIRST_SECONDS = 1.0  # between two tries; it doubles
_LONGEST_SECONDS = 30.0
_REFUSED_SECONDS = 60.0  # where only a person can help
_LASTED_SECONDS = 30.0  # a login that held so long ends the back-off


class Keeper:
    """``up``, ``open`` and ``close`` belong to an event loop, the rest to any thread."""

    def __init__(self, far: Far) -> None:
        self.far = far
        self._login: Login | None = None
        self._trying: Login | None = None
        self._place: Place | None = None
        self._number = 0
        self._error: LinkError | None = None
        self._since = time.time()
        self._tries = 0  # in a row that failed
        self._next = 0.0  # monotonic: of the next try
        self._up_at = 0.0  # monotonic
        self._closed = False
        self._turn = asyncio.Lock()
        self._resting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._guard = threading.Lock()

    def login(self) -> Login:
        """The one there is. Raises LinkDown."""
        login = self._login
        if login is not None and login.alive:
            return login
        self._notice()
        raise LinkDown(self._error.reason if self._error else "not logged in")

    def last(self) -> Login | None:
        """The one there is, or was: what it was told of the box holds."""
        return self._login

    def place(self) -> Path:
        """The directory of our sockets."""
        if self._place is None or not self._place.path.exists():  # somebody cleans /tmp
            self._place = Place()
        return self._place.path

    @property
    def link(self) -> Link:
        """How it stands now."""
        login = self._login
        if login is not None and login.alive:
            return Link(
                state=LinkState.UP,
                since_time=self._since,
                round_trip_seconds=login.round_trip,
                ahead_seconds=login.ahead,
            )
        self._notice()
        error = self._error
        if error is None:
            return Link(state=LinkState.CONNECTING, since_time=self._since)
        return Link(
            state=LinkState.REFUSED if error.refused else LinkState.LOST,
            since_time=self._since,
            reason=error.reason,
            hint=error.hint or None,
            retry_time=time.time() + max(0.0, self._next - time.monotonic()),
        )

    async def open(self, *, ask: bool) -> None:
        """Log in now. Raises LinkError."""
        check(self.far.target)
        async with self._turn:
            if self._login is not None and self._login.alive:
                return
            try:
                await self._try(ask=False)
            except LinkError as error:
                if not (ask and error.ask and there_is_one()):
                    raise
                await self._try(ask=True)

    async def up(self) -> int:
        """Waits until there is a login; its number."""
        check(self.far.target)
        while True:
            async with self._turn:  # held for a try, not for a rest: a user may log in meanwhile
                if self._login is not None and self._login.alive:
                    return self._login.number
                self._notice()
                if self._next <= time.monotonic():
                    with suppress(LinkError):
                        await self._try(ask=False)
                    if self._closed:
                        raise LinkError("closed")
                    continue
            await self._rest()

    def again(self) -> None:
        """The next try is now."""
        self._next = 0.0
        for loop, event in list(self._resting):
            loop.call_soon_threadsafe(event.set)

    async def close(self) -> None:
        """For good, in well under a second."""
        self._closed = True
        self.again()
        logins = [login for login in (self._trying, self._login) if login is not None]
        await asyncio.gather(*(in_thread(login.close) for login in logins))
        if self._place is not None:
            self._place.close()

    async def _rest(self) -> None:
        """Until the next try is due, or wanted."""
        event = asyncio.Event()
        resting = asyncio.get_running_loop(), event
        self._resting.append(resting)
        try:
            while (wait := self._next - time.monotonic()) > 0 and not event.is_set() and not self._closed:
                with suppress(TimeoutError):
                    async with asyncio.timeout(
                        min(wait, 5.0)
                    ):  # a laptop that slept: look at the clock again
                        await event.wait()
        finally:
            self._resting.remove(resting)

    async def _try(self, *, ask: bool) -> None:
        if self._closed:
            raise LinkError("closed")
        self._number += 1
        try:
            place = self.place()
        except OSError as error:
            trouble = LinkError(f"no place for its sockets: {clean(str(error))}", "is TMPDIR full?")
            self._failed(trouble)
            raise trouble from None
        login = self._trying = Login(self.far, place, self._number)
        try:
            await in_thread(lambda: login.start(ask=ask))
        except asyncio.CancelledError:
            login.end("given up")
            threading.Thread(target=login.close, daemon=True).start()
            raise
        except LinkError as error:
            if ask and login.interrupted:
                os.kill(os.getpid(), signal.SIGINT)  # ssh had the terminal, and the Ctrl-C that was ours
            self._failed(error)
            raise
        finally:
            self._trying = None
        with self._guard:
            before, self._login = self._login, login
            self._error, self._since, self._up_at = None, time.time(), time.monotonic()
        if before is not None:
            await in_thread(before.close)

    def _failed(self, error: LinkError) -> None:
        with self._guard:
            if self._error is None:
                self._since = time.time()
            self._error = error
            self._wait()

    def _notice(self) -> None:
        """That a login has ended, once."""
        with self._guard:
            login = self._login
            if login is None or login.alive or self._error is not None:
                return
            self._error, self._since = login.lost(), time.time()
            if time.monotonic() - self._up_at > _LASTED_SECONDS:
                self._tries, self._next = 0, 0.0  # the first try is at once
            else:
                self._wait()

    def _wait(self) -> None:
        seconds = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2 ** min(self._tries, 10))
        if self._error is not None and self._error.refused:
            seconds = _REFUSED_SECONDS
        self._tries += 1
        self._next = time.monotonic() + seconds * random.uniform(0.8, 1.2)


def check(target: str) -> None:
    """Raises LinkError for what ssh would take for an option, or for two words."""
    if not target or target.startswith("-") or clean(target) != target or any(map(str.isspace, target)):
        raise LinkError(f"'{clean(target)}' is no host that ssh could be given", refused=True)


async def in_thread(work: Callable[[], T]) -> T:
    """In a thread of its own: no dead box takes one that another needs, and none keeps us from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(T, result))

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:
            error = caught
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await future
