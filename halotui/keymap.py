"""Every key: its id (for remapping in the config), what it does, and how the palette and help name it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple
from unicodedata import lookup

# What a key may need, and is gone from sight without:
DESK = "desk"  # servers may be changed
RECORDER = "recorder"  # captures may be made
PAST = "past"  # there is something to look back at
LIVE = "live"  # the frames are of now ...
PLAYER = "player"  # ... or of a recording
BOXES = "boxes"  # there are several ...
FLEET = "fleet"  # ... and all of them are looked at
FAR = "far"  # there is a link to log in to
LISTED = "listed"  # what is looked at can be put in order ...
REQUESTS = "requests"  # ... and it is the requests


class Key(NamedTuple):
    id: str
    keys: str  # Textual key names, comma separated
    action: str
    name: str  # in the palette
    tooltip: str
    shown: str  # in the help
    needs: str = ""

    @property
    def verb(self) -> str:
        """The action without what is in its brackets."""
        return self.action.partition("(")[0]


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
    Key("enter", "enter", "enter", "Open the box", "The whole cockpit of the box.", "enter", FLEET),
    Key("fleet", "0", "fleet", "All boxes", "A row for each box; esc goes back there too.", "0", BOXES),
    Key("next-box", "right_curly_bracket", "other_box(1)", "Next box", "Look at another box.", "}", BOXES),
    Key(
        "previous-box",
        "left_curly_bracket",
        "other_box(-1)",
        "Previous box",
        "Look at another box.",
        "{",
        BOXES,
    ),
    Key(
        "login",
        "L",
        "login",
        "Log in",
        "Log in to a box that refused us; try a lost link now.",
        "L",
        FAR,
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
        "relaunch",
        "r",
        "act('relaunch')",
        "Relaunch",
        "The same with other flags, or another profile.",
        "r",
        DESK,
    ),
    Key(
        "swap",
        "b",
        "act('swap')",
        "Swap backend",
        "To the last other profile, measured before and after.",
        "b",
        DESK,
    ),
    Key("undo", "u", "act('undo')", "Undo relaunch", "Back to what ran before the last change.", "u", DESK),
    Key("stop", "x", "act('stop')", "Stop or start", "Stop the server, or start it again.", "x", DESK),
    Key(
        "save",
        "S",
        "act('save')",
        "Save as profile",
        "Write what runs into config.toml, as a profile.",
        "S",
        DESK,
    ),
    Key(
        "peak",
        "P",
        "capture('peak')",
        "Peak capture",
        "Capture peak memory; again: end it, and see the numbers.",
        "P",
        RECORDER,
    ),
    Key(
        "mark",
        "m",
        "capture('mark')",
        "Mark",
        "Give this moment a name: in the capture and the flight recorder.",
        "m",
        RECORDER,
    ),
    Key(
        "play", "space", "replay('play')", "Play or pause", "Play the recording, or hold it.", "space", PLAYER
    ),
    Key(
        "back",
        "comma",
        "replay('seek', -10)",
        "Back 10 s",
        "Back or forward 10 s.",
        ",",
        PLAYER,
    ),
    Key(
        "forward",
        "full_stop",
        "replay('seek', 10)",
        "Forward 10 s",
        "Back or forward 10 s.",
        ".",
        PLAYER,
    ),
    Key(
        "back-minute",
        "less_than_sign",
        "replay('seek', -60)",
        "Back 1 min",
        "Back or forward a minute.",
        "<",
        PLAYER,
    ),
    Key(
        "forward-minute",
        "greater_than_sign",
        "replay('seek', 60)",
        "Forward 1 min",
        "Back or forward a minute.",
        ">",
        PLAYER,
    ),
    Key(
        "next-event",
        "n",
        "replay('event', 1)",
        "Next event",
        "To the next or the previous finding or mark.",
        "n",
        PLAYER,
    ),
    Key(
        "previous-event",
        "N",
        "replay('event', -1)",
        "Previous event",
        "To the next or the previous finding or mark.",
        "N",
        PLAYER,
    ),
    Key(
        "go-to", "g", "replay('go_to')", "Go to a time", "To a time: 03:12, 03:12:40, +90s, -5m.", "g", PLAYER
    ),
    Key(
        "play-faster",
        "plus,equals_sign",
        "replay('speed', 1)",
        "Faster",
        "Play faster or slower.",
        "+",
        PLAYER,
    ),
    Key("play-slower", "minus", "replay('speed', -1)", "Slower", "Play faster or slower.", "-", PLAYER),
    Key("freeze", "space", "freeze", "Freeze", "Hold the picture still; measuring goes on.", "space", LIVE),
    Key(
        "faster",
        "plus,equals_sign",
        "pace(-1)",
        "Shorter interval",
        "Measure more or less often.",
        "+",
        LIVE,
    ),
    Key("slower", "minus", "pace(1)", "Longer interval", "Measure more or less often.", "-", LIVE),
    Key("order", "o", "listed('order')", "Order", "By the next column, or the other way.", "o", LISTED),
    Key(
        "reverse",
        "O",
        "listed('reverse')",
        "Reverse the order",
        "By the next column, or the other way.",
        "O",
        LISTED,
    ),
    Key(
        "window",
        "p",
        "requests('window')",
        "Window of percentiles",
        "Percentiles of 5 minutes, an hour, or all.",
        "p",
        REQUESTS,
    ),
    Key("filter", "slash", "filter", "Filter", "Show only log lines, or requests, that match.", "/"),
    Key("next-server", "right_square_bracket", "server(1)", "Next server", "Look at another server.", "]"),
    Key(
        "previous-server",
        "left_square_bracket",
        "server(-1)",
        "Previous server",
        "Look at another server.",
        "[",
    ),
    Key("page-up", "pageup", "scroll(10)", "Scroll up", "Through the log, or any long list.", "pgup"),
    Key("page-down", "pagedown", "scroll(-10)", "Scroll down", "Through the log, or any long list.", "pgdn"),
    Key("log-start", "home", "scroll(1e9)", "To the start", "To the ends of it.", "home"),
    Key("log-end", "end", "scroll(-1e9)", "To the end", "To the ends of it.", "end"),
    Key("theme", "t", "next_theme", "Next theme", "Switch the colours.", "t"),
    Key("copy", "y", "copy", "Copy", "Copy what is under the cursor (OSC 52), or the findings.", "y"),
    Key("write", "w", "write", "Write to a file", "Save this frame as JSON in the state directory.", "w"),
    Key("cockpit", "1", "view('cockpit')", "Cockpit", "The main view.", "1"),
    Key("log", "2", "view('log')", "Log", "The log on the whole screen.", "2"),
    Key("sources", "3", "view('sources')", "Sources", "Where the numbers come from; what is missing.", "3"),
    Key("requests", "5", "view('requests')", "Requests", "What has ended: how fast, and how it ended.", "5"),
    Key("server", "6", "view('server')", "Server", "Everything that is known of the server.", "6"),
    Key("box", "7", "view('box')", "Box", "Power and clocks, memory, platform, the kernel's log.", "7"),
    Key("processes", "8", "view('processes')", "Processes", "Who holds GPU memory and RAM.", "8"),
    Key("history", "4", "history", "History", "What was, from minutes to days.", "4", PAST),
)


_SIGNS = {"plus": "+", "minus": "-", "escape": "esc", "pageup": "pgup", "pagedown": "pgdn"}
_SIGNS |= {"left": "←", "down": "↓", "up": "↑", "right": "→"}


def usable(able: Collection[str], mapped: Mapping[str, str] | None = None) -> tuple[Key, ...]:
    """The keys, without those that need what is not there; ``mapped``: other ones, by id."""
    there = (key for key in KEYS if not key.needs or key.needs in able)
    others = mapped or {}
    return tuple(
        key._replace(keys=others[key.id], shown=signs(others[key.id])) if key.id in others else key
        for key in there
    )


def signs(keys: str) -> str:
    """Textual's names as they stand on a keyboard: ``"question_mark,f1"`` is ``? f1``."""
    return " ".join(_sign(name.strip()) for name in keys.split(","))


def _sign(name: str) -> str:
    if len(name) == 1 or name in _SIGNS:
        return _SIGNS.get(name, name)
    try:
        return lookup(name.replace("_", " "))
    except KeyError:
        return name


IDS = frozenset(key.id for key in KEYS)
