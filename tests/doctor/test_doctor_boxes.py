"""The doctor on whole boxes as trees of files, through the real sampler and its own looks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import builders
from box_trees import KINDS, frames, host
from halotui.actions import Verdict
from halotui.doctor.examine import lines
from halotui.doctor.lines import Line, Section
from halotui.doctor.look import _person, look
from halotui.doctor.nursing import _logout
from halotui.doctor.standing import standing
from halotui.history import History
from halotui.hosts.local import LocalHost
from halotui.hosts.local_hands import LocalHands

# What is to be said of each kind; nothing must be fixed on any.
WORTH = {
    "128-512m": set[str](),
    "96-carve-out": {"carve-out", "kernel-old"},
    "64": {"kernel-old"},
    "dgpu-and-apu": set[str](),
}


async def audited(root: Path, kind: str, without: Sequence[str] = ()) -> dict[str, Line]:
    """The lines by their ids; ``without`` these files, which the tree has."""
    history, seen = History(), []
    async for frame in frames(root, kind, ticks=2):
        history.push(frame)
        seen.append(frame)
    for name in without:
        (root / name).unlink()
    sighted = await look(host(root), LocalHands(), seen[-1])
    return {line.id: line for line in lines(sighted, standing(seen, history))}


@pytest.mark.parametrize("kind", KINDS)
async def test_no_kind_of_box_has_to_be_fixed(tmp_path: Path, kind: str) -> None:
    found = await audited(tmp_path, kind)
    assert not [line for line in found.values() if line.verdict is Verdict.FAIL]
    if kind in WORTH:
        assert {id_ for id_, line in found.items() if line.verdict is Verdict.WARN} == WORTH[kind]
        if kind == "96-carve-out":  # once it is small, its memory is RAM
            assert f"ttm.pages_limit={120 * 262144}" in found["carve-out"].commands[0]
        assert found["kfd"].verdict is found["render-node"].verdict is Verdict.OK
    else:
        assert found["machine"].verdict is Verdict.UNKNOWN
        assert {line.section for line in found.values()} <= {Section.BOX, Section.MEMORY}


async def test_a_box_with_everything_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    well = KINDS["128-512m"]
    assert well.integrated is not None
    files = well.integrated.files | {"fw_version/mes_fw_version": "0x00000083"}
    short = {"cmdline": "ro ttm.pages_limit=3145728", "modules": {"ttm.pages_limit": "3145728"}}
    gpu = replace(well.integrated, gtt_total=12 << 30, gtt_used=1 << 30, files=files)
    broken = replace(well, kernel="6.14.0-1", integrated=gpu, tenant=None, **short)
    monkeypatch.setitem(KINDS, "broken", broken)
    found = await audited(tmp_path, "broken", ["dev/kfd"])
    must = {id_ for id_, line in found.items() if line.verdict is Verdict.FAIL}
    assert must == {"kernel-old", "fw-bad", "gtt-size", "kfd"}
    assert all(found[id_].commands for id_ in must)
    assert "grubby" in found["gtt-size"].commands[0]


async def test_a_tree_without_devices_says_so(tmp_path: Path) -> None:
    found = await audited(tmp_path, "128-512m", ["dev/kfd", "dev/dri/renderD129"])
    assert found["nodes"].verdict is Verdict.UNKNOWN


async def test_the_process_of_a_server_tells_its_libraries_and_what_is_no_server_is_said_to_be_none() -> None:
    child = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        frame = builders.frame(servers=[builders.server(pid=child.pid)])
        (seen,) = (await look(LocalHost(), LocalHands(), frame)).servers
    finally:
        child.kill()
        await child.wait()
    assert seen.linked is not None and seen.refusal
    assert (Path(seen.linked.path).name, seen.linked.missing) in (("sleep", {}), ("coreutils", {}))
    assert "libc.so.6" in seen.linked.found


def test_a_user_without_a_name_has_no_lingering_and_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that is run with --user."""
    monkeypatch.setattr("os.geteuid", lambda: 54_321_987)
    assert _logout(LocalHost(), "").lingers is None
    assert (person := _person(LocalHost())) and person.name == "54321987"
