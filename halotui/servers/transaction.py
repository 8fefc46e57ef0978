"""From what runs to what shall run, or back: at the end of every way a server serves.

Each step is on disk before it is taken. An undertaking that was cut off is taken up again by ``finish`` or
``undo``, from any step. Nothing but this and its ``steps`` stops or starts a server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress

from msgspec.structs import replace

from halotui.actions import ENDS, ActionError, Outcome, Progress, Step
from halotui.hosts.hands import Identity
from halotui.safe import clean
from halotui.servers import diff, observing, stopping
from halotui.servers.guard import BACK
from halotui.servers.journal import Journal
from halotui.servers.launch import Before, Launch, Plan
from halotui.servers.steps import Cancelled, Failed, Steps
from halotui.servers.stopping import Stays

BACK_TRIES = 3


class Transaction(Steps):
    """One undertaking. ``run`` it, or take it up with ``finish`` or ``undo``; each ends with an Outcome."""

    # --- the three ways in

    async def run(self) -> Outcome:
        """From the start."""
        self._write(Step.RECORDED)
        return await self._guarded(self._forward())

    async def finish(self) -> Outcome:
        """On from where it was cut off; where the way back had begun, that one."""
        await self._unguarded()
        journal = self.journal
        if journal.undoing and journal.step is not Step.LOST:
            return await self._guarded(self._back(journal.reason))
        self.journal = replace(journal, undoing=False, reason="", outcome=None)
        if (back := await self._came_back()) and (before := self._plan.before):  # it is what runs now
            plan = replace(self._plan, before=replace(before, who=back))
            self.journal = replace(self.journal, plan=plan)
        if journal.step in (Step.RECORDED, Step.MEASURING):
            return await self.run()
        return await self._guarded(self._onward())

    async def undo(self) -> Outcome:
        """Back to what ran, wherever it was cut off."""
        await self._unguarded()
        journal = self.journal
        before = self._plan.before
        untouched = journal.step in (Step.RECORDED, Step.MEASURING)
        if untouched and (before is None or await self._alive(before.who)):
            return await self._end(Step.REFUSED, "it was cut off before anything was touched")
        return await self._guarded(self._back(journal.reason or "it was cut off"))

    async def _guarded(self, way: Awaitable[Outcome]) -> Outcome:
        """Whatever goes wrong on the way, what ran before is put back."""
        try:
            try:
                return await way
            except Stays:
                raise
            except Failed as failed:
                return await self._back(failed.reason, failed.tail)
            except Cancelled:
                return await self._back("cancelled")
            except Exception as error:  # foreseen or not: what ran must come back
                return await self._back(_words(error))
        except Exception as error:  # Stays, or what nobody foresaw: it must not end without a word
            return await self._stuck(_words(error))

    # --- forward

    async def _forward(self) -> Outcome:
        before, after = self._plan.before, self._plan.after
        if before is not None and not await self._alive(before.who):
            if self._overtaken(before):
                return await self._end(
                    Step.REFUSED, f"pid {before.who.pid} was replaced or stopped since: prepare it again"
                )
            self._note(f"pid {before.who.pid} had gone by itself")
        elif before is not None and self._plan.measure and after is not None:
            self._write(Step.MEASURING)
            try:
                speed = await self._measure(before.launch)
            except Cancelled:
                return await self._end(Step.REFUSED, "cancelled before anything was touched")
            self.journal = replace(self.journal, speed_before=speed)
        if self.cancel.is_set():
            return await self._end(Step.REFUSED, "cancelled before anything was touched")
        return await self._onward()

    def _overtaken(self, before: Before) -> bool:
        """Whether another undertaking has dealt with it since this was planned: two servers would be one too
        many for the memory."""
        last = self._book.last()
        return last is not None and last.plan.before is not None and last.plan.before.who == before.who

    async def _onward(self) -> Outcome:
        """From stopping on, past what has been done already."""
        plan = self._plan
        if plan.before is not None and await self._alive(plan.before.who):
            await self._guarded_there()
            self._write(Step.STOPPING)
            try:
                await self._stop(plan.before.who, plan.before.launch)
            except Stays as stays:
                return await self._not_stopped(plan.before, str(stays))
        self._write(Step.STOPPED)
        if plan.after is None:
            return await self._end(Step.STOPPED_FOR_GOOD)
        await self._raise_if_back()
        await self._guarded_there()
        running = await self._already(plan.after, plan.id)
        if running is None and not await self._port_free(plan.after, self._patience.port):
            return await self._port_lost(plan.after)
        self._stop_if_cancelled()
        new = running or await self._start(plan.after, plan.id)
        await self._serve(plan.after, new)
        await self._verify(plan.after)
        if plan.measure:
            self._write(Step.COMPARING)
            speed = await self._measure(plan.after)
            self.journal = replace(self.journal, speed_after=speed)
        await self._watch(plan.after)
        return await self._end(Step.KEPT)

    async def _port_lost(self, after: Launch) -> Outcome:
        """Somebody else took the port. Where it is the one that was served, what ran cannot come back."""
        await self._raise_if_back()
        before = self._plan.before
        same = before is None or stopping.place(before.launch.url) == stopping.place(after.url)
        if same and await self._answers(after):
            return await self._end(
                Step.ROLLED_BACK, f"another process has taken {after.url}, and serves there"
            )
        raise Failed(f"another process has taken the port of {after.url}")

    async def _not_stopped(self, before: Before, reason: str) -> Outcome:
        """It was not killed. As long as it serves, nothing is lost."""
        if await self._alive(before.who) and await self._answers(before.launch):
            return await self._end(Step.REFUSED, f"{reason}; it goes on serving")
        if not await self._alive(before.who):  # it went at last
            return await self._back(reason)
        return await self._end(Step.LOST, f"{reason}, but serves no more: end it, then undo")

    # --- back

    async def _back(self, reason: str, tail: tuple[str, ...] = ()) -> Outcome:
        """Take down what was started, put back what ran. Raises Stays."""
        before, after = self._plan.before, self._plan.after
        untouched = self.journal.step in (Step.RECORDED, Step.MEASURING)
        self.journal = replace(
            self.journal,
            undoing=True,
            reason=reason,
            log_tail=tail or self.journal.log_tail,
            log_path=self.journal.log_path or (after.log if after is not None else ""),
        )
        self.cancel.clear()  # there is nothing further back
        if untouched and before is not None and await self._alive(before.who):
            return await self._end(Step.REFUSED, reason)
        self._write(Step.UNDOING, reason)
        with suppress(OSError):
            await self._guarded_there()
        held = await asyncio.to_thread(self._pool)
        for who in await self._strangers():
            await self._take_down(who, after)
            await stopping.memory_back(self._pool, None, held, self._patience.memory)
        if before is None:
            return await self._end(Step.ROLLED_BACK, reason)
        if await self._alive(before.who):  # it has been asked to go, and may do so at any moment
            await self._stop(before.who, before.launch)
        trouble = ""
        for attempt in range(1, BACK_TRIES + 1):
            back = await self._already(before.launch, self._plan.id + BACK)
            try:
                if back is None:
                    if not await self._port_free(before.launch, self._patience.port):
                        return await self._port_lost(before.launch)
                    back = await self._start(before.launch, self._plan.id + BACK)
                await self._serve(before.launch, back)
                return await self._end(Step.ROLLED_BACK, reason)
            except (Failed, OSError, ActionError, TimeoutError) as error:
                trouble = _words(error)
                if self.journal.new is not None and await self._alive(self.journal.new):
                    await self._take_down(self.journal.new, before.launch)
                self._say(Step.UNDOING, f"attempt {attempt} failed: {trouble}")
                await asyncio.sleep(1)
        return await self._end(Step.LOST, f"{reason}; and what ran does not come back: {trouble}")

    async def _stuck(self, reason: str) -> Outcome:
        """Something of ours, or what ran, does not go away."""
        before, after = self._plan.before, self._plan.after
        for launch in filter(None, (before.launch if before is not None else None, after)):
            if await self._answers(launch):
                return await self._end(Step.ROLLED_BACK, f"{reason}; {launch.name} serves")
        return await self._end(Step.LOST, reason)

    async def _strangers(self) -> list[Identity]:
        """What this undertaking has started on the way forward, and still lives."""
        before, after, new = self._plan.before, self._plan.after, self.journal.new
        found = await asyncio.to_thread(self._hands.marked, self._plan.id)
        if after is not None and after.hands_over and (there := await self._found(after)):
            found.append(there)
        backs = await asyncio.to_thread(self._hands.marked, self._plan.id + BACK)
        if new is not None and new not in (*found, *backs) and not self._resumed_back(new):
            found.append(new)
        mine = (who for who in dict.fromkeys(found) if before is None or who != before.who)
        return [who for who in mine if await self._alive(who)]

    def _resumed_back(self, new: Identity) -> bool:
        """Whether the process on record is what was put back, before that was cut off."""
        return self.journal.back == new

    # --- the end

    async def _end(self, step: Step, reason: str = "") -> Outcome:
        assert step in ENDS
        journal, plan = self.journal, self._plan
        failed = step in (Step.ROLLED_BACK, Step.LOST)
        serving = {
            Step.KEPT: journal.new,
            Step.ROLLED_BACK: journal.new if plan.before is not None else None,
            Step.REFUSED: plan.before.who if plan.before is not None else None,
        }.get(step)
        load_before, load_after = await asyncio.to_thread(self._load_seconds)
        serves = serving is not None and await self._alive(serving)
        outcome = Outcome(
            id=plan.id,
            step=step,
            kind=plan.kind,
            before=plan.before.launch.name if plan.before is not None else "",
            after=plan.after.name if plan.after is not None else "",
            url=_url(plan),
            pid=serving.pid if serving is not None and serves else None,
            reason=reason,
            log_tail=journal.log_tail if failed else (),
            log_path=(journal.log_path if failed else plan.after.log if plan.after is not None else ""),
            speed_before=journal.speed_before,
            speed_after=journal.speed_after if step is Step.KEPT else None,
            load_seconds_before=load_before,
            load_seconds_after=load_after if step is Step.KEPT else None,
            command_before=_command(plan.before.launch if plan.before is not None else None, step),
            command_after=_command(plan.after, step),
            notes=journal.notes,
            ended_time=time.time(),
        )
        self.journal = replace(journal, step=step, step_time=outcome.ended_time, outcome=outcome)
        with suppress(OSError):
            self._book.close(self.journal)
        self._tell(Progress(step=step, text=reason, outcome=outcome))
        await self._unguarded()
        return outcome

    def _load_seconds(self) -> tuple[float | None, float | None]:
        """Before and after, by the same clock: their own logs', else ours where both were started by us."""
        before, after = self._plan.before, self._plan.after
        theirs = (
            observing.load_seconds(self._host, after.log, self.journal.log_start)
            if after is not None
            else None
        )
        if before is None or (theirs is not None and before.load_seconds is not None):
            return before.load_seconds if before is not None else None, theirs or self.journal.load_seconds
        with suppress(ActionError):
            last = self._book.last()
            if last is not None and last.new == before.who:
                return last.load_seconds, self.journal.load_seconds
        return None, theirs or self.journal.load_seconds


def journal_of(plan: Plan, owner: Identity) -> Journal:
    """The first page."""
    now = time.time()
    return Journal(plan=plan, step=Step.RECORDED, owner=owner, began_time=now, step_time=now)


def _command(launch: Launch | None, step: Step) -> tuple[str, ...]:
    """To be started by hand, where nothing else is left."""
    return diff.shown(launch.argv) if launch is not None and step is Step.LOST else ()


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return clean(": ".join(filter(None, (str(error.filename or ""), error.strerror))))
    return clean(str(error)) or type(error).__name__


def _url(plan: Plan) -> str:
    launch = plan.after or (plan.before.launch if plan.before is not None else None)
    return launch.url if launch is not None else ""
