"""Whole boxes as trees of files, one for each kind that owners have: what their kernels would say.

``root/sysfs``, ``root/procfs`` and the rest, for ``LocalHost(root / "sysfs", root / "procfs")``. Sizes of
memory are those that owners published; what nobody published is plausible. Build again with a later
``seconds`` and the counters have moved on, at the pace of the kind's :class:`kinds.Pace`.
"""

from __future__ import annotations

from pathlib import Path

from box_trees.cards import lay_cards
from box_trees.kinds import KINDS
from box_trees.procfs import lay_procfs
from box_trees.system import lay_system
from halotui.hosts.local import LocalHost

__all__ = ["KINDS", "build", "host"]


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
