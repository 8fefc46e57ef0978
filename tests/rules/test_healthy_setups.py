"""False alarms are bugs: setups that owners run and are content with. No rule may fire, without any hold.

What a rule needs to judge is set wherever the real collectors would have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from builders import GIB, GPU, Watch, gpu, memory, server
from halotui.model import (
    Buffer,
    Device,
    Gpu,
    Holder,
    Memory,
    ModelState,
    Platform,
    ServedModel,
    Server,
    ServerFacts,
    ServerState,
    System,
)

BUSY, IDLE = ServerState.BUSY, ServerState.IDLE
MHZ = 1_000_000
OFF, HUGE = "amd_iommu=off", "ttm.pages_limit=31457280"
RADV = (Device(id="Vulkan0", name="Radeon 8060S Graphics (RADV GFX1151)"), Device(id="CPU"))
HIP = (Device(id="ROCm0", name="AMD Radeon Graphics"), Device(id="CPU"))
BLAS = "ROCBLAS_USE_HIPBLASLT=1"


def chip(gtt: float | None = 70, gtt_total: float | None = 120, vram: float = 0.5, **more: Any) -> Gpu:
    """At work, as gpu_metrics tells. ``vram`` in GiB: most of it is the screen's where it is small."""
    values: dict[str, Any] = {
        "name": "Radeon 8060S",
        "integrated": True,
        "busy_percent": 97.0,
        "sclk_hertz": 2850 * MHZ,
        "sclk_top_hertz": 2900 * MHZ,
        "temperature_celsius": 74.0,
        "soc_temperature_celsius": 70.0,
        "socket_power_watts": 112.0,
        "gfx_power_watts": 66.0,
        "cpu_power_watts": 14.0,
        "performance_level": "auto",
        "throttle_known": True,
        "throttle": {"fppt": 12.0},
        "vram_total_bytes": int(vram * GIB),
        "vram_used_bytes": int(vram * 0.88 * GIB),
    }
    return gpu(gtt=gtt, gtt_total=gtt_total, **(values | more))


def platform(*words: str, kernel: str = "6.18.9-200.fc43.x86_64", **more: Any) -> Platform:
    """``words``: of the kernel's command line; the modules took what stands there."""
    told = dict(word.split("=", 1) for word in words)
    modules = {name: told[name] for name in ("ttm.pages_limit", "amdgpu.gttsize") if name in told}
    values: dict[str, Any] = {
        "kernel": kernel,
        "firmware": "20260110-1.fc43",
        "mes": "0x80",
        "mesa": "26.0.1",
        "rocm": "7.1.1",
        "power_mode": "performance",
        "power_modes": ("low-power", "balanced", "performance"),
        "kernel_parameters": words,
        "module_parameters": {"amdgpu.gttsize": "-1"} | modules,
        "provenance": {"kernel_parameters": "/proc/cmdline"},
    }
    return Platform(**(values | more))


def serving(backend: str | None = "vulkan", /, facts: dict[str, Any] | None = None, **more: Any) -> Server:
    """70 GB of weights, all of them on the GPU; everything can be read."""
    known: dict[str, Any] = {
        "architecture": "glm4moe",
        "model_bytes": 68 * GIB,
        "experts": 128,
        "layers_offloaded": 48,
        "layers_total": 48,
        "layers_asked": "99",
        "graph_splits": 2,
        "graph_nodes": 3000,
        "devices": HIP if backend == "rocm" else RADV,
        "cache_type_k": "q8_0",
        "cache_type_v": "q8_0",
        "flash_attention": "on",
        "batch_tokens": 2048,
        "mmap": False,
        "load_seconds": 61.0,
        "environment": (BLAS,) if backend == "rocm" else ("RADV_PERFTEST=nogttspill",),
    }
    values: dict[str, Any] = {
        "state": BUSY,
        "backend": backend,
        "build": "b11549-3fae1c2",
        "model": "GLM-4.5-Air-Q4_K_M",
        "pid": 7,
        "uptime_seconds": 86_400.0,
        "slots_total": 1,
        "slots_asked": 1,
        "speculative": False,
        "provenance": {"backend": "log"},
    }
    return server(
        facts=ServerFacts(**(known | (facts or {}))), **({"url": "http://127.0.0.1:8080"} | values | more)
    )


@dataclass(frozen=True)
class Setup:
    """A box with 128 GB, 512 MB of them carved out, which serves a model, unless it says otherwise."""

    servers: Sequence[Server] = field(default_factory=lambda: [serving()])
    gpus: Sequence[Gpu] = field(default_factory=lambda: [chip()])
    platform: Platform | None = field(default_factory=lambda: platform(OFF, HUGE))
    memory: Memory = field(default_factory=lambda: memory(48, 125.086, 0.4))
    holders: Sequence[Holder] = (Holder(pid=7, name="llama-server", gtt_bytes=69 * GIB),)
    cpu: float = 8.0  # % of all cores


SMALL = {"model_bytes": 600 << 20, "experts": 0, "architecture": "qwen3", "load_seconds": 0.9}
NO_LOG: dict[str, Any] = dict.fromkeys(
    ("graph_splits", "graph_nodes", "layers_offloaded", "layers_total", "load_seconds", "architecture"), None
) | {"devices": ()}
UNSEEN = NO_LOG | dict.fromkeys(
    ("environment", "mmap", "cache_type_k", "cache_type_v", "batch_tokens", "layers_asked", "flash_attention")
)
RX = gpu(
    "0000:03:00.0", gtt=0.2, gtt_total=62, name="Radeon RX 7900 XTX", integrated=False, busy_percent=90.0
)
OLD = "http://127.0.0.1:8081"

SETUPS: dict[str, Setup] = {
    "radv-128-512m": Setup(),
    "radv-iommu-on-but-it-loads": Setup(platform=platform(HUGE)),
    "iommu-off-for-all": Setup([serving(facts={"load_seconds": None})], platform=platform("iommu=off", HUGE)),
    "half-of-it-is-zram": Setup(memory=memory(30, 125.086, 20)),
    "rocm-toolbox": Setup([serving("rocm", container="llama-rocm-7.2")]),
    "rocm-container-of-another-user": Setup(
        [serving("rocm", UNSEEN, container="3f2a77b1c0de")],
        holders=[Holder(pid=7, name="llama-server", hidden=True)],
    ),
    "rocm-nightly-lemonade": Setup(
        [
            serving(
                "rocm",
                {"devices": (Device(id="ROCm0", name="AMD Radeon Graphics, gfx1151"),)},
                build="b1255-5c1fa6b",
            )
        ],
        platform=platform(OFF, HUGE, rocm="7.11.0a20260121"),
    ),
    "hsa-says-what-it-is": Setup(
        [serving("rocm", {"environment": ("HSA_OVERRIDE_GFX_VERSION=11.5.1", BLAS)})]
    ),
    "ngl-auto-and-fit": Setup([serving(facts={"layers_asked": "auto"})]),
    "ngl-unsaid": Setup([serving(facts={"layers_asked": None})]),
    "n-cpu-moe-on-purpose": Setup(
        [
            serving(
                facts={
                    "graph_splits": 38,
                    "buffers": (
                        Buffer(device="Vulkan0", kind="model", bytes=44 * GIB),
                        Buffer(device="CPU", kind="model", bytes=24 * GIB),
                    ),
                }
            )
        ]
    ),
    "cpu-build-on-a-laptop": Setup(
        [
            serving(
                "cpu",
                SMALL | {"devices": (Device(id="CPU"),), "layers_asked": None, "layers_offloaded": None},
                provenance={"backend": "log"},
            )
        ],
        gpus=[],
        platform=platform(kernel="6.12.48+deb13-amd64", firmware="20251125-1~bpo13+1", mes=None),
        memory=memory(4, 15.3, 2),
        holders=[],
        cpu=98.0,
    ),
    "another-apu": Setup(
        [serving(facts={"devices": (Device(id="Vulkan0", name="AMD Radeon 780M (RADV PHOENIX)"),)} | SMALL)],
        gpus=[chip(4, 14, name="AMD GPU 0x15BF")],
        platform=platform(kernel="6.1.0-41-amd64"),
        memory=memory(12, 28),
    ),
    "rpc-cluster": Setup(
        [
            serving(
                facts={
                    "rpc_peers": ("10.0.0.2:50052", "10.0.0.3:50052"),
                    "devices": (*RADV, Device(id="RPC0", name="10.0.0.2:50052")),
                    "graph_splits": 4,
                    "model_bytes": 180 * GIB,
                    "load_seconds": 700.0,
                }
            )
        ]
    ),
    "router-and-children": Setup(
        [
            server("http://127.0.0.1:8080", IDLE, pid=5, model=None, uptime_seconds=9e4),
            serving(url="http://127.0.0.1:8080?model=glm", behind="http://127.0.0.1:8080"),
            serving(
                url="http://127.0.0.1:8080?model=sleeping",
                behind="http://127.0.0.1:8080",
                state=ServerState.SLEEPING,
                pid=9,
            ),
        ]
    ),
    "np-unset": Setup([serving(slots_asked=None, slots_total=4, kv_unified=True)]),
    "embeddings-on-the-cpu": Setup(
        [
            serving(),
            serving(
                facts=SMALL | {"layers_asked": "0", "layers_offloaded": 0, "layers_total": 29, "mmap": None},
                url=OLD,
                pid=8,
                model="Qwen3-Embedding-0.6B",
            ),
        ]
    ),
    "embeddings-without-a-log": Setup(
        [serving(facts=NO_LOG | {"model_bytes": 600 << 20, "layers_asked": "0"}, model="bge-m3")]
    ),
    "two-servers": Setup(
        [serving(facts={"model_bytes": 20 * GIB}), serving("rocm", {"model_bytes": 40 * GIB}, url=OLD, pid=8)]
    ),
    "vulkan-and-ollama": Setup(
        [
            serving(),
            server(
                "http://127.0.0.1:11434",
                IDLE,
                engine="ollama",
                models=(ServedModel(id="glm-4.7", state=ModelState.LOADED, bytes=9 * GIB),),
            ),
        ]
    ),
    "card-beside-it-serves": Setup(
        [
            serving(
                facts={
                    "devices": (Device(id="Vulkan0", name="AMD Radeon RX 7900 XTX (RADV NAVI31)"), *RADV[1:]),
                    "cache_type_v": "f16",
                    "model_bytes": 20 * GIB,
                }
            )
        ],
        gpus=[chip(2, busy_percent=1.0), RX],
    ),
    "card-chosen-of-two": Setup(
        [
            serving(
                facts={
                    "devices": (
                        Device(id="Vulkan0", name="AMD Radeon RX 7900 XTX (RADV NAVI31)"),
                        Device(id="Vulkan1", name=RADV[0].name),
                    ),
                    "device_asked": "Vulkan0",
                    "cache_type_v": "f16",
                }
            )
        ],
        gpus=[chip(2, busy_percent=1.0), RX],
    ),
    "one-of-two-nobody-knows-which": Setup(
        [serving(facts=NO_LOG | {"cache_type_v": "f16", "model_bytes": 20 * GIB})], gpus=[chip(2), RX]
    ),
    "asleep": Setup(
        [serving(state=IDLE)],
        gpus=[
            chip(
                **dict.fromkeys(
                    (
                        *("busy_percent", "sclk_hertz", "temperature_celsius", "soc_temperature_celsius"),
                        *("socket_power_watts", "gfx_power_watts", "cpu_power_watts", "performance_level"),
                        "throttle_known",
                    )
                ),
                throttle={},
                asleep=True,
            )
        ],
    ),
    "ubuntu-oem": Setup([serving("rocm")], platform=platform(OFF, HUGE, kernel="6.14.0-1018-oem")),
    "ubuntu-26": Setup(
        platform=platform(
            OFF, HUGE, kernel="7.0.0-14-generic", firmware="20260319.git217ca6e4-0ubuntu1", mes=None
        )
    ),
    "debian-backports": Setup(
        platform=platform(OFF, HUGE, kernel="6.18.9+deb13-amd64", firmware="20251111-1~bpo13+1", mes=None)
    ),
    "arch": Setup(platform=platform(OFF, HUGE, kernel="6.19.2-arch1-1", firmware="20260221-1")),
    "nixos": Setup(
        [serving(build="b0-unknown")],
        platform=platform(OFF, HUGE, kernel="6.18.12", firmware=None, mes=None, rocm=None),
    ),
    "lxc": Setup(
        memory=memory(30, 32, 0),  # its share, by lxcfs
        platform=platform(HUGE, kernel="6.18.4-1-pve", firmware=None, mes=None),
        holders=[],
    ),
    "lxc-without-a-model": Setup(
        [],
        gpus=[chip(1, busy_percent=0.0)],
        memory=memory(30, 32, 0),
        platform=platform(HUGE, kernel="6.18.4-1-pve", installed_bytes=128 * GIB),
    ),
    "vm-with-passthrough": Setup(
        [serving(facts={"model_bytes": 20 * GIB})],
        gpus=[chip(21, 90, vram=0.5, throttle_known=None, socket_power_watts=None)],
        memory=memory(60, 94.2),
        platform=platform("ttm.pages_limit=23592960", power_mode=None, power_modes=()),
    ),
    "64-gb-gttsize": Setup(
        [serving(facts={"model_bytes": 40 * GIB})],
        gpus=[chip(44, 59)],
        memory=memory(15, 62.34),
        platform=platform("iommu=pt", "amdgpu.gttsize=60416", "ttm.pages_limit=15466496"),
    ),
    "96-gb-carve-out": Setup(
        [serving("rocm", {"model_bytes": 70 * GIB})],
        gpus=[chip(0.6, 15.47, vram=96, vram_used_bytes=75 * GIB)],
        memory=memory(22, 30.94),
        platform=platform(OFF, module_parameters={"ttm.pages_limit": "4055264", "amdgpu.gttsize": "-1"}),
        holders=[Holder(pid=7, name="llama-server", vram_bytes=72 * GIB)],
    ),
    "loads-from-disk": Setup(
        [serving(facts={"load_seconds": None}, state=ServerState.LOADING, uptime_seconds=45.0)]
    ),
    "capped-against-heat": Setup(
        gpus=[chip(performance_level="manual", sclk_hertz=2650 * MHZ, temperature_celsius=82.0)]
    ),
    "quiet-mode-at-rest": Setup(
        [serving(state=IDLE)],
        gpus=[chip(busy_percent=0.0, sclk_hertz=600 * MHZ)],
        platform=platform(OFF, HUGE, power_mode="low-power"),
    ),
    "mtp-on-a-hybrid": Setup(
        [
            serving(
                facts={"architecture": "qwen35moe"},
                model="Qwen3.5-122B-A10B",
                spec_type="draft-mtp",
                speculative=True,
                draft_acceptance_ratio=0.7,
            )
        ]
    ),
    "qwen3-moe-with-its-batch": Setup(
        [serving(facts={"architecture": "qwen3moe", "batch_tokens": 256}, model="Qwen3-235B-A22B")]
    ),
}


@pytest.mark.parametrize("name", SETUPS)
def test_nothing_is_raised(name: str) -> None:
    setup, watch = SETUPS[name], Watch(hold=False)
    for time in range(3):
        servers = [
            one if one.uptime_seconds is None else replace(one, uptime_seconds=one.uptime_seconds + time)
            for one in setup.servers
        ]
        findings = watch.see(
            1_760_000_000 + time,
            servers=servers,
            gpus=setup.gpus,
            memory=setup.memory,
            platform=setup.platform,
            system=System(cpu_busy_percent=setup.cpu, oom_kills=0),
            holders=tuple(setup.holders),
        )
        assert not findings, [(one.id, one.evidence) for one in findings]


def test_the_setups_can_raise_something() -> None:
    """One word changed, and the same frames are not silent: they do carry what the rules need."""
    worse = {
        "kv-asymmetric": Setup([serving(facts={"cache_type_v": "f16"})]),
        "blas-off": Setup([serving("rocm", {"environment": ()})]),
        "graph-splits": Setup([serving("rocm", {"graph_splits": 94})]),
        "kernel-old": Setup([serving("rocm")], platform=platform(OFF, HUGE, kernel="6.14.8-arch1-1")),
        "gtt-size": Setup(platform=platform(OFF, "ttm.pages_limit=3145728"), gpus=[chip(1, 12)]),
    }
    for id_, setup in worse.items():
        found = Watch(hold=False).see(
            0, servers=setup.servers, gpus=setup.gpus, memory=setup.memory, platform=setup.platform
        )
        assert {one.id for one in found} == {id_}
        assert found[0].subject in (GPU, "halo", "http://127.0.0.1:8080")
