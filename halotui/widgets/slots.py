"""Who is doing it: a row a slot, what it works on and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from halotui import fields, format
from halotui.model import Server, ServerState, Slot, SlotPhase
from halotui.widgets import models
from halotui.widgets.columns import fitting
from halotui.widgets.rows import Ref, Row, Run, fill, right, rule
from halotui.widgets.view import View

STUCK_SECONDS = 30.0  # without a token, a batch or a line of the log
_ROOMY = 72  # columns from which the rule tells of the KV cache
_PHASE_STYLE = {SlotPhase.IDLE: "dim", SlotPhase.PROMPT: "value", SlotPhase.DECODE: "life"}
Text = tuple[str, str]  # what is shown, and of which field
Cell = Callable[[Slot], Text]


def _prompt(slot: Slot) -> Text:
    """Progress where the log tells the total, else tokens computed so far (and reused ones behind a +)."""
    if slot.prompt_progress_ratio is not None:
        return format.percent(slot.prompt_progress_ratio), "slot.prompt_progress_ratio"
    if slot.prompt_processed_tokens is None or slot.phase == SlotPhase.IDLE:
        return format.DASH, "slot.prompt_processed_tokens"
    cached = f"+{format.count(slot.prompt_cached_tokens)}" if slot.prompt_cached_tokens else ""
    return format.count(slot.prompt_processed_tokens) + cached, "slot.prompt_processed_tokens"


def _tokens(slot: Slot) -> Text:
    if slot.generated_tokens is None:
        return format.DASH, "slot.generated_tokens"
    left = slot.remaining_tokens
    total = f" of {format.count(slot.generated_tokens + left)}" if left is not None and left >= 0 else ""
    return format.count(slot.generated_tokens) + total, "slot.generated_tokens"


def _speed(slot: Slot) -> Text:
    """Prefill speed while the prompt runs, decode speed after."""
    key = "prompt" if slot.phase == SlotPhase.PROMPT else "generation"
    speed = getattr(slot, f"{key}_tokens_per_second")
    return (format.rate(speed) if speed is not None else format.DASH), f"slot.{key}_tokens_per_second"


def _in_phase(slot: Slot) -> Text:
    """Of an idle slot from a minute on: a quiet box is a quiet screen."""
    seconds = slot.phase_seconds
    quiet = seconds is None or (slot.phase == SlotPhase.IDLE and seconds < 60)
    return (format.DASH if quiet else format.duration(seconds or 0)), "slot.phase_seconds"


def _plain(key: str) -> Cell:
    field = fields.BY_ID[f"slot.{key}"]
    return lambda slot: (format.show(field, getattr(slot, key)), field.id)


Part = tuple[float | None, str]  # how much of a bar is full, and its style


def _phase(slot: Slot) -> Part:
    """How far the prompt is, then the answer, where its end is known."""
    if slot.phase == SlotPhase.PROMPT:
        return slot.prompt_progress_ratio, "chart2"
    done, left = slot.generated_tokens, slot.remaining_tokens
    if slot.phase == SlotPhase.IDLE or done is None or left is None or left < 0 or not done + left:
        return None, ""
    return done / (done + left), "chart"


class Column(NamedTuple):
    heading: str
    width: int
    cell: Callable[[Slot], Text] | Callable[[Slot], Part]
    rank: int = 0  # 0 stays longest when room is short
    style: str = "text"  # of a known value


_COLUMNS = (
    Column("", 7, _phase, 4, "bar"),
    Column("task", 8, _plain("task"), 1, "dim"),
    Column("new+cached", 13, _prompt),
    Column("tokens", 15, _tokens),
    Column("t/s", 7, _speed, style="value"),
    Column("ctx", 6, _plain("used_ratio")),
    Column("", 9, lambda slot: (slot.used_ratio, "chart2"), 2, "bar"),
    Column("ctx tokens", 13, _plain("used_tokens"), 5, "dim"),
    Column("KV", 6, _plain("kv_ratio"), 6, "dim"),
    Column("draft", 7, _plain("draft_acceptance_ratio")),
    Column("cover", 7, _plain("draft_coverage_ratio")),
    Column("in phase", 9, _in_phase, 3),
    Column("elapsed", 9, _plain("elapsed_seconds")),
)
_NEED = 12  # cells of number and phase


def rows(view: View, width: int, height: int) -> list[Row]:
    """A rule, the headings, a row a slot; the last row says how many are not shown."""
    server = view.server
    if server is not None and server.models and not server.slots:
        return models.rows(view, width, height)
    out = [rule("slots", width, _note(view, width))]
    columns = fitting(_COLUMNS, width - _NEED)
    headings = [Run("  #  ", "dim"), Run(f"{'phase':<7}", "dim")]
    headings += [Run(right(column.heading, column.width), "dim") for column in columns]
    out.append(fill(headings, width))
    if server is None or not server.slots:
        out.append(fill((Run(f"  {_why(view, server)}", "dim"),), width))
        return out[:height]
    room = height - len(out)
    shown = server.slots if len(server.slots) <= room else _busy_first(server)[: max(0, room - 1)]
    out += [_line(server, slot, columns, width) for slot in shown]
    if len(shown) < len(server.slots):
        out.append(fill((Run(f"     and {len(server.slots) - len(shown)} more", "dim"),), width))
    return out[:height]


def is_stuck(slot: Slot) -> bool:
    return slot.still_seconds is not None and slot.still_seconds > STUCK_SECONDS


def _line(server: Server, slot: Slot, columns: list[Column], width: int) -> Row:
    subject = f"{server.url}#{slot.id}"
    style = _PHASE_STYLE[slot.phase] if server.state is not ServerState.WAITING else "late"
    if is_stuck(slot):
        style = "warning"
    line = [
        Run(f"{slot.id:>3}  ", "dim", Ref("slot.id", subject)),
        Run(f"{slot.phase:<7}", style, Ref("slot.phase", subject)),
    ]
    for column in columns:
        told, of = column.cell(slot)
        if isinstance(told, str):
            known = "dim" if style in ("dim", "late") or told == format.DASH else column.style
            if style == "warning" and of in ("slot.elapsed_seconds", "slot.phase_seconds"):
                known = style
            line.append(Run(right(told, column.width), known, Ref(of, subject)))
        else:
            line += _bar(told, of, column.width)
    return fill(line, width)


def _bar(ratio: float | None, style: str, width: int) -> list[Run]:
    """A blank, then the bar; nothing where it is not known."""
    if ratio is None:
        return [Run(" " * width)]
    size = width - 1
    full = round(min(1.0, max(0.0, ratio)) * size)
    return [Run(" " + "━" * full, style), Run("━" * (size - full), "faint")]


def _note(view: View, width: int) -> list[Run]:
    """How many are at work, who waits, and how full the memory is that they share or part."""
    server = view.server
    if server is None:
        return []
    note: list[Run] = []
    if stuck := [slot for slot in server.slots if is_stuck(slot)]:
        who = f"slot {stuck[0].id}" if len(stuck) == 1 else f"{len(stuck)} slots"
        still = max(slot.still_seconds or 0 for slot in stuck)
        note += [Run(f"{who} still for {format.duration(still)}", "warning"), Run(" · ", "dim")]
    if width >= _ROOMY and server.kv_used_ratio is not None:
        kind = {True: "unified KV ", False: "split KV "}.get(server.kv_unified, "KV ")  # type: ignore[arg-type]
        note += [Run(kind, "dim"), view.value(server, "kv_used_ratio", 0, "text"), Run(" · ", "dim")]
    queue = view.value(server, "requests_deferred", 0, "value")
    if server.requests_deferred:
        queue = queue._replace(style="warning")
    return [
        *note,
        view.value(server, "slots_busy", 0, "text"),
        Run(" of ", "dim"),
        view.value(server, "slots_total", 0, "text"),
        Run(" busy · queue ", "dim"),
        queue,
    ]


def _busy_first(server: Server) -> tuple[Slot, ...]:
    return tuple(
        sorted(server.slots, key=lambda slot: (not is_stuck(slot), slot.phase == SlotPhase.IDLE, slot.id))
    )


def _why(view: View, server: Server | None) -> str:
    """Why there is no table."""
    if server is None:
        return "no llama-server"
    endpoint = view.sources.get(f"/slots {server.url}")
    why = server.reason or (endpoint.reason if endpoint is not None else None) or str(server.state)
    if server.load_bytes_per_second is None:
        return why
    return f"{why} · {format.size(server.load_bytes_per_second)}/s from disk"
