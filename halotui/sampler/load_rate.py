"""How fast servers read from disk while they load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from halotui.collectors import process_io
from halotui.hosts import Host, LinkDown
from halotui.model import Server, ServerState, Unavailable
from halotui.sampler.clock import Clock
from halotui.sampler.worker import Worker

LEAST = 0.5  # seconds that a rate is taken over
DEADLINE = 0.3


class _Look(NamedTuple):
    at: float  # monotonic seconds
    read: int  # bytes
    rate: float | None = None  # a second, up to then


class LoadRates:
    """``read`` once a frame; costs nothing while no server loads."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._worker = Worker("loads", host=host)
        self._looks: dict[int, _Look] = {}  # by pid

    def skip(self) -> None:
        self._looks = {}

    async def read(self, servers: Sequence[Server], grace: float) -> None:
        loading = [one.pid for one in servers if one.state is ServerState.LOADING and one.pid is not None]
        if not loading:
            self._looks = {}
            return
        try:
            wait = self._clock.allow(min(grace, DEADLINE))
            counts = await self._worker.call(lambda: self._counts(loading), wait)
        except (Unavailable, LinkDown):
            self._looks = {}
            return
        now = self._clock.monotonic()
        self._looks = {
            pid: _look(self._looks.get(pid), now, count) for pid, count in counts.items() if count is not None
        }

    def of(self, server: Server) -> float | None:
        """Bytes a second."""
        look = self._looks.get(server.pid) if server.pid is not None else None
        return look.rate if look is not None and server.state is ServerState.LOADING else None

    def _counts(self, pids: Sequence[int]) -> dict[int, int | None]:
        return {pid: process_io.read_bytes(self._host, pid) for pid in pids}


def _look(old: _Look | None, now: float, count: int) -> _Look:
    if old is None or count < old.read:
        return _Look(now, count)
    if now - old.at < LEAST:
        return old
    return _Look(now, count, (count - old.read) / (now - old.at))
