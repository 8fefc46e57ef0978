"""The words of the small twins: the line of a status bar, and the hooks. Nothing here may cost: ``--help``
imports it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from halotui.commands import words

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_HELP = {
    "line": "one line for a status bar: model, speed, slots, memory, power, the worst finding",
    "hooks": "what is told when something goes wrong, and to whom: try it out",
}
NAMES = tuple(_HELP)

_EXAMPLES = {
    "line": """\
  halotui line                            Qwen3-30B-A3B 52.7 t/s 1/4 GTT 48 % 92 W ▲ gtt-pressure
  halotui line --format '{host} {speed} {server.ttft_seconds}'
  halotui line --exit-code >/dev/null || mail ...

tmux (it takes the last line of a command that goes on; it runs one for all its clients):
  set -g status-right-length 90
  set -g status-right '#(halotui line -f --format tmux --width 80)'
waybar:
  "custom/halotui": {"exec": "halotui line -f --format waybar", "return-type": "json"}
polybar:
  type = custom/script
  exec = halotui line -f --format polybar
  tail = true

-f costs what the dashboard does without its screen. Without it: the last frame of a dashboard of the same box
that runs, if it is less than 5 s old (0.15 s of CPU, most of it Python's start), else two looks, an interval
apart (0.45 s): good every 15 s, too much every second.

Templates hold field ids, as the keys of --json (server.*, gpu.*, memory.*, slot.* ...: of the server at work,
and of the APU), and the words host, model, speed, slots, gtt, power, finding, title, findings, severity.

exit codes: always 0, and a line, for a bar hides what fails (a box that is not reached is –, the reason is on
stderr); with --exit-code 1 a warning or worse, 3 nothing reachable; 2 usage, 130 interrupted
""",
    "hooks": """\
  halotui hooks test                      sends a message through each of them, and says what came of it

They are set in config.toml, each one by itself:
  [hooks]
  webhook = "https://ntfy.sh/my-box"      # POST; or webhook_env = "NAME", of a variable that holds the URL
  format = "ntfy"                         # json, slack, discord, ntfy
  command = ["notify-me", "--title={title}", "{evidence}"]    # no shell; JSON on its standard input
  desktop = true                          # a notification, where there is a desktop
  severity = "warning"                    # at least
  debounce = 60                           # seconds that it has to be gone before it is called resolved

Whoever watches tells: the dashboard, stream, record, export and line -f. Without a screen:
halotui stream >/dev/null. Of two that watch the same box one tells. Nothing is told of a demo or a replay,
nor of what is silenced.

exit codes: 0 all were taken, 1 one was not, 2 usage, or there are none
""",
}


def add(commands: Commands, argv: Sequence[str]) -> None:
    """Add the commands of :data:`NAMES`. Only one that is said is made whole."""
    for name in NAMES:
        if name in argv:
            parser = commands.add_parser(
                name,
                help=_HELP[name],
                description=f"{_HELP[name][0].upper()}{_HELP[name][1:]}.",
                epilog=f"examples:\n{_EXAMPLES[name]}",
                formatter_class=argparse.RawDescriptionHelpFormatter,
                argument_default=argparse.SUPPRESS,
            )
            words.add(parser, "--config")
            _ARGUMENTS[name](parser)
        else:
            commands.add_parser(name, help=_HELP[name])


def _line(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", metavar="KIND", help="plain, tmux, waybar, polybar, or a template with {field ids}"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="a line a frame, until interrupted")
    parser.add_argument("--width", type=int, metavar="N", help="cells at most: what matters least goes first")
    parser.add_argument("--exit-code", action="store_true", help="tell by the exit code how it stands")
    words.add(parser, *words.BOX, *words.SERVERS, "-i --interval", "--gpu-source", "--fleet")


def _hooks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("test",), metavar="test", help="send a test message")
    parser.add_argument("--json", action="store_true", help="the answer as JSON")


_ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {"line": _line, "hooks": _hooks}
