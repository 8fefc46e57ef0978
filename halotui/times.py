"""Times as people type them: a length, a moment that is past, a moment of a recording.

What is no time is a ValueError with one harmless line.
"""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta

from halotui.safe import clean

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_LENGTH = re.compile(r"(\d+(?:\.\d*)?|\.\d+) ?(min|[smhd]?)", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d(?:\.\d{1,6})?))?", re.ASCII)


def seconds(text: str) -> float:
    """``60``, ``90s``, ``5m``, ``8h`` or ``2d`` in seconds, above 0."""
    value = _length(text)
    if value is None or not 0 < value < float("inf"):
        raise ValueError(f"{_quoted(text)} is no length of time like 60, 90s, 5m, 8h or 2d")
    return value


def past(text: str, now: float) -> float:
    """``7d``, ``12h`` or ``90m`` ago, or a local date and time, in Unix seconds.

    A bare number is none: it might be seconds, a year or a date without its dashes.
    """
    said = text.strip()
    length = _length(said) if said[-1:].isalpha() else None
    moment = now - length if length and length < float("inf") else _dated(said)
    if moment is None:
        raise ValueError(f"{_quoted(text)} is no time like 7d, 12h, 2026-11-01 or 2026-11-01T12:00")
    return moment


def within(text: str, begin: float, end: float, here: float | None = None) -> float:
    """``03:12:40``, a date and time, or a step, in Unix seconds.

    A step is from ``here`` and may lead beyond an end; without a here, ``+`` is from the begin and ``-`` from
    the end. A time of day is, of those in the recording, the nearest to here, or the last.
    """
    said = text.strip()
    if said[:1] in ("+", "-") and (step := _length(said[1:])) is not None:
        origin = here if here is not None else begin if said[0] == "+" else end
        return origin + step if said[0] == "+" else origin - step
    moments = _of_day(said, begin, end) if _CLOCK.fullmatch(said) else [_dated(said)]
    found = [moment for moment in moments if moment is not None]
    if not found:
        raise ValueError(f"{_quoted(text)} is no time like 03:12, 03:12:40, +90s, -5m or 2026-11-01 03:12")
    slack = 60.0 if said.count(":") == 1 else 1.0  # 03:12 is the whole minute
    inside = [moment for moment in found if begin - slack < moment <= end]
    if not inside:
        raise ValueError(f"{clean(said, 40)} is not in this recording: {stamp(begin)} to {stamp(end)}")
    return min(inside, key=lambda moment: abs(moment - (end if here is None else here)))


def stamp(moment: float) -> str:
    """Local date and time of Unix seconds, as they can be typed."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
    except (ValueError, OverflowError, OSError):  # no clock tells such a time
        return f"@{moment:g}"


def _length(text: str) -> float | None:
    found = _LENGTH.fullmatch(text.strip())
    return float(found[1]) * _UNITS[found[2]] if found else None


def _dated(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _of_day(text: str, begin: float, end: float) -> list[float | None]:
    """That local time of each day from begin to end; twice where the clock was put back."""
    clock = _CLOCK.fullmatch(text)
    assert clock is not None
    if int(clock[1]) > 23 or int(clock[2]) > 59 or float(clock[3] or 0) >= 60:
        return []
    of_day = timedelta(hours=int(clock[1]), minutes=int(clock[2]), seconds=float(clock[3] or 0))
    try:
        first, last = (datetime.fromtimestamp(moment) for moment in (begin, end))
    except (ValueError, OverflowError, OSError):
        return []
    midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
    days = [midnight + timedelta(days=day) + of_day for day in range((last.date() - first.date()).days + 1)]
    return [day.replace(fold=fold).timestamp() for day in days for fold in (0, 1)]


def _quoted(text: str) -> str:
    return f"'{clean(text, 40)}'"
