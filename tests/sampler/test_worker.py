"""A read that hangs costs its own panel and nothing else."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from halotui.model import SourceState, Unavailable
from halotui.sampler.worker import MOST_ABANDONED, PATIENCE, Crew, Worker


async def test_results_and_errors_come_through() -> None:
    worker = Worker("test")
    assert await worker.call(lambda: 42, 5) == 42
    with pytest.raises(ZeroDivisionError):
        await worker.call(lambda: 1 // 0, 5)
    assert await worker.call(lambda: "again", 5) == "again"


async def test_a_hung_read_is_given_up_and_found_again(tmp_path: Path) -> None:
    """A FIFO blocks its reader as a GPU in reset does."""
    fifo = tmp_path / "gpu_metrics"
    os.mkfifo(fifo)
    worker, began = Worker("test"), time.monotonic()
    with pytest.raises(Unavailable) as trouble:
        await worker.call(fifo.read_bytes, 0.2)
    assert trouble.value.state is SourceState.HUNG and time.monotonic() - began < 2
    with pytest.raises(Unavailable, match="not come back"):  # and no second thread is sent after it
        await worker.call(fifo.read_bytes, 5)
    await asyncio.to_thread(fifo.write_bytes, b"at last")
    await asyncio.sleep(0.1)
    assert await worker.call(lambda: "alive", 5) == "alive"


class Stuck:
    """Reads that block until they are let go, and a clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.gate = threading.Event()
        self._name = f"stuck-{id(self)}"
        self.worker = Worker(self._name, lambda: self.now)

    def read(self) -> str:
        self.gate.wait(20)
        return "late"

    async def hang(self) -> str:
        """What it says of one more read that hangs."""
        with pytest.raises(Unavailable) as trouble:
            await self.worker.call(self.read, 0.02)
        assert trouble.value.state is SourceState.HUNG and trouble.value.hint
        return trouble.value.reason

    @property
    def threads(self) -> int:
        return sum(thread.name.endswith(self._name) for thread in threading.enumerate())

    async def let_go(self, left: int) -> None:
        self.gate.set()
        for _ in range(200):
            if self.threads <= left:
                break
            await asyncio.sleep(0.01)
        assert self.threads == left


async def test_a_stuck_thread_is_abandoned_and_its_late_result_is_nobodys() -> None:
    stuck = Stuck()
    assert "no answer" in await stuck.hang()
    stuck.now = PATIENCE - 1
    assert "not come back" in await stuck.hang() and stuck.threads == 1
    stuck.now = PATIENCE
    assert await stuck.worker.call(lambda: "fresh", 5) == "fresh" and stuck.threads == 2
    later = asyncio.create_task(stuck.worker.call(lambda: time.sleep(0.1) or "mine", 5))
    await stuck.let_go(1)  # the abandoned one ends, the fresh one serves
    assert await later == "mine"


async def test_one_more_thread_each_time_later_and_never_too_many() -> None:
    stuck, begun = Stuck(), []
    while stuck.now < 7200:
        before = stuck.threads
        reason = await stuck.hang()
        if stuck.threads > before:
            begun.append(stuck.now)
        stuck.now += 30
    gaps = [later - sooner for sooner, later in pairwise(begun)]
    assert gaps == [30, 60, 120, 240, 480, 600, 600, 600]
    assert stuck.threads == MOST_ABANDONED + 1 and "not asked any more" in reason
    await stuck.let_go(1)  # the driver has come to itself after all
    assert await stuck.worker.call(lambda: "alive", 5) == "alive"


async def test_a_crew_goes_in_one_hop() -> None:
    crew = Crew("test")
    workers = [Worker(name, crew=crew) for name in "abc"]
    for _ in range(3):
        seen = await asyncio.gather(*(worker.call(threading.get_ident, 5) for worker in workers))
        assert len(set(seen)) == 1 and seen[0] != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await asyncio.gather(workers[0].call(lambda: 1 // 0, 5), workers[1].call(lambda: 1, 5))


async def test_who_is_stuck_parts_from_its_crew_and_comes_back() -> None:
    """The others answer in that very turn, whether they stood before or behind it."""
    crew, gate = Crew("test"), threading.Event()
    before, stuck, behind = (Worker(name, crew=crew) for name in "abc")
    for _ in range(2):
        began = time.monotonic()
        one, hung, other = await asyncio.gather(
            before.call(threading.get_ident, 5),
            stuck.call(lambda: gate.wait(20), 0.4),
            behind.call(threading.get_ident, 5),
            return_exceptions=True,
        )
        assert isinstance(hung, Unavailable) and hung.state is SourceState.HUNG
        assert isinstance(one, int) and isinstance(other, int) and time.monotonic() - began < 3
    gate.set()
    await asyncio.sleep(0.05)
    for _ in range(2):  # with a thread of its own once more, and then with theirs
        seen = await asyncio.gather(*(one.call(threading.get_ident, 5) for one in (before, stuck, behind)))
    assert len(set(seen)) == 1


async def test_a_crew_is_not_held_up_by_a_call_that_nobody_waits_for() -> None:
    crew, gate = Crew("test"), threading.Event()
    stuck, other = Worker("a", crew=crew), Worker("b", crew=crew)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stuck.call(lambda: gate.wait(20), 5), 0.05)
    with pytest.raises(Unavailable, match="not come back"):  # and no second one is sent after it
        await stuck.call(lambda: None, 5)
    assert await other.call(lambda: "alive", 5) == "alive"
    gate.set()
