"""The rules about the box that have a line, and what each reads when it finds nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from halotui.doctor import distributions
from halotui.doctor.lines import Section, Sighted
from halotui.doctor.parameters import chip, schools, told_gtt
from halotui.doctor.ruled import Boxed
from halotui.format import percent, size


def _kernel(seen: Sighted) -> str | None:
    return seen.frame.platform.kernel if seen.frame.platform else None


def _firmware(seen: Sighted) -> str | None:
    platform = seen.frame.platform
    if platform is None:
        return None
    words = (platform.firmware, f"MES {platform.mes}" if platform.mes else None)
    return ", ".join(filter(None, words)) or None


def _pressure(seen: Sighted) -> str | None:
    memory = seen.frame.memory
    if memory is None or memory.available_bytes is None:
        return None
    pools = [
        f"GTT {size(gpu.gtt_used_bytes)} of {size(gpu.gtt_total_bytes)}"
        f" ({percent(gpu.gtt_used_bytes / gpu.gtt_total_bytes)})"
        for gpu in seen.frame.gpus
        if gpu.gtt_used_bytes is not None and gpu.gtt_total_bytes
    ]
    return ", ".join((*pools, f"RAM available {size(memory.available_bytes)} of {size(memory.total_bytes)}"))


def _mode(seen: Sighted) -> str | None:
    platform = seen.frame.platform
    if platform is None or not platform.power_mode:
        return None
    return f"{platform.power_mode}{f', governor {platform.governor}' if platform.governor else ''}"


def _level(seen: Sighted) -> str | None:
    gpu = chip(seen)
    return gpu.performance_level if gpu is not None else None


def _heat(seen: Sighted) -> str | None:
    gpu = chip(seen)
    return f"{gpu.temperature_celsius:.0f} °C" if gpu and gpu.temperature_celsius is not None else None


def _package(what: str) -> Callable[[Sighted], Sequence[str]]:
    return lambda seen: distributions.package(seen.kin, what)


ROWS = (
    Boxed(
        id="kernel-old",
        section=Section.BOX,
        title="Kernel",
        tell=_kernel,
        keys=("kernel",),
        read="/proc/sys/kernel/osrelease",
        must=True,
        of_rocm=True,
        missing="Whether this kernel has the fixes cannot be told from its number.",
        asking=("uname -r",),
        commands=_package("kernel"),
    ),
    Boxed(
        id="fw-bad",
        section=Section.BOX,
        title="linux-firmware",
        tell=_firmware,
        keys=("firmware", "mes"),
        read="the packages, /sys/class/drm/card*/device/fw_version/mes_fw_version",
        must=True,
        of_rocm=True,
        missing="Neither the package nor the microcode of the GPU's scheduler can be told.",
        asking=("sudo sh -c 'grep MES /sys/kernel/debug/dri/*/amdgpu_firmware_info'",),  # root's to glob
        commands=_package("firmware"),
    ),
    Boxed(
        id="power-mode",
        section=Section.BOX,
        title="Power mode",
        tell=_mode,
        keys=("power_mode", "governor"),
        read="/sys/firmware/acpi/platform_profile",
    ),
    Boxed(
        id="level-forced",
        section=Section.GPU,
        title="Performance level",
        tell=_level,
        read="/sys/class/drm/card*/device/power_dpm_force_performance_level",
    ),
    Boxed(
        id="thermal",
        section=Section.GPU,
        title="Temperature",
        tell=_heat,
        read="gpu_metrics, /sys/class/hwmon",
    ),
    Boxed(
        id="gtt-size",
        section=Section.MEMORY,
        title="GTT against RAM",
        tell=told_gtt,
        read="/sys/class/drm/card*/device/mem_info_gtt_total, /proc/meminfo",
        missing="The size of GTT or of the RAM cannot be read.",
        asking=("cat /sys/class/drm/card*/device/mem_info_gtt_total",),
        must=True,
        commands=lambda seen: tuple(schools(seen)),
    ),
    Boxed(
        id="gtt-pressure",
        section=Section.MEMORY,
        title="Memory now",
        tell=_pressure,
        read="/sys/class/drm/card*/device/mem_info_*, /proc/meminfo",
    ),
)
