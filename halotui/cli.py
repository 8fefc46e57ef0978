"""The command line: what to watch, and who looks: the screen, text, JSON or a stream of frames."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halotui import __version__, exits, streams
from halotui.commands import auditing, cockpit, exporting, looking, measuring, places, twins
from halotui.commands import parser as commands
from halotui.demo import FAULTS
from halotui.exits import UnreachableError, UsageError
from halotui.stations import Station

if TYPE_CHECKING:
    from halotui.config import Settings
    from halotui.feed import Feed

GPU_SOURCES = ("auto", "sysfs", "amdgpu_top", "amdsmi")

_MODULES = (*measuring.NAMES, *auditing.NAMES, *exporting.NAMES, *twins.NAMES)  # a module each

EXAMPLES = """\
examples:
  halotui                                 the cockpit of the servers on this box
  halotui --url http://127.0.0.1:8080     of this one (repeat for several)
  llama-server ... 2>&1 | halotui --log - with the log from a pipe
  halotui --json | jq .servers            one frame, for scripts
  halotui stream >> frames.jsonl          a frame a line, for ever
  halotui --ssh box                       the cockpit of a far box; nothing is installed there
  halotui --ssh desk --ssh me@10.0.0.7    a fleet
  halotui demo --fault spec-decay         a demo box with a fault
  halotui relaunch --set np=1 --dry-run   what a relaunch with other flags would do
  halotui doctor                          what is wrong with this box, and the command that cures it
  halotui check --log server.log          what a log says went wrong
  halotui probe spec                      does speculation keep paying? ten requests
  halotui requests --log server.log       every request in a log, with percentiles
  halotui bench -- llama-bench -m x.gguf  peak memory around a command
  halotui line -f --format tmux           one line for a status bar
  halotui export                          for Prometheus
  halotui replay --last                   what was on the screen before the box went down

exit codes: 0 ok, 1 failure or refused, 2 usage, config or read-only, 3 nothing reachable,
4 rolled back (what ran before serves again), 5 lost (neither serves), 130 interrupted;
of bench: the command's own
"""


def entry() -> None:
    """The console script."""
    streams.mend()
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        argv, command = _split(argv)
        args = _parser(argv).parse_args(argv)
        args.argv = command
        return asyncio.run(_run(args))
    except UsageError as error:
        return _complain(error, exits.USAGE)
    except UnreachableError as error:
        return _complain(error, exits.UNREACHABLE)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer has nowhere to go
        if isinstance(error, BrokenPipeError):  # the reader has gone: nothing more to say
            return exits.OK
        from halotui.hosts import LinkDown

        lost = isinstance(error, LinkDown)
        return _complain(error.strerror or error, exits.UNREACHABLE if lost else exits.FAILURE)


def _split(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str] | None]:
    """Our words, and after ``--`` those of the command to be measured, which are not ours to read."""
    if "bench" not in argv or "--" not in argv:
        return argv, None
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


def _complain(what: object, code: int) -> int:
    """One harmless line on stderr, and the exit code."""
    from halotui.safe import clean

    print(f"halotui: {clean(str(what))}", file=sys.stderr)
    return code


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    what = common.add_argument_group("what to watch")
    what.add_argument("-u", "--url", action="append", help="a llama-server; default: those of this box")
    what.add_argument(
        "--ssh",
        action="append",
        metavar="[USER@]HOST",
        help="a far box, or one of [hosts] in the config (repeat for several; . is this box)",
    )
    what.add_argument(
        "--fleet", nargs="?", const="", metavar="GROUP", help="all boxes of [hosts], or those of a group"
    )
    what.add_argument("--ssh-config", metavar="FILE", help="ssh's own configuration, as ssh -F")
    what.add_argument("--log", metavar="PATH", help="log of the first server, - for standard input")
    what.add_argument("--api-key-env", metavar="NAME", help="variable that holds the API key")
    what.add_argument("--gpu-source", choices=GPU_SOURCES, help="where GPU numbers come from (auto)")
    what.add_argument("--sysfs", type=Path, metavar="PATH", help="root of sysfs (/sys)")
    what.add_argument("--procfs", type=Path, metavar="PATH", help="root of procfs (/proc)")
    how = common.add_argument_group("how to show it")
    how.add_argument("-i", "--interval", type=float, metavar="S", help="seconds between frames (1)")
    how.add_argument("--once", action="store_true", help="one look as text, then exit")
    how.add_argument("--json", action="store_true", help="one look as JSON, then exit")
    how.add_argument("--theme", metavar="NAME", help="colours of the screen (halo-dark)")
    how.add_argument("--config", type=Path, metavar="FILE", help="settings instead of the usual config.toml")
    how.add_argument("--readonly", action="store_true", help="only look: no key and no command that acts")
    parser = argparse.ArgumentParser(
        prog="halotui",
        description="The cockpit of a Strix Halo inference box.",
        epilog=EXAMPLES,
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--version", action="version", version=f"halotui {__version__}")
    words = parser.add_subparsers(dest="command", metavar="COMMAND")
    stream = words.add_parser(
        "stream", parents=[common], help="frames as JSON lines", argument_default=argparse.SUPPRESS
    )
    stream.add_argument("-n", "--count", type=int, metavar="N", help="stop after N frames")
    demo = words.add_parser(
        "demo", parents=[common], help="a demo box on any machine", argument_default=argparse.SUPPRESS
    )
    demo.add_argument("--fault", choices=FAULTS, help="make this fault happen")
    demo.add_argument("--seed", type=int, help="another course of the traffic")
    commands.add(words, argv)
    measuring.add(words, argv)
    auditing.add(words, argv)
    exporting.add(words, argv)
    twins.add(words, argv)
    return parser


async def _run(args: argparse.Namespace) -> int:
    settings = _settings(args)
    said = vars(args)
    if said.get("command") in commands.NAMES:
        from halotui.commands.run import run

        return await run(said, settings)
    if said.get("command") in _MODULES:
        module = import_module(f"halotui.commands.{said['command']}")
        return int(await module.run(said, settings))
    if said.get("command") == "replay":
        return await _replay(said, settings)
    one_shot = said.get("once") or said.get("json")
    if said.get("count", 1) < 1:
        raise UsageError("--count: at least 1")
    screen = not one_shot and sys.stdout.isatty() and (sys.stdin.isatty() or said.get("log") == "-")
    if screen and said.get("command") != "stream" and said.get("log") == "-" and not sys.stdin.isatty():
        args.stdin = _keys_from_terminal()
    boxes = _boxes(settings, said)
    if said.get("command") == "stream":
        return await looking.stream(boxes, said.get("count"))
    if not screen:
        return await looking.look(boxes, as_json=bool(said.get("json")))
    return await _live(settings, boxes)


def _boxes(settings: Settings, said: dict[str, Any]) -> list[cockpit.Live]:
    """Those that are meant; the demo's is one of its own."""
    if said.get("command") == "demo":
        return [cockpit.Demo(places.this_box(settings, said))]
    return [cockpit.Live(place) for place in places.places(settings, said)]


async def _live(settings: Settings, boxes: list[cockpit.Live]) -> int:
    """The cockpit of one box, or the fleet. ssh may ask on the terminal: before the screen has it."""
    await looking.enter(boxes)
    return await _screen(settings, [box.station() for box in boxes])


async def _replay(said: dict[str, Any], settings: Settings) -> int:
    """The dashboard on a recording, or what was recorded as text."""
    from halotui.commands import replay
    from halotui.commands.keeping import told
    from halotui.recording.reader import RecordingError

    if replay.is_headless(said):
        return await replay.run(said, settings)
    try:
        player = await asyncio.to_thread(replay.open_player, said, settings)

        async def feed() -> Feed:
            return player

        return await _screen(settings, [Station(open_feed=feed, label="REPLAY")])
    except RecordingError as error:  # at once, or while it plays
        return _complain(told(error), exits.FAILURE)


def _settings(args: argparse.Namespace) -> Settings:
    """Flags over environment over file."""
    import msgspec

    from halotui import config
    from halotui.commands.urls import url

    said = vars(args)
    try:
        settings = config.load(said.get("config"))
        flags: dict[str, Any] = {
            key: said[key]
            for key in ("interval", "gpu_source", "theme", "api_key_env", "readonly", "ssh_config")
            if key in said
        }
        if "url" in said:
            flags["urls"] = tuple(said["url"])
        settings = msgspec.structs.replace(settings, **flags)
        settings = msgspec.structs.replace(settings, urls=tuple(map(url, settings.urls)))
        config.check(settings)
    except config.ConfigError as error:
        raise UsageError(str(error)) from None
    if settings.gpu_source not in GPU_SOURCES:
        raise UsageError(f"gpu_source: '{settings.gpu_source}' is none of {', '.join(GPU_SOURCES)}")
    for key in () if "ssh" in said or "fleet" in said else ("sysfs", "procfs"):
        if key in said and not said[key].is_dir():
            raise UsageError(f"--{key}: {said[key]} is not a directory")
    if settings.api_key_env and settings.api_key_env not in os.environ:
        raise UsageError(f"--api-key-env: there is no variable {settings.api_key_env}")
    return settings


def _keys_from_terminal() -> int:
    """Standard input is a log: keys come from the terminal itself. Returns the log's new descriptor."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        raise UsageError("--log -: no terminal to read keys from; try --once or stream") from None
    log = os.dup(0)
    os.dup2(terminal, 0)
    os.close(terminal)
    return log


async def _screen(settings: Settings, stations: list[Station]) -> int:
    """The cockpit of one box, or the fleet."""
    gc.disable()  # until the first frames are drawn: a start makes little garbage
    from halotui import config
    from halotui.app import HalotuiApp
    from halotui.themes import load_all

    themes, troubles = load_all(config.config_dir() / "themes")
    if settings.theme not in themes:
        raise UsageError(f"theme: there is no '{settings.theme}', but {', '.join(themes)}")
    app = HalotuiApp(
        fleet=stations,
        theme=settings.theme,
        themes=themes,
        troubles=troubles,
        state_dir=config.state_dir(),
        keys=settings.keys,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):  # put the terminal back in order first
        loop.add_signal_handler(number, app.exit, None, 128 + number)
    try:
        await app.run_async()
    finally:
        await app.close_feed()
    if app.failure is not None:
        raise app.failure
    return app.return_code or exits.OK
