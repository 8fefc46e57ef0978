"""A frame as one line for a status bar: ``halotui line``. Pure: how each bar wants it is a table."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from halotui import format
from halotui.exporters.line_values import (
    MARKS,
    UNREACHABLE,
    WORST,
    filled,
    finding,
    finding_of,
    gtt,
    gtt_percent,
    model,
    power,
    server_of,
    shows,
    slots,
    speed,
    worst,
)
from halotui.model import Frame, Severity


class Part(NamedTuple):
    """A piece of the line; those of the lowest rank go first where there is no room."""

    text: str
    rank: int
    severity: Severity | None = None  # None: it has no colour


class Bar(NamedTuple):
    """How a kind of bar wants its text."""

    escape: Callable[[str], str]
    colours: Mapping[Severity, str]  # what goes before ...
    end: str = ""  # ... and after


def _plain(text: str) -> str:
    return text


BARS = {
    "plain": Bar(_plain, {}),
    # What tmux takes from a command it expands like the rest of its status line.
    "tmux": Bar(
        lambda text: text.replace("#", "##"),
        {
            Severity.CRITICAL: "#[fg=red,bold]",
            Severity.WARNING: "#[fg=yellow]",
            Severity.INFO: "#[fg=cyan]",
        },
        "#[default]",
    ),
    # %{...} may hold a click's command: a name from a server must never become one.
    "polybar": Bar(
        lambda text: text.replace("%{", "% {"),
        {
            Severity.CRITICAL: "%{F#ff6b6b}",
            Severity.WARNING: "%{F#e0b050}",
            Severity.INFO: "%{F#4cc9b0}",
        },
        "%{F-}",
    ),
    "waybar": Bar(html.escape, {}),  # pango; the colour is the class's, in the bar's CSS
}


def line(boxes: Sequence[tuple[str, Frame | None]], kind: str = "plain", *, width: int = 0) -> str:
    """The boxes, each with its name where it needs one, and None where nothing is known of it. ``kind``: of
    :data:`BARS`, or a template. ``width``: cells at most, 0: as long as it is. Raises TemplateError."""
    bar = BARS.get(kind)
    if bar is None:
        text = " | ".join(filled(kind, frame) for _, frame in boxes)
        return cut(text, width)
    rows = [_parts(frame, name) for name, frame in boxes]
    parts = _fitting(rows, width)
    text = " ".join(_painted(part, bar) for part in parts)
    return _waybar(text, boxes) if kind == "waybar" else text


def cut(text: str, width: int) -> str:
    """At most so many cells; 0: all of it."""
    if not width or cells(text) <= width:
        return text
    kept, left = [], width - 1
    for char in text:
        left -= cells(char)
        if left < 0:
            break
        kept.append(char)
    return "".join(kept) + "…"


def cells(text: str) -> int:
    """Terminal cells that it takes."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


# --- the line itself


def _parts(frame: Frame | None, name: str) -> list[Part]:
    head = [Part(name, 6)] if name else []
    if frame is None or not shows(frame):
        return [*head, Part(format.DASH, 5)]
    loudest = finding_of(frame)
    found = [
        Part(model(frame), 2),
        Part(speed(frame), 5),
        Part(slots(frame), 1),
        Part(gtt(frame), 3),
        Part(power(frame), 0),
        Part(finding(frame), 4, loudest.severity if loudest is not None else None),
    ]
    if server_of(frame) is None:  # a box that serves nothing: its GPU is all there is
        found = found[2:]
    return head + [part for part in found if part.text]


def _fitting(rows: list[list[Part]], width: int) -> list[Part]:
    """Without what there is no room for; what cannot go is cut."""
    while width and cells(_joined(rows)) > width:
        spare = [(part.rank, -at) for at, row in enumerate(rows) if len(row) > 1 for part in row]
        if not spare:
            break
        rank, at = min(spare)
        rows[-at] = [part for part in rows[-at] if part.rank != rank]
    parts: list[Part] = []
    for row in rows:
        parts += [Part("|", 9), *row] if parts else row
    if width and cells(" ".join(part.text for part in parts)) > width:
        return [Part(cut(" ".join(part.text for part in parts), width), 9)]
    return parts


def _joined(rows: list[list[Part]]) -> str:
    return " | ".join(" ".join(part.text for part in row) for row in rows)


def _painted(part: Part, bar: Bar) -> str:
    text = bar.escape(part.text)
    colour = bar.colours.get(part.severity) if part.severity is not None else None
    return f"{colour}{text}{bar.end}" if colour else text


def _waybar(text: str, boxes: Sequence[tuple[str, Frame | None]]) -> str:
    """A JSON object, as a custom module with ``return-type: json`` takes it."""
    classes = [worst(frame) for _, frame in boxes]
    order = [*map(str, WORST), UNREACHABLE, "ok"]
    kind = min(classes, key=order.index)
    percent = next((p for _, frame in boxes if frame is not None and (p := gtt_percent(frame))), None)
    said = {"text": text, "tooltip": _tooltip(boxes), "class": kind, "alt": kind}
    return msgspec.json.encode(said if percent is None else {**said, "percentage": percent}).decode()


def _tooltip(boxes: Sequence[tuple[str, Frame | None]]) -> str:
    rows = []
    for name, frame in boxes:
        if frame is None:
            rows.append(f"{name or 'halotui'}: nothing is reachable")
            continue
        rows.append(f"{name or frame.host}: {' '.join(part.text for part in _parts(frame, ''))}")
        rows += [f"{MARKS[f.severity]} {f.title}: {f.evidence}" for f in frame.findings]
    return html.escape("\n".join(rows))
