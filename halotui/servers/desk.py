"""The desk: where the screen and the command line have servers launched, stopped and relaunched."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from functools import wraps
from pathlib import Path, PurePath
from typing import Any, ParamSpec, TypeVar

import msgspec
from msgspec.structs import replace

from halotui.actions import (
    ActionError,
    Ask,
    Check,
    Field,
    Kind,
    Outcome,
    ProfileRow,
    Progress,
    Proposal,
    ServerRow,
    Standing,
    Step,
    Verdict,
)
from halotui.hosts import Host, LinkDown
from halotui.hosts.hands import Hands
from halotui.hosts.local_hands import LocalHands
from halotui.safe import clean
from halotui.servers import listing, profile_file, secret, unfinished
from halotui.servers.as_profile import profile_of, withheld
from halotui.servers.drafting import Draft, Drafter, write_key
from halotui.servers.journal import Book, Journal
from halotui.servers.launch import Launch
from halotui.servers.profile import Profile, merged
from halotui.servers.running import Running, find, inspect
from halotui.servers.stopping import Patience
from halotui.servers.undertaking import Undertaking
from halotui.servers.unfinished import TAKEN_UP, WAYS

_PACKAGES = str(Path(__file__).parents[2])  # where the worker finds us


P = ParamSpec("P")
T = TypeVar("T")
Answer = Callable[P, Coroutine[Any, Any, T]]


def reached(answer: Answer[P, T]) -> Answer[P, T]:
    """Of a desk: a link that breaks meanwhile is no fact about the box."""

    @wraps(answer)
    async def asked(*args: P.args, **more: P.kwargs) -> T:
        try:
            return await answer(*args, **more)
        except LinkDown:
            raise ActionError("the box cannot be reached", "wait for the link, then try again") from None

    return asked


class LocalDesk:
    """``actions.Desk`` of one box, this one or a far one: its state, profiles and keys are here in any case.
    ``host`` and ``hands`` stay the caller's. ``profiles`` is asked each time, so that an edit of the file
    counts; ``config_file`` is where ``save`` writes; ``api_key`` is for servers that do not tell theirs;
    ``shipped``: whether the presets are offered too; ``patience``: None for the usual one.
    """

    def __init__(
        self,
        host: Host,
        hands: Hands,
        *,
        state: Path,
        config_file: Path,
        profiles: Callable[[], Mapping[str, Profile]],
        urls: tuple[str, ...] = (),
        api_key: str | None = None,
        python: str = sys.executable,
        shipped: bool = True,
        patience: Patience | None = None,
    ) -> None:
        self._host = host
        self._hands = hands
        self._state = state.absolute()
        self._config_file = config_file
        self._own_profiles = profiles
        self._urls = urls
        self._python = python
        self._shipped = shipped
        self._patience = patience or Patience()
        self._book = Book(self._state / "launches")
        self._here = LocalHands()  # a worker is a process of ours, wherever it works
        self._drafter = Drafter(host, hands, self._state, api_key)
        self._waiting: set[str] = set()  # plans that nobody has said yes to
        self._work: Undertaking | None = None

    # --- what there is

    @reached
    async def servers(self) -> list[ServerRow]:
        logs = await asyncio.to_thread(self._logs)
        return await listing.servers(self._host, self._hands, self._urls, logs)

    @reached
    async def profiles(self, server: str = "") -> list[ProfileRow]:
        own, everything = self._profiles()
        now = await self._running(server) if server else None
        return await asyncio.to_thread(listing.profiles, self._host, own, everything, now)

    @reached
    async def form(self, server: str) -> list[Field]:
        return listing.form(await self._running(server))

    @reached
    async def swap_profile(self, server: str) -> str | None:
        own, everything = self._profiles()
        now = await self._running(server)
        rows = await asyncio.to_thread(listing.profiles, self._host, own, everything, now)
        return listing.other_profile(rows, everything, now, self._book.changed())

    # --- what would happen

    @reached
    async def prepare(self, ask: Ask) -> Proposal:
        current = self._book.current()
        if ask.kind is Kind.FINISH or (ask.kind is Kind.UNDO and current is not None):
            return self._taken_up(ask, current)
        draft = await self._draft(ask)
        if current is not None:
            check = Check(
                id="standing",
                title="Another relaunch",
                verdict=Verdict.FAIL,
                detail=unfinished.told(current, self._at_it(current)),
                fix=WAYS,
            )
            return replace(draft.proposal, checks=(check, *draft.proposal.checks))
        if draft.plan is not None:
            try:
                self._book.save_plan(draft.plan)
            except OSError as error:
                raise ActionError(f"{self._state}: {error.strerror}", "no state, no way back") from None
            self._waiting.add(draft.plan.id)
        return draft.proposal

    async def _draft(self, ask: Ask) -> Draft:
        match ask.kind:
            case Kind.STOP:
                return await self._drafter.stop(ask, await self._running(ask.server))
            case Kind.UNDO:
                return await self._undo(ask)
            case Kind.START:
                return await self._drafter.again(ask, None, self._stopped())
            case Kind.LAUNCH:
                if not ask.profile:
                    raise ActionError("launch what?", "name a profile: halotui profiles lists them")
                return await self._drafter.change(ask, None, self._profiles()[1])
            case _:
                now = await self._running(ask.server)
                return await self._drafter.change(ask, now, self._profiles()[1])

    async def _undo(self, ask: Ask) -> Draft:
        """Of the last one that changed what runs."""
        last = self._book.changed()
        if last is None:
            raise ActionError("there is nothing to undo")
        before = last.plan.before.launch if last.plan.before is not None else None
        now = await self._follower(last)
        if before is not None:
            return await self._drafter.again(ask, now, before)
        if now is None:
            raise ActionError("there is nothing to undo: what was launched does not run any more")
        return await self._drafter.stop(ask, now)

    async def _follower(self, last: Journal) -> Running | None:
        """What the last one started; where something ran before it, what has come in its place since."""
        after, new = last.plan.after, last.new
        if new is not None and await asyncio.to_thread(self._hands.alive, new):
            return await self._running(str(new.pid))
        if after is not None and last.plan.before is not None:
            with suppress(ActionError):  # nobody, or none of ours: its port will be looked at
                return await self._running(after.url)
        return None

    def _stopped(self) -> Launch:
        """What was stopped last."""
        last = self._book.changed()
        if last is not None and last.step is Step.STOPPED_FOR_GOOD and last.plan.before is not None:
            return last.plan.before.launch
        raise ActionError("no server was stopped here last", "halotui launch PROFILE")

    def _taken_up(self, ask: Ask, journal: Journal | None) -> Proposal:
        if journal is None:
            raise ActionError("nothing was cut off")
        if self._at_it(journal):
            raise ActionError(unfinished.told(journal, True), "halotui relaunch --status")
        return unfinished.taken_up(ask, journal)

    # --- what happens

    async def carry_out(self, proposal_id: str) -> AsyncGenerator[Progress, None]:
        if self._work is None or self._work.ended or self._work.id != proposal_id:
            self._work = self._begin(proposal_id)
        work, outcome = self._work, None
        async with aclosing(work.follow()) as news:
            async for progress in news:
                outcome = progress.outcome or outcome
                yield progress
        if outcome is None:
            raise self._broken(work)

    def _begin(self, id_: str) -> Undertaking:
        journal = self._book.current()
        if journal is not None and self._at_it(journal):
            raise ActionError("another relaunch is under way", "wait for it: halotui relaunch --status")
        taken_up = id_ in TAKEN_UP.values()
        if journal is not None and not taken_up:
            raise ActionError(f"an earlier relaunch was cut off while {journal.step}", WAYS)
        if not taken_up and id_ not in self._waiting:
            raise ActionError("there is no such plan", "prepare it again")
        argv = (self._python, "-P", "-m", "halotui.servers.worker", "--state", str(self._state), *self._way())
        what = f"--{id_}" if taken_up else id_
        errors = self._state / "logs" / "worker.log"
        work = Undertaking.begin(id_, (*argv, what), _environment(), errors)
        self._waiting.discard(id_)
        return work

    def _way(self) -> tuple[str, ...]:
        """The worker's own way to the box."""
        roots = ("--sysfs", str(self._host.sysfs), "--procfs", str(self._host.procfs))
        patience = ("--patience", msgspec.json.encode(self._patience).decode())
        if self._host.here:
            return (*roots, *patience)
        from halotui.hosts.ssh import SshHost

        assert isinstance(self._host, SshHost)
        config = self._host.far.ssh_config
        ssh = ("--ssh", self._host.far.target, *(("--ssh-config", str(config)) if config else ()))
        return (*roots, *patience, *ssh)

    def _broken(self, work: Undertaking) -> ActionError:
        """It has ended without a word on how."""
        self._book.drop_plan(work.id)  # that it may not have got to
        journal, complaint = self._book.current(), work.complaint()
        if journal is None:
            return ActionError(complaint or "the worker has ended without a word", f"look at {work.errors}")
        why = f": {complaint}" if complaint else ""
        return ActionError(f"the relaunch was cut off while {journal.step}{why}", WAYS)

    async def answer(self, question: str, yes: bool) -> None:
        self._under_way().say({"question": question, "yes": yes})

    async def cancel(self) -> None:
        self._under_way().say({"cancel": True})

    def _under_way(self) -> Undertaking:
        if self._work is None or self._work.ended:
            raise ActionError("nothing is under way here")
        return self._work

    # --- what was

    async def standing(self) -> Standing | None:
        journal = self._book.current()
        if journal is None:
            return None
        return unfinished.standing(journal, self._at_it(journal))

    async def give_up(self) -> Standing:
        journal = self._book.current()
        if journal is None:
            raise ActionError("nothing was cut off")
        if self._at_it(journal):
            raise ActionError(unfinished.told(journal, True), "halotui relaunch --status")
        self._book.set_aside()
        return unfinished.standing(journal, False)

    async def last(self) -> Outcome | None:
        journal = self._book.last()
        return journal.outcome if journal is not None else None

    @reached
    async def save(self, server: str, name: str) -> str:
        if name in self._profiles()[0]:
            raise ActionError(f"there is a profile {name}", "take another name")
        now = await self._running(server)
        await asyncio.to_thread(self._save, now, name)
        left_out = ", ".join(withheld(now))
        return f"{self._config_file}{f' (secret, so left out: {left_out})' if left_out else ''}"

    async def close(self) -> None:
        """What is under way goes on; what nobody said yes to is forgotten."""
        for id_ in self._waiting:
            self._book.drop_plan(id_)
        self._waiting.clear()
        if self._work is not None:
            await self._work.close()

    # --- small things

    def _logs(self) -> PurePath:
        return self._drafter.logs

    def _profiles(self) -> tuple[Mapping[str, Profile], Mapping[str, Profile]]:
        """The user's own, and all that are offered. Raises ActionError: the file has been edited badly."""
        try:
            own = self._own_profiles()
        except (OSError, ValueError) as error:  # ConfigError is one
            raise ActionError(clean(str(error)), "mend it first") from None
        return own, merged(own) if self._shipped else own

    async def _running(self, server: str) -> Running:
        """Raises ActionError: none, several, not ours."""
        pid = await find(self._host, self._hands, server)
        logs = await asyncio.to_thread(self._logs)
        return await inspect(self._host, self._hands, pid, log_dir=logs)

    def _save(self, now: Running, name: str) -> None:
        """Its key goes into a file beside the settings. Raises ActionError; nothing is left behind then."""
        key_file = self._config_file.with_name(f"{name}.key") if now.api_key else None
        if key_file is None or not now.api_key:
            return profile_file.save(self._config_file, name, profile_of(now))
        write_key(key_file, now.api_key)
        try:
            profile_file.save(self._config_file, name, profile_of(now, str(key_file)))
        except ActionError:
            key_file.unlink()
            raise
        return None

    def _at_it(self, journal: Journal) -> bool:
        return self._here.alive(journal.owner)


def _environment() -> dict[str, str]:
    """Of the worker: it launches with environments of its own and needs no key of ours."""
    kept = {name: value for name, value in os.environ.items() if not secret.is_secret(name)}
    paths = (_PACKAGES, os.environ.get("PYTHONPATH", ""))
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
