"""An undertaking under way: its steps as they come. It goes on without anybody looking."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Static

from halotui import format
from halotui.actions import ENDS, Kind, Progress, Proposal, Step
from halotui.screens.checklist import headline
from halotui.screens.popup import DIM, GOOD, WARN, OpenDesk, Part, Popup, content, reason

WORDS = {
    Step.RECORDED: "written down",
    Step.MEASURING: "measuring what runs",
    Step.STOPPING: "stopping",
    Step.STOPPED: "stopped, port and memory free",
    Step.STARTING: "starting",
    Step.LOADING: "loading",
    Step.VERIFYING: "verifying",
    Step.COMPARING: "measuring the new one",
    Step.UNDOING: "putting back what ran",
}
_AHEAD = {  # what is to be expected, for those whose way is known
    Kind.RELAUNCH: list(WORDS)[:-1],
    Kind.LAUNCH: [Step.RECORDED, Step.STARTING, Step.LOADING, Step.VERIFYING],
    Kind.START: [Step.RECORDED, Step.STARTING, Step.LOADING, Step.VERIFYING],
    Kind.STOP: [Step.RECORDED, Step.STOPPING],
}
_MEASURES = (Step.MEASURING, Step.COMPARING)
_BAR = 24  # cells
QUESTIONS = {"kill": "It does not stop. Kill it? Requests in flight are lost."}


class Story:
    """What was heard of one undertaking so far."""

    def __init__(self, proposal: Proposal) -> None:
        self.proposal = proposal
        self.steps: list[tuple[Step, float]] = []  # and its seconds
        self.progress = Progress(step=Step.RECORDED)
        self.answered = ""  # question

    def hear(self, progress: Progress) -> None:
        self.progress = progress
        if progress.question != self.answered:
            self.answered = ""
        if progress.step in ENDS:
            return
        if self.steps and self.steps[-1][0] is progress.step:
            self.steps.pop()
        self.steps.append((progress.step, progress.seconds))

    @property
    def question(self) -> str:
        """One that waits for an answer."""
        return self.progress.question if not self.answered else ""

    @property
    def note(self) -> str:
        """In a few words, for the cockpit's foot."""
        ratio = self.progress.ratio
        if self.question:
            return "asks: kill it?" if self.question == "kill" else "asks"
        word = WORDS.get(self.progress.step, str(self.progress.step)).partition(",")[0]
        return f"{word} {format.percent(ratio)}" if ratio is not None else f"{word}…"


class Undertaking(Popup[bool]):
    """Draws a story. Putting it away changes nothing."""

    TITLE: ClassVar = "under way"
    BINDINGS: ClassVar = [
        Binding("y", "answer(True)", "yes"),
        Binding("n", "answer(False)", "no"),
        Binding("c", "cancel", "put back what ran"),
        Binding("escape,h", "back", "hide", key_display="esc"),
        Binding("q", "app.quit", "quit"),
    ]

    def __init__(self, desk: OpenDesk, story: Story) -> None:
        super().__init__()
        self._desk, self.story = desk, story
        self._asked = ""
        self._drawn: dict[str, list[Part]] = {}

    def body(self) -> ComposeResult:
        for id_ in _SHEET:
            yield Static(id=id_)

    def on_mount(self) -> None:
        self.draw()

    def draw(self) -> None:
        """Bring it to what was heard last: mostly the one line that moves, for a link may be slow."""
        for id_, lines in _SHEET.items():
            parts, drawn = list(lines(self.story)), self._drawn.get(id_)
            if parts == drawn:
                continue
            for text in self.query(f"#{id_}").results(Static):  # none before it is composed
                self._drawn[id_] = parts
                text.update(content(parts), layout=id_ != "now" or not drawn)
        if self._asked != self.story.question:
            self._asked = self.story.question
            self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return bool(self.story.question) if action == "answer" else True

    async def action_answer(self, yes: bool) -> None:
        question, self.story.answered = self.story.question, self.story.question
        self.draw()
        try:
            await (await self._desk()).answer(question, yes)
        except Exception as error:
            self.notify(reason(error).reason, severity="error", markup=False)

    async def action_cancel(self) -> None:
        try:
            await (await self._desk()).cancel()
        except Exception as error:
            self.notify(reason(error).reason, severity="error", markup=False)
        else:
            self.notify("what ran before is put back", timeout=3)


def _done(story: Story) -> Iterator[Part]:
    """What it is about, and the steps behind."""
    yield from headline(story.proposal.before, story.proposal.after)
    yield f"{story.proposal.ask.kind} · {story.proposal.url} · goes on unseen\n", DIM
    if story.question:  # first: a low screen shows no more
        yield f"\n{QUESTIONS.get(story.question, story.question)}  ", WARN
        yield "y / n\n", "bold"
    for step, seconds in story.steps[:-1]:
        yield "\n ✓ ", GOOD
        yield f"{WORDS[step]}  ", ""
        yield _seconds(seconds), DIM


def _now(story: Story) -> Iterator[Part]:
    """The step under way, on one line."""
    ratio = story.progress.ratio
    for step, seconds in story.steps[-1:]:
        yield " ▸ ", WARN
        yield f"{WORDS[step]}  ", "bold"
        if ratio is not None:
            full = round(max(0.0, min(1.0, ratio)) * _BAR)
            yield "█" * full, "$primary"
            yield "░" * (_BAR - full), DIM
            yield f" {format.percent(ratio)}  ", "bold"
        yield _seconds(seconds), DIM


def _ahead(story: Story) -> Iterator[Part]:
    """The steps to come."""
    yield "\n".join(f"   {WORDS[step]}" for step in _to_come(story)), DIM


def _word(story: Story) -> Iterator[Part]:
    """What it says meanwhile; its line stays when it says nothing, or the box would jump."""
    yield f"\n{story.progress.text or ' '}", ""


_SHEET: dict[str, Callable[[Story], Iterator[Part]]] = {
    "done": _done,
    "now": _now,
    "ahead": _ahead,
    "word": _word,
}


def _to_come(story: Story) -> list[Step]:
    ask = story.proposal.ask
    way = [step for step in _AHEAD.get(ask.kind, ()) if ask.measure or step not in _MEASURES]
    if not story.steps:
        return way
    here = story.steps[-1][0]
    return way[way.index(here) + 1 :] if here in way else []


def _seconds(seconds: float) -> str:
    return format.duration(seconds) if seconds >= 1 else ""
