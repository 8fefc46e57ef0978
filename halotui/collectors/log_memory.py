"""Memory that a llama-server's log tells of: buffers, devices, and the breakdown of ``--log-jsonl``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

from halotui.model import Buffer, Device
from halotui.safe import clean

MIB = 1 << 20
MOST_BUFFERS = 64
MOST_DEVICES = 16
MOST_MIB = 1 << 32


def on_host(device: str) -> bool:
    return device.startswith("CPU") or device.endswith("_Host") or device == "Host"


def added(buffers: Sequence[Buffer], new: Buffer, sums: bool) -> tuple[Buffer, ...]:
    """With ``new``, which adds to the one of its device and kind or takes its place."""
    kept = list(buffers)
    for n, old in enumerate(kept):
        if (old.device, old.kind, old.draft) == (new.device, new.kind, new.draft):
            kept[n] = replace(new, bytes=new.bytes + old.bytes * sums)
            break
    else:
        kept += [new] if len(kept) < MOST_BUFFERS else []
    return tuple(kept)


def found_also(devices: Sequence[Device], new: Device) -> tuple[Device, ...]:
    """With ``new``; what is said twice of one adds up to all that is known of it."""
    kept = list(devices)
    for n, old in enumerate(kept):
        if old.id == new.id:
            kept[n] = Device(
                id=old.id,
                name=old.name or new.name,
                total_bytes=new.total_bytes or old.total_bytes,
                free_bytes=old.free_bytes if old.free_bytes is not None else new.free_bytes,
            )
            break
    else:
        kept += [new] if len(kept) < MOST_DEVICES else []
    return tuple(kept)


class Row(msgspec.Struct):
    """One device, the host, or what is left, in MiB."""

    name: str
    kind: str = ""  # device | host | buffer_type
    description: str = ""
    total: int | None = None
    free: int | None = None
    model: int = 0
    context: int = 0
    compute: int = 0

    def buffers(self, draft: bool) -> Iterator[Buffer]:
        for kind, size in (("model", self.model), ("kv", self.context), ("compute", self.compute)):
            if 0 < size < MOST_MIB:
                yield Buffer(device=clean(self.name, 60), kind=kind, bytes=size * MIB, draft=draft)

    def device(self) -> Device | None:
        if self.kind != "device":
            return None
        total, free = (
            n * MIB if n is not None and 0 <= n < MOST_MIB else None for n in (self.total, self.free)
        )
        return Device(
            id=clean(self.name, 60),
            name=clean(self.description, 120) or None,
            total_bytes=total,
            free_bytes=free,
        )


class _Data(msgspec.Struct, frozen=True):
    unit: str = ""
    rows: list[Row] = []


class _Breakdown(msgspec.Struct):
    type: str
    data: _Data = _Data()


def breakdown(said: bytes) -> list[Row] | None:
    """The rows of a ``fit_memory_breakdown`` line."""
    try:
        told = _BREAKDOWN.decode(said)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return (
        told.data.rows[:MOST_DEVICES]
        if told.type == "fit_memory_breakdown" and told.data.unit == "MiB"
        else None
    )


_BREAKDOWN = msgspec.json.Decoder(_Breakdown)
