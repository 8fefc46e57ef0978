"""Which field to look at: those that were recorded, filtered by typing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from halotui import fields
from halotui.safe import clean
from halotui.screens.popup import BACK, DIM, Popup, content
from halotui.widgets.rows import fit

Pair = tuple[str, str]  # subject, field id


class Fields(Popup[Pair]):
    """Gives the subject and the field."""

    TITLE: ClassVar = "which field"
    BINDINGS: ClassVar = [
        Binding("up", "move(-1)", "up", show=False, priority=True),
        Binding("down", "move(1)", "down", show=False, priority=True),
        Binding("enter", "take", "show it", key_display="enter", priority=True),
        BACK,
    ]
    DEFAULT_CSS = """
    Fields OptionList { height: auto; max-height: 12; border: none; padding: 0; background: $surface;
        text-wrap: nowrap; text-overflow: ellipsis; scrollbar-size-vertical: 1; }
    Fields Input { background: $surface; margin: 0 0 1 0; }
    """

    def __init__(self, pairs: Sequence[Pair], here: Pair) -> None:
        super().__init__()
        self._pairs, self._here = pairs, here
        self._found: list[Pair] = []

    def body(self) -> ComposeResult:
        yield Input(placeholder="type to filter", compact=True)
        chooser = OptionList(compact=True)
        chooser.can_focus = False
        yield chooser

    def on_mount(self) -> None:
        self.query_one("#box").can_focus = False
        self.query_one(Input).focus()
        self._show("")

    def on_input_changed(self, event: Input.Changed) -> None:
        self._show(event.value)

    def _show(self, typed: str) -> None:
        words = typed.lower().split()
        self._found = [pair for pair in self._pairs if all(word in _words(pair).lower() for word in words)]
        chooser = self.query_one(OptionList)
        chooser.clear_options()
        chooser.add_options(Option(content([(_words(pair), "")])) for pair in self._found)
        if self._found:
            chooser.highlighted = self._found.index(self._here) if self._here in self._found else 0
        else:
            chooser.add_option(Option(content([("there is none", DIM)]), disabled=True))

    def action_move(self, step: int) -> None:
        chooser = self.query_one(OptionList)
        if self._found:
            chooser.highlighted = ((chooser.highlighted or 0) + step) % len(self._found)

    def action_take(self) -> None:
        at = self.query_one(OptionList).highlighted
        if self._found and at is not None:
            self.dismiss(self._found[at])

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._found[event.option_index])


def _words(pair: Pair) -> str:
    subject, id_ = pair
    field = fields.BY_ID[id_]
    return f"{fit(field.label, 14)} {fit(field.unit, 9)} {whose(subject)}  {id_}"


def whose(subject: str) -> str:
    """A subject, short and harmless."""
    return clean(subject.removeprefix("http://"), 60)
