"""The process that carries out an undertaking: it outlives the screen, the terminal and the connection.

    python -m halotui.servers.worker --state DIR [--sysfs DIR] [--procfs DIR] [--patience JSON]
        [--ssh TARGET [--ssh-config FILE]] (PLAN_ID | --finish | --undo)

To a far box it logs in by itself, so that no screen has to last; its journal is here.

stdout: one Progress a line as JSON, the last one with the outcome. stdin: ``{"cancel": true}``, or
``{"question": "kill", "yes": true}``. Both may go away: then nobody is told, nobody is asked, and it goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import select
import signal
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from halotui.actions import ActionError, Outcome, Progress, Step
from halotui.collectors.llama_process import NAME
from halotui.hosts import Host
from halotui.hosts.hands import Hands
from halotui.hosts.local import LocalHost
from halotui.hosts.local_hands import LocalHands
from halotui.safe import clean
from halotui.servers import logs, there
from halotui.servers.guard import Guard
from halotui.servers.journal import Book, Journal
from halotui.servers.launch import Plan
from halotui.servers.stopping import Patience
from halotui.servers.transaction import Transaction, journal_of

ANSWER_SECONDS = 120.0  # then it is a no
HEAR_SECONDS = 5.0  # for the last word, and for a question


class Word(msgspec.Struct):
    """A line of stdin."""

    question: str = ""
    yes: bool = False
    cancel: bool = False


class Talk:
    """Both directions of the pipe to whoever looks on."""

    def __init__(self) -> None:
        self.cancel = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[bool] | None = None
        self._alone = False
        self.step = Step.RECORDED
        threading.Thread(target=self._listen, daemon=True).start()

    def tell(self, progress: Progress) -> None:
        """To one who has stopped reading, as a screen whose terminal hangs, it is not told: we go on."""
        self.step = progress.step
        patience = HEAR_SECONDS if progress.outcome or progress.question else 0
        with suppress(OSError):
            if select.select((), (1,), (), patience)[1]:
                os.write(1, msgspec.json.encode(progress) + b"\n")

    async def ask(self, question: str) -> bool:
        """Nobody there, or nobody answers: no."""
        self._answer = self._loop.create_future()
        if self._alone:
            return False
        self.tell(Progress(step=self.step, question=question))
        try:
            return await asyncio.wait_for(self._answer, ANSWER_SECONDS)
        except TimeoutError:
            return False

    def _listen(self) -> None:
        with suppress(OSError), open(0, "rb", closefd=False) as lines:
            for line in lines:
                with suppress(msgspec.MsgspecError):
                    self._pass_on(msgspec.json.decode(line, type=Word))
        self._alone = True
        self._pass_on(Word(question="*"))

    def _pass_on(self, word: Word) -> None:
        def hear() -> None:
            if word.cancel:
                self.cancel.set()
            elif word.question and self._answer is not None and not self._answer.done():
                self._answer.set_result(word.yes)

        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(hear)


async def work(options: argparse.Namespace) -> Outcome:
    """Raises ActionError when there is nothing to do, or another one is at it."""
    book = Book(options.state / "launches")
    talk = Talk()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, talk.cancel.set)
    with book.lock():
        journal = _journal(options, book)
        async with _box(options, journal.plan, talk) as (host, hands, guard):
            transaction = Transaction(
                journal, host, hands, book, talk.tell, talk.ask, options.patience, guard
            )
            transaction.cancel = talk.cancel
            ways = {"finish": transaction.finish, "undo": transaction.undo}
            way = next((ways[word] for word in ways if getattr(options, word)), transaction.run)
            outcome = await way()
            await _tidy(options.state, book, host, hands)
            return outcome


@asynccontextmanager
async def _box(
    options: argparse.Namespace, plan: Plan, talk: Talk
) -> AsyncIterator[tuple[Host, Hands, Guard | None]]:
    """Raises ActionError: there is no way to it."""
    if options.ssh is None:
        yield LocalHost(options.sysfs, options.procfs), LocalHands(), None
        return
    from halotui.hosts.ssh import Far
    from halotui.servers.outage import Gone, away

    def tell(text: str) -> None:
        talk.tell(Progress(step=talk.step, text=text))

    far = Far(target=options.ssh, ssh_config=options.ssh_config, sysfs=options.sysfs, procfs=options.procfs)
    try:
        async with away(far, plan, options.patience.heart, tell) as box:
            yield box
    except Gone as gone:
        raise ActionError(str(gone), "halotui relaunch --finish or --undo") from None


async def _tidy(state: Path, book: Book, host: Host, hands: Hands) -> None:
    """Old logs go, but for those that are written to, or that a way back still names; plans of yesterday."""
    with suppress(OSError, ActionError):
        servers = await asyncio.to_thread(host.processes, (NAME,), ())
        held = [process.stderr for process in servers if process.stderr]
        for journal in (book.current(), book.last()):
            if journal is not None:
                before, after = journal.plan.before, journal.plan.after
                held += [launch.log for launch in (before and before.launch, after) if launch]
        book.drop_old_plans()
        if host.here:
            logs.prune(state / "logs", held)
        elif old := await asyncio.to_thread(lambda: logs.old(host, there.state(host) / "logs", held)):
            await hands.run(("rm", "-f", "--", *old))


def _journal(options: argparse.Namespace, book: Book) -> Journal:
    owner = LocalHands().identify(os.getpid())
    assert owner is not None
    unfinished = book.current()
    if options.finish or options.undo:
        if unfinished is None:
            raise ActionError("nothing was cut off")
        return msgspec.structs.replace(unfinished, owner=owner)
    if unfinished is not None:
        raise ActionError("an earlier one was cut off", "halotui relaunch --finish or --undo")
    plan = book.load_plan(options.plan)
    book.drop_plan(options.plan)
    return journal_of(plan, owner)


def patience(text: str) -> Patience:
    """What is not said stays as it is. Raises ValueError."""
    return msgspec.json.decode(text, type=Patience)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="halotui.servers.worker")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--sysfs", type=Path, default=Path("/sys"))
    parser.add_argument("--procfs", type=Path, default=Path("/proc"))
    parser.add_argument("--patience", type=patience, default=Patience(), metavar="JSON")
    parser.add_argument("--ssh", metavar="TARGET")
    parser.add_argument("--ssh-config", type=Path)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--finish", action="store_true")
    what.add_argument("--undo", action="store_true")
    what.add_argument("plan", nargs="?")
    options = parser.parse_args(argv)
    for number in (signal.SIGHUP, signal.SIGINT):  # a handler, since to ignore would be inherited
        signal.signal(number, lambda *_: None)
    try:
        outcome = asyncio.run(work(options))
    except ActionError as error:
        print(clean(f"{error.reason}; {error.hint}" if error.hint else error.reason), file=sys.stderr)
        return 1
    return 0 if outcome.serving or outcome.step is Step.STOPPED_FOR_GOOD else 1


if __name__ == "__main__":
    sys.exit(main())
