"""A frame as text for people and pipes: ``halotui --once``. Labels and units come from the field table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from halotui import fields, format
from halotui.model import (
    Account,
    Energy,
    Frame,
    Gpu,
    Holder,
    KernelEvent,
    Memory,
    Platform,
    Server,
    Severity,
    Slot,
    SlotPhase,
    SourceState,
    System,
)

Struct = Account | Energy | Gpu | Holder | Memory | Server | Slot | System
EVENTS = 3  # of a server or the kernel, the newest
HOLDERS = 8  # the largest
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
_GPU_MORE = [  # told where it is known
    "sclk_limit_hertz",
    "cpu_power_watts",
    "cpu_hertz",
    "npu_busy_percent",
    "npu_power_watts",
    "media_busy_percent",
    "held_by",
    "performance_level",
]
_ACCOUNT = ["headroom_bytes", "rocm_free_bytes", "vulkan_free_bytes", "leaked_gtt_bytes"]
_SYSTEM = [
    "cpu_busy_percent",
    "cpu_temperature_celsius",
    "memory_pressure_percent",
    "disk_read_bytes_per_second",
    "disk_write_bytes_per_second",
    "network_receive_bytes_per_second",
    "network_send_bytes_per_second",
]
_ENERGY = ["watt_hours", "decode_joules_per_token", "prefill_joules_per_token"]
_HOLDER = ["gtt_bytes", "vram_bytes", "rss_bytes", "cpu_percent", "gpu_percent"]
_PLATFORM = [
    "product",
    "bios",
    "distribution",
    "kernel",
    "firmware",
    "mes",
    "mesa",
    "rocm",
    "power_mode",
    "npu",
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
    "decode_bandwidth_ratio",
    "prefill_compute_ratio",
    "load_bytes_per_second",
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
        yield f"gpu      {gpu.name or gpu.id} ({gpu.source})" + (" asleep" if gpu.asleep else "")
        yield f"    {_used(gpu, 'gtt')} · {_used(gpu, 'vram')} · {_pairs(gpu, _GPU)}"
        if rest := _known(gpu, _GPU_MORE):
            yield f"    {rest}"
        if gpu.busy_doubtful:
            yield "    busy is doubtful: nobody on the box is at work"
        if gpu.throttle:
            steps = (f"{_label(name)} {format.digits(rate)}/s" for name, rate in gpu.throttle.items())
            yield f"    limiters {' · '.join(steps)}"
    if frame.memory is not None:
        total = format.size(frame.memory.total_bytes)
        yield f"memory   {total} · {_pairs(frame.memory, _MEMORY)}"
    if frame.account is not None and (rest := _known(frame.account, _ACCOUNT)):
        yield f"    {rest}"
    for holder in frame.holders[:HOLDERS]:
        where = holder.container or holder.unit
        place = f" in {where}" if where else ""
        hidden = " · its GPU memory is hidden from us" if holder.hidden else ""
        yield f"process  {holder.pid} {holder.name}{place} · {_known(holder, _HOLDER)}{hidden}"
    if frame.system is not None:
        yield f"system   {_known(frame.system, _SYSTEM) or format.DASH}"
    if frame.energy is not None:
        yield f"energy   {_known(frame.energy, _ENERGY)}"
    if frame.platform is not None:
        yield from _platform(frame.platform)
    yield from _kernel([event for one in (*earlier, frame) for event in one.kernel])
    for source in frame.sources:
        if source.reason and source.state is not SourceState.UNUSED:
            yield f"source   {source.id}: {source.state}, {source.reason}" + (
                f" ({source.hint})" if source.hint else ""
            )


def _platform(platform: Platform) -> Iterator[str]:
    told = [
        f"{fields.BY_ID[f'platform.{key}'].label} {value}"
        for key in _PLATFORM
        if (value := getattr(platform, key))
    ]
    yield f"platform {' · '.join(told) or format.DASH}"
    if platform.kernel_parameters:
        yield f"    {' '.join(platform.kernel_parameters)}"


def _kernel(events: Sequence[KernelEvent]) -> Iterator[str]:
    for event in [event for event in events if event.severity is not Severity.INFO][-EVENTS:]:
        when = f" {format.clock(event.time)}" if event.time is not None else ""
        who = f" ({event.process} pid {event.pid})" if event.process else ""
        yield f"kernel   {event.severity}{when} {event.text}{who}"


def _label(limiter: str) -> str:
    return fields.BY_ID[f"throttle.{limiter}"].label


def _known(struct: Struct, keys: list[str]) -> str:
    return _pairs(struct, [key for key in keys if getattr(struct, key) is not None])


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
