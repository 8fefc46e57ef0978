"""What a status bar may ask of a frame: a few words of ours, and every field by its id."""

from __future__ import annotations

import difflib
import re
import string
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from halotui import fields, format
from halotui.model import Finding, Frame, Gpu, Server, ServerState, Severity, Slot, SlotPhase

UNREACHABLE = "unreachable"  # the severity of a box that shows nothing
WORST = tuple(reversed(Severity))
MARKS = {Severity.CRITICAL: "✗", Severity.WARNING: "▲", Severity.INFO: "·"}
_TRICK = re.compile(r"([#%])(?=[\[({])")  # what tmux or polybar take for an order, in a name from a server
_AWAY = (ServerState.DOWN, ServerState.FAILED)


class TemplateError(ValueError):
    """One line: which key, and which are near."""


def worst(frame: Frame | None) -> str:
    """A severity, ``ok``, or :data:`UNREACHABLE`."""
    if frame is None or not shows(frame):
        return UNREACHABLE
    return next((str(one) for one in WORST if any(f.severity is one for f in frame.findings)), "ok")


def filled(template: str, frame: Frame | None) -> str:
    """The template with the frame's numbers in place of ``{field ids}``. Raises TemplateError."""
    pieces = _pieces(template)
    told = [None if key is None else format.DASH if frame is None else value(key, frame) for _, key in pieces]
    return "".join(
        text + _TRICK.sub(r"\1 ", said or "") for (text, _), said in zip(pieces, told, strict=True)
    )


def check(template: str) -> None:
    """Raises TemplateError."""
    for _, key in _pieces(template):
        if key is not None and key not in _WORDS and key not in fields.BY_ID:
            near = difflib.get_close_matches(key, [*_WORDS, *fields.BY_ID], 3, 0.5)
            hint = f"did you mean {', '.join(near)}?" if near else f"words are {', '.join(_WORDS)}"
            raise TemplateError(f"there is no field '{key}'; {hint}")


def value(key: str, frame: Frame) -> str:
    """A word of ours, or a field of the server, GPU, slot ... that matters now."""
    if key in _WORDS:
        return _WORDS[key](frame)
    field = fields.BY_ID[key]
    owner: Any = _OWNERS[field.owner](frame)
    found = owner.get(field.key) if isinstance(owner, Mapping) else getattr(owner, field.key, None)
    if isinstance(found, (tuple, list)):
        found = " ".join(map(str, found)) or None
    return format.show(field, found)


def server_of(frame: Frame) -> Server | None:
    """The one at work; else one that is up."""
    by_use = sorted(frame.servers, key=lambda s: (s.state is not ServerState.BUSY, s.state in _AWAY))
    return by_use[0] if by_use else None


def gpu_of(frame: Frame) -> Gpu | None:
    """The APU, where there are several."""
    return next((gpu for gpu in frame.gpus if gpu.integrated), frame.gpus[0] if frame.gpus else None)


def finding_of(frame: Frame) -> Finding | None:
    """The worst."""
    return next((f for one in WORST for f in frame.findings if f.severity is one), None)


def _slot(frame: Frame) -> Slot | None:
    server = server_of(frame)
    slots = server.slots if server is not None else ()
    return next((slot for slot in slots if slot.phase is not SlotPhase.IDLE), slots[0] if slots else None)


def _first(things: Iterable[Any]) -> Any:
    return next(iter(things), None)


_OWNERS: dict[str, Callable[[Frame], Any]] = {
    "server": server_of,
    "facts": lambda frame: getattr(server_of(frame), "facts", None),
    "model": lambda frame: _first(getattr(server_of(frame), "models", ())),
    "request": lambda frame: _first(reversed(getattr(server_of(frame), "requests", ()))),
    "slot": _slot,
    "gpu": gpu_of,
    "throttle": lambda frame: getattr(gpu_of(frame), "throttle", None),
    "memory": lambda frame: frame.memory,
    "account": lambda frame: frame.account,
    "system": lambda frame: frame.system,
    "energy": lambda frame: frame.energy,
    "platform": lambda frame: frame.platform,
    "holder": lambda frame: _first(frame.holders),
    "process": lambda frame: _first(frame.holders),
}


def model(frame: Frame) -> str:
    server = server_of(frame)
    if server is None:
        return format.DASH
    return (server.model or "").rpartition("/")[2].removesuffix(".gguf") or server.engine


def speed(frame: Frame) -> str:
    """What it does: tokens a second, else its state."""
    server = server_of(frame)
    if server is None:
        return format.DASH
    for key, mark in (("generation", ""), ("prompt", "↑")):
        if rate := getattr(server, f"{key}_tokens_per_second"):
            return f"{mark}{format.rate(rate)} t/s"
    return str(server.state)


def slots(frame: Frame) -> str:
    server = server_of(frame)
    if server is None or server.slots_busy is None or not server.slots_total:
        return ""
    return f"{server.slots_busy}/{server.slots_total}"


def gtt_percent(frame: Frame) -> int | None:
    gpu = gpu_of(frame)
    if gpu is None or gpu.gtt_used_bytes is None or not gpu.gtt_total_bytes:
        return None
    return round(100 * gpu.gtt_used_bytes / gpu.gtt_total_bytes)


def gtt(frame: Frame) -> str:
    percent = gtt_percent(frame)
    return "" if percent is None else f"GTT {percent} %"


def power(frame: Frame) -> str:
    gpu = gpu_of(frame)
    if gpu is None or gpu.socket_power_watts is None:
        return ""
    return f"{gpu.socket_power_watts:.0f} W"


def finding(frame: Frame) -> str:
    finding = finding_of(frame)
    if finding is None:
        return ""
    more = len(frame.findings) - 1
    return f"{MARKS[finding.severity]} {finding.id}" + (f" +{more}" if more else "")


_WORDS: dict[str, Callable[[Frame], str]] = {  # of a template, beside the field ids
    "host": lambda frame: frame.host,
    "model": model,
    "speed": speed,
    "slots": slots,
    "gtt": gtt,
    "power": power,
    "finding": finding,
    "title": lambda frame: getattr(finding_of(frame), "title", ""),
    "findings": lambda frame: str(len(frame.findings)),
    "severity": worst,
}
WORDS = tuple(_WORDS)


def shows(frame: Frame) -> bool:
    return bool(frame.gpus) or any(server.state is not ServerState.DOWN for server in frame.servers)


def _pieces(template: str) -> list[tuple[str, str | None]]:
    """Text, and the key behind it."""
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise TemplateError(f"'{template}': {error}") from None
    for _, key, spec, conversion in pieces:
        if spec or conversion:
            raise TemplateError(f"'{{{key}}}' takes no format of its own")
    return [(text, key) for text, key, _, _ in pieces]
