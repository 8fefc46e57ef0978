"""All lines, from what was looked at and how the rules stand. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from halotui.actions import Verdict
from halotui.doctor import audits, boxed, ruled, served, serving
from halotui.doctor.lines import Line, Section, Sighted
from halotui.doctor.parameters import is_strix
from halotui.doctor.standing import Standing
from halotui.safe import clean

_ORDER = {section: place for place, section in enumerate(Section)}
# Within their sections; what is not named comes after, in the order of its table.
_FIRST = ("machine", "kernel-old", "fw-bad", "kernel-parameters", "gtt-size", "carve-out", "vulkan", "server")
_NOTHING = Standing()


def lines(seen: Sighted, stand: Standing = _NOTHING) -> tuple[Line, ...]:
    """By section, servers in the order of the frame."""
    known = [line for audit in audits.BOX for line in audit(seen)]
    strix = is_strix(seen)
    rows = [row for row in boxed.ROWS if strix or row.section is Section.MEMORY]  # memory is every box's
    known += ruled.of_box(rows, seen, stand)
    known += _servers(seen, stand)
    known += ruled.others((*boxed.ROWS, *served.ROWS), seen.frame, stand)
    urls = [server.url for server in seen.frame.servers]
    known.sort(key=lambda line: (_ORDER[line.section], _place(urls, line.subject), _place(_FIRST, line.id)))
    return tuple(_harmless(line) for line in known)


def _servers(seen: Sighted, stand: Standing) -> Iterator[Line]:
    nursed = {one.url: one for one in seen.servers}
    for server in seen.frame.servers:
        yield from serving.of_server(server, nursed.get(server.url))
        yield from ruled.of_server(served.ROWS, seen, server, stand)


def _place(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)


def _harmless(line: Line) -> Line:
    """Once more: what stands here is shown, and copied into shells."""
    return replace(
        line,
        detail=clean(line.detail),
        read=clean(line.read),
        fix=clean(line.fix),
        commands=tuple(map(clean, line.commands)),
        subject=clean(line.subject),
    )


def must(known: Sequence[Line]) -> bool:
    """Whether something has to be fixed."""
    return any(line.verdict is Verdict.FAIL for line in known)
