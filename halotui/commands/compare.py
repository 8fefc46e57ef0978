"""``halotui compare``: runs side by side, with the difference and what it is worth."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from halotui import exits
from halotui.benching import compare, curves, facts, tables
from halotui.benching.account import as_object
from halotui.benching.compare import Comparison
from halotui.benching.curves import PlotError
from halotui.benching.rows import Change
from halotui.benching.sides import STDIN, Finder, Found, Side, SideError, named_apart, told_apart
from halotui.commands import keeping
from halotui.exits import UsageError
from halotui.runs import StoreError
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.config import Settings

_COLOURS = {1: "\x1b[32m", -1: "\x1b[31m"}
_PICTURES = ("svg", "png")


async def run(said: Mapping[str, Any], settings: Settings) -> int:
    """The exit code."""
    words: Sequence[str] = said["sides"]
    form = tables.format_of(said)
    if words.count(STDIN) > 1:
        raise UsageError("- may stand for one side only: there is one stdin")
    if said.get("plot") and form != "table":
        raise UsageError(f"--plot draws for a terminal, not into {form}; there are --svg and --png")
    tables.check_output(said)
    finder = Finder(lambda: keeping.open_store(said, settings, readonly=True), _tell)
    try:
        found = [finder.find(word) for word in words]
        return _answer(found, said, form)
    except (SideError, PlotError) as error:
        return _fail(str(error))
    except StoreError as error:
        return _fail(keeping.told(error))
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    finally:
        finder.close()


def _answer(found: Sequence[Found], said: Mapping[str, Any], form: str) -> int:
    sides, by_label = _sides(found)
    of = compare.compare(sides, by_label=by_label, tests=said.get("test", ()))
    if said.get("test") and not of.rows:
        tests = dict.fromkeys(result.test for side in sides for result in side.results)
        return _fail(f"no test matches {', '.join(said['test'])}; there are {', '.join(tests)}")
    drawn = curves.panels(of.names, of.rows) if _draws(said) else []
    for warning in of.warnings:
        _tell(f"warning: {warning}")
    if len(found) == 1 and not said.get("test"):
        text = _published(sides, of, form)
    else:
        text = _compared(of, form, colour=form == "table" and "output" not in said and _in_colour())
    if said.get("plot"):
        width = shutil.get_terminal_size().columns
        text += "\n\n" + curves.plot(drawn, width, colour="output" not in said and _in_colour())
    tables.put(text, said)
    for picture in _PICTURES:
        if path := said.get(picture):
            curves.save(drawn, path, picture, facts.label_line(of.same))
            _tell(f"{path} is written")
    return exits.OK


def _sides(found: Sequence[Found]) -> tuple[list[Side], bool]:
    """The columns. Suites with a label in common are held against each other label by label; of whatever
    else a word means, each label is a side of its own."""
    several = [{side.name for side in one.sides} for one in found]
    if len(found) > 1 and all(one.suite for one in found) and set.intersection(*several):
        whole = [Side(one.word, tuple(run for side in one.sides for run in side.runs)) for one in found]
        return named_apart(whole), True
    return named_apart(side for one in found for side in one.sides), False


def _draws(said: Mapping[str, Any]) -> bool:
    return bool(said.get("plot")) or any(said.get(picture) for picture in _PICTURES)


def _published(sides: Sequence[Side], of: Comparison, form: str) -> str:
    """The table that people publish, labelled."""
    runs = told_apart(sides)
    objects = [as_object(run) for side in sides for run in side.runs]
    work = compare.has_workloads(sides)
    table = compare.workloads(sides) if work else tables.published(runs)
    label = facts.label_line(of.same)
    note = "" if work else tables.note(runs)
    return _around(
        [label] if label else [], tables.render(table, form, objects), [note] if note else [], form
    )


def _compared(of: Comparison, form: str, *, colour: bool) -> str:
    table = compare.sheet(of) if form == "csv" else compare.table(of)
    text = tables.render(table, form, compare.objects(of))
    return _around(of.labels, _coloured(text, of) if colour else text, of.notes, form)


def _around(above: Sequence[str], text: str, below: Sequence[str], form: str) -> str:
    """csv and JSON are for programs: there the words go to stderr, or are in it already."""
    if form in ("json", "csv"):
        for line in (*above, *below) if form == "csv" else ():
            _tell(line)
        return text
    end = "  \n" if form == "markdown" else "\n"  # a line of its own
    parts = (end.join(map(clean, above)), text, end.join(map(clean, below)))
    return "\n\n".join(filter(None, parts))


def _in_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _coloured(text: str, of: Comparison) -> str:
    """The differences that are worth it: a row of the table is a line of the text."""
    head, *lines = text.split("\n")
    return "\n".join([head, *(_line(line, row.changes) for line, row in zip(lines, of.rows, strict=True))])


def _line(line: str, changes: Sequence[Change | None]) -> str:
    at = 0
    for change in changes:
        if change is None:
            continue
        place = re.compile(rf"(?<=  ){re.escape(compare.percent(change.percent))}(?=  |$)").search(line, at)
        if place is None:
            return line
        at = place.end()
        if change.sense:
            painted = f"{_COLOURS[change.sense]}{place[0]}\x1b[0m"
            line = line[: place.start()] + painted + line[place.end() :]
            at += len(painted) - len(place[0])
    return line


def _tell(words: str) -> None:
    print(f"halotui: {clean(words)}", file=sys.stderr, flush=True)


def _fail(words: str) -> int:
    _tell(words)
    return exits.FAILURE
