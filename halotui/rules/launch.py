"""Pairs that go badly together on this hardware: judged before a launch, from the command line alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from halotui.actions import Value
from halotui.format import size
from halotui.model import Severity

LEAST_BUILD = 1000  # below it the number is that of a shallow clone, and says nothing
LARGE = 64 << 30  # bytes of weights from which loads get slow or hang
_DRAFT_NEEDS_TYPE = 9000  # builds from about here on load -md and do not use it
_ROLLS_BACK = 9200  # builds from here on restore a recurrent state: PR #19493, merged in April 2026
_HYBRIDS = ("qwen35moe", "qwen36moe", "qwen3next")
_IOMMU_OFF = frozenset(("amd_iommu=off", "iommu=off"))  # words of the kernel's command line
_OWN_VERSION = "11.5.1"  # what gfx1151 is called: to say so changes nothing


class Deal(Struct, frozen=True, kw_only=True):
    """What shall be launched, as far as it is known."""

    values: Mapping[str, Value]  # settings by name
    backend: str | None = None
    build: int | None = None
    needs_spec_type: bool | None = None  # to use a draft model; None: unknown
    model: str = ""  # name and file name
    architecture: str | None = None
    weights_bytes: int | None = None
    experts: int | None = None
    env: Mapping[str, str] | None = {}  # None: not ours to see
    kernel: str | None = None  # /proc/cmdline; "": not known

    def text(self, name: str) -> str:
        """A setting as lower-case text; empty when it is not set."""
        return str(self.values.get(name, "")).lower()

    @property
    def known_build(self) -> int | None:
        return self.build if self.build is not None and self.build >= LEAST_BUILD else None

    @property
    def build_words(self) -> str:
        return f"b{self.known_build}" if self.known_build else "unknown"

    def variable(self, name: str) -> str:
        """Of the environment; empty when it is not set, or not known."""
        return (self.env or {}).get(name, "")

    @property
    def flash_off(self) -> bool:
        return self.text("fa") in ("off", "false", "0")

    @property
    def is_qwen3(self) -> bool:
        """Of the family that was measured, not of those after it."""
        if self.architecture is not None:
            return self.architecture == "qwen3moe"
        return _QWEN3.search(self.model) is not None

    @property
    def drafts(self) -> bool:
        """Whether a draft model is used: one is named, or a type that brings its own."""
        return bool(self.values.get("draft")) or self.text("spec").startswith("draft-")

    @property
    def speculates(self) -> bool:
        return self.drafts or self.text("spec") not in ("", "none")


class Pair(Struct, frozen=True, kw_only=True):
    """One combination. ``check`` is pure and gives the evidence, or None when it is not there."""

    id: str
    check: Callable[[Deal], str | None]
    backend: str | None = None  # only there; None: with any
    title: str
    why: str
    fix: str
    severity: Severity = Severity.WARNING  # critical: the server would not start, or never answer well
    reference: str | None = None


def bad_pairs(deal: Deal) -> Iterator[tuple[Pair, str]]:
    """The pairs that are there, each with its evidence; the most severe first."""
    for pair in PAIRS:
        evidence = judged(pair, deal)
        if evidence:
            yield pair, evidence


def judged(pair: Pair, deal: Deal) -> str | None:
    """The evidence, or None when the pair is not there."""
    return pair.check(deal) if pair.backend in (None, deal.backend) else None


def _kv_asymmetric(deal: Deal) -> str | None:
    k, v = deal.text("ctk") or "f16", deal.text("ctv") or "f16"
    return f"-ctk {k} -ctv {v} on Vulkan" if k != v else None


def _kv_without_flash(deal: Deal) -> str | None:
    v = deal.text("ctv")
    quantised = v not in ("", "f16", "f32", "bf16")
    return f"-ctv {v} -fa {deal.text('fa')}" if quantised and deal.flash_off else None


def _glm_vulkan(deal: Deal) -> str | None:
    glm = "glm" in deal.model.lower() and "4.7" in deal.model
    build = deal.known_build
    if not glm or (build is not None and build <= 7667):
        return None
    return f"{deal.model} on Vulkan, build {deal.build_words}"


def _spec_unused(deal: Deal) -> str | None:
    needed, build = deal.needs_spec_type, deal.known_build
    if needed is None and build is not None:
        needed = build >= _DRAFT_NEEDS_TYPE
    if not deal.values.get("draft") or deal.text("spec") not in ("", "none") or needed is False:
        return None
    return f"-md {deal.values['draft']} without --spec-type"


def _spec_slots(deal: Deal) -> str | None:
    slots = deal.values.get("np")
    if not deal.drafts or not isinstance(slots, int) or slots < 3:
        return None
    return f"a draft model with -np {slots}"


def _np_slots(deal: Deal) -> str | None:
    build = deal.known_build
    affected = build is not None and 7079 <= build <= 7835
    if not affected or deal.values.get("np") != 1 or deal.values.get("kvu") is True or deal.speculates:
        return None
    return f"-np 1 without -kvu on b{build}"


def _moe_batch(deal: Deal) -> str | None:
    batch = deal.values.get("b")
    if not deal.is_qwen3 or not deal.experts or batch == 256:
        return None
    return f"Qwen3 MoE on Vulkan with -b {batch or 2048}"


def _hybrid_spec(deal: Deal) -> str | None:
    hybrid, build = (deal.architecture or "").startswith(_HYBRIDS), deal.known_build
    if not hybrid or not deal.drafts or (build is not None and build >= _ROLLS_BACK):
        return None
    return f"{deal.architecture} with {deal.text('spec') or 'a draft model'}, build {deal.build_words}"


def _slow_load(deal: Deal) -> str | None:
    if deal.values.get("mmap") is False:
        return None
    weights = deal.weights_bytes
    return f"{f'{size(weights)} of ' if weights else ''}weights by mmap on ROCm"


def _iommu(deal: Deal) -> str | None:
    words = (deal.kernel or "").split()
    large = (deal.weights_bytes or 0) > LARGE
    if not large or not words or not _IOMMU_OFF.isdisjoint(words):
        return None
    return f"{size(deal.weights_bytes or 0)} of weights on Vulkan, no amd_iommu=off"


def _blas_off(deal: Deal) -> str | None:
    value = deal.variable("ROCBLAS_USE_HIPBLASLT")
    return f"ROCBLAS_USE_HIPBLASLT is {value or 'not set'}" if value != "1" else None


def _hsa_override(deal: Deal) -> str | None:
    # its value is a version: nothing that could not be shown
    version = deal.variable("HSA_OVERRIDE_GFX_VERSION")
    return f"HSA_OVERRIDE_GFX_VERSION={version}" if version not in ("", _OWN_VERSION) else None


def _unified_memory(deal: Deal) -> str | None:
    on = deal.variable("GGML_CUDA_ENABLE_UNIFIED_MEMORY")
    return f"GGML_CUDA_ENABLE_UNIFIED_MEMORY={on}" if on else None


def _ngram_map(deal: Deal) -> str | None:
    build = deal.known_build
    named = "ngram-map-k" in deal.text("spec")
    return f"--spec-type {deal.text('spec')} on b{build}" if named and build and build <= 8390 else None


def _ngram_cache(deal: Deal) -> str | None:
    return "--spec-type ngram-cache" if "ngram-cache" in deal.text("spec") else None


def _cpu_layers(deal: Deal) -> str | None:
    layers = deal.values.get("ngl")
    none = layers == 0 or deal.text("device") == "none"
    if deal.backend not in ("vulkan", "rocm") or not none:
        return None
    return f"{'-ngl 0' if layers == 0 else '-dev none'} with a {deal.backend} build"


_QWEN3 = re.compile(r"qwen3(?![\d.])(?!.?next)", re.I)
_ISSUE = "https://github.com/ggml-org/llama.cpp/issues/"

PAIRS = (
    Pair(
        id="kv-without-flash",
        check=_kv_without_flash,
        severity=Severity.CRITICAL,
        title="A quantised V cache needs flash attention",
        why="llama.cpp refuses to start: V cache quantization requires flash_attn.",
        fix="Set fa=on, or ctv=f16.",
    ),
    Pair(
        id="glm-vulkan",
        check=_glm_vulkan,
        backend="vulkan",
        title="GLM-4.7 repeats garbage on Vulkan",
        why="Known on long prompts after b7667.",
        fix="Take a ROCm profile for this model.",
        reference=_ISSUE + "18835",
    ),
    Pair(
        id="hybrid-spec",
        check=_hybrid_spec,
        title="Drafts corrupt the state of a hybrid model",
        why="A rejected draft cannot be taken back from its recurrent layers. Builds from about b9200 on "
        "restore them (PR #19493; #20075 was an earlier patch).",
        fix="Take a build of May 2026 or later, or go without speculation.",
        reference="https://github.com/ggml-org/llama.cpp/pull/19493",
    ),
    Pair(
        id="ngram-map-abort",
        check=_ngram_map,
        title="This build aborts when a prompt gets shorter",
        why="ngram-map-k of b8390 dies on a second chat that is shorter than the first.",
        fix="Set spec=ngram-simple or ngram-mod, or take a newer build.",
        reference=_ISSUE + "21815",
    ),
    Pair(
        id="np-slots",
        check=_np_slots,
        title="This build starts 4 slots for -np 1",
        why="It cannot tell an explicit 1 from its default, and makes a unified cache for 4 slots.",
        fix="Set kvu=true: then it has 1 slot.",
        reference=_ISSUE + "17989",
    ),
    Pair(
        id="spec-unused",
        check=_spec_unused,
        title="The draft model would not be used",
        why="Newer builds load it, hold its memory, and do not draft, without a warning.",
        fix="Set spec=draft-simple.",
        reference=_ISSUE + "25345",
    ),
    Pair(
        id="kv-asymmetric",
        check=_kv_asymmetric,
        backend="vulkan",
        title="K and V caches differ on Vulkan",
        why="Three times slower, or time-outs, at 32K of context.",
        fix="Set ctk and ctv to the same type.",
    ),
    Pair(
        id="iommu",
        check=_iommu,
        backend="vulkan",
        title="Large models hang on Vulkan with the IOMMU on",
        why="Loads of more than 64 GB take over 20 minutes, or never end.",
        fix="Boot with amd_iommu=off (128 GB boxes); the NPU is gone then.",
        reference=_ISSUE + "14854",
    ),
    Pair(
        id="slow-load",
        check=_slow_load,
        backend="rocm",
        title="ROCm loads slowly by mmap",
        why="Pages come in one by one; past 64 GB it takes very long.",
        fix="Set mmap=false.",
        reference=_ISSUE + "15018",
    ),
    Pair(
        id="cpu-fallback",
        check=_cpu_layers,
        title="A GPU build, and no layer on the GPU",
        why="All of it is computed by the CPU, at about half the speed.",
        fix="Set ngl=99 and take device away.",
    ),
    Pair(
        id="moe-batch",
        check=_moe_batch,
        backend="vulkan",
        title="Qwen3 MoE wants a small batch on Vulkan",
        why="Prefill was 70 t/s where -b 256 gave 118.",
        fix="Set b=256 (on Vulkan only: it slows ROCm).",
    ),
    Pair(
        id="blas-off",
        check=_blas_off,
        backend="rocm",
        title="hipBLASLt is off",
        why="Prefill was 344 t/s where it gave 986.",
        fix="Set ROCBLAS_USE_HIPBLASLT=1 in its environment.",
    ),
    Pair(
        id="spec-slots",
        check=_spec_slots,
        severity=Severity.INFO,
        title="A draft model rarely pays with many slots",
        why="The batch is full without drafts when several requests run at once.",
        fix="Set np=1, or go without speculation.",
    ),
    Pair(
        id="ngram-cache",
        check=_ngram_cache,
        title="ngram-cache hardly ever hits",
        why="None of its drafts was accepted on the builds that were tried.",
        fix="Set spec=ngram-mod or ngram-simple.",
        reference=_ISSUE + "27852",
    ),
    Pair(
        id="hsa-override",
        check=_hsa_override,
        backend="rocm",
        severity=Severity.INFO,
        title="The GPU is run as another one",
        why="It can be 2 to 6 times faster in rocBLAS, and brings MES errors over time.",
        fix="Take it out of the environment if the GPU hangs.",
    ),
    Pair(
        id="uma-vulkan",
        check=_unified_memory,
        backend="vulkan",
        severity=Severity.INFO,
        title="A ROCm variable has no use on Vulkan",
        why="It is left over from another backend.",
        fix="Take it out of its environment.",
    ),
)
