"""The answer to ``4``: one field over minutes to days, with what happened on its axis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, Protocol, cast

from msgspec.structs import replace
from textual import events as pointer
from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from halotui import fields
from halotui.runs import Event, Past
from halotui.screens.history_chart import Picture, axis, cell, drawn
from halotui.screens.history_fields import Fields, Pair
from halotui.screens.history_look import DAY, HOUR, SPANS, Look, Seen, as_csv, ask, file_name
from halotui.screens.history_words import NOTHING, empty, foot, head, line
from halotui.screens.popup import DIM, Part, content, plain, reason, told

OpenPast = Callable[[], Awaitable[Past]]

LISTED = 400  # events in the list at most
_SETTLE = 0.03  # seconds that a held key is waited for
_PATIENCE = 0.15  # seconds until it is said that it takes a while


class Keeper(Protocol):
    async def keep(self, name: str, data: bytes) -> None:
        """A file in the state directory."""


class History(ModalScreen[None]):
    """Over the whole cockpit. Drawn when a key asks for it; what is read is read in a thread, and a key
    that comes meanwhile makes it void."""

    BINDINGS: ClassVar = [
        Binding("left,h", "pan(-1)", "Earlier"),
        Binding("right,l", "pan(1)", "Later"),
        Binding("plus,equals_sign", "zoom(-1)", "Zoom in"),
        Binding("minus", "zoom(1)", "Zoom out"),
        Binding("0,home", "hour", "The last hour"),
        Binding("d", "day", "The last day"),
        Binding("end", "latest", "To now"),
        Binding("right_square_bracket", "field(1)", "Next field"),
        Binding("left_square_bracket", "field(-1)", "Previous field"),
        Binding("f,enter", "choose", "Choose a field"),
        Binding("n,down,j", "event(1)", "Next event"),
        Binding("N,up,k", "event(-1)", "Previous event"),
        Binding("y", "copy", "Copy as CSV"),
        Binding("w", "write", "Write as CSV"),
        Binding("escape,q", "back", "Back"),
        Binding("4", "back", "Back", id="history"),  # the key that opened it
    ]
    DEFAULT_CSS = """
    History { background: $background; layout: vertical; }
    History Static { width: 100%; height: auto; }
    History #head { height: 2; background: $surface; padding: 0 1; }
    History #chart { height: 1fr; }
    History #axis { height: 1; }
    History OptionList { height: auto; border: none; padding: 0 1; background: $background;
        text-wrap: nowrap; text-overflow: ellipsis; scrollbar-size-vertical: 1;
        scrollbar-background: $background; scrollbar-color: $foreground 30%; }
    History #foot { background: $surface; padding: 0 1; link-style: none; link-color: $foreground;
        link-background: $surface; link-style-hover: reverse; }
    """

    def __init__(
        self,
        past: OpenPast | None,
        *,
        now: Callable[[], float] = time.time,
        field: Pair | None = None,
    ) -> None:
        """``now``: Unix seconds. ``field``: a subject and a field id to begin with."""
        super().__init__()
        self._open, self._now, self._first = past, now, field
        self._past: Past | None = None
        self._span: tuple[float, float] | None = None
        self._pairs: list[Pair] = []
        self._look: Look | None = None
        self._seen: Seen | None = None
        self._picture: Picture | None = None
        self._here: list[Event] = []  # in view,
        self._listed: list[Event] = []  # and of those in the list
        self._chosen: Event | None = None
        self._note = ""
        self._lines = 1  # of the foot

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Static(id="chart")
        yield Static(id="axis")
        listed = OptionList(compact=True)
        listed.can_focus = False
        yield listed
        yield Static(id="foot")

    def on_mount(self) -> None:
        self._foot()
        self._put("head", [("history", "bold"), ("  reading…", DIM)])
        self.run_worker(self._begin(), group="read", exclusive=True)

    def on_resize(self) -> None:
        self._foot()
        self._draw()
        self._read()

    # --- what is read

    async def _begin(self) -> None:
        """What there is, and at most the last hour of it."""
        assert self._open is not None
        try:
            self._past = await self._open()
            await self._survey()
        except Exception as error:
            self._put("chart", told(reason(error)))
            return
        if self._span is None:
            self._put("head", [("history", "bold")])
            self._put("chart", [(NOTHING, "")])
            return
        until = self._latest()
        there = until - self._span[0]
        span = next(span for span in SPANS if span >= min(there, HOUR))  # less where there is less
        await self._load(Look(self._pick(self._first), until - span, until))

    async def _survey(self) -> None:
        past = self._past
        assert past is not None
        self._span = await asyncio.to_thread(past.span)
        if self._span is not None:
            begin, end = self._span
            pairs = await asyncio.to_thread(past.subjects, max(begin, end - SPANS[-1]), end)
            self._pairs = [pair for pair in pairs if pair[1] in fields.BY_ID]

    def _pick(self, wanted: Pair | None) -> Pair:
        """What the cursor stood on, if that is a number; else the first one that has a chart on screen."""
        if wanted is not None and (wanted in self._pairs or fields.BY_ID[wanted[1]].unit != "text"):
            return wanted
        pairs = [pair for pair in self._pairs if fields.BY_ID[pair[1]].chart] or self._pairs
        return next(iter(pairs), ("memory", "memory.used_bytes"))

    def _latest(self) -> float:
        """Now; where nothing was recorded for an hour, the end of what there is. What a clock that was ahead
        has left in the future is found by going on to the right."""
        assert self._span is not None
        now, (begin, end) = self._now(), self._span
        return now if begin <= now <= end + HOUR else end

    def _read(self, look: Look | None = None) -> None:
        look = look or self._look
        if look is not None:
            self._look = look  # keys that follow at once go on from there
            self._head()
            self.run_worker(self._load(look), group="read", exclusive=True)

    async def _load(self, look: Look) -> None:
        past = self._past
        assert past is not None
        self._look = look
        self._head()
        await asyncio.sleep(_SETTLE)
        buckets = max(20, 2 * (self.app.size.width - 8))
        reading = asyncio.ensure_future(asyncio.to_thread(ask, past, look, buckets))
        done, _ = await asyncio.wait({reading}, timeout=_PATIENCE)
        if not done:
            self._note = "reading…"
            self._head()
        try:
            self._seen = await asyncio.shield(reading)
        except Exception as error:
            self._fail(error)
        else:
            self._note = ""
            self._draw()

    def _fail(self, error: Exception) -> None:
        """What was seen before stays."""
        self._note = ""
        self._head()
        self.notify(plain(told(reason(error))), severity="error", timeout=10, markup=False)

    # --- what is seen

    def _draw(self) -> None:
        seen = self._seen
        if seen is None:
            return
        here = self._here = [event for event in seen.events if seen.look.shows(event)]
        room = self.app.size.height - 3 - self._lines
        lines = min(len(here), max(2, room // 4))
        listed = self.query_one(OptionList)
        listed.styles.height = lines
        listed.display = bool(here)
        self._list()
        self._head()
        width, height = self.app.size.width, max(4, room - lines)
        if not seen.buckets:
            self._picture = None
            self._put("chart", empty(*self._span, self._now()) if self._span else [])
            self._axis()
            return
        look = seen.look
        self._picture = picture = drawn(look.field, seen.buckets, look.since, look.until, width - 1, height)
        self._put("chart", picture.parts)
        self._axis()

    def _list(self) -> None:
        """Of thousands of events those around the one that was chosen: the list is made at once."""
        at = self._here.index(self._chosen) if self._chosen in self._here else None
        first = max(0, (at or 0) - LISTED // 2)
        self._listed = self._here[first : first + LISTED]
        listed = self.query_one(OptionList)
        listed.clear_options()
        listed.add_options(Option(content(line(event))) for event in self._listed)
        listed.highlighted = at - first if at is not None else None

    def _axis(self) -> None:
        picture, seen = self._picture, self._seen
        marks: list[Part] = []
        if picture is not None and seen is not None:
            marks = axis(self._here, self._chosen, seen.look.since, seen.look.until, picture.columns)
            marks = [(" " * picture.left, ""), *marks]
        self._put("axis", marks)

    def _head(self) -> None:
        if self._look is not None:
            self._put("head", head(self._look, self._seen, self._note, self._now()))

    def _foot(self) -> None:
        lines = foot(self.app.size.width - 2)
        self._lines = len(lines)
        self.query_one("#foot", Static).update("\n".join(lines))

    def _put(self, id_: str, parts: Sequence[Part]) -> None:
        self.query_one(f"#{id_}", Static).update(content(parts))

    # --- keys

    def _to(self, look: Look) -> None:
        """Within what there is."""
        if self._span is not None:
            begin, end = self._span
            self._read(look.within(begin, max(self._now(), end)))

    def action_pan(self, quarters: float) -> None:
        if look := self._look:
            self._to(look.panned(quarters))

    def action_zoom(self, step: int) -> None:
        if look := self._look:
            self._to(look.zoomed(step))

    def action_hour(self) -> None:
        self._to_latest(HOUR)

    def action_day(self) -> None:
        self._to_latest(DAY)

    def action_latest(self) -> None:
        if self._look:
            self._to_latest(self._look.span)

    def _to_latest(self, span: float) -> None:
        if self._look:
            self.run_worker(self._go_latest(self._look, span), group="read", exclusive=True)

    async def _go_latest(self, look: Look, span: float) -> None:
        """There is more by now."""
        try:
            await self._survey()
        except Exception as error:
            self._fail(error)
            return
        until = self._latest()
        await self._load(look.ending(until, span))

    def action_field(self, step: int) -> None:
        """Through those that have a chart on screen."""
        look = self._look
        if look is None:
            return
        pairs = [pair for pair in self._pairs if fields.BY_ID[pair[1]].chart or pair == look.pair]
        if pairs:
            at = pairs.index(look.pair) if look.pair in pairs else -step
            self._read(replace(look, pair=pairs[(at + step) % len(pairs)]))

    def action_choose(self) -> None:
        look = self._look
        if look is None or not self._pairs:
            return

        def use(pair: Pair | None) -> None:
            if pair is not None:
                self._read(replace(look, pair=pair))

        self.app.push_screen(Fields(self._pairs, look.pair), use)

    def action_event(self, step: int) -> None:
        """To the next one, which need not be in view; the first press goes from the middle."""
        seen = self._seen
        if seen is None:
            return
        if self._chosen in seen.events:
            at = seen.events.index(self._chosen) + step
        else:
            after = sum(event.time < seen.look.middle for event in seen.events)
            at = after if step > 0 else after - 1
        if 0 <= at < len(seen.events):
            self._choose(seen.events[at])
        else:
            self.notify(f"no {'later' if step > 0 else 'earlier'} event within a day", timeout=3)

    def _choose(self, event: Event) -> None:
        self._chosen = event
        look = self._look
        if look is not None and not look.since <= event.time <= look.until:
            self._to(look.around(event.time, look.span))
            return
        if event in self._listed:
            self.query_one(OptionList).highlighted = self._listed.index(event)
        else:
            self._list()
        self._axis()

    def action_copy(self) -> None:
        if self._seen and self._seen.buckets:
            self.app.copy_to_clipboard(as_csv(self._seen))
            self.notify(f"copied: {len(self._seen.buckets)} rows of CSV", timeout=2)

    async def action_write(self) -> None:
        seen = self._seen
        if seen and seen.buckets:
            await cast(Keeper, self.app).keep(file_name(seen.look), as_csv(seen).encode())

    def action_back(self) -> None:
        self.dismiss(None)

    # --- the mouse

    def on_mouse_scroll_up(self, _: pointer.MouseScrollUp) -> None:
        self.action_zoom(-1)

    def on_mouse_scroll_down(self, _: pointer.MouseScrollDown) -> None:
        self.action_zoom(1)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        if event.option_index < len(self._listed):
            self._choose(self._listed[event.option_index])

    def on_click(self, event: pointer.Click) -> None:
        """On the row of events: the nearest one."""
        picture, look = self._picture, self._look
        if picture is None or look is None or event.widget is not self.query_one("#axis"):
            return
        column = event.x - picture.left

        def away(one: Event) -> int:
            return abs(cell(one.time, look.since, look.until, picture.columns) - column)

        nearest = min((one for one in self._here if one.kind != "gap"), key=away, default=None)
        if nearest is not None and away(nearest) <= 2:
            self._choose(nearest)
