"""Whole boxes as trees of files, one for each kind that owners have: what their kernels would say.

``root/sysfs``, ``root/procfs`` and the rest, for ``LocalHost(root / "sysfs", root / "procfs")``. Sizes of
memory are those that owners published; what nobody published is plausible. Build again with a later
``seconds`` and the counters have moved on, at the pace of the kind's :class:`kinds.Pace`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from box_trees.cards import lay_cards
from box_trees.kinds import KINDS
from box_trees.procfs import lay_procfs
from box_trees.system import lay_system
from halotui.hosts.local import LocalHost
from halotui.model import Frame
from halotui.sampler.clock import Clock
from halotui.sampler.core import Options, Sampler

__all__ = ["KINDS", "build", "frames", "host"]

GRACE = 30.0  # seconds: the box that tests run on may be slow, the frame must not show it


def build(root: Path, kind: str, seconds: float = 0.0) -> None:
    """Write the tree of ``kind`` under ``root``, as it is ``seconds`` after the first look."""
    box = KINDS[kind]
    lay_cards(root, box, seconds)
    lay_system(root, box, seconds)
    lay_procfs(root, box, seconds)


def host(root: Path) -> LocalHost:
    """A host that sees the tree and nothing of this box; it is called ``box``."""
    box = LocalHost(sysfs=root / "sysfs", procfs=root / "procfs")
    box.name = "box"
    return box


async def frames(root: Path, kind: str, ticks: int = 3) -> AsyncIterator[Frame]:
    """What the real sampler makes of it, a second apart on a clock of ours."""
    now = 1_000.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    build(root, kind)
    clock = Clock(monotonic=lambda: now, wall=lambda: 1_760_100_000 + now, sleep=sleep)
    watch = Sampler(host(root), Options(gpu_source="sysfs"), clock)
    try:
        for tick in range(ticks):
            build(root, kind, float(tick))
            yield await watch.tick(GRACE)
            now += 1.0
    finally:
        await watch.close()
