"""System memory and swap in use, as ``free`` counts them: the numbers of ``collectors.memory``, at a tenth of
its cost."""

from __future__ import annotations

from collections.abc import Sequence

from halotui.capture.notes import Notes
from halotui.capture.probe import NAN, kernel, probe
from halotui.capture.source import Column
from halotui.collectors import memory
from halotui.hosts import Host
from halotui.model import Unavailable

LOOK_SECONDS = 1.0
Raw = bytes | tuple[float, float] | None  # the file, to be understood later; or the numbers


class Meminfo:
    columns: tuple[Column, ...] = (("memory.used_bytes", ""), ("memory.swap_used_bytes", ""))

    def __init__(self, host: Host, notes: Notes) -> None:
        self._host = host
        self._notes = notes
        # The first twenty lines hold all that is wanted, and a small buffer costs less.
        path = f"{host.procfs}/meminfo"
        self._probe = probe(host, path, 1024, watch=not kernel(host, path))
        self._odd = False  # not to be understood here
        self._look = 0.0  # when, next

    def read(self, now: float) -> Raw:
        data = self._probe.read(now)
        if now >= self._look:
            self._look = now + LOOK_SECONDS
            self._odd = data is None or _counted(data) is None
            if not self._odd:
                self._notes.end("meminfo")
        return self._asked() if self._odd else data

    def understand(self, raw: Raw) -> Sequence[float]:
        if isinstance(raw, bytes):
            raw = _counted(raw)
        return (NAN, NAN) if raw is None else raw

    def _asked(self) -> tuple[float, float] | None:
        """By the collector, which knows what old kernels and containers say."""
        try:
            found = memory.read(self._host)
        except Unavailable as why:
            self._notes.begin("meminfo", f"system memory: {why.reason}", timed=True)
            return None
        used, swap = found.used_bytes, found.swap_used_bytes
        return (NAN if used is None else used, NAN if swap is None else swap)

    def close(self) -> None:
        self._probe.close()


def _counted(data: bytes) -> tuple[float, float] | None:
    """Used memory and swap, in bytes. None where that is not told, or more is free than there is."""
    try:
        total, available = _kib(data, b"MemTotal:"), _kib(data, b"MemAvailable:")
        swap = _kib(data, b"\nSwapTotal:") - _kib(data, b"\nSwapFree:")
    except ValueError:
        return None
    if not 0 < available <= total or swap < 0:
        return None
    return ((total - available) * 1024, swap * 1024)


def _kib(data: bytes, key: bytes) -> int:
    at = data.index(key) + len(key)
    return int(data[at : data.index(b"kB", at)])
