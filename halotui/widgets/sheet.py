"""A page of facts: sections of lines, each with a label, its value and where that came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple

from halotui import fields
from halotui.model import ServerFacts
from halotui.widgets.rows import Row, Run, fill, fit, rule, spread, width_of
from halotui.widgets.view import Struct, View, owner_of

WIDE = 112  # columns from which two sections stand beside each other
_GAP = 2

LABEL = 17  # cells
_SOURCE = {"llama.cpp's default": "default"}


class Line(NamedTuple):
    runs: Sequence[Run]
    source: str = ""  # dim, at the right end


class Section(NamedTuple):
    title: str
    lines: Sequence[Line]
    note: Sequence[Run] = ()


def fact(
    view: View, whose: Struct, struct: Struct | ServerFacts, key: str, *more: Run, label: str = ""
) -> Line:
    """A field with the source that gave it; ``more`` stands behind it. ``whose``: it knows the sources."""
    name = label or fields.BY_ID[f"{owner_of(struct)}.{key}"].label
    value = view.value(struct, key, style="text", subject=view.subject(whose))
    source = source_of(whose, key) if getattr(struct, key) is not None else ""
    return Line((lead(name), value, *more), source)


def facts(view: View, whose: Struct, keys: Iterable[tuple[Struct | ServerFacts, str]]) -> list[Line]:
    """Those that are known."""
    return [fact(view, whose, struct, key) for struct, key in keys if is_known(getattr(struct, key))]


def weight(field: fields.Field) -> str:
    """The style of a number: what history keeps is what is looked for."""
    return "value" if field.chart else "text"


def source_of(whose: Struct, key: str) -> str:
    """What told it."""
    told: dict[str, str] = getattr(whose, "provenance", {})
    source = told.get(key, "")
    return _SOURCE.get(source, source)


def is_known(value: object) -> bool:
    return value is not None and value != () and value != ""


def words(label: str, text: str, style: str = "text") -> Line:
    return Line((lead(label), Run(text, style)))


def note(text: str, style: str = "dim") -> Line:
    return Line((Run(f" {text}", style),))


def lead(label: str) -> Run:
    return Run(f" {fit(label, LABEL - 2)} ", "dim")


def wrapped(text: str, width: int) -> list[str]:
    """In lines of at most ``width`` cells, broken between words."""
    return _broken(text.split(" "), " ", width)


def listed(items: Iterable[str], width: int) -> list[str]:
    """In lines, broken between items."""
    return _broken(items, " · ", width)


def _broken(parts: Iterable[str], between: str, width: int) -> list[str]:
    lines, line = [], ""
    for part in parts:
        longer = f"{line}{between}{part}" if line else part
        if width_of(longer) <= width or not line:
            line = longer
        else:
            lines.append(line)
            line = part
    return [*lines, line] if line else lines


def columns(left: Iterable[Section], right: Iterable[Section], width: int) -> list[Row]:
    """Two columns, where there is room for them; else the right one stands below."""
    if width < WIDE:
        return rows((*left, *right), width)
    size = column(width)
    gap = Run(" " * _GAP)
    blank, blank_right = fill((), size), fill((), width - size - _GAP)
    both = zip_longest(rows(left, size), rows(right, width - size - _GAP), fillvalue=())
    return [(*(one or blank), gap, *(other or blank_right)) for one, other in both]


def column(width: int) -> int:
    """Cells of a section on a page so wide."""
    return (width - _GAP) // 2 if width >= WIDE else width


def rows(sections: Iterable[Section], width: int) -> list[Row]:
    """One below the other; those that have nothing to say are left out."""
    out: list[Row] = []
    for section in sections:
        if section.lines:
            out.append(rule(section.title, width, section.note))
            out += [_row(line, width) for line in section.lines]
    return out


def _row(line: Line, width: int) -> Row:
    """The source is left out where the value needs its room."""
    runs = line.runs
    taken = sum(width_of(run.text) for run in runs)
    if taken > width and len(runs) == 2 and "/" in runs[1].text:  # the end of a path tells more
        room = width - LABEL - len(line.source) - 4
        runs = (runs[0], runs[1]._replace(text="…" + runs[1].text[-room:]))
        taken = sum(width_of(run.text) for run in runs)
    if line.source and taken + len(line.source) + 3 <= width:
        return spread(runs, (Run(f"{line.source} ", "dim"),), width)
    return fill(runs, width)
