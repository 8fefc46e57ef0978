"""The box itself: kernel, firmware, Mesa, ROCm, power mode. What a number is worth nothing without.

Without root. A part that cannot be read, or does not answer in time, is empty. ``fixed`` and ``settings``
serve the live frame, ``read`` the label of a run: the same parts.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec.structs import fields

from halotui.collectors import amdgpu_sysfs, dmi, packages
from halotui.collectors.platform_facts import Facts, contained, text
from halotui.hosts import Host
from halotui.hosts.hands import Hands
from halotui.model import Unavailable
from halotui.runs import Environment
from halotui.safe import clean

SECONDS = packages.SECONDS  # for each source of a label; they are read side by side
_LONGEST = 200

# What decides how much memory the GPU may have, and how it behaves: a name, or all of one module.
PARAMETERS = ("amd_iommu", "iommu", "amdgpu.", "amdttm.", "ttm.")

# The same as the modules took it.
_IN_FORCE = {
    "ttm": ("pages_limit", "page_pool_size"),
    "amdttm": ("pages_limit", "page_pool_size"),  # AMD's own kernel modules
    "amdgpu": ("gttsize", "cwsr_enable", "lockup_timeout"),
}
_OF_THE_ROOT = (
    *("run/.containerenv", ".dockerenv", "run/udev/data/+dmi:id", "opt/rocm/.info/version"),
    *("run/host/etc/os-release", "etc/os-release", "usr/lib/os-release"),
)
_MES = re.compile(r"^MES feature version: \d+, firmware version: (0x[0-9a-f]{1,8})$", re.MULTILINE)
_MES_VERSION = re.compile(r"0x[0-9a-f]{1,8}")
_AMD = "0x1002"


def fixed(host: Host) -> Facts:
    """What stays until the next boot. Blocking, some thirty small reads."""
    sys, proc = host.sysfs, host.procfs
    host.expect(
        *(f"{proc}/{name}" for name in ("cpuinfo", "sys/kernel/osrelease", "version", "cmdline")),
        *(f"{sys}/class/dmi/id/{name}" for name in ("sys_vendor", "product_name", "board_name", "bios_*")),
        *(f"{sys}/class/accel/accel*/device/{name}" for name in ("vbnv", "fw_version")),
        *(f"{host.root}/{name}".replace("//", "/") for name in _OF_THE_ROOT),
        f"{sys}/firmware/acpi/platform_profile_choices",
        f"{sys}/firmware/dmi/tables/DMI",
    )
    facts = Facts()
    for part in (_system, dmi.board, dmi.memory, _npu):
        facts.add(part(host))
    modes = host.sysfs / "firmware/acpi/platform_profile_choices"
    facts.tell("power_modes", tuple(clean(text(host, modes), _LONGEST).split()), modes)
    return facts


def settings(host: Host) -> Facts:
    """What may change at any time. Blocking, some ten small reads."""
    host.expect(
        *(
            f"{host.sysfs}/module/{module}/parameters/{name}"
            for module, names in _IN_FORCE.items()
            for name in names
        ),
        f"{host.sysfs}/firmware/acpi/platform_profile",
        f"{host.sysfs}/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    )
    facts = Facts()
    for key, path in (
        ("power_mode", host.sysfs / "firmware/acpi/platform_profile"),
        ("governor", host.sysfs / "devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    ):
        facts.tell(key, _word(host, path), path)
    modules = host.sysfs / "module"
    taken = {
        f"{module}.{name}": value
        for module, names in _IN_FORCE.items()
        for name in names
        if (value := _word(host, modules / module / "parameters" / name))
    }
    facts.tell("module_parameters", taken, modules)
    return facts


async def read(host: Host, hands: Hands, root: Path | None = None) -> Environment:
    """The box that ``host`` reads and ``hands`` act on; ``root``: of /etc and /opt. Never raises."""
    parts = await asyncio.gather(
        _in_time(lambda: {**_system(host, root).values, **_memory(host)}),
        _in_time(lambda: _gpu(host)),
        _in_time(lambda: settings(host).values),
        *(_packages(hands, host.environ, query) for query in packages.QUERIES),
    )
    known: dict[str, Any] = {}
    for part in parts:
        known |= {key: value for key, value in part.items() if value and not known.get(key)}
    wanted = {field.name for field in fields(Environment)}
    return Environment(host=host.name, **{key: value for key, value in known.items() if key in wanted})


def _system(host: Host, root: Path | None = None) -> Facts:
    facts, proc, root = Facts(), host.procfs, root or host.root
    release = proc / "sys/kernel/osrelease"
    facts.tell("cpu", _line(text(host, proc / "cpuinfo"), r"model name\s*:\s*(.+)"), proc / "cpuinfo")
    facts.tell("kernel", clean(text(host, release).strip(), _LONGEST), release)
    facts.tell(
        "kernel", clean("".join(text(host, proc / "version").split()[2:3]), _LONGEST), proc / "version"
    )
    line = text(host, proc / "cmdline").split()
    facts.tell(
        "kernel_parameters",
        tuple(clean(word, _LONGEST) for word in line if _matters(word)),
        proc / "cmdline",
    )
    inside = ", of this container" if contained(host) else ""
    for path, note in (
        (root / "run/host/etc/os-release", ""),  # where a toolbox sees its box
        (root / "etc/os-release", inside),
        (root / "usr/lib/os-release", inside),
    ):
        name = _unquoted(_line(text(host, path), r"PRETTY_NAME=(.+)"))
        facts.tell("distribution", name, f"{path}{note}")
    rocm = root / "opt/rocm/.info/version"
    facts.tell("rocm", clean(text(host, rocm).strip(), 40), f"{rocm}{inside}")
    return facts


def scheduler(host: Host) -> Facts:
    """MES of the GPU, an APU's before a card's: sysfs tells everybody since Linux 6.6, debugfs root alone.
    Blocking: of the driver, which may hang."""
    facts = Facts()
    for card in sorted(_cards(host), key=lambda card: len(host.glob(card / "device", "mem_busy_percent"))):
        open_to_all = card / "device/fw_version/mes_fw_version"
        told = _word(host, open_to_all)
        if _MES_VERSION.fullmatch(told):
            facts.tell("mes", _hex(told), open_to_all)
            continue
        debug = host.sysfs / "kernel/debug/dri" / card.name.removeprefix("card") / "amdgpu_firmware_info"
        try:
            found = _MES.search(host.read(debug).decode("utf-8", "replace"))
        except PermissionError:
            facts.denied.add("mes")
        except OSError:
            continue
        else:
            facts.tell("mes", _hex(found[1]) if found else "", debug)
    if facts.values:
        facts.denied.clear()
    return facts


def _cards(host: Host) -> Iterator[Path]:
    for card in host.glob(host.sysfs / "class/drm", "card*"):
        if card.name[4:].isdecimal() and _word(host, card / "device/vendor") == _AMD:
            yield card


def _hex(version: str) -> str:
    """As people write it: 0x83. Empty for none."""
    number = int(version, 16)
    return hex(number) if number else ""


def _npu(host: Host) -> Facts:
    facts = Facts()
    for name in host.glob(host.sysfs / "class/accel", "accel*/device/vbnv"):
        firmware = _word(host, name.with_name("fw_version"))
        words = (_word(host, name), f"firmware {firmware}" if firmware else "")
        facts.tell("npu", ", ".join(filter(None, words)), name.parent)
    return facts


def _matters(word: str) -> bool:
    name = word.partition("=")[0]
    return name in PARAMETERS or (f"{name.partition('.')[0]}." in PARAMETERS and "." in name)


def _memory(host: Host) -> dict[str, Any]:
    told = _line(text(host, host.procfs / "meminfo"), r"MemTotal:\s*(\d+) kB")
    return {"memory_bytes": int(told or 0) * 1024}


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


async def _packages(hands: Hands, environ: Mapping[str, str], query: tuple[str, ...]) -> Mapping[str, Any]:
    """Nothing where that package manager is not at home."""
    try:
        done = await hands.run(query, env={**environ, "LC_ALL": "C"}, seconds=SECONDS)
    except (OSError, TimeoutError):
        return {}
    return packages.versions(done.out)


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


def _word(host: Host, path: Path) -> str:
    return clean(text(host, path).strip(), 40)


def _line(said: str, pattern: str) -> str:
    found = re.search(rf"^{pattern}$", said, re.MULTILINE)
    return clean(found[1].strip(), _LONGEST) if found else ""


def _unquoted(value: str) -> str:
    """As a shell would read it."""
    with suppress(ValueError):
        return " ".join(shlex.split(value))
    return value
