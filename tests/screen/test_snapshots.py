"""The screen, picture by picture, on scripted scenes.

A change that is meant: ``pytest tests/screen --snapshot-update``, and look at the pictures before you
commit them. One that is not: the failure shows both screens as text, ``snapshot_report.html`` side by side.
"""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import fake_desk
import pytest
from fake_desk import ASKS, CHECKS, CUT, FAILED, LOST, ROLLED_BACK, FakeDesk
from textual.pilot import Pilot

from halotui.app import HalotuiApp
from halotui.demo.scene import Scene
from halotui.feed import Feed
from halotui.sampler import gpu
from halotui.shots import SHADES, Shot, stage, svg

KEPT = Path(__file__).parent / "__snapshots__" / "test_snapshots"
TEXT = re.compile(r'<text class="terminal-[\d-]*r\d+" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>')
CELL = 12.2


class Case(NamedTuple):
    width: int
    height: int
    keys: tuple[str, ...] = ()
    scene: dict[str, Any] = {}  # noqa: RUF012 - never changed
    desk: dict[str, Any] | None = None  # where servers may be changed


CASES = {
    "80x24": Case(80, 24),
    "120x40": Case(120, 40),
    "200x60": Case(200, 60),
    "finding-80x24": Case(80, 24, scene={"fault": "spec-decay"}),
    "memory-120x40": Case(120, 40, scene={"fault": "gtt-pressure"}),
    "hang-120x40": Case(120, 40, scene={"fault": "gpu-fault"}),
    "bare-80x24": Case(80, 24, scene={"bare": True}),
    "help-120x40": Case(120, 40, keys=("question_mark",)),
    "explain-finding-120x40": Case(120, 40, keys=("e",), scene={"fault": "spec-decay"}),
    "explain-field-80x24": Case(80, 24, keys=("down", "e")),
    "sources-120x40": Case(120, 40, keys=("3",)),
    "acting-80x24": Case(80, 24, desk={}),
    "acting-help-120x40": Case(120, 40, keys=("question_mark",), desk={}),
    "explain-cure-80x24": Case(80, 24, keys=("e",), scene={"fault": "spec-decay"}, desk={}),
}
SIZES = {"60x16": (60, 16), "80x24": (80, 24), "120x40": (120, 40)}
DO = ("b", "enter")
POPUPS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {  # keys, and what the desk says
    "launcher": (("r",), {}),
    "launcher-form": (("r", "enter", "down", "down", "right"), {}),
    "launcher-profile": (("r", "down", "down", "down"), {}),
    "check": (("b",), {}),
    "check-failed": (("b",), {"checks": (*CHECKS, FAILED)}),
    "under-way": (DO, {}),
    "under-way-asks": (DO, {"told": ASKS}),
    "hidden": ((*DO, "escape"), {}),
    "kept": (DO, {"end": fake_desk.KEPT}),
    "rolled-back": (DO, {"end": ROLLED_BACK}),
    "lost": (DO, {"end": LOST}),
    "cut-off": ((), {"standing": (CUT,)}),
}
CASES |= {
    f"{name}-{size}": Case(*SIZES[size], keys=keys, desk=desk, scene={"seconds": 20})
    for name, (keys, desk) in POPUPS.items()
    for size in SIZES
    if size != "60x16" or name in ("launcher-form", "check", "under-way-asks", "kept")
}


def acting(scene: Scene, desk: FakeDesk) -> HalotuiApp:
    """The application where servers may be changed."""

    async def open_feed() -> Feed:
        return scene

    return HalotuiApp(open_feed, desk=desk.open, unfinished=Path(__file__))


async def settled(pilot: Pilot[int]) -> None:
    """What a key opens comes by and by: until two looks are the same."""
    before, now = "", pilot.app.export_screenshot()
    while before != now or "checking…" in now or "looking…" in now:
        await pilot.pause(0.1)
        before, now = now, pilot.app.export_screenshot()


@pytest.mark.parametrize("name", CASES)
def test_screen(name: str, snap_compare: Callable[..., bool], monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(gpu, "DEADLINE", 2.0)  # a busy machine is not a hung GPU
    scene = Scene(**case.scene)
    desk = FakeDesk(**case.desk) if case.desk is not None else None
    app = stage(scene) if desk is None else acting(scene, desk)
    drawn = ""

    async def wait(pilot: Pilot[int]) -> None:
        nonlocal drawn
        await scene.shown.wait()
        if desk is not None:
            await settled(pilot)
        for key in case.keys:
            await pilot.press(key)
            await pilot.pause()
            if desk is not None:
                await settled(pilot)
        if desk is not None and "end" in (case.desk or {}):
            desk.go.set()
            await settled(pilot)
        drawn = app.export_screenshot()
        await scene.close()

    if not snap_compare(app, terminal_size=(case.width, case.height), run_before=wait):
        pytest.fail(difference(KEPT / f"test_screen[{name}].svg", drawn), pytrace=False)


async def test_the_pictures_of_the_readme_need_no_font_for_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(gpu, "DEADLINE", 2.0)
    drawn = await svg(Shot("small", 80, 24))
    assert "Qwen3.5" in drawn and 'class="small-r' in drawn
    assert not [letter for letter in drawn if letter in SHADES or "\u2800" < letter <= "\u28ff"]
    assert "M" in drawn and "h0" in drawn  # dots


def difference(kept: Path, drawn: str) -> str:
    """Both screens as text, line against line."""
    if not kept.exists():
        return f"no picture is kept: pytest tests/screen --snapshot-update\n{_text(drawn)}"
    before, now = _text(kept.read_text(encoding="utf-8")), _text(drawn)
    lines = difflib.unified_diff(before.splitlines(), now.splitlines(), "kept", "drawn", lineterm="", n=0)
    return "\n".join(lines) or "the words are the same, colours differ: see snapshot_report.html"


def _text(drawn: str) -> str:
    """What an SVG of Rich's says."""
    rows: dict[float, str] = {}
    for x, y, words in TEXT.findall(drawn):
        row = rows.setdefault(float(y), "")
        rows[float(y)] = row.ljust(round(float(x) / CELL)) + html.unescape(words).strip("\n")
    return "\n".join(rows[y].replace("\xa0", " ").rstrip() for y in sorted(rows))
