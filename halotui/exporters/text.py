"""A frame as text for people and pipes: ``halotui --once``. Labels and units come from the field table."""

from __future__ import annotations

import time
from collections.abc import Iterator

from halotui import fields, format
from halotui.model import Frame, Gpu, Memory, Server, Slot, SlotPhase

Struct = Gpu | Memory | Server | Slot
EVENTS = 3  # of a server, the newest
STILL = 10.0  # seconds without a move: less is a pause

_GPU = [
    "busy_percent",
    "sclk_hertz",
    "mclk_hertz",
    "fclk_hertz",
    "socket_power_watts",
    "gfx_power_watts",
    "temperature_celsius",
]
_MEMORY = ["used_bytes", "available_bytes", "cache_bytes", "swap_used_bytes"]
_SERVER = ["build", "backend", "pid", "uptime_seconds", "requests_deferred"]
_SPEED = [
    "generation_tokens_per_second",
    "prompt_tokens_per_second",
    "draft_acceptance_ratio",
    "draft_coverage_ratio",
]
_MORE = [  # told where it is known
    "ttft_seconds",
    "draft_mean_tokens",
    "draft_gain_ratio",
    "kv_used_tokens",
    "kv_used_ratio",
    "still_seconds",
]
_SLOT = [
    "generated_tokens",
    "used_ratio",
    "generation_tokens_per_second",
    "draft_acceptance_ratio",
    "elapsed_seconds",
]


def text(frame: Frame, *earlier: Frame) -> str:
    """The frame, a block a subject, without a final newline; with the events of those before it, too."""
    return "\n".join(_lines(frame, earlier))


def _lines(frame: Frame, earlier: tuple[Frame, ...]) -> Iterator[str]:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(frame.time))
    yield f"{frame.host}  {stamp}"
    for finding in frame.findings:
        yield f"{str(finding.severity).upper()} {finding.id}: {finding.title}"
        yield f"    {finding.evidence}"
        yield f"    why: {finding.why}"
        yield f"    fix: {finding.fix}"
    for server in frame.servers:
        yield f"server   {server.url}  {server.state}" + (f": {server.reason}" if server.reason else "")
        yield f"    {server.model or format.DASH} · {_pairs(server, _SERVER)}"
        asked = f" (asked {server.slots_asked})" if server.slots_asked is not None else ""
        busy = format.DASH if server.slots_busy is None else server.slots_busy
        slots = f"slots {busy} of {server.slots_total or format.DASH} busy{asked}"
        yield f"    {slots} · {_pairs(server, _SPEED)}"
        if more := [key for key in _MORE if _worth(server, key)]:
            yield f"    {_pairs(server, more)}"
        if server.models:
            yield f"    models {' · '.join(f'{model.id} {model.state}' for model in server.models)}"
        events = [
            e for one in (*earlier, frame) for s in one.servers if s.url == server.url for e in s.events
        ]
        for event in events[-EVENTS:]:
            when = f" {format.clock(event.time)}" if event.time is not None else ""
            yield f"    {event.severity}{when} {event.text}"
        for slot in server.slots:
            if slot.phase is not SlotPhase.IDLE:
                yield f"    slot {slot.id} {slot.phase} · {_pairs(slot, _SLOT)}"
    if not frame.servers:
        yield f"server   {format.DASH}"
    for gpu in frame.gpus:
        yield f"gpu      {gpu.name or gpu.id} ({gpu.source})"
        yield f"    {_used(gpu, 'gtt')} · {_used(gpu, 'vram')} · {_pairs(gpu, _GPU)}"
    if frame.memory is not None:
        total = format.size(frame.memory.total_bytes)
        yield f"memory   {total} · {_pairs(frame.memory, _MEMORY)}"
    for source in frame.sources:
        if source.reason:
            yield f"source   {source.id}: {source.state}, {source.reason}" + (
                f" ({source.hint})" if source.hint else ""
            )


def _worth(server: Server, key: str) -> bool:
    value = getattr(server, key)
    return value is not None and (key != "still_seconds" or value >= STILL)


def _pairs(struct: Struct, keys: list[str]) -> str:
    owner = type(struct).__name__.lower()
    shown = (fields.BY_ID[f"{owner}.{key}"] for key in keys)
    return " · ".join(f"{field.label} {format.show(field, getattr(struct, field.key))}" for field in shown)


def _used(gpu: Gpu, pool: str) -> str:
    used, total = (fields.BY_ID[f"gpu.{pool}_{part}_bytes"] for part in ("used", "total"))
    return (
        f"{used.label} {format.show(used, getattr(gpu, used.key))}"
        f" of {format.show(total, getattr(gpu, total.key))}"
    )
