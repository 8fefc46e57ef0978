"""The box itself: kernel, firmware, Mesa, ROCm, power mode. What a number is worth nothing without.

Read once for each run, without root. A part that cannot be read, or does not answer in time, is empty.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from halotui.collectors import amdgpu_sysfs
from halotui.hosts import Host
from halotui.hosts.hands import Hands
from halotui.model import Unavailable
from halotui.runs import Environment
from halotui.safe import clean

SECONDS = 2.0  # for each source; they are read side by side
_LONGEST = 200

# What decides how much memory the GPU may have, and how it behaves: a name, or all of one module.
PARAMETERS = ("amd_iommu", "iommu", "amdgpu.", "amdttm.", "ttm.")

# Field: the packages that tell it, the first that is installed counts.
PACKAGES: dict[str, tuple[str, ...]] = {
    "firmware": (
        "amd-gpu-firmware",  # Fedora
        "linux-firmware-amdgpu",  # Arch since 2025
        "kernel-firmware-amdgpu",  # openSUSE
        "firmware-amd-graphics",  # Debian
        "linux-firmware",  # Ubuntu, older Fedora and Arch
    ),
    "mesa": (
        "mesa-vulkan-drivers",  # Fedora, Debian, Ubuntu
        "vulkan-radeon",  # Arch
        "libvulkan_radeon",  # openSUSE
    ),
    "rocm": ("rocm-core", "hip-runtime-amd", "rocm-hip", "rocm-runtime", "libhsa-runtime64-1"),
}
_ALL = tuple(name for names in PACKAGES.values() for name in names)

# Each prints "name version" a line; what is not installed is said on stderr, or in other words.
_QUERIES = (
    ("rpm", "-q", "--qf", "%{NAME} %{VERSION}-%{RELEASE}\n", *_ALL),
    ("dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Package} ${Version}\n", *_ALL),
    ("pacman", "-Q", *_ALL),
)
_INSTALLED = re.compile(rf"^(?:[a-z]i )?({'|'.join(map(re.escape, _ALL))}) (\S+)$", re.MULTILINE)


async def read(host: Host, hands: Hands, root: Path = Path("/")) -> Environment:
    """The box that ``host`` reads and ``hands`` act on; ``root``: of /etc and /opt. Never raises."""
    parts = await asyncio.gather(
        _in_time(lambda: _system(host, root)),
        _in_time(lambda: _gpu(host)),
        _in_time(lambda: _power(host)),
        *(_packages(hands, query) for query in _QUERIES),
    )
    known: dict[str, Any] = {"host": host.name}
    for part in parts:
        known |= {field: value for field, value in part.items() if value and not known.get(field)}
    return Environment(**known)


def _system(host: Host, root: Path) -> dict[str, Any]:
    release = _text(host, root / "etc/os-release") or _text(host, root / "usr/lib/os-release")
    version = _text(host, host.procfs / "version").split()
    return {
        "cpu": _line(_text(host, host.procfs / "cpuinfo"), r"model name\s*:\s*(.+)"),
        "memory_bytes": int(_line(_text(host, host.procfs / "meminfo"), r"MemTotal:\s*(\d+) kB") or 0) * 1024,
        "distribution": _unquoted(_line(release, r"PRETTY_NAME=(.+)")),
        "kernel": clean(
            _text(host, host.procfs / "sys/kernel/osrelease").strip() or "".join(version[2:3]), _LONGEST
        ),
        "kernel_parameters": tuple(
            clean(word, _LONGEST) for word in _text(host, host.procfs / "cmdline").split() if _matters(word)
        ),
        "rocm": clean(_text(host, root / "opt/rocm/.info/version").strip(), 40),
    }


def _matters(word: str) -> bool:
    name = word.partition("=")[0]
    return name in PARAMETERS or (f"{name.partition('.')[0]}." in PARAMETERS and "." in name)


def _gpu(host: Host) -> dict[str, Any]:
    with suppress(Unavailable):
        gpus = amdgpu_sysfs.read(host)
        return {
            "gpu": ", ".join(gpu.name for gpu in gpus if gpu.name),
            "gtt_total_bytes": gpus[0].gtt_total_bytes,
            "vram_total_bytes": gpus[0].vram_total_bytes,
            "performance_level": gpus[0].performance_level,
        }
    return {}


def _power(host: Host) -> dict[str, Any]:
    return {
        "power_mode": _word(host, host.sysfs / "firmware/acpi/platform_profile"),
        "governor": _word(host, host.sysfs / "devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    }


async def _packages(hands: Hands, query: tuple[str, ...]) -> Mapping[str, Any]:
    """Nothing where that package manager is not at home."""
    try:
        done = await hands.run(query, env={**os.environ, "LC_ALL": "C"}, seconds=SECONDS)
    except (OSError, TimeoutError):
        return {}
    installed = dict(_INSTALLED.findall(done.out))
    return {
        field: next((clean(installed[name], 80) for name in names if name in installed), "")
        for field, names in PACKAGES.items()
    }


async def _in_time(function: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Its answer, or nothing: a driver in reset blocks its readers for ever. In a daemon thread, since one
    that is stuck must not keep the program from ending."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Mapping[str, Any]] = loop.create_future()

    def settle(found: Mapping[str, Any]) -> None:
        if not answer.done():
            answer.set_result(found)

    def work() -> None:
        found: Mapping[str, Any] = {}
        with suppress(Exception):  # whatever it is, the rest is worth having
            found = function()
        with suppress(RuntimeError):  # the loop has closed
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=work, name="halotui-platform", daemon=True).start()
    with suppress(TimeoutError):
        return await asyncio.wait_for(answer, SECONDS)
    return {}


def _text(host: Host, path: Path) -> str:
    with suppress(OSError):
        return host.read(path).decode("utf-8", "replace")
    return ""


def _word(host: Host, path: Path) -> str:
    return clean(_text(host, path).strip(), 40)


def _line(text: str, pattern: str) -> str:
    found = re.search(rf"^{pattern}$", text, re.MULTILINE)
    return clean(found[1].strip(), _LONGEST) if found else ""


def _unquoted(value: str) -> str:
    """As a shell would read it."""
    with suppress(ValueError):
        return " ".join(shlex.split(value))
    return value
