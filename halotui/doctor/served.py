"""The rules about a server that have a line, and what each reads when it finds nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath

from halotui.doctor.ruled import Served
from halotui.format import size
from halotui.model import Server, ServerFacts

_GPU = ("vulkan", "rocm")


def _slots(server: Server, _: ServerFacts) -> str | None:
    if server.slots_total is None:
        return None
    asked = "-np not set" if server.slots_asked is None else f"-np {server.slots_asked}"
    return f"{server.slots_total} ({asked})"


def _caches(_: Server, facts: ServerFacts) -> str | None:
    if not (facts.cache_type_k and facts.cache_type_v):
        return None
    return f"-ctk {facts.cache_type_k} -ctv {facts.cache_type_v}"


def _glm(server: Server, _: ServerFacts) -> str | None:
    return f"{server.model} on {server.backend}" if server.model and server.backend in _GPU else None


def _batch(server: Server, facts: ServerFacts) -> str | None:
    if server.backend not in _GPU or facts.batch_tokens is None:
        return None
    experts = f", {facts.experts} experts" if facts.experts else ""
    return f"-b {facts.batch_tokens}{experts}"


def _mmap(server: Server, facts: ServerFacts) -> str | None:
    if server.backend not in _GPU:
        return None
    told = {True: "mapped", False: "not mapped", None: ""}[facts.mmap]
    took = f"loaded in {facts.load_seconds:.0f} s" if facts.load_seconds is not None else ""
    return ", ".join(filter(None, (told, took))) or None


def _variable(name: str) -> Callable[[Server, ServerFacts], str | None]:
    def tell(server: Server, facts: ServerFacts) -> str | None:
        if server.backend != "rocm" or facts.environment is None:
            return None
        return next((word for word in facts.environment if word.startswith(f"{name}=")), f"no {name}")

    return tell


def _offloaded(server: Server, facts: ServerFacts) -> str | None:
    if server.backend not in _GPU:
        return None
    if facts.layers_total:
        return f"{facts.layers_offloaded} of {facts.layers_total} layers on {server.backend}"
    return f"-ngl {facts.layers_asked} on {server.backend}" if facts.layers_asked else None


def _splits(server: Server, facts: ServerFacts) -> str | None:
    if server.backend != "rocm" or facts.graph_splits is None:
        return None
    return f"{facts.graph_splits} graph splits"


def _pairing(server: Server, _: ServerFacts) -> str | None:
    if not server.draft_model:
        return None
    return f"{PurePath(server.draft_model).name} drafts for {server.model or 'a model'}"


def _speculation(server: Server, _: ServerFacts) -> str | None:
    if server.draft_model is None and server.spec_type is None:
        return None
    on = {True: "on", False: "off", None: "not known"}[server.speculative]
    return f"{on}{f', {server.spec_type}' if server.spec_type else ''}"


def _iommu(server: Server, facts: ServerFacts) -> str | None:
    if server.backend != "vulkan" or facts.model_bytes is None:
        return None
    return f"{size(facts.model_bytes)} of weights on Vulkan"


_ENVIRONMENT = (
    "The environment of its process is its user's to see: run halotui as that one. Or its GPU is not known."
)
_OPENED = "/slots, its command line"

ROWS = (
    Served(
        id="cpu-fallback",
        title="Layers",
        tell=_offloaded,
        keys=("layers_offloaded", "layers_asked"),
        read="its log and command line",
        backends=_GPU,
        missing="Newer builds tell of their layers at -lv 4 and above.",
    ),
    Served(id="np-slots", title="Slots (-np)", tell=_slots, keys=("slots_total",), read="/props"),
    Served(
        id="draft-vocab",
        title="Draft pairing",
        tell=_pairing,
        read="vocabularies in the GGUF headers",
        must=True,
        missing="The two GGUF files must be readable, to compare their vocabularies.",
    ),
    Served(id="spec-unused", title="Speculation", tell=_speculation, keys=("speculative",), read=_OPENED),
    Served(id="hybrid-spec", title="Hybrid and drafts", read="the GGUF header"),
    Served(id="glm-vulkan", title="Model, backend", tell=_glm, keys=("backend",), read="its log"),
    Served(
        id="kv-asymmetric",
        title="KV cache types",
        tell=_caches,
        keys=("cache_type_k", "cache_type_v"),
        read="its command line",
        missing="Fine, unless it runs on Vulkan, which is not known: its log tells.",
    ),
    Served(id="moe-batch", title="Batch (-b)", tell=_batch, keys=("batch_tokens",), read="its command line"),
    Served(id="slow-load", title="mmap, loading", tell=_mmap, keys=("mmap",), read="its command line"),
    Served(
        id="iommu",
        title="IOMMU",
        tell=_iommu,
        read="/proc/cmdline, the GGUF header",
        backends=("vulkan",),
        boot=("amd_iommu=off",),
        missing="The size of its weights or the kernel's command line is not known.",
        asking=("cat /proc/cmdline",),
    ),
    Served(
        id="blas-off",
        title="hipBLASLt",
        tell=_variable("ROCBLAS_USE_HIPBLASLT"),
        keys=("environment",),
        read="/proc/PID/environ",
        backends=("rocm",),
        missing=_ENVIRONMENT,
    ),
    Served(
        id="hsa-override",
        title="HSA override",
        tell=_variable("HSA_OVERRIDE_GFX_VERSION"),
        keys=("environment",),
        read="/proc/PID/environ",
    ),
    Served(id="graph-splits", title="Graph splits", tell=_splits, keys=("graph_splits",), read="its log"),
    Served(id="vram-trap", title="ROCm's memory", read="/sys/class/drm/card*/device/mem_info_*"),
    Served(id="stacked-patches", title="Stacked patches", read="its log and environment"),
    Served(id="hipblaslt-fallback", title="hipBLASLt kernels", read="its log"),
)
