"""Looks on while an undertaking runs: its progress on stderr, its question, and Ctrl-C."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from contextlib import aclosing, suppress

from halotui.actions import ActionError, Desk, Outcome, Progress, Step
from halotui.format import percent
from halotui.safe import clean

_BAR = 20  # cells
_QUESTIONS = {"kill": "It does not stop. Kill it? Requests under way are lost."}


def terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


async def confirm(question: str) -> bool:
    """Ask on the terminal; no is what is not a yes. May be cancelled, unlike ``input``."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)

    def read() -> None:
        if not answer.done():
            answer.set_result(sys.stdin.readline())

    loop.add_reader(sys.stdin, read)
    try:
        return (await answer).strip().lower() in ("y", "yes")
    finally:
        loop.remove_reader(sys.stdin)


class Line:
    """One line on stderr that is drawn anew on a terminal; elsewhere a line a step."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._step: Step | None = None

    def show(self, progress: Progress) -> None:
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{_text(progress)[:width]}", end="", file=sys.stderr, flush=True)
        elif progress.step is not self._step:
            print(_text(progress), file=sys.stderr, flush=True)
        self._step = progress.step

    def say(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        print(clean(text), file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _text(progress: Progress) -> str:
    words = ["" if progress.text.startswith(progress.step) else str(progress.step), progress.text]
    if progress.ratio is not None:
        full = round(max(0.0, min(1.0, progress.ratio)) * _BAR)
        words.append(f"{'█' * full}{'░' * (_BAR - full)} {percent(progress.ratio)}")
    if progress.seconds >= 1:
        words.append(f"{progress.seconds:.0f} s")
    return clean("  ".join(filter(None, words)))


async def follow(desk: Desk, proposal_id: str, *, kill: bool) -> Outcome | None:
    """Carry out and look on to the end; None when the user has looked away and it goes on.

    Ctrl-C once puts back what ran, twice leaves it to itself. Raises ActionError.
    """
    loop = asyncio.get_running_loop()
    line = Line()
    watching = loop.create_task(_watch(desk, proposal_id, line, kill))
    cancelling: list[asyncio.Task[None]] = []

    def interrupted() -> None:
        if cancelling:
            watching.cancel()
        else:
            line.say("putting back what ran … (Ctrl-C again: it does so without you)")
            cancelling.append(loop.create_task(_cancel(desk)))

    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        return await watching
    except asyncio.CancelledError:
        if not cancelling:
            raise
        line.say("it goes on by itself; see: halotui relaunch --status")
        return None
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        line.clear()


async def _cancel(desk: Desk) -> None:
    with suppress(ActionError):  # it has ended meanwhile
        await desk.cancel()


async def _watch(desk: Desk, proposal_id: str, line: Line, kill: bool) -> Outcome | None:
    outcome = None
    asked: tuple[Step, asyncio.Task[None]] | None = None
    try:
        async with aclosing(desk.carry_out(proposal_id)) as news:
            async for progress in news:
                if asked and progress.step is not asked[0]:  # it has settled itself
                    asked[1].cancel()
                    asked = None
                if progress.question and not asked:
                    line.clear()
                    asked = progress.step, asyncio.create_task(_answer(desk, progress.question, kill))
                if not asked or asked[1].done():
                    line.show(progress)
                outcome = progress.outcome or outcome
    finally:
        if asked:
            asked[1].cancel()
    return outcome


async def _answer(desk: Desk, question: str, kill: bool) -> None:
    yes = kill or (terminal() and await confirm(_QUESTIONS.get(question, clean(question))))
    with suppress(ActionError):
        await desk.answer(question, yes)
