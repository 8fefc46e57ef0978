"""The form "same, but": a line a setting, with what runs now; what is changed is marked."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widgets import Input, Label, Static

from halotui.actions import ActionError, Field, Patch, Value
from halotui.screens.popup import DIM, content

EXTRA = "extra"  # the field of flags that no setting stands for
PROFILE = "profile"  # the field of a profile whose build and backend are taken
_UNSET = "–"
_LABEL = 14  # cells


class Line(Horizontal):
    """A setting: its label and something that takes another value."""

    DEFAULT_CSS = """
    Line { height: 1; }
    Line Label { width: 16; }
    Line Choice { width: 1fr; }
    Line Input { width: 1fr; background: $surface; }
    Line Input:focus, Line Choice:focus { background: $foreground 20%; }
    """

    class Entered(Message):
        """The cursor stands here."""

        def __init__(self, line: Line) -> None:
            super().__init__()
            self.line = line

    def __init__(self, field: Field, given: Value | None = None, *, filled: bool = False) -> None:
        super().__init__()
        self.field = field
        self._given = given  # by a finding, in its own type
        self._filled = text_of(given) if filled else None
        self.value = field.value if self._filled is None else self._filled

    @property
    def changed(self) -> bool:
        return self.value != self.field.value

    @property
    def wanted(self) -> Value | None:
        """As the patch has it: what a finding gave keeps its type, what was typed is text."""
        return self._given if self.value == self._filled else self.value or None

    def compose(self) -> ComposeResult:
        yield Label()
        if self.field.choices:
            yield Choice(self.field.choices, self.value)
        else:
            free = Input(self.value, placeholder=_UNSET, compact=True, select_on_focus=False)
            free.cursor_blink = False  # a blink is a redraw
            yield free

    def on_mount(self) -> None:
        self._mark()

    def enter(self) -> None:
        """Put the cursor here."""
        self.children[1].focus()

    def _mark(self) -> None:
        style = "bold $warning" if self.changed else ""
        self.query_one(Label).update(
            content([(f"{'•' if self.changed else ' '} {self.field.label[:_LABEL]}", style)])
        )

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._take(event.value.strip())

    def on_choice_changed(self, event: Choice.Changed) -> None:
        event.stop()
        self._take(event.value)

    def _take(self, value: str) -> None:
        self.value = value
        self._mark()
        self.post_message(self.Entered(self))

    def on_descendant_focus(self) -> None:
        self.post_message(self.Entered(self))


class Choice(Static, can_focus=True):
    """One of a few values: left and right, space, or a click."""

    BINDINGS: ClassVar = [
        Binding("left", "step(-1)", show=False),
        Binding("right,space", "step(1)", show=False),
    ]

    class Changed(Message):
        def __init__(self, value: str) -> None:
            super().__init__()
            self.value = value

    def __init__(self, choices: Sequence[str], value: str) -> None:
        super().__init__()
        self._choices = list(dict.fromkeys(("", *choices, value)))
        self._value = value

    def on_mount(self) -> None:
        self._draw()

    def _draw(self) -> None:
        self.update(content([("‹ ", DIM), (self._value or _UNSET, "bold"), (" ›", DIM)]))

    def action_step(self, step: int) -> None:
        at = self._choices.index(self._value) + step
        self._value = self._choices[at % len(self._choices)]
        self._draw()
        self.post_message(self.Changed(self._value))

    def on_click(self) -> None:
        self.action_step(1)


class Form(VerticalScroll, can_focus=False):
    """All lines. ``given`` is a finding's patch; what it names beside the fields gets a line too."""

    BINDINGS: ClassVar = [
        Binding("up", "app.focus_previous", show=False),
        Binding("down", "app.focus_next", show=False),
    ]

    def __init__(self, fields: Sequence[Field], given: Patch | None = None) -> None:
        super().__init__()
        given = given or {}
        known = {field.name for field in fields}
        beside = [
            Field(name=name, label=name, help="From the finding.") for name in given if name not in known
        ]
        self._lines = [
            Line(field, given.get(field.name), filled=field.name in given) for field in (*beside, *fields)
        ]

    def compose(self) -> ComposeResult:
        yield from self._lines

    def patch(self) -> dict[str, Value | None]:
        """What shall be other than it is."""
        settings = (line for line in self._lines if line.changed and line.field.name not in (EXTRA, PROFILE))
        return {line.field.name: line.wanted for line in settings}

    def profile(self) -> str | None:
        """The profile that the changes are put on top of; None: what runs."""
        return next((line.value or None for line in self._lines if line.field.name == PROFILE), None)

    def extra(self) -> tuple[str, ...] | None:
        """The free flags, word by word; None: as before. Raises ActionError."""
        for line in self._lines:
            if line.field.name == EXTRA and line.changed:
                try:
                    return tuple(shlex.split(line.value))
                except ValueError as error:
                    raise ActionError(f"extra flags: {error}", "Close the quotes.") from None
        return None


def text_of(value: Value | None) -> str:
    """A value as the form shows it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "" if value is None else str(value)


def help_of(line: Line) -> str:
    """What a line is about, and what runs now if that was changed."""
    was = f" · was {line.field.value or _UNSET}" if line.changed else ""
    return f"{line.field.help}{was}"
