"""The words of the commands that act. Nothing here may cost: ``--help`` imports it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from halotui.commands import words

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

NAMES = ("servers", "profiles", "launch", "relaunch", "stop", "start")

_EPILOG = """\
exit codes: 0 done, 1 refused (nothing was touched) or failed, 2 usage, config or read-only,
3 no such server, 4 rolled back (what ran before serves again), 5 lost (neither serves), 130 interrupted
"""

_EXAMPLES = {
    "servers": """\
  halotui servers                         what runs here, and whether halotui may touch it
  halotui servers --json | jq '.[].pid'
  halotui servers --ssh box               those of a far box, over ssh
""",
    "profiles": """\
  halotui profiles                        shipped presets and your own
  halotui profiles show vulkan            with everything it inherits
  halotui profiles add mine --from 1234   the running server as a profile in config.toml
""",
    "launch": """\
  halotui launch coder                    beside what runs, on the profile's own port
  halotui launch coder --set port=8081 --yes
""",
    "relaunch": """\
  halotui relaunch --set np=1 --set ctk=q8_0 --set ctv=q8_0
  halotui relaunch --profile vulkan --measure
  halotui relaunch --unset draft --extra="--threads-http 4" --dry-run
  halotui relaunch --ssh box --set np=1   on a far box: it is detached there
  halotui relaunch --undo                 back to what ran before the last change
  halotui relaunch --status               where one stands that was cut off; then --finish or --undo
""",
    "stop": """\
  halotui stop                            the only server here
  halotui stop --server 1234 --yes --kill and if TERM does not help, KILL
""",
    "start": """\
  halotui start                           what was stopped last, as it was
""",
}

_HELP = {
    "servers": "the servers that may be acted on",
    "profiles": "the ways to launch a server",
    "launch": "start a profile beside what runs",
    "relaunch": "stop a server, start it otherwise, keep it or put it back",
    "stop": "stop a server",
    "start": "start what was stopped last",
}


def add(commands: Commands, argv: Sequence[str]) -> None:
    """Add the commands of :data:`NAMES`. Only one that is said is made whole: six would cost 5 ms."""
    for name in NAMES:
        if name in argv:
            parser = _command(commands, name)
            if name in _ARGUMENTS:
                _ARGUMENTS[name](parser)
        else:
            commands.add_parser(name, help=_HELP[name])


def _command(commands: Commands, name: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        parents=[_common(), *(group() for group in _GROUPS[name])],
        help=_HELP[name],
        description=f"{_HELP[name][0].upper()}{_HELP[name][1:]}.",
        epilog=f"examples:\n{_EXAMPLES[name]}\n{_EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )


def _profiles(parser: argparse.ArgumentParser) -> None:
    what = parser.add_subparsers(dest="what", metavar="list | show | add")
    quiet = argparse.SUPPRESS
    what.add_parser("list", parents=[_common()], help="all of them (default)", argument_default=quiet)
    show = what.add_parser("show", parents=[_common()], help="one, whole", argument_default=quiet)
    show.add_argument("name", metavar="NAME")
    new = what.add_parser("add", parents=[_common()], help="from a running server", argument_default=quiet)
    new.add_argument("name", metavar="NAME", nargs="?", help="default: after its model and backend")
    new.add_argument("--from", dest="server", metavar="PID|URL", required=True, help="the server to capture")


def _launch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", metavar="PROFILE")


def _relaunch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", metavar="NAME", help="what shall run instead; without: the same, but …")
    other = parser.add_mutually_exclusive_group()
    for flag, text in (
        ("undo", "back to what ran before the last change"),
        ("finish", "go on with one that was cut off"),
        ("give-up", "forget one that was cut off, and leave everything as it is"),
        ("status", "where one stands that was cut off, and how the last one ended"),
    ):
        other.add_argument(f"--{flag}", action="store_true", help=text)


def _blank() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)


def _common() -> argparse.ArgumentParser:
    common = _blank()
    words.add(common, "--json", "--api-key-env", "--config")
    common.add_argument("--readonly", action="store_true", help="refuse whatever acts")
    words.add(common, *words.BOX)
    return common


def _acting() -> argparse.ArgumentParser:
    acting = _blank()
    group = acting.add_argument_group("how to go about it")
    group.add_argument("--dry-run", action="store_true", help="only the checks and what would change")
    group.add_argument("-y", "--yes", action="store_true", help="do not ask")
    group.add_argument("--kill", action="store_true", help="KILL what does not stop; its requests are lost")
    return acting


def _which() -> argparse.ArgumentParser:
    which = _blank()
    which.add_argument("--server", metavar="URL|PID", help="which one; without: the only one there is")
    return which


def _changing() -> argparse.ArgumentParser:
    changing = _blank()
    group = changing.add_argument_group("what to change")
    group.add_argument("--set", action="append", metavar="NAME=VALUE", help="a setting, as np=1 or fa=on")
    group.add_argument("--unset", action="append", metavar="NAME", help="take a setting away, as draft")
    group.add_argument(
        "--extra",
        metavar="FLAGS",
        help="flags that no setting stands for, in one word; in the place of those there are",
    )
    group.add_argument("--measure", action="store_true", help="check the speed before and after (a minute)")
    return changing


_GROUPS: dict[str, tuple[Callable[[], argparse.ArgumentParser], ...]] = {
    "servers": (),
    "profiles": (),
    "launch": (_changing, _acting),
    "relaunch": (_which, _changing, _acting),
    "stop": (_which, _acting),
    "start": (_acting,),
}
_ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "profiles": _profiles,
    "launch": _launch,
    "relaunch": _relaunch,
}
