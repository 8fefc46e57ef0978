"""The terminal application: Frames in, pictures out, keys turned into actions. It reads no source itself."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding
from textual.screen import Screen

from halotui import fields, private
from halotui.keymap import DESK, KEYS, LISTED, LIVE, PAST, PLAYER, RECORDER, REQUESTS, usable
from halotui.safe import clean
from halotui.screens.driver import QuietDriver
from halotui.screens.pages import Pages
from halotui.themes import DEFAULT, Theme, load_all
from halotui.widgets import footer, hidden
from halotui.widgets.canvas import Canvas, first
from halotui.widgets.layout import PANELS, SMALLEST, Place, around, places
from halotui.widgets.rows import ORDER, TAB, Ref, Row, Run, fill
from halotui.widgets.styles import styles, textual_theme
from halotui.widgets.view import View

if TYPE_CHECKING:
    from halotui.actions import Desk
    from halotui.feed import Feed
    from halotui.model import Finding, Frame, Server
    from halotui.runs import Past, Recorder
    from halotui.screens.capturing import Capturing, Strip
    from halotui.screens.finding import Silence
    from halotui.screens.relaunch import Relaunch
    from halotui.screens.replaying import Replay

PACES = (0.5, 1.0, 2.0, 5.0, 10.0)  # seconds between frames
_SETTLED = 3  # frames until everything that is imported late is there
_NEEDS = {key.verb: key.needs for key in KEYS if key.needs not in ("", DESK)}  # a missing desk is said


class HalotuiApp(App[int]):
    """The cockpit. ``open_feed`` is called after the first paint, for what it imports is heavy; ``desk`` on
    the first key that needs it, and is None where servers may only be looked at; likewise ``recorder`` where
    nothing can be captured, ``past`` where there is nothing to look back at, and ``silence`` where no finding
    can be silenced. ``unfinished`` is a file
    that is there while a relaunch has not come to its end; ``recorder_trouble`` says what is wrong with the
    flight recorder, if anything is. A feed that is a ``screens.replaying.Player`` makes this a replay.
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
        open_feed: Callable[[], Awaitable[Feed]],
        *,
        desk: Callable[[], Awaitable[Desk]] | None = None,
        unfinished: Path | None = None,
        recorder: Callable[[], Awaitable[Recorder]] | None = None,
        recorder_trouble: Callable[[], str | None] | None = None,
        past: Callable[[], Awaitable[Past]] | None = None,
        silence: Silence | None = None,
        label: str = "",
        theme: str = DEFAULT,
        themes: dict[str, Theme] | None = None,
        troubles: Sequence[str] = (),
        state_dir: Path | None = None,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        self._color = "NO_COLOR" not in os.environ  # Textual takes it out of the environment
        super().__init__(driver_class=QuietDriver)
        self.animation_level = "none"  # a slow link shows each step of one
        self._open_feed = open_feed
        self._feed: Feed | None = None
        self._desk = desk
        self._unfinished = unfinished if desk is not None else None
        self._relaunch: Relaunch | None = None
        self._recorder = recorder
        self._capturing: Capturing | None = None
        self._recorder_trouble = recorder_trouble
        self._trouble: str | None = None  # that was said
        self._past = past
        self._silence = silence
        self._replay: Replay | None = None
        self._strip: Strip | None = None  # the line above the foot
        self._note = ("", False)  # at the foot: what goes on meanwhile, and whether it is loud
        self.failure: Exception | None = None
        self._state_dir = state_dir or Path.cwd()
        self._themes, self._troubles = themes or load_all()[0], troubles
        self._theme_name = theme
        self.view = View(label=label, acting=desk is not None)
        self.canvas = Canvas(self._layout, styles(self._themes[self._theme_name], self._color))
        self._pages = Pages(self, self.view, self.canvas)
        self._mapped = dict(keys or {})
        self._settle_keys()
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
        self.call_after_refresh(lambda: self.run_worker(self._follow(), exit_on_error=True))

    async def _follow(self) -> None:
        """Draw each frame as it comes, until the feed ends."""
        try:
            self._feed = feed = await self._open_feed()
        except Exception as error:  # said on stderr once the screen is put away
            self.failure = error
            self.exit(return_code=1)
            return
        self.view.history = feed.history
        self.view.interval = feed.interval
        draw = self.canvas.update
        if hasattr(feed, "to_event"):
            draw = self._begin_replay(feed)
        try:
            await self._show(feed, draw)
        except Exception as error:
            if self._replay is None:
                raise
            self.failure = error  # a recording that cannot be read further
            self.exit(return_code=1)

    async def _show(self, feed: Feed, draw: Callable[[], None]) -> None:
        taken = 0
        async for frame in feed.frames():
            if self._replay is not None and self._replay.anew:
                self.view.anew(feed.history, self._replay.logs)
            if not self.view.frozen:
                self.view.take(frame)
                draw()
            if self._recorder_trouble is not None:
                self._say_trouble(self._recorder_trouble())
            taken += 1
            if taken == _SETTLED:
                _settle_memory()
                if self._unfinished is not None and self._unfinished.exists():
                    self._act("look")

    def _begin_replay(self, feed: Feed) -> Callable[[], None]:
        """What draws its frames, when it is a recording."""
        from halotui.screens.replaying import Player, Replay

        if not isinstance(feed, Player):
            return self.canvas.update
        self._replay = Replay(self, feed, self.canvas.update)
        self._strip = self._replay.rows
        self.view.label, self.view.clock = self.view.label or "REPLAY", True
        self._settle_keys()
        self.canvas.repaint()
        return self._replay.draw

    def _say_trouble(self, trouble: str | None) -> None:
        """Once, when it appears."""
        if trouble and trouble != self._trouble:
            said = clean(trouble)
            self.notify(said, title="what is kept", severity="warning", timeout=10, markup=False)
        self._trouble = trouble

    async def close_feed(self) -> None:
        """Put recorder, feed and desk away; the screen has gone already."""
        try:
            if self._capturing is not None:
                await self._capturing.close()
        except Exception as error:  # the capture's own trouble: everything else is put away all the same
            print(f"halotui: the capture: {clean(str(error))}", file=sys.stderr)
        if self._feed is not None:
            await self._feed.close()
        if self._relaunch is not None:
            await self._relaunch.close()

    # --- what is drawn

    def _layout(self, width: int, height: int) -> list[tuple[Place, list[Row]]]:
        if width < SMALLEST[0] or height < SMALLEST[1]:
            text = f"halotui needs {SMALLEST[0]}x{SMALLEST[1]}; this is {width}x{height}"
            return [(Place("header", 0, 0, width, 1), [fill((Run(text, "warning"),), width)])]
        if self._strip is None:
            return self._panels(width, height)
        *panels, (foot, keys) = self._panels(width, height - 1)
        strip = Place("strip", 0, foot.y, width, 1)
        return [*panels, (strip, self._strip(width)), (foot._replace(y=foot.y + 1), keys)]

    def _panels(self, width: int, height: int) -> list[tuple[Place, list[Row]]]:
        """From the header to the footer."""
        view, pages = self.view, self._pages
        panels = {**PANELS, "footer": self._footer}
        if pages.whole:
            *head, foot = around(width, height, len(view.servers))
            body = Place(pages.name, 0, len(head), width, foot.y - len(head))
            panels[pages.name] = lambda _, *size: pages.rows(*size)
            here = [*head, body, foot]
        else:
            found = len(view.frame.findings) if view.frame is not None else 0
            served = len(view.server.slots or view.server.models) if view.server is not None else 1
            here = places(width, height, found, served, len(view.servers))
        return [(place, panels[place.panel](view, place.width, place.height)) for place in here]

    def _footer(self, view: View, width: int, height: int) -> list[Row]:
        note, loud = self._note
        return footer.rows(view, width, height, keys=self._shown, note=note, loud=loud, here=self._pages.name)

    def strip(self, rows: Strip | None) -> None:
        """The line above the foot; None: there is none."""
        self._strip = rows
        self.canvas.update()

    def _use_theme(self, name: str) -> None:
        self._theme_name = name
        self.theme = name
        self.canvas.palette = styles(self._themes[name], self._color)
        self.canvas.repaint()

    # --- keys

    def _settle_keys(self) -> None:
        """Which are there."""
        there = {
            DESK: self._desk,
            RECORDER: self._recorder,
            PAST: self._past,
            PLAYER: self._replay,
            LIVE: self._replay is None,
            LISTED: self._pages.listed,
            REQUESTS: self._pages.name == REQUESTS,
        }
        self._able = frozenset(name for name, what in there.items() if what)
        self._keys = usable(self._able, self._mapped)
        self._shown = {key.id: key.shown for key in self._keys}

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Not what needs something that is not there: space plays, or freezes."""
        needs = _NEEDS.get(action)
        return needs is None or needs in self._able

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

        ref = self.canvas.cursor
        finding = self.view.finding(ref)
        if ref is None and not self._pages.whole and self.view.frame is not None:
            finding = next(iter(self.view.frame.findings), None)
        if finding is not None:
            self._explain(finding)
        elif ref is not None:
            why = getattr(self._feed, "why", None)
            causes = why(ref.subject, ref.field) if why is not None else ()
            self.push_screen(Explain(explain(self.view, ref, self.size.width, causes)))
        else:
            self.canvas.move(0, 1)

    def _explain(self, finding: Finding) -> None:
        from halotui.screens.finding import CURE, SILENCE, FindingScreen, hush

        able = [CURE] if finding.patch and self._desk is not None else []
        able += [SILENCE] if self._silence is not None else []

        def done(wanted: str | None) -> None:
            if wanted == CURE:
                self._act("relaunch", finding)
            elif wanted == SILENCE and self._silence is not None:
                self.run_worker(hush(self, self._silence, finding, demo=bool(self.view.label)))

        self.push_screen(FindingScreen(self.view, finding, frozenset(able)), done)

    # --- what changes a server

    def action_act(self, name: str) -> None:
        if self._desk is None:
            why = "read-only" if self._replay is None else "a recording"
            self.notify(f"{why}: servers are not touched from here", timeout=3)
            return
        finding = self.view.finding(self.canvas.cursor) if name == "relaunch" else None
        if name == "relaunch" and self._pages.name == "server" and self.view.server is not None:
            finding = finding or hidden.finding(self.view.server)
        self._act(name, *([finding] if finding is not None else []))

    def _act(self, name: str, *more: Finding) -> None:
        """A key of ``Relaunch``, in the background: the frames go on."""
        from halotui.screens.relaunch import Relaunch

        if self._relaunch is None and self._desk is not None:
            self._relaunch = Relaunch(self, self, self._desk)
        if self._relaunch is not None:
            self.run_worker(self._relaunch.guarded(getattr(self._relaunch, name)(*more)))

    # --- what is captured, and what was

    def action_capture(self, name: str) -> None:
        """A key of ``Capturing``, in the background."""
        from halotui.screens.capturing import Capturing

        if self._capturing is None and self._recorder is not None:
            self._capturing = Capturing(self, self, self._recorder)
        if self._capturing is not None:
            self.run_worker(self._capturing.guarded(getattr(self._capturing, name)()))

    def action_history(self) -> None:
        from halotui.screens.history import History

        ref = self.canvas.cursor
        field = (ref.subject, ref.field) if ref is not None and ref.field in fields.BY_ID else None
        self.push_screen(History(self._past, now=self._now, field=field))

    def _now(self) -> float:
        return time.time() if self._replay is None else self._replay.player.position

    def action_replay(self, name: str, *more: float) -> None:
        """A key of ``Replay``."""
        if self._replay is not None:
            self.run_worker(self._replay.guarded(name, *more))

    def on_canvas_chosen(self, message: Canvas.Chosen) -> None:
        """A tab, or what to order by."""
        if message.ref.field == TAB:
            self._turn(lambda: self.view.choose(message.ref.subject))
        elif message.ref.field == ORDER:
            self._pages.by(message.ref.subject)
        self.canvas.update()

    def on_canvas_sought(self, message: Canvas.Sought) -> None:
        self.action_replay("click", message.cell)

    # --- what is looked at

    def frame(self) -> Frame | None:
        return self.view.frame

    def key(self, id_: str) -> str:
        """What to press, in words."""
        return self._shown.get(id_, "")

    def server(self) -> Server | None:
        """The one that is looked at."""
        return self.view.server

    def note(self, text: str, loud: bool = False) -> None:
        """At the foot, until it is taken back by an empty one."""
        self._note = (text, loud)
        self.canvas.update()

    def on_canvas_picked(self) -> None:
        self.action_explain()

    async def on_canvas_pressed(self, message: Canvas.Pressed) -> None:
        await self.run_action(next(key.action for key in KEYS if key.id == message.key))

    def action_scroll(self, lines: float) -> None:
        self._pages.scroll(lines)

    def action_move(self, dx: int, dy: int) -> None:
        self._pages.move(dx, dy)

    def action_panel(self, step: int) -> None:
        self.canvas.panel(step)

    def action_clear(self) -> None:
        self._pages.clear()

    def action_freeze(self) -> None:
        self.view.frozen = not self.view.frozen
        self.canvas.update()

    def action_pace(self, step: int) -> None:
        if self._feed is None:
            return
        at = min(range(len(PACES)), key=lambda i: abs(PACES[i] - self.view.interval))
        self.view.interval = self._feed.interval = PACES[max(0, min(len(PACES) - 1, at + step))]
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
        getattr(self._pages, name)()
        self.canvas.update()

    action_requests = action_listed  # of that list alone

    def action_next_theme(self) -> None:
        names = list(self._themes)
        self._use_theme(names[(names.index(self._theme_name) + 1) % len(names)])
        self.notify(self._theme_name, timeout=2)

    def action_view(self, name: str) -> None:
        self._pages.open(name)
        self._settle_keys()
        self.canvas.repaint()

    def action_filter(self) -> None:
        self._pages.filter()

    def action_copy(self) -> None:
        from halotui.screens.explain import to_copy

        text = to_copy(self.view, self.canvas.cursor, self.size.width) or self.canvas.text()
        self.copy_to_clipboard(text)
        self.notify(f"copied: {text[:60]}", timeout=2, markup=False)

    async def action_write(self) -> None:
        """The frame on screen, as JSON, into the state directory."""
        if self.view.frame is None:
            return
        name = time.strftime("frame-%Y%m%d-%H%M%S.json", time.localtime(self.view.frame.time))
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


def _settle_memory() -> None:
    """What start-up made stays: the collector need not look at it for ever. ``cli`` had it wait till now."""
    gc.collect()
    gc.freeze()
    gc.enable()


def _write(path: Path, data: bytes) -> None:
    private.folder(path.parent)
    path.touch(mode=0o600)
    path.write_bytes(data)
