"""One line of input at the foot of the screen."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.screen import ModalScreen
from textual.widgets import Input


class Prompt(ModalScreen[str | None]):
    """Gives the text on enter, None on escape."""

    BINDINGS: ClassVar = [("escape", "cancel", "Back")]
    DEFAULT_CSS = """
    Prompt { align: left bottom; background: transparent; }
    Prompt Input { width: 100%; background: $surface; }
    """

    def __init__(self, placeholder: str, value: str = "") -> None:
        super().__init__()
        self._placeholder = placeholder
        self._value = value

    def compose(self) -> ComposeResult:
        yield Input(self._value, placeholder=self._placeholder, compact=True)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)

    def action_cancel(self) -> None:
        self.dismiss(None)
