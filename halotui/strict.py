"""TOML into structs, strictly: an unknown key or a wrong value is named with its file and line.

Works on arrays of tables too: what is wrong in the second ``[[run]]`` is found there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
Step = str | int  # a key, or a number in an array

_PATH = re.compile(r"\.([\w-]+)|\[(\d+|\.\.\.)\]")


class TomlError(ValueError):
    """One line that says where and what."""


class Wrong(ValueError):
    """What a check of one's own found: the way down to it, and one phrase."""

    def __init__(self, steps: tuple[Step, ...], what: str) -> None:
        super().__init__(what)
        self.steps = steps
        self.what = what


def read(file: Path) -> tuple[dict[str, Any], str]:
    """The file's tables and its text. Raises TomlError."""
    try:
        text = file.read_text(encoding="utf-8")
        return msgspec.toml.decode(text), text
    except OSError as error:
        raise TomlError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TomlError(f"{file}: not UTF-8") from None
    except msgspec.DecodeError as error:  # TOML's own words name the line
        what, _, place = str(error).partition(" (at line ")
        number = place.partition(",")[0]
        raise TomlError(f"{file}:{number}: {what}" if number.isdecimal() else f"{file}: {what}") from None


def convert(values: dict[str, Any], kind: type[T]) -> T:
    """Raises Wrong."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise _locate(error, values, kind) from None


def located(file: Path, text: str, wrong: Wrong) -> TomlError:
    """The line of it: ``suite.toml:12: run.2.flags.xx: no such setting``; arrays count from 1."""
    path = ".".join(str(step + 1) if isinstance(step, int) else step for step in wrong.steps)
    place = f"{file}:{_line_of(wrong.steps, text)}"
    return TomlError(": ".join(part for part in (place, path, wrong.what) if part))


def _locate(error: msgspec.ValidationError, values: dict[str, Any], kind: Any) -> Wrong:
    """The steps down to what the error is about, and what it says. A struct's own check names its key in
    backticks. Members of a table are called ``[...]``: which one it is shows when each is tried alone."""
    what, _, path = str(error).partition(" - at `")
    steps: tuple[Step, ...] = ()
    for name, index in _PATH.findall(path.strip("`").removeprefix("$")):
        if index == "...":
            steps += _member(steps, values, kind, error)
        else:
            steps += (name or int(index),)
    if unknown := re.match(r"Object contains unknown field `(.+)`$", what):
        return Wrong((*steps, unknown[1]), "no such key")
    if told := re.match(r"`(.+?)`: (.*)", what, re.DOTALL):
        key = told[1]
        table = _at(values, steps)
        below = [k for k, v in table.items() if isinstance(v, dict) and key in v] if _is(table) else []
        return Wrong((*steps, *(below[:1] if _is(table) and key not in table else ()), key), told[2])
    return Wrong(steps, what)


def _member(
    steps: tuple[Step, ...], values: dict[str, Any], kind: Any, error: msgspec.ValidationError
) -> tuple[Step, ...]:
    """Which member of the table or array there fails with that error."""
    here = _at(values, steps)
    members = list(here.items()) if _is(here) else list(enumerate(here)) if isinstance(here, list) else []
    for key, member in members:
        alone: Any = {key: member} if _is(here) else [member]
        try:
            msgspec.convert(_with(values, steps, alone), kind)
        except msgspec.ValidationError as same:
            if str(same).partition(" - at ")[0] == str(error).partition(" - at ")[0]:
                return (key,)
    return ()


def _with(values: Any, steps: tuple[Step, ...], put: Any) -> Any:
    """A copy with something else at that place."""
    if not steps:
        return put
    first: Any = steps[0]
    rest = steps[1:]
    copy: Any = dict(values) if _is(values) else list(values)
    copy[first] = _with(copy[first], rest, put)
    return copy


def _is(value: Any) -> bool:
    return isinstance(value, dict)


def _at(values: Any, steps: tuple[Step, ...]) -> Any:
    """What stands there; None when nothing does."""
    for step in steps:
        try:
            values = values[step]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def _line_of(steps: tuple[Step, ...], text: str) -> int:
    """Where it is set: the first statement after which TOML's own parser knows it, however it is spelt. Of a
    table that lacks something: its head."""
    lines = text.split("\n")
    for depth in range(len(steps), 0, -1):
        start = 1
        for number in range(1, len(lines) + 1):
            if not (head := lines[number - 1].strip()) or head.startswith("#"):
                start = number + 1 if start == number else start
                continue
            try:
                values = msgspec.toml.decode("\n".join(lines[:number]))
            except msgspec.DecodeError:  # in the midst of a statement
                continue
            if _at(values, steps[:depth]) is not None:
                return start
            start = number + 1
    return 1
