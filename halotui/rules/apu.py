"""Which of a frame's GPUs are the chip that this hardware knowledge is about. No family: it has no rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from halotui.collectors.gpu_identity import STRIX_HALO
from halotui.model import Gpu
from halotui.rules import Undefined, View


def apus(view: View) -> Sequence[Gpu]:
    """Those of the Strix Halo family, by name."""
    return [gpu for gpu in view.frame.gpus if STRIX_HALO.search(gpu.name or "")]


def unseen(view: View, rule_id: str, seen: Sequence[Gpu], shared: bool = False) -> Iterator[Undefined]:
    """What the rule fires for and the frame no longer shows: a driver that hangs cures nothing. ``shared``:
    the rule is about the box, as long as there is such a GPU."""
    if shared and seen:
        return
    yield from map(Undefined, view.subjects(rule_id) - {gpu.id for gpu in seen})
