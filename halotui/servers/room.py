"""The memory that there will be once a server has left. Blocking: for a thread with a deadline."""

from __future__ import annotations

from collections.abc import Iterable

from halotui.collectors import amdgpu_sysfs, memory
from halotui.hosts import Host
from halotui.model import Gpu, Unavailable
from halotui.servers.fit import Room

_KIB = 1024
_OTHERS = ("0x10de", "0x8086")  # PCI vendors whose GPUs llama.cpp may use beside ours
# What the amdgpu driver tells of a client (Documentation/gpu/drm-usage-stats.rst); newer kernels first.
_GPU = {"gtt": ("drm-resident-gtt", "drm-memory-gtt"), "vram": ("drm-resident-vram", "drm-memory-vram")}


def read(host: Host, pid: int | None, expected_bytes: int | None = None) -> Room:
    """The room without the process ``pid``.

    What it gives back is measured; where the driver keeps silent (ROCm's share is not in fdinfo on every
    kernel) ``expected_bytes`` of GPU memory are taken for it, and never more than the pools hold in use.
    """
    gpus = _gpus(host)
    gtt, vram = held(host, pid) if pid is not None else (0, 0)
    own = resident(host, pid) if pid is not None else 0
    gtt_used, vram_used = _sum(gpu.gtt_used_bytes for gpu in gpus), _sum(gpu.vram_used_bytes for gpu in gpus)
    if pid is not None and gpus:
        gtt = min(gtt_used or 0, max(gtt, (expected_bytes or 0) - vram - own))
        vram = min(vram_used or 0, vram)
    try:
        available = memory.read(host).available_bytes
    except Unavailable:
        available = None
    return Room(
        ram_bytes=None if available is None else available + gtt + own,
        gtt_bytes=_free(_sum(gpu.gtt_total_bytes for gpu in gpus), gtt_used, gtt),
        vram_bytes=_free(_sum(gpu.vram_total_bytes for gpu in gpus), vram_used, vram),
        held_bytes=(gtt + vram + own) or None,
        others=_others(host),
    )


def held(host: Host, pid: int) -> tuple[int, int]:
    """GTT and VRAM of a process, each client of the driver once; 0 where the driver tells nothing."""
    clients: dict[str, dict[str, str]] = {}
    host.expect(str(host.procfs / str(pid) / "fdinfo/*"))
    for path in host.glob(host.procfs / str(pid) / "fdinfo", "*"):
        try:
            lines = host.read(path).decode("ascii", "replace").splitlines()
        except OSError:
            continue
        told = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
        if "drm-client-id" in told:
            clients[f"{told.get('drm-pdev')} {told['drm-client-id']}"] = told
    gtt, vram = (sum(_kib(told, names) for told in clients.values()) for names in _GPU.values())
    return gtt, vram


def resident(host: Host, pid: int) -> int:
    """RAM that is surely free when the process has gone: not the pages of files, unless they are locked."""
    try:
        lines = host.read(host.procfs / str(pid) / "status").decode("ascii", "replace").splitlines()
    except OSError:
        return 0
    told = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return _kib(told, ("RssAnon",)) + min(_kib(told, ("VmLck",)), _kib(told, ("RssFile",)))


def _kib(told: dict[str, str], names: tuple[str, ...]) -> int:
    """The first of the lines that is there: ``1234 KiB`` or ``1234 kB``."""
    for name in names:
        number, _, unit = told.get(name, "").partition(" ")
        if number.isdecimal() and len(number) < 16:
            return int(number) * {"": 1, "MiB": _KIB * _KIB}.get(unit, _KIB)
    return 0


def _gpus(host: Host) -> tuple[Gpu, ...]:
    try:
        return amdgpu_sysfs.read(host)
    except Unavailable:
        return ()


def _others(host: Host) -> bool:
    for path in host.glob(host.sysfs / "class/drm", "card[0-9]*/device/vendor"):
        try:
            if host.read(path).decode("ascii", "replace").strip() in _OTHERS:
                return True
        except OSError:
            continue
    return False


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _free(total: int | None, used: int | None, back: int) -> int | None:
    return None if total is None or used is None else max(0, total - used + back)
