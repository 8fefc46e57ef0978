"""Which process holds what: GPU memory, RAM, and who is at work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from halotui import fields, format
from halotui.model import HOLDER_SOURCE, Account, Holder, Source, SourceState
from halotui.widgets.columns import fitting
from halotui.widgets.holder_list import GPU
from halotui.widgets.rows import ORDER, Ref, Row, Run, fill, fit, right, rule, width_of
from halotui.widgets.sheet import wrapped
from halotui.widgets.view import View

HIDDEN = "hidden"


class Column(NamedTuple):
    sort: str  # of holder_list.SORTS
    key: str  # of Holder
    heading: str
    width: int
    rank: int  # 0 stays longest when room is short
    left: bool = False


COLUMNS = (
    Column("pid", "pid", "pid", 9, 2),
    Column("name", "name", "process", 19, 0, left=True),
    Column("user", "user", "user", 11, 7, left=True),
    Column("gtt", "gtt_bytes", "GTT", 10, 1),
    Column("vram", "vram_bytes", "VRAM", 10, 3),
    Column("rss", "rss_bytes", "RSS", 10, 4),
    Column("cpu", "cpu_percent", "CPU", 8, 5),
    Column("gpu", "gpu_percent", "GPU", 7, 6),
    Column("in", "container", "in", 26, 8, left=True),
)


def columns(width: int) -> list[Column]:
    return fitting(COLUMNS, width - 1)


def page(view: View, width: int) -> list[Row]:
    """All of it, however long."""
    frame, list_ = view.frame, view.holders
    source = view.sources.get(HOLDER_SOURCE)
    here = columns(width)
    order = f"by {list_.sort} {'↓' if list_.descending else '↑'}"
    out = [rule("processes", width, [Run(order, "dim")])]
    out.append(_headings(here, list_.sort, width))
    holders = list_.shown(frame.holders) if frame is not None else []
    late = source is not None and source.state is not SourceState.OK
    out += [_line(holder, here, width, late) for holder in holders]
    if not holders:
        out.append(fill((Run("   no process holds GPU memory or serves a model", "dim"),), width))
    out.append(fill((), width))
    if frame is not None and frame.account is not None:
        out += [fill(line, width) for line in _sums(frame.account, here)]
    if source is not None:
        out += _said(source, width)
    return out


def _headings(here: Sequence[Column], sort: str, width: int) -> Row:
    runs = []
    for column in here:
        by = column.sort == sort or (sort == GPU and column.sort in ("gtt", "vram"))
        place = _left if column.left else right
        runs.append(
            Run(place(column.heading, column.width), "title" if by else "dim", Ref(ORDER, column.sort))
        )
    return fill(runs, width)


def _left(text: str, width: int) -> str:
    return "  " + fit(text, width - 2)


def _line(holder: Holder, here: Sequence[Column], width: int, late: bool) -> Row:
    return fill([_cell(holder, column, late) for column in here], width)


def _cell(holder: Holder, column: Column, late: bool) -> Run:
    key = column.key
    if column.sort == "in" and holder.container is None:
        key = "unit"
    value = getattr(holder, key)
    ref = Ref(f"holder.{key}", str(holder.pid))
    if value is None:
        secret = holder.hidden and key in ("gtt_bytes", "vram_bytes", "gpu_percent")
        text, style = HIDDEN if secret else format.DASH, "dim"
        if column.left and not secret:
            text = ""
    else:
        text, style = format.show(fields.BY_ID[ref.field], value), "text"
        if key == "name" and holder.url is not None:
            style = "life"
        elif column.left or column.key == "pid" or not value:
            style = "dim" if key != "name" else "text"
        elif key in ("gtt_bytes", "vram_bytes"):
            style = "value"
    place = _left if column.left else right
    return Run(place(text, column.width), "late" if late else style, ref)


def _sums(account: Account, here: Sequence[Column]) -> list[list[Run]]:
    """What the processes hold together, and what nobody does: below the column of the same."""
    out = []
    rows = (
        ("owned_gtt_bytes", "of these processes", "text"),
        ("unowned_gtt_bytes", "of nobody seen here", "text"),
        ("leaked_gtt_bytes", "leaked: no living owner", "warning"),
    )
    place = [column.sort for column in here].index("gtt")
    size = here[place].width
    room = sum(column.width for column in here[:place])
    for key, label, style in rows:
        value = getattr(account, key)
        if value is not None:
            shown = Run(right(format.size(value), size), style, Ref(f"account.{key}", "account"))
            out.append([Run(fit(f"   {label}", room), "dim"), shown])
    return out


def _said(source: Source, width: int) -> list[Row]:
    """Whose memory is not ours to see, and what to do; or why there is nothing."""
    style = "dim" if source.state is SourceState.OK else "warning"
    texts = [text for text in (source.reason, source.hint) if text]
    if source.state is SourceState.HUNG and source.since_time is not None:
        texts.insert(0, f"hung since {format.clock(source.since_time)}")
    return [
        fill((Run(f"   {line}", style),), width)
        for text in texts
        for line in wrapped(text, max(20, width - 4 - width_of(" ")))
    ]
