"""From an ask to a plan: what would happen, laid open and checked before anything is touched."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from itertools import starmap, takewhile
from pathlib import Path, PurePath

from msgspec import Struct
from msgspec.structs import replace

from halotui import private
from halotui.actions import ActionError, Ask, Check, Proposal, Value, Verdict
from halotui.hosts import Host, LinkDown
from halotui.hosts.hands import Hands
from halotui.safe import clean
from halotui.servers import diff, runners, secret, stopping, there
from halotui.servers.as_it_was import weights
from halotui.servers.dialect import Dialect, UnknownFlags, harmless, read_dialect, render
from halotui.servers.launch import Before, Launch, Plan, Runner
from halotui.servers.observing import Observed, observe
from halotui.servers.preflight import preflight
from halotui.servers.profile import Profile, resolve
from halotui.servers.running import Running
from halotui.servers.settings import text_of
from halotui.servers.verify import expect_of
from halotui.servers.vocabulary import convert, from_environment, parse, values
from halotui.servers.wish import Wish, wish_of

KEYED = (Runner.TOOLBOX, Runner.DISTROBOX)  # no environment reaches the inside: the key goes by a file
LABEL = 48  # characters
_ODD = re.compile(r"[^\w.-]+", re.ASCII)


class Draft(Struct, frozen=True):
    """``plan`` is None where something speaks against it."""

    proposal: Proposal
    plan: Plan | None


class Drafter:
    """Draws up plans; the only traces are a cache of dialects and, where one is needed, a key file."""

    def __init__(self, host: Host, hands: Hands, state: Path, api_key: str | None) -> None:
        self.host = host
        self.hands = hands
        self.state = state  # ours, here
        self._api_key = api_key  # of servers that do not tell theirs

    @property
    def logs(self) -> PurePath:
        """On that box: where it says what is said nowhere else."""
        return (self.state if self.host.here else there.state(self.host)) / "logs"

    async def change(self, ask: Ask, running: Running | None, profiles: Mapping[str, Profile]) -> Draft:
        """Start a profile, or what runs with other flags, in the place of ``running``. Raises ActionError."""
        id_ = fresh_id()
        ask = replace(ask, patch=dict(starmap(_typed, ask.patch.items())))
        profile = resolve(ask.profile, profiles) if ask.profile else None
        wish = wish_of(
            profile,
            running,
            ask.patch,
            revealed(ask.extra, running),
            name=ask.profile or "",
            profiles=profiles,
            **await asyncio.to_thread(there.login, self.host),
        )
        observing = asyncio.ensure_future(self._observe(running))
        try:
            dialect = await self._dialect(wish)
            arguments = render(wish.words, dialect)
        except UnknownFlags as unknown:
            return self._refused(id_, ask, running, wish, [_unknown(*flag) for flag in unknown.flags])
        except ActionError as error:
            check = _failed("binary", "Binary", error.reason, error.hint)
            return self._refused(id_, ask, running, wish, [check])
        finally:
            seen = await observing
        log = wish.log or str(self.logs / f"{log_name(wish.name)}.log")
        key_file = await asyncio.to_thread(self._key_file, wish)
        environ = self.host.environ
        launch = runners.launch(wish, arguments, id=id_, log=log, key_file=key_file, environ=environ)
        settings = from_environment(wish.env) | values(parse(arguments, dialect))
        backend = profile.backend if profile is not None else None  # a guess by path is no promise
        expect = expect_of(settings, backend or None, speculates(settings))
        launch = replace(
            launch,
            name=aim(ask, running),
            expect=expect,
            api_key=launch.api_key or self._api_key,
            weights_bytes=await asyncio.to_thread(weights, self.host, launch.model),
        )
        checks = await preflight(
            wish, launch, arguments, dialect, running, self.host, self.hands, busy=seen.busy
        )
        before = diff.of_running(running) if running is not None else None
        changes = diff.changes(before, diff.of_wish(wish, arguments, launch))
        if running is not None and not changes:
            checks = (*checks, _warning("changes", "Changes", "none: a plain restart"))
        proposal = Proposal(
            id=id_,
            ask=ask,
            before=label(running),
            after=launch.name,
            url=launch.url,
            checks=checks,
            changes=changes,
            command_before=command_of(running),
            command_after=diff.shown(launch.argv),
        )
        return self._decided(proposal, running, seen, launch)

    async def stop(self, ask: Ask, running: Running) -> Draft:
        """Nothing in the place of ``running``."""
        seen = await self._observe(running)
        checks = tuple(_warning("note", "Way back", note) for note in running.notes)
        if seen.busy:
            requests = "1 request" if seen.busy == 1 else f"{seen.busy} requests"
            checks = (_warning("busy", "Requests", f"{requests} will be cut off"), *checks)
        proposal = Proposal(
            id=fresh_id(),
            ask=ask,
            before=label(running),
            after="",
            url=running.facts.url,
            checks=checks,
            command_before=command_of(running),
        )
        return self._decided(proposal, running, seen, None)

    async def again(self, ask: Ask, running: Running | None, launch: Launch) -> Draft:
        """Something out of the books in the place of ``running``: it has served before, as it stands."""
        seen = await self._observe(running)
        proposal = Proposal(
            id=fresh_id(),
            ask=ask,
            before=label(running),
            after=launch.name,
            url=launch.url,
            checks=await asyncio.to_thread(self._still_there, launch, running),
            changes=diff.changes(diff.of_running(running) if running else None, diff.of_launch(launch)),
            command_before=command_of(running),
            command_after=diff.shown(launch.argv),
        )
        return self._decided(proposal, running, seen, launch)

    async def _observe(self, running: Running | None) -> Observed:
        if running is None:
            return Observed()
        return await observe(self.host, running.facts, running.api_key or self._api_key)

    async def _dialect(self, wish: Wish) -> Dialect:
        """A unit's flags are not ours to read."""
        if wish.runner is Runner.SYSTEMD:
            return Dialect()
        await self._box_is_there(wish)
        return await read_dialect(
            self.host,
            self.hands,
            runners.probe(replace(wish, env=harmless(wish.env))),
            self.state / "dialects.json",
            env=wish.env if wish.runner is Runner.PLAIN else runners.client_env(self.host.environ),
            cwd=wish.cwd,
        )

    async def _box_is_there(self, wish: Wish) -> None:
        """To enter a distrobox that is not there would make one, out of an image to be pulled. Where podman
        cannot be asked, docker keeps it. Raises ActionError."""
        if wish.runner not in KEYED:
            return
        try:
            done = await self.hands.run(("podman", "container", "exists", wish.container))
        except LinkDown:
            raise
        except (OSError, TimeoutError):
            return
        if done.code == 1:
            how = f"{wish.runner} create {wish.container}"
            raise ActionError(f"there is no {wish.runner} {clean(wish.container)}", clean(how))

    def _key_file(self, wish: Wish) -> str:
        """One file a key, however often it is asked for; its name tells nothing. Empty: none is needed, or
        the box is a far one: no key of ours is written there."""
        if wish.runner not in KEYED or not wish.api_key or not self.host.here:
            return ""
        directory = self.state / "keys"
        for path in directory.glob("*"):
            if path.read_text() == wish.api_key:
                return str(path)
        path = directory / secrets.token_hex(8)
        write_key(path, wish.api_key)
        return str(path)

    def _refused(
        self, id_: str, ask: Ask, running: Running | None, wish: Wish, checks: Sequence[Check]
    ) -> Draft:
        """It came to no command line."""
        before, url = label(running), wish.url
        proposal = Proposal(id=id_, ask=ask, before=before, after=wish.name, url=url, checks=tuple(checks))
        return Draft(replace(proposal, command_before=command_of(running)), None)

    def _decided(
        self, proposal: Proposal, running: Running | None, seen: Observed, after: Launch | None
    ) -> Draft:
        if not proposal.possible:
            return Draft(proposal, None)
        plan = Plan(
            id=proposal.id,
            kind=proposal.ask.kind,
            before=self._before(running, seen) if running is not None else None,
            after=after,
            measure=proposal.ask.measure,
            gtt_bytes=seen.held_bytes,
            checks=proposal.checks,
            changes=proposal.changes,
        )
        return Draft(proposal, plan)

    def _before(self, running: Running, seen: Observed) -> Before:
        settings = from_environment(running.env) | values(parse(running.arguments))
        return Before(
            who=running.who,
            launch=replace(running.back, name=label(running), api_key=running.back.api_key or self._api_key),
            asked=expect_of(settings, running.facts.backend, speculates(settings)),
            slots=seen.slots,
            slot_context_tokens=seen.slot_context_tokens,
            speculative=seen.speculative,
            load_seconds=seen.load_seconds,
        )

    def _still_there(self, launch: Launch, running: Running | None) -> tuple[Check, ...]:
        """What may have gone since it served."""
        program = [word for word in takewhile(_no_flag, launch.argv) if word.startswith("/")]
        checks = []
        for id_, title, paths in (
            ("binary", "Binary", program),
            ("model", "Model", [launch.model] if launch.model.startswith("/") else []),
            ("cwd", "Directory", [launch.cwd]),
        ):
            if gone := [path for path in paths if there.stat(self.host, path) is None]:
                checks.append(_failed(id_, title, f"{gone[0]} has gone"))
            elif paths:
                checks.append(_passed(id_, title, "is there"))
        place = stopping.place(launch.url)
        leaves = running is not None and stopping.place(running.facts.url) == place
        if place is not None and not leaves:
            taken = self.hands.port_taken(*place)
            checks.append(
                _failed("port", "Port", f"{place[1]}: another process has it")
                if taken
                else _passed("port", "Port", f"{place[1]} is free")
            )
        return tuple(checks)


def write_key(path: Path, key: str) -> None:
    """A new file of 0600. Raises ActionError."""
    try:
        private.folder(path.parent)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(key)
    except OSError as error:
        raise ActionError(f"{path}: {error.strerror}") from None


def revealed(extra: Sequence[str] | None, running: Running | None) -> tuple[str, ...] | None:
    """What was shown masked in the form, and comes back so, is what it was."""
    if extra is None or running is None:
        return None if extra is None else tuple(extra)
    known = {secret.masked(word.text): word.text for word in parse(running.arguments)}
    return tuple(text for word in parse(extra) for text in known.get(word.text, word.text))


def fresh_id() -> str:
    """Sorts by time; also a file name, a container's name and a mark in an environment."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


def log_name(name: str) -> str:
    return f"{_ODD.sub('-', name).strip('-.') or 'server'}-{time.strftime('%Y%m%d-%H%M%S')}"


def label(running: Running | None) -> str:
    """What runs, in a word or two: its profile, else model and backend; empty when nothing does."""
    if running is None:
        return ""
    model = PurePath(running.facts.model_path or running.facts.alias or running.facts.name).stem
    return running.profile or " · ".join(filter(None, (model, running.facts.backend)))


def aim(ask: Ask, running: Running | None) -> str:
    """What shall run, in a few words: a profile or what runs, and what is changed of it."""
    base = ask.profile or label(running) or "server"
    tweaks = [
        f"{name}={text_of(value)}" if value is not None else f"no {name}" for name, value in ask.patch.items()
    ]
    words = f"{base}, {' '.join(tweaks)}" if tweaks else base
    return words if len(words) <= LABEL else f"{words[: LABEL - 1]}…"


def command_of(running: Running | None) -> tuple[str, ...]:
    return diff.shown((*running.binary, *running.arguments)) if running is not None else ()


def speculates(settings: Mapping[str, Value]) -> bool | None:
    """Whether these settings ask for it; None: they do not say."""
    kind = settings.get("spec")
    if kind is None:
        return True if settings.get("draft") else None
    return kind != "none"


def _no_flag(word: str) -> bool:
    return not word.startswith("-")


def _typed(name: str, value: Value | None) -> tuple[str, Value | None]:
    """A form has texts only. Raises ActionError."""
    return convert(name, value) if isinstance(value, str) else (name, value)


def _failed(id_: str, title: str, detail: str, fix: str = "") -> Check:
    return Check(id=id_, title=title, verdict=Verdict.FAIL, detail=detail, fix=fix)


def _warning(id_: str, title: str, detail: str) -> Check:
    return Check(id=id_, title=title, verdict=Verdict.WARN, detail=detail)


def _passed(id_: str, title: str, detail: str) -> Check:
    return Check(id=id_, title=title, verdict=Verdict.OK, detail=detail)


def _unknown(flag: str, hint: str) -> Check:
    return _failed("flags", "Flags", f"this build does not know {flag}", hint)
