"""How an undertaking ended: in numbers when it was kept, with reason and log when it was not."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from typing import ClassVar

from textual.binding import Binding

from halotui.actions import Kind, Outcome, Step
from halotui.comparing import Delta, delta, notes, table
from halotui.screens.checklist import headline
from halotui.screens.popup import BAD, DIM, GOOD, WARN, Part, Popup, command, plain
from halotui.widgets.rows import fit, right

Write = Callable[[str, bytes], Awaitable[None]]  # name, data

_TITLES = {
    (Step.KEPT, None): ("✓ The new one serves.", GOOD),
    (Step.KEPT, Kind.UNDO): ("✓ Back: what ran before serves again.", GOOD),
    (Step.KEPT, Kind.LAUNCH): ("✓ It serves.", GOOD),
    (Step.KEPT, Kind.START): ("✓ It serves again.", GOOD),
    (Step.STOPPED_FOR_GOOD, None): ("✓ Stopped, as asked.", GOOD),
    (Step.REFUSED, None): ("✗ Refused: nothing was touched.", WARN),
    (Step.ROLLED_BACK, None): ("! Rolled back: what ran before serves again.", WARN),
    (Step.ROLLED_BACK, Kind.LAUNCH): ("✗ It did not come up, and was taken down.", WARN),
    (Step.ROLLED_BACK, Kind.START): ("✗ It did not come up, and was taken down.", WARN),
    (Step.LOST, None): ("✗ LOST: no server is running.", BAD),
}
_LOST = "Start one by hand, or press u to try once more what ran before. Both command lines:"
_TAIL = 20  # lines of log


class Result(Popup[str]):
    """Gives "undo" when the user wants to go back, "save" to have it as a profile, else None."""

    TITLE: ClassVar = "result"
    BINDINGS: ClassVar = [
        Binding("enter,escape", "keep", "keep", key_display="enter"),
        Binding("u", "undo", "go back"),
        Binding("s", "save", "save as profile"),
        Binding("enter,escape", "back", "close", key_display="enter"),
        Binding("y", "copy", "copy"),
        Binding("w", "write", "write to file"),
    ]

    def __init__(self, outcome: Outcome, write: Write) -> None:
        super().__init__()
        self._outcome, self._parts, self._write = outcome, outcome_text(outcome), write

    def on_mount(self) -> None:
        self.write(self._parts)
        if self._outcome.step is Step.LOST:
            self.loud()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is a way back from what was changed alone, and only what serves is kept."""
        step = self._outcome.step
        shown = {
            "keep": step is Step.KEPT,
            "back": step is not Step.KEPT,
            "save": step is Step.KEPT,
            "undo": step in (Step.KEPT, Step.STOPPED_FOR_GOOD, Step.LOST),
        }
        return shown.get(action, True)

    def action_keep(self) -> None:
        self.dismiss(None)

    def action_undo(self) -> None:
        self.dismiss("undo")

    def action_save(self) -> None:
        self.dismiss("save")

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(plain(self._parts))
        self.notify("copied", timeout=2)

    async def action_write(self) -> None:
        name = time.strftime("relaunch-%Y%m%d-%H%M%S.txt")
        await self._write(name, f"{plain(self._parts).rstrip()}\n".encode())


def outcome_text(outcome: Outcome) -> list[Part]:
    """The whole sheet."""
    return list(_parts(outcome))


def _parts(outcome: Outcome) -> Iterator[Part]:
    words, style = _TITLES.get((outcome.step, outcome.kind)) or _TITLES[outcome.step, None]
    yield f"{words}\n", style
    if outcome.before or outcome.after:
        yield from headline(outcome.before, outcome.after)
    where = [outcome.url, f"pid {outcome.pid}" if outcome.pid is not None else ""]
    if any(where):
        yield f"{' · '.join(word for word in where if word)}\n", DIM
    if outcome.reason:
        yield f"\n{outcome.reason}\n", "bold"
    yield from _numbers(outcome)
    if told := list(notes(outcome)):
        yield "\n" + "".join(f" · {note}\n" for note in told), ""
    if outcome.step is Step.LOST:
        yield f"\n{_LOST}\n", "bold"
        for name, line in (("before", outcome.command_before), ("after", outcome.command_after)):
            yield f"{name}  ", "bold"
            yield f"{command(line)}\n", ""
    if outcome.log_tail:
        yield "\nthe end of its log\n", "bold"
        yield "".join(f" {line}\n" for line in outcome.log_tail[-_TAIL:]), DIM
    if outcome.log_path and outcome.step is not Step.KEPT:
        yield f"log: {outcome.log_path}\n", DIM


def _numbers(outcome: Outcome) -> Iterator[Part]:
    rows = table(outcome)
    if not rows or outcome.step is Step.STOPPED_FOR_GOOD:  # nothing to compare with
        return
    yield f"\n{'':11}{'before':>12}{'after':>12}{'Δ':>7}\n", DIM
    for row in rows:
        change, (before, after) = delta(row), row.cells
        yield fit(row.label, 11), ""
        yield right(before, 12), ""
        yield right(after, 12), "bold"
        yield f"{right(change.text, 7)} {change.word}\n", _style(change)


def _style(change: Delta) -> str:
    if change.sense:
        return GOOD if change.sense > 0 else BAD
    return DIM if change.word in ("", "≈") else ""
