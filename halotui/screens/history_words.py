"""What the history view says: its head, its foot, a line for each event."""

from __future__ import annotations

import time
from collections.abc import Sequence

from halotui import format
from halotui.runs import Bucket, Event
from halotui.screens.history_fields import whose
from halotui.screens.history_look import Look, Seen
from halotui.screens.popup import DIM, WARN, Part
from halotui.widgets.event_look import look_of

NOTHING = """\
Nothing is recorded yet.

The flight recorder keeps every frame while the dashboard runs, unless config.toml says recorder = false.
Come back in a minute."""

_KEYS = (  # the foot, every one a button: Textual's name, what is shown, what it does
    ("left", "←", ""),
    ("right", "→", "pan"),
    ("plus", "+", ""),
    ("minus", "-", "zoom"),
    ("0", "0", "hour"),
    ("d", "d", "day"),
    ("end", "end", "now"),
    ("left_square_bracket", "\\[", ""),
    ("right_square_bracket", "]", ""),
    ("f", "f", "field"),
    ("n", "n", ""),
    ("N", "N", "event"),
    ("y", "y", "copy"),
    ("w", "w", "write"),
    ("escape", "esc", "back"),
)


def head(look: Look, seen: Seen | None, note: str, now: float) -> list[Part]:
    """Two lines: what is asked for, and what the answer comes to."""
    parts: list[Part] = [
        (look.field.label, "bold"),
        (f"  {whose(look.pair[0])}", ""),
        (f"  {_rounded(look.span)}  {_period(look.since, look.until, now)}", DIM),
        (f"   {note}" if note else "", WARN),
        ("\n", ""),
    ]
    if seen is not None and seen.buckets and seen.look == look:
        for name, value in zip(("least", "mean", "most"), _totals(seen.buckets), strict=True):
            parts += [(f"{name} ", DIM), (f"{format.show(look.field, value)}   ", "bold")]
    return parts


def empty(begin: float, end: float, now: float) -> list[Part]:
    """Where there is nothing to draw; and from when to when there is."""
    return [
        ("\n Nothing of it was recorded in this stretch.\n", ""),
        (f" There are recordings {_period(begin, end, now)}.", DIM),
    ]


def line(event: Event) -> list[Part]:
    look = look_of(event)
    when = time.strftime("%m-%d %H:%M:%S", time.localtime(event.time))
    lasted = (event.until_time or event.time) - event.time
    words: list[Part] = [(f"{look.letter} ", look.popup), (f"{when}  ", DIM), (event.label, "")]
    return [*words, (f"  {format.duration(lasted)}", DIM)] if lasted >= 1 and event.kind != "gap" else words


def foot(width: int) -> list[str]:
    """Every key, as markup, on as many lines as it takes."""
    lines, room = [""], width
    for key, shown, name in _KEYS:
        words = f"{shown} {name}  " if name else f"{shown} "
        size = len(words.replace("\\", ""))
        if size - 2 > room and lines[-1]:
            lines.append("")
            room = width
        room -= size
        lines[-1] += f"[@click=app.simulate_key('{key}')][bold]{shown}[/]{words[len(shown) :].rstrip()}[/]"
        lines[-1] += words[len(words.rstrip()) :]
    return lines


def _totals(buckets: Sequence[Bucket]) -> tuple[float, float, float]:
    mean = sum(bucket.mean for bucket in buckets) / len(buckets)
    return min(bucket.least for bucket in buckets), mean, max(bucket.most for bucket in buckets)


def _rounded(span: float) -> str:
    return format.duration(round(span)).removesuffix(" 00").removesuffix(" 00 h")


def _period(since: float, until: float, now: float) -> str:
    """``10:00 – 11:00`` of today, else with its dates, and years if it was another one."""
    begin, end, here = time.localtime(since), time.localtime(until), time.localtime(now)
    clock = "%H:%M:%S" if until - since < 600 else "%H:%M"
    date = "%m-%d " if begin.tm_year == end.tm_year == here.tm_year else "%Y-%m-%d "
    first = clock if here[:3] == begin[:3] else date + clock
    second = clock if begin[:3] == end[:3] else date + clock
    return f"{time.strftime(first, begin)} – {time.strftime(second, end)}"
