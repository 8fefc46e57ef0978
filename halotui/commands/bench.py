"""``halotui bench -- COMMAND``: the command as it is, and what it took. A suite goes to its own room."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from halotui.benching import naming, tables
from halotui.benching.measure import NOT_FOUND, NOT_STARTED, measure
from halotui.benching.relay import Relay
from halotui.commands.keeping import try_store
from halotui.commands.measured import Said, answer, hertz, talk
from halotui.commands.places import opened, place
from halotui.exits import FAILURE, UsageError
from halotui.runs import Kind, Run

if TYPE_CHECKING:
    from halotui.commands.places import Place
    from halotui.config import Settings
    from halotui.hosts import Host
    from halotui.hosts.hands import Hands

_OF_A_SUITE = ("resume", "retry", "only", "dry_run", "seed", "demo")


async def run(said: Said, settings: Settings) -> int:
    """The exit code is the command's own; 128 + n of one that signal n ended. Raises UsageError,
    UnreachableError."""
    words, command = said.get("what") or [], said.get("argv")
    if not command and ("demo" in said or any(word.endswith(".toml") for word in words)):
        from halotui.commands import suite

        return int(await suite.run(said, settings))
    _check(said, words, command)
    assert command
    where = place(settings, said)
    if where.target is not None and where.settings.readonly:
        raise UsageError(f"read-only: nothing is run on {where.name}")
    async with opened(where) as (host, hands):
        if code := await asyncio.to_thread(_missing, command, host):
            return code
        return await _bench(command, where, host, hands)


def _check(said: Said, words: Sequence[str], command: Sequence[str] | None) -> None:
    if words and not command:
        raise UsageError(f"'{words[0]}' is no suite (.toml); a command goes after --: bench -- {words[0]}")
    if words:
        raise UsageError(f"'{words[0]}': either a suite or a command after --, not both")
    if not command:
        raise UsageError("nothing to run: bench SUITE.toml, or bench -- COMMAND")
    if alien := [word for word in _OF_A_SUITE if word in said]:
        raise UsageError(f"--{alien[0].replace('_', '-')} is for a suite")
    if not said.get("timeout", 1.0) > 0:  # nor nan
        raise UsageError(f"--timeout: {said['timeout']:g} s is not above 0")
    hertz(said)
    tables.check_output(said)


def _missing(command: Sequence[str], host: Host) -> int:
    """The shell's exit code where there is no such program: nothing is measured then, or kept."""
    name = command[0]
    if host.which(name):
        return 0
    if "/" in name and host.access(name, os.F_OK):
        talk(f"{name}: cannot be executed")
        return NOT_STARTED
    talk(f"{name}: there is no such command")
    return NOT_FOUND


async def _bench(command: Sequence[str], where: Place, host: Host, hands: Hands) -> int:
    said = where.said
    piped = not os.isatty(1)
    wanted = "json" in said or "format" in said  # the table is what stdout is for
    relay = Relay("quiet" not in said, data_to_stderr=piped and wanted and "output" not in said)
    store = await asyncio.to_thread(try_store, said, where.settings)
    try:
        done = await measure(
            command,
            host=host,
            hands=hands,
            store=store,
            run=Run(kind=Kind.COMMAND, label=said.get("label", "")),
            hertz=hertz(said),
            timeout=said.get("timeout"),
            relay=relay,
            tell=talk,
        )
    finally:
        if store is not None:
            await asyncio.to_thread(store.close)
    if relay.failure:
        talk(f"its output could not be handed on: {relay.failure}")
    if done.reason:
        talk(f"{naming.program(command)}: {done.status}: {done.reason}")
    _part(relay)
    answer(done, said, aside=piped and not wanted)
    code = done.exit_code
    return FAILURE if code is None else 128 - code if code < 0 else code


def _part(relay: Relay) -> None:
    """A blank line between the command's output and ours, where both are on the terminal."""
    if os.isatty(1):
        print("\n" if relay.torn else "", flush=True)
    elif relay.torn:
        print(file=sys.stderr, flush=True)
