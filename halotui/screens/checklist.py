"""What would happen, and what speaks against it: read before anything is touched."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from textwrap import wrap
from typing import ClassVar

from msgspec.structs import replace
from textual import events
from textual.binding import Binding

from halotui.actions import ActionError, Ask, Change, Check, Kind, Proposal, Verdict
from halotui.screens.popup import BACK, BAD, DIM, GOOD, WARN, OpenDesk, Part, Popup, command, reason, told
from halotui.widgets.rows import fit

MARKS = {
    Verdict.FAIL: ("✗", BAD),
    Verdict.WARN: ("!", WARN),
    Verdict.UNKNOWN: ("?", DIM),
    Verdict.OK: ("✓", GOOD),
}
_ORDER = list(MARKS)  # what is wrong first
_NOTHING = "nothing"
_MEASURABLE = (Kind.RELAUNCH, Kind.UNDO)
_SHARES = {"flag": "{} {}", "env": "env {}={}", "how": "{}: {}"}


class Checklist(Popup[Proposal]):
    """Gives the proposal that the user agreed to. ``asked`` says what is wished, or why it cannot be."""

    TITLE: ClassVar = "check"
    BINDINGS: ClassVar = [
        Binding("enter,y", "agree", "do it", key_display="enter"),
        Binding("m", "measure", "measure"),
        Binding("c", "copy", "copy"),
        BACK,
    ]

    def __init__(self, desk: OpenDesk, asked: Callable[[], Awaitable[Ask]]) -> None:
        super().__init__()
        self._desk, self._asked = desk, asked
        self._ask: Ask | None = None
        self._proposal: Proposal | None = None

    def on_mount(self) -> None:
        self._prepare()

    def _prepare(self) -> None:
        self._proposal = None
        self.refresh_bindings()
        self.write([("checking…  ", "bold"), ("binary, files, flags, port, memory; nothing is touched", DIM)])
        self.run_worker(self._judge(), exclusive=True)

    async def _judge(self) -> None:
        try:
            if self._ask is None:
                self._ask = await self._asked()
            self._proposal = await (await self._desk()).prepare(self._ask)
        except Exception as error:
            self.write([*told(reason(error)), ("\n\nNothing was touched.", DIM)])
        self._draw()
        self.refresh_bindings()

    def on_resize(self, _: events.Resize) -> None:
        self._draw()

    def _draw(self) -> None:
        """The sheet, in lines for this width."""
        if self._proposal is not None:
            self.write(proposal_text(self._proposal, self.room))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """None: shown, and not to be had."""
        ready = self._proposal
        if action == "agree":
            return True if ready is not None and ready.possible else None
        if action == "measure":
            return ready is not None and ready.ask.kind in _MEASURABLE
        return (ready is not None and bool(ready.command_after)) if action == "copy" else True

    def action_agree(self) -> None:
        self.dismiss(self._proposal)

    def action_measure(self) -> None:
        if self._ask is not None:
            self._ask = replace(self._ask, measure=not self._ask.measure)
            self._prepare()

    def action_copy(self) -> None:
        if self._proposal is not None:
            self.app.copy_to_clipboard(command(self._proposal.command_after))
            self.notify("copied: the new command line", timeout=2)


def proposal_text(proposal: Proposal, width: int) -> list[Part]:
    """The whole sheet: what becomes what, what changes, what was checked, both command lines."""
    return [
        *_head(proposal),
        *_changes(proposal.changes),
        *_checks(proposal.checks, width),
        *_commands(proposal),
    ]


def headline(before: str, after: str) -> list[Part]:
    """What becomes what."""
    return [(before or _NOTHING, "bold"), ("  →  ", DIM), (after or _NOTHING, "bold"), ("\n", "")]


def _head(proposal: Proposal) -> Iterator[Part]:
    yield from headline(proposal.before, proposal.after)
    yield f"{proposal.ask.kind} · {proposal.url}", DIM
    if proposal.ask.kind in _MEASURABLE:
        wanted = "on, about a minute" if proposal.ask.measure else "off"
        yield f"\nspeed check before and after: {wanted}", DIM
    if not proposal.possible:
        yield "\nNot possible as it stands: see ✗. Nothing was touched.", BAD
    yield "\n", ""


def _changes(changes: tuple[Change, ...]) -> Iterator[Part]:
    if changes:
        yield "\n", ""
    for change in changes:
        for sign, value, style in (("−", change.before, "$error"), ("+", change.after, "$success")):
            if value is not None:
                words = _SHARES.get(change.part, "{} {}").format(change.name, value).rstrip()
                yield f" {sign} {words}\n", style


def _checks(checks: tuple[Check, ...], width: int) -> Iterator[Part]:
    if checks:
        yield "\n", ""
    titles = min(30, max((len(check.title) for check in checks), default=0) + 2)
    for check in sorted(checks, key=lambda check: _ORDER.index(check.verdict)):
        mark, style = MARKS[check.verdict]
        well = check.verdict is Verdict.OK
        yield f" {mark} ", style
        yield fit(check.title, titles), "" if well else "bold"
        yield _hanging(check.detail, titles + 3, width), DIM if well else ""
        if check.fix and not well:
            yield " " * (titles + 3), ""
            yield _hanging(f"→ {check.fix}", titles + 3, width), ""


def _hanging(words: str, indent: int, width: int) -> str:
    """Lines under the first one's beginning."""
    lines = wrap(words, max(16, width - indent)) or [""]
    return f"\n{' ' * indent}".join(lines) + "\n"


def _commands(proposal: Proposal) -> Iterator[Part]:
    for name, words in (("before", proposal.command_before), ("after", proposal.command_after)):
        if words:
            yield f"\n{name}  ", "bold"
            yield command(words), DIM


async def no_profile() -> Ask:
    """For ``b`` when there is nowhere to go."""
    raise ActionError(
        "There is no other profile to swap to.",
        "Make one: halotui profiles add NAME --from PID, or [profiles.NAME] in config.toml.",
    )
