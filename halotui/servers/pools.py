"""The memory a model is loaded into: the pools of the first AMD GPU, else the RAM.

Three small files at most, none of which a GPU in reset holds up. Nothing here raises: what cannot be told
is None.
"""

from __future__ import annotations

from pathlib import Path

from halotui.collectors import memory
from halotui.hosts import Host
from halotui.model import Unavailable

_AMD = b"0x1002"
_POOLS = ("gtt", "vram")


def pool_bytes(host: Host) -> int | None:
    """Bytes in use: GTT + VRAM, where there is no AMD GPU what is not available of the RAM."""
    for card in host.glob(host.sysfs / "class/drm", "card[0-9]*"):
        device = card / "device"
        if card.name[4:].isdecimal() and _read(host, device / "vendor").strip() == _AMD:
            told = [_used(host, device, name) for name in _POOLS]
            if known := [used for used in told if used is not None]:
                return sum(known)
    try:
        return memory.read(host).used_bytes
    except Unavailable:
        return None


def _used(host: Host, device: Path, name: str) -> int | None:
    try:
        used = int(_read(host, device / f"mem_info_{name}_used"))
    except ValueError:
        return None
    return used if 0 <= used < 2**63 else None


def _read(host: Host, path: Path) -> bytes:
    try:
        return host.read(path)
    except OSError:
        return b""
