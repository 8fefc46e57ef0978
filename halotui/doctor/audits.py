"""What no live rule judges: one pure function an audit. It yields no line where it does not apply."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from halotui.actions import Verdict
from halotui.doctor.access import groups, nodes
from halotui.doctor.lines import Line, Section, Sighted, line
from halotui.doctor.parameters import SCHOOLS, chip, is_strix, schools, told_schools
from halotui.doctor.software import binaries, images, rocm, vulkan
from halotui.format import size
from halotui.model import GPU_SOURCE, SourceState

GIB = 1 << 30
LARGE_CARVE_OUT, SMALL = 4 * GIB, GIB // 2
SWAPPED = 1 * GIB  # from here on it is more than what nobody has asked for since boot
TIGHT = 0.1  # share of the RAM that is available: with more, what lies in swap is not missed
_IN_FORCE = ("amd_iommu", "iommu", "ttm.pages_limit", "amdttm.pages_limit", "amdgpu.gttsize")
_MODULES = ("ttm.", "amdttm.", "amdgpu.")
_TTM = ("pages_limit", "dma32_pages_limit", "page_pool_size")  # all its parameters


def machine(seen: Sighted) -> Iterator[Line]:
    """What box it is. On any other, one line, and those that follow speak of what every box has."""
    platform, gpu = seen.frame.platform, chip(seen)
    words = [platform.product, platform.cpu, platform.distribution] if platform else []
    told = ", ".join(filter(None, [*words, *(one.name for one in seen.frame.gpus)]))
    read = "/sys/class/dmi/id, /proc/cpuinfo, /sys/class/drm"
    late = (SourceState.HUNG, SourceState.STALE)
    if gpu is None and any(one.id == GPU_SOURCE and one.state in late for one in seen.frame.sources):
        told, note = told or "not known", "the GPU does not answer: what is read of it is left out"
        yield line(Section.BOX, "machine", "Machine", Verdict.UNKNOWN, f"{told}: {note}", read)
    elif gpu is None and is_strix(seen) and not seen.on_bus:
        note = "a Strix Halo chip, and its GPU is not to be seen: a virtual machine, or a container?"
        yield line(Section.BOX, "machine", "Machine", Verdict.UNKNOWN, f"{told}: {note}", read)
    elif gpu is None and is_strix(seen):
        yield line(
            Section.BOX,
            "machine",
            "Machine",
            Verdict.FAIL,
            f"{told}: a Strix Halo chip, and its GPU has no amdgpu driver",
            read,
            fix="Without it nothing runs on the GPU. Look for nomodeset and a blacklist.",
            commands=("sudo modprobe amdgpu", "sudo dmesg | grep -i amdgpu"),
        )
    elif gpu is None:
        note = "no Strix Halo box: what is particular to one is left out"
        yield line(Section.BOX, "machine", "Machine", Verdict.UNKNOWN, f"{told or 'not known'}: {note}", read)
    else:
        yield line(Section.BOX, "machine", "Machine", Verdict.OK, told, read)


def kernel_parameters(seen: Sighted) -> Iterator[Line]:
    """What the kernel was told, whether the modules took it, and what this memory would want."""
    if not is_strix(seen):
        return
    platform = seen.frame.platform
    asked = dict(word.partition("=")[::2] for word in (platform.kernel_parameters if platform else ()))
    taken = platform.module_parameters if platform else {}
    shown = " ".join(f"{name}={value}" for name, value in asked.items() if name in _IN_FORCE)
    odd = [
        f"{name}={value} asked, {taken[name]} in force"
        for name, value in asked.items()
        if name.startswith(_MODULES) and name in taken and value and taken[name] not in (value, "")
    ]
    unknown = [
        name
        for name in asked
        if name.startswith(("ttm.", "amdttm.")) and name.partition(".")[2].replace("-", "_") not in _TTM
    ]
    detail = "; ".join(filter(None, (shown or "none that matter", *odd)))
    detail += "".join(f"; {name} is not known to its module" for name in unknown)
    read = "/proc/cmdline, /sys/module/*/parameters"
    if not seen.cmdline:
        yield line(
            Section.BOX, "kernel-parameters", "Kernel parameters", Verdict.UNKNOWN, "not readable", read
        )
        return
    verdict = Verdict.WARN if odd or unknown else Verdict.OK
    why = "Look in /etc/modprobe.d, and for a typing error. " if verdict is Verdict.WARN else ""
    told = told_schools(seen)
    yield line(
        Section.BOX,
        "kernel-parameters",
        "Kernel parameters",
        verdict,
        f"{detail}. Two schools {told}" if told else detail,
        read,
        fix=f"{why}{SCHOOLS}" if verdict is Verdict.WARN and told else why,
        commands=tuple(schools(seen)) if verdict is Verdict.WARN else (),
    )


def carve_out(seen: Sighted) -> Iterator[Line]:
    """Small is right: GTT takes what it needs and gives it back, a carve-out never does."""
    gpu, memory = chip(seen), seen.frame.memory
    if gpu is None:
        return
    read = "/sys/class/drm/card*/device/mem_info_vram_total"
    total, gtt = gpu.vram_total_bytes, gpu.gtt_total_bytes
    if total is None:
        yield line(Section.GPU, "carve-out", "VRAM carve-out", Verdict.UNKNOWN, "not readable", read)
        return
    told = f"{size(total)}, GTT {size(gtt)}" if gtt is not None else size(total)
    if total <= LARGE_CARVE_OUT:
        yield line(
            Section.GPU,
            "carve-out",
            "VRAM carve-out",
            Verdict.OK,
            f"{told}: small, as it should be",
            read,
        )
        return
    left = f", {size(memory.total_bytes)} are left to all else" if memory is not None else ""
    idle = gtt is not None and gtt > total
    cost = "ROCm leaves it idle, as GTT is larger" if idle else "ROCm uses it alone, as GTT is smaller"
    yield line(
        Section.GPU,
        "carve-out",
        "VRAM carve-out",
        Verdict.WARN,
        f"{told}: it is gone from the RAM for good{left}; {cost}",
        read,
        fix=f"Set the UMA frame buffer to 512 MB in the BIOS, then GTT by kernel parameters. {SCHOOLS}",
        commands=tuple(schools(seen, carve_out=SMALL)),
    )


def swap(seen: Sighted) -> Iterator[Line]:
    memory = seen.frame.memory
    if memory is None or memory.swap_total_bytes is None:
        return
    used = memory.swap_used_bytes or 0
    told = f"{size(used)} of {size(memory.swap_total_bytes)} used" if memory.swap_total_bytes else "none"
    free = memory.available_bytes
    if used < SWAPPED or (free is not None and free > TIGHT * memory.total_bytes):
        yield line(Section.MEMORY, "swap", "Swap", Verdict.OK, told, "/proc/meminfo")
        return
    yield line(
        Section.MEMORY,
        "swap",
        "Swap",
        Verdict.WARN,
        f"{told}: what was swapped out is slow to come back",
        "/proc/meminfo",
        fix="Free memory: a smaller context, fewer programs. Whose it is:",
        commands=("grep -H VmSwap /proc/[0-9]*/status | sort -k2 -n | tail",),
    )


BOX: tuple[Callable[[Sighted], Iterator[Line]], ...] = (
    machine,
    kernel_parameters,
    carve_out,
    nodes,
    groups,
    swap,
    vulkan,
    rocm,
    images,
    binaries,
)
