"""The answer to ``r``: the same with other flags, or a profile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.dom import DOMNode
from textual.message import Message
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from halotui.actions import Ask, Desk, Field, Kind, Patch, ProfileRow, Proposal
from halotui.model import Finding
from halotui.safe import clean
from halotui.screens.checklist import Checklist
from halotui.screens.form import PROFILE, Form, Line, help_of
from halotui.screens.popup import BACK, BAD, DIM, OpenDesk, Part, Popup, content, reason, told

_HINT = "type to filter"
SAME = ""  # the id of "same, but…"


class Launcher(Popup[Proposal]):
    """Gives the proposal that was agreed to. A finding fills in its fix."""

    TITLE: ClassVar = "relaunch"
    BINDINGS: ClassVar = [
        Binding("enter", "go", "check it", key_display="enter", priority=True),
        Binding("tab", "app.focus_next", "next"),
        BACK,
    ]
    DEFAULT_CSS = """
    Launcher #panes { height: auto; margin: 1 0; }
    Launcher Profiles { width: 30%; min-width: 19; height: auto; max-height: 20; padding: 0;
        border: none; background: $surface; scrollbar-size-vertical: 1;
        text-wrap: nowrap; text-overflow: ellipsis; }
    Launcher Profiles:focus { border: none; background-tint: transparent; }
    Launcher #right { width: 1fr; height: auto; padding: 0 0 0 1; }
    Launcher Form { height: auto; max-height: 20; scrollbar-size-vertical: 1; }
    Launcher.-low Profiles, Launcher.-low Form { max-height: 13; }
    Launcher.-tiny #panes { margin: 0; }
    Launcher.-tiny Profiles, Launcher.-tiny Form { max-height: 7; }
    Launcher.-tiny #about { max-height: 2; }
    """

    def __init__(self, desk: OpenDesk, server: str, finding: Finding | None = None) -> None:
        super().__init__()
        self._desk, self._server, self._finding = desk, server, finding
        self._given: Patch = (finding.patch if finding is not None else None) or {}
        self._rows: dict[str, ProfileRow] = {}

    def body(self) -> ComposeResult:
        yield Static(id="text")
        with Horizontal(id="panes"):
            yield Profiles()
            with Vertical(id="right"):
                yield Static(id="profile")
        yield Static(id="about")

    def on_mount(self) -> None:
        self._fit()
        self.query_one("#box").can_focus = False
        self.query_one("#panes").display = False
        self.write([("looking…", DIM)])
        self.run_worker(self._look())

    def on_resize(self, _: events.Resize) -> None:
        self._fit()

    def _fit(self) -> None:
        self.set_class(self.app.size.height < 34, "-low")
        self.set_class(self.app.size.height < 22, "-tiny")

    async def _look(self) -> None:
        """What there is to choose from, and the form as it runs now."""
        try:
            desk = await self._desk()
            rows = await desk.profiles(self._server)
        except Exception as error:
            self.write(told(reason(error)))
            return
        fields, failed = await self._fields(desk)
        self._rows = {row.name: row for row in rows}
        self.write(self._head())
        form = Form((*backends(rows), *fields), self._given)
        form.display = failed is None
        await self.query_one("#right").mount(form, before=0)
        if failed is not None:
            self._about(told(reason(failed)))
        self.query_one("#panes").display = True
        profiles = self.query_one(Profiles)
        profiles.offer(rows, same=failed is None)
        if self._given and failed is None:
            next((line for line in form.query(Line) if line.changed), form.query(Line).first()).enter()
        else:
            profiles.focus()

    async def _fields(self, desk: Desk) -> tuple[list[Field], Exception | None]:
        """None of them when there is nothing that runs: profiles may still be launched."""
        try:
            return await desk.form(self._server), None
        except Exception as error:
            return [], error

    def _head(self) -> list[Part]:
        if self._finding is None:
            return [(self._server or "nothing runs", DIM), ("\n", "")]
        return [("against  ", DIM), (self._finding.title, "bold"), ("\n", "")]

    # --- what is pointed at

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        row = self._rows.get(event.option.id or SAME)
        forms = self.query(Form)
        if forms:
            forms.first().display = row is None
        profile = self.query_one("#profile", Static)
        profile.display = row is not None
        profile.update(content(profile_text(row)))

    def on_profiles_filtered(self, event: Profiles.Filtered) -> None:
        self._about([(event.words, DIM)])

    def on_line_entered(self, event: Line.Entered) -> None:
        self._about([(help_of(event.line), DIM)])

    def on_descendant_focus(self) -> None:
        if self.query_one(Profiles).has_focus:
            self._about([(_HINT, DIM)])

    def _about(self, parts: list[Part]) -> None:
        self.query_one("#about", Static).update(content(parts))

    # --- on

    def action_go(self) -> None:
        """After the keys before it: on a slow link they come together, and this one would overtake them."""
        focused = self.focused
        way = [] if focused is None else focused.ancestors_with_self
        self._pass_on([node for node in way if node is not self.app])

    def _pass_on(self, nodes: list[DOMNode]) -> None:
        """Through the queue of each of these."""
        if nodes:
            nodes[0].call_later(self._pass_on, nodes[1:])
        else:
            self._go()

    def _go(self) -> None:
        """From "same, but…" into the form; from there, or from a profile, to its check."""
        profiles, lines = self.query_one(Profiles), self.query(Line)
        if not profiles.option_count:
            return
        if profiles.has_focus and profiles.chosen == SAME and lines:
            lines.first().enter()
            return
        try:
            ask = self._wish()
        except Exception as error:
            self._about(told(reason(error)))
            return

        async def asked() -> Ask:
            return ask

        self.app.push_screen(Checklist(self._desk, asked), self._done)

    def _wish(self) -> Ask:
        profile = self.query_one(Profiles).chosen
        if profile:
            return Ask(kind=Kind.RELAUNCH, server=self._server, profile=profile)
        form = self.query_one(Form)
        return Ask(
            kind=Kind.RELAUNCH,
            server=self._server,
            profile=form.profile(),
            patch=form.patch(),
            extra=form.extra(),
        )

    def _done(self, proposal: Proposal | None) -> None:
        if proposal is not None:
            self.dismiss(proposal)


class Profiles(OptionList):
    """ "Same, but…" and the profiles; what is typed filters them."""

    class Filtered(Message):
        """How the list came to be."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words

    def __init__(self) -> None:
        super().__init__()
        self._all: list[ProfileRow] = []
        self._same = True
        self._filter = ""

    def offer(self, rows: list[ProfileRow], *, same: bool) -> None:
        self._all, self._same = rows, same
        self._show()

    @property
    def chosen(self) -> str:
        """The name of the profile, or empty for the same."""
        option = self.highlighted_option
        return (option.id or SAME) if option is not None else SAME

    def _show(self) -> None:
        wanted = self._filter.lower()
        self.clear_options()
        if self._same and not wanted:
            self.add_option(Option("  same, but…", id=SAME))
        self.add_options(Option(_line(row), id=row.name) for row in self._all if wanted in row.name.lower())
        if self.option_count:
            self.highlighted = 0
        found = "" if self.option_count else ": there is none"
        self.post_message(self.Filtered(f"filter: {self._filter}{found}" if self._filter else _HINT))

    def on_key(self, event: events.Key) -> None:
        if event.key == "backspace":
            self._filter = self._filter[:-1]
        elif event.is_printable and event.character is not None:
            self._filter += event.character
        elif event.key == "escape" and self._filter:
            self._filter = ""
        else:
            return
        event.stop()
        event.prevent_default()
        self._show()


def backends(rows: Sequence[ProfileRow]) -> Iterator[Field]:
    """A line for the form, where there is a profile to take another build from."""
    if names := tuple(row.name for row in rows if not row.problem and not row.current):
        help_ = "build, backend and settings of a profile, with the lines below on top; –: as it runs"
        yield Field(name=PROFILE, label="backend", help=help_, choices=names)


def _line(row: ProfileRow) -> Text:
    mark = "●" if row.current else "✗" if row.problem else " "
    return Text.assemble(f"{mark} ", (clean(row.name), "dim" if row.problem else ""), no_wrap=True)


def profile_text(row: ProfileRow | None) -> list[Part]:
    """What a profile is; nothing for "same, but…"."""
    if row is None:
        return []
    kind = "preset" if row.preset else "profile"
    sort = "with a model of its own" if row.complete else "changes what runs"
    parts: list[Part] = [(row.name, "bold"), (f"\n{kind}, {sort}\n", DIM), (f"\n{row.summary}\n", "")]
    if row.current:
        parts.append(("\nThe server was launched from it.\n", DIM))
    if row.problem:
        parts.append((f"\n✗ {row.problem}\n", BAD))
    return parts
