"""``halotui requests``: what was asked of the servers, one by one, from any log or while it happens."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from halotui import exits, format
from halotui.commands.feeding import live_feed, until
from halotui.commands.keeping import seconds
from halotui.commands.log_file import STDIN
from halotui.commands.places import opened, place
from halotui.commands.request_log import News, Row, WholeLog, held
from halotui.commands.request_table import CsvLines, JsonLines, Lines, answer, room, summary, table
from halotui.exits import UsageError
from halotui.figures import SORTS, Figures, chosen, figures, matching, trouble
from halotui.history import Sample
from halotui.model import ServerState, Unavailable
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.commands.places import Place
    from halotui.config import Settings
    from halotui.hosts import Host
    from halotui.model import Server, ServerProcess

Said = Mapping[str, Any]

MOST = 100_000  # requests kept: about 100 MB
PATIENCE = 2.0  # seconds that a server may take to say how it is
WATCH = "watch its /slots, to a poll, with -f or --for 60"


class _Nothing(Exception):
    """There is nothing to tell: one line, and the exit code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


async def run(said: Said, settings: Settings) -> int:
    """One table, or a line a request; the exit code. Raises UsageError, UnreachableError."""
    limit = seconds(said["duration"]) if "duration" in said else None
    kept = Kept(said)
    where = place(settings, said)
    if where.target is not None and said.get("log") == STDIN:
        raise UsageError("--log - or --ssh: one of them")
    async with opened(where) as (host, _):
        return await _told(said, where, host, kept, limit)


async def _told(said: Said, where: Place, host: Host, kept: Kept, limit: float | None) -> int:
    settings = where.settings
    lines = _Lines(said, settings) if "follow" in said else None
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    try:
        async with (
            aclosing(_source(said, where, host)) as source,
            aclosing(until(source, stop, limit)) as coming,
        ):
            async for news in coming:
                fresh = kept.take(news)
                if lines is not None and not news.past:
                    lines.show(fresh, kept)
    except _Nothing as nothing:
        if not stop.is_set():
            _talk(str(nothing))
            return nothing.code
    finally:
        loop.remove_signal_handler(signal.SIGINT)
    if stop.is_set() and not _live(said):
        return exits.INTERRUPTED  # half a log is no answer
    _answer(kept, said, lines)
    return exits.INTERRUPTED if stop.is_set() else exits.OK


def _live(said: Said) -> bool:
    """Whether it looks on, rather than at what there is."""
    return "follow" in said or "duration" in said


def _answer(kept: Kept, said: Said, lines: _Lines | None) -> None:
    rows = kept.sorted()
    if kept.seen > len(rows):
        _talk(f"the last {format.count(len(rows))} of {format.count(kept.seen)} requests")
    if not rows:
        _talk("no request has ended" + (" for which that holds" if kept.where else ""))
    if lines is not None:
        if not (said.get("json") or said.get("csv")) and rows:
            print(f"\n{summary(kept.figures())}", flush=True)
    elif said.get("json"):
        print(answer(rows, kept.figures()), flush=True)
    elif said.get("csv"):
        form = CsvLines(server=_several(rows), port=any(row.port for row in rows))
        print("\n".join([form.head(), *map(form.row, rows)]), flush=True)
    elif rows:
        print(f"{table(rows, server=_several(rows), room=room())}\n\n{summary(kept.figures())}", flush=True)


def _several(rows: list[Row]) -> bool:
    return len({row.server for row in rows}) > 1


class Kept:
    """The last requests for which ``--where`` holds."""

    def __init__(self, said: Said) -> None:
        """Raises UsageError."""
        if "url" in said and "log" in said:
            raise UsageError("--url or --log: one of them")
        if "json" in said and "csv" in said:
            raise UsageError("--json or --csv: one of them")
        self._sort, self._descending = said.get("sort", "time"), bool(said.get("reverse"))
        if self._sort not in SORTS:
            raise UsageError(f"--sort: '{self._sort}' is none of {', '.join(SORTS)}")
        if "follow" in said and ("sort" in said or "reverse" in said):
            raise UsageError("--sort and --reverse: not with --follow, which tells them as they end")
        last = said.get("last", MOST)
        if not 1 <= last <= MOST:
            raise UsageError(f"--last: 1 to {MOST}")
        self.where = " ".join(said.get("where", ()))
        if reason := trouble(self.where):
            raise UsageError(f"--where: {reason}")
        self._matches = matching(self.where)
        self._rows: deque[Row] = deque(maxlen=last)
        self._past = "duration" not in said or "follow" in said  # --for alone is about what it sees itself
        self.seen = 0

    def take(self, news: News) -> list[Row]:
        """Those of them that are wanted."""
        wanted = [row for row in news.rows if self._matches(row.sample)]
        if news.anew:
            wanted = [*map(_timeless, wanted)]
            self._rows = deque(map(_timeless, self._rows), self._rows.maxlen)
        if news.past and not self._past:
            return []
        self._rows.extend(wanted)
        self.seen += len(wanted)
        return wanted

    @property
    def rows(self) -> list[Row]:
        """As they came."""
        return list(self._rows)

    def sorted(self) -> list[Row]:
        by_sample = {id(row.sample): row for row in self._rows}
        samples = [row.sample for row in self._rows]
        return [by_sample[id(one)] for one in chosen(samples, sort=self._sort, descending=self._descending)]

    def figures(self) -> Figures:
        return figures([row.sample for row in self._rows], time.time(), None)


def _timeless(row: Row) -> Row:
    return row._replace(sample=Sample(0.0, replace(row.request, started_time=None, ended_time=None)))


class _Lines:
    """Each request as it ends, after those that were there."""

    def __init__(self, said: Said, settings: Settings) -> None:
        form = CsvLines if said.get("csv") else JsonLines if said.get("json") else Lines
        self._form = form(
            server="log" not in said and len(settings.urls) != 1, port="log" in said, room=room()
        )
        self._begun = False

    def show(self, fresh: list[Row], kept: Kept) -> None:
        lines: list[str] = []
        if not self._begun:
            self._begun = True
            lines += filter(None, [self._form.head()])
            fresh = kept.sorted()
        lines += map(self._form.row, fresh)
        if lines:
            print("\n".join(lines), flush=True)


def _talk(text: str) -> None:
    print(f"halotui: {clean(text)}", file=sys.stderr, flush=True)


# --- where they come from


def _source(said: Said, where: Place, host: Host) -> AsyncGenerator[News, None]:
    if "log" in said:
        return _of_log(said["log"], _live(said), host)
    return _watched(where, host) if _live(said) else _of_servers(where, host)


async def _of_log(path: str, follow: bool, host: Host) -> AsyncGenerator[News, None]:
    log = WholeLog(path, host=host)
    async for news in log.news(follow=follow):
        yield news
    if not log.known:
        raise _Nothing(exits.FAILURE, f"{log.name}: no log of llama-server: not a line that it writes")


async def _of_servers(where: Place, host: Host) -> AsyncGenerator[News, None]:
    """What the logs of running servers hold: nothing is asked of them."""
    from halotui.collectors.discovery import find

    settings = where.settings
    found = await asyncio.to_thread(find, host, settings.urls)
    servers = [process for process in found if process.engine == "llama.cpp"]
    if not servers and not settings.urls:
        raise _Nothing(exits.UNREACHABLE, "no llama-server runs here; --url or --log names one")
    told = False
    for process in _by_log(servers):
        try:
            async for news in held(process, host):
                yield news
            told = True
        except (UsageError, Unavailable) as error:
            _talk(f"{process.url}: {error}")
    alone = [process.url for process in servers if process.behind is None]
    without = [url for url in settings.urls or alone if not _has_log(url, servers)]
    if not told:
        raise await _no_log(where, host, without)
    for url in without:
        _talk(f"{url}: no log that could be read here; {WATCH}")


def _by_log(servers: list[ServerProcess]) -> list[ServerProcess]:
    """One for each log: children may write into that of their router, which comes first then."""
    parents_first = sorted(servers, key=lambda process: process.behind is not None)
    logs = {(p.log.kind, p.log.name, p.log.user): p for p in reversed(parents_first) if p.log is not None}
    return [*reversed(logs.values())]


def _has_log(url: str, servers: list[ServerProcess]) -> bool:
    return any(process.url == url and process.log is not None for process in servers)


async def _no_log(where: Place, host: Host, urls: list[str]) -> _Nothing:
    feed = await asyncio.to_thread(live_feed, where.settings, where.said, True, None, host)
    try:
        frame = await feed.one(PATIENCE)
    finally:
        await feed.close()
    if all(server.state is ServerState.DOWN for server in frame.servers):
        reasons = [f"{server.url}: {server.reason or server.state}" for server in frame.servers]
        return _Nothing(exits.UNREACHABLE, f"nothing reachable: {'; '.join(reasons)}")
    return _Nothing(exits.FAILURE, f"{', '.join(urls)}: no log that could be read here; {WATCH}")


async def _watched(where: Place, host: Host) -> AsyncGenerator[News, None]:
    """Frame by frame, as the screen sees them. The first one holds what was there."""
    feed = await asyncio.to_thread(live_feed, where.settings, where.said, True, None, host)
    try:
        first = await feed.one(PATIENCE)
        yield News(_rows(first.servers, first.time), past=True)
        yield News([])
        for server in first.servers:
            if server.state is not ServerState.DOWN and not server.log_path:
                _talk(f"{server.url}: no log; its requests are watched in /slots, to a poll")
        async for frame in feed.frames():
            yield News(_rows(frame.servers, frame.time))
    finally:
        await feed.close()


def _rows(servers: tuple[Server, ...], now: float) -> list[Row]:
    return [
        Row(Sample(now if request.ended_time is None else request.ended_time, request), server.url)
        for server in servers
        for request in server.requests
    ]
