"""No prompt and no key in a recording, whatever the server writes into its log."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tapes import everything_in, write

from builders import frame, server
from halotui.collectors.llama_log import LogParser
from halotui.collectors.log_facts import REFUSED, TRANSLATED
from halotui.collectors.log_follow import gap
from halotui.feed import LiveFeed
from halotui.hosts.local import LocalHost
from halotui.model import (
    Buffer,
    Device,
    End,
    Frame,
    LogLine,
    ModelState,
    Request,
    ServedModel,
    Server,
    ServerEvent,
    ServerFacts,
    Severity,
)
from halotui.recording.redact import LEFT_OUT, known, redacted
from halotui.sampler.core import Options, Sampler

LOGS = Path(__file__).parents[1] / "fixtures" / "logs"
AT_DEFAULT_VERBOSITY = (
    "mid-draft-refused",
    "mid-draft",
    "new-bare",
    "new-color",
    "new-draft-unused",
    "new-draft",
    "new-long-prompt",
    "new-restart",
    "new-two-slots",
)
SECRET = "zebra-4711-crossing"
KEY = "sk-halotui-4242-secret"


def lines_of(name: str) -> list[LogLine]:
    return list(LogParser().feed((LOGS / f"{name}.log").read_bytes(), keep=10_000).lines)


def kept_of(*lines: LogLine) -> list[tuple[str, str]]:
    (server_,) = redacted(frame(servers=[server(log=lines)])).servers
    return [(line.text, line.level) for line in server_.log]


@pytest.mark.parametrize("name", AT_DEFAULT_VERBOSITY)
def test_what_a_server_says_of_itself_is_kept(name: str) -> None:
    assert [line.text for line in lines_of(name) if not known(line.text)] == []


@pytest.mark.parametrize("name", ["old-draft", "old-progress", "old-two-slots", "new-verbose-draft"])
def test_of_a_talkative_one_all_but_the_chat_template(name: str) -> None:
    left = [line.text for line in lines_of(name) if not known(line.text)]
    assert len(left) <= 0.15 * len(lines_of(name)), left
    assert any("You are a helpful assistant" in text for text in left)


TROUBLE = """
ggml_vulkan: Device memory allocation of size 4294967296 failed.
ggml_vulkan: vk::Device::waitForFences: ErrorDeviceLost
vk::Queue::submit: ErrorDeviceLost
terminate called after throwing an instance of 'vk::DeviceLostError'
  what():  vk::Queue::submit: ErrorDeviceLost
HW Exception by GPU node-1 (Agent handle: 0x55d0c8a0) reason :GPU Hang
Memory access fault by GPU node-1 (Agent handle: 0x5581) on address 0x7f00. Reason: Page not present or supervisor privilege.
ROCm error: out of memory
radv/amdgpu: The CS has been cancelled because the context is lost. This context is innocent.
0.12.345.678 E srv    send_error: task id = 157, error: request (419 tokens) exceeds the available context size (256 tokens), try increasing it
0.12.345.678 W srv          stop: cancel task, id_task = 0
0.12.345.678 E llama_model_load: error loading model: llama_model_loader: failed to load model from /models/a.gguf
0.12.345.678 E srv    load_model: failed to load model, '/models/My Models/a b.gguf'
E ggml_aligned_malloc: insufficient memory (attempted to allocate 625000.00 MB)
[46629] 0.12.345.678 I srv  update_slots: all slots are idle
Nov 21 12:00:00 halo llama-server[812]: 0.12.345.678 I srv  update_slots: all slots are idle
"""  # noqa: E501


@pytest.mark.parametrize("text", TROUBLE.strip("\n").split("\n"))
def test_known_trouble_is_kept(text: str) -> None:
    assert known(text)


def test_skipped_lines_are_kept() -> None:
    assert known(gap(123).decode())


@pytest.mark.parametrize(
    "text",
    [
        f"slot print_timing: id  0 | task 7 | {SECRET}",
        f"0.00.000.001 I slot launch_slot_: id  0 | task 7 | processing task, is_child = 0 {SECRET}",
        f"{SECRET} slot launch_slot_: id  0 | task 7 | processing task, is_child = 0",
        f'0.00.000.001 E srv  operator(): got exception: {{"prompt": "{SECRET}"}}',
        f"0.00.000.001 W common_chat: failed to parse: {SECRET}",
        f"0.00.000.001 I srv  log_server_r: done request: POST /completion?prompt={SECRET} 127.0.0.1 200",
        f"srv  log_server_r: done request: GET /{SECRET} 127.0.0.1 404",
        f"ROCm error: {SECRET}",
        f"0.00.000.001 E srv load_model: failed to load model, '{SECRET} and more'",
        "0.00.004.996 I srv  init_listene: api_keys: ****4711",
        "error: could not parse Bearer sk-1234567890",
        "<|im_start|>user",
        "The old oak stood in the field.",
        f"Device 1: meet me at {SECRET} tonight",
        f"  Device 0: {SECRET}",
    ],
)
def test_what_may_be_free_text_is_left_out(text: str) -> None:
    assert kept_of(LogLine(text=text, level="error")) == [(LEFT_OUT, "error")]


@pytest.mark.parametrize(
    "text",
    [
        "  Device 0: AMD Radeon Graphics, gfx1151 (0x1151), VMM: no, Wave Size: 32",
        "Device 0: AMD, gfx1151 (0x1151), VMM: no, Wave Size: 32, VRAM: 98304 MiB (98012 MiB free)",
        "Device 0: NVIDIA GeForce RTX 3090, compute capability 8.6, VMM: yes",
    ],
)
def test_devices_are_kept(text: str) -> None:
    assert known(text)


@pytest.mark.parametrize(
    "begin",
    [
        "n_threads = 1 (n_threads_batch = 1) / 1 | ",
        "build: 1 (x) with ",
        "| - a | 1 = 1 + (",
        "created context checkpoint ",
        "sampler chain: ",
        "",
    ],
)
@pytest.mark.parametrize("filler", [" ", "1 ", "a ", "for ", "calls", "(a) ", "temp-ext -> "])
@pytest.mark.parametrize("length", [580, 2000])
def test_no_line_is_slow_to_judge(begin: str, filler: str, length: int) -> None:
    """It holds the interpreter meanwhile: a prompt in a log must not freeze the screen."""
    text = (begin + filler * length)[:length] + "§"
    began = time.thread_time()
    assert not known(text)
    assert time.thread_time() - began < 0.1  # 5 ms; with runs of spaces left to the pattern, seconds


@pytest.mark.parametrize(
    ("build", "kept"),
    [
        *(
            (build, build)
            for build in ("b9870-0badc0de", "b0-unknown", "b9870-vulkan", "b1234-12ab34cd-dirty")
        ),
        ("b1sk-halotui-4242-secret", None),
        ("b1-sk_halotui_4242", None),
        (None, None),
    ],
)
def test_a_build_is_a_build(build: str | None, kept: str | None) -> None:
    """It may come from the log, where a prompt can stand."""
    (server_,) = redacted(frame(servers=[server(build=build)])).servers
    assert server_.build == kept


PROSE = f"meet me at {SECRET} tonight"
KEPT_FACTS = ServerFacts(
    devices=(
        Device(id="Vulkan0", name="AMD Radeon Graphics (RADV GFX1151)", total_bytes=1),
        Device(id="ROCm0", name="Radeon 8060S Graphics"),
        Device(id="CPU", name="AMD RYZEN AI MAX+ 395 w/ Radeon 8060S"),
        Device(id="RPC0", name="127.0.0.1:50052"),
    ),
    buffers=(
        Buffer(device="Vulkan0", kind="model", bytes=5),
        Buffer(device="CPU_Mapped", kind="kv", bytes=5),
        Buffer(device="RPC0[127.0.0.1:50052]", kind="compute", bytes=5),
        Buffer(device="RAM", kind="process", bytes=5),
    ),
    cache_type_k="q8_0",
    cache_type_v="iq4_nl",
    flash_attention="on",
    rpc_peers=("10.0.0.2:50052", "halo.lan:50052", "10.0.0.3", "[::1]:50052"),
    model_type="Q4_K - Medium",
    architecture="qwen3moe",
    mmap=False,
    layers_asked="99",
    device_asked="Vulkan0,CPU",
    environment=("HSA_OVERRIDE_GFX_VERSION=11.0.0", "ROCBLAS_USE_HIPBLASLT=1"),
    draft_mismatch="248,320 and 151,936 tokens",
)


def kept_server(**facts: Any) -> Server:
    (server_,) = redacted(frame(servers=[server(**facts)])).servers
    return server_


def test_facts_are_kept() -> None:
    assert kept_server(facts=KEPT_FACTS).facts == KEPT_FACTS


def test_facts_that_a_prompt_made_up_are_not() -> None:
    """A line of a prompt may read as one of the server's own."""
    hostile = ServerFacts(
        devices=(Device(id="Vulkan0", name=PROSE), Device(id=PROSE), Device(id=SECRET, name="AMD")),
        buffers=(
            Buffer(device=PROSE, kind="model", bytes=5),
            Buffer(device=SECRET, kind="model", bytes=5),
            Buffer(device="CPU", kind=PROSE, bytes=5),
        ),
        cache_type_k=SECRET,
        cache_type_v=PROSE,
        flash_attention=SECRET,
        rpc_peers=(PROSE, f"10.0.0.2:{SECRET}"),
        model_type=PROSE * 3,
        architecture=SECRET,
        layers_asked=SECRET,
        device_asked=f"Vulkan0,{SECRET}",
        environment=(f"RADV_PERFTEST={PROSE}", f"HF_TOKEN={SECRET}"),
        draft_mismatch=PROSE,
        context_tokens=4096,
    )
    kept = kept_server(facts=hostile).facts
    assert kept == ServerFacts(devices=(Device(id="Vulkan0"),), context_tokens=4096, environment=())


@pytest.mark.parametrize(
    "why",
    [
        REFUSED,
        TRANSLATED,
        "SPM and BPE tokenizers",
        "only one of them adds a first token",
        "the last token is 2 and 151,645".replace(",", ""),
        "token 1,024 is another text",
    ],
)
def test_why_a_draft_model_does_not_fit_is_kept(why: str) -> None:
    facts = ServerFacts(draft_mismatch=why)
    assert kept_server(facts=facts).facts == facts


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (
            "a prompt of 419 tokens does not fit in 256 of context (3 times)",
            "srv    send_error: task id = 1, error: request (419 tokens) exceeds the available context size "
            "(256 tokens), try increasing it",
        ),
        (
            "the model could not be loaded: this build does not know notanarch",
            "E llama_model_load: error loading model: unknown model architecture: 'notanarch'",
        ),
        (
            "llama.cpp aborted at ggml-vulkan.cpp line 236",
            "/src/ggml-vulkan.cpp:236: GGML_ASSERT(a==b) failed",
        ),
        ("2 servers share this port, pids 12, 345: a request reaches one of them", None),
    ],
)
def test_an_event_in_our_words_is_kept(text: str, detail: str | None) -> None:
    event = ServerEvent(kind="abort", severity=Severity.CRITICAL, text=text, detail=detail, time=5.0, slot=1)
    assert kept_server(events=(event,)).events == (event,)


def test_every_event_of_a_real_log_is_kept_in_words() -> None:
    seen = 0
    for path in sorted(LOGS.glob("*.log")):
        for event in LogParser().feed(path.read_bytes()).events:
            (kept,) = kept_server(events=(event,)).events
            seen += 1
            assert kept.text == event.text and kept.kind == event.kind
    assert seen > 3


def test_an_event_of_other_words_keeps_its_kind() -> None:
    event = ServerEvent(
        kind="abort", severity=Severity.CRITICAL, text=f"aborted: {PROSE}", detail=PROSE, time=5.0, slot=1
    )
    (kept,) = kept_server(events=(event,)).events
    assert kept == ServerEvent(
        kind="abort", severity=Severity.CRITICAL, text=LEFT_OUT, time=5.0, slot=1, detail=None
    )


def test_why_a_request_failed_is_told_in_our_words_alone() -> None:
    ours = Request(source="log", end=End.ERROR, reason="419 tokens of prompt do not fit in 256 of context")
    theirs = Request(source="log", end=End.ERROR, reason=PROSE, generation_tokens=7)
    kept = kept_server(requests=(ours, theirs)).requests
    assert kept[0] == ours
    assert kept[1].reason == "…" and kept[1].generation_tokens == 7


def test_models_keep_a_name_and_no_more() -> None:
    fine = ServedModel(
        id="unsloth/Qwen3-30B-A3B:Q4_K_M",
        state=ModelState.FAILED,
        address="http://127.0.0.1:5801",
        reason="failed, exit code 1: see the router's log",
    )
    odd = ServedModel(
        id=PROSE,
        state=ModelState.LOADED,
        address=f"http://u:{SECRET}@h",
        url=f"http://h?model={SECRET}",
        reason=PROSE,
    )
    kept = kept_server(models=(fine, odd)).models
    assert kept[0] == fine
    assert kept[1] == ServedModel(id="…", state=ModelState.LOADED, reason="…")


@pytest.mark.parametrize(
    "type_",
    ["all F32", "Q4_K - Medium", "MXFP4 MoE", "IQ2_XXS - 2.0625 bpw", "Q4_1, some F16", "BF16", "Q8_0"],
)
def test_types_of_models_are_kept(type_: str) -> None:
    facts = ServerFacts(model_type=type_)
    assert kept_server(facts=facts).facts == facts


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("draft_model", "/models/My Models/a b.gguf", True),
        ("draft_model", "org/name-GGUF:Q8_0", True),
        ("draft_model", PROSE, False),
        ("spec_type", "draft-simple,ngram-mod", True),
        ("spec_type", f"ngram-mod,{SECRET}", False),
        ("build", "0.40.12", True),
        ("build", "9.3.3", True),
        ("build", f"9.{SECRET}", False),
    ],
)
def test_words_of_a_server_have_their_shape(key: str, value: str, kept: bool) -> None:
    assert getattr(kept_server(**{key: value}), key) == (value if kept else None)


def test_a_line_that_is_left_out_keeps_its_time() -> None:
    (line,) = kept_server(log=(LogLine(text=PROSE, level="warning", time=1795276800.0),)).log
    assert line == LogLine(text=LEFT_OUT, level="warning", time=1795276800.0)


TEXTS = st.text(max_size=40).map(lambda text: f"{text} {PROSE}"[:200])


@given(st.lists(TEXTS, min_size=9, max_size=9))
def test_no_field_lets_prose_through(texts: list[str]) -> None:
    hostile = server(
        draft_model=texts[0],
        spec_type=texts[1],
        build=texts[2],
        facts=ServerFacts(
            devices=(Device(id="CPU", name=texts[3]), Device(id=texts[4])),
            cache_type_k=texts[5],
            model_type=texts[6],
        ),
        models=(ServedModel(id=texts[7], state=ModelState.LOADED, reason=texts[8]),),
        events=(ServerEvent(kind="abort", severity=Severity.INFO, text=texts[0], detail=texts[1]),),
        requests=(Request(source="log", reason=texts[2]),),
        log=(LogLine(text=texts[3]),),
    )
    kept = redacted(frame(servers=[hostile]))
    assert SECRET not in repr(kept)
    assert redacted(kept) == kept


def test_a_dump_leaves_one_word_and_debug_lines_none() -> None:
    idle = LogLine(text="srv  update_slots: all slots are idle")
    words = [LogLine(text=f"line {n} of a poem") for n in range(5)]
    debug = LogLine(text="srv  update_slots: all slots are idle", level="debug")
    assert kept_of(idle, *words, debug, idle) == [
        (idle.text, "info"),
        (LEFT_OUT, "info"),
        (idle.text, "info"),
    ]


def test_a_frame_without_anything_to_leave_out_is_the_same_one(demo_frames: list[Frame]) -> None:
    assert all(redacted(frame) is frame or redacted(frame) != frame for frame in demo_frames)
    assert sum(redacted(frame) is frame for frame in demo_frames) > 0.9 * len(demo_frames)


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=80), max_size=5))
def test_twice_is_once(texts: list[str]) -> None:
    once = redacted(frame(servers=[server(log=tuple(LogLine(text=text) for text in texts))]))
    assert redacted(once) == once


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=12, max_size=60))
def test_prose_is_never_known(text: str) -> None:
    """Three words in a row, wherever they stand, are no shape's."""
    prose = f"{text} meet me at {SECRET} tonight"
    assert not known(prose)


def ask(url: str, path: str, body: bytes, key: str) -> None:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(url + path, body, headers)
    try:
        urllib.request.urlopen(request, timeout=30).read()
    except urllib.error.HTTPError as refused:
        refused.read()


def bodies() -> list[tuple[str, bytes]]:
    chat = {"messages": [{"role": "user", "content": f"{SECRET}\nE srv {SECRET} failed"}], "max_tokens": 8}
    odd = {"messages": [{"role": SECRET, "content": [{"type": SECRET, "text": "x"}]}]}
    timing = f"slot print_timing: id  0 | task 7 | {SECRET}\n{SECRET}"
    asked: list[tuple[str, Any]] = [
        ("/completion", {"prompt": timing, "n_predict": 8, "stop": [SECRET]}),
        ("/v1/chat/completions", chat),
        ("/v1/chat/completions", odd),
        ("/completion", {"prompt": SECRET, "n_predict": 4, "grammar": f"root ::= {SECRET} ("}),
        ("/completion", {"prompt": SECRET, "n_predict": 4, "json_schema": {"type": SECRET}}),
        ("/completion", {"prompt": f"{SECRET} " * 3000}),
        (f"/{SECRET}?prompt={SECRET}", {}),
    ]
    return [(path, json.dumps(body).encode()) for path, body in asked] + [
        ("/completion", b'{"prompt":"' + SECRET.encode())
    ]


@pytest.mark.slow
async def test_a_server_that_prints_every_request_leaves_no_trace_of_them(
    tmp_path: Path, start_server: Callable[..., Any], models: Path
) -> None:
    draft = ("-md", models / "draft-good.gguf", "--spec-type", "draft-simple")
    server = start_server("-lv", "5", "--api-key", KEY, "-np", "2", "-c", "4096", "--jinja", *draft)
    options = Options(urls=(server.url,), log=str(server.log_path), api_key=KEY, interval=0.25)
    feed = LiveFeed(Sampler(LocalHost(tmp_path, Path("/proc")), options))
    frames = [await feed.one(2.0)]
    for path, body in bodies():
        await asyncio.to_thread(ask, server.url, path, body, KEY)
        frames.append(await feed.one(2.0))
    await asyncio.to_thread(ask, server.url, "/completion", b"{}", f"{KEY}-not")
    await asyncio.sleep(0.5)
    frames.append(await feed.one(2.0))
    await feed.close()
    log = server.log()
    server.stop()
    seen = " ".join(line.text for frame in frames for s in frame.servers for line in s.log)
    assert log.count(SECRET) > 10 and SECRET in seen  # there was something to leave out
    path = write(tmp_path / "night.halo", frames)
    everything = everything_in(path)
    for secret in (SECRET, KEY, KEY[-4:], SECRET[:5]):
        assert secret.encode() not in everything, secret
        assert secret.encode() not in path.read_bytes()
    assert b"prompt eval time" in everything and LEFT_OUT.encode() in everything
