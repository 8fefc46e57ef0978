"""The box's memory as one account whose parts add up. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from halotui.model import Account, Gpu, Memory


class Owned(Struct, frozen=True):
    """GTT of the processes that we may see, by GPU id, in bytes."""

    gtt_bytes: dict[str, int]
    complete: bool  # every process could be seen


def account(
    memory: Memory | None, gpus: Sequence[Gpu], installed: int | None, owned: Owned | None
) -> Account | None:
    """None without system memory. ``installed``: bytes of the memory modules, where known."""
    return None
