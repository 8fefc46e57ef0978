"""An undertaking that was cut off, or is under way elsewhere: what is said and may be done about it. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from halotui.actions import Ask, Change, Kind, Proposal, Standing, Step
from halotui.servers import diff
from halotui.servers.journal import Journal
from halotui.servers.launch import Launch, Plan
from halotui.servers.runners import PROFILE

TAKEN_UP = {Kind.UNDO: "undo", Kind.FINISH: "finish"}  # ids of the two ways on; the worker's options too
WAYS = "halotui relaunch --finish, --undo or --give-up"


def ends(plan: Plan) -> tuple[Launch | None, Launch | None]:
    """What runs, or ran, and what shall."""
    return plan.before.launch if plan.before is not None else None, plan.after


def names(plan: Plan) -> tuple[str, str]:
    before, after = (end.name if end is not None else "" for end in ends(plan))
    return before, after


def profiles(plan: Plan) -> tuple[str, ...]:
    """The profiles that its two ends were launched from, where they were."""
    found = (end.env.get(PROFILE, "") for end in ends(plan) if end is not None)
    return tuple(name for name in found if name)


def url(plan: Plan) -> str:
    return next((end.url for end in reversed(ends(plan)) if end is not None), "")


def told(journal: Journal, at_it: bool) -> str:
    """Where it stands, in a sentence. ``at_it``: its owner lives."""
    what = " ".join((journal.plan.kind.value, " → ".join(filter(None, names(journal.plan)))))
    if at_it:
        return f"{what} is under way: {journal.step.value}"
    if journal.step is Step.LOST:
        reason = journal.outcome.reason if journal.outcome is not None else journal.reason
        return f"{what} failed, and nothing serves: {reason}"
    return f"{what} was cut off while {journal.step.value}"


def standing(journal: Journal, at_it: bool) -> Standing:
    before, after = names(journal.plan)
    return Standing(
        id=journal.plan.id,
        kind=journal.plan.kind,
        step=journal.step,
        before=before,
        after=after,
        url=url(journal.plan),
        text=told(journal, at_it),
        running=at_it,
        began_time=journal.began_time,
    )


def taken_up(ask: Ask, journal: Journal) -> Proposal:
    """Its own plan again: on, or back."""
    plan, back = journal.plan, ask.kind is Kind.UNDO
    (before, after), commands = names(plan), tuple(map(_command, ends(plan)))
    if back:
        before, after, commands = after, before, commands[::-1]
    return Proposal(
        id=TAKEN_UP[ask.kind],
        ask=ask,
        before=before,
        after=after,
        url=url(plan),
        changes=tuple(map(_reversed, plan.changes)) if back else plan.changes,
        command_before=commands[0],
        command_after=commands[1],
    )


def _command(launch: Launch | None) -> tuple[str, ...]:
    return diff.shown(launch.argv) if launch is not None else ()


def _reversed(change: Change) -> Change:
    return replace(change, before=change.after, after=change.before)
