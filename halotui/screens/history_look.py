"""Where the history view looks, where a key leads from there, and what is seen."""

from __future__ import annotations

import csv
import io
import re
import time
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from halotui.fields import BY_ID, Field
from halotui.runs import Bucket, Event, Past
from halotui.safe import clean
from halotui.screens.history_fields import Pair

HOUR, DAY = 3600.0, 86_400.0
_SHORT: tuple[float, ...] = (60, 120, 300, 900, 1800)
_LONG = (2 * HOUR, 4 * HOUR, 8 * HOUR, 12 * HOUR, DAY, 2 * DAY, 4 * DAY, 7 * DAY, 14 * DAY, 30 * DAY)
SPANS = (*_SHORT, HOUR, *_LONG)  # seconds in view
NEAR = DAY  # seconds before and behind the view whose events n and N reach
_HEAD = ("time", "unix_seconds", "subject", "field", "unit", "least", "mean", "most")


class Look(Struct, frozen=True):
    """What is asked for: a field, from when to when (Unix seconds)."""

    pair: Pair
    since: float
    until: float

    @property
    def span(self) -> float:
        return self.until - self.since

    @property
    def field(self) -> Field:
        return BY_ID[self.pair[1]]

    @property
    def middle(self) -> float:
        return (self.since + self.until) / 2

    def shows(self, event: Event) -> bool:
        return event.time <= self.until and (event.until_time or event.time) >= self.since

    def ending(self, until: float, span: float) -> Look:
        return replace(self, since=until - span, until=until)

    def around(self, moment: float, span: float) -> Look:
        return replace(self, since=moment - span / 2, until=moment + span / 2)

    def panned(self, quarters: float) -> Look:
        return self.ending(self.until + quarters * self.span / 4, self.span)

    def zoomed(self, step: int) -> Look:
        """So many spans longer, or shorter, around the middle."""
        at = min(range(len(SPANS)), key=lambda at: abs(SPANS[at] - self.span)) + step
        return self.around(self.middle, SPANS[min(max(at, 0), len(SPANS) - 1)])

    def within(self, begin: float, end: float) -> Look:
        """Not beyond ``end``, and no further back than that ``begin`` is still in sight."""
        return self.ending(min(max(self.until, begin + self.span / 4), end), self.span)


class Seen(NamedTuple):
    """The answer."""

    look: Look
    buckets: list[Bucket]
    events: list[Event]  # also those near the view


def ask(past: Past, look: Look, buckets: int) -> Seen:
    """Blocking."""
    found = past.series(*look.pair, look.since, look.until, buckets)
    return Seen(look, found, past.events(look.since - NEAR, look.until + NEAR))


def as_csv(seen: Seen) -> str:
    """What is in view, in base units."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(_HEAD)
    subject, id_ = seen.look.pair
    for bucket in seen.buckets:
        when = datetime.fromtimestamp(bucket.time).astimezone().isoformat(timespec="milliseconds")
        values = (f"{value:.10g}" for value in (bucket.least, bucket.mean, bucket.most))
        rows.writerow((when, f"{bucket.time:.3f}", clean(subject), id_, seen.look.field.unit, *values))
    return file.getvalue()


def file_name(look: Look) -> str:
    """Of its CSV: another for each subject, field and view."""
    subject, id_ = look.pair
    begin, end = (time.strftime("%Y%m%d-%H%M%S", time.localtime(at)) for at in (look.since, look.until))
    words = re.sub(r"[^0-9A-Za-z]+", "-", subject.partition("://")[2] or subject).strip("-")[:60]
    return f"history-{id_}-{words}-{begin}-{end}.csv"
