"""A page of facts: sections of lines, each with a label, its value and where that came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from halotui import fields
from halotui.model import Server, ServerFacts
from halotui.widgets.rows import Row, Run, fill, fit, rule, spread, width_of
from halotui.widgets.view import View, owner_of

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
    view: View, server: Server, struct: Server | ServerFacts, key: str, *more: Run, label: str = ""
) -> Line:
    """A field of the server with the source that gave it; ``more`` stands behind it."""
    name = label or fields.BY_ID[f"{owner_of(struct)}.{key}"].label
    value = view.value(struct, key, subject=server.url)
    if value.style == "value":
        value = value._replace(style="text")
    source = server.provenance.get(key, "") if getattr(struct, key) is not None else ""
    return Line((lead(name), value, *more), _SOURCE.get(source, source))


def facts(view: View, server: Server, keys: Iterable[tuple[Server | ServerFacts, str]]) -> list[Line]:
    """Those that are known."""
    return [fact(view, server, struct, key) for struct, key in keys if is_known(getattr(struct, key))]


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
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if width_of(longer) <= width or not line:
            line = longer
        else:
            lines.append(line)
            line = word
    return [*lines, line] if line else lines


def listed(items: Iterable[str], width: int) -> list[str]:
    """In lines, broken between items."""
    kept = "\u00a0"  # a blank at which nothing is broken
    lines = wrapped(" · ".join(item.replace(" ", kept) for item in items), width)
    return [line.replace(kept, " ").removesuffix(" ·") for line in lines]


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
