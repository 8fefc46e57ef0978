"""From the state of a box, or of all of them, to rows that fill the screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from halotui.screens.seat import Seat
from halotui.widgets import footer
from halotui.widgets.layout import PANELS, SMALLEST, Place, around, places
from halotui.widgets.rows import Row, Run, fill
from halotui.widgets.view import View

if TYPE_CHECKING:
    from halotui.screens.fleet_page import FleetPage

Picture = list[tuple[Place, list[Row]]]
Shown = Mapping[str, str]  # the keys that are there, by id


def too_small(width: int, height: int) -> Picture | None:
    if width >= SMALLEST[0] and height >= SMALLEST[1]:
        return None
    text = f"halotui needs {SMALLEST[0]}x{SMALLEST[1]}; this is {width}x{height}"
    return [(Place("header", 0, 0, width, 1), [fill((Run(text, "warning"),), width)])]


def all_boxes(fleet: FleetPage, keys: Shown, width: int, height: int) -> Picture:
    head, body = fleet.rows(width, height - 2)
    return [
        (Place("header", 0, 0, width, 1), [head]),
        (Place("fleet", 0, 1, width, height - 2), body),
        (Place("footer", 0, height - 1, width, 1), footer.rows(View(), width, 1, keys=fleet.keys(keys))),
    ]


def cockpit(seat: Seat, keys: Shown, width: int, height: int) -> Picture:
    """Of one box, with its line above the foot where it has one."""
    if seat.strip_rows is None:
        return _dimmed(seat, _panels(seat, keys, width, height))
    *panels, (foot, last) = _panels(seat, keys, width, height - 1)
    strip = Place("strip", 0, foot.y, width, 1)
    return [*_dimmed(seat, panels), (strip, seat.strip_rows(width)), (foot._replace(y=foot.y + 1), last)]


def _panels(seat: Seat, keys: Shown, width: int, height: int) -> Picture:
    """From the header to the footer."""
    view, pages = seat.view, seat.pages
    note, loud = seat.said
    if not seat.away:
        keys = {id_: key for id_, key in keys.items() if id_ != "login"}

    def foot(view: View, width: int, height: int) -> list[Row]:
        return footer.rows(view, width, height, keys=keys, note=note, loud=loud, here=pages.name)

    panels = {**PANELS, "footer": foot}
    if pages.whole or (view.frame is None and seat.absent):
        *head, last = around(width, height, len(view.servers))
        body = Place(pages.name, 0, len(head), width, last.y - len(head))
        panels[pages.name] = lambda _, *size: (
            pages.rows(*size) if view.frame or pages.whole else _why(view, *size)
        )
        here = [*head, body, last]
    else:
        found = len(view.frame.findings) if view.frame is not None else 0
        served = len(view.server.slots or view.server.models) if view.server is not None else 1
        here = places(width, height, found, served, len(view.servers))
    return [(place, panels[place.panel](view, place.width, place.height)) for place in here]


def _why(view: View, width: int, height: int) -> list[Row]:
    """In place of a picture, where there never was one."""
    from halotui.widgets import link_words

    return link_words.page(view.link, view.trouble, width, height)


def _dimmed(seat: Seat, picture: Picture) -> Picture:
    """A box that cannot be asked is shown as it was last seen."""
    if not seat.absent:
        return picture
    from halotui.widgets import link_words

    still = ("header", "footer")
    return [(place, rows if place.panel in still else link_words.dimmed(rows)) for place, rows in picture]
