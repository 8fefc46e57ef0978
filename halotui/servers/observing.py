"""What a running server shows of itself before it is touched. Never wakes one, never raises."""

from __future__ import annotations

import asyncio
import re

from msgspec import Struct

from halotui.collectors.http_wire import Door, door_of
from halotui.collectors.llama_http import HttpProblem, LlamaHttp
from halotui.hosts import Host, LinkDown
from halotui.model import Props, ServerProcess, SlotReading
from halotui.safe import clean
from halotui.servers import room
from halotui.servers.verify import log_lines

ANSWER_SECONDS = 3.0  # older builds answer between two prompt batches only
_LOADED = re.compile(r"(?:^|\s)(\d+)\.(\d\d)\.(\d{3})\.\d{3} \w .*\bmodel loaded$")  # since its start


class Observed(Struct, frozen=True, kw_only=True):
    """Unknown is None."""

    slots: int | None = None
    slot_context_tokens: int | None = None
    speculative: bool | None = None
    busy: int | None = None  # slots at work
    load_seconds: float | None = None
    held_bytes: int | None = None  # of GTT and VRAM


async def observe(host: Host, facts: ServerProcess, api_key: str | None) -> Observed:
    """``GET /props`` and, unless it may sleep, ``GET /slots``; its log; its share of the GPU's memory."""
    props, slots = await _ask(facts, api_key, door_of(host))
    contexts = [slot.context_tokens for slot in slots if slot.context_tokens is not None]
    return Observed(
        slots=props.total_slots or len(slots) or None,
        slot_context_tokens=min(contexts) if contexts else props.context_tokens,
        speculative=any(slot.speculative for slot in slots) if slots else None,
        busy=sum(slot.processing for slot in slots) if slots else None,
        load_seconds=await asyncio.to_thread(load_seconds, host, facts.log_path or ""),
        held_bytes=sum(await asyncio.to_thread(room.held, host, facts.pid)) or None,
    )


async def _ask(
    facts: ServerProcess, api_key: str | None, door: Door | None
) -> tuple[Props, tuple[SlotReading, ...]]:
    props, slots = Props(), tuple[SlotReading, ...]()
    http = LlamaHttp(facts.url, api_key, door=door)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            props = await http.props()
            if not facts.sleep_idle_seconds and not props.is_sleeping:
                slots = await http.slots()
    except (HttpProblem, TimeoutError, LinkDown):
        pass
    finally:
        await http.aclose()
    return props, slots


def load_seconds(host: Host, log_path: str, start: int = 0) -> float | None:
    """Of its last start, from its log from byte ``start`` on; None where the lines carry no time."""
    for line in reversed(log_lines(host, log_path, start)):
        if found := _LOADED.search(clean(line)):
            minutes, seconds, thousandths = map(int, found.groups())
            return minutes * 60 + seconds + thousandths / 1000
    return None
