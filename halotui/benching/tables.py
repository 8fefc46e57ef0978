"""What was measured, as tables: in columns for a terminal, as Markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import msgspec

from halotui.exits import UsageError
from halotui.fields import BY_ID
from halotui.format import DASH
from halotui.runs import Kind, Result, Run, Status, Summary, Track
from halotui.safe import clean

MIB = 1024 * 1024
VRAM, GTT, RAM, SWAP = POOLS = (
    "gpu.vram_used_bytes",
    "gpu.gtt_used_bytes",
    "memory.used_bytes",
    "memory.swap_used_bytes",
)
NAMES = {RAM: "RAM"}  # beside the other pools, "used" says nothing
_DELTA_PEAK = "the most that a pool held above what it held before (Δ peak)"


class Table(NamedTuple):
    """Cells are text; the first ``left`` columns are aligned left, the others right."""

    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    left: int = 1


# --- out


def format_of(said: Mapping[str, Any]) -> str:
    """table, markdown, json or csv; ``--json`` means json."""
    return "json" if said.get("json") else str(said.get("format", "table"))


def render(table: Table, format: str, objects: object = None) -> str:
    """The table in that format, harmless on a terminal. JSON shows ``objects`` instead of the cells."""
    if format == "json":
        return json.dumps(msgspec.to_builtins(objects), indent=2)  # ASCII alone
    cells = [[clean(cell) for cell in row] for row in (table.head, *table.rows)]
    return _RENDER[format](cells, table.left)


def check_output(said: Mapping[str, Any]) -> None:
    """Before anything is measured: whether ``-o FILE`` can be written. Raises UsageError."""
    path: Path | None = said.get("output")
    if path is None:
        return
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"-o {path}: cannot be written")


def put(text: str, said: Mapping[str, Any]) -> None:
    """Write it to ``-o FILE``, whole or not at all, else to stdout. Where the file fails, stdout has it:
    what was measured is not lost for a full disk."""
    path: Path | None = said.get("output")
    if path is not None:
        try:
            write(path, (text + "\n").encode())
            return
        except OSError as error:
            print(f"halotui: {clean(str(path))}: {clean(error.strerror or str(error))}", file=sys.stderr)
    print(text, flush=True)


def write(path: Path, data: bytes) -> None:
    """Whole or not at all, and on the disk. Raises OSError."""
    path = path.resolve()  # a link stays one
    if path.exists() and not path.is_file():  # /dev/stderr, a FIFO
        path.write_bytes(data)
        return
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~mask)
        os.replace(name, path)  # noqa: PTH105
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def _text(cells: list[list[str]], left: int) -> str:
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            _pad(cell, room, at < left) for at, (cell, room) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def _markdown(cells: list[list[str]], left: int) -> str:
    head, *rows = [[cell.replace("\\", "\\\\").replace("|", "\\|") for cell in row] for row in cells]
    rule = ["---" if at < left else "---:" for at in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def _csv(cells: list[list[str]], left: int) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(cells)
    return out.getvalue().removesuffix("\n")


_RENDER: dict[str, Callable[[list[list[str]], int], str]] = {
    "table": _text,
    "markdown": _markdown,
    "csv": _csv,
}


def width(text: str) -> int:
    """Cells on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def _pad(text: str, cells: int, left: bool) -> str:
    fill = " " * (cells - width(text))
    return text + fill if left else fill + text


# --- the peaks of one capture


def mib(bytes_: float | None) -> str:
    return DASH if bytes_ is None else f"{bytes_ / MIB:.0f}"


def pools(summary: Summary) -> list[tuple[str, Track]]:
    """Name and track of each pool that was seen; with its GPU where there are several."""
    tracks = [track for field in POOLS for track in summary.tracks if track.field == field]
    several = len({track.subject for track in tracks if track.field in (VRAM, GTT)}) > 1
    return [
        (f"{name_of(track.field)} {track.subject}".strip() if several else name_of(track.field), track)
        for track in tracks
    ]


def name_of(field: str) -> str:
    return NAMES.get(field) or (BY_ID[field].label if field in BY_ID else field)


def peaks(summary: Summary) -> Table:
    """``pool | baseline | peak | Δ | Δ peak | at``, in MiB and seconds since the start."""
    rows = [
        (
            name,
            *map(mib, (track.baseline, track.peak, track.delta, track.delta_peak)),
            DASH if track.peak_seconds is None else f"{track.peak_seconds:.1f} s",
        )
        for name, track in pools(summary)
    ]
    return Table(("MiB", "baseline", "peak", "Δ", "Δ peak", "at"), rows)


# --- the table that people publish


def published(runs: Sequence[Run]) -> Table:
    """``Run | pp512 | tg128 | Max Mem (MiB)``: a row for each label, and columns for each group of tests that
    were captured together.

    Max Mem is the delta-peak of VRAM+GTT: the published tables can mean nothing else (``6+10591`` on a box
    whose display alone takes more), and it does not count what else is on the box. It is system memory
    where there is no GPU, and of a run on the CPU.
    """
    columns = [_Column(group, _plain(runs, group), _timed(runs, group)) for group in _groups(runs)]
    rows: dict[str, _Row] = {}
    for run in runs:
        at = _column_of(run, columns)
        for number, (label, results) in enumerate(_parts(run)):
            row = rows.setdefault(label, _Row([{} for _ in columns], [[] for _ in columns], {}))
            if word := _word(run):
                row.words[at] = word
            if at is None:
                continue
            for result in results:
                figure = result.seconds if run.kind is Kind.SERVER else result.tokens_per_second
                if figure is not None:
                    row.figures[at].setdefault(result.test, []).append(figure)
            row.memory[at].append("as above" if number else max_mem(run, columns[at].plain))
    untold = [_untold(row, columns) for row in rows.values()]
    last = ("result",) if any(untold) else ()
    return Table(
        ("Run", *(cell for column in columns for cell in column.head), *last),
        [
            (label, *_cells(row, columns), *((word or DASH,) if last else ()))
            for (label, row), word in zip(rows.items(), untold, strict=True)
        ],
    )


def note(runs: Iterable[Run]) -> str:
    """What Max Mem means, in one line."""
    summaries = [run.summary for run in runs if run.summary is not None]
    if not summaries:
        return ""
    pools = "VRAM+GTT" if any(_has_gpu(summary) for summary in summaries) else "RAM (there is no GPU to ask)"
    return f"Max Mem: {pools}, {_DELTA_PEAK}"


def max_mem(run: Run, plain: bool = False) -> str:
    """``7761+1180``; ``312 RAM`` where there is no GPU or the CPU computed. ``plain``: the head says RAM."""
    if run.summary is None:
        return DASH
    if _on_gpu(run):
        return "+".join(mib(_delta_peak(run.summary, field)) for field in (VRAM, GTT))
    cell = mib(_delta_peak(run.summary, RAM))
    return cell if plain or cell == DASH else f"{cell} RAM"


class _Column(NamedTuple):
    """A group of tests and the memory they took."""

    tests: tuple[str, ...]
    plain: bool  # no run of it was on a GPU: its head says so
    timed: bool  # workloads, whose figures are seconds

    @property
    def head(self) -> tuple[str, ...]:
        return (*self.tests, "Max Mem (MiB RAM)" if self.plain else "Max Mem (MiB)")


class _Row(NamedTuple):
    """All that one label has, column by column."""

    figures: list[dict[str, list[float]]]  # by test: tokens/s, or seconds
    memory: list[list[str]]
    words: dict[int | None, str]  # how a run ended that did not end well; None: before its first result


def _plain(runs: Sequence[Run], group: tuple[str, ...]) -> bool:
    of_group = [
        run for run in runs if run.summary is not None and run.results and set(_tests(run)) <= set(group)
    ]
    return bool(of_group) and not any(_on_gpu(run) for run in of_group)


def _timed(runs: Sequence[Run], group: tuple[str, ...]) -> bool:
    return any(run.kind is Kind.SERVER and set(_tests(run)) & set(group) for run in runs)


def _on_gpu(run: Run) -> bool:
    """Whether VRAM and GTT tell what it took."""
    on_cpu = bool(run.results) and all(result.backend == "CPU" for result in run.results)
    return run.summary is not None and _has_gpu(run.summary) and not on_cpu


def _has_gpu(summary: Summary) -> bool:
    return any(_delta_peak(summary, field) is not None for field in (VRAM, GTT))


def _delta_peak(summary: Summary, field: str) -> float | None:
    track = summary.track(field)
    return track.delta_peak if track else None


def _tests(run: Run) -> tuple[str, ...]:
    return tuple(dict.fromkeys(result.test for result in run.results))


def _groups(runs: Iterable[Run]) -> list[tuple[str, ...]]:
    """What was captured together; a run that broke off belongs to the group that it began."""
    groups: list[tuple[str, ...]] = []
    for tests in filter(None, map(_tests, runs)):
        if any(set(tests) <= set(group) for group in groups):
            continue
        smaller = [at for at, group in enumerate(groups) if set(group) <= set(tests)]
        at = smaller[0] if smaller else len(groups)
        groups = [group for number, group in enumerate(groups) if number not in smaller]
        groups.insert(at, tests)
    return groups


def _column_of(run: Run, columns: Sequence[_Column]) -> int | None:
    tests = set(_tests(run))
    return next((at for at, column in enumerate(columns) if tests and tests <= set(column.tests)), None)


def _parts(run: Run) -> list[tuple[str, list[Result]]]:
    """The rows of one run: several where it had one test with several settings, named by what differs."""
    label = run.label or DASH
    if len(_tests(run)) == len(run.results):
        return [(label, list(run.results))]
    kept = [_settings(result) for result in run.results]
    names = dict.fromkeys(name for settings in kept for name in settings)
    varying = [name for name in names if len({settings.get(name) for settings in kept}) > 1]
    parts: dict[str, list[Result]] = {}
    for result, settings in zip(run.results, kept, strict=True):
        said = ", ".join(f"{name} {settings[name]}" for name in varying if name in settings)
        parts.setdefault(f"{label}, {said}" if said else label, []).append(result)
    return list(parts.items())


def _settings(result: Result) -> dict[str, str]:
    of_model = {"model": result.model or result.model_type, "backend": result.backend}
    return {name: value for name, value in (of_model | result.settings).items() if value}


def _word(run: Run) -> str:
    """Stands where a result should: GPU Hang, crashed, failed."""
    if run.status in (Status.OK, Status.RUNNING):
        return ""
    return "GPU Hang" if run.reason.startswith("GPU Hang") else str(run.status)


def _untold(row: _Row, columns: Sequence[_Column]) -> str:
    """How runs ended before their first result, where no cell of the row is free to say it."""
    free = any(test not in figures for column, figures in _pairs(row, columns) for test in column.tests)
    return "" if free else row.words.get(None, "")


def _cells(row: _Row, columns: Sequence[_Column]) -> Iterable[str]:
    """Several runs of one label: the mean of their figures, the most of their memory."""
    word = row.words.get(None, DASH)
    for at, (column, figures) in enumerate(_pairs(row, columns)):
        left = row.words.get(at, word)  # said once for each group
        for test in column.tests:
            if test in figures:
                yield f"{fmean(figures[test]):.1f} s" if column.timed else f"{fmean(figures[test]):.2f}"
            else:
                yield left
                left = DASH
        yield max(row.memory[at], key=_weight, default=DASH)


def _pairs(row: _Row, columns: Sequence[_Column]) -> Iterable[tuple[_Column, dict[str, list[float]]]]:
    return zip(columns, row.figures, strict=True)


def _weight(cell: str) -> float:
    return sum(float(part) for part in cell.removesuffix(" RAM").split("+") if part.isdecimal())
