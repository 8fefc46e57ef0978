"""Every key: its id (for remapping in the config), what it does, and how the palette and help name it."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    id: str
    keys: str  # Textual key names, comma separated
    action: str
    name: str  # in the palette
    tooltip: str
    shown: str  # in the help

    @property
    def acts(self) -> bool:
        """Whether it changes a server: gone from sight where nothing may be changed."""
        return self.action.startswith("act(")


KEYS: tuple[Key, ...] = (
    Key("quit", "q,ctrl+c", "quit", "Quit", "Leave halotui; the server goes on.", "q"),
    Key("help", "question_mark,f1", "help", "Help", "All keys, and how to read the screen.", "?"),
    Key(
        "explain",
        "e,enter",
        "explain",
        "Explain",
        "What the number or finding under the cursor means.",
        "e enter",
    ),
    Key("next-panel", "tab", "panel(1)", "Next panel", "To the next or the previous panel.", "tab"),
    Key(
        "previous-panel",
        "shift+tab",
        "panel(-1)",
        "Previous panel",
        "To the next or the previous panel.",
        "shift+tab",
    ),
    Key("left", "left,h", "move(-1, 0)", "Left", "Move the cursor (hjkl too).", "←"),
    Key("down", "down,j", "move(0, 1)", "Down", "Move the cursor (hjkl too).", "↓"),
    Key("up", "up,k", "move(0, -1)", "Up", "Move the cursor (hjkl too).", "↑"),
    Key("right", "right,l", "move(1, 0)", "Right", "Move the cursor (hjkl too).", "→"),
    Key("clear", "escape", "clear", "Clear", "Put the cursor and the filter away.", "esc"),
    Key("palette", "ctrl+p", "command_palette", "Palette", "Every command by its name.", "ctrl+p"),
    Key(
        "relaunch", "r", "act('relaunch')", "Relaunch", "The same with other flags, or another profile.", "r"
    ),
    Key(
        "swap",
        "b",
        "act('swap')",
        "Swap backend",
        "To the last other profile, measured before and after.",
        "b",
    ),
    Key("undo", "u", "act('undo')", "Undo relaunch", "Back to what ran before the last change.", "u"),
    Key("stop", "x", "act('stop')", "Stop or start", "Stop the server, or start it again.", "x"),
    Key(
        "save", "S", "act('save')", "Save as profile", "Write what runs into config.toml, as a profile.", "S"
    ),
    Key("freeze", "space", "freeze", "Freeze", "Hold the picture still; measuring goes on.", "space"),
    Key("faster", "plus,equals_sign", "pace(-1)", "Shorter interval", "Measure more or less often.", "+"),
    Key("slower", "minus", "pace(1)", "Longer interval", "Measure more or less often.", "-"),
    Key("filter", "slash", "filter", "Filter the log", "Show only log lines that contain a text.", "/"),
    Key("next-server", "right_square_bracket", "server(1)", "Next server", "Look at another server.", "]"),
    Key(
        "previous-server",
        "left_square_bracket",
        "server(-1)",
        "Previous server",
        "Look at another server.",
        "[",
    ),
    Key("page-up", "pageup", "scroll(10)", "Scroll up", "Through the log.", "pgup"),
    Key("page-down", "pagedown", "scroll(-10)", "Scroll down", "Through the log.", "pgdn"),
    Key("log-start", "home", "scroll(1e9)", "Start of the log", "To the ends of the log.", "home"),
    Key("log-end", "end", "scroll(-1e9)", "End of the log", "To the ends of the log.", "end"),
    Key("theme", "t", "next_theme", "Next theme", "Switch the colours.", "t"),
    Key("copy", "y", "copy", "Copy", "Copy what is under the cursor (OSC 52), or the findings.", "y"),
    Key("write", "w", "write", "Write to a file", "Save this frame as JSON in the state directory.", "w"),
    Key("cockpit", "1", "view('cockpit')", "Cockpit", "The main view.", "1"),
    Key("log", "2", "view('log')", "Log", "The log on the whole screen.", "2"),
    Key("sources", "3", "view('sources')", "Sources", "Where the numbers come from; what is missing.", "3"),
)


def usable(acting: bool) -> tuple[Key, ...]:
    """The keys, without those that change a server where nothing may."""
    return tuple(key for key in KEYS if acting or not key.acts)


IDS = frozenset(key.id for key in KEYS)
