"""Tokens counted once, whoever tells of them first, and divided by the time between two looks.

A task's tokens are seen growing in ``/slots``; what it did after the last look is told by the log when it
ends. Both count what is above the task's mark, so nothing counts twice and order is free.
"""

from __future__ import annotations

from collections import OrderedDict

Key = tuple[int | None, int | None]  # slot, task
TASKS = 512  # marks kept
EXACT = 1e6  # /metrics prints six digits: above this its counters step by ten and more


class Ledger:
    """One counter of tokens (prefill or decode) of one server."""

    def __init__(self) -> None:
        self._marks: OrderedDict[Key, int] = OrderedDict()
        self._ended: OrderedDict[Key, int] = OrderedDict()  # the marks of tasks that are over
        self._fresh = 0.0  # counted since the last rate
        self._since: float | None = None
        self._last: float | None = None
        self.total = 0.0

    def mark(self, key: Key, tokens: int) -> None:
        """Tokens that were there before we looked: known, not counted."""
        _keep(self._marks, key, max(tokens, self._marks.get(key, 0)))

    def up_to(self, key: Key, tokens: int) -> int:
        """Count a task's tokens up to ``tokens``; returns how many of them are new."""
        new = tokens - self._marks.get(key, 0)
        if new <= 0:
            return 0
        self.mark(key, tokens)
        self.add(new)
        return new

    def end(self, key: Key, tokens: int) -> None:
        """The same for a task that is over. A second one of that name is of another process: the mark of the
        first is not its own.
        """
        if key in self._ended:
            self._marks[key] = max(0, self._marks.get(key, 0) - self._ended[key])
        self.up_to(key, tokens)
        _keep(self._ended, key, self._marks.get(key, 0))

    def add(self, tokens: float) -> None:
        self._fresh += tokens
        self.total += tokens

    def rate(self, now: float, *, hold: bool = False) -> float | None:
        """Tokens per second since the rate before; None the first time.

        ``hold``: the count moves in steps (a prompt's batches), so until the next step the rate of the
        last one stands, and the next is taken over the whole time since. Before the first it is unknown.
        """
        if hold and not self._fresh and self._since is not None:
            return self._last or None
        self._last = self._take(now)
        return self._last

    def skip(self) -> None:
        """The next rate is over a time that begins with it."""
        self._since = None

    def _take(self, now: float) -> float | None:
        since, self._since = self._since, now
        fresh, self._fresh = self._fresh, 0.0
        return fresh / (now - since) if since is not None and now > since else None


def _keep(marks: OrderedDict[Key, int], key: Key, tokens: int) -> None:
    marks[key] = tokens
    marks.move_to_end(key)
    while len(marks) > TASKS:
        marks.popitem(last=False)


class CounterCheck:
    """Without a log, ``/metrics`` tells what ended between two looks: counter + running = all there ever was.

    Read in that order, metrics before slots, a request that ends in between is late by one look, never
    counted twice.
    """

    def __init__(self) -> None:
        self._offset: float | None = None

    def missing(self, counter: float | None, running: float, counted: float) -> float:
        """Tokens that the slots did not show; 0 when the counter is too coarse to tell."""
        if counter is None or counter >= EXACT:
            self._offset = None
            return 0.0
        truth = counter + running
        if self._offset is None or truth < self._offset:  # the first look, or another process
            self._offset = truth - counted
            return 0.0
        return max(0.0, truth - self._offset - counted)
