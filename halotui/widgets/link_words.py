"""The connection to a far box, in words; and the picture of a box that cannot be asked."""

from __future__ import annotations

from collections.abc import Sequence

from halotui import format
from halotui.model import Link, LinkState
from halotui.widgets.rows import Row, Run, fill
from halotui.widgets.sheet import wrapped

NOTED_SECONDS = 2.0  # of difference between two clocks, from which it is told
_KEPT = ("rule", "faint", "dim", "title", "cursor")  # styles that are quiet enough


def standing(link: Link, now: float) -> str:
    """For the header: ``link lost 12 s, again in 4 s``."""
    age = format.duration(now - link.since_time)
    if link.state is LinkState.LOST:
        return f"link lost {age}{_again(link, now)}"
    if link.state is LinkState.CONNECTING:
        return f"connecting {age}"
    return f"refused {age}" if link.state is LinkState.REFUSED else str(link.state)


def short(link: Link | None, now: float) -> str:
    """For a column: the round trip while it is up, else its state and age."""
    if link is None:
        return "here"
    if link.state is LinkState.UP:
        trip = link.round_trip_seconds
        return "up" if trip is None else f"{trip * 1000:.0f} ms"
    if link.state is LinkState.LOST:
        return f"lost {format.duration(now - link.since_time)}"
    return str(link.state)


def why(link: Link) -> str:
    """Ssh's words, and what to do."""
    return "; ".join(text for text in (link.reason, link.hint) if text)


def clock(link: Link) -> str:
    """How its clock differs, where that is worth a word."""
    ahead = link.ahead_seconds
    if ahead is None or abs(ahead) < NOTED_SECONDS:
        return ""
    return (
        f"{format.seconds(abs(ahead))} {'before' if ahead > 0 else 'behind'} ours; put right in what is shown"
    )


def lines(link: Link | None, now: float) -> list[tuple[str, str]]:
    """All of it, each with a label."""
    if link is None:
        return [("Link", "none: it is the box we run on")]
    up, lost = link.state is LinkState.UP, link.state is LinkState.LOST
    since = f"since {format.clock(link.since_time)}"
    trip = link.round_trip_seconds
    told = [("Link", f"{link.state} {since}{_again(link, now) if lost else ''}")]
    told += [("Delay", f"{format.seconds(trip)}, there and back")] if up and trip is not None else []
    told += [("Reason", link.reason)] if link.reason else []
    told += [("To do", link.hint)] if link.hint else []
    told += [("Clock", clock(link))] if clock(link) else []
    return told


def page(link: Link | None, trouble: str, width: int, height: int) -> list[Row]:
    """For a box that was never seen: why, and what to do."""
    texts = [trouble] if trouble or link is None else [link.reason or "not reached yet", link.hint]
    said = [line for text in texts if text for line in wrapped(text, width - 4)]
    out = [fill((), width), *(fill((Run(f"  {line}", "text"),), width) for line in said)]
    return (out + [fill((), width)] * (height - len(out)))[:height]


def dimmed(rows: Sequence[Row]) -> list[Row]:
    """As it was last seen: nothing of it is of now."""
    return [tuple(run if run.style in _KEPT else run._replace(style="late") for run in row) for row in rows]


def _again(link: Link, now: float) -> str:
    if link.retry_time is None:
        return ""
    left = link.retry_time - now
    return f", again in {format.duration(left)}" if left >= 1 else ", trying"
