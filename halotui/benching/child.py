"""The command under measurement, on this box or on a far one."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from halotui.benching import kin
from halotui.benching.relay import Relay
from halotui.hosts import Host, LinkDown
from halotui.hosts.hands import Hands, Identity
from halotui.hosts.ssh_child import FarChild

TERM_SECONDS = 10.0  # to end by itself, once it is told to
KILL_SECONDS = 5.0  # what is stuck in the GPU's driver does not even die of that
_LOOK_SECONDS = 0.2  # for the far process, at first


class Child(Protocol):
    """``pids`` are of that box, and are known when it has been found there."""

    pids: list[int]

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> None:
        """Raises LinkDown."""
        ...

    def hear(self, number: int) -> None:
        """A signal has reached us. Returns at once."""
        ...

    async def end(self) -> None:
        """TERM for all of its tree, then KILL for what is left."""
        ...

    def close(self) -> None: ...


async def start(
    command: Sequence[str],
    host: Host,
    hands: Hands,
    relay: Relay,
    *,
    env: Mapping[str, str] | None,
    cwd: str | None,
) -> Child:
    """``env`` is set over that of the box. Raises OSError, ValueError."""
    out, err = relay.open()
    if host.here:
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=relay.stdin,
            stdout=out,
            stderr=err,
            env={**os.environ, **env} if env is not None else None,
            cwd=cwd,
        )
        return _Here(child, hands)
    from halotui.hosts import ssh_child
    from halotui.hosts.ssh import SshHost

    assert isinstance(host, SshHost)
    far = await ssh_child.start(host, command, env=env, cwd=cwd, stdin=relay.stdin, stdout=out, stderr=err)
    return _There(far, hands)


class _Here:
    def __init__(self, child: asyncio.subprocess.Process, hands: Hands) -> None:
        self.pids = [child.pid]
        self._child = child
        self._hands = hands

    @property
    def returncode(self) -> int | None:
        return self._child.returncode

    async def wait(self) -> None:
        await self._child.wait()

    def hear(self, number: int) -> None:
        """What a terminal sends, it has got by itself."""
        if self.returncode is None and not (number == signal.SIGINT and kin.foreground()):
            kin.send(self._hands, self._family(), number)

    async def end(self) -> None:
        await _end(self._hands, self._family)
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._child.wait()

    def close(self) -> None:
        """Nothing is left of it."""

    def _family(self) -> list[Identity]:
        return kin.tree(self._hands, self._child.pid)


class _There:
    """Its processes are found by their mark."""

    def __init__(self, child: FarChild, hands: Hands) -> None:
        self.pids: list[int] = []
        self._child = child
        self._hands = hands
        self._finding = asyncio.create_task(self._find())

    @property
    def returncode(self) -> int | None:
        return self._child.returncode

    async def wait(self) -> None:
        await self._child.wait()

    def hear(self, number: int) -> None:
        def pass_on() -> None:
            with suppress(OSError):
                kin.send(self._hands, self._family(), number)

        threading.Thread(target=pass_on, name="signal", daemon=True).start()

    async def end(self) -> None:
        with suppress(LinkDown):  # it ends there by itself
            await _end(self._hands, self._family)
        with suppress(TimeoutError, LinkDown):
            async with asyncio.timeout(1.0):
                await self._child.wait()

    def close(self) -> None:
        self._finding.cancel()
        self._child.close()

    def _family(self) -> list[Identity]:
        return self._hands.marked(self._child.mark)

    async def _find(self) -> None:
        pause = _LOOK_SECONDS
        while not self.pids:
            with suppress(OSError):
                self.pids += [who.pid for who in (await asyncio.to_thread(self._family))[:1]]
            await asyncio.sleep(pause)
            pause = min(2.0, 2 * pause)


async def _end(hands: Hands, family_now: kin.Finding) -> None:
    family: list[Identity] = []
    for number, seconds in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        family += [who for who in await asyncio.to_thread(family_now) if who not in family]
        await asyncio.to_thread(kin.send, hands, family, number)
        if await kin.gone(hands, family, seconds):
            break
