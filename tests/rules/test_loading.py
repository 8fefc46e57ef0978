"""Loading: each rule on its case, beside it, without its data, and when it is over."""

from __future__ import annotations

from typing import Any

import pytest

from builders import URL, Watch, gpu, server
from halotui.collectors.llama_log import LogParser
from halotui.model import Finding, Server, ServerEvent, ServerFacts, ServerState, Severity
from halotui.rules import ALL
from halotui.rules.engine import State

GIB = 1 << 30
HALO = gpu(name="Radeon 8060S", integrated=True)
SLOW, VOCABULARY, UNUSED, HIPBLASLT, STACKED = (
    next(rule for rule in ALL if rule.id == id_)
    for id_ in ("slow-load", "draft-vocab", "spec-unused", "hipblaslt-fallback", "stacked-patches")
)
LOADING = ServerState.LOADING


def serving(backend: str | None = "vulkan", /, facts: dict[str, Any] | None = None, **more: Any) -> Server:
    return server(backend=backend, facts=ServerFacts(**(facts or {})), **more)


def see(watch: Watch, time: float, *servers: Server, **box: Any) -> list[Finding]:
    return list(watch.see(time, servers=servers, **{"gpus": [HALO], **box}))


def loading(seconds: float, size: float | None = 64, backend: str = "vulkan", **facts: Any) -> Server:
    facts |= {"model_bytes": int(size * GIB)} if size is not None else {}
    more = {"state": LOADING, "uptime_seconds": seconds, "load_bytes_per_second": 3.0 * 2**20}
    return serving(backend, facts, **more)


def test_a_load_that_takes_far_too_long() -> None:
    watch = Watch(SLOW)
    for time in (30, 300):  # 64 GiB at 220 MiB/s are not done before
        assert see(watch, time, loading(time)) == []
    assert see(watch, 500, loading(500)) == []
    (finding,) = see(watch, 504, loading(504))
    assert finding.severity is Severity.WARNING and "amd_iommu" in finding.fix and finding.patch is None
    assert finding.evidence == "64.0 GiB in 8 min, and not done: at most 130 MiB/s, 3.00 MiB/s read now"
    (finding,) = see(watch, 1260, loading(1260))
    assert finding.severity is Severity.CRITICAL and finding.title == "The model does not get loaded"
    late = {"model_bytes": 64 * GIB, "load_seconds": 1270.0}
    (finding,) = see(watch, 1280, serving("vulkan", late))
    assert finding.severity is Severity.WARNING and finding.evidence == "64.0 GiB in 21 min: 51.6 MiB/s"
    assert see(watch, 1300, serving("vulkan", late | {"load_seconds": 40.0})) == []


@pytest.mark.parametrize(
    "one",
    [
        loading(59),
        loading(300, 60),
        loading(3000, None),
        serving("vulkan", {"model_bytes": 4 * GIB, "load_seconds": 50.0}),  # seconds, whatever the rate
        serving("vulkan", {"load_seconds": 5000.0}),
    ],
)
def test_a_load_that_is_not_slow_as_far_as_is_known(one: Server) -> None:
    assert see(Watch(SLOW, hold=False), 0, one) == []


def test_to_wake_takes_no_longer_than_to_load() -> None:
    """Its process is old; since when it loads is not known."""
    watch = Watch(SLOW, hold=False)
    see(watch, 5000, serving("vulkan", {"model_bytes": 64 * GIB}, uptime_seconds=5000.0))
    assert see(watch, 5001, loading(5001)) == []
    assert see(watch, 9000, loading(900)) != []  # another process


def test_by_mmap_on_rocm() -> None:
    def one(size: float | None = 70, **facts: Any) -> Server:
        read = {"cache_type_k": "f16", "cache_type_v": "f16"}  # its command line
        return serving("rocm", read | ({"model_bytes": int(size * GIB)} if size is not None else {}) | facts)

    (finding,) = see(Watch(SLOW, hold=False), 0, one())
    assert finding.evidence == "70.0 GiB of weights by mmap on ROCm" and finding.patch == {"mmap": False}
    assert finding.severity is Severity.WARNING
    (small,) = see(Watch(SLOW, hold=False), 0, one(40))
    assert small.severity is Severity.INFO
    for near in (
        one(mmap=False),
        one(4),
        one(load_seconds=60.0),  # it does load well
        serving("vulkan", {"model_bytes": 70 * GIB}),
    ):
        assert see(Watch(SLOW, hold=False), 0, near) == []
    assert see(Watch(SLOW, hold=False), 0, one(mmap=True, cache_type_k=None)) != []
    for unread in (one(None), one(cache_type_k=None)):
        blind = Watch(SLOW, hold=False)
        assert see(blind, 0, unread) == [] and blind.engine.state("slow-load", URL) is State.UNDEFINED
    (both,) = see(Watch(SLOW, hold=False), 0, loading(700, 70, "rocm"))
    assert "not done" in both.evidence and both.patch == {"mmap": False}


DRAFTS = {"draft_model": "small.gguf", "spec_type": "draft-simple"}
WHY = {"draft_mismatch": "248,320 and 151,936 tokens"}


def test_draft_vocab_and_not_the_same_twice() -> None:
    watch, refused = Watch(VOCABULARY, UNUSED), serving("vulkan", WHY, speculative=False, **DRAFTS)
    see(watch, 0, refused)
    (finding,) = see(watch, 5, refused)
    assert finding.id == "draft-vocab" and finding.patch == {"draft": None, "spec": None}
    assert finding.evidence == "248,320 and 151,936 tokens; it does not draft"
    with_ngrams = serving(
        "vulkan", WHY, speculative=False, **DRAFTS | {"spec_type": "draft-simple,ngram-mod"}
    )
    (finding,) = see(watch, 5.5, with_ngrams)
    assert finding.patch == {"draft": None, "spec": "ngram-mod"}
    (finding,) = see(watch, 6, serving("vulkan", WHY, speculative=True, **DRAFTS))
    assert finding.evidence.endswith("; it drafts all the same") and "translates" in finding.why
    assert see(watch, 7, serving("vulkan", speculative=True, **DRAFTS)) == []
    assert see(watch, 8, serving("vulkan", speculative=False)) == []  # no draft model at all
    see(watch, 9, serving("vulkan", speculative=False, **DRAFTS))
    (finding,) = see(watch, 13, serving("vulkan", speculative=False, **DRAFTS))
    assert finding.id == "spec-unused"  # why is not known
    assert watch.engine.state("draft-vocab", URL) is State.UNDEFINED


def said(line: str) -> tuple[ServerEvent, ...]:
    return LogParser().feed(f"{line}\n".encode()).events


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rocBLAS warning: hipBlasLT failed, falling back to tensile.", "hipBLASLt failed"),
        ("No hipBLASLt solution found", "no solution"),
        ("rocblaslt error: unsupported architecture", "does not know this GPU"),
        ("Attempting to use hipBLASLt on an unsupported architecture! Overriding", "does not know this GPU"),
    ],
)
def test_hipblaslt_fallback(line: str, words: str) -> None:
    watch, one = Watch(HIPBLASLT), serving("rocm", uptime_seconds=100.0)
    assert see(watch, 1000, one) == []
    (finding,) = see(watch, 1010, serving("rocm", uptime_seconds=110.0, events=said(line)))
    assert words in finding.evidence and finding.evidence.endswith("last 0 s ago")
    (finding,) = see(watch, 5000, serving("rocm", uptime_seconds=4100.0))
    assert finding.evidence.endswith("ago")  # as long as that process lives
    assert see(watch, 5100, serving("rocm", uptime_seconds=50.0)) == []


def test_an_architecture_of_a_model_is_none_of_a_gpu() -> None:
    line = "E unknown model architecture: 'x', unsupported architecture"
    assert all(event.kind != "hipblaslt-fallback" for event in said(line))


ON = {"environment": ("ROCBLAS_USE_HIPBLASLT=1",)}


def test_stacked_patches_where_a_name_tells() -> None:
    watch = Watch(STACKED)
    named = serving("rocm", ON, container="llama-rocm-7-mmq-fastmath")
    see(watch, 0, named)
    (finding,) = see(watch, 4, named)
    assert finding.evidence == "llama-rocm-7-mmq-fastmath, ROCBLAS_USE_HIPBLASLT=1"
    assert see(watch, 5, serving("rocm", {"environment": ()}, container="llama-rocm-7-mmq-fastmath")) == []
    assert see(Watch(STACKED, hold=False), 0, serving("vulkan", ON, container="mmq-fast-math")) == []
    for untold in (serving("rocm", ON), serving("rocm", ON, container="rocm-mmq"), serving("rocm")):
        blind = Watch(STACKED, hold=False)
        assert see(blind, 0, untold) == [] and blind.engine.state("stacked-patches", URL) is State.UNDEFINED
