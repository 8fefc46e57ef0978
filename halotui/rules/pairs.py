"""The known-bad pairs of ``launch``, of servers that run: judged by what is known of them, not by what is
left unsaid. ``slow-load`` and ``cpu-fallback`` can be seen as well: they are in ``loading``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePath

import msgspec
from msgspec import Struct

from halotui.actions import Value
from halotui.collectors.gpu_identity import STRIX_HALO
from halotui.model import Patch, Platform, Server, ServerFacts, ServerState, Severity
from halotui.rules import Proof, Rule, Symptom, Undefined, View
from halotui.rules.apu import apus
from halotui.rules.launch import LARGE, PAIRS, Deal, judged

FAST = 200e6  # bytes a second: who loads so fast has none of the troubles of loading
BATCH = 2048  # tokens, of all builds, unless they are told otherwise
LLAMA = "llama.cpp"
_NAMELESS = re.compile(r"AMD Radeon(?:\(TM\))? Graphics", re.IGNORECASE)  # of any APU, as ROCm calls it
_BUILD = re.compile(r"b?(\d{1,9})(?:-|\Z)", re.A)
# What a deal calls it -> where a running server's facts have it.
_VALUES = {
    "ctk": "cache_type_k",
    "ctv": "cache_type_v",
    "fa": "flash_attention",
    "b": "batch_tokens",
    "ngl": "layers_asked",
    "device": "device_asked",
    "mmap": "mmap",
}


def deal_of(server: Server, platform: Platform | None) -> Deal:
    """What was launched, as far as it is known: what is not is missing. Pure."""
    facts = server.facts
    values: dict[str, Value] = {}
    if facts is not None:
        told = ((name, getattr(facts, key)) for name, key in _VALUES.items())
        values = {name: value for name, value in told if value is not None}
        if "ctk" in values:  # its command line, or its log, could be read
            values.setdefault("b", BATCH)
        if (layers := values.get("ngl")) is not None and str(layers).isdecimal():
            values["ngl"] = int(layers)
    if server.draft_model and server.speculative is not False:
        values["draft"] = server.draft_model
    if server.spec_type and server.speculative is not False:
        values["spec"] = server.spec_type
    build = _BUILD.match(server.build or "")
    environment = facts.environment if facts is not None else None
    parameters = platform.kernel_parameters if platform is not None else ()
    read = platform is not None and "kernel_parameters" in platform.provenance
    names = (server.model, PurePath(server.model_path or "").name)
    return Deal(
        values=values,
        backend=server.backend,
        build=int(build[1]) if build else None,
        model=" ".join(dict.fromkeys(filter(None, names)))[:200],
        architecture=facts.architecture if facts is not None else None,
        weights_bytes=facts.model_bytes if facts is not None else None,
        experts=facts.experts if facts is not None else None,
        env=None if environment is None else dict(pair.split("=", 1) for pair in environment if "=" in pair),
        kernel=(" ".join(parameters) or "none") if read or parameters else "",
    )


def on_this_chip(view: View, server: Server) -> bool | None:
    """Whether it computes on the chip that this knowledge is of; None: what it computes on is not known."""
    names = _devices(server.facts) if server.facts is not None else []
    if any(map(STRIX_HALO.search, names)):
        return True
    nameless = any(map(_NAMELESS.fullmatch, names))
    if names and not nameless:
        return False
    gpus, chips = view.frame.gpus, apus(view)
    if not gpus or (0 < len(chips) < len(gpus) and not nameless):
        return None  # of several, nobody knows which
    return bool(chips)


def _devices(facts: ServerFacts) -> list[str]:
    """Names of those that it uses: which it was told to, else all that it found."""
    asked = (facts.device_asked or "").split(",")
    there = [device for device in facts.devices if device.name and device.id != "CPU"]
    chosen = [device for device in there if device.id in asked]
    return [device.name or "" for device in chosen or there]


def without_drafts(server: Server) -> Patch:
    """What goes by n-grams may stay."""
    kinds = [kind.strip() for kind in (server.spec_type or "").split(",")]
    return {"draft": None, "spec": ",".join(kind for kind in kinds if kind.startswith("ngram-")) or None}


def load_speed(server: Server) -> float | None:
    """Bytes a second, of a load that is over."""
    facts = server.facts
    if facts is None or not facts.model_bytes or not facts.load_seconds:
        return None
    return facts.model_bytes / facts.load_seconds


def known(view: View) -> Iterator[tuple[Server, ServerFacts]]:
    """The servers of llama.cpp of which something is known."""
    for server in view.running:
        if server.engine == LLAMA and server.facts is not None:
            yield server, server.facts


class _Live(Struct, frozen=True, kw_only=True):
    """What a pair needs beside its words to be a rule. ``concerns``: a quick look, taken each second.
    ``unknown``: what decides it is not told, though it could be there. ``well``: what was measured speaks
    against it."""

    id: str
    concerns: Callable[[Server, ServerFacts], bool]
    evidence: str
    unknown: Callable[[Deal], bool]
    well: Callable[[Server], bool] = lambda _: False
    patch: Callable[[Server, Deal], Patch | None] | None = None
    unsure: Callable[[Server, Deal], bool] = lambda *_: False  # then it is only worth knowing
    needs: tuple[str, ...] = ("server.facts",)
    marks: tuple[str, ...] = ()


def _check(live: _Live, view: View) -> Iterator[Symptom | Undefined]:
    pair = _PAIRS[live.id]
    for server, facts in known(view):
        if (pair.backend and server.backend not in (pair.backend, None)) or not live.concerns(server, facts):
            continue
        deal = deal_of(server, view.frame.platform)
        here: bool | None = True
        if pair.backend is not None:
            here = on_this_chip(view, server) if deal.backend else None
            if here is False:
                continue
            if deal.backend is None:
                deal = msgspec.structs.replace(deal, backend=pair.backend)
                if live.unknown(deal):
                    continue  # neither backend nor anything else speaks for it
        evidence = judged(pair, deal)
        if live.unknown(deal) or (evidence and here is None):
            yield Undefined(server.url)
        elif evidence and not live.well(server):
            unsure = live.unsure(server, deal)
            yield Symptom(
                subject=server.url,
                title=pair.title,
                evidence=evidence,
                severity=Severity.INFO if unsure else None,
                patch=live.patch(server, deal) if live.patch is not None else None,
            )


def _same_types(_: Server, deal: Deal) -> Patch:
    """The smaller of the two for both: memory is what the user was after."""
    k, v = deal.text("ctk") or "f16", deal.text("ctv") or "f16"
    plain = ("f16", "bf16", "f32")
    kind = v if k in plain and v not in plain else k
    patch: Patch = {"ctk": kind, "ctv": kind}
    return patch | {"fa": "on"} if deal.flash_off and kind not in plain else patch


def _other_ngram(bad: str, _: Server, deal: Deal) -> Patch:
    kinds = [kind for kind in deal.text("spec").split(",") if not kind.strip().startswith(bad)]
    return {"spec": ",".join([*kinds, "ngram-mod"])}


def _loads_well(server: Server) -> bool:
    speed = load_speed(server)
    return speed is not None and speed >= FAST


def _is_loaded(server: Server, _: Deal) -> bool:
    """How long it took is not known, but it did not hang."""
    return server.state is not ServerState.LOADING and load_speed(server) is None


def _may_set(facts: ServerFacts, start: str) -> bool:
    return facts.environment is None or any(pair.startswith(start) for pair in facts.environment)


_LIVE = (
    _Live(
        id="glm-vulkan",
        concerns=lambda server, _: "4.7" in f"{server.model} {server.model_path}",
        evidence="{model} on Vulkan, build {build}",
        unknown=lambda deal: False,
        needs=("server.backend", "server.model", "server.build"),
    ),
    _Live(
        id="hybrid-spec",
        concerns=lambda server, _: server.draft_model is not None or "draft-" in (server.spec_type or ""),
        evidence="{architecture} with {speculation}, build {build}",
        unknown=lambda deal: deal.drafts and deal.architecture is None,
        unsure=lambda _, deal: deal.known_build is None,
        patch=lambda server, _: without_drafts(server),
        needs=("server.facts", "server.spec_type", "server.draft_model", "server.build"),
    ),
    _Live(
        id="ngram-map-abort",
        concerns=lambda server, _: "ngram-map-k" in (server.spec_type or ""),
        evidence="--spec-type {types} on b{build}",
        unknown=lambda deal: "ngram-map-k" in deal.text("spec") and deal.known_build is None,
        patch=partial(_other_ngram, "ngram-map-k"),
        needs=("server.spec_type", "server.build"),
    ),
    _Live(
        id="ngram-cache",
        concerns=lambda server, _: "ngram-cache" in (server.spec_type or ""),
        evidence="--spec-type {types}",
        unknown=lambda deal: False,
        well=lambda server: (server.draft_acceptance_ratio or 0.0) >= 0.2,
        patch=partial(_other_ngram, "ngram-cache"),
        needs=("server.spec_type", "server.draft_acceptance_ratio"),
        marks=("server.draft_acceptance_ratio",),
    ),
    _Live(
        id="kv-asymmetric",
        concerns=lambda _, facts: facts.cache_type_k is None or facts.cache_type_k != facts.cache_type_v,
        evidence="-ctk {type} -ctv {type} on Vulkan",
        unknown=lambda deal: "ctk" not in deal.values or "ctv" not in deal.values,
        patch=_same_types,
        needs=("server.backend", "server.facts"),
        marks=("facts.cache_type_k", "facts.cache_type_v"),
    ),
    _Live(
        id="iommu",
        concerns=lambda _, facts: facts.model_bytes is None or facts.model_bytes > LARGE,
        evidence="{size} of weights on Vulkan, no amd_iommu=off",
        unknown=lambda deal: deal.weights_bytes is None or (deal.weights_bytes > LARGE and not deal.kernel),
        well=_loads_well,
        unsure=_is_loaded,
        needs=("server.backend", "server.facts", "server.state", "platform.kernel_parameters"),
        marks=("facts.model_bytes", "platform.kernel_parameters"),
    ),
    _Live(
        id="moe-batch",
        concerns=lambda _, facts: facts.batch_tokens != 256 and facts.architecture in (None, "qwen3moe"),
        evidence="Qwen3 MoE on Vulkan with -b {tokens}",
        unknown=lambda deal: deal.is_qwen3 and ("b" not in deal.values or deal.experts is None),
        patch=lambda *_: {"b": 256},
        needs=("server.backend", "server.facts", "server.model"),
        marks=("facts.batch_tokens",),
    ),
    _Live(
        id="blas-off",
        concerns=lambda _, facts: "ROCBLAS_USE_HIPBLASLT=1" not in (facts.environment or ()),
        evidence="ROCBLAS_USE_HIPBLASLT is {value}",
        unknown=lambda deal: deal.env is None,
        unsure=lambda _, deal: deal.variable("ROCBLAS_USE_HIPBLASLT") != "",  # somebody turned it off
        needs=("server.backend", "server.facts"),
        marks=("facts.environment",),
    ),
    _Live(
        id="hsa-override",
        concerns=lambda _, facts: _may_set(facts, "HSA_OVERRIDE_GFX_VERSION="),
        evidence="HSA_OVERRIDE_GFX_VERSION={version}",
        unknown=lambda deal: deal.env is None,
        needs=("server.backend", "server.facts"),
        marks=("facts.environment",),
    ),
    _Live(
        id="uma-vulkan",
        concerns=lambda _, facts: _may_set(facts, "GGML_CUDA_ENABLE_UNIFIED_MEMORY="),
        evidence="GGML_CUDA_ENABLE_UNIFIED_MEMORY={value}",
        unknown=lambda deal: deal.env is None,
        needs=("server.backend", "server.facts"),
        marks=("facts.environment",),
    ),
)
_PAIRS = {pair.id: pair for pair in PAIRS}

RULES = tuple(
    Rule(
        id=live.id,
        check=partial(_check, live),
        severity=_PAIRS[live.id].severity,
        title=_PAIRS[live.id].title,
        hold_seconds=3,
        window="since the server started",
        clears="the server is started again without it",
        evidence=live.evidence,
        needs=live.needs,
        marks=live.marks,
        proof=Proof.FRAMES,
        may_patch=live.patch is not None,
        why=_PAIRS[live.id].why,
        fix=_PAIRS[live.id].fix,
        reference=_PAIRS[live.id].reference,
    )
    for live in _LIVE
)
