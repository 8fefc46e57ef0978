"""Requests out of logs: a file from its first byte, standard input to its end, or where a server logs to."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from math import inf, nextafter
from typing import TYPE_CHECKING, NamedTuple

from halotui import format
from halotui.collectors.llama_log import Batch, LogParser
from halotui.commands.log_file import BLOCK, LOOK_SECONDS, STDIN, open_log
from halotui.exits import UsageError
from halotui.history import Sample
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.hosts import Host
    from halotui.model import Request, ServerProcess
    from halotui.sampler.log import LogTap

QUIET_SECONDS = 3.0  # after which a journal or container has told all it holds
_CLEAR = "\r\x1b[K"


class Row(NamedTuple):
    """One request, and whose it is: the server's URL, and the port of a router's child."""

    sample: Sample
    server: str = ""
    port: int | None = None

    @property
    def request(self) -> Request:
        return self.sample.request


class News(NamedTuple):
    """What was read in one go. ``past``: it was there when we came; ``anew``: the process whose start we know
    began only here, so the times of what came before are wrong."""

    rows: list[Row]
    past: bool = False
    anew: bool = False


class WholeLog:
    """One log, from its first byte on. ``known`` says whether any line of it was a llama-server's."""

    def __init__(
        self, path: str, server: str = "", started: float | None = None, host: Host | None = None
    ) -> None:
        self.name = "standard input" if path == STDIN else path
        self.known = False
        self._path = path
        self._host = host
        self._server = server
        self._started = started
        self._parser = LogParser(started)
        self._rest = b""  # the line that has not ended yet
        self._cut = False  # its begin was too long to keep
        self._read = 0
        self._requests = 0
        self._progress = _Progress()

    async def news(self, *, follow: bool = False) -> AsyncGenerator[News, None]:
        """Block by block to its end; with ``follow`` a file has none. Raises UsageError."""
        log = await open_log(self._path, self._host)
        size = log.size
        try:
            while True:
                block = await log.read()
                if block is None:
                    await asyncio.sleep(0)  # Ctrl-C
                    continue
                if block:
                    past = self._path != STDIN and self._read < size
                    self._read += len(block)
                    yield News(self._rows(block), past, self._anew())
                    self._progress.show(self.name, self._read, size, self._requests)
                    await asyncio.sleep(0)  # Ctrl-C
                    continue
                self._progress.clear()
                if not follow or self._path == STDIN:
                    return
                yield News([])  # all that was there has been told
                await asyncio.sleep(log.look_seconds)
                if await log.replaced():
                    log.close()
                    log = await open_log(self._path, self._host)
                    self._read, self._rest, size = 0, b"", 0
        finally:
            self._progress.clear()
            log.close()

    def _rows(self, block: bytes) -> list[Row]:
        """A last line that was cut off is left out: its numbers may be, too."""
        lines, newline, self._rest = (self._rest + block).rpartition(b"\n")
        if self._cut and newline:
            _, newline, lines = (lines + newline).partition(b"\n")
            self._cut = False
        if len(self._rest) > BLOCK:  # no log has such a line
            self._rest, self._cut = b"", True
        batch = self._parser.feed(lines + newline, keep=0) if lines else Batch()
        rows = list(_of_batch(batch, self._server))
        self._requests += len(rows)
        self.known = self.known or _is_known(self._parser, batch)
        return rows

    def _anew(self) -> bool:
        """The parser gives up the start when a later process begins: it is that one's."""
        if self._started is None or self._parser.started is not None:
            return False
        self._parser.started = self._started = nextafter(self._started, inf)  # the same one would be refused
        return True


def _is_known(parser: LogParser, batch: Batch) -> bool:
    server = parser.server
    return bool(
        batch.requests
        or batch.events
        or parser.children
        or server.running
        or server.facts != type(server.facts)()
    )


def _of_batch(batch: Batch, server: str, port: int | None = None) -> Iterator[Row]:
    for request in batch.requests:
        yield Row(_sample(request), server, port)
    for child, own in batch.children.items():
        yield from _of_batch(own, server, child)


def _sample(request: Request) -> Sample:
    """Where the log has no clock, the order has to do."""
    return Sample(request.ended_time or 0.0, request)


async def held(process: ServerProcess, host: Host) -> AsyncGenerator[News, None]:
    """What the log of a running server holds, wherever it goes. Raises UsageError, Unavailable."""
    assert process.log is not None
    if process.log.kind == "file":
        whole = WholeLog(process.log.name, process.url, process.started_time, host)
        async for news in whole.news():
            yield news
        return
    from halotui.sampler.clock import Clock
    from halotui.sampler.log import LogTap

    tap = LogTap(process.log, Clock(), host, started=process.started_time)
    try:
        last = time.monotonic()
        while time.monotonic() < last + QUIET_SECONDS:
            if await tap.read():
                yield _of_tap(tap, process.url)
                last = time.monotonic()
            elif tap.alive and tap.catching_up:
                await asyncio.sleep(LOOK_SECONDS / 5)
            else:
                break
        trouble = tap.source(process.url)
        if not tap.alive and trouble.reason:
            raise UsageError(f"{tap.name}: {trouble.reason}" + (f" ({trouble.hint})" if trouble.hint else ""))
    finally:
        await tap.close()


def _of_tap(tap: LogTap, server: str) -> News:
    tap.lines()
    tap.events()
    return News([Row(_sample(request), server) for request in tap.requests()], past=True)


class _Progress:
    """A line on a terminal, once it takes longer than a second."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._next = time.monotonic() + 1.0
        self._shown = False

    def show(self, name: str, read: int, size: int, requests: int) -> None:
        if not self._live or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + 0.2
        self._shown = True
        whole = f" of {format.size(size)}" if size > read else ""
        line = f"{clean(name)}: {format.size(read)}{whole}, {format.count(requests)} requests"
        width = max(20, shutil.get_terminal_size().columns - 1)
        print(f"{_CLEAR}{line[:width]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._shown:
            print(_CLEAR, end="", file=sys.stderr, flush=True)
            self._shown = False
