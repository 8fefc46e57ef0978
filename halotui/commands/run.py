"""The commands that act, and their answers: data on stdout, talk on stderr."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import msgspec

from halotui import exits
from halotui.actions import ActionError, Ask, Desk, Kind, Outcome, Proposal, ServerRow, Step, Value
from halotui.commands import printing
from halotui.commands.following import confirm, follow, terminal
from halotui.commands.opening import open_desk
from halotui.commands.places import opened, place
from halotui.exits import UsageError
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.config import Settings

Said = Mapping[str, Any]
_OF_A_CHANGE = ("profile", "set", "unset", "extra", "server")

_CODES = {
    Step.KEPT: exits.OK,
    Step.STOPPED_FOR_GOOD: exits.OK,
    Step.REFUSED: exits.FAILURE,
    Step.ROLLED_BACK: exits.ROLLED_BACK,
    Step.LOST: exits.LOST,
}


class NoSuchServer(Exception):
    """Exit code 3."""


async def run(said: Said, settings: Settings) -> int:
    """One command; the exit code. Raises UsageError, UnreachableError."""
    where = place(settings, said)
    if where.settings.readonly and _acts(said):
        raise UsageError("read-only: nothing is launched, stopped or written")
    if _acts(said) and "yes" not in said and said["command"] != "profiles" and not terminal():
        raise UsageError(
            "needs --yes where there is no terminal to ask on; --dry-run shows what would happen"
        )
    async with opened(where) as (host, hands):
        desk = await asyncio.to_thread(open_desk, where, host, hands)
        try:
            if not said.get("status"):
                await _tell_standing(desk)
            return await _command(desk, said, where.settings)
        except ActionError as error:
            _talk(f"{error.reason}" + (f" ({error.hint})" if error.hint else ""))
            return exits.FAILURE
        except NoSuchServer as error:
            _talk(str(error))
            return exits.UNREACHABLE
        finally:
            await desk.close()


def _acts(said: Said) -> bool:
    if said["command"] == "profiles":
        return bool(said.get("what") == "add")
    return said["command"] != "servers" and not (said.get("dry_run") or said.get("status"))


async def _command(desk: Desk, said: Said, settings: Settings) -> int:
    match said["command"], said.get("what"):
        case "servers", _:
            rows = await desk.servers()
            _answer(rows, printing.servers(rows), said)
        case "profiles", "show":
            from halotui.commands.profiles import show

            print(show(said["name"], settings, as_json="json" in said), flush=True)
        case "profiles", "add":
            rows = await desk.servers()
            server = choose(rows, said["server"])
            named = said.get("name") or _named(rows, server)
            print(f"{clean(named)}: {clean(await desk.save(server, named))}", flush=True)
        case "profiles", _:
            profiles = await desk.profiles()
            _answer(profiles, printing.profiles(profiles), said)
        case _:
            if said.get("status"):
                return await _status(desk, said)
            return await (_give_up(desk, said) if said.get("give_up") else _act(desk, said))
    return exits.OK


def _named(rows: Sequence[ServerRow], pid: str) -> str:
    """A name for a captured server: its model and backend, as a bare key of TOML."""
    row = next(row for row in rows if str(row.pid) == pid)
    words = (PurePath(row.model).stem, row.backend)
    return re.sub(r"[^\w-]+", "-", "-".join(filter(None, words)), flags=re.A).strip("-").lower() or "server"


async def _status(desk: Desk, said: Said) -> int:
    standing, last = await desk.standing(), await desk.last()
    lines = [printing.standing(standing)] if standing else []
    lines += [printing.outcome(last)] if last else []
    _answer({"standing": standing, "last": last}, "\n".join(lines) or "nothing was ever relaunched", said)
    return exits.OK


async def _give_up(desk: Desk, said: Said) -> int:
    if "yes" not in said and not await confirm("Forget it, and leave everything as it is?"):
        return exits.FAILURE
    standing = await desk.give_up()
    _answer(standing, f"given up: {standing.text}", said)
    return exits.OK


async def _act(desk: Desk, said: Said) -> int:
    """Prepare, show, ask, carry out, report."""
    dry = "dry_run" in said
    proposal = await desk.prepare(await _ask(desk, said))
    text = printing.proposal(proposal)
    if dry or (not proposal.possible and "json" in said):
        _answer(proposal, text, said)
    else:
        print(text, file=sys.stderr, flush=True)
    if not proposal.possible:
        _talk("refused: nothing was touched")
        return exits.FAILURE
    if dry:
        return exits.OK
    if "yes" not in said and not await confirm(f"{proposal.ask.kind.capitalize()}?"):
        _talk("nothing was touched")
        return exits.FAILURE
    outcome = await follow(desk, proposal.id, kill="kill" in said)
    if outcome is None:
        return exits.INTERRUPTED
    _answer(outcome, printing.outcome(outcome), said)
    return _code(proposal, outcome)


def _code(proposal: Proposal, outcome: Outcome) -> int:
    """To roll back what was cut off is what an undo was asked for."""
    if proposal.ask.kind is Kind.UNDO and outcome.kind is not Kind.UNDO and outcome.step is Step.ROLLED_BACK:
        return exits.OK
    return _CODES.get(outcome.step, exits.FAILURE)


async def _ask(desk: Desk, said: Said) -> Ask:
    from halotui.servers.vocabulary import parse, values

    kind = next((Kind(word) for word in ("undo", "finish") if word in said), None) or Kind(said["command"])
    if kind in (Kind.UNDO, Kind.FINISH) and (more := [word for word in _OF_A_CHANGE if word in said]):
        raise UsageError(f"--{kind} takes no --{more[0]}: it is of the last change, as it stands")
    patch, extra = _patch(said), _extra(said)
    if twice := sorted(patch.keys() & values(parse(extra or ())).keys()):
        raise UsageError(f"{twice[0]}: in --extra and in --set or --unset")
    profile = said.get("profile")
    if profile is not None:
        names = [row.name for row in await desk.profiles()]
        if profile not in names:
            raise UsageError(printing.no_profile(profile, names))
    server = ""
    if kind in (Kind.RELAUNCH, Kind.STOP):
        server = choose(await desk.servers(), said.get("server", ""))
    return Ask(kind=kind, server=server, profile=profile, patch=patch, extra=extra, measure="measure" in said)


def choose(rows: Sequence[ServerRow], wanted: str) -> str:
    """The pid of the one that is meant by URL or pid, or of the only one there is."""
    there = "".join(f"\n  {row.url}  pid {row.pid}  {clean(row.model)}" for row in rows)
    if not rows:
        raise NoSuchServer("no llama-server runs here")
    if wanted:
        rows = [row for row in rows if wanted == str(row.pid) or _same(wanted, row.url)]
        if not rows:
            raise NoSuchServer(f"no server '{clean(wanted)}' here, but:{there}")
    elif len(rows) > 1:
        rows = [row for row in rows if not row.refusal] or rows
    if len(rows) > 1:
        raise UsageError(f"which one? --server PID:{there}")
    return str(rows[0].pid)


def _same(wanted: str, url: str) -> bool:
    wanted = f"127.0.0.1{wanted}" if wanted.startswith(":") else wanted
    wanted = wanted if "://" in wanted or wanted.startswith("unix:") else f"http://{wanted}"
    return wanted.rstrip("/").replace("//localhost", "//127.0.0.1") == url


def _patch(said: Said) -> dict[str, Value | None]:
    from halotui.servers.vocabulary import convert

    pairs = [pair.partition("=") for pair in said.get("set", ())]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise UsageError(f"--set: '{name}' is not NAME=VALUE")
    try:
        wanted = dict(convert(name, value) for name, _, value in pairs)
        unwanted = dict(convert(name, "") for name in said.get("unset", ()))
    except ActionError as error:
        raise UsageError(f"{error.reason}" + (f" ({error.hint})" if error.hint else "")) from None
    if twice := [name for name in unwanted if wanted.get(name) is not None]:
        raise UsageError(f"{twice[0]}: both --set and --unset")
    return wanted | unwanted


def _extra(said: Said) -> tuple[str, ...] | None:
    if "extra" not in said:
        return None
    try:
        return tuple(shlex.split(said["extra"]))
    except ValueError as error:
        raise UsageError(f"--extra: {error}") from None


async def _tell_standing(desk: Desk) -> None:
    standing = await desk.standing()
    if standing is not None:
        _talk(printing.standing(standing))


def _answer(what: object, text: str, said: Said) -> None:
    if "json" in said:
        text = json.dumps(msgspec.to_builtins(what), indent=2)  # ASCII alone: harmless on any terminal
    print(text, flush=True)


def _talk(text: str) -> None:
    print("\n".join(map(clean, f"halotui: {text}".split("\n"))), file=sys.stderr, flush=True)
