"""An item in server mode: a profile is launched beside nothing, given its workloads, and stopped again.

The desk that does it has a state directory of its own, so the user's undo is not touched. What it launched is
in its journal: a server that a dead halotui left behind is found there and stopped.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from halotui.actions import ActionError, Ask, Kind, Outcome, Patch, Proposal, Step, Value, Verdict
from halotui.benching.suite_course import Item
from halotui.benching.suite_place import tail_there
from halotui.hosts import Host
from halotui.hosts.hands import Hands, Identity
from halotui.servers.desk import LocalDesk
from halotui.servers.journal import Book, Journal
from halotui.servers.profile import Profile
from halotui.servers.settings import text_of

HOST = "127.0.0.1"
OVER_SECONDS = 120.0  # for a launch that is called off to be over
LOOK_SECONDS = 0.1
_PORTS = range(20_000, 30_000)  # of a far box: below those that a kernel gives out by itself
_PORTS_TRIED = 8

Tell = Callable[[str], None]


class Refused(Exception):
    """It does not serve. ``lines``: the end of its log."""

    def __init__(self, reason: str, lines: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lines = lines


class Serving(Struct, frozen=True, kw_only=True):
    """What was launched."""

    url: str
    pid: int
    api_key: str | None

    def __repr__(self) -> str:
        return f"Serving({self.url!r})"


class Servant:
    """Launches and stops, one server at a time. ``state`` is its own."""

    def __init__(self, host: Host, hands: Hands, state: Path, tell: Tell) -> None:
        self._host = host
        self._hands = hands
        self._tell = tell
        self._profiles: dict[str, Profile] = {}
        self._book = Book(state.absolute() / "launches")
        self._desk = LocalDesk(
            host,
            hands,
            state=state,
            config_file=state / "none.toml",
            profiles=lambda: self._profiles,
            shipped=False,
        )

    def pids(self) -> list[int]:
        """Of what it launches or has launched. It is asked at every sample: a far box is not."""
        with suppress(ActionError):
            journal = self._book.current() or self._book.changed()
            if journal is not None and (who := journal.new) is not None:
                return [who.pid] if not self._host.here or self._hands.alive(who) else []
        return []

    def log_tail(self, lines: int) -> list[str]:
        """Of what it launched last, as it came."""
        with suppress(ActionError):
            journal = self._book.current() or self._book.changed()
            if journal is not None and journal.plan.after is not None and journal.plan.after.log:
                return tail_there(self._host, Path(journal.plan.after.log), lines, journal.log_start)
        return []

    async def prepare(self, name: str, profile: Profile, patch: Patch) -> Proposal:
        """The pre-flight. Raises ActionError where something speaks against it."""
        self._profiles = {name: replace(profile, inherits="", host="", port=None, log="")}
        port = await asyncio.to_thread(self._free_port)
        where: dict[str, Value | None] = {"host": HOST, "port": port}
        proposal = await self._desk.prepare(Ask(kind=Kind.LAUNCH, profile=name, patch={**patch, **where}))
        wrong = [check for check in proposal.checks if check.verdict is Verdict.FAIL]
        if wrong:
            raise ActionError("; ".join(f"{check.title}: {check.detail}" for check in wrong), wrong[0].fix)
        return proposal

    async def launch(self, proposal: Proposal) -> Serving:
        """Raises Refused."""
        try:
            outcome = await self._carried_out(proposal.id)
        except ActionError as error:
            raise Refused(f"{error.reason} ({error.hint})" if error.hint else error.reason) from None
        if outcome.step is not Step.KEPT or outcome.pid is None:
            raise Refused(outcome.reason or f"the launch ended as {outcome.step}", outcome.log_tail)
        journal = self._book.changed()
        key = journal.plan.after.api_key if journal is not None and journal.plan.after is not None else None
        return Serving(url=outcome.url, pid=outcome.pid, api_key=key)

    async def stop(self) -> None:
        """Whatever it launched, now or in an earlier life. Raises ActionError: it is still there."""
        await self._call_off()
        journal = self._left()
        if journal is None:
            return
        assert journal.new
        self._tell("stopping the server")
        try:
            proposal = await self._desk.prepare(Ask(kind=Kind.STOP, server=str(journal.new.pid)))
            await self._carried_out(proposal.id)
        except ActionError:
            if self._hands.alive(journal.new):
                raise

    def kill(self) -> None:
        """At once, and without a word."""
        with suppress(ActionError):
            for journal in (self._book.current(), self._book.changed()):
                if journal is not None and journal.new is not None:
                    _signal(self._hands, journal.new, signal.SIGKILL)

    async def close(self) -> None:
        await self._desk.close()

    def _free_port(self) -> int:
        if self._host.here:
            return free_port()
        ports = Random().sample(_PORTS, _PORTS_TRIED)
        return next((port for port in ports if not self._hands.port_taken(HOST, port)), ports[0])

    async def _carried_out(self, id_: str) -> Outcome:
        outcome = None
        async for progress in self._desk.carry_out(id_):
            if progress.question:  # it is ours, and nobody uses it
                await self._desk.answer(progress.question, True)
            elif progress.text:
                self._tell(progress.text)
            outcome = progress.outcome or outcome
        if outcome is None:
            raise ActionError("the launch ended without a word")
        return outcome

    async def _call_off(self) -> None:
        """A launch that is under way, also one of a halotui that died; and one that was cut off itself."""
        standing = await self._desk.standing()
        if standing is None:
            return
        journal = self._book.current()
        if standing.running and journal is not None:
            self._tell("calling off a launch")
            _signal(self._hands, journal.owner, signal.SIGTERM)  # it undoes what it began
            deadline = time.monotonic() + OVER_SECONDS
            while (now := await self._desk.standing()) is not None and now.running:
                if time.monotonic() > deadline:
                    raise ActionError(f"{now.text}, and does not end")
                await asyncio.sleep(LOOK_SECONDS)
            standing = await self._desk.standing()
        if standing is not None:
            undone = await self._desk.prepare(Ask(kind=Kind.UNDO))
            await self._carried_out(undone.id)
            if await self._desk.standing() is not None:
                await self._desk.give_up()

    def _left(self) -> Journal | None:
        """Of a server that still lives, the undertaking that launched it."""
        journal = self._book.changed()
        if journal is None or journal.step is not Step.KEPT or journal.new is None:
            return None
        return journal if self._hands.alive(journal.new) else None


def profile_of(item: Item, profile: Profile, model: str, *, extra: bool) -> Profile:
    """The row's profile, with what the row adds to it. ``extra``: its free flags are for the server."""
    words = item.row.extra_words if extra else ()
    return replace(
        profile,
        model=model or profile.model,
        env=profile.env | item.row.env,
        flags=profile.flags | {name: _said(value) for name, value in item.settings.items()},
        extra=(*profile.extra_words, *words),
    )


def patch_of(kind: str) -> dict[str, Value | None]:
    """A kind of speculation as settings; "" leaves it as the profile has it."""
    if not kind:
        return {}
    if kind == "none":
        return {"draft": None, "draft-hf": None, "spec": None}
    if any(part.startswith("draft-") for part in kind.split(",")):
        return {"spec": kind}
    return {"draft": None, "spec": kind}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def _said(value: Value) -> Value:
    return value if isinstance(value, (bool, int, float)) else text_of(value)


def _signal(hands: Hands, who: Identity, number: int) -> None:
    with suppress(OSError):
        hands.signal(who, number)
