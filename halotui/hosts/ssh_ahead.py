"""The standing order: what was asked before comes in one round trip when the first of it is asked again.

- An answer is handed out to whoever asks within ``fresh_seconds`` and a round trip of its arrival; then it is
  asked anew.
- With a question go those that the same burst answered last time, and those whose time has come by their own
  rhythm. A burst is what is asked until something is asked again: over a slow link one thing after the other,
  and all of it at once the next time. What nobody took three times in a row leaves the order, and comes back
  when it is asked.
- What patterns promised (``expect``) waits longer for the first who takes it, and what they did not match is
  known not to be there.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

from halotui.hosts.ssh_errno import Failed
from halotui.hosts.ssh_reads import AGAIN, Ask

_MISSES = 3
_MOST = 4096  # questions that are remembered
_EXPECTED_SECONDS = 1.0
_IDLE_SECONDS = 0.5  # that end a burst
_AGAIN = frozenset(("read", "stat", "readlink", "list", "glob", "access", "sockets", "text", "which"))
_NAMED = frozenset(("read", "stat", "readlink"))
# What counts and measures: of an old reading with a new one a rate would be made.
_MOVES = re.compile(
    r"_(used|percent|input|average|bytes)\Z|/(gpu_metrics|stat|meminfo|uptime|loadavg|vmstat|diskstats|dev|io|memory|cpu)\Z",
)
_GONE = Failed(errno.ENOENT, os.strerror(errno.ENOENT))
NOTHING = object()


class _Item:
    __slots__ = (
        "answer",
        "arrived",
        "at",
        "fresh_until",
        "misses",
        "pending",
        "period",
        "steady",
        "taken",
        "trip",
    )

    def __init__(self) -> None:
        self.answer: Any = NOTHING
        self.arrived = float("-inf")
        self.at = float("-inf")  # when the burst was begun that brought what was taken last
        self.fresh_until = float("-inf")
        self.taken = True
        self.misses = 0  # answers in a row that nobody took
        self.period: float | None = None  # seconds between two that were taken
        self.steady = False  # it has been the same twice
        self.trip = 0  # the burst that brought what was taken last
        self.pending = (0, 0.0)  # the burst that brought this answer, and when it was begun

    def due(self, now: float) -> bool:
        if self.period is None:
            return self.misses < _MISSES
        early = max(0.7 * self.period, self.period - 0.6)
        return self.misses < _MISSES and now - self.at >= early


class _Promise(NamedTuple):
    """What a pattern matched; else there was nothing."""

    shape: re.Pattern[str]
    there: frozenset[str]
    until: float

    def denies(self, path: str, now: float) -> bool:
        return now < self.until and path not in self.there and self.shape.match(path) is not None


class Ahead:
    """Of one lane. From any thread; all times monotonic seconds."""

    def __init__(self) -> None:
        self.fresh_seconds = 0.3
        self.trip_seconds = 0.0  # who asks one thing after the other gets the next one a trip later
        self._items: dict[Ask, _Item] = {}
        self._promised: dict[str, _Promise] = {}  # by pattern
        self._burst = 0
        self._burst_at = self._ended = float("-inf")
        self._lock = threading.Lock()

    def take(self, ask: Ask, now: float) -> Any:
        """A fresh answer, or NOTHING."""
        with self._lock:
            item = self._items.get(ask)
            if item is not None and now < item.fresh_until:
                self._took(item)
                item.fresh_until = min(item.fresh_until, item.arrived + self._fresh_seconds)
                return item.answer
            if ask.verb in _NAMED and any(one.denies(ask.path, now) for one in self._promised.values()):
                return _GONE
            return NOTHING

    def companions(self, asked: Iterable[Ask], now: float) -> list[Ask]:
        """What to fetch along with these; empty where none of them has been asked before."""
        with self._lock:
            asked = set(asked)
            trips = {item.trip for ask in asked if (item := self._items.get(ask))}
            if not trips:
                return []
            return [
                ask
                for ask, item in self._items.items()
                if now >= item.fresh_until
                and ask not in asked
                and (item.due(now) or (item.trip in trips and not item.steady and item.misses < _MISSES))
            ]

    def brought(self, begun: float, now: float, answers: dict[Ask, Any], asked: Iterable[Ask]) -> None:
        """A trip has come back."""
        with self._lock:
            asked = list(asked)
            mine = [item for ask in asked if (item := self._items.get(ask))]
            if begun > self._ended + _IDLE_SECONDS or any(item.trip == self._burst for item in mine):
                self._burst, self._burst_at = self._burst + 1, begun
            self._ended = now
            for ask, answer in answers.items():
                if ask.verb not in _AGAIN:
                    continue
                item = self._items.pop(ask, None) or _Item()  # at the end: the youngest
                self._items[ask] = item
                self._bring(item, answer, self._burst_at, now, now + self._fresh_seconds)
            for ask in asked:
                if taken := self._items.get(ask):
                    self._took(taken)
            while len(self._items) > _MOST:
                del self._items[next(iter(self._items))]

    def expected(self, patterns: Iterable[str], answers: dict[str, Any], begun: float, now: float) -> None:
        """All files that match have come."""
        with self._lock:
            soon = now + _EXPECTED_SECONDS + 2 * self.trip_seconds
            until = now + _EXPECTED_SECONDS + 12 * self.trip_seconds
            there = frozenset(answers)
            for pattern in patterns:
                self._promised[pattern] = _Promise(shape(pattern), there, until)
            for path, answer in answers.items():
                ask = Ask("read", path)
                item = self._items.setdefault(ask, _Item())
                if answer is not AGAIN:
                    self._bring(item, answer, begun, now, soon if _MOVES.search(path) else until)
                item.misses = _MISSES  # of the order only once somebody takes it

    @property
    def _fresh_seconds(self) -> float:
        return self.fresh_seconds + self.trip_seconds

    def forget(self) -> None:
        """The answers, not the order: it was another login that gave them."""
        with self._lock:
            self._promised.clear()
            for item in self._items.values():
                item.fresh_until, item.answer = float("-inf"), NOTHING

    def drop(self) -> None:
        """The order too: something in it hangs."""
        with self._lock:
            self._items.clear()
            self._promised.clear()

    def _bring(self, item: _Item, answer: Any, begun: float, now: float, until: float) -> None:
        if not item.taken:
            item.misses += 1
        item.answer, item.arrived, item.fresh_until, item.taken = answer, now, until, False
        item.pending = (self._burst, begun)

    def _took(self, item: _Item) -> None:
        if item.taken:
            return
        item.taken, item.misses = True, 0
        item.trip, at = item.pending
        if item.at > float("-inf"):
            period = at - item.at
            item.steady = item.period is not None and abs(period - item.period) <= 0.2 * item.period
            item.period = period
        item.at = at


_CHARACTERS = {"*": "[^/]*", "?": "[^/]"}
_WILD = re.compile(r"(\[!?[\w-]+\]|[*?])", re.ASCII)


def shape(pattern: str) -> re.Pattern[str]:
    """Of the paths that a shell's pattern matches."""
    words = _WILD.split(pattern)
    return re.compile(
        "".join(
            _CHARACTERS.get(word, word.replace("[!", "[^")) if place % 2 else re.escape(word)
            for place, word in enumerate(words)
        )
        + r"\Z"
    )
