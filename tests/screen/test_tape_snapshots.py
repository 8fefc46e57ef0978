"""Captures and recordings, picture by picture. See ``test_snapshots`` for how to renew them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fake_player import EVENTS, FakePlayer
from fake_recorder import FakeRecorder
from test_snapshots import difference, settled
from textual.pilot import Pilot

from halotui.app import HalotuiApp
from halotui.demo.scene import Scene
from halotui.feed import Feed
from halotui.history import History
from halotui.model import Frame
from halotui.sampler import gpu
from halotui.themes import DEFAULT

KEPT = Path(__file__).parent / "__snapshots__" / "test_tape_snapshots"
SIZES = {"60x16": (60, 16), "80x24": (80, 24), "120x40": (120, 40), "200x60": (200, 60)}


class Case(NamedTuple):
    width: int
    height: int
    keys: tuple[str, ...] = ()
    at: int | None = None  # the frame of a recording to begin at; None: a capture
    recorder: dict[str, Any] = {}  # noqa: RUF012 - never changed
    theme: str = DEFAULT
    color: bool = True


# keys, frame, recorder
SCREENS: dict[str, tuple[tuple[str, ...], int | None, dict[str, Any]]] = {
    "capturing": (("P",), None, {}),
    "captured": (("P", "P"), None, {}),
    "replay": ((), 100, {}),
}
CASES = {
    f"{name}-{size}": Case(*SIZES[size], keys=keys, at=at, recorder=recorder)
    for name, (keys, at, recorder) in SCREENS.items()
    for size in SIZES
}
CASES |= {
    f"{name}-{theme}": Case(80, 24, keys=keys, at=at, recorder=recorder, theme=theme)
    for name, (keys, at, recorder) in SCREENS.items()
    for theme in ("halo-light", "high-contrast", "colour-blind")
}
CASES |= {
    f"{name}-no-colour": Case(80, 24, keys=keys, at=at, recorder=recorder, color=False)
    for name, (keys, at, recorder) in SCREENS.items()
}
CASES |= {
    "marking": Case(80, 24, keys=("P", "m")),
    "unkept": Case(80, 24, keys=("P",), recorder={"stored": False}),
    "captured-unkept": Case(80, 24, keys=("P", "P"), recorder={"stored": False}),
    "help": Case(120, 60, keys=("question_mark",)),
    "replay-end": Case(80, 24, keys=("plus",), at=-1),
    "replay-event": Case(80, 24, keys=("n",), at=100),
    "replay-go": Case(80, 24, keys=("g",), at=100),
    "replay-log": Case(80, 24, keys=("2",), at=100),
    "replay-help": Case(120, 60, keys=("question_mark",), at=100),
}


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Of a box whose speculation decays."""

    async def take() -> list[Frame]:
        scene = Scene("spec-decay")
        try:
            return await scene.take()
        finally:
            await scene.close()

    patience, gpu.DEADLINE = gpu.DEADLINE, 2.0  # a busy machine is not a hung GPU
    try:
        return asyncio.run(take())
    finally:
        gpu.DEADLINE = patience


pytestmark = pytest.mark.usefixtures("utc")


class Still:
    """Frames that are of now, as far as anybody can tell: all of them, then none."""

    def __init__(self, frames: list[Frame]) -> None:
        self.history, self.interval, self._frames = History(), 1.0, frames

    async def frames(self) -> AsyncIterator[Frame]:
        for frame in self._frames:
            self.history.push(frame)
            yield frame
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("name", CASES)
def test_picture(
    name: str, frames: list[Frame], snap_compare: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    if case.color:
        monkeypatch.delenv("NO_COLOR", raising=False)
    else:
        monkeypatch.setenv("NO_COLOR", "1")
    recorder = FakeRecorder(label="Qwen3.5-122B-A10B-REAP-20-Q6_K 10:44:43", **case.recorder)

    async def open_feed() -> Feed:
        return Still(frames) if case.at is None else FakePlayer(frames, EVENTS, at=case.at)

    app = HalotuiApp(open_feed, recorder=recorder.open if case.at is None else None, theme=case.theme)
    drawn = ""

    async def press(pilot: Pilot[int]) -> None:
        nonlocal drawn
        while app.view.frame is None or (case.at is None and app.view.frame is not frames[-1]):
            await pilot.pause(0.01)
        await settled(pilot)
        for key in case.keys:
            await pilot.press(key)
            await pilot.pause()
            await settled(pilot)
        drawn = app.export_screenshot()

    if not snap_compare(app, terminal_size=(case.width, case.height), run_before=press):
        pytest.fail(difference(KEPT / f"test_picture[{name}].svg", drawn), pytrace=False)
