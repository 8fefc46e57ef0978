"""Where the panels stand: read from what is wrong down to why, the log last and first to shrink."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from halotui.widgets import findings, footer, hardware, header, log_pane, memory_bar, slots, speed, tabs
from halotui.widgets.rows import Row
from halotui.widgets.view import View

Rows = Callable[[View, int, int], list[Row]]

PANELS: dict[str, Rows] = {
    "header": header.rows,
    "tabs": tabs.rows,
    "findings": findings.rows,
    "speed": speed.rows,
    "memory": memory_bar.rows,
    "slots": slots.rows,
    "hardware": hardware.rows,
    "log": log_pane.rows,
    "footer": footer.rows,
}
SMALLEST = (60, 16)
WIDE = 150  # columns from which slots and hardware stand side by side


class Place(NamedTuple):
    panel: str
    x: int
    y: int
    width: int
    height: int


HARDWARE = 72  # columns that its four figures need side by side


def places(width: int, height: int, found: int, slot_count: int, servers: int = 1) -> list[Place]:
    """Panels from top to bottom; their heights add up to the screen's.

    ``found`` findings, ``slot_count`` slots and ``servers`` are what has to be shown.
    """
    wide = width >= WIDE
    trouble = min(found, max(1, height // 8))
    top = 2 if servers > 1 else 1
    body = height - 1 - top - trouble
    table = 2 + max(1, min(slot_count, 4 if height < 30 else 8 if height < 48 else 16))
    need = {"speed": 2, "memory": 3, "slots": table}
    spare = body - sum(need.values())
    if spare < 0:
        need["slots"] = max(3, need["slots"] + spare)
        spare = body - sum(need.values())
    # what more room brings, in this order: history, hardware, log, then taller pictures
    charts = min(max(0, spare), 3 if height < 30 else 5)
    need["speed"] += charts
    spare -= charts
    if wide:
        side = max(need["slots"], min(need["slots"] + max(0, spare), 9))
        spare -= side - need["slots"]
        need["slots"] = side
    else:
        hard = 0 if spare < 3 else 3 if spare < 12 else 7
        need["hardware"] = hard
        spare -= hard
    if spare >= 16:
        taller = min(4, (spare - 12) // 2)
        need["speed"] += taller
        spare -= taller
    need["log"] = spare if spare >= 2 else 0
    if not need["log"]:
        need["speed"] += max(0, spare)
    out = around(width, height, servers)
    foot = out.pop()
    y = top
    if trouble:
        out.append(Place("findings", 0, y, width, trouble))
        y += trouble
    for panel in ("speed", "memory", "slots", "hardware", "log"):
        rows = need.get(panel, 0)
        if rows <= 0:
            continue
        if panel == "slots" and wide:
            left = max(width * 11 // 20, min(width - HARDWARE, 2 * HARDWARE))
            out.append(Place("slots", 0, y, left, rows))
            out.append(Place("hardware", left, y, width - left, rows))
        else:
            out.append(Place(panel, 0, y, width, rows))
        y += rows
    return [*out, foot]


def around(width: int, height: int, servers: int) -> list[Place]:
    """What stands around every view: header, tabs where there are several servers, and last the footer."""
    tabs = [Place("tabs", 0, 1, width, 1)] if servers > 1 else []
    return [Place("header", 0, 0, width, 1), *tabs, Place("footer", 0, height - 1, width, 1)]
