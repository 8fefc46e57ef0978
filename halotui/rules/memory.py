"""Memory: GTT is RAM, so either of the two can run out first. A full VRAM carve-out is no alarm."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from halotui.format import percent, size
from halotui.model import Frame, Gpu, Patch, Severity
from halotui.rules import RANK, Rule, Symptom, Undefined, View

_ID = "gtt-pressure"
_GTT_SHARE = 0.25  # of the RAM: below that it is not the GPU that fills it


class _Levels(Struct, frozen=True):
    """Shares in use."""

    clear: float
    warning: float
    critical: float

    def severity(self, used: float, firing: bool) -> Severity | None:
        if used >= self.critical:
            return Severity.CRITICAL
        return Severity.WARNING if used >= (self.clear if firing else self.warning) else None


_SMALLER_CACHE: Patch = {"ctk": "q8_0", "ctv": "q8_0"}
_GTT = _Levels(0.92, 0.95, 0.98)
_RAM = _Levels(0.94, 0.96, 0.98)


def _gtt_pressure(view: View) -> Iterator[Symptom | Undefined]:
    yield from map(Undefined, view.subjects(_ID) - {gpu.id for gpu in view.frame.gpus})
    alone = len(list(view.running)) == 1  # of several, nobody knows whose cache should shrink
    for gpu in view.frame.gpus:
        used, total = gpu.gtt_used_bytes, gpu.gtt_total_bytes
        if used is None or not total:
            yield Undefined(gpu.id)
            continue
        firing = view.firing(_ID, gpu.id)
        pressed = [
            (severity, title)
            for severity, title in (
                (_GTT.severity(used / total, firing), "GTT is nearly full"),
                (_ram(view.frame, used, firing), "RAM is nearly used up, much of it by GTT"),
            )
            if severity is not None
        ]
        if pressed:
            severity, title = min(pressed, key=lambda found: RANK[found[0]])
            evidence = ", ".join(_evidence(view.frame, gpu, used, total))
            yield Symptom(
                subject=gpu.id,
                severity=severity,
                title=title,
                evidence=evidence,
                patch=_SMALLER_CACHE if alone else None,
            )


def _ram(frame: Frame, gtt: int, firing: bool) -> Severity | None:
    memory = frame.memory
    if memory is None or memory.available_bytes is None or not memory.total_bytes:
        return None
    if gtt <= memory.total_bytes * _GTT_SHARE:
        return None
    return _RAM.severity(1 - memory.available_bytes / memory.total_bytes, firing)


def _evidence(frame: Frame, gpu: Gpu, used: int, total: int) -> Iterator[str]:
    yield f"GTT {size(used)} of {size(total)} ({percent(used / total)})"
    free = max(0, total - used)
    available = frame.memory.available_bytes if frame.memory else None
    swap = frame.memory.swap_used_bytes if frame.memory else None
    if available is not None:
        yield f"RAM available {size(available)}"
    if swap is not None:
        yield f"swap used {size(swap)}"
    # Without the RAM the free GTT is a promise that nobody can keep: no headroom is named then.
    if available is not None:
        yield f"headroom {size(min(free, available))}"


RULES = (
    Rule(
        id=_ID,
        check=_gtt_pressure,
        hold_seconds=3,
        marks=("gpu.gtt_used_bytes", "memory.available_bytes"),
        needs=(
            "gpu.gtt_used_bytes",
            "gpu.gtt_total_bytes",
            "memory.total_bytes",
            "memory.available_bytes",
            "memory.swap_used_bytes",
        ),
        why="GTT is RAM that the GPU maps. Near its end there is no error: the box thrashes, swaps, and the "
        "kernel kills processes.",
        fix="Relaunch with a smaller -c, with -ctk q8_0 -ctv q8_0, or with fewer slots; or stop a server.",
        reference="https://docs.kernel.org/gpu/amdgpu/driver-misc.html",
    ),
)
