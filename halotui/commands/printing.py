"""What the desk answers, as text. Every line is made harmless here once more."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

from halotui import comparing
from halotui.actions import (
    Change,
    Kind,
    Outcome,
    ProfileRow,
    Proposal,
    ServerRow,
    Standing,
    Step,
    Verdict,
)
from halotui.safe import clean

_MARKS = {Verdict.OK: "✓", Verdict.WARN: "!", Verdict.FAIL: "✗", Verdict.UNKNOWN: "?"}
_ENDS = {
    Step.KEPT: "kept",
    Step.STOPPED_FOR_GOOD: "stopped",
    Step.REFUSED: "refused, nothing was touched",
    Step.ROLLED_BACK: "rolled back: what ran before serves again",
    Step.LOST: "LOST: neither the new nor the old server runs",
}


_FRESH = {Step.KEPT: "serves", Step.ROLLED_BACK: "failed, and was taken away"}  # where nothing ran before


def harmless(lines: Iterable[str]) -> str:
    return "\n".join(map(clean, lines))


def servers(rows: Sequence[ServerRow]) -> str:
    return harmless(line for row in rows for line in _server(row)) or "no llama-server runs here"


def _server(row: ServerRow) -> Iterator[str]:
    facts = (row.model, row.backend, row.runner, row.profile and f"profile {row.profile}")
    yield f"{row.url}  pid {row.pid}  {' · '.join(filter(None, facts))}".rstrip()
    if row.started_time is not None:
        yield f"    since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(row.started_time))}"
    if row.command:
        yield f"    {shlex.join(row.command)}"
    if row.refusal:
        yield f"    not touched: {row.refusal}" + (f" ({row.hint})" if row.hint else "")


def profiles(rows: Sequence[ProfileRow]) -> str:
    width = max((len(row.name) for row in rows), default=0)
    return harmless(_profile(row, width) for row in rows) or "no profiles"


def _profile(row: ProfileRow, width: int) -> str:
    notes = (
        "preset" if row.preset else "",
        "" if row.complete else "changes what runs",
        f"cannot be used: {row.problem}" if row.problem else "",
    )
    mark = "*" if row.current else " "
    said = ", ".join(filter(None, notes))
    return f"{mark} {row.name:{width}}  {row.summary}" + (f"  ({said})" if said else "")


def no_profile(name: str, names: Sequence[str]) -> str:
    """The one that was meant, or all there are."""
    near = get_close_matches(name, names, 1)
    return f"there is no profile '{name}'" + (
        f"; did you mean {near[0]}?" if near else f", but {', '.join(names)}"
    )


def proposal(what: Proposal) -> str:
    """The checklist, then the difference; ``possible`` has the verdict."""
    return harmless(_proposal(what))


def _proposal(what: Proposal) -> Iterator[str]:
    ends = " → ".join(filter(None, (what.before, what.after)))
    yield f"{what.ask.kind} {what.url}  {ends}".rstrip()
    for check in what.checks:
        yield f"  {_MARKS[check.verdict]} {check.title}" + (f": {check.detail}" if check.detail else "")
        if check.fix and check.verdict is not Verdict.OK:
            yield f"      fix: {check.fix}"
    for change in what.changes:
        yield from _change(change)
    for mark, command in (("-", what.command_before), ("+", what.command_after)):
        if command:
            yield f"{mark} {shlex.join(command)}"


def _change(change: Change) -> Iterator[str]:
    name = change.name if change.part == "flag" else f"{change.part} {change.name}"
    for mark, value in (("-", change.before), ("+", change.after)):
        if value is not None:
            yield f"  {mark} {name} {value}".rstrip()


def standing(one: Standing) -> str:
    """One line."""
    todo = "under way elsewhere" if one.running else "halotui relaunch --finish or --undo"
    return clean(f"unfinished {one.kind}: {one.text} ({todo})")


def outcome(end: Outcome) -> str:
    return harmless(_outcome(end))


def _outcome(end: Outcome) -> Iterator[str]:
    ends = " → ".join(filter(None, (end.before, end.after)))
    fresh = _FRESH.get(end.step) if end.kind in (Kind.LAUNCH, Kind.START) else None
    yield f"{end.kind} {ends}: {fresh or _ENDS.get(end.step, end.step)}"
    if end.reason:
        yield f"reason: {end.reason}"
    if end.serving and end.url:
        yield f"serving: {end.url}" + (f"  pid {end.pid}" if end.pid else "")
    yield from _table(end)
    yield from (f"note: {note}" for note in comparing.notes(end))
    for when, line in (("before", end.command_before), ("after", end.command_after)):
        if line:  # lost: to be started by hand
            yield f"{when}: {shlex.join(line)}"
    yield from (f"  | {line}" for line in end.log_tail)
    if end.log_path:
        yield f"log: {end.log_path}"


def _table(end: Outcome) -> Iterator[str]:
    """Before, after and the change; nothing when nothing was measured."""
    rows = comparing.table(end)
    if all(None in (row.before, row.after) for row in rows) and not (end.speed_before or end.speed_after):
        return  # a load time alone is nothing to compare
    if rows:
        yield f"{'':12}{'before':>18}{'after':>18}{'Δ':>9}"
    for row in rows:
        change, (before, after) = comparing.delta(row), row.cells
        yield f"{row.label:12}{before:>18}{after:>18}{change.text:>9} {change.word}".rstrip()
