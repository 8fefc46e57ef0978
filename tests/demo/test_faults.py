"""Each fault of the demo raises the rule that it is named after, and no other."""

from __future__ import annotations

import asyncio
import time

import pytest

from halotui.commands.cockpit import Demo
from halotui.commands.places import this_box
from halotui.config import Settings
from halotui.demo import FAULTS
from halotui.demo.faults import TABLE

PATIENCE = 90.0  # seconds for a fault to show on a machine that does much else
SOON = 5.0  # seconds from the first evidence to the finding
AT_ONCE = 4  # boxes
LOOKS_ON = 3.0  # seconds after the first finding: what else comes?


def test_every_fault_is_made() -> None:
    assert list(TABLE) == [None, *FAULTS]


@pytest.mark.parametrize("some", [FAULTS[at : at + AT_ONCE] for at in range(0, len(FAULTS), AT_ONCE)])
async def test_a_fault_raises_itself_alone(some: tuple[str, ...]) -> None:
    """Several boxes at once: each mostly waits."""
    found = await asyncio.gather(*map(raised, some))
    assert [list(ids) for ids in found] == [[fault] for fault in some], found


async def raised(fault: str) -> dict[str, str]:
    """What is found on such a box, until a while after the first finding: id -> evidence."""
    feed = await Demo(this_box(Settings(), {"fault": fault})).look(False)
    found: dict[str, str] = {}
    end = time.monotonic() + PATIENCE
    try:
        async for frame in feed.frames():
            new = {finding.id: finding.evidence for finding in frame.findings}
            if new and not found:
                end = time.monotonic() + LOOKS_ON
                assert frame.time - (frame.findings[0].since_time or 0) <= SOON
            found |= new
            if time.monotonic() > end:
                break
    finally:
        await feed.close()
    return found


async def test_a_healthy_box_is_silent() -> None:
    """For a while; ten minutes of it: ``python bench/quiet.py``."""
    feed = await Demo(this_box(Settings(), {})).look(False)
    found: dict[str, str] = {}
    try:
        async with asyncio.timeout(90):
            count = 0
            async for frame in feed.frames():
                found |= {finding.id: finding.evidence for finding in frame.findings}
                count += 1
                if count == 12:
                    break
    finally:
        await feed.close()
    assert not found
