"""What the other engines' answers say. Their documented forms, as none of them can be installed here;
vLLM's text is made by prometheus_client, the library that vLLM itself writes it with."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from halotui.collectors import lemonade, llama_swap, lmstudio, ollama, vllm
from halotui.collectors.engine_reading import MODELS, Reading
from halotui.collectors.engines import ENGINES
from halotui.collectors.llama_http import HttpKind, HttpProblem
from halotui.model import ModelState, ServedModel
from halotui.sampler.engine_looks import median

GO_TIME = "2026-11-21T16:47:07.933551234-07:00"
OLLAMA = {
    "/api/version": {"version": "0.40.12"},
    "/api/ps": {
        "models": [
            {
                "name": "gemma3:4b",
                "model": "gemma3:4b",
                "size": 6591830464,
                "digest": "a2af6cc3eb7f",
                "details": {"format": "gguf", "families": ["gemma3"], "quantization_level": "Q4_K_M"},
                "expires_at": GO_TIME,
                "size_vram": 5333539264,
                "context_length": 4096,
            }
        ]
    },
}
SWAP = {
    "/running": {
        "running": [
            {
                "model": "qwen3-30b",
                "state": "ready",
                "cmd": "llama-server --api-key sk-secret-4711 -m x.gguf",
                "proxy": "http://localhost:5801",
                "ttl": 300,
                "name": "",
                "description": "",
            },
            {"model": "gpt-oss", "state": "starting", "proxy": "http://user:secret@[::1]:5802/x?y"},
        ]
    },
    "/v1/models": {
        "object": "list",
        "data": [
            {"id": "gpt-oss", "object": "model", "created": 1, "owned_by": "llama-swap"},
            {"id": "qwen3-30b", "object": "model", "context_length": 65536, "status": {"value": "loaded"}},
            {"id": "tiny", "object": "model", "context_length": 4096},
        ],
    },
}
LMS_V0 = {
    "/api/v0/models": {
        "object": "list",
        "data": [
            {
                "id": "qwen2-vl-7b-instruct",
                "object": "model",
                "type": "vlm",
                "state": "not-loaded",
                "max_context_length": 32768,
            },
            {
                "id": "meta-llama-3.1-8b-instruct",
                "type": "llm",
                "state": "loaded",
                "max_context_length": 131072,
                "loaded_context_length": 8192,
            },
        ],
    }
}
LMS_V1 = {
    "/api/v0/models": {"error": "Unexpected endpoint or method. (GET /api/v0/models)"},
    "/api/v1/models": {
        "models": [
            {
                "type": "llm",
                "key": "google/gemma-4-26b-a4b",
                "size_bytes": 17990911801,
                "loaded_instances": [
                    {"id": "google/gemma-4-26b-a4b", "config": {"context_length": 4096, "parallel": 4}}
                ],
                "max_context_length": 262144,
            },
            {"type": "embedding", "key": "nomic", "loaded_instances": [], "max_context_length": 2048},
        ]
    },
}
LEMONADE = {
    "/api/v1/health": {
        "status": "ok",
        "version": "9.3.3",
        "model_loaded": "Llama-3.2-1B-Instruct-Hybrid",
        "all_models_loaded": [
            {
                "model_name": "nomic-embed-text-v1-GGUF",
                "checkpoint": "nomic-ai/nomic-embed-text-v1-GGUF:Q4_K_S",
                "last_use": 1732123450.123,
                "type": "embedding",
                "device": "gpu",
                "recipe": "llamacpp",
                "pid": 12346,
                "status": "in_use",
                "is_busy": True,
                "launch_command": ["llama-server", "--api-key", "sk-secret-4711"],
                "recipe_options": {"ctx_size": 8192, "llamacpp_backend": "rocm"},
                "backend_url": "http://127.0.0.1:8002/v1",
            }
        ],
    },
    "/api/v1/stats": {
        "time_to_first_token": 2.14,
        "tokens_per_second": 33.33,
        "input_tokens": 128,
        "cache_tokens": None,
        "output_tokens_total": 60,
    },
}


class Answers:
    """An engine that answers from a table, and refuses the rest."""

    def __init__(self, table: dict[str, Any], refusal: HttpKind = HttpKind.FAILED) -> None:
        self.table = table
        self.refusal = refusal
        self.asked: list[str] = []

    async def __call__(self, path: str) -> bytes:
        self.asked.append(path)
        if path not in self.table:
            raise HttpProblem(self.refusal, "HTTP status 404")
        answer = self.table[path]
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    once = __call__


async def test_ollama() -> None:
    ask = Answers(OLLAMA)
    reading = await ollama.read(ask)
    assert reading.build == "0.40.12" and reading.busy is None
    (model,) = reading.models
    assert model == ServedModel(
        id="gemma3:4b",
        state=ModelState.LOADED,
        bytes=6591830464,
        gpu_bytes=5333539264,
        context_tokens=4096,
        expires_time=model.expires_time,
    )
    assert model.expires_time == pytest.approx(1795304827.93, abs=0.01)  # 23:47:07 UTC
    assert set(ask.asked) == {"/api/version", "/api/ps"}


async def test_ollama_that_keeps_for_ever_or_nothing() -> None:
    kept = {"name": "x", "expires_at": "2318-03-04T11:06:09.1Z", "size": 0, "size_vram": 0}
    (model,) = (await ollama.read(Answers({**OLLAMA, "/api/ps": {"models": [kept]}}))).models
    assert (model.expires_time, model.bytes, model.gpu_bytes) == (None, None, 0)
    assert (await ollama.read(Answers({**OLLAMA, "/api/ps": {"models": None}}))).models == ()


async def test_llama_swap() -> None:
    ask = Answers(SWAP)
    reading = await llama_swap.read(ask)
    assert [(m.id, m.state.value, m.address) for m in reading.models] == [
        ("qwen3-30b", "loaded", "http://localhost:5801"),
        ("gpt-oss", "loading", "http://[::1]:5802"),
        ("tiny", "unloaded", None),
    ]
    assert "secret" not in repr(reading)
    assert not any(path.startswith("/upstream") for path in ask.asked)


async def test_lm_studio_older_and_newer() -> None:
    older = await lmstudio.read(Answers(LMS_V0))
    assert [(m.id, m.state.value, m.context_tokens) for m in older.models] == [
        ("meta-llama-3.1-8b-instruct", "loaded", 8192),
        ("qwen2-vl-7b-instruct", "unloaded", 32768),
    ]
    newer = await lmstudio.read(Answers(LMS_V1))
    assert [(m.id, m.state.value, m.context_tokens) for m in newer.models] == [
        ("google/gemma-4-26b-a4b", "loaded", 4096),
        ("nomic", "unloaded", 2048),
    ]


async def test_lemonade() -> None:
    reading = await lemonade.read(Answers(LEMONADE))
    assert (reading.build, reading.busy) == ("9.3.3", True)
    assert (reading.ttft_seconds, reading.generation_tokens_per_second) == (2.14, 33.33)
    (model,) = reading.models
    assert (model.id, model.pid, model.context_tokens) == ("nomic-embed-text-v1-GGUF", 12346, 8192)
    assert "secret" not in repr(reading)


async def test_an_older_lemonade() -> None:
    health = {"status": "ok", "model_loaded": "Qwen3-0.6B-GGUF"}
    reading = await lemonade.read(Answers({"/api/v1/health": health}))
    assert [model.id for model in reading.models] == ["Qwen3-0.6B-GGUF"] and reading.busy is None
    nothing = await lemonade.read(Answers({"/api/v1/health": {"status": "ok", "model_loaded": None}}))
    assert nothing.models == () and nothing.ttft_seconds is None


TTFT_BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)


def vllm_text(*, v0: bool = False, engines: int = 1, running: int = 2) -> bytes:
    """As vLLM makes it, its names and labels (v1/metrics/loggers.py)."""
    registry = CollectorRegistry()
    labels = ["model_name"] if v0 else ["model_name", "engine"]
    values = [("qwen3",) if v0 else ("qwen3", str(i)) for i in range(engines)]

    def counter(name: str, value: float) -> None:
        metric = Counter(f"vllm:{name}", name, labels, registry=registry)
        for each in values:
            metric.labels(*each).inc(value)

    for name, value in (("num_requests_running", running), ("num_requests_waiting", 1)):
        metric = Gauge(f"vllm:{name}", name, labels, registry=registry)
        for each in values:
            metric.labels(*each).set(value)
    usage = Gauge(
        "vllm:gpu_cache_usage_perc" if v0 else "vllm:kv_cache_usage_perc", "x", labels, registry=registry
    )
    for place, each in enumerate(values):
        usage.labels(*each).set(0.25 + place / 2)
    counter("prompt_tokens", 5000)
    counter("generation_tokens", 1234567)
    ttft = Histogram("vllm:time_to_first_token_seconds", "x", labels, buckets=TTFT_BUCKETS, registry=registry)
    for each in values:
        for seconds in (0.03, 0.2, 0.3, 0.4, 3.0):
            ttft.labels(*each).observe(seconds)
    if not v0:
        counter("spec_decode_num_drafts", 100)
        counter("spec_decode_num_draft_tokens", 300)
        counter("spec_decode_num_accepted_tokens", 180)
        places = Counter(
            "vllm:spec_decode_num_accepted_tokens_per_pos", "x", [*labels, "position"], registry=registry
        )
        for place, count in enumerate((90, 60, 30)):
            places.labels(*values[0], str(place)).inc(count)
        sources = Counter("vllm:prompt_tokens_by_source", "x", [*labels, "source"], registry=registry)
        sources.labels(*values[0], "local_compute").inc(4000)
        sources.labels(*values[0], "local_cache_hit").inc(1000)
    info = Gauge("vllm:cache_config_info", "x", ["block_size", "num_gpu_blocks", "engine"], registry=registry)
    info.labels("16", "573", "0").set(1)
    return generate_latest(registry)


async def test_vllm() -> None:
    models = {"data": [{"id": "qwen3", "max_model_len": 40960}]}
    ask = Answers({"/metrics": vllm_text(), "/v1/models": models, "/version": {"version": "0.32.0"}})
    reading = await vllm.read(ask)
    metrics = reading.metrics
    assert (reading.model, reading.build, reading.context_tokens) == ("qwen3", "0.32.0", 40960)
    assert (metrics.requests_processing, metrics.requests_deferred, reading.busy) == (2, 1, True)
    assert (metrics.prompt_tokens_total, metrics.generation_tokens_total) == (4000, 1234567)
    assert (reading.kv_used_ratio, reading.kv_capacity_tokens) == (0.25, 9168)
    assert metrics.draft_accepted_per_position == (90, 60, 30)
    assert (metrics.draft_tokens_total, metrics.draft_accepted_total, metrics.draft_steps_total) == (
        300,
        180,
        100,
    )
    assert median(reading.ttft_buckets) == pytest.approx(
        0.25 + 0.25 * 0.25
    )  # 2.5 of 5: a quarter into 0.25..0.5


async def test_vllm_v0_and_a_key_that_is_not_ours() -> None:
    reading = await vllm.read(Answers({"/metrics": vllm_text(v0=True, running=0)}, HttpKind.LOCKED))
    assert (reading.model, reading.context_tokens, reading.busy) == ("qwen3", None, True)  # one waits
    assert (reading.kv_used_ratio, reading.metrics.prompt_tokens_total) == (0.25, 5000)
    assert reading.metrics.draft_tokens_total is None


async def test_vllm_of_two_engines() -> None:
    reading = await vllm.read(Answers({"/metrics": vllm_text(engines=2)}))
    assert (reading.metrics.requests_processing, reading.kv_used_ratio) == (4, 0.75)


async def test_vllm_asleep_or_silent() -> None:
    sleeping = b'vllm:engine_sleep_state{engine="0",sleep_state="awake"} 0.0\nvllm:num_requests_running 0\n'
    assert (await vllm.read(Answers({"/metrics": sleeping}))).sleeping
    silent = await vllm.read(Answers({"/metrics": b"python_info 1\n"}))
    assert silent.busy is None and "--disable-log-stats" in (silent.reason or "")


@pytest.mark.parametrize(
    ("buckets", "seconds"),
    [
        ((), None),
        (((1.0, 0.0), (float("inf"), 0.0)), None),
        (((1.0, 4.0), (float("inf"), 4.0)), 0.5),
        (((1.0, 0.0), (float("inf"), 4.0)), 1.0),  # past the last bound
        (((0.1, 1.0), (0.2, 3.0), (float("inf"), 4.0)), 0.15),
    ],
)
def test_a_median_of_buckets(buckets: Any, seconds: float | None) -> None:
    assert median(buckets) == (pytest.approx(seconds) if seconds is not None else None)


# Hostile answers

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    (
        *("models", "data", "running", "id", "key", "name", "model", "state", "proxy", "size", "size_vram"),
        *("expires_at", "context_length", "version", "status", "all_models_loaded", "model_loaded", "pid"),
        *("model_name", "loaded_instances", "config", "is_busy", "recipe_options", "ctx_size"),
    )
)
SHAPED = st.recursive(
    JSON, lambda inner: st.dictionaries(KEYS, inner, max_size=6) | st.lists(inner, max_size=4), max_leaves=25
)


def harmless(reading: Reading) -> None:
    words = [reading.build, reading.model, reading.reason]
    words += [word for model in reading.models for word in (model.id, model.address, model.reason)]
    for word in words:
        assert word is None or (word.isprintable() and len(word) <= 300)
    assert len(reading.models) <= MODELS
    assert len({model.id for model in reading.models}) == len(reading.models)
    ratio = reading.kv_used_ratio
    assert ratio is None or 0 <= ratio <= 1


@pytest.mark.parametrize("engine", sorted(ENGINES))
@given(answer=SHAPED, other=SHAPED)
async def test_any_json_is_a_reading_or_a_problem(engine: str, answer: Any, other: Any) -> None:
    class Fuzzed(Answers):
        async def __call__(self, path: str) -> bytes:
            said = answer if "models" in path or "ps" in path or "health" in path else other
            return json.dumps(said).encode()

        once = __call__

    try:
        harmless(await ENGINES[engine].read(Fuzzed({})))
    except HttpProblem as problem:
        assert problem.reason.isprintable() and len(problem.reason) < 100


@pytest.mark.parametrize("engine", sorted(ENGINES))
@given(body=st.binary(max_size=300))
async def test_any_bytes_are_a_reading_or_a_problem(engine: str, body: bytes) -> None:
    class Bytes(Answers):
        async def __call__(self, path: str) -> bytes:
            return body

        once = __call__

    try:
        harmless(await ENGINES[engine].read(Bytes({})))
    except HttpProblem as problem:
        assert problem.kind is HttpKind.FAILED


@given(
    st.lists(
        st.tuples(
            st.sampled_from(vllm._NAMES),
            st.dictionaries(
                st.sampled_from(("le", "position", "model_name", "source", "num_gpu_blocks", "block_size")),
                st.text(max_size=20),
                max_size=4,
            ),
            st.floats() | st.integers(),
        ),
        max_size=20,
    )
)
def test_any_metrics_are_a_reading(samples: list[tuple[str, dict[str, str], float]]) -> None:
    lines = []
    for name, labels, number in samples:
        told = ",".join(f'{key}="{value}"' for key, value in labels.items())
        lines.append(f"vllm:{name}{{{told}}} {number}")
    reading = vllm.parse("\n".join(lines).encode("utf-8", "surrogatepass"))
    harmless(reading)
    assert len(reading.ttft_buckets) <= vllm.BUCKETS
    median(reading.ttft_buckets)


async def test_names_are_made_harmless_and_short() -> None:
    models = {"models": [{"name": "\x1b]0;x\x07evil\n" + "a" * 5000}, {"name": "\x1b[2J"}, {"name": None}]}
    (model,) = (await ollama.read(Answers({**OLLAMA, "/api/ps": models}))).models
    assert model.id.startswith("evil") and len(model.id) <= 200
