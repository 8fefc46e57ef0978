"""A finding in full: its evidence with a chart of the moment, what is behind it, and what to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

from halotui import fields, format
from halotui.fields import Field
from halotui.model import Cause, Finding
from halotui.runs import Bucket, Event
from halotui.safe import clean
from halotui.screens.popup import BACK, DIM, Part, Popup, command, plain
from halotui.widgets.event_look import look_of
from halotui.widgets.view import View

AROUND = 240.0  # seconds before the moment, and after it, as far as they are kept
HEIGHT, LOW = 11, 7  # of the chart, with its axis; where there is little room
SHORT = 30  # rows of a screen: below, what to do would be out of sight
NARROWEST = 40  # cells that a chart needs
SPEED = "server.generation_tokens_per_second"  # what a finding about a server is seen in, if nothing nearer
CURE, SILENCE = "cure", "silence"
_BOX = ("memory", "account", "system", "energy")  # owners in ``fields`` that are their own subject


HUSHED = 8 * 3600.0  # seconds of silence
# Rule, subject, seconds; says what is wrong if it could not be kept.
Silence = Callable[[str, str, float], Awaitable[str | None]]


class FindingScreen(Popup[str]):
    """Gives ``cure`` or ``silence`` when that key was pressed, where it may be."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "give('cure')", "relaunch with the fix"),
        Binding("z", "give('silence')", "silence for 8 h"),
        BACK,
        Binding("e,q,enter", "back", show=False),
    ]

    def __init__(self, view: View, finding: Finding, able: frozenset[str]) -> None:
        super().__init__()
        self._view, self._finding, self._able = view, finding, able

    def on_mount(self) -> None:
        height = HEIGHT if self.app.size.height >= SHORT else LOW
        self.write(parts(self._view, self._finding, self.room, height))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """No key that could do nothing."""
        return action != "give" or parameters[0] in self._able

    def action_give(self, what: str) -> None:
        self.dismiss(what)


async def hush(app: App[int], silence: Silence, finding: Finding, *, demo: bool = False) -> None:
    """No more of it for a while; kept, so that it holds after a restart too. A demo's ends with it."""
    if trouble := await silence(finding.id, finding.subject, HUSHED):
        words = f"silent only until halotui ends: {trouble}"
        app.notify(clean(words), severity="warning", timeout=8, markup=False)
        return
    words = f"silent for {HUSHED / 3600:g} h; `halotui rules hear {finding.id}` takes it back"
    app.notify("silent until the demo ends" if demo else words, timeout=8, markup=False)


def parts(view: View, finding: Finding, width: int, height: int = HEIGHT) -> Iterator[Part]:
    """Everything but the keys."""
    look = look_of(_event(finding))
    yield f"{look.letter} {finding.title}\n", look.popup
    since = f" · since {format.clock(finding.since_time)}" if finding.since_time is not None else ""
    about = f" · {finding.subject}" if finding.subject else ""
    yield f"{finding.severity} · {finding.id}{about}{since}\n\n", DIM
    yield "Evidence\n", "bold"
    yield f"{finding.evidence}\n\n", ""
    yield from _chart(view, finding, width, height)
    if finding.causes:
        yield "Likely causes\n", "bold"
        for number, one in enumerate(finding.causes, 1):
            yield from cause(number, one)
        yield "\n", ""
    yield "Why\n", "bold"
    yield f"{finding.why}\n\n", ""
    yield "What to do\n", "bold"
    yield f"{finding.fix}\n", ""
    if line := cure(finding):
        yield f"{line}\n", "$primary"
    if finding.reference:
        yield f"\nReference: {finding.reference}\n", DIM


def text(view: View, finding: Finding, width: int) -> str:
    """The same, to copy."""
    return plain(parts(view, finding, width)).rstrip()


def cure(finding: Finding) -> str:
    """The command that relaunches with the fix; empty where a relaunch is none."""
    if not finding.patch:
        return ""
    words = ["halotui", "relaunch"]
    if "://" in finding.subject:
        words += ["--server", finding.subject]
    for name, value in finding.patch.items():
        told = str(value).lower() if isinstance(value, bool) else value
        words += ["--unset", name] if value is None else ["--set", f"{name}={told}"]
    return command(words)


def cause(number: int, cause: Cause) -> Iterator[Part]:
    """One of several, with what would prove it."""
    share = f"  explains about {format.percent(cause.share)} of it" if cause.share is not None else ""
    yield f"{number}. {cause.text}", ""
    yield f"{share}\n", DIM
    yield f"   To be sure: {cause.proof}\n", DIM


def _chart(view: View, finding: Finding, width: int, height: int) -> Iterator[Part]:
    """What it is about, around the moment it began; nothing where history has nothing."""
    found = _series(view, finding)
    if found is None or width < NARROWEST:
        return
    from halotui.screens.history_chart import axis, drawn  # plotext, on a key

    field, buckets = found
    moment = finding.since_time if finding.since_time is not None else buckets[-1].time
    since, until = min(buckets[0].time, moment), max(buckets[-1].time, moment)
    picture = drawn(field, buckets, since, until, width, height)
    yield f"{field.label}\n", DIM
    yield from picture.parts
    yield "\n" + " " * picture.left, ""
    yield from axis([_event(finding)], None, since, until, picture.columns)
    yield "\n\n", ""


def _series(view: View, finding: Finding) -> tuple[Field, list[Bucket]] | None:
    """The first of its numbers whose past is kept, and that past."""
    times = view.history.times.last(view.history.times.pushed)
    moment = finding.since_time if finding.since_time is not None else (times[-1] if times else None)
    for name in (*finding.fields, SPEED):
        field = fields.BY_ID.get(name)
        owner = name.partition(".")[0]
        subject = owner if owner in _BOX else _gpu(view, finding) if owner == "gpu" else finding.subject
        ring = view.history.series(subject, name) if field is not None else None
        if field is None or ring is None or moment is None:
            continue
        values = ring.last(len(times))
        known = [
            Bucket(at, value, value, value)
            for at, value in zip(times[len(times) - len(values) :], values, strict=True)
            if at is not None and value is not None and abs(at - moment) <= AROUND
        ]
        if len(known) > 2 and known[-1].time > known[0].time:
            return field, known
    return None


def _gpu(view: View, finding: Finding) -> str:
    ids = [gpu.id for gpu in view.frame.gpus] if view.frame is not None else []
    return finding.subject if finding.subject in ids or not ids else ids[0]


def _event(finding: Finding) -> Event:
    return Event(
        time=finding.since_time or 0.0, kind="finding", label=finding.title, severity=finding.severity
    )
