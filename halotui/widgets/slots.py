"""Who is doing it: a row a slot, what it works on and how far it is."""

from __future__ import annotations

from collections.abc import Callable

from halotui import fields, format
from halotui.model import Server, ServerState, Slot, SlotPhase
from halotui.widgets.rows import Ref, Row, Run, fill, right, rule
from halotui.widgets.view import View

_PHASE_STYLE = {SlotPhase.IDLE: "dim", SlotPhase.PROMPT: "value", SlotPhase.DECODE: "life"}


def _prompt(slot: Slot) -> tuple[str, str]:
    """Progress where the log tells the total, else tokens computed so far (and reused ones behind a +)."""
    if slot.prompt_progress_ratio is not None:
        return format.percent(slot.prompt_progress_ratio), "slot.prompt_progress_ratio"
    if slot.prompt_processed_tokens is None or slot.phase == SlotPhase.IDLE:
        return format.DASH, "slot.prompt_processed_tokens"
    cached = f"+{format.count(slot.prompt_cached_tokens)}" if slot.prompt_cached_tokens else ""
    return format.count(slot.prompt_processed_tokens) + cached, "slot.prompt_processed_tokens"


def _tokens(slot: Slot) -> tuple[str, str]:
    if slot.generated_tokens is None:
        return format.DASH, "slot.generated_tokens"
    left = slot.remaining_tokens
    total = f" of {format.count(slot.generated_tokens + left)}" if left is not None and left >= 0 else ""
    return format.count(slot.generated_tokens) + total, "slot.generated_tokens"


def _speed(slot: Slot) -> tuple[str, str]:
    """Prefill speed while the prompt runs, decode speed after."""
    speed = (
        slot.prompt_tokens_per_second if slot.phase == SlotPhase.PROMPT else slot.generation_tokens_per_second
    )
    return (format.rate(speed) if speed is not None else format.DASH), "slot.generation_tokens_per_second"


def _plain(key: str) -> Callable[[Slot], tuple[str, str]]:
    field = fields.BY_ID[f"slot.{key}"]
    return lambda slot: (format.show(field, getattr(slot, key)), field.id)


# heading, width, text of a slot, style of a known value, whether it can be left out
_COLUMNS: tuple[tuple[str, int, Callable[[Slot], tuple[str, str]], str, bool], ...] = (
    ("task", 8, _plain("task"), "dim", True),
    ("new+cached", 13, _prompt, "text", False),
    ("tokens", 15, _tokens, "text", False),
    ("t/s", 7, _speed, "value", False),
    ("ctx", 6, _plain("used_ratio"), "text", False),
    ("ctx tokens", 13, _plain("used_tokens"), "dim", True),
    ("draft", 7, _plain("draft_acceptance_ratio"), "text", False),
    ("cover", 7, _plain("draft_coverage_ratio"), "text", False),
    ("elapsed", 9, _plain("elapsed_seconds"), "text", False),
)
_NEED = 12  # cells of number and phase
_BAR = 12  # cells of the context bar on wide screens


def rows(view: View, width: int, height: int) -> list[Row]:
    """A rule, the headings, a row a slot; the last row says how many are not shown."""
    server = view.server
    note: list[Run] = []
    if server is not None:
        queue = view.value(server, "requests_deferred", 0, "value")
        if server.requests_deferred:
            queue = queue._replace(style="warning")
        note = [
            view.value(server, "slots_busy", 0, "text"),
            Run(" of ", "dim"),
            view.value(server, "slots_total", 0, "text"),
            Run(" busy · queue ", "dim"),
            queue,
        ]
    out = [rule("slots", width, note)]
    whole = _NEED + sum(column[1] for column in _COLUMNS) <= width
    columns = [column for column in _COLUMNS if whole or not column[4]]
    bar = min(_BAR, width - _NEED - sum(column[1] for column in columns) - 4)
    headings = [Run("  #  ", "dim"), Run(f"{'phase':<7}", "dim")]
    headings += [Run(right(heading, size), "dim") for heading, size, *_ in columns]
    out.append(fill(headings, width))
    if server is None or not server.slots:
        out.append(fill((Run(f"  {_why(view, server)}", "dim"),), width))
        return out[:height]
    room = height - len(out)
    shown = server.slots if len(server.slots) <= room else _busy_first(server)[: max(0, room - 1)]
    for slot in shown:
        subject = f"{server.url}#{slot.id}"
        style = _PHASE_STYLE[slot.phase] if server.state is not ServerState.WAITING else "late"
        line = [
            Run(f"{slot.id:>3}  ", "dim", Ref("slot.id", subject)),
            Run(f"{slot.phase:<7}", style, Ref("slot.phase", subject)),
        ]
        for _, size, text_of, known, _ in columns:
            text, ref = text_of(slot)
            dim = style in ("dim", "late") or text == format.DASH
            line.append(Run(right(text, size), "dim" if dim else known, Ref(ref, subject)))
        if bar >= 6 and slot.used_ratio is not None:
            full = round(min(1.0, slot.used_ratio) * bar)
            line += [Run("   " + "━" * full, "chart2"), Run("━" * (bar - full), "faint")]
        out.append(fill(line, width))
    if len(shown) < len(server.slots):
        out.append(fill((Run(f"     and {len(server.slots) - len(shown)} more", "dim"),), width))
    return out[:height]


def _busy_first(server: Server) -> tuple[Slot, ...]:
    return tuple(sorted(server.slots, key=lambda slot: (slot.phase == SlotPhase.IDLE, slot.id)))


def _why(view: View, server: Server | None) -> str:
    """Why there is no table."""
    if server is None:
        return "no llama-server"
    endpoint = view.sources.get(f"/slots {server.url}")
    return server.reason or (endpoint.reason if endpoint is not None else None) or str(server.state)
