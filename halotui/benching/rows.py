"""Sides in rows: what is measured on each, test by test; and what the captures saw of the whole runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from halotui.benching.llama_bench import configuration
from halotui.benching.sides import Side, kind_of, place_of
from halotui.benching.significance import REPEATS, Repeats, Verdict
from halotui.benching.tables import MIB, POOLS, name_of
from halotui.runs import Result, Run

_REPETITIONS = ("-r", "--repetitions")
_RUNS = 3  # of one test on each side: from here on what differs between runs counts, not within
_NAMED = 4  # tests in the name of a row
SPEED_UNIT = "t/s"


class Cell(NamedTuple):
    repeats: Repeats
    assumed: bool = False  # how many repeats there were


class Change(NamedTuple):
    percent: float
    verdict: Verdict | None  # None: a quantity that is not repeated
    sense: int  # 1 good, -1 bad, 0 not worth a colour


class Row(NamedTuple):
    """A quantity on every side; ``changes`` against the first, None there and where one is missing."""

    name: str
    kind: str  # pp, tg, pg, work, memory, energy
    unit: str
    cells: tuple[Cell | None, ...]
    base: str = ""  # the test without its depth: a curve
    depth: int = 0
    changes: tuple[Change | None, ...] = ()

    @property
    def better(self) -> int:
        """1: more is, -1: less."""
        return 1 if self.unit == SPEED_UNIT else -1

    @property
    def repeated(self) -> bool:
        """Whether chance plays a part that repeats can show."""
        return self.kind not in ("memory", "energy")

    @property
    def title(self) -> str:
        return self.name if self.unit == SPEED_UNIT else f"{self.name} ({self.unit})"


# --- rows of tests


def of_tests(sides: Sequence[Side], by_label: bool, patterns: Sequence[str]) -> Iterator[Row]:
    measured = [
        [(run.label if by_label else "", result, run) for run in side.runs for result in run.results]
        for side in sides
    ]
    varying = {name for side in measured for name in _varying(side)}
    keyed = [_keyed(side, varying) for side in measured]
    places = {
        key: (key[0].casefold(), place_of(found[0][0]), key[1], list(map(_natural, key[2])))
        for side in keyed
        for key, found in side.items()
    }
    for key in sorted(places, key=places.__getitem__):
        label, test, variant = key
        if patterns and not any(fnmatchcase(test.lower(), pattern.lower()) for pattern in patterns):
            continue
        first = next(side[key][0][0] for side in keyed if key in side)
        kind = kind_of(test)
        cell = _seconds if kind == "work" else _speed
        said = [f"{name} {value}" for name, value in variant]
        before = f"{label} · " if label else ""
        yield Row(
            name=before + ", ".join((test, *said)),
            kind=kind,
            unit="s" if kind == "work" else SPEED_UNIT,
            cells=_merged([side.get(key, []) for side in keyed], cell),
            base=before + ", ".join((test.partition(" @ ")[0], *said)),
            depth=first.depth_tokens,
        )


def _natural(setting: tuple[str, str]) -> tuple[str, float, str]:
    """256 before 2048."""
    name, value = setting
    return name, float(value) if value.isdecimal() else -1.0, value


_Measured = tuple[str, Result, Run]
_Key = tuple[str, str, tuple[tuple[str, str], ...]]


def _varying(side: Sequence[_Measured]) -> set[str]:
    """What tells two results of one test on one side apart."""
    seen: dict[tuple[str, str], list[dict[str, str]]] = {}
    for label, result, _ in side:
        seen.setdefault((label, result.test), []).append(configuration(result))
    return {
        name
        for several in seen.values()
        for name in {name for each in several for name in each}
        if len({each.get(name) for each in several}) > 1
    }


def _keyed(side: Sequence[_Measured], varying: set[str]) -> dict[_Key, list[tuple[Result, Run]]]:
    found: dict[_Key, list[tuple[Result, Run]]] = {}
    for label, result, run in side:
        values = configuration(result).items()
        variant = tuple((name, value) for name, value in values if name in varying and value)
        found.setdefault((label, result.test, variant), []).append((result, run))
    return found


# --- what was repeated


def _merged(
    found: Sequence[Sequence[tuple[Result, Run]]], cell: Callable[[Result, Run], Cell | None]
) -> tuple[Cell | None, ...]:
    """Several runs of one test: enough of them on each side, and each is one repeat; else all repeats."""
    sides = [[one for pair in pairs if (one := cell(*pair)) is not None] for pairs in found]
    enough = all(len(cells) >= _RUNS for cells in sides if cells)
    return tuple(
        None
        if not cells
        else Cell(Repeats.of([one.repeats.mean for one in cells]))
        if enough
        else Cell(pooled([one.repeats for one in cells]), any(one.assumed for one in cells))
        for cells in sides
    )


def pooled(parts: Sequence[Repeats]) -> Repeats:
    if len(parts) == 1:
        return parts[0]
    if all(part.samples for part in parts):
        return Repeats.of([value for part in parts for value in part.samples])
    count = sum(part.times for part in parts)
    mean = sum(part.mean * part.times for part in parts) / count
    if any(part.spread is None for part in parts):
        return Repeats(mean, None, count)
    squares = sum((p.times - 1) * (p.spread or 0) ** 2 + p.times * (p.mean - mean) ** 2 for p in parts)
    return Repeats(mean, math.sqrt(squares / (count - 1)), count)


def _speed(result: Result, run: Run) -> Cell | None:
    if result.samples:
        return Cell(Repeats.of(result.samples))
    if result.tokens_per_second is None:
        return None
    count = _repetitions(run)
    return Cell(Repeats(result.tokens_per_second, result.spread, count or REPEATS), count is None)


def _seconds(result: Result, run: Run) -> Cell | None:
    if result.seconds_samples:
        return Cell(Repeats.of(result.seconds_samples))
    if result.seconds is None:
        return None
    return Cell(Repeats(result.seconds, None, len(result.samples) or 1))


def _repetitions(run: Run) -> int | None:
    """As its llama-bench was told."""
    words = list(run.command)
    for at in range(len(words) - 2, -1, -1):  # the last counts
        if words[at] in _REPETITIONS:
            return int(words[at + 1]) if words[at + 1].isdecimal() and len(words[at + 1]) < 9 else None
    return None


# --- rows of whole runs


def of_runs(sides: Sequence[Side], by_label: bool) -> Iterator[Row]:
    """What the captures saw: memory and energy, where two sides have one."""
    labels = dict.fromkeys(run.label if by_label else "" for side in sides for run in side.runs)
    for label in labels:
        parts = [[run for run in side.runs if not by_label or run.label == label] for side in sides]
        alike, of_tests = _alike(parts)
        for field in POOLS:
            name = f"{of_tests}{name_of(field)} Δ peak"
            yield from _single(label, name, "memory", "MiB", [_peak(runs, field) for runs in alike])
        if len({_work(runs) for runs in parts if runs}) == 1:
            yield from _single(label, "energy", "energy", "J/token", map(_energy, parts))


def _alike(parts: Sequence[Sequence[Run]]) -> tuple[list[list[Run]], str]:
    """Of each side the runs of what was captured together on all: a prompt of 8192 is not held against one
    of 512. And which tests these are, where others are left out."""
    groups = [
        {_tests(run) for run in runs if run.summary is not None}
        for runs in parts
        if any(r.summary for r in runs)
    ]
    common = frozenset.intersection(*map(frozenset, groups)) if groups else frozenset()
    alike = [[run for run in runs if _tests(run) in common] for runs in parts]
    if all(group == common for group in groups):
        return alike, ""
    tests = list(dict.fromkeys(result.test for runs in alike for run in runs for result in run.results))
    return alike, f"{', '.join(tests[:_NAMED])}{' …' if len(tests) > _NAMED else ''} · "


def _tests(run: Run) -> frozenset[str]:
    return frozenset(result.test for result in run.results)


def _single(label: str, name: str, kind: str, unit: str, values: Iterable[float | None]) -> Iterator[Row]:
    cells = tuple(None if value is None else Cell(Repeats(value, None, 1)) for value in values)
    if sum(cell is not None for cell in cells) > 1 and any(cell and cell.repeats.mean for cell in cells):
        yield Row(f"{label} · {name}" if label else name, kind, unit, cells)


def _peak(runs: Sequence[Run], field: str) -> float | None:
    """Above what was there before, in MiB."""
    tracks = [run.summary.track(field) for run in runs if run.summary is not None]
    peaks = [track.delta_peak for track in tracks if track and track.delta_peak is not None]
    return max(peaks) / MIB if peaks else None


def _work(runs: Sequence[Run]) -> tuple[tuple[str, int], ...]:
    """What was done: only of the same the energy can be compared."""
    return tuple(sorted((result.test, _times(result, run)) for run in runs for result in run.results))


def _times(result: Result, run: Run) -> int:
    return len(result.samples) or _repetitions(run) or REPEATS


def _energy(runs: Sequence[Run]) -> float | None:
    """Of the package through the whole runs, over the tokens that their tests timed."""
    joules = [run.summary.energy_joules if run.summary else None for run in runs if run.results]
    tokens = sum(
        (result.prompt_tokens + result.generation_tokens) * _times(result, run)
        for run in runs
        for result in run.results
    )
    told = [each for each in joules if each is not None]
    return sum(told) / tokens if tokens and told and len(told) == len(joules) else None
