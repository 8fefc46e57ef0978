"""The kernel parameters that give the GPU its memory, as commands: both schools of them.

One sets ``ttm.pages_limit`` alone (GiB x 262144); the other ``amdgpu.gttsize`` (MiB) beside it, which newer
kernels call deprecated. Which is right is disputed, so both are shown. The sizes are those of the rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from halotui.doctor import distributions
from halotui.doctor.lines import Sighted
from halotui.format import percent, size
from halotui.history import History
from halotui.model import Gpu
from halotui.rules import View
from halotui.rules.apu import apus
from halotui.rules.gtt import PAGE, PAGES_PER_GIB, GttPlan, gtt_plan

_STRIX = ("AI MAX",)  # in the name of the CPU


def chip(seen: Sighted) -> Gpu | None:
    """The Strix Halo GPU; None on any other box, and where its driver is not there."""
    return next(iter(apus(View(seen.frame, History()))), None)


def is_strix(seen: Sighted) -> bool:
    """By its GPU, or by its CPU where that has no driver."""
    platform = seen.frame.platform
    cpu = (platform.cpu or "").upper() if platform else ""
    return chip(seen) is not None or any(name in cpu for name in _STRIX)


def plan(seen: Sighted, carve_out: int | None = None) -> GttPlan | None:
    """``carve_out``, bytes: as if it were so large, and the rest of it RAM again."""
    gpu, memory = chip(seen), seen.frame.memory
    if gpu is None:
        return None
    if carve_out is None or memory is None or gpu.vram_total_bytes is None:
        return gtt_plan(seen.frame, gpu)
    back = replace(memory, total_bytes=memory.total_bytes + gpu.vram_total_bytes - carve_out)
    return gtt_plan(replace(seen.frame, memory=back), replace(gpu, vram_total_bytes=carve_out))


def schools(seen: Sighted, carve_out: int | None = None) -> Iterator[str]:
    """The two commands: pages alone, and with gttsize."""
    found = plan(seen, carve_out)
    if found is not None:
        yield booted(seen, [found.pages], ("amdgpu.gttsize",))
        yield booted(seen, [found.gttsize, found.pages])


SCHOOLS = (
    f"One of the two, then reboot: ttm.pages_limit alone (GiB x {PAGES_PER_GIB}), or amdgpu.gttsize (MiB) "
    "too, which is deprecated, and disputed."
)


def booted(seen: Sighted, parameters: Sequence[str], without: Sequence[str] = ()) -> str:
    """The command that boots with ``parameters`` in the place of those that are there, and none of the names
    ``without``: a gttsize that is left behind would win."""
    names = {*without, *(word.partition("=")[0] for word in parameters)}
    platform = seen.frame.platform
    asked = platform.kernel_parameters if platform else ()
    stale = [word for word in asked if word.partition("=")[0] in names and word not in parameters]
    return distributions.boot(seen.kin, parameters, stale, grub=seen.grub)


def wants_rocm(seen: Sighted) -> bool:
    """Whether it is in use here, or could be."""
    platform = seen.frame.platform
    return bool(platform and platform.rocm) or any(one.backend == "rocm" for one in seen.frame.servers)


def told_schools(seen: Sighted) -> str:
    """The same in words."""
    found = plan(seen)
    if found is None:
        return ""
    return (
        f"for {found.gib} GiB of GTT out of {size(found.installed_bytes)}: {found.pages} alone,"
        f" or {found.gttsize} {found.pages}"
    )


def told_gtt(seen: Sighted) -> str | None:
    """GTT beside RAM, and the limit it comes from."""
    gpu, memory, platform = chip(seen), seen.frame.memory, seen.frame.platform
    if gpu is None or memory is None or not gpu.gtt_total_bytes:
        return None
    share = f"({percent(gpu.gtt_total_bytes / memory.total_bytes)})"
    told = f"GTT {size(gpu.gtt_total_bytes)} of {size(memory.total_bytes)} RAM {share}"
    limit = (platform.module_parameters if platform else {}).get("ttm.pages_limit", "")
    if limit.isdecimal() and len(limit) < 16:
        told += f"; pages_limit {limit} x 4 KiB = {size(int(limit) * PAGE)}"
    return told
