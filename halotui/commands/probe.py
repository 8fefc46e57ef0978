"""``halotui probe``: tries a running server. Data on stdout, talk and progress on stderr."""

from __future__ import annotations

import asyncio
import math
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins
from msgspec.structs import replace

from halotui import exits
from halotui.actions import Verdict
from halotui.benching.modes import is_foreground
from halotui.benching.tables import Table, render
from halotui.commands import keeping
from halotui.commands.measured import shown_by, talk
from halotui.commands.places import Place, opened, place
from halotui.commands.probe_target import NoTarget, Target, target
from halotui.exits import UsageError
from halotui.format import DASH
from halotui.hosts import Host, LinkDown
from halotui.hosts.hands import Hands
from halotui.ledger import NONE, Baselines
from halotui.probing import Aim, Report, Tell
from halotui.probing.cache import Cache
from halotui.probing.probe import Probe
from halotui.probing.slots import Slots
from halotui.probing.spec import Spec
from halotui.probing.speed import DEPTHS, Speed
from halotui.runs import Environment, Kind, Run, Status, StoreError
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.config import Settings

Said = Mapping[str, Any]
Making = Callable[[Aim, Tell], Probe]

SECONDS = 120.0
MOST_REQUESTS, MOST_DEPTHS, DEEPEST = 100, 16, 1 << 21
_OWN = {"requests": "spec", "depths": "speed"}  # an option -> the probe it is for
_CELLS = 20  # of the bar
_MARKS = {Verdict.OK: "✓", Verdict.FAIL: "✗", Verdict.WARN: "!", Verdict.UNKNOWN: "?"}


async def run(said: Said, settings: Settings) -> int:
    """The exit code. Raises UsageError, UnreachableError."""
    where = place(settings, said)
    making, seconds = _checked(said, where.settings)
    async with opened(where) as (host, hands):
        return await _probed(where, host, hands, making, seconds)


async def _probed(where: Place, host: Host, hands: Hands, making: Making, seconds: float) -> int:
    said, settings = where.said, where.settings
    try:
        to = await target(where, host, seconds, talk)
    except NoTarget as error:
        talk(str(error))
        return error.code
    learned = said["what"] in ("spec", "speed")
    baselines = await asyncio.to_thread(_baselines, said, settings) if learned else NONE
    bar = Bar()
    probe = making(Aim(to.server, to.sleepy, baselines), bar.show)
    named = f" ({to.server.model})" if to.server.model else ""
    if probe.plan:
        talk(f"{probe.plan}, to {to.server.url}{named}: up to {seconds:g} s of its time; Ctrl-C ends it")
        if to.sleepy:
            talk("it sleeps, or may: requests wake it")
        report = await _carried_out(probe, to, seconds, bar)
    else:
        report = probe.report()
    report = await _kept(report, where, host, hands)
    if said.get("json"):
        print(render(Table((), []), "json", to_builtins(report)), flush=True)
    else:
        print(text(report, probe), flush=True)
    if report.run:
        talk(f"run stored as {report.run}: {shown_by(report.run, said)}")
    if report.interrupted:
        return exits.INTERRUPTED
    return exits.OK if report.verdict is Verdict.OK else exits.FAILURE


def _checked(said: Said, settings: Settings) -> tuple[Making, float]:
    """What was asked for. Raises UsageError."""
    if settings.readonly:
        raise UsageError("read-only: a probe sends requests")
    for option, probe in _OWN.items():
        if option in said and said["what"] != probe:
            raise UsageError(f"--{option} is for probe {probe}")
    seconds = float(said.get("seconds", SECONDS))
    if not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"--seconds: {seconds:g} is not above 0")
    requests = said.get("requests", 10)
    if not 2 <= requests <= MOST_REQUESTS:
        raise UsageError(f"--requests: 2 to {MOST_REQUESTS}")
    probes: dict[str, Making] = {
        "spec": partial(Spec, requests=requests),
        "slots": Slots,
        "speed": partial(Speed, depths=_depths(said["depths"]) if "depths" in said else DEPTHS),
        "cache": Cache,
    }
    return probes[said["what"]], seconds


def _depths(words: str) -> Sequence[int]:
    parts = [part.strip() for part in words.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 8 for part in parts):
        raise UsageError(f"--depths: '{clean(words, 40)}' is not like 0,4096")
    depths = [*map(int, parts)]
    if len(depths) > MOST_DEPTHS or max(depths) > DEEPEST:
        raise UsageError(f"--depths: at most {MOST_DEPTHS}, of {DEEPEST} tokens at most")
    return depths


def _baselines(said: Said, settings: Settings) -> Baselines:
    """What is usual here; nothing where that cannot be read: the probe goes on without."""
    from halotui.store.ledger import open_ledger

    path = keeping.store_path(said, settings)
    if not path.exists():
        return NONE
    try:
        ledger = open_ledger(path, readonly=True)
        try:
            return Baselines(ledger.baselines())
        finally:
            ledger.close()
    except StoreError as error:
        talk(f"what is usual here cannot be read: {keeping.told(error)}")
        return NONE


async def _carried_out(probe: Probe, to: Target, seconds: float, bar: Bar) -> Report:
    """Ctrl-C ends it, and what was measured until then is reported."""
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(probe.carry_out(to.address, to.api_key, seconds, to.door))
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, work.cancel)
    try:
        await asyncio.wait({work})
    finally:
        work.cancel()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        bar.clear()
    if not work.cancelled():
        work.result()
    return probe.report(interrupted=work.cancelled())


async def _kept(report: Report, where: Place, host: Host, hands: Hands) -> Report:
    """With its id in the store; a store in trouble costs a word."""
    if not report.results:
        return report
    store = await asyncio.to_thread(keeping.try_store, where.said, where.settings)
    if store is None:
        return report
    well = report.verdict is Verdict.OK
    status = Status.INTERRUPTED if report.interrupted else Status.OK if well else Status.FAILED
    done = Run(
        kind=Kind.PROBE,
        status=status,
        label=f"probe {report.probe}",
        started_time=report.started_time,
        seconds=report.seconds,
        reason="" if well else report.headline,
        evidence=(*((report.headline,) if well else ()), *report.notes),
        environment=await _environment(host, hands),
        results=report.results,
    )
    try:
        return replace(report, run=await asyncio.to_thread(store.add, done))
    except StoreError as error:
        talk(f"it was not kept: {keeping.told(error)}")
        return report
    finally:
        await asyncio.to_thread(store.close)


async def _environment(host: Host, hands: Hands) -> Environment | None:
    """None where the box is not reached any more."""
    from halotui.collectors import platform

    with suppress(LinkDown):
        return await platform.read(host, hands)
    return None


def text(report: Report, probe: Probe) -> str:
    """Table, verdict, notes: harmless."""
    parts = []
    if report.rows:
        columns = [
            column for column in probe.columns if any(row[column.key] is not None for row in report.rows)
        ]
        rows = [
            tuple(
                DASH
                if (value := row[column.key]) is None
                else value
                if isinstance(value, str)
                else column.show(value)
                for column in columns
            )
            for row in report.rows
        ]
        left = 1 if any(isinstance(row[columns[0].key], str) for row in report.rows) else 0
        parts.append(render(Table(tuple(column.head for column in columns), rows, left), "table"))
    ended = "interrupted: " if report.interrupted else ""
    lines = [f"{_MARKS[report.verdict]} {report.probe}: {ended}{report.headline}"]
    lines += [f"  {note}" for note in report.notes]
    return "\n\n".join((*parts, "\n".join(map(clean, lines))))


class Bar:
    """One line at the foot of a terminal; nothing where stderr is none."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._began = time.monotonic()
        self._shown = False

    def show(self, ratio: float, words: str) -> None:
        if not self._live:
            return
        with suppress(OSError, ValueError):
            if not is_foreground(sys.stderr.fileno()):  # Ctrl-Z, bg: the terminal is the shell's
                return
            full = round(max(0.0, min(1.0, ratio)) * _CELLS)
            line = f"{'█' * full}{'░' * (_CELLS - full)}  {words}  {time.monotonic() - self._began:.0f} s"
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{clean(line)[:width]}", end="", file=sys.stderr, flush=True)
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            self._shown = False
            with suppress(OSError, ValueError):
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)
