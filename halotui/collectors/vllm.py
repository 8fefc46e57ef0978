"""vLLM: ``GET /metrics``, and ``/v1/models`` for the context (V0 to 0.7, V1 to 0.32: the names of both).

``/metrics`` needs no key, ``/v1/models`` does where one is set: the name stands in the labels as well.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TypeVar

from msgspec import Struct
from msgspec.json import Decoder
from msgspec.structs import replace

from halotui.collectors.engine_reading import Ask, Count, Reading, decode, name, positive
from halotui.collectors.llama_answers import HttpKind, HttpProblem
from halotui.model import Metrics

_T = TypeVar("_T")

SAMPLES = 4096  # lines read at most: an engine has some thirty of ours, and may run many engines
BUCKETS = 64
POSITIONS = 64

_SUMS = {  # summed over the engines of one server
    "prompt_tokens_total": "prompt_tokens_total",
    "generation_tokens_total": "generation_tokens_total",
    "num_requests_running": "requests_processing",
    "num_requests_waiting": "requests_deferred",
    "prefix_cache_hits_total": "cached_tokens_total",
    "spec_decode_num_draft_tokens_total": "draft_tokens_total",
    "spec_decode_num_accepted_tokens_total": "draft_accepted_total",
    "spec_decode_num_drafts_total": "draft_steps_total",
}
_BY_SOURCE = "prompt_tokens_by_source_total"  # newer: computed and cached ones apart
_USAGE = ("kv_cache_usage_perc", "gpu_cache_usage_perc")  # 0 to 1, whatever they say; the second up to 0.9
_TTFT = "time_to_first_token_seconds_bucket"
_POSITION = "spec_decode_num_accepted_tokens_per_pos_total"
_SLEEP = "engine_sleep_state"
_CACHE = "cache_config_info"
_NAMES = (*_SUMS, _BY_SOURCE, *_USAGE, _TTFT, _POSITION, _SLEEP, _CACHE)
_SAMPLE = re.compile(
    rb"^vllm:(%s)(?:\{((?:[^\"}\n]|\"(?:[^\"\\\n]|\\.)*\")*)\})?[ \t]+([-+.\w]+)"
    % b"|".join(text.encode() for text in _NAMES),
    re.M,
)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class _Model(Struct):
    id: str | None = None
    max_model_len: Count | None = None


class _Models(Struct):
    data: list[_Model] | None = None


class _Version(Struct):
    version: str | None = None


_MODELS = Decoder(_Models)
_VERSION = Decoder(_Version)
_Sample = tuple[str, dict[str, str], float]


async def read(ask: Ask) -> Reading:
    """Raises HttpProblem."""
    said = parse(await ask("/metrics"))
    model, version = await _once(ask, "/v1/models", _MODELS), await _once(ask, "/version", _VERSION)
    first = ((model.data if model else None) or [_Model()])[0]
    return replace(
        said,
        build=name(version.version) if version else None,
        model=name(first.id) or said.model,
        context_tokens=positive(first.max_model_len),
    )


async def _once(ask: Ask, path: str, decoder: Decoder[_T]) -> _T | None:
    """None where it is not told, for want of a key or of the path."""
    try:
        return decode(decoder, await ask.once(path), "vLLM")
    except HttpProblem as problem:
        if problem.kind in (HttpKind.OFF, HttpKind.FAILED, HttpKind.LOCKED):
            return None
        raise


def parse(body: bytes) -> Reading:
    """``GET /metrics``. Without a figure of vLLM's the state alone is known (``--disable-log-stats``)."""
    sums: dict[str, float] = {}
    computed: float | None = None
    usage: dict[str, float] = {}
    buckets: dict[float, float] = {}
    positions: dict[int, float] = {}
    model: str | None = None
    awake: float | None = None
    capacity: int | None = None
    for metric, labels, value in _samples(body):
        model = model or labels.get("model_name")
        if metric in _SUMS:
            sums[_SUMS[metric]] = sums.get(_SUMS[metric], 0.0) + value
        elif metric in _USAGE:  # of several engines the fullest
            usage[metric] = max(value, usage.get(metric, 0.0))
        elif metric == _TTFT:
            bound = _number(labels.get("le", ""))
            if bound is not None and (bound in buckets or len(buckets) < BUCKETS):
                buckets[bound] = buckets.get(bound, 0.0) + value
        elif metric == _POSITION:
            place = labels.get("position", "")
            if place.isdecimal() and len(place) < 4 and int(place) < POSITIONS:
                positions[int(place)] = positions.get(int(place), 0.0) + value
        elif metric == _BY_SOURCE:
            computed = (computed or 0.0) + (value if labels.get("source") == "local_compute" else 0.0)
        elif metric == _SLEEP and labels.get("sleep_state") == "awake":
            awake = (awake or 0.0) + value
        elif metric == _CACHE:
            capacity = (capacity or 0) + _capacity(labels)
    if computed is not None:
        sums["prompt_tokens_total"] = computed
    elif "prompt_tokens_total" not in sums and not usage and "requests_processing" not in sums:
        return Reading(busy=None, reason="its /metrics holds no figures: started with --disable-log-stats?")
    places = range(max(positions, default=-1) + 1)
    metrics = Metrics(draft_accepted_per_position=tuple(positions.get(i, 0.0) for i in places), **sums)
    filled = usage.get(_USAGE[0], usage.get(_USAGE[1]))
    waiting, running = metrics.requests_deferred or 0, metrics.requests_processing
    return Reading(
        model=name(model),
        busy=running + waiting > 0 if running is not None else None,
        sleeping=awake == 0.0,
        metrics=metrics,
        kv_used_ratio=min(1.0, max(0.0, filled)) if filled is not None else None,
        kv_capacity_tokens=capacity or None,
        ttft_buckets=tuple(sorted(buckets.items())),
    )


def _samples(body: bytes) -> Iterator[_Sample]:
    for number, found in enumerate(_SAMPLE.finditer(body)):
        if number >= SAMPLES:
            return
        value = _number(found[3].decode("ascii", "replace"))
        if value is not None and math.isfinite(value):
            yield found[1].decode(), dict(_LABEL.findall((found[2] or b"").decode("utf-8", "replace"))), value


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _capacity(labels: dict[str, str]) -> int:
    """Tokens that the KV cache has room for: blocks of the GPU × tokens of a block; 0 when not told."""
    blocks, size = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
    if not (blocks.isdecimal() and size.isdecimal() and len(blocks) < 12 and len(size) < 8):
        return 0
    return int(blocks) * int(size)
