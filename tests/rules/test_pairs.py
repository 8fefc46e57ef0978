"""Known-bad pairs of running servers: each on its case, beside it, without its data, and when it is over."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from builders import URL, Watch, gpu, server
from halotui.model import Device, Platform, Server, ServerFacts, ServerState, Severity
from halotui.rules import ALL, Rule
from halotui.rules.engine import State
from halotui.rules.launch import PAIRS
from halotui.rules.pairs import RULES, deal_of
from halotui.servers.vocabulary import BY_NAME, parse, patched, values

GIB = 1 << 30
HALO = gpu(name="Radeon 8060S", integrated=True)
BOX = Platform(provenance={"kernel_parameters": "/proc/cmdline"}, kernel_parameters=("iommu=pt",))
KV = {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}
QWEN = {"architecture": "qwen3moe", "experts": 128, **KV}
CARD = (Device(id="Vulkan0", name="NVIDIA GeForce RTX 4090"),)


def serving(backend: str | None = "vulkan", facts: dict[str, Any] | None = None, **more: Any) -> Server:
    return server(backend=backend, facts=ServerFacts(**(facts or {})), **more)


def rocm(*environment: str, **facts: Any) -> Server:
    return serving("rocm", {"environment": environment, **facts})


HYBRID = {"architecture": "qwen35moe"}
DRAFT = {"draft_model": "small.gguf", "spec_type": "draft-simple", "speculative": True}
MAP = {"spec_type": "ngram-map-k", "build": "b8390-abc"}
BIG = {"model_bytes": 70 * GIB}
# id: the fault; beside it; without its data. What is not said of the box is a Strix Halo's.
CASES: dict[str, tuple[Server, tuple[Server, ...], Server]] = {
    "kv-asymmetric": (
        serving(facts=KV | {"cache_type_v": "f16"}),
        (
            serving(facts=KV),
            serving("rocm", KV | {"cache_type_v": "f16", "environment": ("ROCBLAS_USE_HIPBLASLT=1",)}),
            serving(facts=KV | {"cache_type_v": "f16", "devices": CARD}),
            serving(facts=KV | {"cache_type_v": "f16"}, engine="ollama"),
            serving(facts=KV | {"cache_type_v": "f16"}, state=ServerState.DOWN),
        ),
        serving(facts={"cache_type_k": "q8_0"}),
    ),
    "glm-vulkan": (
        serving(model="GLM-4.7-Q4_K_M.gguf", build="b7700-abc"),
        (
            serving(model="GLM-4.7", build="b7667-abc"),
            rocm("ROCBLAS_USE_HIPBLASLT=1"),
            serving(model="GLM-4.6"),
        ),
        serving(None, model="GLM-4.7"),
    ),
    "hybrid-spec": (
        serving(facts=HYBRID, build="b8700-abc", **DRAFT),
        (
            serving(facts=HYBRID, build="b10068-abc", **DRAFT),
            serving(facts=HYBRID, build="b8700-abc"),
            serving(facts={"architecture": "qwen3moe"} | KV, build="b8700-abc", **DRAFT),
            serving(facts=HYBRID, build="b8700-abc", **{**DRAFT, "speculative": False}),
            serving(facts=HYBRID, build="b8700-abc", spec_type="ngram-mod", speculative=True),
        ),
        serving(build="b8700-abc", **DRAFT),
    ),
    "ngram-map-abort": (
        serving(**MAP),
        (serving(**{**MAP, "build": "b8500-abc"}), serving(**{**MAP, "spec_type": "ngram-mod"})),
        serving(spec_type="ngram-map-k", build="b1-abc"),
    ),
    "ngram-cache": (
        serving(spec_type="ngram-cache"),
        (serving(spec_type="ngram-mod"), serving(spec_type="ngram-cache", draft_acceptance_ratio=0.6)),
        serving(),  # no word of speculation
    ),
    "iommu": (
        serving(facts=BIG),
        (
            serving(facts={"model_bytes": 60 * GIB}),
            serving(facts=BIG | {"load_seconds": 60.0}),  # it loads well
            serving(facts={"model_bytes": 64 * GIB}),
            serving("rocm", BIG | {"environment": ("ROCBLAS_USE_HIPBLASLT=1",), "mmap": False}),
        ),
        serving(),
    ),
    "moe-batch": (
        serving(facts=QWEN),
        (
            serving(facts=QWEN | {"batch_tokens": 256}),
            serving(facts=QWEN | {"architecture": "qwen35moe"}),
            serving(facts=QWEN | {"experts": 0}),
            serving(facts=KV | {"experts": 8}, model="Qwen3.5-35B-A3B"),
        ),
        serving(facts=KV, model="Qwen3-30B-A3B"),
    ),
    "blas-off": (
        rocm("HSA_XNACK=1"),
        (rocm("ROCBLAS_USE_HIPBLASLT=1"), serving("vulkan", {"environment": ()})),
        serving("rocm"),
    ),
    "hsa-override": (
        rocm("ROCBLAS_USE_HIPBLASLT=1", "HSA_OVERRIDE_GFX_VERSION=11.0.0"),
        (
            rocm("ROCBLAS_USE_HIPBLASLT=1"),
            serving(facts={"environment": ("HSA_OVERRIDE_GFX_VERSION=11.0.0",)}),
            rocm("ROCBLAS_USE_HIPBLASLT=1", "HSA_OVERRIDE_GFX_VERSION=11.5.1"),  # what it is
        ),
        serving("rocm"),
    ),
    "uma-vulkan": (
        serving(facts={"environment": ("GGML_CUDA_ENABLE_UNIFIED_MEMORY=1",)}),
        (
            serving(facts={"environment": ("RADV_PERFTEST=nogttspill",)}),
            rocm("ROCBLAS_USE_HIPBLASLT=1", "GGML_CUDA_ENABLE_UNIFIED_MEMORY=1"),
        ),
        serving(),
    ),
}


def see(watch: Watch, time: float, one: Server, **box: Any) -> set[str]:
    parts = {"gpus": [HALO], "platform": BOX, **box}
    return {finding.id for finding in watch.see(time, servers=[one], **parts)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_fires_near_miss_missing_data_and_clears(rule: Rule) -> None:
    bad, near, unknown = CASES[rule.id]
    watch = Watch(rule)
    assert see(watch, 0, bad) == set() and watch.engine.state(rule.id, URL) is State.PENDING
    assert see(watch, 5, bad) == {rule.id}
    for well in near:
        assert see(Watch(rule, hold=False), 0, well) == set(), well
    assert see(watch, 6, near[0]) == set() and watch.engine.state(rule.id, URL) is State.RESOLVED
    blind = Watch(rule, hold=False)
    assert see(blind, 0, unknown) == set()
    expected = State.OK if rule.id == "ngram-cache" else State.UNDEFINED
    assert blind.engine.state(rule.id, URL) is expected


def test_every_pair_of_a_running_server_is_a_rule() -> None:
    elsewhere = {"slow-load", "cpu-fallback", "np-slots", "spec-unused"}
    # it would not run; what several slots cost is measured
    never = {"kv-without-flash", "spec-slots"}
    assert {rule.id for rule in RULES} == {pair.id for pair in PAIRS} - elsewhere - never == set(CASES)
    assert {rule.id for rule in ALL} >= elsewhere


def test_on_another_chip_nothing_is_known() -> None:
    bad = CASES["kv-asymmetric"][0]
    for gpus, state in (
        ([gpu(name="AMD GPU 0x744C", integrated=False)], State.OK),
        ([], State.UNDEFINED),
    ):
        watch = Watch(*RULES, hold=False)
        assert see(watch, 0, bad, gpus=gpus) == set()
        assert watch.engine.state("kv-asymmetric", URL) is state
    named = serving(
        facts={
            "cache_type_k": "q8_0",
            "cache_type_v": "f16",
            "devices": (Device(id="Vulkan0", name="GFX1151"),),
        }
    )
    assert see(Watch(*RULES, hold=False), 0, named, gpus=[]) == {"kv-asymmetric"}  # a log alone


RX = Device(id="Vulkan0", name="AMD Radeon RX 7900 XTX (RADV NAVI31)")
APU = Device(id="Vulkan1", name="Radeon 8060S Graphics (RADV GFX1151)")
NAMELESS = Device(id="ROCm0", name="AMD Radeon Graphics")  # as ROCm calls any APU


@pytest.mark.parametrize(
    ("devices", "asked", "cards", "state"),
    [
        ((NAMELESS,), None, 0, State.FIRING),
        ((NAMELESS,), None, 1, State.FIRING),
        ((RX, APU), None, 1, State.FIRING),
        ((RX, APU), "Vulkan1", 1, State.FIRING),
        ((RX, APU), "Vulkan0", 1, State.OK),
        ((RX,), None, 1, State.OK),
        ((), None, 0, State.FIRING),
        ((), None, 1, State.UNDEFINED),  # either of them
    ],
)
def test_beside_a_card(devices: tuple[Device, ...], asked: str | None, cards: int, state: State) -> None:
    facts = KV | {"cache_type_v": "f16", "devices": devices, "device_asked": asked}
    card = gpu("0000:03:00.0", name="Radeon RX 7900 XTX", integrated=False)
    watch = Watch(*RULES, hold=False)
    see(watch, 0, serving(facts=facts), gpus=[HALO, *[card] * cards])
    assert watch.engine.state("kv-asymmetric", URL) is state


def test_what_is_loaded_has_not_hung_and_what_is_set_was_chosen() -> None:
    for one, severity in (
        (serving(facts=BIG), Severity.INFO),
        (serving(facts=BIG, state=ServerState.LOADING), Severity.WARNING),
        (serving(facts=BIG | {"load_seconds": 1300.0}), Severity.WARNING),
        (rocm("ROCBLAS_USE_HIPBLASLT=0"), Severity.INFO),
        (rocm(), Severity.WARNING),
    ):
        (finding,) = Watch(*RULES, hold=False).see(0, servers=[one], gpus=[HALO], platform=BOX)
        assert finding.severity is severity, finding
    assert (
        "is 0"
        in Watch(*RULES, hold=False)
        .see(0, servers=[rocm("ROCBLAS_USE_HIPBLASLT=0")], gpus=[HALO])[0]
        .evidence
    )


def test_the_kernel_line_decides_about_the_iommu() -> None:
    rule = next(rule for rule in RULES if rule.id == "iommu")
    big = CASES["iommu"][0]
    assert (
        see(
            Watch(rule, hold=False),
            0,
            big,
            platform=msgspec.structs.replace(BOX, kernel_parameters=("iommu=off",)),
        )
        == set()
    )
    off = Platform(provenance=BOX.provenance, kernel_parameters=("amd_iommu=off",))
    none = Platform(provenance=BOX.provenance)
    assert see(Watch(rule, hold=False), 0, big, platform=off) == set()
    assert see(Watch(rule, hold=False), 0, big, platform=none) == {"iommu"}
    for unread in (Platform(), None):
        watch = Watch(rule, hold=False)
        assert see(watch, 0, big, platform=unread) == set()
        assert watch.engine.state("iommu", URL) is State.UNDEFINED


def test_a_relaunch_takes_every_patch() -> None:
    """On top of a command line that has all of it already."""
    said = ("-md", "d.gguf", "--spec-type", "draft-simple,ngram-cache", "-ctk", "q8_0", "-b", "512")
    words = parse(said)
    patches = [
        finding.patch
        for bad, _, _ in CASES.values()
        for finding in Watch(*RULES, hold=False).see(0, servers=[bad], gpus=[HALO], platform=BOX)
        if finding.patch
    ]
    assert len(patches) == sum(rule.may_patch for rule in RULES)
    for patch in patches:
        after = values(patched(words, patch))
        for name, value in patch.items():
            assert after.get(name) == value
            assert value is None or BY_NAME[name].read(str(value)) == value


@pytest.mark.parametrize(
    ("facts", "patch"),
    [
        ({"cache_type_k": "q8_0", "cache_type_v": "f16"}, {"ctk": "q8_0", "ctv": "q8_0"}),
        ({"cache_type_k": "f16", "cache_type_v": "q4_0"}, {"ctk": "q4_0", "ctv": "q4_0"}),
        (
            {"cache_type_k": "q8_0", "cache_type_v": "f16", "flash_attention": "off"},
            {"ctk": "q8_0", "ctv": "q8_0", "fa": "on"},
        ),
    ],
)
def test_the_patch_makes_both_caches_alike(facts: dict[str, Any], patch: dict[str, Any]) -> None:
    (finding,) = Watch(*RULES, hold=False).see(0, servers=[serving(facts=facts)], gpus=[HALO])
    assert finding.patch == patch


def test_a_build_that_is_not_known_is_only_worth_knowing() -> None:
    bad, unsure = serving(facts=HYBRID, build="b8700-a", **DRAFT), serving(facts=HYBRID, **DRAFT)
    for one, severity, words in ((bad, Severity.WARNING, "b8700"), (unsure, Severity.INFO, "unknown")):
        (finding,) = Watch(*RULES, hold=False).see(0, servers=[one], gpus=[HALO])
        assert finding.severity is severity and finding.evidence.endswith(words)
        assert finding.patch == {"draft": None, "spec": None}
    both = serving(facts=HYBRID, build="b8700-a", **DRAFT | {"spec_type": "draft-simple, ngram-mod"})
    (finding,) = Watch(*RULES, hold=False).see(0, servers=[both], gpus=[HALO])
    assert finding.patch == {"draft": None, "spec": "ngram-mod"}
    (finding,) = Watch(*RULES, hold=False).see(0, servers=[serving(spec_type="ngram-cache,draft-mtp")])
    assert finding.patch == {"spec": "draft-mtp,ngram-mod"}


def test_a_deal_says_what_is_known_and_nothing_else() -> None:
    facts = ServerFacts(layers_asked="99", mmap=False, environment=("HSA_XNACK=1",), **KV)
    deal = deal_of(server(facts=facts, build="b8672-unknown", model="m", model_path="/x/n.gguf"), BOX)
    assert deal.values == {"ctk": "q8_0", "ctv": "q8_0", "b": 2048, "ngl": 99, "mmap": False}
    assert (deal.build, deal.model, deal.env, deal.kernel) == (
        8672,
        "m n.gguf",
        {"HSA_XNACK": "1"},
        "iommu=pt",
    )
    bare = deal_of(server(build="0.5.0"), None)
    assert (bare.values, bare.env, bare.kernel, bare.build) == ({}, None, "", None)
