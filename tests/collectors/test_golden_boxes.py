"""Every kind of box through the real sampler, against the frame that was found right.

Rewrite them all with ``HALOTUI_GOLDEN=update .venv/bin/pytest tests/collectors/test_golden_boxes.py``, and
read what ``git diff tests/fixtures/boxes`` shows: each line is a number that an owner of such a box sees.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from box_trees import KINDS, frames
from halotui.model import Frame, KernelEvent
from halotui.sampler import gpu, holders, system

GOLDEN = Path(__file__).parents[1] / "fixtures/boxes"
PASSING = frozenset(  # what is not of the box: when, how long, and who runs the tests
    (
        "host",
        "time",
        "since_time",
        "age_seconds",
        "duration_seconds",
        "started_time",
        "user",
        "schema_version",
    )
)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_box_as_it_was_found_right(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for module in (gpu, holders, system):
        monkeypatch.setattr(module, "DEADLINE", 30.0)
    told = lasting(await last_frame(kind, tmp_path), str(tmp_path))
    assert_adds_up(told)
    golden = GOLDEN / f"{kind}.json"
    if os.environ.get("HALOTUI_GOLDEN") == "update":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    assert told == json.loads(golden.read_text())


async def last_frame(kind: str, root: Path) -> Frame:
    """Of three, a second apart; with the kernel's events of all."""
    events: list[KernelEvent] = []
    async for frame in frames(root, kind):
        events += frame.kernel
    return replace(frame, kernel=tuple(events))


def assert_adds_up(told: Any) -> None:
    """Whoever rewrites a golden frame cannot make a wrong account the right one."""
    account = told["account"]
    parts = ("carve_out_bytes", "gtt_bytes", "other_bytes", "free_bytes")
    assert sum(account.get(part, 0) for part in parts) == account["total_bytes"]
    for card in told.get("gpus", ()):
        assert all(card.get(field) is not None for field in card["provenance"])
        numbers = {field for field, value in card.items() if type(value) in (int, float)}
        assert numbers <= set(card["provenance"]), "a number that does not say where it came from"


def lasting(frame: Frame, root: str) -> Any:
    """The frame as JSON, without what differs from run to run."""
    return _without(json.loads(msgspec.json.encode(frame).decode().replace(root, "ROOT")))


def _without(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without(value) for key, value in node.items() if key not in PASSING}
    return [_without(one) for one in node] if isinstance(node, list) else node
