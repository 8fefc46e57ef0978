"""What a server took of the memory: by device and kind; its KV cache, and what that would cost otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from halotui import format, kv
from halotui.model import Buffer, Server, ServerFacts
from halotui.widgets import hidden
from halotui.widgets.rows import FINDING, Ref, Run, fit, right, width_of
from halotui.widgets.sheet import LABEL, Line, Section, fact, facts, listed, words, wrapped
from halotui.widgets.view import View

_KINDS = (("model", ("model",)), ("KV", ("kv", "recurrent")), ("compute", ("compute", "output")))
_NAME, _CELL = 17, 10  # cells of a name at least, and of an amount


def memory(view: View, server: Server, width: int) -> Section:
    """A row a device; the draft model's below; then the sum."""
    known = server.facts or ServerFacts()
    lines: list[Line] = []
    if known.buffers:
        names = [kind for kind, _ in _KINDS]
        head = "".join(right(name, _CELL) for name in (*names, "total"))
        longest = max(width_of(buffer.device) for buffer in known.buffers) + 1
        name = max(_NAME, min(longest, width - 1 - _CELL * (len(names) + 1)))
        lines.append(Line((Run(f" {fit('device', name)}{head}", "dim"),)))
        for draft in (False, True):
            mine = [buffer for buffer in known.buffers if buffer.draft is draft]
            lines += [
                _of(device, [buffer for buffer in mine if buffer.device == device], name, draft)
                for device in dict.fromkeys(buffer.device for buffer in mine)
            ]
        if len(known.buffers) > 1:
            lines.append(_of("in all", known.buffers, name, style="value"))
    elif server.facts_hidden:
        lines += _hidden(view, server, width)
    for device in known.devices:
        parts = [device.name or ""]
        if device.total_bytes is not None:
            parts.append(format.size(device.total_bytes))
        if device.free_bytes is not None:
            parts.append(f"{format.size(device.free_bytes)} free before the load")
        told = listed((part for part in parts if part), width - LABEL)
        lines += [words("" if at else device.id, text) for at, text in enumerate(told)]
    source = server.provenance.get("buffers") if known.buffers else None
    return Section("memory by device", lines, (Run(source, "dim"),) if source else ())


def _hidden(view: View, server: Server, width: int) -> list[Line]:
    """Why there is nothing, and the way out."""
    found = hidden.finding(server)
    if found is None:
        return []
    ref = Ref(FINDING, f"{found.id} {found.subject}")
    out = [
        Line((Run("   " if at else " ▲ ", "warning"), Run(text, "text", ref)))
        for at, text in enumerate(wrapped(found.evidence, width - 4))
    ]
    if view.acting and found.patch:
        out.append(Line((Run("   "), Run("r", "value", ref), Run(" relaunches with -lv 4", "text", ref))))
    return out


def cache(view: View, server: Server, width: int) -> Section:
    """Of the target model."""
    known = server.facts or ServerFacts()
    lines = facts(
        view,
        server,
        (
            (server, "kv_cache_bytes"),
            (server, "kv_capacity_tokens"),
        ),
    )
    if server.kv_used_tokens is not None:
        more = [Run(" · ", "dim"), view.value(server, "kv_used_ratio", style="text")]
        full = more if server.kv_used_ratio is not None else []
        lines.append(fact(view, server, server, "kv_used_tokens", *full))
    if server.slots:
        lines += _shares(view, server)
    lines += facts(view, server, ((server, "kv_token_bytes"), (server, "kv_unified")))
    if known.cache_type_k is not None and known.cache_type_v is not None:
        other = view.value(known, "cache_type_v", style="text", subject=server.url)
        both = fact(view, server, known, "cache_type_k", Run(" · V ", "dim"), other, label="types")
        lines.append(both._replace(runs=(both.runs[0], Run("K ", "dim"), *both.runs[1:])))
    lines += facts(view, server, ((known, "kv_layers"),))
    costs = kv.costs(server)
    if costs is not None:
        lines += [
            words("" if at else "formula", text)
            for at, text in enumerate(wrapped(costs.formula, width - LABEL))
        ]
        if costs.slot_bytes is not None:
            told = f"+{format.size(costs.slot_bytes)}" if costs.slot_bytes else "nothing: all share one cache"
            lines.append(words("one more slot", told))
        others = [cost for cost in costs.types if cost.type != known.cache_type_k]
        types = listed((f"{cost.type} {format.size(cost.bytes)}" for cost in others), width - LABEL)
        lines += [words("" if at else "other types", text) for at, text in enumerate(types)]
    return Section("KV cache", lines)


def _shares(view: View, server: Server) -> list[Line]:
    """A bar of the capacity: what each slot holds."""
    held = [(slot.id, slot.used_tokens) for slot in server.slots if slot.used_tokens]
    capacity = server.kv_capacity_tokens
    if not capacity or not held:
        return []
    size = 24
    runs: list[Run] = [Run(" " * LABEL)]
    left = size
    for at, (_, tokens) in enumerate(held):
        cells = min(left, max(1, round(tokens / capacity * size)))
        left -= cells
        if cells:
            runs.append(Run("━" * cells, "chart2" if at % 2 else "chart"))
    runs.append(Run("━" * left, "faint"))
    return [Line(runs)]


def _of(device: str, buffers: Sequence[Buffer], width: int, draft: bool = False, style: str = "text") -> Line:
    sums = [sum(b.bytes for b in buffers if b.kind in kinds) for _, kinds in _KINDS]
    cells = [right(format.size(amount) if amount else format.DASH, _CELL) for amount in sums]
    total = right(format.size(sum(b.bytes for b in buffers)), _CELL)
    label = fit(f"{device}, draft" if draft else device, width)
    return Line((Run(f" {label}", "dim"), Run("".join(cells), "text"), Run(total, "value")))
