"""``halotui doctor``."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halotui import exits

if TYPE_CHECKING:
    from halotui.config import Settings

ANSWER_SECONDS = 2.0  # what a look waits for answers
APART_SECONDS = 1.0  # two looks, at most: rules about rates need both
PATIENCE = 1.0  # before a word on the terminal
WIDEST = 100  # columns
_WORD = "halotui: looking at the box and its servers ..."


async def run(said: Mapping[str, Any], settings: Settings) -> int:
    """The exit code. Raises UsageError."""
    import msgspec

    from halotui import config
    from halotui.commands.feeding import live_feed
    from halotui.doctor.examine import lines, must
    from halotui.doctor.look import look
    from halotui.doctor.standing import standing
    from halotui.doctor.text import WIDTH, text
    from halotui.hosts.local import LocalHost
    from halotui.hosts.local_hands import LocalHands

    host = LocalHost(said.get("sysfs", Path("/sys")), said.get("procfs", Path("/proc")))
    async with _progress():
        feed = await asyncio.to_thread(live_feed, settings, said, True)
        try:
            first = await feed.one(ANSWER_SECONDS)
            await asyncio.sleep(min(feed.interval, APART_SECONDS))
            frame = await feed.one(ANSWER_SECONDS)
        finally:
            await feed.close()
        seen = await look(host, LocalHands(), frame, _binaries(settings, native=host.native))
        stand = standing((first, frame), feed.history, config.tuning(settings))
    known = lines(seen, stand)
    if said.get("json"):
        from halotui.actions import Verdict

        shown = [line for line in known if not (said.get("quiet") and line.verdict is Verdict.OK)]
        print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode(), flush=True)
    else:
        terminal = sys.stdout.isatty()
        colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        width = min(WIDEST, shutil.get_terminal_size((WIDTH, 24)).columns) if terminal else WIDTH
        print(text(known, frame.host, width=width, colour=colour, quiet=bool(said.get("quiet"))), flush=True)
    return exits.FAILURE if must(known) else exits.OK


def _binaries(settings: Settings, *, native: bool) -> list[str]:
    """The llama-servers of this box that may be launched: on PATH, and of plain profiles of the user."""
    if not native:
        return []
    own = [
        profile.binary for profile in settings.profiles.values() if not (profile.image or profile.container)
    ]
    words = [one if isinstance(one, str) else one[-1] for one in own if one]
    named = [shutil.which(Path(word).expanduser()) for word in ("llama-server", *words)]
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
