"""A box far away: the time that its link takes, and reads that a cut of it made worthless."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from halotui.hosts import Host, LinkDown
from halotui.model import Link, LinkState
from halotui.sampler.clock import Clock

T = TypeVar("T")

LEAST = 0.5  # seconds: a command there
TRIPS = 30  # that a look may take: the first one asks one thing after the other
MOST = 15.0  # seconds
UNKNOWN = 0.3  # seconds of a round trip that nobody has measured yet
SLEPT = 5.0  # seconds that our wall clock may run ahead of the monotonic one within a tick


def slack(host: Host) -> float:
    """Seconds that a look at this box may take beyond those of one at ours."""
    if host.here:
        return 0.0
    link = _link(host)
    trip = link.round_trip_seconds if link is not None else None
    return min(MOST, LEAST + TRIPS * (trip if trip is not None else UNKNOWN))


def usual(host: Host) -> float:
    """Seconds that a tick may always wait for this box beyond those that it waits for ours."""
    link = _link(host) if not host.here else None
    return 3 * (link.round_trip_seconds or 0.0) if link is not None else 0.0


def whole(host: Host, function: Callable[[], T]) -> Callable[[], T]:
    """The same look, which raises LinkDown where the link was cut meanwhile: a file that could not be reached
    looks like one that is not there."""
    if host.here:
        return function

    def look() -> T:
        login = _login(host)
        try:
            return function()
        finally:
            if _login(host) != login:
                raise LinkDown("the link was cut") from None

    return look


class Gaps:
    """Whether two ticks follow each other. Here they do: the monotonic clock stands still as the box does.
    One far away goes on while its link is cut, and while the box that we run on sleeps."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self._host, self._clock = host, clock
        self._before: tuple[object, float] | None = None

    def between(self) -> bool:
        """Call it once a tick."""
        if self._host.here:
            return False
        before = self._before
        now = self._before = _login(self._host), self._clock.wall() - self._clock.monotonic()
        return before is not None and (now[0] != before[0] or now[1] - before[1] > SLEPT)


def _link(host: Host) -> Link | None:
    found = getattr(host, "link", None)
    return found if isinstance(found, Link) else None


def _login(host: Host) -> float | None:
    """What tells one login from another; None while there is none."""
    link = _link(host)
    if link is None:
        return 0.0
    return link.since_time if link.state is LinkState.UP else None
