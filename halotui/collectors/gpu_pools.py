"""How much GPU memory is in use at this instant, whoever holds it: two reads a GPU, cheap enough to compare
with what processes say they hold. ``amdgpu_sysfs`` reads all the rest."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from halotui.collectors.process_stat import once
from halotui.hosts import Host
from halotui.safe import clean

Kind = Literal["gtt", "vram"]
_KINDS: tuple[Kind, ...] = ("gtt", "vram")


def find(host: Host) -> dict[str, str]:
    """GPU id -> its directory, of amdgpu's."""
    drm, found = f"{os.fspath(host.sysfs)}/class/drm", {}
    with suppress(OSError):
        for card in sorted(host.listdir(drm)):
            device = f"{drm}/{card}/device"
            if (
                card[4:].isdecimal()
                and card.startswith("card")
                and host.access(_file(device, "gtt"), os.F_OK)
            ):
                found[_slot(host, device) or clean(card, 40)] = device
    return found


def used(pools: dict[str, str], read: Callable[[str], bytes] = once) -> dict[tuple[str, Kind], int]:
    """Bytes in use, by GPU id and kind; what does not answer is left out."""
    sizes = {}
    for gpu, device in pools.items():
        for kind in _KINDS:
            with suppress(OSError, ValueError):
                sizes[gpu, kind] = int(read(_file(device, kind)))
    return sizes


def _file(device: str, kind: Kind) -> str:
    return f"{device}/mem_info_{kind}_used"


def _slot(host: Host, device: str) -> str:
    with suppress(OSError):
        for line in host.read(f"{device}/uevent").splitlines():
            if line.startswith(b"PCI_SLOT_NAME="):
                return clean(line[14:], 40)
    return ""
