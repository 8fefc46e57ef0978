"""What the pop-ups of an undertaking share: a box that scrolls, with its keys at the foot, each a button."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import ClassVar, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from halotui.actions import ActionError, Desk
from halotui.safe import clean

R = TypeVar("R")
Part = tuple[str, str]  # words and their style
OpenDesk = Callable[[], Awaitable[Desk]]

DIM, GOOD, WARN, BAD = "dim", "bold $success", "bold $warning", "bold $error"


BACK = Binding("escape", "back", "back")  # last at the foot of every pop-up


class Popup(ModalScreen[R | None]):
    """A box over the cockpit. ``body`` fills it; esc gives None."""

    TITLE: ClassVar[str] = ""
    DEFAULT_CSS = """
    Popup { align: center middle; background: $background 60%; }
    Popup > #box {
        width: 90%; min-width: 58; max-width: 100; height: auto; max-height: 94%;
        padding: 0 1; background: $surface; border: round $primary;
        border-title-color: $foreground; border-title-style: bold;
        scrollbar-size-vertical: 1;
    }
    Popup * { scrollbar-background: $surface; scrollbar-color: $foreground 30%; }
    Popup > #box.-trouble { border: round $error; }
    Popup Static { height: auto; }
    Popup Footer { background: $surface; margin: 1 0 0 0; }
    Popup Footer.-compact FooterKey { background: $surface; margin: 0 2 0 0; }
    Popup FooterKey .footer-key--key { background: $surface; color: $primary; }
    Popup FooterKey .footer-key--description { background: $surface; color: $foreground; }
    """

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box") as box:
            box.border_title = self.TITLE
            yield from self.body()
            yield Footer(show_command_palette=False, compact=True)

    def body(self) -> ComposeResult:
        """What stands in the box: a text, unless a pop-up needs more."""
        yield Static(id="text")

    def write(self, parts: Iterable[Part]) -> None:
        """The text of the box; words from elsewhere are made harmless here, once."""
        for text in self.query("#text").results(Static):  # none before it is composed
            text.update(content(parts).rstrip())

    @property
    def room(self) -> int:
        """Cells for a line of text, as the style above has them."""
        return min(100, max(58, self.app.size.width * 9 // 10)) - 6

    def loud(self) -> None:
        """The frame says it too."""
        self.query_one("#box").add_class("-trouble")

    def action_back(self) -> None:
        self.dismiss(None)


def content(parts: Iterable[Part]) -> Content:
    """Styled words, harmless: a line break is the only control character that stays."""
    return Content.assemble(*((harmless(words), style) for words, style in parts))


def plain(parts: Iterable[Part]) -> str:
    return "".join(harmless(words) for words, _ in parts)


def harmless(words: str) -> str:
    return "\n".join(clean(line) for line in words.split("\n"))


def command(words: Iterable[str]) -> str:
    """A command line to read and to copy."""
    from shlex import join

    return join(clean(word) for word in words)


def reason(error: Exception) -> ActionError:
    """Why something failed, whoever raised it: no surprise of a relaunch may end the cockpit."""
    return error if isinstance(error, ActionError) else ActionError(f"{type(error).__name__}: {error}")


def told(error: ActionError) -> list[Part]:
    """A reason on screen."""
    hint = [(f"\n{error.hint}", "")] if error.hint else []
    return [("✗ ", BAD), (error.reason, "bold"), *hint]
