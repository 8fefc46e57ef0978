"""The memory a model is loaded into, in bytes: the pools of the first AMD GPU, else the RAM.

Four small files at most, none of which a GPU in reset holds up. Nothing here raises: what cannot be told
is None.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from halotui.collectors import memory
from halotui.hosts import Host
from halotui.model import Unavailable

_AMD = b"0x1002"
_POOLS = ("gtt", "vram")


class _Pool(Struct, frozen=True):
    used: int
    total: int


def pool_bytes(host: Host) -> int | None:
    """In use: GTT + VRAM, where there is no AMD GPU what is not available of the RAM."""
    if pools := _pools(host):
        return sum(pool.used for pool in pools.values())
    ram = _ram(host)
    return ram.used if ram else None


def pool_total(host: Host) -> int | None:
    """All of it: GTT + VRAM, where there is no AMD GPU the RAM."""
    if pools := _pools(host):
        return sum(pool.total for pool in pools.values())
    ram = _ram(host)
    return ram.total if ram else None


def headroom(host: Host) -> int | None:
    """What a model could still take: min(GTT free, MemAvailable), or the carve-out where that is larger.

    GTT is RAM, so either of the two can run out first; without the RAM the free GTT is no promise.
    """
    ram = _ram(host)
    if ram is None:
        return None
    available = ram.total - ram.used
    pools = _pools(host)
    if not pools:
        return available
    free = {name: max(0, pool.total - pool.used) for name, pool in pools.items()}
    return max(free.get("vram", 0), min(free.get("gtt", 0), available))


def _pools(host: Host) -> dict[str, _Pool]:
    """By name, of the first card that tells any; empty without one."""
    for card in host.glob(host.sysfs / "class/drm", "card[0-9]*"):
        device = card / "device"
        if card.name[4:].isdecimal() and _read(host, device / "vendor").strip() == _AMD:
            told = {name: _pool(host, device, name) for name in _POOLS}
            if pools := {name: pool for name, pool in told.items() if pool}:
                return pools
    return {}


def _pool(host: Host, device: Path, name: str) -> _Pool | None:
    try:
        used, total = (int(_read(host, device / f"mem_info_{name}_{what}")) for what in ("used", "total"))
    except ValueError:
        return None
    return _Pool(used, total) if 0 <= used < 2**63 and 0 < total < 2**63 else None


def _ram(host: Host) -> _Pool | None:
    try:
        now = memory.read(host)
    except Unavailable:
        return None
    return None if now.used_bytes is None else _Pool(now.used_bytes, now.total_bytes)


def _read(host: Host, path: Path) -> bytes:
    try:
        return host.read(path)
    except OSError:
        return b""
