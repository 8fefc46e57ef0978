"""Where the weights lie: each rule on its case, beside it, without its data, and when it is over."""

from __future__ import annotations

from typing import Any

import pytest

from builders import URL, Watch, gpu, server
from halotui.model import Buffer, Device, Finding, Holder, Server, ServerFacts, ServerState, Severity
from halotui.rules import ALL
from halotui.rules.engine import State

GIB = 1 << 30
HALO = gpu(name="Radeon 8060S", integrated=True)
GRAPH, CPU, TRAP = (
    next(rule for rule in ALL if rule.id == id_) for id_ in ("graph-splits", "cpu-fallback", "vram-trap")
)
GPU_DEVICE = (Device(id="Vulkan0", name="Radeon 8060S Graphics (RADV GFX1151)"), Device(id="CPU"))


def serving(backend: str | None = "vulkan", /, facts: dict[str, Any] | None = None, **more: Any) -> Server:
    more = {"pid": 7, "uptime_seconds": 600.0, "provenance": {"backend": "log"}, **more}
    return server(backend=backend, facts=ServerFacts(**(facts or {})), **more)


def see(watch: Watch, time: float, one: Server, **box: Any) -> list[Finding]:
    return list(watch.see(time, servers=[one], **{"gpus": [HALO], **box}))


def splits(number: int | None, **facts: Any) -> dict[str, Any]:
    return {"graph_splits": number, "graph_nodes": 1200, **facts}


def weights(on_cpu: float) -> tuple[Buffer, ...]:
    """40 GiB on the GPU and ``on_cpu`` beside it; a cache on the CPU is no weight."""
    kinds = (("ROCm0", "model", 40.0), ("CPU_Mapped", "model", on_cpu), ("CPU", "kv", 9.0))
    return tuple(Buffer(device=device, kind=kind, bytes=int(gib * GIB)) for device, kind, gib in kinds)


def test_graph_splits() -> None:
    watch = Watch(GRAPH)
    many = serving("rocm", splits(94))
    assert see(watch, 0, many) == []
    (finding,) = see(watch, 4, many)
    assert finding.evidence == "94 graph splits in 1,200 nodes, 1 or 2 are usual"
    assert "GGML_HIP_UMA" in finding.fix
    assert see(watch, 5, serving("rocm", splits(2))) == []
    for near in (
        serving("rocm", splits(8)),
        serving("cpu", splits(94)),
        serving("rocm", splits(94, layers_offloaded=30, layers_total=49)),  # cpu-fallback's
        serving("rocm", splits(94, buffers=weights(on_cpu=20))),  # --n-cpu-moe
    ):
        assert see(Watch(GRAPH, hold=False), 0, near) == []
    embeddings = serving("rocm", splits(94, buffers=weights(on_cpu=1.5)))
    assert see(Watch(GRAPH, hold=False), 0, embeddings) != []
    blind = Watch(GRAPH, hold=False)
    assert see(blind, 0, serving("rocm")) == [] and blind.engine.state("graph-splits", URL) is State.UNDEFINED


HELD = Holder(pid=7, name="llama-server", gtt_bytes=60 * GIB)
IDLE = Holder(pid=7, name="llama-server")
HIDDEN = Holder(pid=7, name="llama-server", hidden=True)
LARGE = {"model_bytes": 60 * GIB}
ON_CPU = {"buffers": (Buffer(device="CPU_Mapped", kind="model", bytes=60 * GIB),), **LARGE}


@pytest.mark.parametrize(
    ("one", "severity", "evidence"),
    [
        (
            serving("vulkan", {"layers_offloaded": 30, "layers_total": 49}),
            Severity.WARNING,
            "30 of 49 layers on the GPU",
        ),
        (
            serving("rocm", {"layers_offloaded": 30, "layers_total": 49, "layers_asked": "30"}),
            Severity.INFO,
            "30 of 49 layers on the GPU, -ngl 30",
        ),
        (serving("vulkan", {"layers_asked": "0"}), Severity.INFO, "-ngl 0 with a vulkan build"),
        (serving("vulkan", LARGE), Severity.WARNING, "60.0 GiB of weights, 0 B of GPU memory held"),
        (
            serving("cpu", {**ON_CPU, "layers_asked": "99"}),
            Severity.WARNING,
            "60.0 GiB of weights on the CPU, -ngl 99, no GPU found",
        ),
        (
            serving("cpu", {**ON_CPU, "devices": GPU_DEVICE}),
            Severity.WARNING,
            "60.0 GiB of weights on the CPU, found Vulkan0",
        ),
        (serving("cpu", LARGE), Severity.INFO, "all weights on the CPU, no GPU found"),
    ],
)
def test_cpu_fallback(one: Server, severity: Severity, evidence: str) -> None:
    watch = Watch(CPU)
    assert see(watch, 0, one, holders=(IDLE,)) == []
    (finding,) = see(watch, 6, one, holders=(IDLE,))
    assert (finding.severity, finding.evidence) == (severity, evidence)
    well = serving("vulkan", {"layers_offloaded": 49, "layers_total": 49})
    assert see(watch, 7, well, holders=(HELD,)) == []
    elsewhere = see(Watch(CPU, hold=False), 0, one, gpus=[gpu(name="Radeon 780M")], holders=(IDLE,))
    assert not elsewhere or (one.facts and one.facts.devices)  # unless its log names the chip


@pytest.mark.parametrize(
    ("one", "holder"),
    [
        (serving("cpu", {**ON_CPU, "layers_asked": "99"}), HELD),  # as the demo's: its memory says otherwise
        (serving("cpu", {**ON_CPU, "layers_asked": "0"}), IDLE),
        (serving("cpu", {**ON_CPU, "device_asked": "none"}), IDLE),
        (serving("cpu", ON_CPU, provenance={"backend": "command line"}), IDLE),  # a build for the CPU
        (serving("cpu", {"model_bytes": 300 << 20}), IDLE),  # a small one, for embeddings
        (serving("cpu", ON_CPU, state=ServerState.LOADING), IDLE),
        (serving("vulkan", LARGE), HELD),
        (serving("vulkan", LARGE, uptime_seconds=5.0), IDLE),
        (serving("vulkan", LARGE, state=ServerState.SLEEPING), IDLE),
        (serving("rocm", LARGE), IDLE),  # what ROCm holds is not all counted
        (serving("vulkan", {"layers_asked": "0", "model_bytes": 300 << 20}), IDLE),
        (
            serving(
                "rocm", {"layers_asked": "0", "layers_offloaded": 0, "layers_total": 29, "model_bytes": 9}
            ),
            IDLE,
        ),
    ],
)
def test_no_cpu_fallback(one: Server, holder: Holder) -> None:
    assert see(Watch(CPU, hold=False), 0, one, holders=(holder,)) == []


@pytest.mark.parametrize(
    ("asked", "done", "patch"),
    [
        ("30", 30, {"ngl": 99, "device": None}),
        (None, 0, {"ngl": 99, "device": None}),  # an old build's default
        ("auto", 30, None),
        ("99", 30, None),
    ],
)
def test_all_layers_are_offered_where_there_may_be_room(asked: str | None, done: int, patch: Any) -> None:
    """What -fit left on the CPU did not fit: -ngl 99 would not load."""
    one = serving("vulkan", {"layers_offloaded": done, "layers_total": 49, "layers_asked": asked})
    (finding,) = see(Watch(CPU, hold=False), 0, one)
    assert finding.patch == patch and ("smaller -c" in finding.fix) == (patch is None)


@pytest.mark.parametrize("one", [serving("vulkan", LARGE), serving("cpu", ON_CPU)])
def test_what_holds_no_memory_that_we_may_see_is_not_judged(one: Server) -> None:
    for holders in ((), (HIDDEN,)):
        watch = Watch(CPU, hold=False)
        assert see(watch, 0, one, holders=holders) == []
        assert watch.engine.state("cpu-fallback", URL) is State.UNDEFINED


def carved(vram: float, total: float, gtt: float | None) -> Any:
    sizes = {"vram_used_bytes": int(vram * GIB), "vram_total_bytes": int(total * GIB)}
    return gpu(gtt=gtt, name="Radeon 8060S", integrated=True, **sizes)


def test_vram_trap() -> None:
    watch, one = Watch(TRAP), serving("rocm", LARGE)
    assert see(watch, 0, one, gpus=[carved(31.5, 32, 0.6)]) == []
    (finding,) = see(watch, 11, one, gpus=[carved(31.5, 32, 0.6)])
    assert finding.evidence == "VRAM 31.5 GiB of 32.0 GiB (98 %), GTT 614 MiB of 120 GiB, model 60.0 GiB"
    assert see(watch, 12, one, gpus=[carved(31.5, 32, 40)]) == []


@pytest.mark.parametrize(
    ("one", "chip"),
    [
        (serving("vulkan", LARGE), carved(31.5, 32, 0.6)),
        (serving("rocm", {"model_bytes": 31 * GIB}), carved(31.5, 32, 0.6)),  # it fits
        (serving("rocm", LARGE), carved(0.49, 0.5, 0.6)),  # nobody's model lies in 512 MB
        (serving("rocm", LARGE), carved(28, 32, 0.6)),
        (serving("rocm", LARGE), carved(31.5, 32, 30)),  # the rest is where it belongs
        (serving("rocm", LARGE, state=ServerState.LOADING), carved(31.5, 32, 0.6)),
    ],
)
def test_no_vram_trap(one: Server, chip: Any) -> None:
    assert see(Watch(TRAP, hold=False), 0, one, gpus=[chip]) == []


@pytest.mark.parametrize(
    ("one", "gpus"),
    [(serving("rocm"), [carved(31.5, 32, 0.6)]), (serving("rocm", LARGE), [carved(31.5, 32, None)])],
)
def test_vram_trap_without_its_data(one: Server, gpus: list[Any]) -> None:
    watch = Watch(TRAP, hold=False)
    assert see(watch, 0, one, gpus=gpus) == [] and watch.engine.state("vram-trap", URL) is State.UNDEFINED
