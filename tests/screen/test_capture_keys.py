"""``P`` and ``m``, pressed: what the recorder is asked, and what is seen."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from fake_recorder import MARKS, SUMMARY, FakeRecorder
from msgspec.structs import replace
from pilots import Fingers
from textual.pilot import Pilot
from textual.widgets import Input, Static

from builders import frame, server
from halotui.app import HalotuiApp
from halotui.history import History
from halotui.keymap import KEYS, RECORDER
from halotui.model import Frame
from halotui.runs import Capturing, Kind, Run, Status, StoreError
from halotui.screens.captured import Captured, energy, markdown, sheet
from halotui.screens.popup import plain
from halotui.screens.prompt import Prompt
from halotui.widgets import capture_line
from halotui.widgets.rows import width_of


class Ticking:
    """A Feed whose frames come when they are asked for."""

    def __init__(self, picture: Frame) -> None:
        self.history, self.interval, self._picture = History(), 1.0, picture
        self.tick = asyncio.Event()
        self.closed = False

    async def frames(self) -> AsyncIterator[Frame]:
        while True:
            yield self._picture
            await self.tick.wait()
            self.tick.clear()

    async def close(self) -> None:
        self.closed = True


class Hand(Fingers):
    def __init__(self, app: HalotuiApp, pilot: Pilot[int], feed: Ticking) -> None:
        super().__init__(app, pilot)
        self.feed = feed

    async def see(self, kind: type[Any]) -> Any:
        return await self.until(lambda: self.app.screen if isinstance(self.app.screen, kind) else None)

    async def tick(self) -> None:
        self.feed.tick.set()
        await self.pilot.pause(0.02)

    @property
    def strip(self) -> str:
        """The line above the foot."""
        return self.app.canvas.text().splitlines()[-2]

    @property
    def foot(self) -> str:
        return self.app.canvas.text().splitlines()[-1]

    @property
    def text(self) -> str:
        return "\n".join(str(static.render()) for static in self.app.screen.query(Static))


Open = Callable[..., AbstractAsyncContextManager[Hand]]


@pytest.fixture
def cockpit() -> Open:
    @asynccontextmanager
    async def opened(
        recorder: FakeRecorder | None, size: tuple[int, int] = (100, 30), **more: Any
    ) -> AsyncIterator[Hand]:
        feed = Ticking(frame(servers=[server(pid=4711, model="models/tiny.gguf")]))

        async def open_feed() -> Any:
            return feed

        app = HalotuiApp(open_feed, recorder=recorder.open if recorder is not None else None, **more)
        async with app.run_test(size=size) as pilot:
            hand = Hand(app, pilot, feed)
            await hand.until(lambda: app.view.frame is not None)
            yield hand
        await app.close_feed()
        assert feed.closed

    return opened


async def test_p_begins_and_ends_a_capture(cockpit: Open) -> None:
    recorder = FakeRecorder()
    async with cockpit(recorder) as hand:
        assert "peak 00" not in hand.app.canvas.text() and not recorder.opened
        await hand.press("P")
        await hand.until(lambda: "● peak 00:01:23" in hand.strip)
        assert "GTT 61.2 GiB Δ+4.10" in hand.strip and "RAM 9.80 GiB Δ+717 MiB" in hand.strip
        assert "quit" in hand.foot
        assert re.fullmatch(r"tiny\.gguf \d\d:\d\d:\d\d", recorder.labels[0])
        await hand.press("P")
        await hand.see(Captured)
        for words in ("GTT", "61.2 GiB", "+4.10 GiB", "00:00:41", "1.95 Wh", "spl +1200", "runs show 12"):
            assert words in hand.text
        await hand.press("escape")
        await hand.until(lambda: len(hand.app.screen_stack) == 1)
        assert "peak 00" not in hand.app.canvas.text()
        await hand.press("P")  # another one
        await hand.until(lambda: len(recorder.labels) == 2)
        assert recorder.opened == 1


async def test_who_quits_while_it_starts_leaves_nothing_behind() -> None:
    class Slow(FakeRecorder):
        begun, go = asyncio.Event(), asyncio.Event()

        async def start(self, label: str) -> None:
            self.begun.set()
            await self.go.wait()
            await super().start(label)

        async def close(self) -> None:
            assert self._now is not None, "it was closed before it had begun, and then begins"
            await super().close()

    recorder, feed = Slow(), Ticking(frame())

    async def open_feed() -> Any:
        return feed

    app = HalotuiApp(open_feed, recorder=recorder.open)
    async with app.run_test() as pilot:
        await pilot.press("P")
        await asyncio.wait_for(recorder.begun.wait(), 5)
        await pilot.press("q")
    closing = asyncio.ensure_future(app.close_feed())
    await asyncio.sleep(0.05)
    assert not closing.done()
    recorder.go.set()
    await asyncio.wait_for(closing, 5)
    assert recorder.labels and recorder.closed == 1 and feed.closed


async def test_other_keys_are_named_as_they_are(cockpit: Open) -> None:
    keys = {"peak": "K", "mark": "circumflex_accent", "quit": "ctrl+q"}
    async with cockpit(FakeRecorder(), size=(140, 30), keys=keys) as hand:
        for words in (" ^q quit ", " K peak ", " ^ mark ", " ? help "):
            assert words in f" {hand.foot}"
        await hand.press("P", "m")
        assert "peak 00" not in hand.app.canvas.text() and len(hand.app.screen_stack) == 1
        await hand.press("K")
        await hand.until(lambda: "K ends it" in hand.strip)
        tips = {one.title: one.help for one in hand.app.get_system_commands(hand.app.screen)}
        assert "(K)" in tips["Peak capture"]
        await hand.press("question_mark")
        await hand.until(lambda: " K " in hand.text)
        assert " ^ " in hand.text and " P " not in hand.text


async def test_the_line_moves_with_the_frames_alone(cockpit: Open) -> None:
    recorder = FakeRecorder()
    async with cockpit(recorder) as hand:
        await hand.press("P")
        await hand.until(lambda: "00:01:23" in hand.strip)
        recorder._now = replace(recorder._now, summary=replace(SUMMARY, seconds=90))  # type: ignore[type-var]
        await hand.pilot.pause(0.3)
        assert "00:01:23" in hand.strip
        await hand.tick()
        await hand.until(lambda: "00:01:30" in hand.strip)


async def test_m_marks_with_a_name_or_a_number(cockpit: Open) -> None:
    recorder = FakeRecorder()
    async with cockpit(recorder) as hand:
        await hand.press("P")
        await hand.until(lambda: "00:01:23" in hand.strip)
        await hand.press("m")
        await hand.see(Prompt)
        assert "mark 1" in hand.app.screen.query_one(Input).placeholder
        await hand.press(*"[/b]", "enter")
        await hand.until(lambda: recorder.marked)
        await hand.press("m")
        await hand.see(Prompt)
        await hand.press("enter")
        await hand.until(lambda: len(recorder.marked) == 2)
        assert [mark.label for mark in recorder.marked] == ["[/b]", "mark 2"]
        await hand.until(lambda: "✚ mark 2" in hand.said and "[/b]" in hand.said)
        await hand.tick()
        await hand.until(lambda: "✚2" in hand.strip)
        await hand.press("m", "escape")
        assert len(recorder.marked) == 2


async def test_m_marks_the_flight_recorder_without_a_capture(cockpit: Open) -> None:
    recorder = FakeRecorder()
    async with cockpit(recorder) as hand:
        for name in ("mark 1", "mark 2"):
            await hand.press("m")
            await hand.see(Prompt)
            await hand.press("enter")
            await hand.until(lambda name=name: recorder.marked and recorder.marked[-1].label == name)
        assert recorder.now() is None and "● peak" not in hand.app.canvas.text()


async def test_quitting_ends_a_capture(cockpit: Open) -> None:
    recorder = FakeRecorder()
    async with cockpit(recorder) as hand:
        await hand.press("P")
        await hand.until(lambda: "00:01:23" in hand.strip)
        await hand.press("q")
    assert recorder.closed == 1 and recorder.now() is None


async def test_a_recorder_that_cannot_close_keeps_nothing_else_open(
    cockpit: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stuck(FakeRecorder):
        async def close(self) -> None:
            raise StoreError("the disk \x1b[31mis full")

    async with cockpit(Stuck()) as hand:  # which looks whether the feed was closed
        await hand.press("P")
        await hand.until(lambda: "00:01:23" in hand.strip)
    assert "halotui: the capture: the disk is full" in capsys.readouterr().err.replace("\\x1b[31m", "")


async def test_why_it_cannot_start(cockpit: Open) -> None:
    recorder = FakeRecorder(StoreError("the store is newer than this halotui", "update it"))
    async with cockpit(recorder) as hand:
        await hand.press("P")
        await hand.until(lambda: "newer than this halotui\nupdate it" in hand.said)
        assert "● peak" not in hand.app.canvas.text()
        recorder.trouble = None
        await hand.press("P")
        await hand.until(lambda: "● peak" in hand.strip)


async def test_a_recorder_that_does_not_open_is_tried_anew(cockpit: Open) -> None:
    class Broken(FakeRecorder):
        async def open(self) -> FakeRecorder:
            self.opened += 1
            if self.opened < 2:
                raise OSError("no state [/directory]")
            return self

    async with cockpit(Broken()) as hand:
        await hand.press("P")
        await hand.until(lambda: "no state [/directory]" in hand.said)
        await hand.press("P")
        await hand.until(lambda: "● peak" in hand.strip)


async def test_what_is_not_stored_says_so(cockpit: Open) -> None:
    async with cockpit(FakeRecorder(stored=False)) as hand:
        await hand.press("P")
        await hand.until(lambda: "not stored" in hand.strip)
        await hand.press("P")
        await hand.see(Captured)
        assert "stored    no" in hand.text and "read-only file system" in hand.text
        assert "runs show" not in hand.text


async def test_a_second_p_does_not_overtake_the_first(cockpit: Open) -> None:
    class Slow(FakeRecorder):
        async def start(self, label: str) -> None:
            await asyncio.sleep(0.2)
            await super().start(label)

    recorder = Slow()
    async with cockpit(recorder) as hand:
        await hand.press("P", "P", "P")
        await hand.until(lambda: "● peak" in hand.strip)
        assert len(recorder.labels) == 1 and len(hand.app.screen_stack) == 1


async def test_y_copies_markdown(cockpit: Open) -> None:
    async with cockpit(FakeRecorder()) as hand:
        await hand.press("P")
        await hand.until(lambda: "● peak" in hand.strip)
        await hand.press("P")
        await hand.see(Captured)
        await hand.press("y")
        await hand.until(lambda: "copied" in hand.said)
        assert "| GTT | 57.1 GiB | 61.2 GiB | +4.10 GiB | +205 MiB | 00:00:41 |" in hand.app.clipboard


async def test_without_a_recorder_its_keys_are_gone(cockpit: Open) -> None:
    async with cockpit(None, size=(200, 60)) as hand:
        await hand.press("P", "m")
        assert len(hand.app.screen_stack) == 1 and not hand.said
        assert "peak" not in hand.foot and "mark" not in hand.foot
        names = {command.title for command in hand.app.get_system_commands(hand.app.screen)}
        assert not names & {key.name for key in KEYS if key.needs == RECORDER}
        await hand.press("question_mark")
        assert "Capture peak" not in hand.text
    async with cockpit(FakeRecorder(), size=(200, 60)) as hand:
        assert "P peak" in hand.foot and "m mark" in hand.foot
        names = {command.title for command in hand.app.get_system_commands(hand.app.screen)}
        assert {"Peak capture", "Mark"} <= names
        await hand.press("question_mark")
        assert "Capture peak" in hand.text


async def test_trouble_of_the_flight_recorder_is_said_once(cockpit: Open) -> None:
    trouble: list[str | None] = [None]
    async with cockpit(None, recorder_trouble=lambda: trouble[0]) as hand:
        await hand.tick()
        assert not hand.said
        trouble[0] = "the disk is full [/b]"
        for _ in range(3):
            await hand.tick()
        await hand.until(lambda: hand.said == trouble[0])
        trouble[0] = None
        await hand.tick()
        trouble[0] = "read-only"
        await hand.tick()
        await hand.until(lambda: "read-only" in hand.said)


# --- the words


RUN = Run(
    id=3,
    kind=Kind.PEAK,
    status=Status.OK,
    label="a",
    started_time=1.0,
    seconds=83.4,
    summary=SUMMARY,
    marks=MARKS,
)


@pytest.mark.parametrize("width", [48, 52, 60, 94])
def test_the_table_keeps_to_its_width(width: int) -> None:
    lines = plain(sheet(RUN, width)).splitlines()
    assert max(map(width_of, lines)) <= max(width, 50)
    head = next(line for line in lines if "baseline" in line)
    rows = lines[lines.index(head) + 1 :][:7]
    assert [row.split()[0] for row in rows] == ["GTT", "VRAM", "RAM", "swap", "package", "GPU", "sclk"]
    assert {width_of(row) for row in rows} == {width_of(head)}


def test_what_is_unknown_is_a_dash() -> None:
    bare = replace(RUN, summary=replace(SUMMARY, energy_joules=None, throttled={}), marks=())
    words = plain(sheet(bare))
    assert "energy    –" in words and "throttled –" in words
    assert "mclk" not in words  # never read
    assert energy(100.0, 10.0) == "100 J, 10.0 W on average"
    calm = replace(RUN, summary=replace(SUMMARY, throttled={"spl": 0}))
    assert "throttled no" in plain(sheet(calm))


def test_foreign_words_are_harmless() -> None:
    for words in (plain(sheet(RUN)), markdown(RUN)):
        assert "\x1b" not in words and "long prompt" in words


def test_two_gpus_are_told_apart() -> None:
    first = SUMMARY.tracks[2]
    words = markdown(replace(RUN, summary=replace(SUMMARY, tracks=(first, replace(first, subject="b")))))
    assert "| GTT 1 |" in words and "| GTT 2 |" in words


@pytest.mark.parametrize("width", [60, 72, 80, 120])
def test_the_line_is_as_wide_as_the_screen(width: int) -> None:
    (row,) = capture_line.rows(Capturing(label="a", summary=SUMMARY, marks=MARKS), width)
    text = "".join(run.text for run in row)
    assert width_of(text) == width
    assert "GTT 61.2 GiB Δ+4.10" in text and "✚2" in text
    assert ("P ends it" in text) == (width >= 120)


def test_one_gpu_that_is_not_read_is_a_dash() -> None:
    unknown = replace(SUMMARY, tracks=(replace(SUMMARY.tracks[2], peak=None, baseline=None),))
    (row,) = capture_line.rows(Capturing(label="a", summary=unknown), 80)
    assert "GTT –" in "".join(run.text for run in row)


def test_differences_have_their_sign_and_a_unit_when_it_is_another() -> None:
    assert capture_line.plus(4.1 * 2**30, "61.2 GiB") == "+4.10"
    assert capture_line.plus(-3 * 2**20, "455 MiB") == "-3.00"
    assert capture_line.plus(512 * 2**20, "61.2 GiB") == "+512 MiB"
    assert capture_line.clock(3723) == "01:02:03"
    assert time.strftime("%H:%M:%S", time.gmtime(3723)) == capture_line.clock(3723)
