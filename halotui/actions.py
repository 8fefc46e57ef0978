"""What a user may ask of the servers, and what is answered: the words between screen or command line and
the room that acts. No logic here; ``servers`` implements :class:`Desk`.

Nothing in these structs holds an API key or another secret: command lines and environments are masked.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

Value = str | int | float | bool  # of a setting, in halotui's own vocabulary


class ActionError(Exception):
    """One line that says why it cannot be done, and one that says what to do."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class Kind(StrEnum):
    """What shall be done to a server."""

    RELAUNCH = "relaunch"  # stop what runs, start something else in its place
    LAUNCH = "launch"  # start a profile beside what runs
    STOP = "stop"
    START = "start"  # what was stopped last, as it was
    UNDO = "undo"  # back to what ran before the last change
    FINISH = "finish"  # go on with one that was cut off


class Ask(Struct, frozen=True, kw_only=True):
    """A wish. ``server`` is a URL or a pid; empty: the only one there is."""

    kind: Kind
    server: str = ""
    profile: str | None = None
    patch: dict[str, Value | None] = {}  # settings by name; None takes one away
    extra: tuple[str, ...] | None = None  # flags that no setting stands for, as they are; None: as before
    measure: bool = False  # a short speed check before and after


class Verdict(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"  # could not be judged: never in the way


class Check(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the pre-flight list."""

    id: str
    title: str
    verdict: Verdict
    detail: str = ""  # what was read, with numbers
    fix: str = ""


class Change(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One difference between what runs and what shall run, masked."""

    part: str  # how | flag | env
    name: str
    before: str | None = None  # None: not there
    after: str | None = None


class Proposal(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What would happen. Nothing has been touched yet."""

    id: str
    ask: Ask
    before: str  # what runs: a label; empty when nothing does
    after: str  # what shall run; empty when nothing shall
    url: str
    checks: tuple[Check, ...] = ()
    changes: tuple[Change, ...] = ()
    command_before: tuple[str, ...] = ()  # masked
    command_after: tuple[str, ...] = ()

    @property
    def possible(self) -> bool:
        """Whether nothing speaks against it."""
        return not any(check.verdict is Verdict.FAIL for check in self.checks)


class Step(StrEnum):
    """Where an undertaking stands; on disk at each of them."""

    RECORDED = "recorded"  # what runs is written down, nothing is touched
    MEASURING = "measuring"  # the speed of what runs
    STOPPING = "stopping"
    STOPPED = "stopped"  # process gone, port free, memory back
    STARTING = "starting"
    LOADING = "loading"
    VERIFYING = "verifying"
    COMPARING = "comparing"  # the speed of what runs now
    UNDOING = "undoing"  # putting back what ran
    # the ends
    KEPT = "kept"  # the new one serves
    STOPPED_FOR_GOOD = "stopped for good"  # as asked
    REFUSED = "refused"  # nothing was touched
    ROLLED_BACK = "rolled back"  # what ran before serves again
    LOST = "lost"  # neither runs: said loudly, with both command lines


ENDS = frozenset((Step.KEPT, Step.STOPPED_FOR_GOOD, Step.REFUSED, Step.ROLLED_BACK, Step.LOST))


class Speed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A short speed check: medians, and half the spread between the extremes."""

    prompt_tokens_per_second: float | None = None
    prompt_spread: float | None = None  # ± t/s
    generation_tokens_per_second: float | None = None
    generation_spread: float | None = None
    draft_acceptance_ratio: float | None = None  # accepted / drafted; None without drafts
    draft_coverage_ratio: float | None = None  # drafted / generated
    peak_memory_bytes: int | None = None  # of GTT + VRAM, else what is not available of the RAM
    runs: int = 0
    note: str = ""  # why a number is missing or not to be trusted


class Outcome(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How it ended."""

    id: str
    step: Step
    kind: Kind
    before: str = ""
    after: str = ""
    url: str = ""
    pid: int | None = None  # of what serves now
    reason: str = ""  # why it was rolled back, refused or lost
    log_tail: tuple[str, ...] = ()  # of what failed, made harmless
    log_path: str = ""
    speed_before: Speed | None = None
    speed_after: Speed | None = None
    load_seconds_before: float | None = None  # both by their logs, or both by our clock
    load_seconds_after: float | None = None
    notes: tuple[str, ...] = ()  # deviations that were there before too, and the like
    command_before: tuple[str, ...] = ()  # masked; only where it was lost
    command_after: tuple[str, ...] = ()
    ended_time: float = 0.0  # Unix seconds

    @property
    def serving(self) -> bool:
        """Whether a server serves in the end."""
        return self.pid is not None


class Progress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A word from an undertaking under way. The last one carries the outcome."""

    step: Step
    text: str = ""
    ratio: float | None = None  # 0..1 where it is known
    seconds: float = 0.0  # in this step
    question: str = ""  # needs a yes or no: "kill"
    outcome: Outcome | None = None


class Standing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An undertaking that was cut off: where it stands, and what may be done about it."""

    id: str
    kind: Kind
    step: Step
    before: str
    after: str
    url: str
    text: str  # one sentence
    running: bool = False  # another halotui is at it right now
    began_time: float = 0.0


class ProfileRow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A profile in a list."""

    name: str
    preset: bool  # shipped, and not changed by the user
    complete: bool  # names a model; else it changes what runs
    summary: str  # backend, runner, and what it sets
    problem: str = ""  # why it cannot be used
    current: bool = False  # the server in question was launched from it


class Field(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the form "same, but": a setting with the value that runs now."""

    name: str  # of the setting
    label: str
    help: str
    value: str = ""  # as text; empty: not set
    choices: tuple[str, ...] = ()  # empty: free


class ServerRow(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A server that may be acted on, or why it may not."""

    url: str
    pid: int
    model: str = ""
    backend: str = ""
    runner: str = ""
    profile: str = ""  # that it was launched from
    started_time: float | None = None
    command: tuple[str, ...] = ()  # masked
    refusal: str = ""  # why halotui would not touch it
    hint: str = ""


class Desk(Protocol):
    """Where servers are launched, stopped and relaunched. Every method may raise :class:`ActionError`."""

    async def servers(self) -> list[ServerRow]: ...

    async def profiles(self, server: str = "") -> list[ProfileRow]: ...

    async def form(self, server: str) -> list[Field]:
        """The flags that matter, as they are now; the last one is ``extra``: free flags."""
        ...

    async def swap_profile(self, server: str) -> str | None:
        """The profile that ``b`` goes to: the last other one used, else the first of another backend."""
        ...

    async def prepare(self, ask: Ask) -> Proposal:
        """The pre-flight; touches nothing."""
        ...

    def carry_out(self, proposal_id: str) -> AsyncGenerator[Progress, None]:
        """Do it, in a process of its own that outlives us: closing the generator only looks away."""
        ...

    async def answer(self, question: str, yes: bool) -> None:
        """To a question of the undertaking under way."""
        ...

    async def cancel(self) -> None:
        """Ask the undertaking under way to put back what ran."""
        ...

    async def standing(self) -> Standing | None:
        """One that was cut off or is under way elsewhere, if any."""
        ...

    async def give_up(self) -> Standing:
        """Forget the one that was cut off, and leave everything as it is."""
        ...

    async def last(self) -> Outcome | None:
        """How the last one ended."""
        ...

    async def save(self, server: str, name: str) -> str:
        """The server as a profile in config.toml; the path that was written."""
        ...

    async def close(self) -> None: ...


Patch = Mapping[str, Value | None]
