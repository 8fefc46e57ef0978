"""A box of which everything is known, and boxes that keep a part of it to themselves."""

from __future__ import annotations

from typing import Any

from boxes import NOW, moment, rich
from msgspec.structs import replace

from builders import GIB, gpu, memory, source
from halotui.model import (
    HOLDER_SOURCE,
    KERNEL_SOURCE,
    PLATFORM_SOURCE,
    SYSTEM_SOURCE,
    Account,
    Energy,
    Frame,
    Gpu,
    HeldBy,
    Holder,
    KernelEvent,
    Platform,
    Severity,
    SourceState,
    System,
)

MIB = 1024**2
CARD = "0000:03:00.0"
METRICS = "gpu_metrics v3.0"
OK = ("gpu", "memory", SYSTEM_SOURCE, HOLDER_SOURCE, KERNEL_SOURCE, PLATFORM_SOURCE)


def chip(**more: Any) -> Gpu:
    """A Radeon 8060S at work."""
    known: dict[str, Any] = {
        "name": "Radeon 8060S",
        "integrated": True,
        "gtt": 76.9,
        "vram_used_bytes": 486 * MIB,
        "vram_total_bytes": 512 * MIB,
        "busy_percent": 97.0,
        "media_busy_percent": 0.0,
        "sclk_hertz": 2_714_000_000,
        "sclk_limit_hertz": 2_790_000_000,
        "sclk_top_hertz": 2_900_000_000,
        "mclk_hertz": 1_000_000_000,
        "fclk_hertz": 2_000_000_000,
        "socket_power_watts": 119.8,
        "gfx_power_watts": 84.2,
        "cpu_power_watts": 14.6,
        "npu_power_watts": 0.04,
        "npu_busy_percent": 0.0,
        "cpu_hertz": 4_310_000_000,
        "cpu_limit_hertz": 5_100_000_000,
        "temperature_celsius": 78.0,
        "soc_temperature_celsius": 66.0,
        "performance_level": "auto",
        "held_by": HeldBy.POWER,
        "throttle": {"sppt": 412.0, "fppt": 3.2, "thm_gfx": 0.0},
        "throttle_known": True,
    }
    known |= more
    provenance = {key: METRICS for key in known if key not in ("gtt", "id", "name")}
    provenance |= {
        "busy_percent": "gpu_busy_percent",
        "sclk_top_hertz": "pp_dpm_sclk",
        "performance_level": "power_dpm_force_performance_level",
    }
    return replace(gpu(**known), provenance=provenance)


def card(**more: Any) -> Gpu:
    """A card in a slot of the same box."""
    known: dict[str, Any] = {
        "name": "Radeon RX 7900 XTX",
        "integrated": False,
        "gtt": 0.2,
        "gtt_total": 62.6,
        "vram_used_bytes": 22 * GIB,
        "vram_total_bytes": 24 * GIB,
        "busy_percent": 12.0,
        "sclk_hertz": 2_304_000_000,
        "socket_power_watts": 248.0,
        "temperature_celsius": 61.0,
    }
    return gpu(CARD, **{**known, **more})


def account(**more: Any) -> Account:
    known: dict[str, Any] = {
        "total_bytes": int(125.5 * GIB),
        "carve_out_bytes": 512 * MIB,
        "gtt_bytes": int(76.9 * GIB),
        "other_bytes": int(18.1 * GIB),
        "free_bytes": 30 * GIB,
        "installed_bytes": 128 * GIB,
        "reserved_bytes": int(2.5 * GIB),
        "headroom_bytes": 30 * GIB,
        "rocm_total_bytes": 120 * GIB,
        "rocm_free_bytes": 30 * GIB,
        "vulkan_total_bytes": int(120.5 * GIB),
        "vulkan_free_bytes": 30 * GIB,
        "owned_gtt_bytes": int(76.7 * GIB),
        "unowned_gtt_bytes": 204 * MIB,
    }
    return Account(**{**known, **more})


SYSTEM = System(
    cpu_busy_percent=7.0,
    cpus=32,
    cpu_temperature_celsius=71.0,
    load_1m=1.84,
    memory_pressure_percent=0.0,
    io_pressure_percent=1.2,
    swap_in_bytes_per_second=0.0,
    swap_out_bytes_per_second=2.5 * MIB,
    oom_kills=1,
    disk="nvme0n1",
    disk_busy_percent=3.0,
    disk_read_bytes_per_second=12.4 * MIB,
    disk_write_bytes_per_second=310 * 1024,
    network="enp191s0",
    network_receive_bytes_per_second=3100.0,
    network_send_bytes_per_second=48_200.0,
)
ENERGY = Energy(
    seconds=7480.0,
    watt_hours=171.3,
    tokens=143_220,
    decode_joules_per_token=2.94,
    prefill_joules_per_token=0.297,
)
HOLDERS = (
    Holder(
        pid=2719,
        name="llama-server",
        user="ai",
        gtt_bytes=int(76.1 * GIB),
        vram_bytes=12 * MIB,
        rss_bytes=int(1.9 * GIB),
        cpu_percent=104.0,
        gpu_percent=96.0,
        url="http://127.0.0.1:8080",
        unit="llama-coder.service",
    ),
    Holder(
        pid=1650,
        name="gnome-shell",
        user="ai",
        gtt_bytes=420 * MIB,
        vram_bytes=310 * MIB,
        rss_bytes=388 * MIB,
        cpu_percent=1.2,
        gpu_percent=2.0,
        unit="user@1000.service",
    ),
    Holder(
        pid=4411,
        name="comfyui",
        user="root",
        rss_bytes=int(2.2 * GIB),
        cpu_percent=0.4,
        hidden=True,
        container="comfy",
    ),
)
KERNEL = (
    KernelEvent(
        kind="page-fault",
        severity=Severity.CRITICAL,
        text="GPU page fault",
        detail="amdgpu 0000:c5:00.0: amdgpu: [gfxhub] page fault (src_id:0 ring:24 vmid:8 pasid:32784)",
        time=NOW - 7200,
        process="llama-server",
        pid=2611,
    ),
    KernelEvent(
        kind="gpu-reset",
        severity=Severity.CRITICAL,
        text="GPU reset: succeeded",
        time=NOW - 7195,
    ),
    KernelEvent(
        kind="oom-kill",
        severity=Severity.CRITICAL,
        text="out of memory: python3 killed, 61.2 GiB",
        time=NOW - 900,
        process="python3",
        pid=5120,
    ),
)
PLATFORM = Platform(
    product="Framework Desktop (AMD Ryzen AI Max 300 Series)",
    bios="03.04, 2025-11-14",
    cpu="AMD RYZEN AI MAX+ 395 w/ Radeon 8060S",
    distribution="Fedora Linux 43 (Server Edition)",
    kernel="6.18.4-200.fc43.x86_64",
    kernel_parameters=("amd_iommu=off", "ttm.pages_limit=31457280", "amdgpu.lockup_timeout=10000"),
    module_parameters={"ttm.pages_limit": "31457280", "amdgpu.cwsr_enable": "1", "amdgpu.gttsize": "-1"},
    firmware="20260110-1.fc43",
    mesa="25.3.2-1.fc43",
    rocm="7.1.1-38",
    power_mode="performance",
    power_modes=("low-power", "balanced", "performance"),
    governor="powersave",
    npu="RyzenAI-npu5, firmware 1.0.0.63",
    images=("kyuz0/amd-strix-halo-toolboxes:vulkan-radv", "kyuz0/amd-strix-halo-toolboxes:rocm-7.1"),
    provenance={
        "product": "dmi",
        "bios": "dmi",
        "kernel": "/proc",
        "firmware": "rpm",
        "mesa": "rpm",
        "kernel_parameters": "/proc/cmdline",
        "images": "podman",
    },
)


def box(**more: Any) -> Frame:
    """Everything is known; ``more`` are keys of Frame."""
    told: dict[str, Any] = {
        "gpus": (chip(),),
        "account": account(),
        "system": SYSTEM,
        "energy": ENERGY,
        "holders": HOLDERS,
        "kernel": KERNEL,
        "platform": PLATFORM,
    }
    served = rich(decode_bandwidth_ratio=0.71, prefill_compute_ratio=0.48)
    plain = moment(
        [served], sources=[source(id_) for id_ in OK], memory=memory(30, 125, swap_total_bytes=8 * GIB)
    )
    return replace(plain, **{**told, **more})


def two() -> Frame:
    """The chip, held back by the CPU, and a card beside it."""
    throttle = {"sppt": 0.0, "fppt": 0.0}
    return box(gpus=(chip(held_by=HeldBy.CPU, throttle=throttle, npu_power_watts=2.4), card()))


def bare() -> Frame:
    """No GPU, and nothing else told but the system memory."""
    away = [
        source(
            "gpu", SourceState.ABSENT, reason="no AMD GPU here", hint="llama-server is shown all the same"
        ),
        source("memory"),
        source(
            KERNEL_SOURCE,
            SourceState.DENIED,
            reason="the kernel's log is root's",
            hint="add yourself to group systemd-journal",
        ),
    ]
    gone = dict.fromkeys(("account", "system", "energy", "platform"))
    return box(gpus=(), holders=(), kernel=(), sources=tuple(away), **gone)


def hung() -> Frame:
    """The GPU's files do not answer, and no more do those of the processes."""
    sources = [source(id_) for id_ in OK if id_ not in ("gpu", HOLDER_SOURCE)]
    since = {"since_time": NOW - 2333, "age_seconds": 2334.0}
    sources += [source(id_, SourceState.HUNG, **since) for id_ in ("gpu", HOLDER_SOURCE)]
    return box(gpus=(chip(held_by=None),), sources=tuple(sources))


def odd() -> Frame:
    """100 % without work, GTT that leaked, a GPU that sleeps."""
    doubtful = chip(busy_percent=100.0, busy_doubtful=True, held_by=None, throttle={}, socket_power_watts=9.1)
    lost = account(
        owned_gtt_bytes=4 * GIB, unowned_gtt_bytes=int(72.9 * GIB), leaked_gtt_bytes=int(72.9 * GIB)
    )
    asleep = gpu(CARD, gtt=0.1, gtt_total=62, name="Radeon RX 7900 XTX", asleep=True, integrated=False)
    return box(gpus=(doubtful, asleep), account=lost)
