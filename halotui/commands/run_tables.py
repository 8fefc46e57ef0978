"""Runs as tables: one line each, or one of them whole."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from datetime import datetime

from halotui.benching import facts, tables
from halotui.benching.tables import Table
from halotui.fields import BY_ID
from halotui.format import DASH, digits, duration, show, thousandths
from halotui.runs import Result, Run, Summary

_HEAD = ("id", "when", "label", "kind", "status", "tests (t/s)", "Max MiB", "took")
_LABEL, _TESTS = 2, 5
_SENSOR = ("least", "mean", "peak", "last")  # of a track
_LEAST = 8  # cells that are left of a label or of the tests, however narrow the terminal
_GAP = 2


def listing(runs: Sequence[Run], columns: int | None) -> Table:
    """A line for each. ``columns``: of the terminal that it must fit, where there is one."""
    rows = [_line(run, brief=columns is not None) for run in runs]
    if columns is not None and rows:
        widths = [max(map(tables.width, column)) for column in zip(_HEAD, *rows, strict=True)]
        room = columns - sum(widths) - _GAP * (len(_HEAD) - 1) + widths[_LABEL] + widths[_TESTS]
        label = min(widths[_LABEL], max(_LEAST, room // 2, room - widths[_TESTS]))
        tests = max(_LEAST, room - label)
        rows = [
            (*row[:_LABEL], _clip(row[_LABEL], label), *row[3:_TESTS], _clip(row[_TESTS], tests), *row[6:])
            for row in rows
        ]
    return Table(_HEAD, rows, left=6)


def _line(run: Run, *, brief: bool) -> tuple[str, ...]:
    return (
        str(run.id),
        _when(run.started_time, brief),
        run.label or DASH,
        str(run.kind),
        str(run.status),
        " · ".join(map(_speed, run.results)) or DASH,
        tables.max_mem(run),
        DASH if run.seconds is None else duration(run.seconds),
    )


def _speed(result: Result) -> str:
    known = result.tokens_per_second
    return f"{result.test} {DASH if known is None else digits(known)}"


def _when(moment: float, brief: bool) -> str:
    """Local; on a terminal without what goes without saying."""
    try:
        then = datetime.fromtimestamp(moment)
    except (ValueError, OverflowError, OSError):
        return DASH
    if not brief:
        return f"{then:%Y-%m-%d %H:%M:%S}"
    return f"{then:%m-%d %H:%M}" if then.year == time.localtime().tm_year else f"{then:%Y-%m-%d}"


def whole(run: Run) -> list[Table]:
    """All that is known of it, table by table."""
    parts = [Table((f"run {run.id}", run.label or DASH), list(_facts(run)), 2)]
    if run.environment:
        parts.append(Table(("box", run.environment.host or DASH), list(facts.of_box(run.environment)), 2))
    if run.results:
        parts += [results(run.results), *(part for part in [common(run.results)] if part.rows)]
    if run.summary:
        parts.extend(_capture(run.summary))
    if run.marks:
        parts.append(Table(("mark", ""), [(_when(mark.time, False), mark.label) for mark in run.marks], 2))
    if run.evidence:
        parts.append(Table(("evidence",), [(line,) for line in run.evidence]))
    return parts


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    yield "kind", str(run.kind)
    yield "status", str(run.status)
    if run.reason:
        yield "reason", run.reason
    if run.exit_code is not None:
        yield "exit code", str(run.exit_code)
    yield "started", _when(run.started_time, False)
    yield "took", DASH if run.seconds is None else duration(run.seconds)
    if run.command:
        yield "command", shlex.join(run.command)
    for name, value in run.env.items():
        yield "env", f"{name}={value}"
    for name in ("suite", "item", "series"):
        if value := getattr(run, name):
            yield name, value


def results(found: Sequence[Result]) -> Table:
    """Test, speed and spread; what they have in common is said once, below, and what tells them apart is a
    column."""
    settings = [_settings(result) for result in found]
    names = list(dict.fromkeys(name for each in settings for name in each))
    apart = [name for name in names if len({each.get(name) for each in settings}) > 1]
    head = ("test", "t/s", "±", "n", *apart)
    rows: list[tuple[str, ...]] = [
        (
            result.test,
            DASH if result.tokens_per_second is None else f"{result.tokens_per_second:.2f}",
            DASH if result.spread is None else f"{result.spread:.2f}",
            str(len(result.samples)) if result.samples else DASH,
            *(each.get(name, DASH) for name in apart),
        )
        for result, each in zip(found, settings, strict=True)
    ]
    return Table(head, rows)


def common(found: Sequence[Result]) -> Table:
    """What all results have in common."""
    settings = [_settings(result) for result in found]
    same = [pair for pair in settings[0].items() if all(pair in each.items() for each in settings)]
    return Table(("of all tests", ""), [*same], 2)


def _settings(result: Result) -> dict[str, str]:
    said = {
        "model": result.model,
        "model type": result.model_type,
        "size (MiB)": "" if result.model_bytes is None else tables.mib(result.model_bytes),
        "backend": result.backend,
        "build": result.build,
        **result.settings,
        "prefill (t/s)": _number(result.prompt_tokens_per_second),
        "decode (t/s)": _number(result.generation_tokens_per_second),
        "draft acceptance": _number(result.draft_acceptance_ratio),
        "draft coverage": _number(result.draft_coverage_ratio),
    }
    return {name: value for name, value in said.items() if value}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _capture(summary: Summary) -> Iterator[Table]:
    peaks = tables.peaks(summary)
    if peaks.rows:
        yield peaks
    others = [track for track in summary.tracks if track.field not in tables.POOLS and track.samples]
    if others:
        several = len({track.subject for track in others if track.subject}) > 1
        yield Table(
            ("sensor", *_SENSOR),
            [
                (
                    f"{tables.name_of(track.field)} {track.subject if several else ''}".rstrip(),
                    *(_shown(track.field, getattr(track, what)) for what in _SENSOR),
                )
                for track in others
            ],
        )
    if summary.processes:
        yield Table(
            ("process (MiB)", "pid", "RSS", "GTT", "VRAM"),
            [
                (one.name, str(one.pid), *map(tables.mib, (one.rss_bytes, one.gtt_bytes, one.vram_bytes)))
                for one in summary.processes
            ],
        )
    yield Table(("capture", f"{summary.hertz:g} Hz"), list(_quality(summary)), 2)


def _shown(field: str, value: float | None) -> str:
    return show(BY_ID[field], value) if field in BY_ID else DASH if value is None else digits(value)


def _quality(summary: Summary) -> Iterator[tuple[str, str]]:
    yield "samples", f"{summary.samples} in {summary.seconds:.1f} s, {summary.late} late"
    if summary.longest_gap_seconds is not None:
        yield "longest gap", f"{summary.longest_gap_seconds * 1000:.0f} ms"
    for label, joules in (("energy", summary.energy_joules), ("GPU energy", summary.gfx_energy_joules)):
        if joules is not None:
            yield label, thousandths(joules, "J")
    for limiter, moved in summary.throttled.items():
        if moved:
            yield "throttled", f"{limiter} (+{moved})"
    for note in summary.notes:
        yield "note", note


def _clip(text: str, width: int) -> str:
    if tables.width(text) <= width:
        return text
    while text and tables.width(text) >= width:
        text = text[:-1]
    return f"{text.rstrip()}…"
