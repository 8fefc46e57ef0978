"""False alarms are bugs: all rules, on every kind of box as the real collectors read it, without any hold.

A new rule that fires here is either wrong, or the box deserves it: then say so in ``DESERVED``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from box_trees import KINDS, frames
from builders import server
from halotui.history import History
from halotui.model import Server, ServerState
from halotui.rules import ALL
from halotui.rules.engine import Engine
from halotui.sampler import gpu, holders, system
from rules import matches

DESERVED: Mapping[str, set[str]] = {
    "96-carve-out": {"kernel-old"},  # 6.17.7: info
    "64": {"kernel-old"},  # 6.16.12: info
}

# What is changed of a healthy box, and what that has to raise.
_WELL = KINDS["128-512m"]
_GPU = _WELL.integrated
assert _GPU is not None
_MODULES = _WELL.modules
FAULTS: Mapping[str, tuple[dict[str, Any], set[str]]] = {
    "mes": (
        {"integrated": replace(_GPU, files=_GPU.files | {"fw_version/mes_fw_version": "0x00000083"})},
        {"fw-bad"},
    ),
    "kernel": ({"kernel": "6.14.0-36-generic"}, {"kernel-old"}),
    "digit": (
        {
            "cmdline": "root=/dev/nvme0n1p3 ro ttm.pages_limit=3145728",
            "modules": _MODULES | {"ttm.pages_limit": "3145728"},
            "integrated": replace(_GPU, gtt_total=12 << 30, gtt_used=1 << 30),
            "tenant": None,
        },
        {"gtt-size"},
    ),
    "gttsize": ({"modules": _MODULES | {"amdgpu.gttsize": "126976"}}, {"gtt-size"}),
    "heat": ({"integrated": replace(_GPU, load=_GPU.load | {"temperature_gfx": 9310})}, {"thermal"}),
    "full": ({"available_kib": 1_000_000}, {"gtt-pressure"}),
}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for module in (gpu, holders, system):
        monkeypatch.setattr(module, "DEADLINE", 30.0)


async def fired(root: Path, kind: str, *servers: Server) -> set[str]:
    """What any of three frames, a second apart, raises; with these servers beside it."""
    history, engine = History(), Engine(ALL, hold=False)
    found: set[str] = set()
    async for read in frames(root, kind):
        frame = structs.replace(read, servers=servers)
        history.push(frame)
        for finding in engine.evaluate(frame, history).findings:
            assert matches(finding.id, finding.evidence), (finding.id, finding.evidence)
            found.add(finding.id)
    return found


@pytest.mark.parametrize("kind", KINDS)
async def test_a_box_raises_what_it_deserves_and_no_more(kind: str, tmp_path: Path) -> None:
    assert await fired(tmp_path, kind) == DESERVED.get(kind, set())


@pytest.mark.parametrize("backend", ["vulkan", "rocm", "cpu", None])
@pytest.mark.parametrize("kind", KINDS)
async def test_the_same_beside_a_server_at_work(kind: str, backend: str | None, tmp_path: Path) -> None:
    at_work = server(state=ServerState.BUSY, backend=backend, model="Qwen3-8B", slots_total=1, pid=1)
    assert await fired(tmp_path, kind, at_work) == DESERVED.get(kind, set())


@pytest.mark.parametrize("fault", FAULTS)
async def test_one_fault_raises_one_rule(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, ids = FAULTS[fault]
    monkeypatch.setitem(KINDS, fault, replace(_WELL, **changes))
    assert await fired(tmp_path, fault) == ids
