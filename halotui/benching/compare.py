"""Sides against the first: the difference in each row and what it is worth; as a table and for JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from halotui import format
from halotui.benching import facts, significance
from halotui.benching.rows import SPEED_UNIT, Cell, Change, Row, of_runs, of_tests
from halotui.benching.sides import Side, kind_of, place_of
from halotui.benching.significance import REPEATS, Repeats, Verdict
from halotui.benching.tables import Table
from halotui.runs import Status

_LEAST_MIB = 32.0  # of memory: the rest of the box takes and gives as much meanwhile


class Comparison(NamedTuple):
    names: tuple[str, ...]
    rows: tuple[Row, ...]
    same: Mapping[str, str]
    differ: Mapping[str, tuple[str, ...]]
    labels: tuple[str, ...]  # lines above the table
    warnings: tuple[str, ...]
    notes: tuple[str, ...]  # lines below it


def compare(sides: Sequence[Side], *, by_label: bool = False, tests: Sequence[str] = ()) -> Comparison:
    """Sides against the first. ``by_label``: each side has several labels, and rows of their own for each.
    ``tests``: patterns; only those."""
    known = [facts.facts(side) for side in sides]
    same, differ = facts.same(known), facts.differing(sides, known)
    names = tuple(side.name for side in sides)
    rows = list(of_tests(sides, by_label, tests))
    if not tests:
        rows += of_runs(sides, by_label)
    rows = _judged(rows)
    warning = facts.model_warning(sides, differ)
    return Comparison(
        names=names,
        rows=tuple(rows),
        same=same,
        differ=differ,
        labels=tuple(
            filter(None, (facts.label_line(same), *facts.difference_lines(names, differ))),
        ),
        warnings=tuple(filter(None, (warning, *_ended_badly(sides)))),
        notes=tuple(_notes(names, rows)),
    )


# --- the difference


def _judged(rows: Sequence[Row]) -> list[Row]:
    """All of the table's differences in one light."""
    tested = [(number, at) for number, row in enumerate(rows) if row.repeated for at in _comparable(row)]
    pairs = [(_repeats(rows[number], 0), _repeats(rows[number], at)) for number, at in tested]
    verdicts = dict(zip(tested, significance.judge(pairs), strict=True))
    return [
        row._replace(
            changes=tuple(
                _change(row, at, verdicts.get((number, at))) if at in _comparable(row) else None
                for at in range(len(row.cells))
            )
        )
        for number, row in enumerate(rows)
    ]


def _comparable(row: Row) -> list[int]:
    first, *others = row.cells
    return [at for at, cell in enumerate(others, 1) if cell and first and first.repeats.mean]


def _repeats(row: Row, at: int) -> Repeats:
    cell = row.cells[at]
    assert cell is not None
    return cell.repeats


def _change(row: Row, at: int, verdict: Verdict | None) -> Change:
    first = _repeats(row, 0).mean
    ratio = (_repeats(row, at).mean - first) / abs(first)
    sure = (
        abs(ratio) > significance.LEAST_CHANGE
        and (row.kind != "memory" or abs(_repeats(row, at).mean - first) > _LEAST_MIB)
        if verdict is None
        else verdict.word in (significance.CLEAR, significance.LIKELY)
    )
    return Change(ratio * 100, verdict, (row.better if ratio > 0 else -row.better) if sure else 0)


# --- what is to be known of the numbers


def _ended_badly(sides: Sequence[Side]) -> Iterator[str]:
    for side in sides:
        for run in side.runs:
            if run.status is not Status.OK:
                what = f"run {run.id} of {side.name}" if run.id else side.name
                yield f"{what} is {run.status}" + (f": {run.reason}" if run.reason else "")


def _notes(names: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    tested = [change for row in rows for change in row.changes if change and change.verdict]
    judged = sum(change.verdict is not None and change.verdict.p is not None for change in tested)
    if judged:
        yield (
            f"clear: p < {significance.CLEAR_P:g} and more than {significance.LEAST_CHANGE * 100:g} %; "
            f"likely: p < {significance.LIKELY_P:g}; by Welch's t-test"
            + (f", corrected for {judged} comparisons (Holm)" if judged > 1 else "")
        )
        yield "± and p are of the repeats within a run: what differs from run to run is not in them"
    assumed = [
        name
        for at, name in enumerate(names)
        if any((cell := row.cells[at]) and cell.assumed and cell.repeats.spread for row in rows)
    ]
    if assumed and judged:
        told = "does not tell its" if len(assumed) == 1 else "do not tell their"
        yield f"{', '.join(assumed)} {told} repeats: {REPEATS} are assumed, llama-bench's default"
    if any(row.kind == "memory" for row in rows):
        yield "Δ peak: the most that a pool held above what it held before"
    if any(row.kind == "energy" for row in rows):
        yield "energy: of the package through the whole run, load and warm-up too, over the tokens timed"


# --- out


def table(of: Comparison) -> Table:
    """``test | A | B | Δ % | how sure``, and three columns for each further side."""
    head = ["test", of.names[0]]
    for name in of.names[1:]:
        head += (name, "Δ %", "how sure")
    return Table(tuple(head), [tuple(_line(row)) for row in of.rows])


def _line(row: Row) -> Iterator[str]:
    yield row.title
    for at, (cell, change) in enumerate(zip(row.cells, row.changes, strict=True)):
        yield _shown(row, cell)
        if at:
            yield format.DASH if change is None else percent(change.percent)
            yield change.verdict.word if change and change.verdict else ""


def sheet(of: Comparison) -> Table:
    """The same for a spreadsheet: one number to a cell, in full."""
    head = ["test", "unit", of.names[0], f"{of.names[0]} ±"]
    for name in of.names[1:]:
        head += (name, f"{name} ±", "Δ %", "how sure", "p (Holm)")
    return Table(tuple(head), [tuple(_numbers(row)) for row in of.rows])


def _numbers(row: Row) -> Iterator[str]:
    yield from (row.name, row.unit)
    for at, (cell, change) in enumerate(zip(row.cells, row.changes, strict=True)):
        yield from map(_number, (cell.repeats.mean, cell.repeats.spread) if cell else (None, None))
        if at:
            verdict = change.verdict if change else None
            yield _number(change.percent if change else None)
            yield from (verdict.word, _number(verdict.p_holm)) if verdict else ("", "")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"


def percent(value: float) -> str:
    """``+96.1``; never ``-0.0``."""
    return f"{round(value, 1) + 0.0:+.1f}" if round(value, 1) else "0.0"


_DECIMALS: dict[str, Callable[[float], str]] = {
    SPEED_UNIT: "{:.2f}".format,
    "s": "{:.1f}".format,
    "MiB": "{:.0f}".format,
    "J/token": format.digits,
}


def _shown(row: Row, cell: Cell | None) -> str:
    if cell is None:
        return format.DASH
    show = _DECIMALS[row.unit]
    spread = cell.repeats.spread
    return show(cell.repeats.mean) + (f" ± {show(spread)}" if spread is not None else "")


def workloads(sides: Sequence[Side]) -> Table:
    """``Config | pp512 | tg128 | chat | code | summarise``, workloads in seconds."""
    found: dict[str, tuple[int, int, int, int]] = {}
    for side in sides:
        found |= {result.test: place_of(result) for result in side.results}
    tests = sorted(found, key=lambda test: found[test])
    return Table(
        ("Config", *tests),
        [(side.name, *(_mean(side, test) for test in tests)) for side in sides],
    )


def _mean(side: Side, test: str) -> str:
    of_test = [result for result in side.results if result.test == test]
    if kind_of(test) == "work":
        waits = [result.seconds for result in of_test if result.seconds is not None]
        return f"{fmean(waits):.1f} s" if waits else _word(side)
    speeds = [result.tokens_per_second for result in of_test if result.tokens_per_second is not None]
    return f"{fmean(speeds):.2f}" if speeds else _word(side)


def _word(side: Side) -> str:
    """Why there is no number."""
    bad = [run.status for run in side.runs if run.status not in (Status.OK, Status.RUNNING)]
    return str(bad[-1]) if bad else format.DASH


def has_workloads(sides: Sequence[Side]) -> bool:
    return any(
        kind_of(result.test) == "work" for side in sides for run in side.runs for result in run.results
    )


def objects(of: Comparison) -> dict[str, Any]:
    """For JSON: raw numbers."""
    return {
        "sides": list(of.names),
        "same": dict(of.same),
        "differs": {name: dict(zip(of.names, values, strict=True)) for name, values in of.differ.items()},
        "rows": [
            {
                "test": row.name,
                "kind": row.kind,
                "unit": row.unit,
                "depth_tokens": row.depth,
                "values": list(map(_value, row.cells)),
                "changes": list(map(_difference, row.changes)),
            }
            for row in of.rows
        ],
        "warnings": list(of.warnings),
        "notes": list(of.notes),
    }


def _value(cell: Cell | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    mean, spread, count, samples = cell.repeats
    told = {"mean": mean, "spread": spread, "repeats": count, "repeats_assumed": cell.assumed}
    return told | {"samples": samples}


def _difference(change: Change | None) -> dict[str, Any] | None:
    if change is None:
        return None
    verdict = change.verdict
    told = {"percent": change.percent, "better": {1: True, -1: False}.get(change.sense)}
    return (
        told
        if verdict is None
        else told | dict(zip(("word", "p", "p_holm", "p_exact"), verdict, strict=True))
    )
