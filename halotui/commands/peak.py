"""``halotui peak``: the same capture around what runs already, until Ctrl-C, ``--for``, or its end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from halotui import exits
from halotui.actions import ActionError
from halotui.benching import live, tables
from halotui.benching.kept import Kept
from halotui.benching.modes import is_foreground
from halotui.capture.capture import Capture
from halotui.collectors import platform
from halotui.commands.keeping import seconds, try_store
from halotui.commands.measured import Said, answer, hertz, talk
from halotui.commands.places import opened, place
from halotui.hosts import LinkDown
from halotui.runs import Kind, Run, Status
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.commands.places import Place
    from halotui.config import Settings
    from halotui.hosts import Host
    from halotui.hosts.hands import Hands, Identity

_LOOK_SECONDS = 0.25  # whether the process still lives
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Subject(NamedTuple):
    """What is watched beside the box."""

    name: str
    pid: int | None = None
    who: Identity | None = None  # ends the capture with its own end


class _Gone(Exception):
    """There is no such process or server. Exit code 3."""


async def run(said: Said, settings: Settings) -> int:
    """Ctrl-C is how it ends: that is no failure. Raises UsageError, UnreachableError."""
    rate = hertz(said)
    limit = seconds(said["duration"]) if "duration" in said else None
    tables.check_output(said)
    where = place(settings, said)
    async with opened(where) as (host, hands):
        try:
            subject = await _subject(where, host, hands)
        except _Gone as error:
            talk(str(error))
            return exits.UNREACHABLE
        except ActionError as error:
            talk(error.reason + (f" ({error.hint})" if error.hint else ""))
            return exits.FAILURE
        ended = await _captured(where, host, hands, subject, rate, limit)
    answer(ended, said)
    return exits.OK


async def _captured(
    where: Place, host: Host, hands: Hands, subject: _Subject, rate: float, limit: float | None
) -> Run:
    """From its begin to its end, as it is kept."""
    said = where.said
    store = await asyncio.to_thread(try_store, said, where.settings)
    try:
        begun = Run(
            kind=Kind.PEAK,
            label=said.get("label") or subject.name,
            started_time=time.time(),
            environment=await platform.read(host, hands),
        )
        kept = await asyncio.to_thread(Kept, store, begun, talk)
        roots = () if subject.pid is None else (subject.pid,)
        capture = Capture(host, hertz=rate, sink=kept.sink, pids=(lambda: roots) if roots else None)
        await asyncio.to_thread(capture.start)
        await _watch(capture, subject, hands, limit, quiet="quiet" in said)
        summary = await asyncio.to_thread(capture.stop)
        ended = Run(
            id=kept.id,
            kind=begun.kind,
            status=Status.OK,
            label=begun.label,
            started_time=begun.started_time,
            seconds=summary.seconds,
            environment=begun.environment,
            summary=summary,
            marks=capture.marks,
        )
        await asyncio.to_thread(kept.finish, ended)
    finally:
        if store is not None:
            await asyncio.to_thread(store.close)
    return ended


async def _subject(where: Place, host: Host, hands: Hands) -> _Subject:
    """Raises _Gone, ActionError, UsageError."""
    said = where.said
    if "pid" in said:
        pid = said["pid"]
        who = await asyncio.to_thread(hands.identify, pid) if pid > 0 else None
        if who is None:
            raise _Gone(f"there is no process {pid}")
        return _Subject(await asyncio.to_thread(_name, host, pid), pid, who)
    if "server" not in said:
        return _Subject("whole box")
    from halotui.commands import run as acting
    from halotui.commands.opening import open_desk

    desk = await asyncio.to_thread(open_desk, where, host, hands)
    try:
        rows = await desk.servers()
    finally:
        await desk.close()
    try:
        pid = int(acting.choose(rows, said["server"]))
    except acting.NoSuchServer as error:
        raise _Gone(str(error)) from None
    row = next(row for row in rows if row.pid == pid)
    return _Subject(row.model or row.url, pid, await asyncio.to_thread(hands.identify, pid))


def _name(host: Host, pid: int) -> str:
    with suppress(OSError):
        return clean(host.read(host.procfs / str(pid) / "comm").strip()) or str(pid)
    return str(pid)


async def _watch(
    capture: Capture, subject: _Subject, hands: Hands, limit: float | None, *, quiet: bool
) -> None:
    """Until it is over; with a line of status on a terminal, where what is typed becomes a mark."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in _STOPPING:
        loop.add_signal_handler(number, stop.set)
    status = _Status(capture, quiet)
    marking = _marking(capture, status, loop)
    deadline = None if limit is None else loop.time() + limit
    try:
        while not stop.is_set() and (deadline is None or loop.time() < deadline):
            if subject.who is not None and not await _lives(hands, subject.who):
                status.say(f"{subject.name} ({subject.pid}) has ended")
                break
            status.draw()
            left = _LOOK_SECONDS if deadline is None else max(0.0, min(_LOOK_SECONDS, deadline - loop.time()))
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await stop.wait()
    finally:
        status.clear()
        if marking:
            loop.remove_reader(sys.stdin)
        for number in _STOPPING:
            loop.remove_signal_handler(number)


async def _lives(hands: Hands, who: Identity) -> bool:
    """As far as one knows: while its box is not reached it may."""
    with suppress(LinkDown):
        return await asyncio.to_thread(hands.alive, who)
    return True


class _Status:
    """The line, once a second."""

    def __init__(self, capture: Capture, quiet: bool) -> None:
        self._capture = capture
        self._live = not quiet and sys.stderr.isatty()
        self._next = 0.0

    def draw(self) -> None:
        if self._live and time.monotonic() >= self._next and is_foreground(2):
            self._next = time.monotonic() + 1.0
            width = shutil.get_terminal_size().columns - 1
            text = live.line(self._capture.now(), width)
            print(f"\r\x1b[K{text}\r", end="", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        self.clear()
        talk(text)

    def clear(self) -> None:
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _marking(capture: Capture, status: _Status, loop: asyncio.AbstractEventLoop) -> bool:
    """A line that is typed gives the moment a name; whether there is anybody to type."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False

    def typed() -> None:
        if not is_foreground(0):  # it is typed to the shell that we run behind, and to read would stop us
            loop.remove_reader(sys.stdin)
            return
        text = os.read(0, 4096).decode(errors="replace")
        if not text:  # Ctrl-D
            loop.remove_reader(sys.stdin)
        for line in text.splitlines():
            mark = capture.mark(line.strip() or "mark")
            status.say(f"marked: {mark.label}")

    loop.add_reader(sys.stdin, typed)
    return True
