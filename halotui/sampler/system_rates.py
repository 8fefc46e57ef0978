"""What CPU, disks and network did between two looks at their counters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from halotui.collectors.system import Disk, Network, SystemReading
from halotui.model import System

PAGE = 4096  # bytes


def system(now: SystemReading, before: SystemReading | None, seconds: float) -> System:
    """Rates are None for the first look, and for one in which a counter went back or a device came or went.

    A suspended box counts no ticks, and ``seconds`` (CLOCK_MONOTONIC) leave that time out as well.
    """
    known: dict[str, Any] = {
        key: getattr(now, key)
        for key in (
            "cpus",
            "cpu_temperature_celsius",
            "load_1m",
            "memory_pressure_percent",
            "io_pressure_percent",
            "oom_kills",
        )
    }
    if before is not None and seconds > 0:
        known["cpu_busy_percent"] = _cpu(now, before)
        known["swap_in_bytes_per_second"] = _rate(
            now.swapped_in_pages, before.swapped_in_pages, seconds, PAGE
        )
        known["swap_out_bytes_per_second"] = _rate(
            now.swapped_out_pages, before.swapped_out_pages, seconds, PAGE
        )
        known |= _disks(now.disks, before.disks, seconds) | _networks(now.networks, before.networks, seconds)
    return System(**{key: _plain(value) for key, value in known.items()})


def _plain(value: Any) -> Any:
    """Digits that nobody reads cost a recording a megabyte an hour."""
    return round(value, 3) if isinstance(value, float) else value


def _cpu(now: SystemReading, before: SystemReading) -> float | None:
    """Threads that went offline take their ticks with them."""
    busy, ticks = _grown(now.cpu_busy_ticks, before.cpu_busy_ticks), _grown(now.cpu_ticks, before.cpu_ticks)
    if busy is None or not ticks or now.cpus != before.cpus:
        return None
    return min(100.0, 100.0 * busy / ticks)  # the kernel lets waiting time go back a little


def _disks(now: dict[str, Disk], before: dict[str, Disk], seconds: float) -> dict[str, Any]:
    if not now or now.keys() != before.keys():
        return {}
    read = _sum(_grown(disk.read_bytes, before[name].read_bytes) for name, disk in now.items())
    written = _sum(_grown(disk.written_bytes, before[name].written_bytes) for name, disk in now.items())
    busy = {
        name: _grown(disk.busy_milliseconds, before[name].busy_milliseconds) for name, disk in now.items()
    }
    if read is None or written is None or _sum(busy.values()) is None:
        return {}
    name = max(now, key=lambda name: (busy[name] or 0, now[name].busy_milliseconds))  # at rest: the usual one
    return {
        "disk": name,
        "disk_busy_percent": min(100.0, (busy[name] or 0) / seconds / 10),
        "disk_read_bytes_per_second": read / seconds,
        "disk_write_bytes_per_second": written / seconds,
    }


def _networks(now: dict[str, Network], before: dict[str, Network], seconds: float) -> dict[str, Any]:
    if not now or now.keys() != before.keys():
        return {}
    received = {name: _grown(card.received_bytes, before[name].received_bytes) for name, card in now.items()}
    sent = {name: _grown(card.sent_bytes, before[name].sent_bytes) for name, card in now.items()}
    all_received, all_sent = _sum(received.values()), _sum(sent.values())
    if all_received is None or all_sent is None:
        return {}

    def traffic(name: str) -> tuple[int, int]:
        card = now[name]
        return (received[name] or 0) + (sent[name] or 0), card.received_bytes + card.sent_bytes

    return {
        "network": max(now, key=traffic),
        "network_receive_bytes_per_second": all_received / seconds,
        "network_send_bytes_per_second": all_sent / seconds,
    }


def _rate(now: int | None, before: int | None, seconds: float, unit: int) -> float | None:
    grown = _grown(now, before)
    return grown * unit / seconds if grown is not None else None


def _grown(now: int | None, before: int | None) -> int | None:
    return now - before if now is not None and before is not None and now >= before else None


def _sum(counts: Iterable[int | None]) -> int | None:
    """None when one of them is."""
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total
