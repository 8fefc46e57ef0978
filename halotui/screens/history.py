"""The answer to ``4``: one field over minutes to days, with what happened on its axis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import ClassVar, NamedTuple, Protocol, cast

from msgspec import Struct
from msgspec.structs import replace
from textual import events as pointer
from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from halotui import fields, format
from halotui.runs import Bucket, Event, Past
from halotui.safe import clean
from halotui.screens.history_chart import Picture, axis, cell, drawn, look
from halotui.screens.history_fields import Fields, Pair, whose
from halotui.screens.popup import DIM, WARN, Part, content, plain, reason, told

OpenPast = Callable[[], Awaitable[Past]]

HOUR, DAY = 3600.0, 86_400.0
SPANS: tuple[float, ...] = (
    60,
    120,
    300,
    900,
    1800,
    HOUR,
    2 * HOUR,
    4 * HOUR,
    8 * HOUR,
    12 * HOUR,
)  # seconds in view
SPANS += (DAY, 2 * DAY, 4 * DAY, 7 * DAY, 14 * DAY, 30 * DAY)
NEAR = DAY  # seconds before and behind the view whose events n and N reach
_SETTLE = 0.03  # seconds that a held key is waited for
_PATIENCE = 0.15  # seconds until it is said that it takes a while
_NOTHING = """\
Nothing is recorded yet.

The flight recorder keeps every frame while the dashboard runs, unless config.toml says recorder = false.
Come back in a minute."""

_KEYS = (  # the foot, every one a button: Textual's name, what is shown, what it does
    ("left", "←", ""),
    ("right", "→", "pan"),
    ("plus", "+", ""),
    ("minus", "-", "zoom"),
    ("0", "0", "hour"),
    ("d", "d", "day"),
    ("end", "end", "now"),
    ("left_square_bracket", "\\[", ""),
    ("right_square_bracket", "]", ""),
    ("f", "f", "field"),
    ("n", "n", ""),
    ("N", "N", "event"),
    ("y", "y", "copy"),
    ("w", "w", "write"),
    ("escape", "esc", "back"),
)


class Keeper(Protocol):
    async def keep(self, name: str, data: bytes) -> None:
        """A file in the state directory."""


class Look(Struct, frozen=True):
    """What is asked for: a field, from when to when (Unix seconds)."""

    pair: Pair
    since: float
    until: float

    @property
    def span(self) -> float:
        return self.until - self.since


class Seen(NamedTuple):
    """The answer."""

    look: Look
    buckets: list[Bucket]
    events: list[Event]  # also those near the view


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
        Binding("escape,q,4", "back", "Back"),
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
            self._put("chart", [(_NOTHING, "")])
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
        """Now; where nothing was recorded for an hour, the end of what there is."""
        assert self._span is not None
        now, end = self._now(), self._span[1]
        return end if end < now - HOUR or end > now else now

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
        reading = asyncio.ensure_future(asyncio.to_thread(_ask, past, look, buckets))
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
        here = self._in_view()
        listed = self.query_one(OptionList)
        room = self.app.size.height - 3 - self._lines
        lines = min(len(here), max(2, room // 4)) if here else 0
        listed.styles.height = lines
        listed.display = bool(here)
        listed.clear_options()
        listed.add_options(Option(content(_line(event))) for event in here)
        if self._chosen in here:
            listed.highlighted = here.index(self._chosen)
        else:
            listed.highlighted = None
        self._head()
        width, height = self.app.size.width, max(4, room - lines)
        if not seen.buckets:
            self._picture = None
            self._put("chart", self._empty())
            self._put("axis", [])
            return
        field, look = fields.BY_ID[seen.look.pair[1]], seen.look
        self._picture = picture = drawn(field, seen.buckets, look.since, look.until, width - 1, height)
        self._put("chart", picture.parts)
        marks = axis(here, self._chosen, look.since, look.until, picture.columns)
        self._put("axis", [(" " * picture.left, ""), *marks])

    def _head(self) -> None:
        look, seen = self._look, self._seen
        if look is None:
            return
        subject, id_ = look.pair
        field = fields.BY_ID[id_]
        note = [(f"   {self._note}", WARN)] if self._note else []
        parts: list[Part] = [
            (field.label, "bold"),
            (f"  {whose(subject)}", ""),
            (f"  {_rounded(look.span)}  {_period(look.since, look.until, self._now())}", DIM),
            *note,
            ("\n", ""),
        ]
        if seen is not None and seen.buckets and seen.look == look:
            for name, value in zip(("least", "mean", "most"), _totals(seen.buckets), strict=True):
                parts += [(f"{name} ", DIM), (f"{format.show(field, value)}   ", "bold")]
        self._put("head", parts)

    def _empty(self) -> list[Part]:
        assert self._span is not None
        begin, end = self._span
        return [
            ("\n Nothing of it was recorded in this stretch.\n", ""),
            (f" There are recordings {_period(begin, end, self._now())}.", DIM),
        ]

    def _in_view(self) -> list[Event]:
        seen = self._seen
        if seen is None:
            return []
        since, until = seen.look.since, seen.look.until
        return [e for e in seen.events if e.time <= until and (e.until_time or e.time) >= since]

    def _foot(self) -> None:
        """Every key, on as many lines as it takes."""
        lines, room = [""], 0
        for key, shown, name in _KEYS:
            words = f"{shown} {name}  " if name else f"{shown} "
            size = len(words.replace("\\", ""))
            if size - 2 > room and lines[-1]:
                lines.append("")
            room = self.app.size.width - 2 if not lines[-1] else room
            room -= size
            lines[-1] += (
                f"[@click=app.simulate_key('{key}')][bold]{shown}[/]{words[len(shown) :].rstrip()}[/]"
            )
            lines[-1] += words[len(words.rstrip()) :]
        self._lines = len(lines)
        self.query_one("#foot", Static).update("\n".join(lines))

    def _put(self, id_: str, parts: Sequence[Part]) -> None:
        self.query_one(f"#{id_}", Static).update(content(parts))

    # --- keys

    def _to(self, since: float, until: float) -> None:
        """Within what there is."""
        look = self._look
        if look is None or self._span is None:
            return
        span = until - since
        until = min(max(until, self._span[0] + span / 4), max(self._now(), self._span[1]))
        self._read(replace(look, since=until - span, until=until))

    def action_pan(self, quarters: float) -> None:
        if look := self._look:
            self._to(look.since + quarters * look.span / 4, look.until + quarters * look.span / 4)

    def action_zoom(self, step: int) -> None:
        if look := self._look:
            at = min(range(len(SPANS)), key=lambda at: abs(SPANS[at] - look.span)) + step
            middle, half = (look.since + look.until) / 2, SPANS[min(max(at, 0), len(SPANS) - 1)] / 2
            self._to(middle - half, middle + half)

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
        await self._load(replace(look, since=until - span, until=until))

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
        middle = (seen.look.since + seen.look.until) / 2
        if self._chosen in seen.events:
            at = seen.events.index(self._chosen) + step
        else:
            after = sum(event.time < middle for event in seen.events)
            at = after if step > 0 else after - 1
        if 0 <= at < len(seen.events):
            self._choose(seen.events[at])
        else:
            self.notify(f"no {'later' if step > 0 else 'earlier'} event within a day", timeout=3)

    def _choose(self, event: Event) -> None:
        self._chosen = event
        look = self._look
        if look is not None and not look.since <= event.time <= look.until:
            self._to(event.time - look.span / 2, event.time + look.span / 2)
        else:
            self._draw()

    def action_copy(self) -> None:
        if self._seen and self._seen.buckets:
            self.app.copy_to_clipboard(csv(self._seen))
            self.notify(f"copied: {len(self._seen.buckets)} rows of CSV", timeout=2)

    async def action_write(self) -> None:
        seen = self._seen
        if seen and seen.buckets:
            begin = time.strftime("%Y%m%d-%H%M%S", time.localtime(seen.look.since))
            name = f"history-{seen.look.pair[1]}-{begin}.csv"
            await cast(Keeper, self.app).keep(name, csv(seen).encode())

    def action_back(self) -> None:
        self.dismiss(None)

    # --- the mouse

    def on_mouse_scroll_up(self, _: pointer.MouseScrollUp) -> None:
        self.action_zoom(-1)

    def on_mouse_scroll_down(self, _: pointer.MouseScrollDown) -> None:
        self.action_zoom(1)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        here = self._in_view()
        if event.option_index < len(here):
            self._choose(here[event.option_index])

    def on_click(self, event: pointer.Click) -> None:
        """On the row of events: the nearest one."""
        picture, look = self._picture, self._look
        if picture is None or look is None or event.widget is not self.query_one("#axis"):
            return
        column = event.x - picture.left

        def away(one: Event) -> int:
            return abs(cell(one.time, look.since, look.until, picture.columns) - column)

        nearest = min((one for one in self._in_view() if one.kind != "gap"), key=away, default=None)
        if nearest is not None and away(nearest) <= 2:
            self._choose(nearest)


def csv(seen: Seen) -> str:
    """What is in view, in base units."""
    subject, id_ = seen.look.pair
    rows = ["time,unix_seconds,subject,field,unit,least,mean,most"]
    unit = fields.BY_ID[id_].unit
    for bucket in seen.buckets:
        when = datetime.fromtimestamp(bucket.time).astimezone().isoformat(timespec="milliseconds")
        values = ",".join(f"{value:.10g}" for value in (bucket.least, bucket.mean, bucket.most))
        rows.append(f"{when},{bucket.time:.3f},{clean(subject)},{id_},{unit},{values}")
    return "\n".join(rows) + "\n"


def _ask(past: Past, look: Look, buckets: int) -> Seen:
    """Blocking."""
    found = past.series(*look.pair, look.since, look.until, buckets)
    return Seen(look, found, past.events(look.since - NEAR, look.until + NEAR))


def _totals(buckets: Sequence[Bucket]) -> tuple[float, float, float]:
    mean = sum(bucket.mean for bucket in buckets) / len(buckets)
    return min(bucket.least for bucket in buckets), mean, max(bucket.most for bucket in buckets)


def _rounded(span: float) -> str:
    return format.duration(round(span)).removesuffix(" 00").removesuffix(" 00 h")


def _period(since: float, until: float, now: float) -> str:
    """``10:00 – 11:00`` of today, else with its dates, and years if it was another one."""
    begin, end, here = time.localtime(since), time.localtime(until), time.localtime(now)
    clock = "%H:%M:%S" if until - since < 600 else "%H:%M"
    date = "%m-%d " if begin.tm_year == end.tm_year == here.tm_year else "%Y-%m-%d "
    first = clock if here[:3] == begin[:3] else date + clock
    second = clock if begin[:3] == end[:3] else date + clock
    return f"{time.strftime(first, begin)} – {time.strftime(second, end)}"


def _line(event: Event) -> list[Part]:
    letter, style = look(event)
    when = time.strftime("%m-%d %H:%M:%S", time.localtime(event.time))
    lasted = (event.until_time or event.time) - event.time
    words: list[Part] = [(f"{letter} ", style), (f"{when}  ", DIM), (event.label, "")]
    return [*words, (f"  {format.duration(lasted)}", DIM)] if lasted >= 1 and event.kind != "gap" else words
