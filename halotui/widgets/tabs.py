"""One line with a tab a server, when there are several: its number, name, state and speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote

from halotui import format
from halotui.model import Server, ServerState, Severity
from halotui.safe import clean
from halotui.widgets.rows import KEY, TAB, Ref, Row, Run, fill, fit, right, width_of
from halotui.widgets.view import MARK_STYLES, View

BAD = {ServerState.DOWN, ServerState.LOCKED, ServerState.FAILED}
LLAMA = "llama.cpp"  # the engine that a server is unless it says otherwise
CHILD = "└"
_RATE = 9  # cells of "41.2 t/s", and of any state


class Detail(NamedTuple):
    """How much of each server is told: cells at most of its name; its state beside its speed, or in turn."""

    name: int
    both: bool


_DETAILS = (Detail(28, True), Detail(18, False), Detail(12, False))


def rows(view: View, width: int, height: int) -> list[Row]:
    """As much of each as there is room for; then as many as there is room for, around the current one."""
    shown = [_cells(view, detail) for detail in _DETAILS]
    runs = next((tabs for tabs in shown if _size(tabs) <= width), None)
    if runs is None:
        return [_around(shown[-1], view.tab, width)]
    return [fill(_joined(runs), width)]


def name_of(server: Server, before: str = "") -> str:
    """What people call it: the model, or what that was ``before``, without directory and file type; else what
    it is."""
    name = (server.model or before).rpartition("/")[2].removesuffix(".gguf")
    if not name and "?model=" in server.url:
        name = clean(unquote(server.url.partition("?model=")[2]))
    if not name and server.engine == LLAMA:
        name = "router" if server.models else server.url.partition("//")[2]
    return name or server.engine


def number_of(view: View, subject: str) -> int | None:
    """The tab of the server that a subject is, or is of; None where there are no tabs."""
    if len(view.servers) < 2:
        return None
    url = subject.partition("#")[0]
    return next((at + 1 for at, server in enumerate(view.servers) if server.url == url), None)


def _cells(view: View, detail: Detail) -> list[list[Run]]:
    """The runs of each tab, as wide from frame to frame."""
    worst = _worst(view)
    urls = {server.url for server in view.servers}
    return [
        _tab(
            at,
            server,
            name_of(server, view.names.get(server.url, "")),
            detail,
            server is view.server,
            worst.get(server.url),
            server.behind in urls,
        )
        for at, server in enumerate(view.servers)
    ]


def _tab(
    at: int, server: Server, name: str, detail: Detail, current: bool, trouble: str | None, child: bool
) -> list[Run]:
    head = "head" if current else ""
    ref = Ref(TAB, server.url)
    name = CHILD + name if child else name
    speed = server.generation_tokens_per_second
    rate = format.DASH if speed is None else f"{format.rate(speed)} t/s"
    busy = server.state is ServerState.BUSY
    style = "trouble" if server.state in BAD else "life" if busy else "dim"
    told = [rate if busy and speed is not None else str(server.state)]
    if detail.both:
        told = [str(server.state), rate if busy else ""]
    marked = trouble or ("value" if current else "text")
    return [
        Run(f" {at + 1} ", f"{head}dim", ref),
        Run(fit(name, min(width_of(name), detail.name)), head + marked, ref),
        Run("".join(right(text, _RATE) for text in told) + " ", head + style, ref),
    ]


def _worst(view: View) -> dict[str, str]:
    """The style of the worst finding of each server, by its url."""
    styles: dict[str, str] = {}
    for finding in view.frame.findings if view.frame is not None else ():
        if finding.severity is not Severity.INFO:
            url = finding.subject.partition("#")[0]
            if styles.get(url) != MARK_STYLES[Severity.CRITICAL]:
                styles[url] = MARK_STYLES[finding.severity]
    return styles


def _size(tabs: Sequence[Sequence[Run]]) -> int:
    return sum(width_of(run.text) + (at == 0) for runs in tabs for at, run in enumerate(runs)) - 1


def _joined(tabs: Sequence[Sequence[Run]]) -> list[Run]:
    return [run for at, runs in enumerate(tabs) for run in ((Run("│", "rule"), *runs) if at else runs)]


def _around(tabs: Sequence[Sequence[Run]], current: int, width: int) -> Row:
    """The current one and its neighbours; at the edges how many more there are, to click at."""
    edge = 2 + len(str(len(tabs)))
    room = width - 2 * edge
    first, last = current, current + 1
    while True:
        before = _size(tabs[first - 1 : last]) <= room if first else False
        after = _size(tabs[first : last + 1]) <= room if last < len(tabs) else False
        if after and (not before or last - current <= current - first):
            last += 1
        elif before:
            first -= 1
        else:
            break
    left, more = first, len(tabs) - last
    return (
        Run(fit(f"‹{left}", edge) if left else " " * edge, "text", Ref(KEY, "previous-server")),
        *fill(_joined(tabs[first:last]), room),
        Run(right(f"{more}›", edge) if more else " " * edge, "text", Ref(KEY, "next-server")),
    )
