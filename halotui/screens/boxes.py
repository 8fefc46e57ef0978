"""The boxes of the screen, one or several: which is looked at, and which is drawn."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from textual.app import App

from halotui.model import Severity
from halotui.safe import clean
from halotui.screens.seat import Hall, Seat
from halotui.stations import Station

if TYPE_CHECKING:
    from halotui.screens.fleet_page import FleetPage

LINK_SECONDS = 1.0  # between two looks at the links of far boxes
_SETTLED = 3  # frames until everything that is imported late is there
_SETTLED_SECONDS = 30.0  # or so long, where no box gives frames


class Boxes:
    """One for the app's life. ``failed``: called with the trouble of the only box."""

    def __init__(
        self, app: App[Any], hall: Hall, stations: Sequence[Station], failed: Callable[[Exception], None]
    ) -> None:
        self._app, self._hall, self._failed = app, hall, failed
        named = len(stations) > 1
        self.all = [Seat(app, hall, one, one.name if one.link or named else "") for one in stations]
        self.seat = self.all[0]  # that is looked at, or was last
        self._fleet: FleetPage | None = None
        self._settled = False
        if named:
            from halotui.screens.fleet_page import FleetPage

            self._fleet = FleetPage(app, hall.canvas, self.all)
            self._fleet.shown = True
        self.seat.looked_at = not named

    @property
    def several(self) -> bool:
        return self._fleet is not None

    @property
    def fleet(self) -> FleetPage | None:
        """While it is looked at."""
        return self._fleet if self._fleet is not None and self._fleet.shown else None

    @property
    def chosen(self) -> Seat | None:
        """What a key acts on: the one that is looked at or pointed at."""
        return self.fleet.first() if self.fleet is not None else self.seat

    @property
    def elsewhere(self) -> str:
        """What must not go unseen of those that are not looked at; empty: nothing."""
        others = [seat for seat in self.all if seat is not self.seat]
        found = (seat.latest.findings for seat in others if seat.latest is not None and not seat.absent)
        critical = sum(one.severity is Severity.CRITICAL for findings in found for one in findings)
        boxes = f"{len(others)} other box{'es' if len(others) > 1 else ''}"
        return f"{boxes}: {critical} critical" if critical else ""

    def open(self) -> None:
        """All at once, none in the way of another."""
        for seat in self.all:
            self._app.run_worker(self._follow(seat), exit_on_error=True)
        if any(seat.station.link is not None for seat in self.all):
            self._app.set_interval(LINK_SECONDS, self._look_at_links)
            self._app.set_timer(_SETTLED_SECONDS, self._settle)

    async def _follow(self, seat: Seat) -> None:
        """Take each frame as it comes, until the feed ends."""
        try:
            await seat.open()
        except Exception as error:
            self._fail(seat, error)
            return
        try:
            await seat.show(self._taken)
        except Exception as error:
            if seat.replay is None and not self.several:
                raise
            self._fail(seat, error)  # a recording that cannot be read further, or one box of several

    def _fail(self, seat: Seat, error: Exception) -> None:
        if not self.several:
            self._failed(error)
            return
        seat.fail(clean(str(error)) or type(error).__name__)

    def _taken(self, seat: Seat) -> None:
        if seat.taken == _SETTLED:
            self._settle()
            unfinished = seat.station.unfinished
            if unfinished is not None and seat.station.desk is not None and unfinished.exists():
                seat.act("look")

    def _settle(self) -> None:
        """What start-up made stays: the collector need not look at it for ever. ``cli`` has it wait."""
        if not self._settled:
            self._settled = True
            gc.collect()
            gc.freeze()
            gc.enable()

    def changed(self, seat: Seat) -> None:
        """Draw what there is to see of that box."""
        if seat.looked_at:
            self._hall.canvas.update()
        elif self.fleet is not None:
            self.fleet.touch()

    def _look_at_links(self) -> None:
        """No frames come while a link is down: its age counts on all the same."""
        if self.fleet is None:
            if self.seat.away:
                self._hall.canvas.update()
        elif any(seat.away for seat in self.all):
            self.fleet.touch()

    # --- which is looked at

    def look_into(self, seat: Seat | None) -> None:
        """The cockpit of that box; None: all boxes."""
        if self._fleet is None or (seat is not None and seat.looked_at):
            return
        if not self._fleet.shown:
            self.seat.cursor = self._hall.canvas.cursor
        self.seat.looked_at = False
        self._fleet.shown = seat is None
        if seat is not None:
            self.seat, seat.looked_at = seat, True
            self._hall.canvas.cursor = seat.cursor
        else:
            self._fleet.point(self.seat)
        self._hall.settle_keys()
        self._hall.canvas.repaint()

    def step(self, boxes: int) -> None:
        """The next one, or the one before, counted round."""
        self.look_into(self.all[(self.all.index(self.seat) + boxes) % len(self.all)])

    async def log_in(self) -> None:
        """To the chosen one; one that is only lost is tried at once."""
        seat = self.chosen
        link = seat.link if seat is not None else None
        if seat is None or link is None or not seat.away:
            self._app.notify("there is nothing to log in to", timeout=3)
        elif seat.refused and seat.station.login is not None:
            from halotui.screens.logging_in import log_in

            name = seat.station.name or "the box"
            if trouble := await log_in(self._app, name, seat.station.login):
                self._app.notify(f"{name}: {trouble}", severity="error", timeout=10, markup=False)
            self._hall.canvas.repaint()
        elif seat.station.again is not None:
            seat.station.again()

    async def close(self) -> None:
        """All that was opened; the screen has gone already."""
        closed = await asyncio.gather(*(seat.close() for seat in self.all), return_exceptions=True)
        for error in closed:
            if isinstance(error, BaseException):
                raise error
