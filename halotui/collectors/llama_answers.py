"""What llama-server's answers say: readings, or why there is none. Every field of theirs is hostile."""

from __future__ import annotations

import math
import re
from enum import StrEnum
from pathlib import PurePath
from typing import Annotated, Any, TypeVar

from msgspec import Meta, MsgspecError, Struct, field
from msgspec.json import Decoder

from halotui.model import Metrics, Props, SlotReading
from halotui.safe import clean

T = TypeVar("T")


class HttpKind(StrEnum):
    """Why there is no reading."""

    REFUSED = "refused"  # nothing listens, or it cannot be reached
    LOADING = "loading"  # the model is being loaded
    OFF = "off"  # the server was started without this endpoint
    LOCKED = "locked"  # it wants an API key, or another one
    ROUTER = "router"  # it serves models through children and has no slots of its own
    FAILED = "failed"  # anything else: not llama-server's answer, or none in time


class HttpProblem(Exception):
    """An endpoint gave no reading. ``reason`` is safe to show: harmless text, never a key."""

    def __init__(self, kind: HttpKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


# status, what its message must say, the kind, our words for it
_ANSWERS = (
    (503, "loading model", HttpKind.LOADING, "the model is being loaded"),
    (501, "", HttpKind.OFF, "the server was started without it"),
    (401, "", HttpKind.LOCKED, "it wants an API key"),
    (403, "", HttpKind.LOCKED, "it wants an API key"),
    (400, "model name is missing", HttpKind.ROUTER, "a router: its models answer on ports of their own"),
)


def refusal(status: int, body: bytes) -> HttpProblem:
    """What an answer other than 200 means."""
    said = clean(body, 1000).lower()
    for code, words, kind, reason in _ANSWERS:
        if status == code and words in said:
            return HttpProblem(kind, reason)
    return HttpProblem(HttpKind.FAILED, f"HTTP status {status}")


# JSON: only what we read; the rest is skipped unparsed.

Count = Annotated[int, Meta(ge=-(2**53), le=2**53)]


class _Params(Struct):
    """Of 50 we read one: the kinds of speculation, by its names since b8390."""

    types: Any = field(default=None, name="speculative.types")
    type: Any = field(default=None, name="speculative.type")


class _Next(Struct):
    n_remain: Count | None = None
    n_decoded: Count | None = None


class _Slot(Struct):
    id: Count
    is_processing: bool
    n_ctx: Count | None = None
    speculative: bool | None = None
    id_task: Count | None = None
    n_prompt_tokens: Count | None = None
    n_prompt_tokens_processed: Count | None = None
    n_prompt_tokens_cache: Count | None = None
    params: _Params | None = None
    next_token: list[_Next] | _Next | None = None  # an object in early 2025


class _Generation(Struct):
    n_ctx: Count | None = None


class _Props(Struct):
    role: str | None = None
    total_slots: Count | None = None
    model_alias: str | None = None
    model_path: str | None = None
    build_info: str | None = None
    is_sleeping: bool | None = None
    endpoint_slots: bool | None = None
    endpoint_metrics: bool | None = None
    default_generation_settings: _Generation | None = None


_SLOTS = Decoder(Annotated[list[_Slot], Meta(max_length=1024)])
_PROPS = Decoder(_Props)


def decoded(decoder: Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (MsgspecError, ValueError, RecursionError):
        raise HttpProblem(HttpKind.FAILED, "not llama-server's JSON") from None


def parse_slots(body: bytes) -> tuple[SlotReading, ...]:
    """``GET /slots``. Raises HttpProblem (failed)."""
    return tuple(_slot(slot) for slot in decoded(_SLOTS, body))


def _slot(slot: _Slot) -> SlotReading:
    listed = slot.next_token if isinstance(slot.next_token, list) else [slot.next_token]
    ahead = (listed and listed[0]) or _Next()
    return SlotReading(
        id=slot.id,
        task=known(slot.id_task),
        processing=slot.is_processing,
        context_tokens=slot.n_ctx,
        speculative=slot.speculative,
        decoded=known(ahead.n_decoded),
        remaining=known(ahead.n_remain),
        tokens=known(slot.n_prompt_tokens),
        prompt_processed=known(slot.n_prompt_tokens_processed),
        prompt_cached=known(slot.n_prompt_tokens_cache),
        spec_type=_kinds(slot.params) if slot.params is not None else None,
    )


def _kinds(params: _Params) -> str | None:
    said = params.types if isinstance(params.types, str) else params.type
    words = clean(said, 200).split(",") if isinstance(said, str) else ()
    return ",".join(word for word in map(str.strip, words) if word not in ("", "none")) or None


def known(count: int | None) -> int | None:
    """llama.cpp writes -1 for "none" and "without limit"."""
    return None if count is None or count < 0 else count


def parse_props(body: bytes) -> Props:
    """``GET /props``. Raises HttpProblem (failed; router)."""
    props = decoded(_PROPS, body)
    if props.role == "router":
        raise refusal(400, b"model name is missing")
    path, alias = (clean(text) if text else None for text in (props.model_path, props.model_alias))
    named = alias if alias != path else None  # without -a some builds repeat the path
    return Props(
        total_slots=known(props.total_slots),
        model=named or (PurePath(path).name if path else None),
        model_path=path,
        build=clean(props.build_info) if props.build_info else None,
        context_tokens=known((props.default_generation_settings or _Generation()).n_ctx),
        is_sleeping=props.is_sleeping,
        slots_endpoint=props.endpoint_slots,
        metrics_endpoint=props.endpoint_metrics,
    )


def parse_router(body: bytes) -> tuple[bool, str | None]:
    """``GET /props``: whether it is a router, and its build. Raises HttpProblem (failed)."""
    props = decoded(_PROPS, body)
    return props.role == "router", clean(props.build_info) if props.build_info else None


# metric, without its prefix -> our field. The second spellings are those of forks and of open pull requests.
_METRICS = {
    b"prompt_tokens_total": "prompt_tokens_total",
    b"prompt_seconds_total": "prompt_seconds_total",
    b"tokens_predicted_total": "generation_tokens_total",
    b"tokens_predicted_seconds_total": "generation_seconds_total",
    b"prompt_tokens_cached_total": "cached_tokens_total",
    b"n_decode_total": "decode_calls_total",
    b"spec_decode_num_drafts_total": "draft_steps_total",
    b"spec_decode_num_draft_tokens_total": "draft_tokens_total",
    b"spec_decode_num_draft_tokens": "draft_tokens_total",
    b"draft_tokens_total": "draft_tokens_total",
    b"spec_tokens_drafted_total": "draft_tokens_total",
    b"spec_decode_num_accepted_tokens_total": "draft_accepted_total",
    b"spec_decode_num_accepted_tokens": "draft_accepted_total",
    b"draft_tokens_accepted_total": "draft_accepted_total",
    b"spec_tokens_accepted_total": "draft_accepted_total",
    b"requests_processing": "requests_processing",
    b"requests_deferred": "requests_deferred",
}
_BY_POSITION = b"spec_decode_num_accepted_tokens_per_pos_total"
_SAMPLE = re.compile(
    rb"^llamacpp[:_](%s)(\{(?:[^\"}\n]|\"(?:[^\"\\\n]|\\.)*\")*\})?[ \t]+([-+.\w]+)"
    % b"|".join((*_METRICS, _BY_POSITION)),
    re.M,
)
_POSITION = re.compile(rb"[{,][ ]*position=\"(\d{1,3})\"")


def parse_metrics(body: bytes) -> Metrics:
    """``GET /metrics``, the Prometheus text format. Raises HttpProblem (failed) when nothing is ours.

    A name without labels is the total; with labels only, the total is their sum.
    """
    totals: dict[str, float] = {}
    sums: dict[str, float] = {}
    accepted: dict[int, float] = {}  # by place in the draft
    for name, labels, text in _SAMPLE.findall(body):
        try:
            value = float(text)
        except ValueError:
            continue
        if name == _BY_POSITION:
            if (place := _POSITION.search(labels)) and math.isfinite(value):
                accepted[int(place[1])] = value
            continue
        key = _METRICS[name]
        if labels:
            sums[key] = sums.get(key, 0.0) + value
        else:
            totals[key] = value
    found = sums | totals
    if not found:
        raise HttpProblem(HttpKind.FAILED, "not llama-server's metrics")
    finite: dict[str, Any] = {key: value for key, value in found.items() if math.isfinite(value)}
    by_position = tuple(accepted.get(place, 0.0) for place in range(max(accepted) + 1)) if accepted else ()
    return Metrics(draft_accepted_per_position=by_position, **finite)
