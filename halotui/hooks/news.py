"""What is worth telling: findings that begin, get worse, and have been gone for a while. It has no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from msgspec import Struct

from halotui.model import Finding, Frame, Severity
from halotui.safe import clean

MOST = 20  # messages in ...
WINDOW = 60.0  # ... so many seconds; the rest is a number in the next one
FIRING, RESOLVED, SUMMARY, TEST = "firing", "resolved", "summary", "test"
_RANK = {severity: rank for rank, severity in enumerate(Severity)}
_MARKS = {Severity.CRITICAL: "🔴", Severity.WARNING: "🟡", Severity.INFO: "🔵"}


class News(Struct, frozen=True, kw_only=True):
    """A message, as its JSON. ``text`` is all of it in a line or two, for what shows nothing else."""

    id: str
    severity: Severity
    title: str
    host: str
    state: str  # firing | resolved | summary | test
    time: float  # Unix seconds
    evidence: str = ""
    why: str = ""
    fix: str = ""
    subject: str = ""
    text: str = ""


_Key = tuple[str, str]


class Digest:
    """Frames in, news out. A finding is told when it begins and when it gets worse; as resolved only once it
    has been gone for ``debounce`` seconds, so that one that flaps is told once. What is silenced meanwhile is
    forgotten. A gap between frames says nothing: only frames do."""

    def __init__(self, severity: str, debounce: float) -> None:
        self._least = _RANK[Severity(severity)]
        self._debounce = debounce
        self._told: dict[_Key, Finding] = {}  # as it was when it was worst
        self._gone: dict[_Key, float] = {}  # since when, of those
        self._unsaid: set[_Key] = set()  # of those: there were too many at once
        self._sent: deque[float] = deque()  # when
        self._left_out = 0

    def take(self, frame: Frame) -> list[News]:
        now, found = frame.time, []
        for state, key, finding in self._changes(frame):
            if state == RESOLVED and key in self._unsaid:
                self._unsaid.discard(key)
            elif self._room(now):
                found.append(_news(finding, frame, state))
                self._unsaid.discard(key)
                self._sent.append(now)
            else:
                self._left_out += 1
                self._unsaid.add(key)
        if self._left_out and self._room(now):
            found.append(_summary(self._left_out, frame))
            self._left_out = 0
            self._sent.append(now)
        return found

    def _changes(self, frame: Frame) -> Iterator[tuple[str, _Key, Finding]]:
        here = {(f.id, f.subject): f for f in frame.findings if _RANK[f.severity] >= self._least}
        for key, finding in here.items():
            before = self._told.get(key)
            self._gone.pop(key, None)
            if before is None or _RANK[finding.severity] > _RANK[before.severity]:
                self._told[key] = finding
                yield FIRING, key, finding
        for key in self._told.keys() - here.keys():
            since = self._gone.setdefault(key, frame.time)
            if key[0] in frame.silenced:
                self._forget(key)
            elif not 0 <= frame.time - since < self._debounce:  # below 0: the clock was put back
                yield RESOLVED, key, self._forget(key)

    def _forget(self, key: _Key) -> Finding:
        del self._gone[key]
        return self._told.pop(key)

    def _room(self, now: float) -> bool:
        while self._sent and not 0 <= now - self._sent[0] < WINDOW:
            self._sent.popleft()
        return len(self._sent) < MOST


def _news(finding: Finding, frame: Frame, state: str) -> News:
    """Words of a frame are harmless already; a title is one line whatever comes."""
    title = clean(finding.title)
    mark = "✅" if state == RESOLVED else _MARKS[finding.severity]
    said = "resolved" if state == RESOLVED else str(finding.severity)
    text = f"{mark} {frame.host}: {title} ({said})"
    if state == FIRING:
        text += f"\n{clean(finding.evidence)}\nfix: {clean(finding.fix)}"
    return News(
        id=finding.id,
        severity=finding.severity,
        title=title,
        evidence=clean(finding.evidence),
        why=clean(finding.why),
        fix=clean(finding.fix),
        host=frame.host,
        subject=finding.subject,
        state=state,
        time=frame.time,
        text=text,
    )


def _summary(number: int, frame: Frame) -> News:
    title = f"and {number} more"
    return News(
        id="more",
        severity=Severity.WARNING,
        title=title,
        host=frame.host,
        state=SUMMARY,
        time=frame.time,
        text=f"{frame.host}: {title}",
    )


def trial(host: str, now: float) -> News:
    """For ``halotui hooks test``."""
    return News(
        id="test",
        severity=Severity.WARNING,
        title="This is a test",
        evidence="halotui hooks test",
        why="Somebody tried out the hooks.",
        fix="Nothing to do.",
        host=host,
        state=TEST,
        time=now,
        text=f"🔵 {host}: this is a test of halotui's hooks",
    )
