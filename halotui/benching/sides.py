"""What stands beside what: runs of the store, by id, label or suite, and files of llama-bench."""

from __future__ import annotations

import glob
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO, NamedTuple

from msgspec.structs import replace

from halotui.benching.llama_bench import Reader, configuration
from halotui.runs import Kind, Result, Run, Status, Store
from halotui.safe import clean

STDIN = "-"
_BIGGEST = 256 << 20  # bytes of a file: more is none of llama-bench's
_CHUNK = 1 << 20
_RANGE = re.compile(r"(\d{1,12})(?:-(\d{1,12}))?\Z", re.ASCII)
_LONGEST_RANGE = 1000
_TEST = re.compile(r"(pp|tg)\d")


class Side(NamedTuple):
    """A column: one run, or several that belong together."""

    name: str
    runs: tuple[Run, ...]

    @property
    def results(self) -> list[Result]:
        return [result for run in self.runs for result in run.results]


class Found(NamedTuple):
    """What one word meant: a side for each label."""

    word: str
    sides: tuple[Side, ...]
    suite: bool = False


class SideError(Exception):
    """One line that says what a word did not mean, and what there is."""


def kind_of(test: str) -> str:
    """pp, tg, pg, or work: seconds instead of tokens a second."""
    return "work" if not _TEST.match(test) else "pg" if "+" in test else test[:2]


def place_of(result: Result) -> tuple[int, int, int, int]:
    """For sorting: by kind, then by size, then by depth."""
    kind = ("pp", "tg", "pg", "work").index(kind_of(result.test))
    return kind, result.prompt_tokens, result.generation_tokens, result.depth_tokens


class Finder:
    """``open_store`` is called only where a word is no file. Raises SideError, StoreError and OSError."""

    def __init__(self, open_store: Callable[[], Store], tell: Callable[[str], None]) -> None:
        self._open = open_store
        self._tell = tell
        self._opened: Store | None = None

    @property
    def _store(self) -> Store:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def find(self, word: str) -> Found:
        """Ids are meant before files, these before suites, and they before labels."""
        if word == STDIN:
            return _one(word, _read("stdin", sys.stdin.buffer))
        if numbers := _RANGE.match(word):
            return self._by_id(word, int(numbers[1]), int(numbers[2] or numbers[1]))
        path = Path(word)
        if _is_file(path):
            with path.open("rb") as file:
                return _one(word, _read(word, file))
        return self._suite(word) or self._labels(word) or self._nothing(word)

    def _by_id(self, word: str, first: int, last: int) -> Found:
        if last - first >= _LONGEST_RANGE:
            raise SideError(f"{word}: more than {_LONGEST_RANGE} runs")
        runs = [run for id_ in range(first, last + 1) if (run := self._store.run(id_)) is not None]
        return Found(word, tuple(map(_alone, runs))) if runs else self._nothing(word)

    def _suite(self, word: str) -> Found | None:
        """All of its newest series, or the series that is so called."""
        of_suite = self._store.runs(suite=glob.escape(word))
        runs = [run for run in of_suite if run.series == of_suite[0].series] or self._store.runs(series=word)
        if not runs:
            return None
        labels = dict.fromkeys(sorted((run.label for run in runs), key=str.casefold))
        sides = (Side(label or word, _whole(runs, label)) for label in labels)
        return Found(word, tuple(sides), suite=True)

    def _labels(self, word: str) -> Found | None:
        runs = self._store.runs(label=glob.escape(word)) or self._store.runs(label=word)
        labels = dict.fromkeys(sorted((run.label for run in runs), key=str.casefold))
        sides = tuple(self._newest(label, [run for run in runs if run.label == label]) for label in labels)
        return Found(word, sides) if sides else None

    def _newest(self, label: str, runs: Sequence[Run]) -> Side:
        """The last that has results, with those of its series, for a suite runs each group of tests apart; or
        with those that measured other tests of the same."""
        run = next((run for run in runs if run.results), runs[0])
        of_series = [one for one in runs if run.series and one.series == run.series]
        together = of_series or _of_other_tests(run, runs)
        ids = ", ".join(f"{one.id}" for one in together)
        others = len({one.series or one.id for one in runs} - {one.series or one.id for one in together})
        if others:
            more = "is 1 other" if others == 1 else f"are {others} others"
            self._tell(f"'{label}' is run {ids}: there {more} of that label")
        elif len(together) > 1 and not of_series:
            self._tell(f"'{label}' is runs {ids}")
        return Side(label, _whole(together, label))

    def _nothing(self, word: str) -> Found:
        runs = self._store.runs(limit=500)
        if not runs:
            raise SideError(f"there is no file '{word}', and no run is stored")
        names = list(dict.fromkeys(name for run in runs for name in (run.label, run.suite) if name))
        near = get_close_matches(word, names, 1)
        meant = f"did you mean '{near[0]}'?" if near else f"there are {_some(names)}" if names else ""
        ids = f"runs {runs[-1].id} to {runs[0].id}" if len(runs) > 1 else f"run {runs[0].id}"
        raise SideError("; ".join(filter(None, (f"there is no '{word}', neither run nor file", meant, ids))))


def named_apart(sides: Iterable[Side]) -> list[Side]:
    """Two of one name by their ids, or by number."""
    sides = list(sides)
    names = [side.name for side in sides]
    apart: list[Side] = []
    for at, side in enumerate(sides):
        if names.count(side.name) > 1:
            ids = ", ".join(str(run.id) for run in side.runs if run.id)
            number = names[: at + 1].count(side.name)
            side = side._replace(name=f"{side.name} #{ids}" if ids else f"{side.name} ({number})")
        apart.append(side)
    return apart if len({side.name for side in apart}) == len(apart) else _numbered(apart)


def told_apart(sides: Sequence[Side]) -> list[Run]:
    """All their runs. Sides of one label that are not of the same model, build, settings and box have their
    own name as label: nobody shall take the mean of them."""
    setups: dict[str, set[object]] = {}
    owners: dict[str, int] = {}
    for side in sides:
        for label in {run.label for run in side.runs}:
            owners[label] = owners.get(label, 0) + 1
        for run in side.runs:
            if run.results:
                setups.setdefault(run.label, set()).add(_setup(run))
    mixed = {label for label, found in setups.items() if len(found) > 1 and owners[label] > 1}
    return [
        replace(run, label=side.name) if run.label in mixed else run for side in sides for run in side.runs
    ]


def _numbered(sides: Sequence[Side]) -> list[Side]:
    return [side._replace(name=f"{number}: {side.name}") for number, side in enumerate(sides, 1)]


def _of_other_tests(last: Run, runs: Iterable[Run]) -> list[Run]:
    """It, and the newest each of what else was measured of the same model, build, settings and box."""
    together, tests = [last], {result.test for result in last.results}
    for run in runs:
        more = {result.test for result in run.results}
        if more and not more & tests and not run.series and _setup(run) == _setup(last):
            together.append(run)
            tests |= more
    return together


def _setup(run: Run) -> object:
    """What must be alike for two runs to be one."""
    configurations = frozenset(tuple(sorted(configuration(result).items())) for result in run.results)
    return run.kind, frozenset(run.env.items()), run.environment, configurations


def _alone(run: Run) -> Side:
    return Side(run.label or f"run {run.id}", (run,))


def _one(word: str, run: Run) -> Found:
    return Found(word, (Side(run.label, (run,)),))


def _whole(runs: Iterable[Run], label: str) -> tuple[Run, ...]:
    """Of each item of a series the last that told something, in the order of their tests."""
    last: dict[str, Run] = {}
    of_label = (run for run in runs if run.label == label)
    for run in sorted(of_label, key=lambda run: (bool(run.results), run.started_time, run.id)):
        last[run.item or str(run.id)] = run
    return tuple(
        sorted(last.values(), key=lambda run: (min(map(place_of, run.results), default=(9,)), run.id))
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "")


def _is_file(path: Path) -> bool:
    try:
        if path.is_dir():
            raise SideError(f"{path} is a directory")
        return path.exists()
    except (OSError, ValueError):  # no name for a file
        return False


def _read(name: str, file: BinaryIO) -> Run:
    reader, results, size = Reader(whole=True), list[Result](), 0
    while data := file.read(_CHUNK):
        results += reader.feed(data)
        size += len(data)
        if size > _BIGGEST:
            raise SideError(f"{name}: more than {_BIGGEST >> 20} MiB: this is no output of llama-bench")
    results += reader.close()
    if not results:
        raise SideError(f"{name}: no result of llama-bench in it, neither md, json, jsonl, csv nor sql")
    return Run(
        kind=Kind.IMPORT,
        status=Status.OK,
        label=clean(Path(name).name, 60),
        started_time=min((r.tested_time for r in results if r.tested_time), default=0.0),
        results=tuple(results),
    )
