"""How far a suite is, on stderr: two lines that stay at the foot of a terminal, elsewhere a line an item."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from halotui.benching.modes import is_foreground
from halotui.benching.suite_course import Item
from halotui.benching.tables import max_mem
from halotui.benching.workloads import WORKLOADS
from halotui.format import DASH, digits, duration
from halotui.runs import Result, Run, Status
from halotui.safe import clean

EVERY_SECONDS = 1.0
_CELLS = 20  # of the bar
_ERASE = "\r\x1b[J"  # the line, and what is below
_BACK = "\r\x1b[1A"


class Bar:
    """``look`` is asked for a few words on the item under way; ``eta`` for the seconds that are left.

    ``say`` writes a line above it. Where stderr is no terminal only those lines are written.
    """

    def __init__(
        self, total: int, done: int, stream: TextIO, *, eta: Callable[[], float | None], quiet: bool = False
    ) -> None:
        self.look: Callable[[], str] = lambda: ""
        self.item: Item | None = None
        self._total = total
        self._done = done
        self._stream = stream
        self._eta = eta
        self._live = not quiet and stream.isatty()
        self._began = time.monotonic()
        self._shown = False
        self._doing = ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._live:
            self._task = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """And take it away."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._clear()

    def doing(self, words: str) -> None:
        """What happens now, until the next word."""
        self._doing = words
        if self._live:
            self._draw()

    def say(self, line: str) -> None:
        self._clear()
        with suppress(OSError, ValueError):
            print(clean(line), file=self._stream, flush=True)
        if self._live and self._task is not None:
            self._draw()

    def finished(self, item: Item, run: Run) -> None:
        self._done += run.status is not Status.INTERRUPTED
        self._doing = ""
        left = self._eta()
        more = f" · about {duration(left)} left" if left and self._done < self._total else ""
        self.say(f"{self._done}/{self._total} {item.name}: {told(run)}{more}")

    def lines(self, columns: int) -> tuple[str, str]:
        """How far it is, and what happens now, for so many cells."""
        filled = _CELLS * self._done // max(self._total, 1)
        left = self._eta()
        far = (
            f"{'█' * filled}{'░' * (_CELLS - filled)} {self._done}/{self._total}",
            f"{duration(time.monotonic() - self._began)}, ETA {duration(left) if left is not None else DASH}",
            self.item.name if self.item is not None else "",
        )
        return _cut(" · ".join(filter(None, far)), columns), _cut(self._doing or self.look(), columns)

    async def _tick(self) -> None:
        while True:
            self._draw()
            await asyncio.sleep(EVERY_SECONDS)

    def _draw(self) -> None:
        with suppress(OSError, ValueError):
            if not is_foreground(self._stream.fileno()):  # Ctrl-Z, bg: the terminal is the shell's
                return
            far, now = self.lines(shutil.get_terminal_size().columns - 1)
            self._stream.write(f"{_ERASE}{far}\n{now}{_BACK}")
            self._stream.flush()
            self._shown = True

    def _clear(self) -> None:
        if self._shown:
            self._shown = False
            with suppress(OSError, ValueError):
                self._stream.write(_ERASE)
                self._stream.flush()


def _cut(text: str, columns: int) -> str:
    text = clean(text)
    return text if len(text) <= columns else f"{text[: max(0, columns - 1)]}…"


def told(run: Run) -> str:
    """How it ended, in one line: ``ok, 41 s, pp512 884 t/s, tg128 52.7 t/s, 3923+6 MiB``."""
    speeds = [f"{result.test} {speed}" for result in run.results if (speed := _speed(result))]
    parts = [
        _how(run),
        duration(run.seconds) if run.seconds is not None else "",
        *speeds,
        _mebibytes(max_mem(run)),
    ]
    return ", ".join(part for part in parts if part)


def _mebibytes(memory: str) -> str:
    """``7761+1180 MiB``, ``312 MiB RAM``; empty where it is not known."""
    amount, _, pool = memory.partition(" ")
    return "" if DASH in memory else " ".join(filter(None, (amount, "MiB", pool)))


def _speed(result: Result) -> str:
    """Of a workload its owners know the seconds."""
    if result.test in WORKLOADS and result.seconds is not None:
        return f"{digits(result.seconds)} s"
    return "" if result.tokens_per_second is None else f"{digits(result.tokens_per_second)} t/s"


def _how(run: Run) -> str:
    if run.status is Status.OK:
        return "ok"
    return f"{run.status.value}: {run.reason}" if run.reason else run.status.value
