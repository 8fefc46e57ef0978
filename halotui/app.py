"""The terminal application: Frames in, pictures out, keys turned into actions. It reads no source itself."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

import msgspec
from textual.actions import ActionParseResult
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding
from textual.screen import Screen

from halotui import fields, private
from halotui.keymap import (
    BOXES,
    DESK,
    FAR,
    FLEET,
    KEYS,
    LISTED,
    LIVE,
    PAST,
    PLAYER,
    RECORDER,
    REQUESTS,
    usable,
)
from halotui.screens import drawing
from halotui.screens.boxes import Boxes
from halotui.screens.driver import QuietDriver
from halotui.screens.pages import Pages
from halotui.screens.seat import Seat
from halotui.stations import Station
from halotui.themes import DEFAULT, Theme, load_all
from halotui.widgets import hidden
from halotui.widgets.canvas import Canvas, first
from halotui.widgets.rows import HOST, ORDER, TAB, Ref
from halotui.widgets.styles import styles, textual_theme
from halotui.widgets.view import View

if TYPE_CHECKING:
    from halotui.feed import Feed
    from halotui.model import Finding
    from halotui.screens.fleet_page import FleetPage
    from halotui.screens.replaying import Replay

PACES = (0.5, 1.0, 2.0, 5.0, 10.0)  # seconds between frames
_NEEDS = {key.verb: key.needs for key in KEYS if key.needs not in ("", DESK)}  # a missing desk is said
_OF_A_BOX = frozenset(  # verbs that mean nothing while all boxes are looked at
    ("act", "capture", "history", "freeze", "pace", "server", "requests", "view", "write", "other_box")
)


class HalotuiApp(App[int]):
    """The cockpit of one box, or several of them behind a view of them all.

    ``fleet``: the boxes; else ``open_feed`` and other words of a ``Station`` make the only one. A feed is
    opened after the first paint, for what it imports is heavy; a desk on the first key that needs it, and is
    None where servers may only be looked at. A feed that is a ``screens.replaying.Player`` makes this a
    replay.
    """

    TITLE = "halotui"
    CSS = "Screen { overflow: hidden; } ToastRack { margin-bottom: 2; }"  # foot and strip stay in sight
    BINDINGS: ClassVar = [
        Binding(key.keys, key.action, key.name, id=key.id, tooltip=key.tooltip, show=False)
        for key in KEYS
        if not first(key)
    ]

    def __init__(
        self,
        open_feed: Callable[[], Awaitable[Feed]] | None = None,
        *,
        fleet: Sequence[Station] = (),
        theme: str = DEFAULT,
        themes: dict[str, Theme] | None = None,
        troubles: Sequence[str] = (),
        state_dir: Path | None = None,
        keys: Mapping[str, str] | None = None,
        **station: Any,
    ) -> None:
        self._color = "NO_COLOR" not in os.environ  # Textual takes it out of the environment
        super().__init__(driver_class=QuietDriver)
        self.animation_level = "none"  # a slow link shows each step of one
        self.failure: Exception | None = None
        self._state_dir = state_dir or Path.cwd()
        self._themes, self._troubles = themes or load_all()[0], troubles
        self._theme_name = theme
        self.canvas = Canvas(self._layout, styles(self._themes[self._theme_name], self._color))
        if open_feed is not None:
            fleet = (Station(open_feed=open_feed, **station),)
        self.boxes = Boxes(self, self, fleet, self._fail)
        self._mapped = dict(keys or {})
        self.settle_keys()
        if self._mapped:
            self.set_keymap(self._mapped)

    def compose(self) -> ComposeResult:
        yield self.canvas

    async def on_mount(self) -> None:
        for theme in self._themes.values():
            self.register_theme(textual_theme(theme))
        self._use_theme(self._theme_name)
        for trouble in self._troubles:
            self.notify(trouble, title="theme left out", severity="warning")
        self.call_after_refresh(self.boxes.open)

    def _fail(self, error: Exception) -> None:
        """It is said on stderr once the screen is put away."""
        self.failure = error
        self.exit(return_code=1)

    async def close_feed(self) -> None:
        """Put recorders, feeds and desks away; the screen has gone already."""
        await self.boxes.close()

    # --- what is looked at

    @property
    def view(self) -> View:
        """Of the box that is looked at, or was last."""
        return self.boxes.seat.view

    @property
    def _pages(self) -> Pages:
        return self.boxes.seat.pages

    @property
    def _replay(self) -> Replay | None:
        return self.boxes.seat.replay

    @property
    def _station(self) -> Station:
        return self.boxes.seat.station

    def changed(self, seat: Seat) -> None:
        self.boxes.changed(seat)

    def _layout(self, width: int, height: int) -> drawing.Picture:
        boxes = self.boxes
        if (small := drawing.too_small(width, height)) is not None:
            return small
        if boxes.fleet is not None:
            return drawing.all_boxes(boxes.fleet, self._shown, width, height)
        self.view.link, self.view.trouble = boxes.seat.link, boxes.seat.trouble
        if boxes.several:
            self.view.others = boxes.elsewhere
        return drawing.cockpit(boxes.seat, self._shown, width, height)

    def _use_theme(self, name: str) -> None:
        self._theme_name = name
        self.theme = name
        self.canvas.palette = styles(self._themes[name], self._color)
        self.canvas.repaint()

    # --- keys

    def settle_keys(self) -> None:
        """Which are there."""
        station, fleet = self._station, self.boxes.fleet
        there = {
            DESK: station.desk,
            RECORDER: station.recorder,
            PAST: station.past,
            PLAYER: self._replay,
            LIVE: self._replay is None,
            LISTED: fleet or self._pages.listed,
            REQUESTS: fleet is None and self._pages.name == REQUESTS,
            BOXES: self.boxes.several,
            FLEET: fleet,
            FAR: any(seat.station.login or seat.station.again for seat in self.boxes.all),
        }
        self._able = frozenset(name for name, what in there.items() if what)
        self._keys = usable(self._able, self._mapped)
        self._shown = {key.id: key.shown for key in self._keys}

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Not what needs something that is not there: space plays, or freezes."""
        needs = _NEEDS.get(action)
        return needs is None or needs in self._able

    async def run_action(self, action: str | ActionParseResult, *more: Any, **named: Any) -> bool:
        """What acts on a box acts on none while all of them are looked at."""
        if self.boxes.fleet is not None and isinstance(action, str):
            verb = action.partition("(")[0].removeprefix("app.")
            if verb in _OF_A_BOX and self.check_action(verb, ()):
                self.notify("enter a box first", timeout=3)
                return True
        return await super().run_action(action, *more, **named)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Every key stands in the palette too."""
        for key in (key for key in self._keys if key.id != "palette"):
            yield SystemCommand(key.name, f"{key.tooltip} ({key.shown})", self._runner(key.action))

    def _runner(self, action: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            await self.run_action(action)

        return run

    # Pop-ups are imported on their key: 15 ms that the first paint need not wait for.

    def action_help(self) -> None:
        from halotui.screens.explain import Explain
        from halotui.screens.help import help_text

        self.push_screen(Explain(help_text(self._keys)))

    def action_explain(self) -> None:
        from halotui.screens.explain import Explain, explain

        if self.boxes.fleet is not None:
            self.push_screen(Explain(self.boxes.fleet.told()))
            return
        ref = self.canvas.cursor
        finding = self.view.finding(ref)
        if ref is None and self.boxes.seat.absent:
            from halotui.screens.fleet_page import told

            self.push_screen(Explain(told(self.boxes.seat)))
            return
        if ref is None and not self._pages.whole and self.view.frame is not None:
            finding = next(iter(self.view.frame.findings), None)
        if finding is not None:
            self._explain(finding)
        elif ref is not None:
            why = getattr(self.boxes.seat.feed, "why", None)
            causes = why(ref.subject, ref.field) if why is not None else ()
            self.push_screen(Explain(explain(self.view, ref, self.size.width, causes)))
        else:
            self.canvas.move(0, 1)

    def _explain(self, finding: Finding) -> None:
        from halotui.screens.finding import CURE, SILENCE, FindingScreen, hush

        seat, silence = self.boxes.seat, self._station.silence
        able = [CURE] if finding.patch and self._station.desk is not None else []
        able += [SILENCE] if silence is not None else []

        def done(wanted: str | None) -> None:
            if wanted == CURE:
                seat.act("relaunch", finding)
            elif wanted == SILENCE and silence is not None:
                self.run_worker(hush(self, silence, finding, demo=bool(seat.view.label)))

        self.push_screen(FindingScreen(self.view, finding, frozenset(able)), done)

    # --- all boxes

    def action_fleet(self) -> None:
        self.boxes.look_into(None)

    def action_enter(self) -> None:
        self.boxes.look_into(self.boxes.chosen)

    def action_other_box(self, step: int) -> None:
        self.boxes.step(step)

    def action_login(self) -> None:
        """In the background: the frames of other boxes go on."""
        self.run_worker(self.boxes.log_in())

    # --- what changes a server

    def action_act(self, name: str) -> None:
        if self._station.desk is None:
            why = "read-only" if self._replay is None else "a recording"
            self.notify(f"{why}: servers are not touched from here", timeout=3)
            return
        finding = self.view.finding(self.canvas.cursor) if name == "relaunch" else None
        if name == "relaunch" and self._pages.name == "server" and self.view.server is not None:
            finding = finding or hidden.finding(self.view.server)
        self.boxes.seat.act(name, *([finding] if finding is not None else []))

    # --- what is captured, and what was

    def action_capture(self, name: str) -> None:
        self.boxes.seat.capture(name)

    def action_history(self) -> None:
        from halotui.screens.history import History

        ref = self.canvas.cursor
        field = (ref.subject, ref.field) if ref is not None and ref.field in fields.BY_ID else None
        self.push_screen(History(self._station.past, now=self._now, field=field))

    def _now(self) -> float:
        return time.time() if self._replay is None else self._replay.player.position

    def action_replay(self, name: str, *more: float) -> None:
        """A key of ``Replay``."""
        if self._replay is not None:
            self.run_worker(self._replay.guarded(name, *more))

    def on_canvas_chosen(self, message: Canvas.Chosen) -> None:
        """A box, a tab, or what to order by."""
        ref, fleet = message.ref, self.boxes.fleet
        if fleet is not None:
            if ref.field == HOST:
                self.boxes.look_into(fleet.seat(ref))
            elif ref.field == ORDER:
                fleet.by(ref.subject)
            return
        if ref.field == TAB:
            self._turn(lambda: self.view.choose(ref.subject))
        elif ref.field == ORDER:
            self._pages.by(ref.subject)
        self.canvas.update()

    def on_canvas_sought(self, message: Canvas.Sought) -> None:
        self.action_replay("click", message.cell)

    # --- what is looked at

    def key(self, id_: str) -> str:
        """What to press, in words."""
        return self._shown.get(id_, "")

    def on_canvas_picked(self) -> None:
        self.action_explain()

    async def on_canvas_pressed(self, message: Canvas.Pressed) -> None:
        await self.run_action(next(key.action for key in KEYS if key.id == message.key))

    @property
    def _listing(self) -> Pages | FleetPage:
        """What scrolls, moves and is put in order."""
        return self.boxes.fleet or self._pages

    def action_scroll(self, lines: float) -> None:
        self._listing.scroll(lines)

    def action_move(self, dx: int, dy: int) -> None:
        self._listing.move(dx, dy)

    def action_panel(self, step: int) -> None:
        self.canvas.panel(step)

    def action_clear(self) -> None:
        """Where there is nothing to put away: back to all boxes."""
        if not self._listing.clear():
            self.boxes.look_into(None)

    def action_freeze(self) -> None:
        self.view.frozen = not self.view.frozen
        self.canvas.update()

    def action_pace(self, step: int) -> None:
        if self.boxes.seat.feed is None:
            return
        at = min(range(len(PACES)), key=lambda i: abs(PACES[i] - self.view.interval))
        self.view.interval = self.boxes.seat.feed.interval = PACES[max(0, min(len(PACES) - 1, at + step))]
        self.notify(f"a frame every {self.view.interval:g} s", timeout=2)
        self.canvas.update()

    def action_server(self, step: int) -> None:
        self._turn(lambda: self.view.step(step))

    def _turn(self, turn: Callable[[], None]) -> None:
        """To another server; the cursor stays on the same number."""
        before, ref = self.view.server, self.canvas.cursor
        turn()
        after = self.view.server
        if before is not None and after is not None and ref is not None:
            if ref.subject == before.url:
                self.canvas.point(Ref(ref.field, after.url))
            elif ref.subject.startswith(f"{before.url}#"):
                self.canvas.point(None)
        self.canvas.update()

    def action_listed(self, name: str) -> None:
        """A key of a list."""
        getattr(self._listing, name)()
        self.canvas.update()

    action_requests = action_listed  # of that list alone

    def action_next_theme(self) -> None:
        names = list(self._themes)
        self._use_theme(names[(names.index(self._theme_name) + 1) % len(names)])
        self.notify(self._theme_name, timeout=2)

    def action_view(self, name: str) -> None:
        self._pages.open(name)
        self.settle_keys()
        self.canvas.repaint()

    def action_filter(self) -> None:
        self._listing.filter()

    def action_copy(self) -> None:
        from halotui.screens.explain import to_copy

        words = (
            "" if self.boxes.fleet is not None else to_copy(self.view, self.canvas.cursor, self.size.width)
        )
        text = words or self.canvas.text()
        self.copy_to_clipboard(text)
        self.notify(f"copied: {text[:60]}", timeout=2, markup=False)

    async def action_write(self) -> None:
        """The frame on screen, as JSON, into the state directory."""
        if self.view.frame is None:
            return
        box = f"{quote(self._station.name, safe='@')}-" if self.boxes.several else ""
        name = time.strftime(f"frame-{box}%Y%m%d-%H%M%S.json", time.localtime(self.view.frame.time))
        await self.keep(name, msgspec.json.format(msgspec.json.encode(self.view.frame), indent=2))

    async def keep(self, name: str, data: bytes) -> None:
        """A file in the state directory, for the user's eyes."""
        path = self._state_dir / name
        try:
            await asyncio.to_thread(_write, path, data)
        except OSError as error:
            self.notify(f"{path}: {error.strerror}", severity="error")
            return
        self.notify(f"written: {path}", timeout=4)


def _write(path: Path, data: bytes) -> None:
    private.folder(path.parent)
    path.touch(mode=0o600)
    path.write_bytes(data)
