"""The words of the commands that judge. Nothing here may cost: ``--help`` imports it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from halotui.commands import words

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_HELP = {
    "doctor": "the box and its servers, point by point: what is right, what is not, what to do",
    "check": "what the rules say of a box, a recording or a log",
    "probe": "try a running server: speculation, slots, speed, prompt cache",
    "rules": "what halotui looks for; silence a rule, and what fired when",
    "usual": "how fast each model usually is on this box",
}
NAMES = tuple(_HELP)

_EXAMPLES = {
    "doctor": """\
  halotui doctor                          every line: what was read, what to do
  halotui doctor --quiet                  only what is not ok
  halotui doctor --json | jq '.[] | select(.verdict == "fail")'
  halotui doctor --ssh box                a far box; its commands are to be run there

It changes nothing. exit codes: 0 nothing must be fixed, 1 something must, 2 usage, 3 a far box is not reached
""",
    "check": """\
  halotui check                           this box, now
  halotui check --for 10m                 and what shows in ten minutes
  halotui check --log server.log          the post-mortem of a log
  halotui check box.halo --json           of a recording, second by second
  halotui check --ssh box --log /var/log/llama.log
                                          of a log on a far box
  halotui check --last                    of the flight recorder's last session

exit codes: 0 nothing found, 1 something of the severity of --fail-on or above, 2 usage, 3 nothing reachable
""",
    "probe": """\
  halotui probe spec                      ten chat requests on one slot: does it go on drafting? (#19231)
  halotui probe slots                     slots asked for, and those there are, by requests at once
  halotui probe speed --depths 0,4096     prefill and decode with spread, beside what is usual here
  halotui probe cache                     is a prompt that was seen before reused?
  halotui probe speed --ssh box           a server of a far box, through ssh

It sends requests, for a minute or two at most; Ctrl-C ends it at once, and what was measured is shown.
exit codes: 0 all is well, 1 something is not, or cannot be told, 2 usage, 3 no such server, 130 interrupted
""",
    "rules": """\
  halotui rules                           all of them, with their thresholds
  halotui rules gtt-pressure              one, whole
  halotui rules silence np-slots --for 8h say no more of it; without --for until it is taken back
  halotui rules hear np-slots             take that back
  halotui rules log --since 7d            what fired when, and for how long
  halotui rules --markdown > docs/rules.md
""",
    "usual": """\
  halotui usual                           what was learned: medians, spread, counts, first and last seen
  halotui usual 'Qwen3*' --json
  halotui usual --ssh box                 on a far box
  halotui usual 'Qwen3*' --forget         learn it anew, as after a repair
""",
}


def add(commands: Commands, argv: Sequence[str]) -> None:
    """Add the commands of :data:`NAMES`. Only one that is said is made whole."""
    for name in NAMES:
        if name in argv:
            parser = commands.add_parser(
                name,
                parents=[_common()],
                help=_HELP[name],
                description=f"{_HELP[name][0].upper()}{_HELP[name][1:]}.",
                epilog=f"examples:\n{_EXAMPLES[name]}",
                formatter_class=argparse.RawDescriptionHelpFormatter,
                argument_default=argparse.SUPPRESS,
            )
            _ARGUMENTS[name](parser)
        else:
            commands.add_parser(name, help=_HELP[name])


def _blank() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)


def _common() -> argparse.ArgumentParser:
    common = _blank()
    words.add(common, "--json", "--config", *words.WHICH)
    return common


def _kept(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", type=Path, metavar="FILE", help="what is kept, instead of the usual file")


def _watching() -> argparse.ArgumentParser:
    """What to look at: the same words as of the dashboard."""
    watching = _blank()
    words.add(watching, *words.SERVERS, "--sysfs", "--procfs")
    return watching


def _take(parser: argparse.ArgumentParser, other: argparse.ArgumentParser) -> None:
    """The arguments of another one, as ``parents`` does."""
    parser._add_container_actions(other)


def _doctor(parser: argparse.ArgumentParser) -> None:
    _take(parser, _watching())
    parser.add_argument("-q", "--quiet", action="store_true", help="only lines that are not ok")


def _check(parser: argparse.ArgumentParser) -> None:
    _take(parser, _watching())
    _kept(parser)
    parser.add_argument(
        "recording",
        type=Path,
        nargs="?",
        default=None,  # not SUPPRESS: argparse would make a Path of it
        metavar="RECORDING",
        help="a file of halotui record, or a segment of the flight recorder",
    )
    parser.add_argument("--last", action="store_true", help="the flight recorder's last session")
    parser.add_argument("--log", type=Path, metavar="FILE", help="a llama-server's log alone; - is stdin")
    parser.add_argument("--for", dest="length", metavar="TIME", help="watch the box for so long (two looks)")
    parser.add_argument(
        "--fail-on",
        choices=("info", "warning", "critical"),
        help="the least severity that makes it exit 1 (warning)",
    )


def _probe(parser: argparse.ArgumentParser) -> None:
    _take(parser, _watching())
    _kept(parser)
    parser.add_argument("what", choices=("spec", "slots", "speed", "cache"), metavar="spec|slots|speed|cache")
    parser.add_argument("--seconds", type=float, metavar="S", help="at most so long (120)")
    parser.add_argument("--requests", type=int, metavar="N", help="spec: how many (10)")
    parser.add_argument("--depths", metavar="N,N", help="speed: tokens in the context before (0,4096)")
    parser.add_argument("--no-store", action="store_true", help="keep nothing")


def _rules(parser: argparse.ArgumentParser) -> None:
    _kept(parser)
    parser.add_argument("words", nargs="*", metavar="ID | silence ID | hear ID | log", help="default: all")
    parser.add_argument("--markdown", action="store_true", help="docs/rules.md")
    parser.add_argument("--for", dest="length", metavar="TIME", help="silence: for so long, as 8h")
    parser.add_argument("--subject", metavar="WHAT", help="silence, hear: of this server or GPU alone")
    parser.add_argument("--since", metavar="TIME", help="log: from then on, as 7d (1d)")


def _usual(parser: argparse.ArgumentParser) -> None:
    _kept(parser)
    parser.add_argument("model", nargs="?", metavar="MODEL", help="only these, as a shell pattern")
    parser.add_argument("--forget", action="store_true", help="what was learned of them")


_ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "doctor": _doctor,
    "check": _check,
    "probe": _probe,
    "rules": _rules,
    "usual": _usual,
}
