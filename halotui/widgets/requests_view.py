"""The requests that have ended: what they say together, then a row each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from halotui import fields, figures, format
from halotui.history import Sample
from halotui.model import Request, Server, SourceState
from halotui.widgets import requests_figures
from halotui.widgets.columns import fitting
from halotui.widgets.request_list import RequestList
from halotui.widgets.rows import ORDER, Ref, Row, Run, fill, fit, right, rule, width_of
from halotui.widgets.sheet import wrapped
from halotui.widgets.view import View

_DAY = 86400.0  # seconds


def _when(sample: Sample, now: float) -> str:
    """The time of day; of what is older, the date."""
    shown = time.localtime(sample.time)
    return time.strftime("%H:%M:%S" if now - sample.time < _DAY else "%m-%d", shown)


def _plain(key: str) -> Callable[[Sample, float], str]:
    field = fields.BY_ID[f"request.{key}"]

    def cell(sample: Sample, now: float) -> str:
        value = getattr(sample.request, key)
        if field.unit == "tokens" and value is not None:
            return format.count(value)
        return format.show(field, value).removesuffix(" t/s")

    return cell


def _mean(sample: Sample, now: float) -> str:
    length = sample.request.draft_mean_tokens
    return format.DASH if length is None else format.digits(length)


def _wall(sample: Sample, now: float) -> str:
    wall = sample.request.wall_seconds
    return format.DASH if wall is None else _seconds(wall)


def _seconds(value: float) -> str:
    """In one unit for longer than elsewhere: a column is read downwards."""
    return f"{value:.0f} s" if 59.95 <= value < 999.5 else format.seconds(value)


def _ttft(sample: Sample, now: float) -> str:
    return first_token(sample.request)


def first_token(request: Request) -> str:
    """With its error, where that is more than a tenth."""
    value, error = request.ttft_seconds, request.ttft_error_seconds
    if value is None:
        return format.DASH
    if not error or error <= value / 10:
        return _seconds(value)
    scale, unit, fine = (1000, "ms", 0.01) if value < 1 else (1, "s", 60)
    decimals = 1 if value < fine else 0
    return f"{value * scale:.{decimals}f}±{error * scale:.{decimals}f} {unit}"


class Column(NamedTuple):
    sort: str  # a word of figures.SORTS
    heading: str
    width: int
    rank: int  # 0 stays longest when room is short
    cell: Callable[[Sample, float], str]
    style: str = "text"

    @property
    def field(self) -> str:
        return f"request.{figures.SORTS[self.sort]}"


COLUMNS = (
    Column("time", "ended", 9, 0, _when, "dim"),
    Column("slot", "slot", 6, 10, _plain("slot"), "dim"),
    Column("task", "task", 8, 14, _plain("task"), "dim"),
    Column("prompt", "prompt", 8, 1, _plain("prompt_tokens")),
    Column("cached", "cached", 9, 8, _plain("cached_tokens"), "dim"),
    Column("prefill", "prefill", 9, 5, _plain("prompt_tokens_per_second"), "value"),
    Column("ttft", "TTFT", 12, 2, _ttft),
    Column("generated", "output", 8, 3, _plain("generation_tokens")),
    Column("decode", "decode", 8, 4, _plain("generation_tokens_per_second"), "value"),
    Column("drafted", "drafted", 9, 15, _plain("draft_tokens"), "dim"),
    Column("accepted", "accepted", 10, 16, _plain("draft_accepted_tokens"), "dim"),
    Column("draft", "draft", 7, 6, _plain("draft_acceptance_ratio")),
    Column("cover", "cover", 7, 11, _plain("draft_coverage_ratio")),
    Column("length", "mean", 6, 13, _mean),
    Column("depth", "depth", 9, 12, _plain("context_tokens"), "dim"),
    Column("end", "end", 10, 7, _plain("end"), "dim"),
    Column("wall", "wall", 9, 9, _wall),
)
_MARK = 2  # cells
_SPARE = 44  # cells of the rule that the words of the filter leave
_REASON = 16  # cells from which there is room for why


def rows(view: View, width: int, height: int) -> list[Row]:
    """A rule, the figures, the headings and the requests from ``view.requests.top`` on."""
    server, frame = view.server, view.frame
    list_ = view.requests
    if server is None or frame is None:
        out = [rule("requests", width), fill((Run(" no server is looked at", "dim"),), width)]
        return (out + [fill((), width)] * (height - 2))[:height]
    shown = list_.shown(view.history, server.url)
    above = requests_figures.rows(view, server, width, height - 1)
    room = height - len(above) - 2
    here = columns(width)
    out = [rule("requests", width, _note(view, server, here, width, room)), *above]
    out.append(_headings(list_, here, width))
    if not shown:
        said = (line for text in _why(view, server) for line in wrapped(text, width - 3))
        out += [fill((Run(f"  {line}", "dim"),), width) for line in said]
    first = list_.first(room)
    out += [_line(server, sample, here, frame.time, width) for sample in shown[first : first + max(0, room)]]
    out += [fill((), width)] * (height - len(out))
    return out[:height]


def columns(width: int) -> list[Column]:
    """Those that there is room for."""
    return fitting(COLUMNS, width - _MARK - 1)


def room(width: int, height: int) -> int:
    """Rows of the table on a body of that size."""
    return max(1, height - 2 - requests_figures.height_of(width, height - 1))


def subject(server: Server, sample: Sample) -> str:
    """What a row's refs point at."""
    return f"{server.url}#{sample.time!r} {sample.request.slot} {sample.request.task}"


def find(view: View, subject_: str) -> Sample | None:
    """The request that a row's ref points at."""
    url = subject_.partition("#")[0]
    server = next((server for server in view.servers if server.url == url), None)
    if server is None:
        return None
    samples = view.requests.all(view.history, url)
    return next((sample for sample in samples if subject(server, sample) == subject_), None)


def _headings(list_: RequestList, here: Sequence[Column], width: int) -> Row:
    """A click on one orders by it."""
    runs = [Run(" " * _MARK)]
    for column in here:
        sorted_ = column.sort == list_.sort
        text = right(column.heading + (_arrow(list_) if sorted_ else ""), column.width)
        runs.append(Run(text, "value" if sorted_ else "dim", Ref(ORDER, column.sort)))
    return fill(runs, width)


def _arrow(list_: RequestList) -> str:
    return "↓" if list_.descending else "↑"


def _line(server: Server, sample: Sample, here: Sequence[Column], now: float, width: int) -> Row:
    request = sample.request
    of = subject(server, sample)
    mark, style = requests_figures.MARKS.get(request.end, (" ", "")) if request.end is not None else (" ", "")
    line = [Run(f"{mark} ", style or "text")]
    for column in here:
        text = column.cell(sample, now)
        known = "dim" if text == format.DASH else column.style
        if column.sort == "end" and style:
            known = style
        line.append(Run(right(text, column.width), known, Ref(column.field, of)))
    left = width - sum(width_of(run.text) for run in line)
    if request.reason and left >= _REASON:
        line.append(Run("  " + fit(request.reason, left - 2), style or "dim", Ref("request.reason", of)))
    return fill(line, width)


def _note(view: View, server: Server, here: Sequence[Column], width: int, room: int) -> list[Run]:
    """How many of how many, by which words and in which order."""
    list_ = view.requests
    shown, all_ = list_.shown(view.history, server.url), list_.all(view.history, server.url)
    first = list_.first(room)
    note: list[Run] = []
    if list_.words:
        wrong = figures.trouble(list_.words)
        text = f"filter: {wrong or list_.words}"
        note += [Run(fit(text, min(width_of(text), width - _SPARE)), "warning"), Run(" · ", "dim")]
    if first and list_.sort == "time" and list_.descending:
        note += [Run(f"{first} newer above", "warning"), Run(" · ", "dim")]
    if all(column.sort != list_.sort for column in here):
        note.append(Run(f"by {list_.sort}{_arrow(list_)} · ", "dim"))
    last = min(len(shown), first + room)
    total = f"{len(shown)} of {len(all_)}" if len(shown) != len(all_) else str(len(all_))
    if len(shown) > room:
        total = f"{first + 1}-{last} of {total}"
    return [*note, Run(total, "dim")]


def _why(view: View, server: Server) -> list[str]:
    """Why there are none, and what brings them."""
    list_ = view.requests
    if list_.words and list_.all(view.history, server.url):
        return [f"no request matches '{list_.words}'; esc shows all"]
    if server.models and not server.slots:
        return ["the models that are served have their requests in their own tabs"]
    log = view.sources.get(f"log {server.url}")
    if log is not None and log.state is SourceState.OK:
        return ["none has ended since the log is followed"]
    slots = view.sources.get(f"/slots {server.url}")
    if slots is not None and slots.state is SourceState.OK:
        first = "none has ended yet; without a log each is known from its slot alone, to a poll"
    else:
        first = "requests are told by the log and by /slots: neither is to be had here"
    told = [text for text in ((log.reason, log.hint) if log is not None else ()) if text]
    return [first, *(told or ["start the server with --log-file FILE, or give --log FILE"])]
