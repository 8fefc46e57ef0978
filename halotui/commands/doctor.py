"""``halotui doctor``."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from halotui import exits

if TYPE_CHECKING:
    from halotui.commands.places import Place
    from halotui.config import Settings
    from halotui.doctor.lines import Line, Sighted
    from halotui.doctor.standing import Standing
    from halotui.hosts import Host
    from halotui.hosts.hands import Hands

ANSWER_SECONDS = 2.0  # what a look waits for answers
APART_SECONDS = 1.0  # two looks, at most: rules about rates need both
PATIENCE = 1.0  # before a word on the terminal
WIDEST = 100  # columns
_WORD = "halotui: looking at the box and its servers ..."


async def run(said: Mapping[str, Any], settings: Settings) -> int:
    """The exit code. Raises UsageError, UnreachableError."""
    import msgspec

    from halotui.commands.places import opened, place
    from halotui.doctor.examine import lines, must
    from halotui.doctor.text import WIDTH, text

    where = place(settings, said)
    async with opened(where) as (host, hands), _progress():
        seen, stand = await _seen(where, host, hands)
    known = _from_here(lines(seen, stand), where.name)
    if said.get("json"):
        from halotui.actions import Verdict

        shown = [line for line in known if not (said.get("quiet") and line.verdict is Verdict.OK)]
        print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode(), flush=True)
    else:
        terminal = sys.stdout.isatty()
        colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        width = min(WIDEST, shutil.get_terminal_size((WIDTH, 24)).columns) if terminal else WIDTH
        name, quiet = seen.frame.host, bool(said.get("quiet"))
        print(
            text(
                known, name, width=width, colour=colour, quiet=quiet, far=where.name if where.target else ""
            ),
            flush=True,
        )
    return exits.FAILURE if must(known) else exits.OK


def _from_here(known: Sequence[Line], far: str) -> Sequence[Line]:
    """Our own commands go to a far box from here."""
    from msgspec.structs import replace

    if not far:
        return known
    ours, box = "halotui relaunch ", f"halotui relaunch --ssh {shlex.quote(far)} "
    return [
        replace(one, commands=tuple(command.replace(ours, box, 1) for command in one.commands))
        for one in known
    ]


async def _seen(where: Place, host: Host, hands: Hands) -> tuple[Sighted, Standing]:
    """Two looks of the rules, and one at what they do not tell."""
    from halotui import config
    from halotui.commands.feeding import live_feed
    from halotui.doctor.look import look
    from halotui.doctor.standing import standing

    feed = await asyncio.to_thread(live_feed, where.settings, where.said, True, None, host)
    try:
        first = await feed.one(ANSWER_SECONDS)
        await asyncio.sleep(min(feed.interval, APART_SECONDS))
        frame = await feed.one(ANSWER_SECONDS)
        binaries = await asyncio.to_thread(_binaries, where.settings, host)
        seen = await look(host, hands, frame, binaries)
        return seen, standing((first, frame), feed.history, config.tuning(where.settings))
    finally:
        await feed.close()


def _binaries(settings: Settings, host: Host) -> list[str]:
    """The llama-servers of the box that may be launched: on PATH, and of plain profiles of the user."""
    if not host.native:
        return []
    own = [
        profile.binary for profile in settings.profiles.values() if not (profile.image or profile.container)
    ]
    words = [one if isinstance(one, str) else one[-1] for one in own if one]
    home = host.user.home
    paths = [f"{home}{word[1:]}" if word.startswith("~/") else word for word in words]
    named = [host.which(path) for path in ("llama-server", *paths)]
    return list(dict.fromkeys(path for path in named if path))


@asynccontextmanager
async def _progress() -> AsyncIterator[None]:
    """A word on stderr when it takes longer, taken back at the end."""
    task = asyncio.create_task(_tell()) if sys.stderr.isatty() else None
    try:
        yield
    finally:
        if task is not None:
            told = task.done()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            if told:
                print(f"\r{' ' * len(_WORD)}\r", end="", file=sys.stderr, flush=True)


async def _tell() -> None:
    await asyncio.sleep(PATIENCE)
    print(_WORD, end="", file=sys.stderr, flush=True)
