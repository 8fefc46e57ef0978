"""The words of the commands that measure and remember. Nothing here may cost: ``--help`` imports it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from halotui.commands import words

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

FORMATS = ("table", "markdown", "json", "csv")
KINDS = ("command", "peak", "suite", "server", "import", "probe")
STATUSES = ("running", "ok", "failed", "crashed", "hung", "lost", "interrupted")

_HELP = {
    "bench": "run a command, or a suite of them, and capture peak memory",
    "peak": "capture peak memory around what runs already",
    "runs": "what was measured: list, show, delete, import",
    "compare": "runs side by side, with the difference and what it is worth",
    "requests": "the requests of a server or a log, with percentiles",
    "record": "record frames into a file",
    "replay": "the dashboard on a recording",
}
NAMES = tuple(name for name in _HELP if name != "replay")  # replay belongs to the screen: see cli

_EXAMPLES = {
    "bench": """\
  halotui bench -- llama-bench -m model.gguf -fa 1
  halotui bench --label "Vulkan + FA" --format markdown -- llama-bench -m model.gguf -o jsonl
  halotui bench backends.toml             a suite: profiles x tests, one at a time
  halotui bench backends.toml --resume    go on after a crash, a hang or a reboot
  halotui bench --ssh box -- llama-bench -m model.gguf
                                          the same on a far box, its memory captured there
  halotui bench --demo                    the published table, on a demo box

The command has its stdin, its terminal, Ctrl-C and its exit code as without halotui, and its output comes
byte for byte. On a terminal the tables follow it on stdout. Into a pipe or a file goes its output alone, and
the tables to stderr; with --json or --format it is the other way round, and with -o FILE neither has to go.
Max Mem is what VRAM+GTT held at most above what they held before; without a GPU it is that of RAM.

With --ssh the command, a suite's profiles, binaries and models are of that box, the suite's file and what is
kept are here. The command there reads our stdin where that is no terminal, and ends with us.

A suite that loses its terminal or connection ends as with Ctrl-C, and --resume goes on; in tmux it lives on.

exit codes: the command's own, 128+n when signal n ended it, 124 after --timeout, 126 and 127 when it cannot
be started
""",
    "peak": """\
  halotui peak                            of the whole box, until Ctrl-C
  halotui peak --for 60 --label idle
  halotui peak --pid 1234 --json
  halotui peak --ssh box                  of a far one

Ctrl-C ends it with the tables, and exit code 0. On a terminal a line that is typed becomes a mark.
""",
    "runs": """\
  halotui runs                            the newest first
  halotui runs --label 'Vulkan*' --since 7d
  halotui runs show 12                    with peaks, results and the box it ran on
  halotui runs import old/*.jsonl         results of llama-bench, in any of its formats
  halotui runs delete 12 13 --yes
  halotui runs --ssh box                  what was measured of a far box: it is kept here
""",
    "compare": """\
  halotui compare 12 14                   two runs: test, A, B, difference
  halotui compare old.jsonl new.jsonl     files of llama-bench
  halotui compare backends                a suite: the table that people publish
  halotui compare 12 14 --plot            curves of t/s over depth
  halotui compare 12 14 --svg depth.svg
""",
    "requests": """\
  halotui requests                        what the logs of this box's servers hold
  halotui requests --log server.log       any log of llama-server, of any age; no server is needed
  halotui requests --where 'end=cancelled' --where 'ttft>2s' --last 50
  halotui requests --sort decode --csv
  halotui requests --ssh box --log server.log
                                          a log of that box
  halotui requests -f                     each one as it ends, until Ctrl-C
  halotui requests --for 5m               those of the next five minutes, then the table
  journalctl -u llama --no-pager | halotui requests --log -
  halotui requests --json | jq '.figures.ttft_seconds.p50'

Rates are the server's own, to the last digit that its log prints. A server without a log is watched in /slots
with -f or --for: its figures are then right to a poll. p50, p95 and p99 are of the requests in the table: p95
from 20 of them on, p99 from 100. What a narrow terminal leaves out is in --csv and --json.

KEY: time slot task prompt cached prefill ttft generated decode drafted accepted draft cover length depth end
  wall
WORDS: such a key compared (= < <= > >=; with s, ms, k or %), a task, or a piece of the end or its reason

exit codes: 0 ok, 1 no log (or not one of llama-server), 2 usage, or a log that cannot be read,
3 no server, 130 interrupted
""",
    "record": """\
  halotui record night.halo               until Ctrl-C; a cut-off file loses at most its last second
  halotui record night.halo --for 8h
  halotui record far.halo --ssh box       a far box; while it is not reached there are no frames
""",
    "replay": """\
  halotui replay night.halo               play, pause, seek; the dashboard cannot tell
  halotui replay --last                   the last seconds before the box went down
  halotui replay night.halo --once --at 03:12:40
  halotui replay --last --ssh box         what was recorded here of a far box
  halotui replay --list                   what the flight recorder holds
""",
}


def add(commands: Commands, argv: Sequence[str]) -> None:
    """Add the commands. Only one that is said is made whole."""
    for name, help_ in _HELP.items():
        if name not in argv:
            commands.add_parser(name, help=help_)
            continue
        parser = commands.add_parser(
            name,
            help=help_,
            description=f"{help_[0].upper()}{help_[1:]}.",
            epilog=f"examples:\n{_EXAMPLES[name]}",
            parents=[group() for group in _GROUPS.get(name, (_common, _storing))],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            argument_default=argparse.SUPPRESS,
        )
        _ARGUMENTS[name](parser)


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    words.add(common, "--json", "--config", *words.BOX)
    return common


def _storing() -> argparse.ArgumentParser:
    store = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    store.add_argument("--store", type=Path, metavar="FILE", help="another store than the usual one")
    return store


def _asking() -> argparse.ArgumentParser:
    what = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    words.add(what, *words.SERVERS, "-i --interval")
    return what


def _watching() -> argparse.ArgumentParser:
    what = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    what.add_argument("--log", metavar="PATH", help="log of the first server")
    words.add(what, "--gpu-source")
    return what


def _capturing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hz", type=float, metavar="N", help="samples a second (20; 1 to 100)")
    parser.add_argument("--label", metavar="NAME", help="the row of the table; default: the command's name")
    parser.add_argument("--quiet", action="store_true", help="no line of live status")
    parser.add_argument("--no-store", action="store_true", help="keep nothing")
    _formatted(parser)


def _formatted(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=FORMATS, help="of the tables (table)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write them there; default: stdout")


def _bench(parser: argparse.ArgumentParser) -> None:
    _capturing(parser)
    parser.add_argument("--timeout", type=float, metavar="S", help="longer is a hang: the command is ended")
    suite = parser.add_argument_group("of a suite")
    suite.add_argument("--resume", action="store_true", help="go on with the last course that did not end")
    suite.add_argument("--retry", action="store_true", help="with --resume: what failed or hung again, too")
    suite.add_argument("--only", action="append", metavar="PATTERN", help="items whose name matches")
    suite.add_argument("--dry-run", action="store_true", help="only list what would run")
    suite.add_argument("--seed", type=int, help="another shuffled order")
    suite.add_argument("--demo", action="store_true", help="on a demo box; its own suite if none is named")
    parser.add_argument(
        "what", nargs="*", metavar="SUITE.toml | -- COMMAND", help="a suite, or a command after --"
    )


def _peak(parser: argparse.ArgumentParser) -> None:
    _capturing(parser)
    parser.add_argument("--for", dest="duration", metavar="TIME", help="60, 90s, 5m, 8h; else until Ctrl-C")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--server", metavar="URL|PID", help="this server's processes, beside the whole box")
    which.add_argument("--pid", type=int, metavar="PID", help="this process and its children; ends with it")


def _runs(parser: argparse.ArgumentParser) -> None:
    _formatted(parser)
    parser.add_argument("--label", metavar="PATTERN", help="only those so labelled")
    parser.add_argument("--suite", metavar="PATTERN", help="only those of this suite")
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--status", action="append", choices=STATUSES)
    parser.add_argument("--since", metavar="TIME", help="7d, 12h, 2026-11-01")
    parser.add_argument("--until", metavar="TIME", help="only what began before")
    parser.add_argument("-n", "--limit", type=int, metavar="N", help="at most so many (20)")
    parser.add_argument("--all", action="store_true", help="without a limit; with delete: all that match")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "what", nargs="*", metavar="list | show ID | delete ID | import FILE", help="default: list"
    )


def _compare(parser: argparse.ArgumentParser) -> None:
    _formatted(parser)
    parser.add_argument("sides", nargs="+", metavar="A", help="id, label, suite, or a file of llama-bench")
    parser.add_argument("--test", action="append", metavar="PATTERN", help="only these tests, as 'tg128*'")
    parser.add_argument("--plot", action="store_true", help="curves of t/s over depth")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="the curves as a picture")
    parser.add_argument("--png", type=Path, metavar="FILE", help="the curves as a picture")


def _requests(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log", metavar="FILE", help="a log instead of a server; - is standard input")
    parser.add_argument("--csv", action="store_true", help="the answer as CSV")
    parser.add_argument("--sort", metavar="KEY", help="below (time)")
    parser.add_argument("--reverse", action="store_true", help="largest or newest first")
    parser.add_argument("--where", action="append", metavar="WORDS", help="only those that they hold for")
    parser.add_argument("-n", "--last", type=int, metavar="N", help="only the last N")
    parser.add_argument("-f", "--follow", action="store_true", help="then each as it ends")
    parser.add_argument("--for", dest="duration", metavar="TIME", help="look on for so long: 60, 90s, 5m, 8h")


def _record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--for", dest="duration", metavar="TIME", help="60, 90s, 5m, 8h; else until Ctrl-C")
    parser.add_argument("--append", action="store_true", help="go on in a file that is there")
    parser.add_argument("--quiet", action="store_true", help="no line of live status")


def _replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", nargs="?", default=None)
    parser.add_argument(
        "--last",
        action="store_true",
        help="the session that was cut off within the last day, else the newest",
    )
    parser.add_argument("--list", action="store_true", help="what the flight recorder holds")
    parser._negative_number_matcher = re.compile(r"-\d")  # of --at -30s: a time, no option
    parser.add_argument(
        "--at", metavar="TIME", help="begin there: 03:12:40, +90s, -30s (from the end), 2026-11-01T03:12"
    )
    parser.add_argument("--speed", type=float, metavar="X", help="of 0.25 to 64 (1)")
    parser.add_argument("--once", action="store_true", help="the frame of that time as text")
    parser.add_argument("--theme", metavar="NAME", help="colours of the screen")


_GROUPS: dict[str, tuple[Callable[[], argparse.ArgumentParser], ...]] = {
    "requests": (_common, _asking),
    "record": (_common, _storing, _asking, _watching),
}
_ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "requests": _requests,
    "bench": _bench,
    "peak": _peak,
    "runs": _runs,
    "compare": _compare,
    "record": _record,
    "replay": _replay,
}
