"""What is read of every box at the start, brought together: a first frame costs a few round trips."""

from __future__ import annotations

from pathlib import Path

from halotui.hosts.ssh_reads import Ask

# Shell patterns of files, under the roots.
SYSFS: tuple[str, ...] = (
    *(
        f"class/drm/card[0-9]/device/{name}"  # not card0-eDP-1, which leads to the same
        for name in (
            "vendor",
            "device",
            "revision",
            "uevent",
            "mem_info_*",
            "*_busy_percent",
            "power_dpm_force_performance_level",
            "pp_dpm_*",
            "gpu_metrics",
            "hwmon/hwmon*/name",
            "hwmon/hwmon*/*_input",
            "hwmon/hwmon*/power*",
        )
    ),
    "class/hwmon/hwmon*/name",
    "class/dmi/id/[bps]*_[nv]*",  # names, vendors, versions
    "firmware/acpi/platform_profile*",
    "devices/system/cpu/cpu0/cpufreq/scaling_governor",
    "module/amdgpu/version",
)
PROCFS: tuple[str, ...] = (
    "stat",
    "meminfo",
    "uptime",
    "loadavg",
    "vmstat",
    "diskstats",
    "version",
    "cmdline",
    "swaps",
    "mounts",
    "cpuinfo",
    "net/dev",
    "net/route",
    "pressure/*",
    "self/cgroup",
    "sys/kernel/random/boot_id",
    "sys/kernel/osrelease",
)
ROOT: tuple[str, ...] = ("etc/os-release",)
# Globs, as collectors write them.
GLOBS = (
    ("class/drm", "card[0-9]*"),
    ("class/drm", "card*"),
    ("class/hwmon", "*/name"),
    ("class/net", "*/device"),
    ("class/accel", "accel*/device/vbnv"),
    ("block", "*/device"),
)


def patterns(root: Path, names: tuple[str, ...]) -> list[str]:
    """Under a root."""
    return [f"{root}/{name}".replace("//", "/") for name in names]


def globs(sysfs: Path) -> list[Ask]:
    """As questions."""
    return [Ask("glob", f"{sysfs}/{place}/{pattern}") for place, pattern in GLOBS]
