"""In what order the processes stand: what the keys of their view change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from halotui.model import Holder

Value = Callable[[Holder], float | str | None]
GPU = "gpu memory"

SORTS: dict[str, Value] = {
    GPU: lambda holder: _sum(holder.gtt_bytes, holder.vram_bytes),
    "gtt": lambda holder: holder.gtt_bytes,
    "vram": lambda holder: holder.vram_bytes,
    "rss": lambda holder: holder.rss_bytes,
    "cpu": lambda holder: holder.cpu_percent,
    "gpu": lambda holder: holder.gpu_percent,
    "pid": lambda holder: holder.pid,
    "name": lambda holder: holder.name,
    "user": lambda holder: holder.user,
    "in": lambda holder: holder.container or holder.unit,
}
_WORDS = ("pid", "name", "user", "in")  # what names a process: the smallest first


@dataclass
class HolderList:
    sort: str = GPU
    descending: bool = True

    def order(self, sorts: Sequence[str]) -> None:
        """By the next of these."""
        at = sorts.index(self.sort) if self.sort in sorts else -1
        self.by(sorts[(at + 1) % len(sorts)])

    def by(self, sort: str) -> None:
        """The largest first, but for what only names a process; the same again turns it round."""
        self.descending = not self.descending if sort == self.sort else sort not in _WORDS
        self.sort = sort

    def shown(self, holders: Sequence[Holder]) -> list[Holder]:
        """In order; what is not known comes last either way."""
        value = SORTS[self.sort]
        known = [(key, holder) for holder in holders if (key := value(holder)) is not None]
        known.sort(key=lambda pair: pair[0], reverse=self.descending)
        return [holder for _, holder in known] + [holder for holder in holders if value(holder) is None]


def _sum(*parts: int | None) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known else None
