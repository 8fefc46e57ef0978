"""The views that fill the screen, and what the keys that move, scroll, filter and order do in each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import App

from halotui.widgets import log_pane, sources_pane
from halotui.widgets.canvas import Canvas
from halotui.widgets.holder_list import HolderList
from halotui.widgets.request_list import WINDOWS, RequestList
from halotui.widgets.rows import FINDING, Ref, Row, window
from halotui.widgets.view import View

COCKPIT, REQUESTS, PROCESSES = "cockpit", "requests", "processes"
LIST = "end=error, slot=1, ttft>2, decode<20, or words"


def _requests(view: View, width: int, height: int) -> list[Row]:
    from halotui.widgets.requests_view import rows  # on its key: the first paint need not wait for it

    return rows(view, width, height)


def _server(view: View, width: int) -> list[Row]:
    from halotui.widgets.server_view import page

    return page(view, width)


def _box(view: View, width: int) -> list[Row]:
    from halotui.widgets.box_view import page

    return page(view, width)


def _processes(view: View, width: int) -> list[Row]:
    from halotui.widgets.holders_view import page

    return page(view, width)


_LISTS = {"log": log_pane.rows, REQUESTS: _requests}  # they know by themselves what is seen of them
_LONG: dict[str, Callable[[View, int], list[Row]]] = {
    "sources": sources_pane.page,
    "server": _server,
    "box": _box,
    PROCESSES: _processes,
}


class Pages:
    """One for the app's life. ``name`` is the view on screen."""

    def __init__(self, app: App[Any], view: View, canvas: Canvas) -> None:
        self._app, self._view, self._canvas = app, view, canvas
        self.name = COCKPIT
        self._body = (0, 0)  # as it was drawn last

    @property
    def whole(self) -> bool:
        """Whether it fills the screen."""
        return self.name != COCKPIT

    @property
    def listed(self) -> bool:
        """Whether it is a list that can be put in order."""
        return self.name in (REQUESTS, PROCESSES)

    def rows(self, width: int, height: int) -> list[Row]:
        """Of the one on screen, between header and footer."""
        self._body = (width, height)
        if self.name in _LISTS:
            self._hold()
            return _LISTS[self.name](self._view, width, height)
        page = _LONG[self.name](self._view, width)
        self._view.top = max(0, min(self._view.top, len(page) - height))
        return window(page, self._view.top, width, height)

    def open(self, name: str) -> None:
        self.name = name
        self._view.top = 0
        self._canvas.point(None)

    # --- keys

    def scroll(self, lines: float) -> None:
        """Up by so many; further than either end is the end."""
        view = self._view
        if self.name == REQUESTS:
            view.requests.scroll(-int(lines), self._room())
        elif self.name in _LONG:
            view.top = int(max(0, view.top - lines))  # the other end is seen when it is drawn
        else:
            view.scroll = int(max(0, min(len(view.log()) - 1, view.scroll + lines)))
        self._canvas.update()

    def move(self, dx: int, dy: int) -> None:
        """To the next field; at the edge of a long page, further into it."""
        if not dy or not self.whole:
            self._canvas.move(dx, dy)
        elif self.name == REQUESTS:
            if not self._move_row(dy):
                self._canvas.move(dx, dy)
        else:
            top = None
            while not self._canvas.move(dx, dy, self.name):
                if top == self._view.top:  # the end of the page
                    self._canvas.move(dx, dy)
                    break
                top = self._view.top
                self.scroll(-dy)

    def clear(self) -> bool:
        """Whether there was anything to put away: a filter, a cursor, a place far from the beginning."""
        view = self._view
        if self.name == REQUESTS:
            there = bool(view.requests.words or view.requests.top is not None)
            view.requests.filter("")
        else:
            there = bool(view.filter or view.scroll)
            view.filter, view.scroll = "", 0
        there = there or self._canvas.cursor is not None
        self._canvas.point(None)
        self._canvas.update()
        return there

    def filter(self) -> None:
        """Ask for words, and show what matches them."""
        from halotui.screens.prompt import Prompt

        view, listed = self._view, self.name == REQUESTS

        def use(text: str | None) -> None:
            if text is None:
                return
            if listed:
                view.requests.filter(text)
            else:
                view.filter, view.scroll = text.strip(), 0
            self._canvas.update()

        asked = LIST if listed else "show log lines that contain …"
        self._app.push_screen(Prompt(asked, view.requests.words if listed else view.filter), use)

    # --- of a list: requests or processes

    def order(self) -> None:
        from halotui.widgets import holders_view, requests_view

        columns = holders_view.columns if self.name == PROCESSES else requests_view.columns
        self._list.order([column.sort for column in columns(self._body[0])])

    def reverse(self) -> None:
        self.by(self._list.sort)

    def by(self, sort: str) -> None:
        self._list.by(sort)
        self._view.top = 0

    @property
    def _list(self) -> RequestList | HolderList:
        return self._view.holders if self.name == PROCESSES else self._view.requests

    def window(self) -> None:
        """Of the requests alone."""
        list_ = self._view.requests
        list_.window = (list_.window + 1) % len(WINDOWS)

    def _room(self) -> int:
        from halotui.widgets.requests_view import room

        return room(*self._body)

    def _hold(self) -> None:
        """While a request is pointed at, the list stands still."""
        view, ref = self._view, self._canvas.cursor
        if self.name == REQUESTS and ref is not None and ref.field.startswith("request.") and view.server:
            shown = view.requests.shown(view.history, view.server.url)
            if view.requests.top is None and shown:
                view.requests.top = shown[0]

    def _move_row(self, step: int) -> bool:
        """The cursor to the request below or above, which comes into sight."""
        from halotui.widgets.requests_view import find, subject

        view, ref = self._view, self._canvas.cursor
        if view.server is None or ref is None or ref.field == FINDING:
            return False
        sample = find(view, ref.subject)
        shown = view.requests.shown(view.history, view.server.url)
        at = view.requests.place(sample) if sample is not None else None
        if at is None or not 0 <= at + step < len(shown):
            return False
        room = self._room()
        first = view.requests.first(room)
        if at + step < first:
            view.requests.scroll(at + step - first, room)
        elif at + step >= first + room:
            view.requests.scroll(at + step - first - room + 1, room)
        self._canvas.point(Ref(ref.field, subject(view.server, shown[at + step])))
        self._canvas.update()
        return True
