"""One run in words: how it ended, its peaks, energy, throttling, processes and what could not be read."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from halotui.benching import facts
from halotui.benching.sides import Side
from halotui.benching.tables import GTT, POOLS, RAM, VRAM, Table, mib, name_of, note, peaks, published, render
from halotui.fields import BY_ID, FIELDS
from halotui.format import DASH, duration, hertz, percent, thousandths, watts
from halotui.runs import ProcessPeak, Run, Summary
from halotui.safe import clean

_LIMITERS = {field.label: field.help for field in FIELDS if field.owner == "throttle"}
_UNITS = {
    "hertz": hertz,
    "watts": watts,
    "celsius": "{:.0f} °C".format,
    "percent": "{:.0f} %".format,
    "ratio": percent,
}
_MOST_PROCESSES = 10


def text(run: Run, *, evidence: bool = True) -> str:
    """All that a terminal is told of it, the published table last."""
    return "\n".join((*lines(run, evidence=evidence), *_published(run)))


def lines(run: Run, *, evidence: bool = True) -> Iterator[str]:
    """All but the published table. ``evidence``: what was in front of the reader need not come again."""
    yield clean(f"{run.label or DASH}  {ended(run)}" + (f"  {_span(run.seconds)}" if run.seconds else ""))
    if evidence:
        yield from (clean(f"  | {line}") for line in run.evidence)
    if run.summary is None:
        return
    yield render(peaks(run.summary), "table")
    if (loads := loads_of(run.summary)).rows:
        yield render(loads, "table")
    yield from map(clean, _words(run.summary))
    began = run.summary.began_time
    yield from (clean(f"mark: {mark.label}  at {mark.time - began:.1f} s") for mark in run.marks)


def label(run: Run) -> str:
    """Model, backend, build and box in one line: what the numbers are worth nothing without."""
    return facts.label_line(facts.facts(Side(run.label, (run,))))


def ended(run: Run) -> str:
    """``ok``, ``failed: exit code 3``, ``crashed: SIGSEGV`` ..."""
    return f"{run.status}: {run.reason}" if run.reason else str(run.status)


def signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def loads_of(summary: Summary) -> Table:
    """What is no memory: ``| least | mean | peak | at``, with units."""
    rows = []
    for track in summary.tracks:
        show = _UNITS.get(BY_ID[track.field].unit) if track.field in BY_ID else None
        if show is None or track.field in POOLS or track.field.startswith("process."):
            continue
        cells = (DASH if value is None else show(value) for value in (track.least, track.mean, track.peak))
        at = DASH if track.peak_seconds is None else f"{track.peak_seconds:.1f} s"
        rows.append((name_of(track.field), *cells, at))
    return Table(("", "least", "mean", "peak", "at"), rows)


def as_object(run: Run) -> dict[str, Any]:
    """The run as JSON has it everywhere: its own keys are always there; each track with its Δ, and the memory
    of the table in both readings."""
    built: dict[str, Any] = msgspec.to_builtins({name: getattr(run, name) for name in Run.__struct_fields__})
    built["max_memory"] = {}
    if run.summary is None:
        return built
    for track, told in zip(run.summary.tracks, built["summary"].get("tracks", ()), strict=True):
        told |= {"delta": track.delta, "delta_peak": track.delta_peak}
    built["max_memory"] = {
        name_of(field).lower(): {"peak_bytes": found.peak, "delta_peak_bytes": found.delta_peak}
        for field in (VRAM, GTT, RAM)
        if (found := run.summary.track(field))
    }
    return built


def _published(run: Run) -> Iterator[str]:
    if run.results:
        yield ""
        yield from filter(None, (label(run), render(published([run]), "table"), note([run])))


def _words(summary: Summary) -> Iterator[str]:
    if summary.energy_joules is not None:
        gpu = summary.gfx_energy_joules
        share = f", the GPU's share {_energy(gpu)}" if gpu is not None else ""
        yield f"energy of the package: {_energy(summary.energy_joules)}{share}"
    if summary.throttled:
        told = [f"{_limiter(name)} (+{moved})" for name, moved in summary.throttled.items() if moved]
        yield f"throttled: {', '.join(told)}" if told else "not throttled"
    peaks = sorted(summary.processes, key=_weight, reverse=True)
    yield from map(_process, peaks[:_MOST_PROCESSES])
    if len(peaks) > _MOST_PROCESSES:
        yield f"{len(peaks) - _MOST_PROCESSES} smaller processes"
    late = f", {summary.late} late" if summary.late else ""
    gap = summary.longest_gap_seconds
    longest = f", longest gap {gap:.2f} s" if gap is not None else ""
    yield f"{summary.samples} samples at {summary.hertz:g} Hz{late}{longest}"
    yield from (f"note: {line}" for line in summary.notes)


def _limiter(name: str) -> str:
    """In a few words: what its field helps with, up to the first stop."""
    words = re.split(r"[:.]", _LIMITERS.get(name, ""))[0]
    return f"{words[:1].lower()}{words[1:]}, {name}" if words else name


def _energy(joules: float) -> str:
    return f"{thousandths(joules, 'J')} ({thousandths(joules / 3600, 'Wh')})"


def _weight(process: ProcessPeak) -> int:
    return sum(filter(None, (process.rss_bytes, process.gtt_bytes, process.vram_bytes)))


def _process(process: ProcessPeak) -> str:
    pools = (("RSS", process.rss_bytes), ("GTT", process.gtt_bytes), ("VRAM", process.vram_bytes))
    held = ", ".join(f"{name} {mib(bytes_)}" for name, bytes_ in pools if bytes_ is not None)
    return f"{process.name} ({process.pid}): {held or DASH} MiB at most"


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)
