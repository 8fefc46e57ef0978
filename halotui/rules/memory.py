"""Memory: GTT is RAM, so either of the two can run out first. A full VRAM carve-out is no alarm."""

from __future__ import annotations

from collections.abc import Iterator

from halotui.format import percent, size
from halotui.model import Frame, Gpu, Patch, ServerFacts, Severity
from halotui.rules import RANK, Level, Proof, Rule, Symptom, Undefined, View
from halotui.rules.pairs import LLAMA

_ID = "gtt-pressure"
_GTT_SHARE = 0.25  # of the RAM: below that it is not the GPU that fills it
_RAM = "ram_"  # levels of the RAM are named as those of GTT are, behind it
_STEADY = 10.0  # seconds
_LOOKS = 40  # frames that may lie in them


def _gtt_pressure(view: View) -> Iterator[Symptom | Undefined]:
    yield from map(Undefined, view.subjects(_ID) - {gpu.id for gpu in view.frame.gpus})
    for gpu in view.frame.gpus:
        used, total = gpu.gtt_used_bytes, gpu.gtt_total_bytes
        if used is None or not total:
            yield Undefined(gpu.id)
            continue
        firing = view.firing(_ID, gpu.id)
        pressed = [
            (severity, title)
            for severity, title in (
                (_severity(view, used / total, firing), "GTT is nearly full"),
                _ram(view, gpu.id, used),
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
                patch=_smaller_cache(view),
            )


def _severity(view: View, used: float, firing: bool, of: str = "") -> Severity | None:
    if used >= view.levels[f"{of}critical"]:
        return Severity.CRITICAL
    least = view.levels[f"{of}clear" if firing else f"{of}warning"]
    return Severity.WARNING if used >= least else None


def _ram(view: View, gpu: str, gtt: int) -> tuple[Severity | None, str]:
    """And its title. A box that swaps to and fro all the time has less than it looks."""
    memory, title = view.frame.memory, "RAM is nearly used up, much of it by GTT"
    if memory is None or memory.available_bytes is None or not memory.total_bytes:
        return None, title
    if not memory.total_bytes * _GTT_SHARE < gtt <= memory.total_bytes:
        return None, title  # more of it than there is: that is a container's share of the RAM
    before = view.findings.get((_ID, gpu))
    used = 1 - memory.available_bytes / memory.total_bytes
    severity = _severity(view, used, before is not None, _RAM)
    if severity is Severity.CRITICAL or used < view.levels["ram_swapping"]:
        return severity, title
    worse = Severity.WARNING if severity is None else Severity.CRITICAL
    held = before is not None and RANK[before.severity] <= RANK[worse]
    return (worse, "The box swaps, and much of its RAM is GTT") if _swaps(view, held) else (severity, title)


def _swaps(view: View, firing: bool) -> bool:
    """Out and in again, in each look of the last seconds; once it fires, in any of them. To swap out what
    nobody uses is no harm, nor is to read it back."""
    ring = view.history.series("system", "system.swap_out_bytes_per_second")
    level, since = view.levels["swap_bytes_per_second"], view.frame.time - _STEADY
    if ring is None or not (firing or min(_rates(view.frame)) >= level):
        return False
    looks = list(zip(reversed(view.history.times.last(_LOOKS)), reversed(ring.last(_LOOKS)), strict=False))
    told = [rate >= level for at, rate in looks if rate is not None and at is not None and at >= since]
    if firing:
        return any(told)
    long = looks[-1][0] is not None and looks[-1][0] <= since
    return long and len(told) >= 3 and all(told)


def _rates(frame: Frame) -> tuple[float, float]:
    """Of swap, in and out; 0 also where that is not known, which proves nothing."""
    system = frame.system
    if system is None or system.swap_in_bytes_per_second is None or system.swap_out_bytes_per_second is None:
        return 0.0, 0.0
    return system.swap_in_bytes_per_second, system.swap_out_bytes_per_second


def _smaller_cache(view: View) -> Patch | None:
    """Where it is known whose cache should shrink, and it is not known to be small already."""
    servers = list(view.running)
    if len(servers) != 1 or servers[0].engine != LLAMA:
        return None
    facts = servers[0].facts or ServerFacts()
    if not {facts.cache_type_k, facts.cache_type_v} <= {None, "f32", "f16", "bf16"}:
        return None
    patch: Patch = {"ctk": "q8_0", "ctv": "q8_0"}
    return patch | {"fa": "on"} if facts.flash_attention == "off" else patch


def _evidence(frame: Frame, gpu: Gpu, used: int, total: int) -> Iterator[str]:
    yield f"GTT {size(used)} of {size(total)} ({percent(used / total)})"
    free = max(0, total - used)
    available = frame.memory.available_bytes if frame.memory else None
    swap = frame.memory.swap_used_bytes if frame.memory else None
    if available is not None:
        yield f"RAM available {size(available)}"
    if swap is not None:
        yield f"swap used {size(swap)}"
    into, out = _rates(frame)
    if into or out:
        yield f"swapping {size(into)}/s in and {size(out)}/s out"
    # Without the RAM the free GTT is a promise that nobody can keep: no headroom is named then.
    if available is not None:
        yield f"headroom {size(min(free, available))}"


_LEVELS = (
    Level(name="clear", value=0.92, help="share of GTT in use below which it is over", most=1.0),
    Level(name="warning", value=0.95, help="share of GTT in use", most=1.0, above="clear"),
    Level(name="critical", value=0.98, help="the same, critical", most=1.0, above="warning"),
    Level(name="ram_clear", value=0.94, help="share of RAM in use below which it is over", most=1.0),
    Level(name="ram_warning", value=0.96, help="share of RAM in use", most=1.0, above="ram_clear"),
    Level(name="ram_critical", value=0.98, help="the same, critical", most=1.0, above="ram_warning"),
    Level(name="ram_swapping", value=0.90, help="share of RAM in use from which swapping counts", most=1.0),
    Level(
        name="swap_bytes_per_second",
        value=10e6,
        help="read from swap and written to it, each, for 10 s: one step worse",
        least=1.0,
    ),
)

RULES = (
    Rule(
        id=_ID,
        check=_gtt_pressure,
        may_patch=True,
        title="GTT, or the RAM under it, is nearly full",
        hold_seconds=3,
        window="now; 10 s for the swap",
        clears="GTT is below 92 % and RAM below 94 % in use, and no swapping for 10 s",
        levels=_LEVELS,
        evidence="GTT {used} of {total} ({share})[, RAM available {available}][, swap used {swap}]"
        "[, swapping {rate} in and {rate} out][, headroom {headroom}]",
        freezes=True,
        proof=Proof.DEMO,
        marks=("gpu.gtt_used_bytes", "memory.available_bytes", "system.swap_out_bytes_per_second"),
        needs=(
            "gpu.gtt_used_bytes",
            "gpu.gtt_total_bytes",
            "memory.total_bytes",
            "memory.available_bytes",
            "memory.swap_used_bytes",
            "system.swap_in_bytes_per_second",
            "system.swap_out_bytes_per_second",
        ),
        why="GTT is RAM that the GPU maps. Near its end there is no error: the box thrashes, swaps, and the "
        "kernel kills processes.",
        fix="Relaunch with a smaller -c, with -ctk q8_0 -ctv q8_0, or with fewer slots; or stop a server.",
        reference="https://docs.kernel.org/gpu/amdgpu/driver-misc.html",
    ),
)
