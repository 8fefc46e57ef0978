"""Facts of a server's start: from logs that real ones wrote, and from lines of GPUs we have not."""

from __future__ import annotations

import json

import pytest
from log_reading import bytes_of, facts_of, feed, read

from halotui.collectors.llama_log import LogParser
from halotui.collectors.log_facts import REFUSED, TRANSLATED
from halotui.collectors.log_follow import gap
from halotui.model import Buffer, Device, LogFacts

MIB = 1 << 20


TENSORS = "load_tensors: loading model tensors, this can take a while..."
DRAFT = "srv    load_model: loading draft model 'd.gguf'"


def sizes(facts: LogFacts, draft: bool = False) -> dict[tuple[str, str], float]:
    """MiB by device and kind."""
    return {(b.device, b.kind): b.bytes / MIB for b in facts.buffers if b.draft == draft}


def test_facts_of_an_old_start() -> None:
    parser, _ = read("old-draft")
    facts = parser.server.facts
    assert (facts.build, facts.backend, facts.verbosity) == ("b14-unknown", "cpu", None)
    assert (facts.slots_total, facts.slot_context_tokens, facts.kv_unified) == (1, 1024, False)
    assert facts.kv_cache_bytes == 1 << 19  # the draft's context says the same again
    assert (facts.model_loaded, facts.draft_loaded, facts.hides_memory) == (True, True, False)
    assert (facts.context_tokens, facts.kv_cells, facts.kv_layers) == (1024, 1024, 2)
    assert (facts.cache_type_k, facts.cache_type_v, facts.flash_attention) == ("f16", "f16", "on")
    assert (facts.graph_nodes, facts.graph_splits, facts.load_seconds) == (69, 1, None)
    assert parser.server.speculative


def test_facts_of_a_verbose_start_tell_target_and_draft_apart() -> None:
    facts = read("served-b11549-verbose-draft")[0].server.facts
    target = {
        ("CPU_Mapped", "model"): 0.49,
        ("CPU", "output"): 0.0,
        ("CPU", "kv"): 1.0,
        ("CPU", "compute"): 3.14,
    }
    assert sizes(facts) == pytest.approx(target, abs=1e-6)
    assert sizes(facts, draft=True) == pytest.approx(target, abs=1e-6)
    assert facts.kv_cache_bytes == MIB
    assert (facts.batch_tokens, facts.ubatch_tokens, facts.threads) == (2048, 512, 1)
    assert (facts.verbosity, facts.prompt_cache_bytes) == (4, 8192 * MIB)
    assert (facts.spec_type, facts.draft_model) == ("draft-simple", "models/draft-mid.gguf")
    assert facts.load_seconds == pytest.approx(0.024, abs=0.001)
    (cpu,) = facts.devices
    assert (cpu.id, cpu.total_bytes) == ("CPU", 24105 * MIB)


def test_a_quiet_start_leaves_unknown_what_it_does_not_say_and_says_that_it_hides() -> None:
    parser, _ = read("new-draft-unused")
    facts = parser.server.facts
    assert (facts.build, facts.slots_total, facts.slot_context_tokens) == ("b11549-unknown", 1, 1024)
    assert (facts.buffers, facts.backend, facts.context_tokens) == ((), None, None)
    assert (facts.draft_loaded, facts.hides_memory) == (True, True)
    assert parser.server.speculative is None  # -md without --spec-type: loaded, not used, not said


def test_whether_a_load_that_was_not_read_hides_anything_is_not_known() -> None:
    first, _, rest = bytes_of("new-draft-unused").partition(b"loading draft model")
    parser = LogParser()
    parser.feed(first[: first.rindex(b"\n") + 1] + gap(99) + b"\n" + rest[rest.index(b"\n") + 1 :])
    facts = parser.server.facts
    assert (facts.model_loaded, facts.hides_memory, facts.load_seconds) == (True, None, None)


def test_jsonl_tells_memory_at_any_verbosity() -> None:
    facts = read("served-b11549-jsonl-draft")[0].server.facts
    assert sizes(facts) == sizes(facts, draft=True) == {("Host", "kv"): 1, ("Host", "compute"): 3}
    assert (facts.hides_memory, facts.kv_cache_bytes) == (False, MIB)


def row(name: str, kind: str = "device", **sizes: int) -> dict[str, object]:
    return {"kind": kind, "name": name, "model": 0, "context": 0, "compute": 0} | sizes


def breakdown(*rows: dict[str, object]) -> str:
    return json.dumps({"type": "fit_memory_breakdown", "data": {"unit": "MiB", "rows": rows}})


def said(message: str) -> str:
    return json.dumps({"type": "log", "time": 5, "level": "info", "msg": message + "\n"})


JSON_LOAD = said("srv    load_model: loading model 'm.gguf'")
JSON_LOADED = said("srv    load_model: initializing, n_slots = 1, n_ctx_slot = 64, kv_unified = 'false'")


def test_a_breakdown_of_a_gpu_is_a_device_too() -> None:
    gpu = row(
        "Vulkan0", model=20000, context=96, compute=500, total=98304, free=97000, description="Radeon 8060S"
    )
    facts = facts_of(JSON_LOAD, breakdown(gpu, row("Host", "host", model=300)), JSON_LOADED)
    assert facts.devices == (
        Device(id="Vulkan0", name="Radeon 8060S", total_bytes=98304 * MIB, free_bytes=97000 * MIB),
    )
    assert sizes(facts)["Vulkan0", "kv"] == 96
    assert (facts.backend, facts.kv_cache_bytes) == ("vulkan", 96 * MIB)


def test_which_breakdown_is_the_targets_is_known_or_none_is() -> None:
    rows = [breakdown(row("ROCm0", model=n)) for n in (1, 2, 3)]
    draft = said("common_speculative_init_result: loading draft model 'd.gguf'")
    assert sizes(facts_of(JSON_LOAD, *rows, JSON_LOADED)) == {("ROCm0", "model"): 3}  # fitted in three steps
    two = facts_of(JSON_LOAD, *rows[:2], draft, JSON_LOADED)
    assert (sizes(two), sizes(two, draft=True)) == ({("ROCm0", "model"): 1}, {("ROCm0", "model"): 2})
    assert facts_of(JSON_LOAD, *rows, draft, JSON_LOADED).buffers == ()
    assert facts_of(rows[0], JSON_LOADED).buffers == ()  # at exit it is said again


def test_a_draft_that_does_not_fit_turns_speculation_off() -> None:
    parser, (request,) = read("mid-draft-refused")
    assert parser.server.speculative is False
    assert parser.server.facts.draft_failed == (
        "failed to initialize speculative decoding context: "
        "draft model vocab type must match target model to use speculation"
    )
    assert (parser.server.facts.draft_loaded, parser.server.facts.model_loaded) == (False, True)
    assert request.draft_tokens is None


def test_a_draft_that_is_not_there() -> None:
    facts = facts_of(
        "0.00.026.799 I common_speculative_init_result: loading draft model 'nope.gguf'",
        "0.00.027.002 E srv    load_model: failed to load draft model, 'nope.gguf'",
    )
    assert (facts.draft_loaded, facts.draft_failed) == (False, "failed to load draft model, 'nope.gguf'")
    assert facts.draft_model == "nope.gguf"


def test_a_restart_into_the_same_log_starts_afresh() -> None:
    parser, requests = read("new-restart")
    assert [r.draft_tokens for r in requests] == [42, 64, 0, None]
    facts = parser.server.facts
    assert (facts.slots_total, facts.slot_context_tokens, facts.draft_loaded) == (2, 256, None)


def test_sleep_and_wake_are_no_restart() -> None:
    parser, _ = read("new-draft")
    feed(parser, "0.03.134.274 I que    start_loop: entering sleeping state")
    assert parser.server.facts.model_loaded is False
    feed(parser, "0.09.165.353 I que    start_loop: exiting sleeping state")
    feed(parser, "0.09.165.384 I srv    load_model: loading model 'target.gguf'")
    initializing = "initializing, n_slots = 1, n_ctx_slot = 1024, kv_unified = 'false'"
    feed(parser, f"0.09.175.411 I srv    load_model: {initializing}")
    facts = parser.server.facts
    assert (facts.build, facts.model_loaded, parser.server.speculative) == ("b11549-unknown", True, True)


VULKAN = (
    "ggml_vulkan: Found 1 Vulkan devices:",
    "ggml_vulkan: 0 = AMD Radeon Graphics (RADV GFX1151) (radv) | uma: 1 | fp16: 1 | bf16: 0 | warp size: 64",
    "build: 8390 (b10e98a) with GNU 12.2.0 for Linux x86_64",
)
ROCM = (
    "ggml_cuda_init: found 1 ROCm devices (Total VRAM: 98304 MiB):",
    "  Device 0: AMD Radeon Graphics, gfx1151 (0x1151), VMM: no, Wave Size: 32, VRAM: 98304 MiB",
)
LOAD = "srv    load_model: loading model 'm.gguf'"
CPU_WEIGHTS = "load_tensors:   CPU_Mapped model buffer size =   512.00 MiB"
GPU_WEIGHTS = "load_tensors:      Vulkan0 model buffer size = 20000.00 MiB"
READY = "main: model loaded"


@pytest.mark.parametrize(
    ("lines", "backend", "device"),
    [
        (VULKAN, "vulkan", "AMD Radeon Graphics (RADV GFX1151)"),
        (ROCM, "rocm", "AMD Radeon Graphics, gfx1151"),
        (("load_backend: loaded Vulkan backend from libggml-vulkan.so",), "vulkan", None),
        (("load_backend: loaded CPU backend from libggml-cpu.so",), None, None),
        (("ggml_cuda_init: found 1 CUDA devices:",), "cuda", None),
        (  # both compiled in: the one chosen counts
            (*VULKAN, *ROCM, LOAD, "x: using device ROCm0 (Radeon 8060S) (0000:c5:00.0) - 9000 MiB free"),
            "rocm",
            "Radeon 8060S",
        ),
        (
            (LOAD, "x: using device Vulkan0 (AMD Radeon Graphics (RADV GFX1151)) - 9000 MiB free"),
            "vulkan",
            "AMD Radeon Graphics (RADV GFX1151)",
        ),
        (
            ("0.0 I cmn  common_param:   - Vulkan0 : Radeon (RADV GFX1151) (98304 MiB, 97000 MiB free)",),
            "vulkan",
            "Radeon (RADV GFX1151)",
        ),
        ((LOAD, CPU_WEIGHTS, GPU_WEIGHTS, CPU_WEIGHTS), "vulkan", None),  # a few stay on the CPU
        ((*VULKAN[:1], LOAD, CPU_WEIGHTS, "load_tensors: offloaded 5/5 layers to GPU"), "cpu", None),
    ],
)
def test_the_backend_is_judged_by_the_strongest_evidence(
    lines: tuple[str, ...], backend: str | None, device: str | None
) -> None:
    facts = facts_of(*lines)
    assert (facts.backend, facts.device) == (backend, device)


def test_what_is_said_twice_of_a_device_is_put_together() -> None:
    chosen = "x: using device ROCm0 (AMD Radeon Graphics) (0000:c5:00.0) - 9000 MiB free"
    assert facts_of(*ROCM, LOAD, chosen).devices == (
        Device(
            id="ROCm0",
            name="AMD Radeon Graphics, gfx1151",
            total_bytes=98304 * MIB,
            free_bytes=9000 * MIB,
        ),
    )
    assert facts_of(*VULKAN).devices == (Device(id="Vulkan0", name="AMD Radeon Graphics (RADV GFX1151)"),)


@pytest.mark.parametrize("name", ["Vulkan0", "ROCm0"])
def test_buffers_of_a_gpu(name: str) -> None:
    host = f"{name.rstrip('0')}_Host"
    facts = facts_of(
        LOAD,
        "load_tensors: offloading 48 repeating layers to GPU",
        "load_tensors: offloaded 49/49 layers to GPU",
        f"load_tensors: {name:>12} model buffer size = 17362.50 MiB",
        f"load_tensors: {host:>12} model buffer size =   329.75 MiB",
        "llama_context: constructing llama_context",
        "llama_context: n_ctx         = 32768",
        "llama_context: n_ctx_seq     = 8192",
        "llama_context: n_batch       = 2048",
        "llama_context: n_ubatch      = 512",
        "llama_context: flash_attn    = enabled",
        "llama_context: kv_unified    = false",
        f"llama_context: {host:>10}  output buffer size =     2.32 MiB",
        f"llama_kv_cache: {name:>10} KV buffer size =  1632.00 MiB",
        "llama_kv_cache: size = 1632.00 MiB ( 32768 cells,  48 layers,  4/4 seqs),"
        " K (q8_0):  816.00 MiB, V (q8_0):  816.00 MiB",
        f"llama_memory_recurrent: {name:>10} RS buffer size =    75.38 MiB",
        f"sched_reserve: {name:>10} compute buffer size =   400.77 MiB",
        f"sched_reserve: {host:>10} compute buffer size =    72.01 MiB",
        f"sched_reserve: {name:>10} compute buffer size =   304.77 MiB",  # reserved anew
        "sched_reserve: graph nodes  = 2982",
        "sched_reserve: graph splits = 2 (with bs=512), 1 (with bs=1)",
        f"alloc_compute_meta: {name:>10} compute buffer size =   248.10 MiB",  # of the vision encoder
        READY,
    )
    assert sizes(facts) == pytest.approx(
        {
            (name, "model"): 17362.5,
            (host, "model"): 329.75,
            (host, "output"): 2.32,
            (name, "kv"): 1632.0,
            (name, "recurrent"): 75.38,
            (name, "compute"): 304.77,
            (host, "compute"): 72.01,
        },
        abs=1e-5,
    )
    assert (facts.layers_offloaded, facts.layers_total) == (49, 49)
    assert (facts.context_tokens, facts.batch_tokens, facts.ubatch_tokens) == (32768, 2048, 512)
    assert (facts.kv_cells, facts.kv_layers, facts.kv_unified) == (32768, 48, False)
    assert (facts.cache_type_k, facts.cache_type_v, facts.flash_attention) == ("q8_0", "q8_0", "on")
    assert (facts.graph_nodes, facts.graph_splits) == (2982, 2)
    assert facts.backend == {"V": "vulkan", "R": "rocm"}[name[0]]


def test_layers_are_on_no_gpu_when_all_weights_are_on_the_host() -> None:
    facts = facts_of(LOAD, "load_tensors: offloaded 5/5 layers to GPU", CPU_WEIGHTS, READY)
    assert (facts.layers_offloaded, facts.layers_total) == (0, 5)


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("resolve_fused_ops: Flash Attention enabled", "on"),
        ("sched_reserve: Flash Attention was auto, set to disabled", "off"),
        ("llama_context: flash_attn            = auto", "auto"),
        ("llama_context: flash_attn    = 0", "off"),
    ],
)
def test_flash_attention_in_all_its_words(line: str, known: str) -> None:
    assert facts_of(LOAD, line).flash_attention == known


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("srv    load_model: prompt cache is enabled, size limit: 8192 MiB", 8192 * MIB),
        ("srv    load_model: prompt cache is enabled, size limit: no limit", None),
        ("srv    load_model: prompt cache is disabled - use `--cache-ram N` to enable it", 0),
    ],
)
def test_the_prompt_caches_limit(line: str, size: int | None) -> None:
    assert facts_of(LOAD, line).prompt_cache_bytes == size


def test_two_kinds_of_speculation_are_both_told() -> None:
    said = "0.00.053.477 I spec common_specu: adding speculative implementation '{}'"
    facts = facts_of(LOAD, said.format("draft-simple"), said.format("ngram-mod"))
    assert facts.spec_type == "draft-simple,ngram-mod"
    assert facts_of(LOAD, said.format("ngram-mod"), LOAD).spec_type is None


def test_kv_cache_of_all_devices_and_both_caches_but_of_no_dry_run() -> None:
    kv = "llama_kv_cache: {:>10} KV buffer size = {:8.2f} MiB"
    size = "llama_kv_cache: size = 1.00 MiB ({:>6} cells, {:>3} layers, 1/1 seqs), K (f16): 1, V (f16): 1"
    context = "llama_context: constructing llama_context"
    load = [
        context,
        kv.format("Vulkan0", 96.0),
        kv.format("CPU", 4.0),
        size.format(4096, 5),
        kv.format("Vulkan0", 28.0),
        size.format(1024, 25),
    ]
    fitted = "common_fit_params: fitting params to free memory took 0.10 seconds"
    mtp = "common_speculative_init_result: creating MTP draft context against the target model 'm.gguf'"
    facts = facts_of(LOAD, *load, fitted, *load, mtp, *load)
    assert facts.kv_cache_bytes == 128 << 20
    assert (facts.kv_cells, facts.kv_layers) == (4096, 30)  # of a sliding window: the larger one has room
    assert facts.draft_loaded is False  # until the server is ready
    assert Buffer(device="CPU", kind="kv", bytes=4 * MIB, draft=True) in facts.buffers


def test_a_crash_and_restart_of_an_old_build() -> None:
    kv = "llama_kv_cache:    Vulkan0 KV buffer size =   100.00 MiB"
    facts = facts_of(*VULKAN, LOAD, kv, READY, *VULKAN, LOAD, kv, READY)
    assert (facts.kv_cache_bytes, facts.build) == (100 << 20, "b8390-b10e98a")


def test_buffers_and_devices_are_bounded() -> None:
    many = [f"load_tensors: Vulkan{n} model buffer size = 1.00 MiB" for n in range(500)]
    found = [f"x: using device Vulkan{n} (a) - 1 MiB free" for n in range(500)]
    facts = facts_of(LOAD, *many, *found)
    assert (len(facts.buffers), len(facts.devices)) == (64, 16)


@pytest.mark.parametrize(
    ("lines", "key", "value"),
    [
        (["print_info: arch                  = qwen35moe"], "architecture", "qwen35moe"),
        (["srv  log: prompt: print_info: arch  = evil"], "architecture", None),
        ([f"{TENSORS} (mmap = true, direct_io = false)"], "mmap", True),
        ([f"{TENSORS} (mmap = true, direct_io = true)"], "mmap", None),
        ([f"{TENSORS} (mmap = false)"], "mmap", False),
        ([f"{TENSORS} (load_mode = mmap)"], "mmap", True),
        ([f"{TENSORS} (load_mode = none)"], "mmap", False),
        ([f"{TENSORS} (load_mode = mmap)", DRAFT, f"{TENSORS} (load_mode = none)"], "mmap", True),
        (["E spec common_specu: the target and draft vocabs are not compatible"], "draft_mismatch", REFUSED),
        (
            ["the target and draft vocabs are not compatible - tokens will be translated between the two"],
            "draft_mismatch",
            TRANSLATED,
        ),
        (
            [
                "the draft model '/a b.gguf' is not compatible with the target model '/c.gguf'. "
                "tokens will be translated"
            ],
            "draft_mismatch",
            TRANSLATED,
        ),
    ],
)
def test_what_the_rules_of_loading_read(lines: list[str], key: str, value: object) -> None:
    assert getattr(facts_of(*lines), key) == value
