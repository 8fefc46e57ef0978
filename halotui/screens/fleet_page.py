"""All boxes at a glance: what the keys do there, and when it is drawn."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text
from textual.app import App
from textual.timer import Timer

from halotui import format
from halotui.fleet import Box, Kind
from halotui.fleet import Row as BoxRow
from halotui.screens.seat import Seat
from halotui.widgets import fleet_view, link_words
from halotui.widgets.canvas import Canvas
from halotui.widgets.findings import MARKS
from halotui.widgets.fleet_view import FleetView, ref_of
from halotui.widgets.rows import Ref, Row
from halotui.widgets.tabs import name_of

DRAWN_SECONDS = 1.0  # between two pictures that nobody asked for by a key
KEYS = (  # ids of those that mean something here; first at its foot
    *("quit", "help", "enter", "explain", "login", "order", "reverse", "filter", "theme", "palette", "copy"),
)
WORDS = "boxes with a name, model, group, state or finding …"


class FleetPage:
    """One for the app's life; ``shown``: whether it is what is looked at."""

    def __init__(self, app: App[Any], canvas: Canvas, seats: Sequence[Seat]) -> None:
        self._app, self._canvas, self._seats = app, canvas, seats
        self.view = FleetView()
        self.shown = False
        self._drawn = 0.0  # monotonic
        self._waiting: Timer | None = None
        self._size = (80, 24)

    def touch(self) -> None:
        """Something is new: drawn soon, with what else is new by then."""
        if not self.shown or self._waiting is not None:
            return
        wait = self._drawn + DRAWN_SECONDS - time.monotonic()
        if wait <= 0:
            self.draw()
        else:
            self._waiting = self._app.set_timer(wait, self.draw)

    def draw(self) -> None:
        if self._waiting is not None:
            self._waiting.stop()
        self._waiting, self._drawn = None, time.monotonic()
        if self.shown:
            self._look()
            self._canvas.update()

    def _look(self) -> None:
        self.view.now = time.time()
        self.view.boxes = [box_of(seat) for seat in self._seats]
        self.view.notes = {at: seat.said for at, seat in enumerate(self._seats)}
        self.view.look()

    def rows(self, width: int, height: int) -> tuple[Row, list[Row]]:
        """The header, and what stands below it."""
        self._size = (width, height)
        if not self.view.boxes:
            self._look()
        return fleet_view.header(self.view, width), fleet_view.body(self.view, width, height)

    def keys(self, shown: Mapping[str, str]) -> dict[str, str]:
        """Those for the foot, by id."""
        here = {id_: shown[id_] for id_ in KEYS if id_ in shown}
        if not any(seat.away for seat in self._seats):
            here.pop("login", None)
        return here

    # --- what is pointed at

    @property
    def pointed(self) -> Seat | None:
        row = self.view.at(self._canvas.cursor)
        return self._seats[row.box] if row is not None and row.box is not None else None

    def first(self) -> Seat | None:
        """What is pointed at, else the first one."""
        at = next((row.box for row in self.view.rows if row.box is not None), None)
        return self.pointed or (self._seats[at] if at is not None else None)

    def point(self, seat: Seat) -> None:
        """At the row of this box."""
        self._look()
        for at, row in enumerate(self.view.rows):
            if row.kind is Kind.BOX and row.box is not None and self._seats[row.box] is seat:
                self._canvas.cursor = ref_of(row)
                self.view.show(at)

    def seat(self, ref: Ref) -> Seat | None:
        """Whose row was clicked."""
        row = self.view.at(ref)
        return self._seats[row.box] if row is not None and row.box is not None else None

    # --- keys

    def move(self, dx: int, dy: int) -> None:
        rows = [(at, ref) for at, row in enumerate(self.view.rows) if (ref := ref_of(row)) is not None]
        if not rows:
            return
        here = next((place for place, (_, ref) in enumerate(rows) if ref == self._canvas.cursor), None)
        place = 0 if here is None else max(0, min(len(rows) - 1, here + dy))
        at, ref = rows[place]
        self._canvas.cursor = ref
        self.view.show(0 if place == 0 else at)  # with the heading above the first
        self.draw()

    def scroll(self, lines: float) -> None:
        """Up by so many; further than either end is the end."""
        last = max(0, len(self.view.rows) - self.view.room)
        self.view.top = int(max(0, min(last, self.view.top - lines)))
        self.draw()

    def order(self) -> None:
        self.view.order.next(fleet_view.sorts(self.view, self._size[0]))
        self.draw()

    def reverse(self) -> None:
        self.by(self.view.order.sort)

    def by(self, sort: str) -> None:
        self.view.order.by(sort)
        self.draw()

    def clear(self) -> bool:
        """The cursor and the words."""
        self._canvas.cursor, self.view.order.words = None, ""
        self.draw()
        return True

    def filter(self) -> None:
        """Ask for words, and show the boxes that have them."""
        from halotui.screens.prompt import Prompt

        def use(text: str | None) -> None:
            if text is not None:
                self.view.order.words, self.view.top = text.strip(), 0
                self.draw()

        self._app.push_screen(
            Prompt("a name, model, group, finding, lost, critical …", self.view.order.words), use
        )

    def told(self) -> Text:
        """Of what is pointed at."""
        seat = self.first()
        if seat is None:
            return Text(f"no box matches '{self.view.order.words}'")
        row = self.view.at(self._canvas.cursor)
        return told(seat, row if row is not None and row.kind is Kind.JOB else None)


def told(seat: Seat, job: BoxRow | None = None) -> Text:
    """All that is known of a box at a glance, and of the job that it is the head of."""
    box, text = box_of(seat), Text()
    text.append(f"{box.title}\n", "bold")
    host = box.frame.host if box.frame is not None else ""
    about = [*([host] if host != box.title else []), *box.groups]
    if known := " · ".join(word for word in about if word):
        text.append(f"{known}\n", "dim")
    text.append("\n")
    lines = [*link_words.lines(box.link, time.time()), ("Trouble", box.trouble)]
    if job is not None:
        lines.append(
            ("Job", f"{job.name}, {job.note}; {job.trouble or 'all that are watched do their part'}")
        )
    for label, words in lines:
        if words:
            text.append(f"{label:<9}", "bold")
            text.append(f"{words}\n")
    if box.frame is None:
        return text
    seen = f", as of {format.clock(box.frame.time)}" if not box.live else ""
    text.append(f"\nServers{seen}\n", "bold")
    for server in box.frame.servers:
        speed = server.generation_tokens_per_second
        rate = f"  {format.rate(speed)} t/s" if speed else ""
        text.append(f"  {name_of(server)}  {server.state}{rate}\n")
    text.append(f"\nFindings{seen}\n", "bold")
    for finding in box.frame.findings:
        text.append(f"  {MARKS[finding.severity][0]} {finding.title}  {finding.evidence}\n")
    if not box.frame.findings:
        text.append("  none\n", "dim")
    return text


def box_of(seat: Seat) -> Box:
    """As it is known now."""
    station = seat.station
    return Box(
        station.name,
        seat.latest,
        seat.link,
        station.groups,
        tuple(station.addresses()) if station.addresses is not None else (),
        seat.trouble,
    )
