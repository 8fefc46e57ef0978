"""``halotui check``: the rules over a live box, a recording or a log alone."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halotui import exits, format
from halotui.commands.keeping import seconds, store_path, told
from halotui.commands.log_file import STDIN
from halotui.commands.places import opened, place
from halotui.exits import UsageError
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.commands.judging import Judge
    from halotui.commands.places import Place
    from halotui.config import Settings
    from halotui.exporters.checked import Verdict
    from halotui.hosts import Host
    from halotui.model import Frame
    from halotui.recording.index import Recording

Said = Mapping[str, Any]

ANSWER_SECONDS = 2.0  # that a look waits for answers
BREATH = 50  # frames between two chances for Ctrl-C
# A log says nothing of who answers now, and of how long: these would judge that it is over.
LIVE_ONLY = ("server-down", "slot-stuck", "source-stale")


async def run(said: Said, settings: Settings) -> int:
    """The exit code. Raises UsageError, UnreachableError."""
    kinds = [name for name in ("recording", "last", "log", "url") if said.get(name) is not None]
    if len(kinds) > 1:
        raise UsageError("a RECORDING, --last, --log or --url: one of them")
    if kinds and kinds != ["url"] and "length" in said:
        raise UsageError("--for: of a live box alone")
    if "recording" in kinds or "last" in kinds:
        return await _of_recording(said, settings)
    if "log" in kinds:
        return await _of_log(said, settings)
    return await _of_box(said, settings)


async def _judge(said: Said, settings: Settings, *, live: bool = False, **given: Any) -> Judge:
    """With what this user set. What is usual and what is silenced here counts for this box, and where a store
    was named; it is only read. Raises UsageError."""
    from halotui import config
    from halotui.commands.judging import Judge

    try:
        judge = Judge(tuning=config.tuning(settings), **given)
    except config.ConfigError as error:
        raise UsageError(str(error)) from None
    if live or said.get("store") is not None:
        await asyncio.to_thread(_learn, judge, said, settings)
    return judge


def _learn(judge: Judge, said: Said, settings: Settings) -> None:
    from halotui.ledger import Baselines
    from halotui.runs import StoreError
    from halotui.store.ledger import open_ledger

    try:
        ledger = open_ledger(store_path(said, settings), readonly=True)
        try:
            judge.know(Baselines(ledger.baselines()), tuple(ledger.silences()))
        finally:
            ledger.close()
    except StoreError as error:
        _talk(f"without what is usual here: {told(error)}")


def _answer(judge: Judge, verdict: Verdict, said: Said, *, live: bool = False) -> int:
    """Print it; whether it is as bad as ``--fail-on``."""
    from halotui.exporters.checked import RANK, text
    from halotui.model import Severity

    if said.get("json"):
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(verdict), indent=2).decode(), flush=True)
    else:
        print(text(verdict, live=live), flush=True)
    if judge.omitted:
        _talk(f"{format.count(judge.omitted)} more that came and went are left out")
    least = RANK[Severity(said.get("fail_on", "warning"))]
    return exits.FAILURE if any(RANK[one.severity] <= least for one in verdict.findings) else exits.OK


def _talk(words: str) -> None:
    print(f"halotui: {clean(words)}", file=sys.stderr, flush=True)


# --- this box


async def _of_box(said: Said, settings: Settings) -> int:
    length = seconds(said["length"]) if "length" in said else None
    where = place(settings, said)
    judge = await _judge(said, where.settings, live=True, hold=length is not None)
    async with opened(where) as (host, _):
        return await _watched(where, host, judge, length)


async def _watched(where: Place, host: Host, judge: Judge, length: float | None) -> int:
    from halotui.commands.feeding import live_feed, until

    said, settings = where.said, where.settings
    feed = await asyncio.to_thread(live_feed, settings, said, length is None, None, host)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    progress, began = _Progress(), time.monotonic()
    reached, frame = False, None
    try:
        async with (
            aclosing(_looks(feed, length)) as looks,
            aclosing(until(looks, stop, length)) as coming,
        ):
            async for frame in coming:
                judge.see(frame)
                reached = reached or _reached(frame, bool(settings.urls))
                if length is not None:
                    left = format.duration(length - (time.monotonic() - began))
                    progress.show(f"{format.count(judge.frames)} frames, {left} to go")
    finally:
        progress.clear()
        loop.remove_signal_handler(signal.SIGINT)
        await feed.close()
    if frame is None:
        return exits.INTERRUPTED
    code = _answer(judge, judge.verdict(), said, live=True)
    if stop.is_set():
        return exits.INTERRUPTED
    if reached:
        return code
    reasons = [f"{server.url}: {server.reason or server.state}" for server in frame.servers]
    _talk(f"nothing reachable: {'; '.join(reasons) or 'no llama-server, no AMD GPU'}")
    return exits.UNREACHABLE


async def _looks(feed: Any, length: float | None) -> AsyncGenerator[Frame, None]:
    """Two, an interval apart, so that rates are real; or as many as come."""
    if length is None:
        yield await feed.one(ANSWER_SECONDS)
        await asyncio.sleep(feed.interval)
        yield await feed.one(ANSWER_SECONDS)
        return
    async for frame in feed.frames():
        yield frame


def _reached(frame: Frame, urls: bool) -> bool:
    from halotui.model import ServerState

    up = any(server.state is not ServerState.DOWN for server in frame.servers)
    return up or (not urls and bool(frame.gpus) and not frame.servers)


# --- a recording


async def _of_recording(said: Said, settings: Settings) -> int:
    from halotui.recording.index import Recording
    from halotui.recording.reader import RecordingError

    name = str(said.get("recording") or "--last")
    try:
        recording = Recording(_recorded(said, settings))
    except RecordingError as error:
        raise UsageError(told(error)) from None
    except OSError as error:
        raise UsageError(f"{name}: {(error.strerror or str(error)).lower()}") from None
    judge, progress, losses = await _judge(said, settings), _Progress(), _Losses()
    try:
        for frame in _frames(recording, losses):
            judge.see(frame)
            if judge.frames % BREATH == 0:
                progress.show(f"{format.count(judge.frames)} of {format.count(recording.frames)} frames")
                await asyncio.sleep(0)  # Ctrl-C
    finally:
        progress.clear()
        recording.close()
    if losses.frames or recording.damaged:
        lost = f", {format.count(losses.frames)} frames cannot be read" if losses.frames else ""
        _talk(f"{name}: damaged{lost}: the rest was judged")
    if not judge.frames:
        raise UsageError(f"{name}: no frame of it can be read")
    return _answer(judge, judge.verdict(), said)


def _recorded(said: Said, settings: Settings) -> Sequence[Path]:
    """Its files. Raises UsageError, RecordingError and OSError."""
    from halotui.recording.recorder import FOLDER
    from halotui.recording.segments import of_session
    from halotui.recording.sessions import last, sessions

    if said.get("recording") is not None:
        return of_session(said["recording"])
    directory = place(settings, said).state / FOLDER
    if (found := last(sessions(directory, _talk))) is None:
        raise UsageError(f"--last: the flight recorder holds nothing yet ({directory})")
    return [*map(Path, found.segments)]


class _Losses:
    frames = 0


def _frames(recording: Recording, losses: _Losses) -> Iterator[Frame]:
    """Block by block: one that cannot be read costs its own frames alone."""
    from halotui.recording.reader import RecordingError

    begin = 0
    for block in recording.blocks:
        end = begin + block.digest.frames
        try:
            yield from list(recording.run(begin, end))
        except (RecordingError, OSError):
            losses.frames += end - begin
        begin = end


# --- a log alone


async def _of_log(said: Said, settings: Settings) -> int:
    path, where = str(said["log"]), place(settings, said)
    if path == STDIN and where.target is not None:
        raise UsageError("--log - or --ssh: one of them")
    async with opened(where) as (host, _):
        return await _of_lines(path, host, said, settings)


async def _of_lines(path: str, host: Host, said: Said, settings: Settings) -> int:
    from halotui.commands.log_blocks import blocks
    from halotui.sampler.log_only import LogFrames

    name = "standard input" if path == STDIN else clean(path)
    judge = await _judge(said, settings, hold=False, without=LIVE_ONLY)
    log = LogFrames(name, lambda: judge.restless)
    async with aclosing(blocks(path, name, _Progress(), host)) as read:
        async for block in read:
            for frame in log.feed(block):
                judge.see(frame)
                if judge.frames % BREATH == 0:
                    await asyncio.sleep(0)
    if not log.known:
        raise UsageError(f"--log: {name}: no log of llama-server: not a line that it writes")
    for frame in log.end():
        judge.see(frame)
    timed = log.stamped or log.clocked
    return _answer(judge, judge.verdict(relative=timed and not log.stamped, timeless=not timed), said)


class _Progress:
    """A line on a terminal, once it takes longer than a second."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._next = time.monotonic() + 1.0
        self._shown = False

    def show(self, words: str) -> None:
        if not self._live or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + 0.2
        self._shown = True
        width = max(20, shutil.get_terminal_size().columns - 1)
        print(f"\r\x1b[K{clean(words)[:width]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = False
