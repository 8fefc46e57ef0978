"""The terminal application: Frames in, pictures out, keys turned into actions. It reads no source itself."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding
from textual.screen import Screen
from textual.theme import Theme as TextualTheme

from halotui import fields
from halotui.keymap import KEYS, usable
from halotui.screens.driver import QuietDriver
from halotui.themes import DEFAULT, Theme, load_all
from halotui.widgets import footer, header, log_pane, sources_pane
from halotui.widgets.canvas import Canvas
from halotui.widgets.layout import PANELS, SMALLEST, Place, places
from halotui.widgets.rows import FINDING, Row, Run, fill
from halotui.widgets.styles import styles
from halotui.widgets.view import View

if TYPE_CHECKING:
    from halotui.actions import Desk
    from halotui.feed import Feed
    from halotui.model import Finding, Server
    from halotui.screens.relaunch import Relaunch

PACES = (0.5, 1.0, 2.0, 5.0, 10.0)  # seconds between frames
_SETTLED = 3  # frames until everything that is imported late is there
_WHOLE = {"log": log_pane.rows, "sources": sources_pane.rows}  # views that fill the screen


class HalotuiApp(App[int]):
    """The cockpit. ``open_feed`` is called after the first paint, for what it imports is heavy; ``desk`` on
    the first key that needs it, and is None where servers may only be looked at. ``unfinished`` is a file
    that is there while a relaunch has not come to its end.
    """

    TITLE = "halotui"
    CSS = "Screen { overflow: hidden; }"
    BINDINGS: ClassVar = [
        Binding(key.keys, key.action, key.name, id=key.id, tooltip=key.tooltip, show=False)
        for key in KEYS
        if not key.action.startswith("panel")  # tab belongs to the screen: the canvas takes it first
    ]

    def __init__(
        self,
        open_feed: Callable[[], Awaitable[Feed]],
        *,
        desk: Callable[[], Awaitable[Desk]] | None = None,
        unfinished: Path | None = None,
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
        self._note = ("", False)  # at the foot: what goes on meanwhile, and whether it is loud
        self.failure: Exception | None = None
        self._state_dir = state_dir or Path.cwd()
        self._themes, self._troubles = themes or load_all()[0], troubles
        self._theme_name = theme
        self._view_name = "cockpit"
        self.view = View(label=label)
        self.canvas = Canvas(self._layout, styles(self._themes[self._theme_name], self._color))
        if keys:
            self.set_keymap(dict(keys))

    def compose(self) -> ComposeResult:
        yield self.canvas

    async def on_mount(self) -> None:
        for theme in self._themes.values():
            self.register_theme(_textual_theme(theme))
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
        taken = 0
        async for frame in feed.frames():
            if not self.view.frozen:
                self.view.take(frame)
                self.canvas.update()
            taken += 1
            if taken == _SETTLED:
                _settle_memory()
                if self._unfinished is not None and self._unfinished.exists():
                    self._act("look")

    async def close_feed(self) -> None:
        """Put feed and desk away; the screen has gone already."""
        if self._feed is not None:
            await self._feed.close()
        if self._relaunch is not None:
            await self._relaunch.close()

    # --- what is drawn

    def _layout(self, width: int, height: int) -> list[tuple[Place, list[Row]]]:
        view = self.view
        if width < SMALLEST[0] or height < SMALLEST[1]:
            text = f"halotui needs {SMALLEST[0]}x{SMALLEST[1]}; this is {width}x{height}"
            return [(Place("header", 0, 0, width, 1), [fill((Run(text, "warning"),), width)])]
        whole = _WHOLE.get(self._view_name)
        if whole is not None:
            body = Place(self._view_name, 0, 1, width, height - 2)
            head, foot = Place("header", 0, 0, width, 1), Place("footer", 0, height - 1, width, 1)
            return [
                (head, header.rows(view, width, 1)),
                (body, whole(view, width, height - 2)),
                (foot, self._footer(view, width, 1)),
            ]
        found = len(view.frame.findings) if view.frame is not None else 0
        slots = len(view.server.slots) if view.server is not None else 1
        panels = {**PANELS, "footer": self._footer}
        return [(p, panels[p.panel](view, p.width, p.height)) for p in places(width, height, found, slots)]

    def _footer(self, view: View, width: int, height: int) -> list[Row]:
        note, loud = self._note
        return footer.rows(view, width, height, acting=self._desk is not None, note=note, loud=loud)

    def _use_theme(self, name: str) -> None:
        self._theme_name = name
        self.theme = name
        self.canvas.palette = styles(self._themes[name], self._color)
        self.canvas.repaint()

    # --- keys

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Every key stands in the palette too."""
        for key in (key for key in usable(self._desk is not None) if key.id != "palette"):
            yield SystemCommand(key.name, f"{key.tooltip} ({key.shown})", self._runner(key.action))

    def _runner(self, action: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            await self.run_action(action)

        return run

    # Pop-ups are imported on their key: 15 ms that the first paint need not wait for.

    def action_help(self) -> None:
        from halotui.screens.explain import Explain
        from halotui.screens.help import help_text

        self.push_screen(Explain(help_text(self._desk is not None)))

    def action_explain(self) -> None:
        from halotui.screens.explain import Explain, explain, finding_text

        ref = self.canvas.cursor
        findings = self.view.frame.findings if self.view.frame is not None else ()
        finding = self._finding() if ref is not None else next(iter(findings), None)
        if finding is not None:
            cure = bool(finding.patch) and self._desk is not None

            def relaunch(wanted: bool | None) -> None:
                if wanted:
                    self._act("relaunch", finding)

            self.push_screen(Explain(finding_text(finding), cure=cure), relaunch)
        elif ref is not None:
            self.push_screen(Explain(explain(self.view, ref, self.size.width)))
        else:
            self.canvas.move(0, 1)

    def _finding(self) -> Finding | None:
        """The one under the cursor."""
        ref, frame = self.canvas.cursor, self.view.frame
        if ref is None or frame is None or ref.field != FINDING:
            return None
        return next((found for found in frame.findings if f"{found.id} {found.subject}" == ref.subject), None)

    # --- what changes a server

    def action_act(self, name: str) -> None:
        if self._desk is None:
            self.notify("read-only: servers are not touched from here", timeout=3)
            return
        finding = self._finding() if name == "relaunch" else None
        self._act(name, *([finding] if finding is not None else []))

    def _act(self, name: str, *more: Finding) -> None:
        """A key of ``Relaunch``, in the background: the frames go on."""
        from halotui.screens.relaunch import Relaunch

        if self._relaunch is None and self._desk is not None:
            self._relaunch = Relaunch(self, self, self._desk)
        if self._relaunch is not None:
            self.run_worker(self._relaunch.guarded(getattr(self._relaunch, name)(*more)))

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
        """Through the log; further than either end is the end."""
        view = self.view
        view.scroll = int(max(0, min(len(view.log()) - 1, view.scroll + lines)))
        self.canvas.update()

    def action_move(self, dx: int, dy: int) -> None:
        self.canvas.move(dx, dy)

    def action_panel(self, step: int) -> None:
        self.canvas.panel(step)

    def action_clear(self) -> None:
        self.view.filter, self.view.scroll = "", 0
        self.canvas.point(None)
        self.canvas.update()

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
        self.view.choose(self.view.server_index + step)
        self.canvas.update()

    def action_next_theme(self) -> None:
        names = list(self._themes)
        self._use_theme(names[(names.index(self._theme_name) + 1) % len(names)])
        self.notify(self._theme_name, timeout=2)

    def action_view(self, name: str) -> None:
        self._view_name = name
        self.canvas.point(None)
        self.canvas.repaint()

    def action_filter(self) -> None:
        from halotui.screens.prompt import Prompt

        def use(text: str | None) -> None:
            if text is not None:
                self.view.filter, self.view.scroll = text.strip(), 0
                self.canvas.update()

        self.push_screen(Prompt("show log lines that contain …", self.view.filter), use)

    def action_copy(self) -> None:
        text = self._under_cursor()
        self.copy_to_clipboard(text)
        self.notify(f"copied: {text[:60]}", timeout=2)

    def _under_cursor(self) -> str:
        from halotui.screens.explain import explain

        ref = self.canvas.cursor
        if ref is None:
            findings = self.view.frame.findings if self.view.frame is not None else ()
            return "\n".join(f"{f.title}: {f.evidence}" for f in findings) or self.canvas.text()
        if ref.field == FINDING:
            return explain(self.view, ref, self.size.width).plain
        label = fields.BY_ID[ref.field].label
        told = explain(self.view, ref, self.size.width).plain.splitlines()[0]
        return f"{label} {told.removeprefix(label).strip()}"

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
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    path.write_bytes(data)


def _textual_theme(theme: Theme) -> TextualTheme:
    """What pop-ups and toasts need of a theme."""
    colors = theme.colors
    return TextualTheme(
        name=theme.name,
        dark=theme.dark,
        primary=colors.life,
        secondary=colors.ram,
        accent=colors.life,
        warning=colors.warning,
        error=colors.trouble,
        success=colors.life,
        foreground=colors.text,
        background=colors.background,
        surface=colors.surface,
        panel=colors.surface,
    )
