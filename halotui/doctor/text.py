"""The audit as text: verdict, what was read and where, what to do. Commands are never broken into lines."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence

from halotui.actions import Verdict
from halotui.doctor.lines import Line, Section

_Paint = Callable[[str, str], str]
WIDTH = 80
_VERDICT = 10  # columns, with their gap
_TITLE = 20
_COLOURS = {Verdict.OK: "32", Verdict.WARN: "33", Verdict.FAIL: "1;31", Verdict.UNKNOWN: "36"}
_DIM, _BOLD = "2", "1"


def text(
    lines: Sequence[Line],
    host: str,
    *,
    width: int = WIDTH,
    colour: bool = False,
    quiet: bool = False,
    far: str = "",
) -> str:
    """Without a final newline. ``quiet`` leaves out what is ok; it is counted all the same. ``far``: as the
    user calls the box, where the commands are not to be run here."""
    paint = _paint if colour else _plain
    shown = [line for line in lines if not (quiet and line.verdict is Verdict.OK)]
    there = [f"commands are to be run on {far}; halotui's own here, with --ssh {far}"] if far else []
    end = [""] if shown else []
    return "\n".join([*_blocks(shown, width, paint), *end, *there, f"{host}: {summary(lines)}"])


def summary(lines: Sequence[Line]) -> str:
    """2 must be fixed, 3 to look at, 21 ok."""
    count = {verdict: sum(line.verdict is verdict for line in lines) for verdict in Verdict}
    words = (
        f"{count[Verdict.FAIL] or 'nothing'} must be fixed",
        f"{count[Verdict.WARN]} to look at" if count[Verdict.WARN] else "",
        f"{count[Verdict.UNKNOWN]} unknown" if count[Verdict.UNKNOWN] else "",
        f"{count[Verdict.OK]} ok",
    )
    return ", ".join(filter(None, words))


def _blocks(lines: Sequence[Line], width: int, paint: _Paint) -> Iterator[str]:
    last = ""
    for line in lines:
        head = f"{line.section} {line.subject}" if line.section is Section.SERVER else str(line.section)
        if head != last:
            if last:
                yield ""
            yield paint(head, _BOLD)
            last = head
        yield from _line(line, width, paint)


def _line(line: Line, width: int, paint: _Paint) -> Iterator[str]:
    left = " " * (_VERDICT + _TITLE)
    room = max(20, width - len(left))
    told = _wrapped(line.detail, room) or [""]
    source = f"[{line.read}]" if line.read else ""
    beside = len(told[-1]) + 1 + len(source) <= room
    if source and beside:
        told[-1] = f"{told[-1]} {paint(source, _DIM)}"
    verdict = paint(f"{line.verdict:<{_VERDICT - 2}}", _COLOURS[line.verdict])
    yield f"  {verdict}{line.title:<{_TITLE - 1}} {told[0]}".rstrip()
    yield from (left + more for more in told[1:])
    if not beside:
        if max(map(len, source.split())) > room:  # a path that is broken cannot be copied
            left, room = " " * _VERDICT, width - _VERDICT
        yield from (left + paint(more, _DIM) for more in _wrapped(source, room))
    indent = " " * _VERDICT
    if line.fix:
        first, *rest = _wrapped(line.fix, width - len(indent) - 2)
        yield f"{indent}→ {first}"
        yield from (f"{indent}  {more}" for more in rest)
    yield from (f"{indent}$ {command}" for command in line.commands)


def _wrapped(words: str, width: int) -> list[str]:
    return textwrap.wrap(words, width, break_on_hyphens=False, break_long_words=False)


def _paint(words: str, code: str) -> str:
    return f"\x1b[{code}m{words}\x1b[0m"


def _plain(words: str, code: str) -> str:
    return words
