"""What does not change while a server runs: each fact from the first source that has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from halotui import kv
from halotui.model import LogFacts, ModelMeta, Props, ServerFacts, ServerProcess, SlotReading

SLOTS, PROPS, LOG, MODELS, ARGV, ENVIRON, DEFAULT = (
    "/slots",
    "/props",
    "log",
    "/v1/models",
    "command line",
    "environment",
    "llama.cpp's default",
)
ORDER = (SLOTS, PROPS, LOG, MODELS, ARGV, ENVIRON, DEFAULT)
# What /slots only implies, the log says.
BY_LOG_FIRST = dict.fromkeys(("kv_unified", "context_tokens"), (LOG, SLOTS, PROPS, MODELS, ARGV, DEFAULT))

OF_SERVER = (
    "model",
    "model_path",
    "draft_model",
    "build",
    "backend",
    "slots_total",
    "slot_context_tokens",
    "kv_unified",
    "kv_cache_bytes",
    "spec_type",
)
OF_FACTS = ServerFacts.__struct_fields__
KEYS = (*OF_SERVER, *OF_FACTS)

# key here -> attribute of the source
OF_PROPS = {
    "model": "model",
    "model_path": "model_path",
    "build": "build",
    "slots_total": "total_slots",
    "slot_context_tokens": "context_tokens",
}
OF_META = {
    "model_bytes": "bytes",
    "model_type": "type",
    "parameters": "parameters",
    "context_trained_tokens": "context_trained_tokens",
}
OF_LOG = {key: key for key in KEYS if key in LogFacts.__struct_fields__}
_OTHERWISE = ("kv_unified", "environment")  # of a process, not as they stand
OF_PROCESS = {key: key for key in KEYS if key in ServerProcess.__struct_fields__ and key not in _OTHERWISE}

ROUNDING = 256  # tokens: contexts are rounded up to a multiple
HIDDEN = (
    "buffers, KV types and layers: this build keeps them to itself at its log level; "
    "a relaunch with -lv 4 or --log-jsonl shows them"
)
MISSED = (
    "buffers, KV types and layers are told when the server starts, and this log does not reach back that far"
)
UNFOLLOWED = (
    "buffers, KV types and layers are told in the log alone, and none is followed: "
    "--log FILE, or a relaunch with --log-file FILE -lv 4"
)


class Known(Struct, frozen=True):
    """``server`` holds keys of Server, ``provenance`` the source of each key of both."""

    server: Mapping[str, Any]
    facts: ServerFacts
    provenance: dict[str, str]
    hidden: str | None = None  # why what memory it takes is not known


class FactBook:
    """Merges anew only when one of the sources has changed."""

    def __init__(self) -> None:
        self._from: tuple[object, ...] | None = None
        self.known = Known({}, ServerFacts(), {})

    def know(
        self,
        process: ServerProcess | None,
        props: Props | None,
        meta: ModelMeta | None,
        slots: tuple[SlotReading, ...],
        log: LogFacts | None,
    ) -> Known:
        """``log``: None when none is followed."""
        first = slots[0].context_tokens if slots else None
        shape = (len(slots), first, _spec_type(slots))
        old = self._from
        same = old is not None and old[0] is process and old[1] is props and old[2] is meta and old[3] is log
        if not same or (old is not None and old[4] != shape):
            self._from = (process, props, meta, log, shape)
            self.known = merge(process, props, meta, slots, log)
        return self.known


def merge(
    process: ServerProcess | None,
    props: Props | None,
    meta: ModelMeta | None,
    slots: tuple[SlotReading, ...],
    log: LogFacts | None,
) -> Known:
    """Pure. Unknown is left out, and no source speaks for another's restart: what is gone is not asked."""
    told: dict[str, Mapping[str, Any]] = {
        PROPS: _read(props, OF_PROPS),
        LOG: _read(log, OF_LOG),
        MODELS: _read(meta, OF_META),
        ARGV: _read(process, OF_PROCESS),
    }
    total = told[PROPS].get("slots_total") or told[LOG].get("slots_total") or len(slots) or None
    told[SLOTS] = _by_slots(slots, process, meta)
    told[ARGV] = {**told[ARGV], **_by_words(process, total)}
    told[ENVIRON] = _of_environment(process)
    told[DEFAULT] = _by_default(process)
    values: dict[str, Any] = {}
    provenance: dict[str, str] = {}
    for key in KEYS:
        for source in BY_LOG_FIRST.get(key, ORDER):
            if key in told[source]:
                values[key], provenance[key] = told[source][key], source
                break
    if values.get("flash_attention") == "auto" and told[ARGV].get("flash_attention") in ("on", "off"):
        values["flash_attention"], provenance["flash_attention"] = told[ARGV]["flash_attention"], ARGV
    server = {key: values[key] for key in OF_SERVER if key in values}
    facts = ServerFacts(**{key: values[key] for key in OF_FACTS if key in values})
    sliding = log is not None and bool(log.kv_sliding)
    return Known(server | _of_cache(server, facts, sliding), facts, provenance, _hidden(log, values))


def _of_cache(server: Mapping[str, Any], facts: ServerFacts, sliding: bool) -> dict[str, Any]:
    """What follows for the KV cache. With a sliding window no token has a size of its own."""
    slots, unified = server.get("slots_total"), server.get("kv_unified")
    capacity = kv.capacity_tokens(slots, server.get("slot_context_tokens"), unified, facts.context_tokens)
    cache = None if sliding else server.get("kv_cache_bytes")
    each = kv.token_bytes(cache, capacity, slots, unified, facts)
    told = {"kv_capacity_tokens": capacity, "kv_token_bytes": each}
    return {key: value for key, value in told.items() if value is not None}


def _read(source: object, names: Mapping[str, str]) -> dict[str, Any]:
    """What a source knows; None, no text and no items are nothing."""
    if source is None:
        return {}
    values = ((key, getattr(source, name)) for key, name in names.items())
    return {key: value for key, value in values if value not in (None, "", ())}


def _spec_type(slots: tuple[SlotReading, ...]) -> str | None:
    for slot in slots:
        if slot.spec_type:  # one that never worked tells none
            return slot.spec_type
    return None


def _by_slots(
    slots: tuple[SlotReading, ...], process: ServerProcess | None, meta: ModelMeta | None
) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if kind := _spec_type(slots):
        told["spec_type"] = kind
    context = slots[0].context_tokens if slots else None
    if context is None:
        return told
    told["slot_context_tokens"] = context
    unified = _unified(len(slots), context, process.context_tokens if process else None, meta)
    if unified is not None:
        told["kv_unified"] = unified
    if len(slots) == 1 or unified is False:
        told["context_tokens"] = context * len(slots)
    elif unified:
        told["context_tokens"] = context
    return told


def _unified(slots: int, context: int, asked: int | None, meta: ModelMeta | None) -> bool | None:
    """By -c: a unified cache gives each slot all of it, a split one its part, each rounded up.

    None where both would look the same, also because a slot gets no more than the model was trained for.
    """
    if slots < 2 or not asked:
        return None
    trained = meta.context_trained_tokens if meta is not None else None
    whole, part = (0 <= context - share < ROUNDING for share in (asked, asked / slots))
    if part and (trained is None or context >= trained):
        return None
    return whole if whole != part else None


def _by_words(process: ServerProcess | None, slots: int | None) -> dict[str, Any]:
    """What the command line means: -np alone splits the cache, and slots nobody asked for share one."""
    if process is None:
        return {}
    told: dict[str, Any] = {}
    if model := process.alias or process.model_path:
        told["model"] = model
    asked, unified = process.slots_asked, process.kv_unified
    if unified is None and process.model_path and slots and slots > 1:
        unified = False if asked == slots else True if asked in (None, 1) else None
    if unified is not None:
        told["kv_unified"] = unified
    return told


def _of_environment(process: ServerProcess | None) -> dict[str, Any]:
    """That none of the variables that matter is set is known as well."""
    if process is None or process.environment is None:
        return {}
    return {"environment": process.environment}


def _by_default(process: ServerProcess | None) -> dict[str, Any]:
    """Of all builds: K and V are f16 when a command line that could be read does not say otherwise."""
    if process is None or process.model_path is None:
        return {}
    return {"cache_type_k": "f16", "cache_type_v": "f16"}


def _hidden(log: LogFacts | None, values: Mapping[str, Any]) -> str | None:
    if values.get("buffers") or "kv_cache_bytes" in values:
        return None
    if log is None:
        return UNFOLLOWED
    if log.hides_memory:
        return HIDDEN
    return MISSED if log.model_loaded is None else None
