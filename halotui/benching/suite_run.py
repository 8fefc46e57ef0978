"""A course from its first item that is left to its last: one at a time, each in the store before the next."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from msgspec.structs import replace

from halotui.benching.measure import GPU_HANG
from halotui.benching.suite_bar import Bar
from halotui.benching.suite_cool import cool_down
from halotui.benching.suite_course import Item, Pace
from halotui.benching.suite_item import Bench
from halotui.collectors import kernel_log
from halotui.hosts.hands import Hands
from halotui.runs import Run, Status, Store
from halotui.store.lost import WENT_DOWN

MOST_HANGS = 3  # in a row: then it is the box, not the item
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Course:
    """``left`` is what is to be run, in order. ``runs`` grows as items end."""

    def __init__(self, bench: Bench, left: Sequence[Item], pace: Pace) -> None:
        self.runs: dict[str, Run] = {}  # by key
        self.interrupted = False
        self.gave_up = False  # after so many hangs
        self._bench = bench
        self._left = list(left)
        self._pace = pace
        self._began = time.monotonic()  # the item under way

    def eta(self) -> float | None:
        """Seconds until all is done, by what was done so far; None: nothing was."""
        seconds = self._pace.seconds(self._left)
        current = self._pace.seconds(self._left[:1])
        if seconds is None or current is None:
            return None
        return seconds - min(current, time.monotonic() - self._began)

    async def go(self, bar: Bar) -> None:
        """Until all is done, the user wants no more, or the box only hangs."""
        hangs = 0
        task = asyncio.current_task()
        assert task is not None
        with self._interruptible(task):
            while self._left:
                item = bar.item = self._left[0]
                self._began = time.monotonic()
                run = await self._one(item, bar)
                stopped = self.interrupted or run is None or run.status is Status.INTERRUPTED
                if run is not None and not stopped:
                    self._left.pop(0)
                    if run.status is Status.OK:
                        self._pace.took(item, time.monotonic() - self._began)
                    self._began = time.monotonic()
                if run is not None:
                    self.runs[item.key] = run
                    bar.finished(item, run)
                if run is None or stopped:
                    self.interrupted = True
                    return
                hangs = hangs + 1 if run.status is Status.HUNG else 0
                if hangs >= MOST_HANGS and self._left:
                    self.gave_up = True
                    return

    async def _one(self, item: Item, bar: Bar) -> Run | None:
        """None: interrupted."""
        suite, bench = self._bench.suite, self._bench
        try:
            await bench.stop()
            note = await cool_down(
                bench.host, suite.cooldown_celsius, suite.cooldown_seconds, suite.pause_seconds, bar.doing
            )
            if note:
                bar.say(f"{item.name}: {note}")
            bar.doing("")
            return await bench.run(item)
        except asyncio.CancelledError:
            if not self.interrupted:
                raise
            return None

    @contextmanager
    def _interruptible(self, task: asyncio.Task[Any]) -> Iterator[None]:
        """The first signal ends the item; the second does not wait for it to end.

        While a llama-bench runs, signals are its own (see ``measure``): it ends by the first one, and its run
        with its results comes back. The loop hears of a signal all the same, whoever has the handler.
        """
        loop = asyncio.get_running_loop()
        ours: dict[int, Any] = {}
        before: dict[int, Any] = {}
        heard = 0

        def hear(number: int) -> None:
            nonlocal heard
            heard += 1
            self.interrupted = True
            taken = signal.getsignal(number) is not ours[number]
            if heard == (2 if taken else 1):
                task.cancel()
            elif heard > 1:
                self._bench.kill()

        with suppress(ValueError, RuntimeError):  # not the main thread: nothing reaches us
            for number in _SIGNALS:
                if (was := signal.getsignal(number)) is not signal.SIG_IGN:
                    loop.add_signal_handler(number, hear, number)
                    before[number], ours[number] = was, signal.getsignal(number)
        try:
            yield
        finally:
            for taken, handler in before.items():
                loop.remove_signal_handler(taken)
                signal.signal(taken, handler)


async def settle(
    runs: Iterable[Run],
    items: Iterable[Item],
    hands: Hands,
    store: Store | None,
    tell: Callable[[str], None],
    ahead: float = 0.0,
) -> list[Run]:
    """The runs of a course that is taken up. One during which the box went down is marked as hung, with what
    the kernel said last; the others are as they were. Without a store that is all. ``ahead``: seconds that
    the box's clock is before ours. Raises StoreError."""
    names = {item.key: item.name for item in items}
    settled = []
    for run in runs:
        if run.status is Status.LOST and run.reason.startswith(WENT_DOWN):
            lines = await kernel_log.of_its_boot(hands, run.started_time + ahead, run.seconds or 0.0)
            what = kernel_log.hang(lines)
            reason = f"{WENT_DOWN} during this run"
            run = replace(
                run,
                status=Status.HUNG,
                reason=f"{GPU_HANG}: {what.what}, and {reason}" if what else reason,
                evidence=tuple(lines),
            )
            if store is not None:
                await asyncio.to_thread(store.finish, run.id, run)
            tell(f"{names.get(run.item, run.item)}: {run.reason}" + _denied(lines))
        settled.append(run)
    return settled


def _denied(lines: kernel_log.Lines) -> str:
    return " (the kernel log may not be read: join the group systemd-journal)" if lines.denied else ""
