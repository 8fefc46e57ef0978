"""What was found over a while, as text and as JSON: ``halotui check``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from halotui import times
from halotui.format import count, duration
from halotui.model import Finding, Severity
from halotui.safe import clean

SHOWN = 3  # times of one finding that are told one by one
RANK = {severity: rank for rank, severity in enumerate(reversed(Severity))}  # the most severe first
_AGO = re.compile(r"(?:[;,] )?(last )?(\d+ (?:s|min|h \d\d|d \d\d h)) ago")
_JUST = 2.0  # seconds: as good as now
_MARKS = {Severity.CRITICAL: "✗", Severity.WARNING: "!", Severity.INFO: "i"}


class Found(Finding, frozen=True, omit_defaults=True, kw_only=True):
    """A finding, and when it was over."""

    until_time: float | None = None  # None: it still was there at the end
    seen_time: float | None = None  # of the frame that its evidence is of, and "ago" in it


class Verdict(Struct, frozen=True, kw_only=True):
    """All of it. Times are Unix seconds; of a log without a time of day, seconds of its server's clock."""

    findings: tuple[Found, ...]  # the most severe first
    frames: int
    from_time: float | None  # None: nothing tells
    to_time: float | None
    relative: bool = False  # it is the log's own clock
    rules: int  # that there are
    undefined: tuple[str, ...] = ()  # ids of those that could not be judged: their data is missing
    silenced: tuple[str, ...] = ()  # ids of those that fired, and that the user does not want to hear of


def text(verdict: Verdict, *, live: bool = False) -> str:
    """A block for each, and a line at the end. Every line is harmless. ``live``: its end is now."""
    return "\n".join(map(clean, _lines(verdict, live)))


def _lines(verdict: Verdict, live: bool) -> Iterator[str]:
    groups: dict[tuple[str, str], list[Found]] = {}
    for found in verdict.findings:
        groups.setdefault((found.id, found.subject), []).append(found)
    for group in groups.values():
        yield from _block(verdict, group, live)
        yield ""
    yield _summary(verdict, len(groups))
    if verdict.silenced:
        yield f"silenced: {', '.join(verdict.silenced)}"
    if verdict.undefined:
        yield f"{len(verdict.undefined)} of {verdict.rules} rules had nothing to go by; --json names them"


def _block(verdict: Verdict, group: Sequence[Found], live: bool) -> Iterator[str]:
    worst = group[0]
    yield f"{_MARKS[worst.severity]} {str(worst.severity).upper()} {worst.id}: {worst.title}"
    yield f"    {_evidence(verdict, worst, live)}"
    if worst.subject:
        yield f"    of:  {worst.subject}"
    if when := _when(verdict, sorted(group, key=lambda found: found.since_time or 0.0)):
        yield f"    when: {when}"
    yield f"    why: {worst.why}"
    yield from (f"    cause: {cause.text} (proof: {cause.proof})" for cause in worst.causes)
    yield f"    fix: {worst.fix}"
    if worst.reference:
        yield f"    see: {worst.reference}"


def _evidence(verdict: Verdict, found: Found, live: bool) -> str:
    """Whoever reads of the past wants to know when, not how long before the frame that told of it."""
    seen = found.seen_time
    if seen is None:
        return _AGO.sub("", found.evidence)
    if live and verdict.to_time is not None and verdict.to_time - seen <= _JUST:
        return found.evidence

    def told(ago: re.Match[str]) -> str:
        just = ago[2] in ("0 s", "1 s")
        when = f"at {_moment(verdict, seen)}" if just else f"{ago[2]} before {_moment(verdict, seen)}"
        return f"{ago[0].partition(' ')[0]} {ago[1] or ''}{when}" if ago[0][0] in ";," else when

    return _AGO.sub(told, found.evidence)


def _when(verdict: Verdict, group: Sequence[Found]) -> str:
    spells = [_spell(verdict, found) for found in group[:SHOWN] if found.since_time is not None]
    if len(group) > SHOWN:
        spells.append(f"and {count(len(group) - SHOWN)} times more, the last {_spell(verdict, group[-1])}")
    return "; ".join(spells)


def _spell(verdict: Verdict, found: Found) -> str:
    begin = _moment(verdict, found.since_time or 0.0)
    if found.until_time is None:
        return f"from {begin}, still at the end"
    return f"{begin} to {_moment(verdict, found.until_time)}"


def _moment(verdict: Verdict, at: float) -> str:
    if not verdict.relative:
        return times.stamp(at)
    minutes, seconds = divmod(max(0, int(at)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"+{hours}:{minutes:02}:{seconds:02}"


def _summary(verdict: Verdict, kinds: int) -> str:
    over = [f"{count(verdict.frames)} frame{'' if verdict.frames == 1 else 's'}"]
    if verdict.from_time is not None and verdict.to_time is not None:
        over.insert(0, duration(verdict.to_time - verdict.from_time))
    if not verdict.findings:
        return f"nothing found in {', '.join(over)}"
    tally = [
        f"{count(number)} {severity}"
        for severity in RANK
        if (number := len({(f.id, f.subject) for f in verdict.findings if f.severity is severity}))
    ]
    return f"{count(kinds)} found in {', '.join(over)}: {', '.join(tally)}"
