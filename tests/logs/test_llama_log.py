"""The log parser, on logs that real servers wrote (tests/fixtures/logs) and on lines of GPUs we have not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halotui.collectors.llama_log import MOST_CHILDREN, MOST_SLOTS, LogParser, Progress
from halotui.collectors.log_follow import gap
from halotui.model import LogFacts, Request

LOGS = Path(__file__).parents[1] / "fixtures" / "logs"


def lines_of(name: str) -> list[bytes]:
    return (LOGS / f"{name}.log").read_bytes().splitlines()


def feed(parser: LogParser, *lines: str | bytes) -> list[Request]:
    raw = (line.encode() if isinstance(line, str) else line for line in lines)
    return [entry.request for line in raw if (entry := parser.feed(line)).request]


def read(name: str) -> tuple[LogParser, list[Request]]:
    parser = LogParser()
    return parser, feed(parser, *lines_of(name))


def facts_of(*lines: str) -> LogFacts:
    parser = LogParser()
    feed(parser, *lines)
    return parser.server.facts


# Requests


@pytest.mark.parametrize(
    ("name", "drafts"),
    [
        ("old-draft", [(30, 25), (45, 32), (0, 0)]),
        ("mid-draft", [(42, 33), (64, 41), (0, 0)]),
        ("new-draft", [(42, 33), (64, 41), (0, 0)]),
        ("new-verbose-draft", [(132, 1), (183, 0), (0, 0)]),
        ("new-draft-unused", [(None, None)] * 3),
        ("new-color", [(None, None)] * 3),
        ("new-jsonl", [(None, None)] * 3),
        ("new-bare", [(None, None)] * 3),
    ],
)
def test_three_requests_of_each_era_and_format(
    name: str, drafts: list[tuple[int | None, int | None]]
) -> None:
    _, requests = read(name)
    assert [r.prompt_tokens for r in requests] == [26, 11, 12]  # the last two reuse the cache
    assert [r.generation_tokens for r in requests] == [48, 64, 1]
    assert [r.context_tokens for r in requests] == [73, 89, 28]
    assert [(r.draft_tokens, r.draft_accepted_tokens) for r in requests] == drafts
    assert {(r.source, r.slot, r.truncated) for r in requests} == {("log", 0, False)}


def test_rates_are_the_servers_own() -> None:
    first, _, last = read("new-draft")[1]
    assert (first.prompt_tokens_per_second, first.generation_tokens_per_second) == (10152.28, 2207.30)
    assert last.prompt_tokens_per_second == 7812.5
    assert last.generation_tokens_per_second is None  # one token, which came with the prompt: not 0 t/s


def test_an_old_build_does_not_make_a_million_of_one_token() -> None:
    assert read("old-draft")[1][-1].generation_tokens_per_second is None


@pytest.mark.parametrize("name", ["old-two-slots", "new-two-slots"])
def test_slots_at_the_same_time_are_kept_apart(name: str) -> None:
    parser, requests = read(name)
    assert [(r.slot, r.generation_tokens) for r in requests][:2] in (
        [(0, 200), (1, 200)],
        [(1, 200), (0, 200)],
        [(1, 300), (0, 300)],
    )
    last_started, truncated = requests[2:]  # the short one overtakes
    assert (last_started.slot, last_started.generation_tokens, last_started.truncated) == (0, 8, False)
    assert (truncated.slot, truncated.generation_tokens, truncated.truncated) == (1, 1010, True)
    assert last_started.task is not None and truncated.task is not None
    assert last_started.task > truncated.task
    assert parser.server.facts.slots_total == 2


SLOT = "slot print_timing: id  0 | task {} | "
EVAL = "eval time =     100.00 ms /    10 tokens (   10.00 ms per token,   100.00 tokens per second)"
RELEASE = "slot      release: id  0 | task 7 | stop processing: n_tokens = 20, truncated = 0"


def test_a_launch_ends_a_request_whose_release_was_not_seen() -> None:
    launch = "slot launch_slot_: id  0 | task 8 | processing task, is_child = 0"
    (request,) = feed(LogParser(), SLOT.format(7) + "prompt " + EVAL, SLOT.format(7) + EVAL, launch)
    assert (request.task, request.generation_tokens, request.context_tokens) == (7, 10, None)


def test_a_cancelled_request_is_none() -> None:
    assert feed(LogParser(), "slot launch_slot_: id  0 | task 7 | processing task", RELEASE) == []


def test_the_end_of_a_request_is_enough() -> None:
    (request,) = feed(LogParser(), SLOT.format(7) + "      " + EVAL, RELEASE)
    assert (request.prompt_tokens, request.generation_tokens, request.context_tokens) == (None, 10, 20)


def test_nan_and_inf_are_no_rates() -> None:
    timing = "eval time = 0.00 ms / 5 tokens ( -nan ms per token, inf tokens per second)"
    (request,) = feed(LogParser(), SLOT.format(7) + timing, RELEASE)
    assert (request.generation_tokens, request.generation_tokens_per_second) == (5, None)


def test_a_block_survives_a_line_of_another_thread_but_not_a_gap() -> None:
    block = [
        SLOT.format(7),
        "prompt " + EVAL,
        "srv  log_server_r: done request: GET /slots",
        "       " + EVAL,
    ]
    (request,) = feed(LogParser(), *block, RELEASE)
    assert (request.prompt_tokens, request.generation_tokens) == (10, 10)
    assert feed(LogParser(), *block[:2], gap(99), *block[3:], RELEASE) == []


def test_the_sums_at_exit_are_no_request() -> None:
    perf = "llama_perf_context_print:        " + EVAL
    (request,) = feed(LogParser(), SLOT.format(7), "prompt " + EVAL, perf, RELEASE)
    assert request.generation_tokens is None


def test_a_journal_prefix_does_no_harm() -> None:
    lines = [b"Nov 01 10:00:00 box llama-server[12]: " + line for line in lines_of("new-draft")]
    assert feed(LogParser(), *lines) == read("new-draft")[1]


# Prompts under way


def test_prompt_progress_until_it_generates() -> None:
    parser, seen = LogParser(), []
    for line in lines_of("new-long-prompt"):
        parser.feed(line)
        seen.append(parser.server.prompts)
    shown = [p[0] for p in seen if p]
    assert shown[0] == Progress(slot=0, task=1, tokens=3072, ratio=0.30)  # said after 3 s
    assert shown[-1] == Progress(slot=0, task=1, tokens=9216, ratio=0.91)
    assert seen[-1] == ()


def test_prompt_progress_of_old_builds_ends_when_it_is_done() -> None:
    parser, seen = LogParser(), []
    for line in lines_of("old-progress"):
        parser.feed(line)
        seen.append(tuple((p.tokens, round(p.ratio, 2)) for p in parser.server.prompts))
        if b"processing done" in line:
            assert seen[-1] == ()
    assert list(dict.fromkeys(seen))[:3] == [(), ((256, 0.15),), ((512, 0.29),)]


# Facts


def test_facts_of_an_old_start() -> None:
    parser, _ = read("old-draft")
    assert parser.server.facts == LogFacts(
        build="b14-unknown",
        backend="cpu",
        slots_total=1,
        slot_context_tokens=1024,
        kv_unified=False,
        kv_cache_bytes=1 << 19,  # the draft's context says the same again
        model_loaded=True,
        draft_loaded=True,
    )
    assert parser.server.speculative


def test_facts_of_a_verbose_start_count_the_target_alone() -> None:
    facts = read("new-verbose-draft")[0].server.facts
    assert facts.kv_cache_bytes == 1 << 19  # and not the draft's 0.25 MiB
    assert (facts.build, facts.backend) == ("b11549-unknown", "cpu")


def test_a_quiet_start_leaves_unknown_what_it_does_not_say() -> None:
    parser, _ = read("new-draft-unused")
    assert parser.server.facts == LogFacts(
        build="b11549-unknown",
        slots_total=1,
        slot_context_tokens=1024,
        kv_unified=False,
        model_loaded=True,
        draft_loaded=True,
    )
    assert parser.server.speculative is None  # -md without --spec-type: loaded, not used, not said


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


def test_a_restart_into_the_same_log_starts_afresh() -> None:
    parser, requests = read("new-restart")
    assert [r.draft_tokens for r in requests] == [42, 64, 0, None]
    assert parser.server.facts == LogFacts(
        build="b11549-unknown", slots_total=2, slot_context_tokens=256, kv_unified=False, model_loaded=True
    )


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
        (  # a few weights always stay on the CPU
            (LOAD, CPU_WEIGHTS, "load_tensors:      Vulkan0 model buffer size = 20000.00 MiB", CPU_WEIGHTS),
            "vulkan",
            None,
        ),
        ((*VULKAN[:1], LOAD, CPU_WEIGHTS, "load_tensors: offloaded 5/5 layers to GPU"), "cpu", None),
    ],
)
def test_the_backend_is_judged_by_the_strongest_evidence(
    lines: tuple[str, ...], backend: str | None, device: str | None
) -> None:
    facts = facts_of(*lines)
    assert (facts.backend, facts.device) == (backend, device)


def test_kv_cache_of_all_devices_and_both_caches_but_of_no_dry_run() -> None:
    kv = "llama_kv_cache: {:>10} KV buffer size = {:8.2f} MiB"
    context = "llama_context: constructing llama_context"
    load = [context, kv.format("Vulkan0", 96.0), kv.format("CPU", 4.0), kv.format("Vulkan0", 28.0)]
    fitted = "common_fit_params: fitting params to free memory took 0.10 seconds"
    mtp = "common_speculative_init_result: creating MTP draft context against the target model 'm.gguf'"
    facts = facts_of(LOAD, *load, fitted, *load, mtp, *load)
    assert facts.kv_cache_bytes == 128 << 20
    assert facts.draft_loaded is False  # until the server is ready


def test_a_crash_and_restart_of_an_old_build() -> None:
    kv = "llama_kv_cache:    Vulkan0 KV buffer size =   100.00 MiB"
    ready = "main: model loaded"
    facts = facts_of(*VULKAN, LOAD, kv, ready, *VULKAN, LOAD, kv, ready)
    assert (facts.kv_cache_bytes, facts.build) == (100 << 20, "b8390-b10e98a")


# Lines


@pytest.mark.parametrize(
    ("raw", "level"),
    [
        (b"0.00.001.000 I srv  x: failed to be dull", "info"),
        (b"0.00.001.000 W srv  x: y", "warning"),
        (b"0.00.001.000 E srv  x: y", "error"),
        (b"0.00.001.000 D srv  x: an error", "debug"),
        (b"[46629] 0.00.001.000 W srv  x: y", "warning"),
        (b"W srv  x: y", "warning"),
        (b"error: invalid argument: --no-such-flag", "error"),
        (b"main: exiting due to model loading error", "error"),
        (b"the target and draft vocabs are not compatible - tokens will be translated", "warning"),
        (b"srv  update_slots: all slots are idle", "info"),
        (b'{"type":"log","time":1,"level":"error","msg":"x\\n"}', "error"),
        (b'{"type":"fit_memory_breakdown","data":{}}', "info"),
        (gap(5), "warning"),
    ],
)
def test_level(raw: bytes, level: str) -> None:
    assert LogParser().feed(raw).line.level == level


def test_colours_are_taken_off_and_escapes_never_pass() -> None:
    parser = LogParser()
    plain = [parser.feed(line).line for line in lines_of("new-color")]
    assert {"warning", "info"} == {line.level for line in plain}
    assert all("\x1b" not in line.text and "[0m" not in line.text for line in plain)
    assert parser.feed(b"\x1b]0;gotcha\x07\x1b[2J0.00.001.000 E srv x").line.text == "0.00.001.000 E srv x"


def test_a_json_line_shows_its_message() -> None:
    message = {"type": "log", "time": 1, "level": "warn", "msg": "srv  x: two\nlines \x1b[31mred\n"}
    line = LogParser().feed(json.dumps(message).encode()).line
    assert (line.text, line.level) == ("srv  x: two lines red", "warning")


def test_a_router_and_its_children_are_told_apart() -> None:
    parser = LogParser()
    child = [b"[46629] " + line for line in lines_of("new-draft")]
    other = [b"[60235] " + line for line in lines_of("new-two-slots")]
    router = b"0.00.092.381 I srv  proxy_reques: proxying request to model tiny on port 46629"
    mixed = [line for pair in zip(child, other, strict=False) for line in (*pair, router)]
    ended = [(e.child, e.request.task) for line in mixed if (e := parser.feed(line)).request]
    assert [task for port, task in ended if port == 46629] == [r.task for r in read("new-draft")[1]]
    assert parser.children[60235].facts.slots_total == 2
    assert parser.server.facts == LogFacts()
    assert parser.feed(router).child is None


# Hostile input

FRAGMENTS = [
    b"\x1b[31m",
    b"[46629] ",
    b"0.00.001.000 I ",
    b'{"type":"log","msg":"',
    b"slot print_timing: id  0 | task 1 | ",
    b"slot      release: id  9 | task -1 | ",
    b"prompt eval time = ",
    b"eval time = 1.0 ms / 99999999999999999999 tokens (, inf tokens per second)",
    b"1e999",
    b"draft acceptance = x (1 accepted / 2 generated",
    b"stop processing: n_tokens = ",
    b"progress = 9999999.9",
    b"n_slots = 99999999999999",
    b"load_model: loading model",
    b"KV buffer size = 99999999999999.9 MiB",
    b"VULKAN0 model buffer size = 1 MiB",
    b"using device ",
    b"\xff\x00\r\n",
    "٣".encode(),
]
junk = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=12)), max_size=10).map(b"".join)


@given(st.lists(junk, max_size=20))
def test_no_bytes_make_it_raise(lines: list[bytes]) -> None:
    parser = LogParser()
    for line in lines:
        text = parser.feed(line).line.text
        assert text.isprintable() and len(text) <= 2000


def test_deep_json_does_not_make_it_raise() -> None:
    assert LogParser().feed(b'{"msg":' + b"[" * 60_000).request is None


def test_the_state_is_bounded() -> None:
    parser = LogParser()
    for n in range(4000):
        parser.feed(b"slot launch_slot_: id %d | task %d | processing task" % (n, n))
        parser.feed(b"[%d] slot launch_slot_: id 1 | task 1 | processing task" % n)
    assert len(parser.server._tasks) == MOST_SLOTS
    assert len(parser.children) == MOST_CHILDREN
