"""Each known-bad pair fires on its case, and not beside it."""

from __future__ import annotations

from typing import Any

import pytest

from halotui.model import Severity
from halotui.rules.launch import PAIRS, Deal, bad_pairs

GIB = 1 << 30


def found(deal: dict[str, Any]) -> set[str]:
    return {pair.id for pair, _ in bad_pairs(Deal(**{"values": {}, **deal}))}


Q4 = {"ctk": "q4_0", "ctv": "q4_0"}
MAP = {"spec": "ngram-map-k"}
DRAFT = {"draft": "small.gguf"}
MOE = {"backend": "vulkan", "architecture": "qwen3moe", "experts": 128}
CASES = [
    # id, where it is, where it is not
    ("kv-asymmetric", {"backend": "vulkan", "values": {"ctk": "q8_0"}}, {"backend": "vulkan", "values": Q4}),
    ("kv-asymmetric", {"backend": "vulkan", "values": {"ctv": "q8_0"}}, {"backend": "rocm", "values": Q4}),
    ("kv-without-flash", {"values": {**Q4, "fa": "off"}}, {"values": {**Q4, "fa": "on"}}),
    ("kv-without-flash", {"values": {**Q4, "fa": "off"}}, {"values": {"ctk": "q4_0", "fa": "off"}}),
    ("kv-without-flash", {"values": {"ctv": "q8_0", "fa": "off"}}, {"values": Q4}),
    ("glm-vulkan", {"backend": "vulkan", "model": "GLM-4.7-Q4"}, {"backend": "rocm", "model": "GLM-4.7-Q4"}),
    (
        "glm-vulkan",
        {"backend": "vulkan", "model": "glm-4.7", "build": 8000},
        {"backend": "vulkan", "model": "glm-4.7", "build": 7600},
    ),
    ("glm-vulkan", {"backend": "vulkan", "model": "glm-4.7", "build": 1}, {"backend": "vulkan"}),
    ("spec-unused", {"values": DRAFT}, {"values": {**DRAFT, "spec": "draft-simple"}}),
    ("spec-unused", {"values": DRAFT, "build": 11549}, {"values": DRAFT, "build": 8672}),
    ("spec-unused", {"values": DRAFT, "build": 1}, {"values": DRAFT, "needs_spec_type": False}),
    ("spec-slots", {"values": {**DRAFT, "np": 4}}, {"values": {**DRAFT, "np": 1}}),
    ("np-slots", {"values": {"np": 1}, "build": 7347}, {"values": {"np": 1}, "build": 7836}),
    ("np-slots", {"values": {"np": 1}, "build": 7079}, {"values": {"np": 1, "kvu": True}, "build": 7347}),
    ("np-slots", {"values": {"np": 1}, "build": 7835}, {"values": {"np": 1, **DRAFT}, "build": 7347}),
    ("np-slots", {"values": {"np": 1}, "build": 7347}, {"values": {"np": 1}, "build": 1}),
    ("moe-batch", MOE, {**MOE, "values": {"b": 256}}),
    ("moe-batch", {**MOE, "values": {"b": 2048}}, {**MOE, "backend": "rocm"}),
    ("moe-batch", MOE, {**MOE, "experts": None}),
    (
        "hybrid-spec",
        {"architecture": "qwen3next", "values": DRAFT},
        {"architecture": "qwen3next", "values": {"spec": "ngram-mod"}},
    ),
    ("hybrid-spec", {"architecture": "qwen35moe", "values": {"spec": "draft-mtp"}}, {"values": DRAFT}),
    ("slow-load", {"backend": "rocm"}, {"backend": "rocm", "values": {"mmap": False}}),
    ("slow-load", {"backend": "rocm"}, {"backend": "cpu"}),
    (
        "iommu",
        {"backend": "vulkan", "weights_bytes": 70 * GIB, "kernel": "quiet iommu=pt"},
        {"backend": "vulkan", "weights_bytes": 70 * GIB, "kernel": "quiet amd_iommu=off"},
    ),
    (
        "iommu",
        {"backend": "vulkan", "weights_bytes": 70 * GIB, "kernel": "quiet"},
        {"backend": "vulkan", "weights_bytes": 70 * GIB},
    ),
    ("blas-off", {"backend": "rocm"}, {"backend": "rocm", "env": {"ROCBLAS_USE_HIPBLASLT": "1"}}),
    ("hsa-override", {"backend": "rocm", "env": {"HSA_OVERRIDE_GFX_VERSION": "11.0.0"}}, {"backend": "rocm"}),
    ("cpu-fallback", {"backend": "vulkan", "values": {"ngl": 0}}, {"backend": "cpu", "values": {"ngl": 0}}),
    (
        "ngram-map-abort",
        {"values": {"spec": "ngram-map-k"}, "build": 8390},
        {"values": {"spec": "ngram-map-k"}},
    ),
    ("ngram-cache", {"values": {"spec": "ngram-cache"}}, {"values": {"spec": "ngram-mod"}}),
    (
        "uma-vulkan",
        {"backend": "vulkan", "env": {"GGML_CUDA_ENABLE_UNIFIED_MEMORY": "1"}},
        {"backend": "rocm", "env": {"GGML_CUDA_ENABLE_UNIFIED_MEMORY": "1"}},
    ),
]


@pytest.mark.parametrize(("id_", "bad", "good"), CASES)
def test_a_pair_fires_on_its_case_alone(id_: str, bad: dict[str, Any], good: dict[str, Any]) -> None:
    assert id_ in found(bad)
    assert id_ not in found(good)


def test_every_pair_has_a_case_and_its_words() -> None:
    assert {pair.id for pair in PAIRS} == {id_ for id_, _, _ in CASES}
    assert len({pair.id for pair in PAIRS}) == len(PAIRS)
    for pair in PAIRS:
        assert len(pair.title) < 60 and not pair.title.endswith(".")
        assert pair.why.endswith(".") and pair.fix.endswith(".")


def test_the_presets_own_settings_are_clean() -> None:
    vulkan = {"fa": "on", "ngl": 99, "mmap": False}
    assert found({"backend": "vulkan", "values": vulkan, "build": 11549}) == set()
    spec = {**vulkan, **DRAFT, "spec": "draft-simple", "draft-max": 8, "np": 1}
    assert found({"backend": "vulkan", "values": spec, "build": 11549}) == set()
    blas = {"ROCBLAS_USE_HIPBLASLT": "1"}
    assert found({"backend": "rocm", "values": vulkan, "build": 11549, "env": blas}) == set()


def test_only_a_refusal_to_start_is_critical() -> None:
    assert [pair.id for pair in PAIRS if pair.severity is Severity.CRITICAL] == ["kv-without-flash"]
