"""Fifty relaunches in a row, with the real server."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from stage import Stage

from halotui.actions import Step
from halotui.servers.launch import Expect


def is_corpse(pid: int) -> bool:
    """A server that has ended and that nobody has buried; a pid may have a new owner by now."""
    try:
        head, _, tail = Path("/proc", str(pid), "stat").read_text().rpartition(")")
    except OSError:
        return False
    return "llama-server" in head and tail.split()[0] == "Z"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_fifty_in_a_row(stage: Stage) -> None:
    """One server, no corpse, no second listener, nothing left in the state directory but the last word."""
    stage.serve("-np", "1")
    before = stage.before()
    seen: list[int] = []
    for turn in range(50):
        after = stage.launch("-np", str(1 + turn % 3), name=f"turn-{turn}", expect=Expect(slots=1 + turn % 3))
        outcome = stage.worker(stage.plan(after, before).id).end()
        assert outcome.step is Step.KEPT, outcome
        seen.append(before.who.pid)
        before = stage.standing(outcome.pid, after)
    assert stage.serving()["total_slots"] == 2
    assert stage.only() == outcome.pid
    assert stage.brood.pids() == [outcome.pid]
    deadline = time.monotonic() + 20  # init buries them, in its own time
    while corpses := [pid for pid in seen if is_corpse(pid)]:
        assert time.monotonic() < deadline, corpses
        time.sleep(0.2)
    assert sorted(path.name for path in stage.book.directory.iterdir()) == [
        "changed.json",
        "last.json",
        "lock",
    ]
