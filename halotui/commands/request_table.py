"""Requests as a table, as JSON, and line by line. Rates are the log's own, with its two decimals."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from halotui import format
from halotui.benching.tables import Table, render
from halotui.commands.request_log import Row
from halotui.fields import BY_ID
from halotui.figures import QUANTITIES, Figures
from halotui.model import Request
from halotui.safe import clean

# Of each request in JSON, known or not.
KEYS = (
    "slot",
    "task",
    "prompt_tokens",
    "cached_tokens",
    "prompt_tokens_per_second",
    "generation_tokens",
    "generation_tokens_per_second",
    "draft_tokens",
    "draft_accepted_tokens",
    "draft_coverage_ratio",
    "end",
)
_ALL = (*KEYS, *(key for key in Request.__struct_fields__ if key not in KEYS))
_RATE = "_per_second"


class Column(NamedTuple):
    """``always``: also when no request knows it."""

    key: str
    always: bool = False
    width: int = 8  # where lines come one by one

    @property
    def head(self) -> str:
        return _HEADS.get(self.key) or BY_ID[f"request.{self.key}"].label


_HEADS = {"server": "server", "port": "port"}
COLUMNS = (
    Column("server", width=21),
    Column("port", width=5),
    Column("ended_time"),
    Column("slot", True, 4),
    Column("task", True, 6),
    Column("prompt_tokens", True, 6),
    Column("cached_tokens", True, 6),
    Column("prompt_tokens_per_second", True, 9),
    Column("ttft_seconds", True, 7),
    Column("generation_tokens", True, 9),
    Column("generation_tokens_per_second", True, 8),
    Column("draft_tokens", False, 7),
    Column("draft_accepted_tokens", False, 8),
    Column("draft_acceptance_ratio", False, 5),
    Column("draft_coverage_ratio", False, 5),
    Column("draft_mean_tokens", False, 11),
    Column("context_tokens", False, 6),
    Column("wall_seconds", False, 7),
    Column("end", True, 9),
)


# The first to be left out where a terminal is too narrow for all. --csv and --json have them.
_DISPENSABLE = (
    "draft_mean_tokens",
    "context_tokens",
    "draft_tokens",
    "draft_accepted_tokens",
    "wall_seconds",
    "ended_time",
    "draft_coverage_ratio",
    "draft_acceptance_ratio",
)


def room() -> int | None:
    """Characters of a line, on a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _fitting(widths: dict[Column, int], room: int | None) -> list[Column]:
    """Columns that fit beside each other; how long the reason of an end is does not count."""
    kept = {**widths}
    for key in _DISPENSABLE:
        if room is None or sum(width + 2 for width in kept.values()) - 2 <= room:
            break
        kept = {column: width for column, width in kept.items() if column.key != key}
    return list(kept)


# --- a table


def table(rows: Sequence[Row], *, server: bool, room: int | None = None) -> str:
    """What no request knows is left out, where it says nothing, and what ``room`` characters do not hold."""
    shown = [column for column in COLUMNS if _told(column, rows) and (server or column.key != "server")]
    days = {time.strftime("%F", time.localtime(row.sample.time)) for row in rows if row.sample.time}
    dated = bool(days - {time.strftime("%F")})
    of_column = {column: [column.head, *(_cell(row, column.key, dated) for row in rows)] for column in shown}
    widths = {
        column: column.width if column.key == "end" else max(map(len, cells))
        for column, cells in of_column.items()
    }
    head, *cells = zip(*(of_column[column] for column in _fitting(widths, room)), strict=True)
    end = max(len(row[-1]) for row in (head, *cells))  # the last column is words: they begin in one line
    head, *cells = [(*row[:-1], f"{row[-1]:{end}}") for row in (head, *cells)]
    return render(Table(head, cells, left=0), "table")


def _told(column: Column, rows: Sequence[Row]) -> bool:
    return column.always or any(_value(row, column.key) not in (None, "") for row in rows)


def summary(found: Figures) -> str:
    """How they ended, and the percentiles of what is known."""
    ends = ", ".join(f"{count} {end}" for end, count in found.by_end.items())
    line = f"{format.count(found.count)} request{'s' * (found.count != 1)}" + (f": {ends}" if ends else "")
    rows = [
        (
            BY_ID[f"request.{key}"].label,
            *(_number(key, getattr(spread, name)) for name in ("p50", "p95", "p99", "least", "most")),
        )
        for key in QUANTITIES
        if (spread := found.spreads[key]).count
    ]
    head = ("", "p50", "p95", "p99", "least", "most")
    return "\n\n".join([line, *([render(Table(head, rows), "table")] if rows else [])])


# --- line by line


class Lines:
    """The same columns, with widths that must fit what is not there yet."""

    def __init__(self, *, server: bool, port: bool, room: int | None = None) -> None:
        left_out = {"server": not server, "port": not port}
        columns = [column for column in COLUMNS if not left_out.get(column.key)]
        self._columns = _fitting({column: max(column.width, len(column.head)) for column in columns}, room)

    def head(self) -> str:
        return self._line(column.head for column in self._columns)

    def row(self, row: Row) -> str:
        return self._line(clean(_cell(row, column.key, False)) for column in self._columns)

    def _line(self, cells: Iterable[str]) -> str:
        return "  ".join(
            f"{cell:>{max(column.width, len(column.head))}}"
            for cell, column in zip(cells, self._columns, strict=True)
        )


class CsvLines:
    """CSV, a line each, with the keys of the JSON as its head."""

    def __init__(self, *, server: bool, port: bool, room: int | None = None) -> None:
        self._keys = ("server",) * server + ("port",) * port + _ALL

    def head(self) -> str:
        return _csv(self._keys)

    def row(self, row: Row) -> str:
        return _csv(_plain(key, _value(row, key)) for key in self._keys)


class JsonLines:
    """An object a line; there is no head."""

    def __init__(self, *, server: bool, port: bool, room: int | None = None) -> None:
        pass

    def head(self) -> str:
        return ""

    def row(self, row: Row) -> str:
        return json.dumps(as_object(row))  # ASCII alone


def _csv(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(cells)
    return out.getvalue()


# --- objects


def as_object(row: Row) -> dict[str, Any]:
    """The request's own keys; those of KEYS are there even when nothing is known."""
    told = msgspec.to_builtins(row.request)
    where = {key: value for key in ("server", "port") if (value := getattr(row, key)) not in (None, "")}
    return {**where, **dict.fromkeys(KEYS), **told}


def answer(rows: Sequence[Row], found: Figures) -> str:
    """One document: ``{"requests": [...], "figures": {...}}``."""
    figures = {
        "count": found.count,
        "by_end": {str(end): count for end, count in found.by_end.items()},
        **{key: msgspec.to_builtins(found.spreads[key]) for key in QUANTITIES},
    }
    return json.dumps({"requests": [as_object(row) for row in rows], "figures": figures}, indent=2)


# --- cells


def _value(row: Row, key: str) -> Any:
    return getattr(row if key in _HEADS else row.request, key)


def _plain(key: str, value: Any) -> str:
    return "" if value is None else _number(key, value) if key.endswith(_RATE) else clean(str(value))


def _cell(row: Row, key: str, days: bool) -> str:
    value = _value(row, key)
    if value is None or value == "":
        return format.DASH
    if key == "server":
        return str(value).removeprefix("http://")
    if key == "ended_time" and days:
        return time.strftime("%m-%d %H:%M:%S", time.localtime(value))
    if key == "ttft_seconds" and (off := row.request.ttft_error_seconds or 0.0) > value / 100:
        return f"{_number(key, value)} ±{format.seconds(off)}"
    if key.endswith(_RATE) and row.request.source != "log":  # watched: not to that digit
        return f"~{format.digits(value)}"
    if key == "end" and row.request.reason:
        return f"{value}: {row.request.reason}"
    return _number(key, value)


def _number(key: str, value: Any) -> str:
    """Counts bare, rates as the log prints them, the rest as everywhere."""
    if value is None:
        return format.DASH
    if key.endswith(_RATE) or key == "draft_mean_tokens":
        return f"{value:.2f}"
    return str(value) if isinstance(value, int) else format.show(BY_ID[f"request.{key}"], value)
