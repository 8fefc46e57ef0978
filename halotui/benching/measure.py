"""Runs one command from its baseline to its end: captured, its results read and stored, its end told."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from msgspec.structs import replace

from halotui.benching import live, naming
from halotui.benching.account import signal_name
from halotui.benching.child import Child, start
from halotui.benching.kept import Kept
from halotui.benching.llama_bench import Reader
from halotui.benching.relay import Relay
from halotui.capture.capture import Capture
from halotui.collectors import kernel_log, platform
from halotui.hosts import Host, LinkDown
from halotui.hosts.hands import MARK, Hands
from halotui.runs import Environment, Result, Run, Status, Store
from halotui.safe import clean

NOT_FOUND, NOT_STARTED, TIMED_OUT = 127, 126, 124  # as the shell and timeout(1) have them
ENVIRONMENT_SECONDS = 2.5
GPU_HANG = "GPU Hang"
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TAIL_BYTES = 8192
_TAIL_LINES = 6


async def measure(
    command: Sequence[str],
    *,
    host: Host,
    hands: Hands,
    store: Store | None,
    run: Run,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    hertz: float = 20.0,
    timeout: float | None = None,  # noqa: ASYNC109 - the command's, not the caller's patience
    relay: Relay,
    tell: Callable[[str], None],
) -> Run:
    """Run ``command`` as ``run`` (kind, label, suite, series, item) says; the whole run, with its id.

    ``env`` is set over ours, or over that of a far box. ``timeout`` in seconds: a command that takes longer
    is ended, has hung and has exit code 124. One that cannot be started has failed, with 127 or 126. What
    cannot be kept is told once, and the measuring goes on. Until it returns, SIGINT, SIGTERM, SIGHUP and
    SIGWINCH are its own: here a terminal's Ctrl-C reaches the command without us, all else is passed on. When
    cancelled, the command is ended and the run INTERRUPTED. One that lost its connection is LOST.
    """
    named = bool(run.label)
    run = replace(
        run,
        status=Status.RUNNING,
        label=run.label or naming.program(command),
        command=naming.masked(command),
        env=naming.masked_env(naming.telling(host.environ))
        | (run.env or naming.masked_env(_news(env, host.environ))),
        environment=run.environment or await _environment(host, hands),
        started_time=time.time(),
    )
    kept = await asyncio.to_thread(Kept, store, run, tell)
    reading = _Reading(kept.result)
    children: list[Child] = []
    pids = lambda: [pid for child in children for pid in child.pids]  # noqa: E731
    capture = Capture(host, hertz=hertz, sink=kept.sink, pids=pids)
    await asyncio.to_thread(capture.start)
    relay.now = capture.now
    began = time.monotonic()
    end = _End()
    try:
        end = await _carry_out(command, host, hands, relay, reading, capture, children, env, cwd, timeout)
    finally:
        seconds = time.monotonic() - began
        summary = await asyncio.to_thread(capture.stop)
        reading.close()
        lines: Sequence[str] = ()
        if end.code != 0:
            said = [line for line in reading.lines() if kernel_log.trouble(line)]
            lines = (*await kernel_since(host, hands, run.started_time), *said)
        status, reason = _verdict(end, timeout, lines, relay.failure)
        tail = () if status in (Status.OK, Status.INTERRUPTED) else reading.lines()[-_TAIL_LINES:]
        run = replace(
            run,
            id=kept.id,
            status=status,
            label=run.label if named else naming.label_of(command, reading.results),
            seconds=seconds,
            exit_code=TIMED_OUT if end.timed_out else end.code,
            reason=reason,
            evidence=tuple(dict.fromkeys((*lines, *tail))),
            results=tuple(reading.results),
            summary=summary,
            marks=capture.marks,
        )
        run = await asyncio.to_thread(kept.finish, run)
    return run


class _End(NamedTuple):
    """How the command ended."""

    code: int | None = None  # None: it did not even die
    timed_out: bool = False
    signalled: int = 0  # what reached us meanwhile: SIGINT, SIGTERM, SIGHUP
    trouble: str = ""  # why it could not be started
    lost: str = ""  # why nobody knows how it ended


async def _carry_out(
    command: Sequence[str],
    host: Host,
    hands: Hands,
    relay: Relay,
    reading: _Reading,
    capture: Capture,
    children: list[Child],
    env: Mapping[str, str] | None,
    cwd: str | None,
    seconds: float | None,
) -> _End:
    try:
        child = await start(command, host, hands, relay, env=env, cwd=cwd)
    except (OSError, ValueError) as error:
        relay.finish()
        missing = isinstance(error, FileNotFoundError) and error.filename != cwd
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return _End(NOT_FOUND if missing else NOT_STARTED, trouble=why)
    relay.start(reading.take, lambda width: live.line(capture.now(), width))
    timed_out, seen, lost = False, [0], ""
    children.append(child)
    try:
        with _signals(relay, child, seen):
            try:
                async with asyncio.timeout(seconds):
                    await child.wait()
            except TimeoutError:
                timed_out = True
                await child.end()
            except LinkDown as error:
                lost = str(error)
            except asyncio.CancelledError:
                seen[0] = seen[0] or signal.SIGTERM
                await child.end()
                raise
    finally:
        child.close()
        await asyncio.to_thread(relay.finish)
    return _End(None if lost else child.returncode, timed_out, seen[0], lost=lost)


@contextmanager
def _signals(relay: Relay, child: Child, seen: list[int]) -> Iterator[None]:
    """What reaches us is for the command."""

    def passed_on(number: int, frame: Any) -> None:
        seen[0] = number
        child.hear(number)

    def resized(number: int, frame: Any) -> None:
        # The command may have asked the PTY for its size before we set it: once more, and to all that share
        # the terminal, us included. No news then, and that is the end of it.
        if relay.resized():
            os.killpg(0, signal.SIGWINCH)

    ours = {signal.SIGWINCH: resized, **dict.fromkeys(_PASSED_ON, passed_on)}
    before = {}
    try:
        for number, handler in ours.items():
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup's child shall not hear of it either
                before[number] = signal.signal(number, handler)
    except ValueError:  # not the main thread: nothing reaches us
        pass
    try:
        yield
    finally:
        for number, theirs in before.items():
            signal.signal(number, theirs)


def _verdict(end: _End, timeout: float | None, lines: Sequence[str], failure: str) -> tuple[Status, str]:
    """Status and reason."""
    if end.lost:
        return Status.LOST, end.lost
    if end.trouble:
        return Status.FAILED, f"cannot be started: {clean(end.trouble)}"
    if hang := kernel_log.hang(lines):
        return Status.HUNG, f"{GPU_HANG}: {hang.what}"
    fault = next((f"{found.what}: " for line in lines if (found := kernel_log.trouble(line))), "")
    if end.timed_out:
        dead = "" if end.code is not None else ", and cannot be killed"
        return Status.HUNG, f"{fault}longer than {timeout:g} s{dead}"
    if end.signalled in (signal.SIGTERM, signal.SIGHUP) or (end.signalled and end.code):
        return Status.INTERRUPTED, f"by {signal_name(end.signalled)}"
    if end.code is None:
        return Status.INTERRUPTED, fault.removesuffix(": ")
    if end.code < 0:
        lost = f" (its output could not be passed on: {failure})" if failure else ""
        return Status.CRASHED, f"{fault}{signal_name(-end.code)}{lost}"
    if end.code:
        return Status.FAILED, f"{fault}exit code {end.code}"
    return Status.OK, ""


class _Reading:
    """What is made of the output as it passes; in the relay's thread."""

    def __init__(self, put: Callable[[Result], None]) -> None:
        self.results: list[Result] = []
        self._put = put
        self._readers = {1: Reader(), 2: Reader()}
        self._of_stderr: list[Result] = []  # llama-bench -oe: they count where stdout has none
        self._tail = b""

    def take(self, which: int, data: bytes) -> None:
        self._tail = (self._tail + data)[-_TAIL_BYTES:]
        if b"\0" not in data:  # no text: not worth the time
            self._add(which, self._readers[which].feed(data))

    def close(self) -> None:
        for which, reader in self._readers.items():
            self._add(which, reader.close())
        if not self.results:
            self._add(1, self._of_stderr)
        build = self._readers[1].build or self._readers[2].build  # told below a table, when its rows are out
        self.results = [replace(result, build=result.build or build) for result in self.results]

    def lines(self) -> list[str]:
        """The last of the output, harmless."""
        lines = self._tail.replace(b"\r", b"\n").split(b"\n")
        return [line for raw in lines if (line := naming.masked_line(clean(raw, 300)).strip())]

    def _add(self, which: int, results: Sequence[Result]) -> None:
        if which == 2:
            self._of_stderr += results
            return
        for result in results:
            if any(_is_row_of(result, known) for known in self.results):
                continue
            rows = [at for at, known in enumerate(self.results) if _is_row_of(known, result)]
            if rows:  # the end of the run takes it to the store, in the row's place
                self.results[rows[-1]] = result
            else:
                self.results.append(result)
                self._put(result)


def _is_row_of(row: Result, record: Result) -> bool:
    """Whether it is the Markdown row, rounded, of a record in another form: ``-o jsonl -oe md`` on one
    terminal, or the other way round."""
    if row.model or not record.model or row.test != record.test:
        return False
    return abs((row.tokens_per_second or 0.0) - (record.tokens_per_second or 0.0)) < 0.006


def _news(env: Mapping[str, str] | None, known: Mapping[str, str]) -> dict[str, str]:
    """What is set otherwise than in the box's own environment, without our mark."""
    return {name: value for name, value in (env or {}).items() if name != MARK and known.get(name) != value}


async def kernel_since(host: Host, hands: Hands, since: float) -> Sequence[str]:
    """What the kernel of that box said from then on, by its clock."""
    with suppress(LinkDown):
        return await kernel_log.since(hands, since + host.ahead)
    return ()


async def _environment(host: Host, hands: Hands) -> Environment | None:
    """Read before the command starts: what that costs is not in its measurement."""
    with suppress(TimeoutError):
        async with asyncio.timeout(ENVIRONMENT_SECONDS):
            return await platform.read(host, hands)
    return None
