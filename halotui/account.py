"""The box's memory as one account whose parts add up. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from halotui.model import Account, Gpu, Memory

LEAK = 256 << 20  # bytes of GTT that no process owns: less is the driver's own (rings, page tables)


class Owned(Struct, frozen=True):
    """GTT of the processes that we may see, by GPU id, in bytes."""

    gtt_bytes: dict[str, int]
    complete: bool  # every process could be seen, and what they hold has stood still for a while
    used_bytes: dict[str, int] = {}  # GTT in use at that very instant, by GPU id


def account(
    memory: Memory | None, gpus: Sequence[Gpu], installed: int | None, owned: Owned | None
) -> Account | None:
    """None without system memory. ``installed``: bytes of the memory modules, where known."""
    free = _free(memory) if memory is not None else None
    if memory is None or free is None:
        return None
    ram = max(0, memory.total_bytes)
    apu = _apu(gpus, ram, installed)
    free = min(max(0, free), ram)
    used = ram - free
    carve_out = _positive(apu.vram_total_bytes) if apu is not None else 0
    gtt = _positive(apu.gtt_used_bytes) if apu is not None else 0
    gtt = min(gtt, used) if gtt is not None else None
    total = ram + (carve_out or 0)
    return Account(
        total_bytes=total,
        carve_out_bytes=carve_out,
        gtt_bytes=gtt,
        other_bytes=used - (gtt or 0),
        free_bytes=free,
        installed_bytes=installed,
        reserved_bytes=installed - total if installed is not None and installed >= total else None,
        **(_room(apu, free) | _owners(apu, gpus, owned) if apu is not None else {}),
    )


def _free(memory: Memory) -> int | None:
    """Bytes a program could take; kernels that do not say so leave free memory and cache."""
    if memory.available_bytes is not None:
        return memory.available_bytes
    if memory.free_bytes is not None:
        return memory.free_bytes + (memory.cache_bytes or 0)
    return memory.total_bytes - memory.used_bytes if memory.used_bytes is not None else None


def _apu(gpus: Sequence[Gpu], ram: int, installed: int | None) -> Gpu | None:
    """The GPU whose VRAM is carved out of the RAM: the first that is said to be so.

    Where its source cannot say, an only GPU is one if RAM and VRAM fit into the memory modules together, as
    a card's never do. Without their size it is one if its GTT is no smaller than its VRAM: so an APU is
    mostly set up, but a small card beside much RAM passes too.
    """
    for gpu in gpus:
        if gpu.integrated:
            return gpu
    if len(gpus) != 1 or gpus[0].integrated is False:
        return None
    [gpu] = gpus
    if gpu.vram_total_bytes is not None and installed is not None:
        return gpu if ram + gpu.vram_total_bytes <= installed else None
    return gpu if (gpu.gtt_total_bytes or 0) >= (gpu.vram_total_bytes or 0) else None


def _room(apu: Gpu, free: int) -> dict[str, int | None]:
    """What a model could take. GTT is given only where RAM is left."""
    gtt, vram = _positive(apu.gtt_total_bytes), _positive(apu.vram_total_bytes)
    gtt_left = _left(gtt, apu.gtt_used_bytes)
    headroom = min(gtt_left, free) if gtt_left is not None else None
    vram_left = _left(vram, apu.vram_used_bytes)
    room: dict[str, int | None] = {"headroom_bytes": headroom}
    if gtt is not None and vram is not None:
        both = headroom is not None and vram_left is not None
        room |= {
            "rocm_total_bytes": max(gtt, vram),
            "rocm_free_bytes": headroom if vram < gtt else vram_left,
            "vulkan_total_bytes": gtt + vram,
            "vulkan_free_bytes": (headroom or 0) + (vram_left or 0) if both else None,
        }
    return room


def _owners(apu: Gpu, gpus: Sequence[Gpu], owned: Owned | None) -> dict[str, int | None]:
    """Buffers that two processes share count with both: never more is owned than is in use."""
    used = _positive(apu.gtt_used_bytes)
    if owned is None or used is None:
        return {}
    held = min(used, _of(owned.gtt_bytes, apu, gpus))
    rest = used - held
    # A model that loads between the look at the processes and that at the GPU is no leak.
    then = max(0, _of(owned.used_bytes, apu, gpus) - held) if owned.used_bytes else rest
    leaked = min(rest, then) if owned.complete else 0
    return {
        "owned_gtt_bytes": held,
        "unowned_gtt_bytes": then,
        "leaked_gtt_bytes": leaked if leaked > LEAK else None,
    }


def _of(sizes: dict[str, int], gpu: Gpu, gpus: Sequence[Gpu]) -> int:
    """What is known under the GPU's id; all of it where it is the only one, whatever its source calls it."""
    alone = gpu.id not in sizes and len(gpus) == 1
    return max(0, sum(sizes.values()) if alone else sizes.get(gpu.id, 0))


def _positive(size: int | None) -> int | None:
    return max(0, size) if size is not None else None


def _left(total: int | None, used: int | None) -> int | None:
    return max(0, total - max(0, used)) if total is not None and used is not None else None
