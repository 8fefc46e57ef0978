"""A read that hangs costs its own panel and nothing else."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from halotui.hosts.local import LocalHost
from halotui.model import SourceState, Unavailable
from halotui.sampler.clock import Clock
from halotui.sampler.gpu import GpuSource
from halotui.sampler.worker import Worker
from sysfs_tree import build


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


async def test_a_gpu_that_hangs_keeps_its_numbers_with_their_age(tmp_path: Path) -> None:
    device = build(tmp_path)
    now = [100.0]
    source = GpuSource(LocalHost(tmp_path), "auto", Clock(monotonic=lambda: now[0], wall=lambda: now[0]))
    (gpu,) = await source.read()
    assert gpu.busy_percent == 97 and source.source().state is SourceState.OK
    busy = device / "gpu_busy_percent"
    busy.unlink()
    os.mkfifo(busy)
    now[0] += 2
    assert await source.read() == (gpu,)
    told = source.source()
    assert told.state is SourceState.HUNG and told.age_seconds == pytest.approx(2)
    await asyncio.to_thread(busy.write_text, "12\n")
    busy.unlink()
    busy.write_text("12\n")
    await asyncio.sleep(0.1)
    (gpu,) = await source.read()
    assert gpu.busy_percent == 12 and source.source().state is SourceState.OK
    await source.close()


async def test_no_gpu_is_said_not_tried_every_tick(tmp_path: Path) -> None:
    source = GpuSource(LocalHost(tmp_path), "sysfs", Clock())
    assert await source.read() == ()
    told = source.source()
    assert told.state is SourceState.ABSENT and told.reason and told.hint
    await source.close()
