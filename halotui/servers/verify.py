"""Whether a server that was launched is what was asked for: it serves, and its own words say the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

from msgspec import Struct

from halotui.actions import Value
from halotui.collectors.http_wire import door_of
from halotui.collectors.llama_http import HttpKind, HttpProblem, LlamaHttp
from halotui.collectors.llama_log import LogParser
from halotui.format import count
from halotui.hosts import Host
from halotui.model import LogFacts
from halotui.servers.launch import Before, Expect, Launch

ANSWER_SECONDS = 60.0  # its clients are back at once, and older builds answer between two prompt batches only
MOST, FAR_MOST = 8 << 20, 512 << 10  # bytes of a log
ROUND = 256  # tokens: the context of a slot is rounded up to a multiple of this


class Shown(Struct, frozen=True, kw_only=True):
    """What a server shows of itself. Unknown is None."""

    slots: int | None = None
    slot_context_tokens: int | None = None
    speculative: bool | None = None
    backend: str | None = None
    build: str | None = None
    draft_failed: str | None = None


class Deviation(Struct, frozen=True):
    """Something that is not as asked; ``excused``: what ran before had it too."""

    text: str
    excused: bool


def expect_of(values: Mapping[str, Value], backend: str | None, speculates: bool | None) -> Expect:
    """What these settings ask for. ``speculates``: whether they do so on this very build."""
    slots, context = values.get("np"), values.get("c")
    slots = slots if isinstance(slots, int) and slots > 0 else None
    per_slot = None
    if isinstance(context, int) and context > 0:
        unified = values.get("kvu", slots is None)  # left to the server, it is one pool for all slots
        per_slot = context if unified else context // (slots or 1)
    return Expect(slots=slots, slot_context_tokens=per_slot, speculative=speculates, backend=backend)


async def look(http: LlamaHttp, log: LogFacts) -> Shown:
    """Ask a server that is up. Raises HttpProblem, TimeoutError."""
    async with asyncio.timeout(ANSWER_SECONDS):
        props = await http.props()
        try:
            slots = await http.slots()
        except HttpProblem as problem:
            if problem.kind is not HttpKind.OFF:
                raise
            slots = ()
    contexts = [slot.context_tokens for slot in slots if slot.context_tokens is not None]
    return Shown(
        slots=props.total_slots or len(slots) or None,
        slot_context_tokens=min(contexts) if contexts else props.context_tokens,
        speculative=any(slot.speculative for slot in slots) if slots else None,
        backend=log.backend,
        build=props.build or log.build,
        draft_failed=log.draft_failed,
    )


def log_facts(host: Host, path: str, start: int) -> LogFacts:
    """What the log has said from byte ``start`` on."""
    parser = LogParser()
    parser.feed(b"".join(line + b"\n" for line in log_lines(host, path, start)), keep=0)
    return parser.server.facts


def log_lines(host: Host, path: str, start: int, most: int | None = None) -> list[bytes]:
    """The first and the last of it, where it is longer than ``most`` bytes."""
    if not path:
        return []
    most = most or (MOST if host.here else FAR_MOST)
    try:
        size = host.stat(path).size
        start = start if start <= size else 0
        head = host.part(path, start, most // 2)
        rest = max(start + len(head), size - most // 2)
        return head.splitlines() + (host.part(path, rest, most // 2).splitlines() if rest < size else [])
    except OSError:
        return []


def deviations(expect: Expect, shown: Shown, before: Before | None) -> Iterator[Deviation]:
    """What is not as asked, with the numbers. Nothing that cannot be seen counts."""
    asked = before.asked if before is not None else Expect()
    if expect.slots is not None and shown.slots is not None and shown.slots != expect.slots:
        yield Deviation(
            f"asked for {_slots(expect.slots)}, it has {shown.slots}",
            excused=before is not None and asked.slots == expect.slots and before.slots == shown.slots,
        )
    least, context = expect.slot_context_tokens, shown.slot_context_tokens
    if least is not None and context is not None and context + ROUND <= least:
        yield Deviation(
            f"asked for {count(least)} tokens of context a slot, it has {count(context)}",
            excused=before is not None
            and asked.slot_context_tokens == least
            and before.slot_context_tokens == context,
        )
    if expect.speculative and shown.speculative is False:
        why = f": {shown.draft_failed}" if shown.draft_failed else ""
        yield Deviation(
            f"asked for speculation, it does not speculate{why}",
            excused=before is not None and bool(asked.speculative) and before.speculative is False,
        )
    if expect.backend and shown.backend and shown.backend != expect.backend:
        yield Deviation(f"asked for {expect.backend}, its log says {shown.backend}", excused=False)


def _slots(number: int) -> str:
    return f"{number} slot{'' if number == 1 else 's'}"


def same_server(host: Host, launch: Launch) -> LlamaHttp:
    """The way to ask the server of this launch."""
    return LlamaHttp(launch.url, launch.api_key, door=door_of(host))
