"""A row for each box: what is wrong, how fast, how full. An RPC cluster is one job over its hosts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from halotui import format
from halotui.fleet import Box, Figures, Kind, Order, Row, rows, totals, worst
from halotui.model import Finding, LinkState
from halotui.widgets import link_words
from halotui.widgets.columns import fitting
from halotui.widgets.findings import MARKS
from halotui.widgets.rows import HOST, ORDER, Ref, Run, fill, fit, right, rule, spread, width_of
from halotui.widgets.rows import Row as Line

_GIB = 1024**3
_MARK = 1  # cells before the name
_NAME, _MODEL = (8, 20), (12, 34)  # cells: least and most
_TREE = 2  # cells of ├ and a blank
_STYLES = {severity: style for severity, (_, style) in MARKS.items()}


@dataclass
class FleetView:
    """What is drawn from; ``now`` in Unix seconds."""

    boxes: Sequence[Box] = ()
    now: float = 0.0
    notes: Mapping[int, tuple[str, bool]] = field(default_factory=dict)  # what goes on at a box, how loud
    order: Order = field(default_factory=Order)
    top: int = 0  # the first row shown
    room: int = 1  # rows that were shown last
    rows: Sequence[Row] = ()  # all that there are

    def look(self) -> None:
        """Bring the rows to what the boxes say."""
        self.rows = rows(self.boxes, self.order)

    def show(self, at: int) -> None:
        """This row comes into sight."""
        self.top = max(0, min(self.top, at), at - self.room + 1)

    def at(self, ref: Ref | None) -> Row | None:
        """The row that is pointed at."""
        return next((row for row in self.rows if ref is not None and ref_of(row) == ref), None)


def ref_of(row: Row) -> Ref | None:
    """What points at a row; None: there is nothing behind it."""
    return Ref(HOST, f"{row.kind} {row.box}") if row.box is not None else None


# --- the cells: text and style


class Column(NamedTuple):
    sort: str
    heading: str
    width: int  # with the gap before it
    rank: int  # 0 stays longest when room is short
    cell: Callable[[Figures], str]
    style: str = "text"


def _known(value: float | None, shown: Callable[[float], str]) -> str:
    return format.DASH if value is None else shown(value)


def _whole(value: float | None) -> str:
    return _known(value, lambda known: f"{known:.0f}")


def _of(part: float | None, all_: float | None, shown: Callable[[float], str]) -> str:
    return format.DASH if part is None and all_ is None else f"{_known(part, shown)}/{_known(all_, shown)}"


def _gib(value: float) -> str:
    return format.digits(value / _GIB)


_COLUMNS = (
    Column("backend", "backend", 9, 9, lambda of: of.backend or format.DASH, "dim"),
    Column("decode", "t/s", 7, 1, lambda of: _known(of.decode, format.rate), "value"),
    Column("prefill", "prefill", 9, 8, lambda of: _known(of.prefill, format.rate), "value"),
    Column("slots", "slots", 7, 3, lambda of: _of(of.slots_busy, of.slots_total, format.count)),
    Column("gtt", "GTT GiB", 10, 2, lambda of: _of(of.gtt_used, of.gtt_total, _gib)),
    Column("vram", "VRAM GiB", 11, 10, lambda of: _of(of.vram_used, of.vram_total, _gib)),
    Column("watts", "W", 5, 4, lambda of: _whole(of.watts)),
    Column("celsius", "°C", 5, 5, lambda of: _whole(of.celsius)),
)
_TITLE = Column("title", "", 28, 7, lambda of: "")  # what the worst finding is called: the rest of the line
_SUMMED = ("gtt", "vram", "watts")  # over the hosts of a job
_LINK, _COUNT = 12, 3  # cells of the link's state, of how many findings of a severity
_FOUND = 2 + _COUNT * len(MARKS)


class _Plan(NamedTuple):
    """Which columns there is room for, and how wide those are that stretch."""

    columns: Sequence[Column]
    name: int
    model: int
    title: int  # 0: it has no room


def _plan(view: FleetView, width: int) -> _Plan:
    own = (width_of(row.name) + 1 + _TREE * bool(row.stem) for row in view.rows if row.kind is Kind.BOX)
    name = max(_NAME[0], min(_NAME[1], max(own, default=0)))
    told = (
        width_of(row.note or row.figures.model or "") + 2 for row in view.rows if row.kind is not Kind.GROUP
    )
    wanted = max(_MODEL[0], min(_MODEL[1], max(told, default=0)))
    left = width - _MARK - name - _LINK - _FOUND - _MODEL[0]
    kept = fitting([*_COLUMNS, _TITLE], left)
    left -= sum(column.width for column in kept)
    model = _MODEL[0] + max(0, min(wanted - _MODEL[0], left))
    title = _TITLE.width + left - (model - _MODEL[0]) if _TITLE in kept else 0
    return _Plan([column for column in kept if column is not _TITLE], name, model, title)


# --- what is drawn


def header(view: FleetView, width: int) -> Line:
    """How many, what is wrong, and what they do together."""
    all_ = totals(view.boxes)
    left = [Run(" halotui ", "headlife"), Run(f" {all_.boxes} boxes ", "headvalue")]
    left.append(Run(f" {all_.up} up ", "headdim" if all_.up == all_.boxes else "headwarning"))
    for severity, (mark, style) in MARKS.items():
        if count := all_.findings.get(severity, 0):
            left.append(Run(f" {mark} {count} {severity} ", f"head{style}"))
    decode = f"{_known(all_.decode, format.rate)} t/s"
    watts = f"{_whole(all_.watts)} W"
    together = [Run(f" {right(decode, 9)} ", "headlife" if all_.decode else "headdim")]
    return spread(left, [*together, Run(f" {right(watts, 6)} ", "headdim")], width, "head")


def body(view: FleetView, width: int, height: int) -> list[Line]:
    """Between header and footer."""
    plan = _plan(view, width)
    spare = min(height // 3, height - 2 - len(view.rows))
    above = [] if plan.title else _band(view, width, max(height // 8, spare))
    view.room = max(1, height - len(above) - 2)
    view.top = max(0, min(view.top, len(view.rows) - view.room))
    out = [*above, rule("boxes", width, _note(view, plan)), _headings(view, plan, width)]
    out += [_line(view, row, plan, width) for row in view.rows[view.top : view.top + view.room]]
    if not view.rows:
        out.append(fill((Run(f"  no box matches '{view.order.words}'; esc shows all", "dim"),), width))
    return (out + [fill((), width)] * (height - len(out)))[:height]


def sorts(view: FleetView, width: int) -> list[str]:
    """What there is to order by, from left to right."""
    return ["name", "link", "model", *(column.sort for column in _plan(view, width).columns), "findings"]


def _band(view: FleetView, width: int, height: int) -> list[Line]:
    """What is wrong, where the rows have no room for it."""
    told: list[tuple[str, str, str, str]] = []
    for box in view.boxes:
        refused = box.link is not None and box.link.state is LinkState.REFUSED
        if why := box.trouble or (link_words.why(box.link) if box.link is not None and refused else ""):
            told.append(("✖", "trouble", box.title, why))
    for at, finding in worst(view.boxes):
        mark, style = MARKS[finding.severity]
        told.append((mark, style, view.boxes[at].title, finding.title))
    shown = told if len(told) <= height else told[: height - 1]
    out = [
        fill((Run(f" {mark} ", style), Run(f"{name} ", "dim"), Run(text, style)), width)
        for mark, style, name, text in shown
    ]
    if len(shown) < len(told) and height:
        out.append(fill((Run(f"   and {len(told) - len(shown)} more", "dim"),), width))
    return out


def _note(view: FleetView, plan: _Plan) -> list[Run]:
    """Which of them, and in which order."""
    order = view.order
    note = [Run(f"filter: {order.words}", "warning"), Run(" · ", "dim")] if order.words else []
    if order.sort:
        note.append(Run(f"by {order.sort} {_arrow(order)} · ", "dim"))
    here = sum(row.kind is Kind.BOX for row in view.rows)
    total = f"{here} of {len(view.boxes)}" if here != len(view.boxes) else str(here)
    if len(view.rows) > view.room:
        total = f"rows {view.top + 1}-{view.top + view.room} of {len(view.rows)}"
    return [*note, Run(total, "dim")]


def _arrow(order: Order) -> str:
    return "↓" if order.descending else "↑"


def _headings(view: FleetView, plan: _Plan, width: int) -> Line:
    """A click on one orders by it."""
    order = view.order

    def heading(sort: str, text: str, cells: int, left: bool = False) -> Run:
        by = order.sort == sort
        text = f"{text}{_arrow(order)}" if by else text
        shown = fit(f"  {text}" if sort != "name" else text, cells) if left else right(text, cells)
        return Run(shown, "value" if by else "dim", Ref(ORDER, sort))

    runs = [Run(" " * _MARK), heading("name", "box", plan.name, True)]
    runs += [heading("link", "link", _LINK, True), heading("model", "model", plan.model, True)]
    runs += [heading(column.sort, column.heading, column.width) for column in plan.columns]
    return fill([*runs, heading("findings", "findings", _FOUND + plan.title, True)], width)


def _line(view: FleetView, row: Row, plan: _Plan, width: int) -> Line:
    if row.kind is Kind.GROUP:
        return fill((Run(f" {row.name}  ", "title"), Run(row.note, "dim")), width)
    ref = ref_of(row)
    box = view.boxes[row.box] if row.box is not None else None
    runs = [Run(" " * _MARK, "text", ref), *_who(view, row, box, plan, ref)]
    for column in plan.columns:
        text = column.cell(row.figures)
        if row.kind is Kind.PEER:
            text = ""
        runs.append(Run(right(text, column.width), _style(row, column, text), ref))
    runs += [Run(text, style, ref) for text, style in _found(row)]
    if plan.title and (said := _said(view, row, box)):
        text, style = said
        runs.append(Run(fit(text, plan.title), style, ref))
    line = fill(runs, width)
    return (*line[:-1], line[-1]._replace(ref=ref))  # the cursor to the very edge


def _who(view: FleetView, row: Row, box: Box | None, plan: _Plan, ref: Ref | None) -> list[Run]:
    """Its name, how it is linked, and its model or its part in a job."""
    quiet = "text" if row.live else "late"
    if row.kind is Kind.JOB:
        name = fit(row.name, plan.name + _LINK - 1) + " "
        return [
            Run(name, "title" if row.live else "late", ref),
            Run(fit(f" {row.note}", plan.model), "dim", ref),
        ]
    runs = [Run(row.stem, "rule", ref)] if row.stem else []
    runs.append(Run(fit(row.name, plan.name - len(row.stem)), quiet, ref))
    if box is None:
        return [*runs, Run(" " * _LINK, "text", ref), Run(fit(f"  {row.note}", plan.model), "dim", ref)]
    link = ("failed", "trouble") if box.trouble else _link(view, box)
    runs.append(Run(fit(f"  {link[0]}", _LINK), link[1], ref))
    model = row.note or row.figures.model or format.DASH
    if not row.note and row.figures.models > 1:
        more = f" +{row.figures.models - 1}"
        model = fit(model, min(width_of(model), plan.model - 2 - len(more))) + more
    style = "dim" if row.note or row.figures.model is None else quiet
    return [*runs, Run(fit(f"  {model}", plan.model), style if row.live else "late", ref)]


def _link(view: FleetView, box: Box) -> tuple[str, str]:
    text = link_words.short(box.link, view.now)
    if box.link is None or box.link.state is LinkState.UP:
        return (text, "dim") if box.frame is not None else ("starting", "dim")
    return text, "warning" if box.link.state is LinkState.CONNECTING else "trouble"


def _style(row: Row, column: Column, text: str) -> str:
    if not row.live or (not row.whole and column.sort in _SUMMED):
        return "late"
    return "dim" if text in (format.DASH, "0") else column.style


def _found(row: Row) -> list[tuple[str, str]]:
    """How many of each severity, each in its place."""
    out = [("  ", "text")]
    for severity, (mark, style) in MARKS.items():
        count = sum(finding.severity is severity for finding in row.figures.findings)
        told = f"{mark}{count if count < 10 else '+'}" if count else ""
        out.append((fit(told, _COUNT), style if row.live else "late"))
    return out


def _said(view: FleetView, row: Row, box: Box | None) -> tuple[str, str] | None:
    """What goes on there, or is wrong."""
    if row.trouble:
        return row.trouble, "trouble"
    if box is None or row.kind is Kind.JOB:
        return None
    note, loud = view.notes.get(row.box if row.box is not None else -1, ("", False))
    if note:
        return note, "trouble" if loud else "life"
    if box.trouble:
        return box.trouble, "trouble"
    if box.link is not None and not box.linked:
        return link_words.why(box.link), "trouble" if box.link.state is LinkState.REFUSED else "late"
    first: Finding | None = next(iter(row.figures.findings), None)
    return (first.title, _STYLES[first.severity]) if first is not None else None
