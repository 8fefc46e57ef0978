"""Events: each row of the table by a line as servers, drivers and the standard library write it."""

from __future__ import annotations

import pytest
from log_reading import block, events

from halotui.collectors.llama_log import LogParser
from halotui.collectors.log_events import ROWS
from halotui.collectors.log_line import cut
from halotui.model import LogFacts, Severity

TOO_LONG = (
    "0.00.002.000 E srv    send_error: task id = 157, error: request (419 tokens) exceeds the available"
    " context size (256 tokens), try increasing it"
)
SHIFT = (
    "0.00.192.061 W slot   operator(): id  3 | task 12 | slot context shift, n_keep = 0, n_left = 255,"
    " n_discard = 127"
)
EXIT = "0.00.015.661 E srv  llama_server: exiting due to model loading error"

LINES = [
    (EXIT, "load-failed", "the model could not be loaded"),
    (
        "0.00.009.660 E srv         start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 8093",
        "port-in-use",
        "it could not take port 8093: something else has it",
    ),
    ("error: invalid argument: --no-such-flag", "bad-flag", "it does not know the flag --no-such-flag"),
    (
        'error while handling argument "--draft-max": the argument has been removed. use --spec-draft-n-max',
        "bad-flag",
        "the flag --draft-max is gone in this build",
    ),
    (
        'error while handling argument "-ctk": Unsupported cache type: q9',
        "bad-flag",
        "the flag -ctk has a value that it does not take",
    ),
    (
        "0.00.051.049 E srv    load_model: failed to initialize speculative decoding context: "
        "draft model vocab type must match target model to use speculation",
        "draft-failed",
        "no speculation: the draft model cannot be used",
    ),
    (
        "0.00.001.000 E srv          init: init: chat template parsing error: Unexpected token",
        "template",
        "the model's chat template cannot be read",
    ),
    (
        "No hipBLASLt solution found",
        "hipblaslt-fallback",
        "hipBLASLt has no solution for a matrix: another library computes it",
    ),
    (
        "rocBLAS warning: hipBlasLT failed, falling back to tensile.",
        "hipblaslt-fallback",
        "hipBLASLt failed: Tensile computes instead",
    ),
    ("rocblaslt error: unsupported architecture", "hipblaslt-fallback", "hipBLASLt does not know this GPU"),
    (
        "HW Exception by GPU node-1 (Agent handle: 0x55d0) reason :GPU Hang",
        "gpu-hang",
        "the GPU hung",
    ),
    (
        "Memory access fault by GPU node-1 (Agent handle: 0x2d) on address 0x7f. Reason: Unknown.",
        "gpu-hang",
        "the GPU met a memory fault",
    ),
    (
        "terminate called after throwing an instance of 'vk::DeviceLostError'",
        "device-lost",
        "the GPU was lost",
    ),
    ("  what():  vk::Queue::submit: ErrorDeviceLost", "device-lost", "the GPU was lost"),
    ("0.09.001.000 E ggml_vulkan: device lost on Vulkan0", "device-lost", "the GPU was lost"),
    (
        "0.00.001.000 E ggml_aligned_malloc: insufficient memory (attempted to allocate 625000.00 MB)",
        "out-of-memory",
        "no memory for 625000 MB",
    ),
    (
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 2048.00 MiB on device 0: "
        "cudaMalloc failed: out of memory",
        "out-of-memory",
        "no memory for 2048 MiB on GPU 0",
    ),
    (
        "what():  vk::Device::allocateMemory: ErrorOutOfDeviceMemory",
        "out-of-memory",
        "the GPU has no memory left",
    ),
    (
        "ggml_vulkan: Device memory allocation of size 4294967296 failed.",
        "out-of-memory",
        "the GPU has no memory for 4294967296 bytes",
    ),
    (
        "alloc_tensor_range: failed to allocate CPU buffer of size 655360000000",
        "out-of-memory",
        "no memory for 655360000000 bytes",
    ),
    (
        "ggml_vulkan: Requested buffer size exceeds device buffer size limit: ErrorOutOfDeviceMemory",
        "out-of-memory",
        "the GPU has no memory left",
    ),
    (
        "Requested buffer size exceeds device memory allocation limit",
        "out-of-memory",
        "a buffer is larger than the GPU allows",
    ),
    ("ROCm error: out of memory", "out-of-memory", "the GPU has no memory left"),
    ("x: hipMalloc returned hipErrorOutOfMemory", "out-of-memory", "the GPU has no memory left"),
    ("ROCm error: unspecified launch failure", "gpu-error", "a call of ROCm failed"),
    ("CUDA error: an illegal memory access was encountered", "gpu-error", "a call of CUDA failed"),
    (
        "/src/llama.cpp/ggml/src/ggml-backend.c:1234: GGML_ASSERT(tensor->data != NULL) failed",
        "abort",
        "llama.cpp aborted at ggml-backend.c line 1234",
    ),
    (
        "/app/ggml/src/ggml-cuda/ggml-cuda.cu:98: ROCm error",
        "abort",
        "llama.cpp aborted at ggml-cuda.cu line 98",
    ),
    (
        "/src/llama.cpp/common/ngram-map.cpp:236: common_ngram_map_draft: map.idx_last_check > cur_len",
        "abort",
        "llama.cpp aborted at ngram-map.cpp line 236",
    ),
    (
        "/src/llama.cpp/ggml/src/ggml.c:1700: ggml_can_repeat(b, a)",
        "abort",
        "llama.cpp aborted at ggml.c line 1700",
    ),
    ("Segmentation fault (core dumped)", "abort", "it crashed: segmentation fault"),
    ("./run.sh: line 4: 812 Segmentation fault", "abort", "it crashed: segmentation fault"),
    (
        "terminate called after throwing an instance of 'std::runtime_error'",
        "abort",
        "an exception ended the server: std::runtime_error",
    ),
    (TOO_LONG, "context-exceeded", "a prompt of 419 tokens does not fit in 256 of context"),
    (
        "send_error: task id = 1, error: the request exceeds the available context size, try increasing it",
        "context-exceeded",
        "a prompt does not fit in the context",
    ),
    (
        "0.00.001.000 E srv        decode: Context size has been exceeded. off = 140, n_batch = 1, ret = 1",
        "kv-full",
        "the KV cache was full: every running request got an error",
    ),
    (
        "0.00.001.000 W srv        decode: failed to find free space in the KV cache, retrying with smaller"
        " batch size, off = 0, n_batch = 512, ret = 1",
        "kv-tight",
        "the KV cache has no room for a whole batch",
    ),
    (SHIFT, "context-shift", "a full context was shifted: 127 tokens dropped, 0 kept"),
    (
        "0.00.102.151 W srv    operator(): unauthorized: Invalid API Key",
        "bad-key",
        "a client came without the right API key",
    ),
    (
        "0.00.001.000 E srv        decode: Compute error. off = 0, n_batch = 1, ret = -3",
        "compute-error",
        "the backend failed to compute",
    ),
    (
        '0.00.001.000 W srv    operator(): got exception: {"error":{"code":400,"message":"secret"}}',
        "request-error",
        "a request was refused with code 400",
    ),
    (
        "0.00.002.000 E srv         start: couldn't bind HTTP server socket",
        "port-in-use",
        "it could not take its port: something else has it",
    ),
    ("error: invalid argument: sk-secret", "bad-flag", "it does not know one of its flags"),
    ("error: invalid argument: --api-key=sk-secret", "bad-flag", "it does not know the flag --api-key"),
    (
        "0.00.001.000 E slot   operator(): id  0 | task 5 | got exception: my secret prompt",
        "request-error",
        "a request ended in an exception",
    ),
    (
        "0.00.001.000 E srv    send_error: task id = 9, error: Invalid slot ID",
        "request-error",
        "a request ended in error",
    ),
    (
        "0.09.001.000 I srv    operator(): instance name=broken exited with status 1",
        "model-failed",
        "the server of broken ended with status 1",
    ),
    ("0.09.009.000 I srv    operator(): operator(): cleaning up before exit...", "stopped", "asked to stop"),
]


@pytest.mark.parametrize(("line", "kind", "text"), LINES, ids=range(len(LINES)))
def test_each_row_by_a_real_line(line: str, kind: str, text: str) -> None:
    (event,) = events(line)
    assert (event.kind, event.text) == (kind, text)
    assert event.severity in Severity
    assert event.detail is None or event.detail in line
    assert "secret" not in f"{event}"


# All that a client can have a server say of it in one line: in its own JSON, in a grammar, in a path.
QUOTES = (
    '0.00.001.000 W srv    operator(): got exception: {{"error":{{"code":400,"message":"read: \'{}\'"}}}}',
    'srv    operator(): got exception: {{"code":500,"message":"messages = {}","type":"server_error"}}',
    "parse: error parsing grammar: expecting preceding item to */+/?/{{ at {}",
    "root ::= {}",
    "srv  log_server_r: request: GET /{} 127.0.0.1 404",
    'srv  log_server_r: request:  {{"prompt": "{}"}}',
    'srv  log_server_r: response: {{"content": "{}"}}',
)


@pytest.mark.parametrize("quote", QUOTES, ids=range(len(QUOTES)))
def test_what_a_client_wrote_is_not_taken_for_the_servers_words(quote: str) -> None:
    parser = LogParser()
    slot = "slot  print_timing: id  0 | task 7 | "
    timing = "prompt eval time = 1.00 ms / 10 tokens ( 1.00 ms per token, 10000.00 tokens per second)"
    words = [
        *(line.partition(" E ")[2] or line for line, kind, _ in LINES if kind != "request-error"),
        f"{slot}{timing}",
        f"{slot}stop processing: n_tokens = 20, truncated = 0",
        "build: 9999 (abcdef0) with evil for evil",
        "load_tensors: Vulkan0 model buffer size = 99999.00 MiB",
        "loading draft model 'my secret'",
        "srv          load: spawning server instance with name=x on port 80",
    ]
    lines = ["slot launch_slot_: id  0 | task 1 | processing task, is_child = 0"]
    batch = parser.feed(block([*lines, *(quote.format(word) for word in words)]), keep=0)
    assert {event.kind for event in batch.events} <= {"request-error"}
    assert not batch.requests and not parser.children and parser.server.running == {0: 1}
    assert parser.server.facts == LogFacts() and "secret" not in f"{batch}"


def test_every_row_has_a_line() -> None:
    played = set()
    for line, kind, _ in LINES:
        text = cut(line.encode()).text
        row = next(row for row in ROWS if row.needle in text and row.pattern.search(text))
        assert row.kind == kind
        played.add(id(row))
    assert [row for row in ROWS if id(row) not in played] == []


@pytest.mark.parametrize(
    ("lines", "reason", "detail"),
    [
        (
            ["llama_model_load: error loading model: unknown model architecture: 'notanarch'"],
            "this build does not know notanarch",
            "unknown model",
        ),
        (
            [
                "E gguf_init_from_file: failed to open GGUF file 'nope.gguf' (No such file or directory)",
                "E llama_model_load_from_file_impl: failed to load model",
            ],
            "the model file is not there",
            "failed to open",
        ),
        (
            ["failed to open GGUF file 'x' (Permission denied)"],
            "the model file may not be read",
            "Permission",
        ),
        (["failed to open GGUF file 'x' (Too many)"], "the model file cannot be opened", "Too many"),
        (
            ["gguf_init_from_reader: invalid magic characters: 'kK??', expected 'GGUF'"],
            "the file is no GGUF model",
            "invalid magic",
        ),
        (
            ["error loading model: tensor 'x' data is not within the file bounds, model is corrupted"],
            "the model file is incomplete",
            "file bounds",
        ),
        (["error loading model: missing tensor 'x'"], "the model file lacks a tensor", "missing"),
        (
            ["gguf_init_from_reader: this GGUF file is version 9 but this only supports up to version 3"],
            "its GGUF version is newer than this build",
            "version 9",
        ),
        (
            ["failed to initialize the context: failed to allocate buffer for kv cache"],
            "no memory for the KV cache",
            "kv cache",
        ),
        (
            ["E srv    load_model: failed to load draft model, 'X'"],
            "the draft model cannot be loaded",
            "draft model",
        ),
        (
            ["E srv    load_model: failed to load multimodal model, 'X'"],
            "the multimodal projector cannot be loaded",
            "multimodal",
        ),
        (
            ["E ggml_aligned_malloc: insufficient memory (attempted to allocate 625000.00 MB)"],
            "no memory for 625000 MB",
            "ggml_aligned",
        ),
        (
            ["x: allocating 2048.50 MiB on device 0: cudaMalloc failed: out of memory"],
            "no GPU memory for 2048 MiB",
            "cudaMalloc",
        ),
        (["ggml_vulkan: Device memory allocation of size 1 failed."], "no GPU memory", "allocation"),
        (["vk::Device::allocateMemory: ErrorOutOfDeviceMemory"], "no GPU memory", "ErrorOut"),
    ],
)
def test_a_load_fails_for_a_reason(lines: list[str], reason: str, detail: str) -> None:
    event = next(e for e in events(*lines, EXIT) if e.kind == "load-failed")
    assert event.text == f"the model could not be loaded: {reason}"
    assert event.detail and detail in event.detail


def test_a_reason_that_has_no_words_of_ours_is_quoted() -> None:
    said = "0.00.003.785 E llama_model_load: error loading model: something new"
    (event,) = events(said, EXIT)
    assert (event.text, event.detail) == ("the model could not be loaded", said.partition(" E ")[2])
    known, *_ = events("failed to open GGUF file 'x' (No such file or directory)", said, EXIT)
    assert known.text == "the model could not be loaded: the model file is not there"


def test_an_event_knows_its_slot_its_task_and_its_time() -> None:
    parser = LogParser(1000.0)
    seen = {
        event.kind: (event.slot, event.task, event.time) for event in events(TOO_LONG, SHIFT, parser=parser)
    }
    assert seen == {
        "context-exceeded": (None, 157, pytest.approx(1000.002)),
        "context-shift": (3, 12, pytest.approx(1000.192061)),
    }


BAD_KEY = "0.{:02}.{:03}.000 W srv    operator(): unauthorized: Invalid API Key"


def test_what_repeats_is_folded_by_the_logs_clock() -> None:
    lines = [BAD_KEY.format(n // 10, n % 10 * 100) for n in range(250)]  # ten a second
    seen = events(*lines)
    assert [e.text.removeprefix("a client came without the right API key") for e in seen] == [
        "",
        " (100 times)",
        " (100 times)",
    ]


def test_without_a_clock_the_first_the_tenth_and_the_hundredth_count() -> None:
    seen = events(*["srv    operator(): unauthorized: Invalid API Key"] * 999)
    assert [e.text.rpartition("(")[2] for e in seen][1:] == ["9 times)", "90 times)"]


def test_debug_lines_may_hold_a_prompt_and_make_no_event() -> None:
    said = "request: Context size has been exceeded, GGML_ASSERT(x) failed"
    assert events(f"0.00.001.000 D srv  log_server_r: {said}") == []
    assert events(f"[46629] 0.00.001.000 D srv  log_server_r: {said}") == []
    assert events('{"type":"log","time":1,"level":"debug","msg":"' + said + '\\n"}') == []


@pytest.mark.parametrize(
    "line",
    [
        "see main.cpp:12: for more",
        "0.00.001.000 I srv  llama_server: (see https://github.com/ggml-org/llama.cpp/pull/25655)",
        "0.09.001.000 I srv    operator(): instance name=tiny exited with status 0",
        "0.00.001.000 E llama_model_load_from_file_impl: failed to load model",  # the end comes later
    ],
)
def test_what_only_looks_like_an_event_is_none(line: str) -> None:
    assert events(line) == []


def test_events_that_nobody_takes_are_bounded() -> None:
    kinds = [line for line, _, _ in LINES]
    parser = LogParser()
    assert len(events(*kinds * 300, parser=parser)) <= 1000
    assert len(parser.server._events._said) <= len({row.kind for row in ROWS})
