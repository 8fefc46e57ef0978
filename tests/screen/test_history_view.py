"""The history view: every key pressed on a real past, a slow one and a broken one; and what it looks like.

Pictures: see ``test_snapshots`` for how to renew them.
"""

from __future__ import annotations

import asyncio
import csv
import io
import math
import os
import stat
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree
from typing import Any, NamedTuple

import pytest
from test_snapshots import difference
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from builders import GPU, URL, frame, gpu, memory, server, source
from halotui.app import HalotuiApp
from halotui.feed import Feed
from halotui.fields import BY_ID
from halotui.history import History as Rings
from halotui.model import Finding, Frame, ServerState, Severity
from halotui.recording.file import Writer
from halotui.recording.past import RecordedPast
from halotui.runs import Bucket, Event, Mark, Past
from halotui.screens import history
from halotui.screens.history import History
from halotui.screens.history_chart import axis, breaks, clock_ticks, levels
from halotui.screens.history_fields import Fields
from halotui.screens.history_look import DAY, HOUR
from halotui.themes import DEFAULT
from halotui.widgets.rows import width_of

KEPT = Path(__file__).parent / "__snapshots__" / "test_history_view"
NOW = 1795171320.0  # 2026-11-20 10:42:00 UTC
BEGIN = NOW - 4 * HOUR
SPIKE = NOW - 1500
PACE = 5.0  # seconds between frames
PATIENCE = 30.0  # seconds for what comes at once where nobody else is at work
GTT = "gpu.gtt_used_bytes"


pytestmark = pytest.mark.usefixtures("utc")


def finding(id_: str, severity: Severity, title: str) -> Finding:
    return Finding(id=id_, severity=severity, title=title, evidence="1 of 2", why="because", fix="mend it")


def moment(at: float) -> Frame:
    """Of a box that fills up, drafts badly for ten minutes and hangs once."""
    gone = at - BEGIN
    busy = 50 + 45 * math.sin(gone / 700)
    found = []
    if NOW - 3000 <= at < NOW - 2400:
        found.append(finding("spec-decay", Severity.WARNING, "Speculation drafts far [/b] less"))
    if at == NOW - 900:
        found.append(finding("gpu-hang", Severity.CRITICAL, "GPU hang"))
    return frame(
        at,
        gpus=[gpu(gtt=57 + gone / 4000 + (30 if at == SPIKE else 0), busy_percent=busy)],
        memory=memory(available=50 + 5 * math.sin(gone / 900)),
        servers=[server(state=ServerState.BUSY, generation_tokens_per_second=20 + busy / 10)],
        sources=[source("gpu"), source("memory")],
        findings=found,
    )


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hours in segments of one; nobody recorded from -38 to -33 minutes."""
    directory = tmp_path_factory.mktemp("recorded")
    for hour in range(4):
        begin = BEGIN + hour * HOUR
        path = directory / f"{datetime.fromtimestamp(begin, UTC):%Y%m%dT%H%M%S}.000Z-7.halo"
        writer = Writer(path, session="s")
        for number in range(int(HOUR / PACE)):
            at = begin + number * PACE
            if not NOW - 2280 <= at < NOW - 1980:
                writer.frame(moment(at))
            if at == NOW - 600:
                writer.mark(Mark(time=at, label="long prompt"))
            if number % 20 == 0:
                writer.flush()
        writer.close()
        os.utime(path, (begin + HOUR, begin + HOUR))
    return directory


class Quiet:
    """A feed that says nothing: there is a history all the same."""

    def __init__(self) -> None:
        self.history, self.interval = Rings(), 1.0

    async def frames(self) -> AsyncIterator[Frame]:
        await asyncio.Event().wait()
        yield moment(NOW)

    async def close(self) -> None:
        pass


class View:
    def __init__(self, app: HalotuiApp, pilot: Pilot[int]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def screen(self) -> History:
        (screen,) = (screen for screen in self.app.screen_stack if isinstance(screen, History))
        return screen

    def text(self, part: str) -> str:
        return str(self.screen.query_one(f"#{part}", Static).visual)

    @property
    def events(self) -> list[str]:
        listed = self.screen.query_one(OptionList)
        return [str(listed.get_option_at_index(n).prompt) for n in range(listed.option_count)]

    @property
    def period(self) -> tuple[float, float]:
        """From and to, in seconds before now: of what is drawn."""
        seen = self.screen._seen
        assert seen is not None
        return NOW - seen.look.since, NOW - seen.look.until

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
            await self.settled()

    async def settled(self) -> None:
        """Until what was asked for is what is seen."""

        def done() -> bool:
            screen = self.screen
            return screen._seen is not None and screen._seen.look == screen._look and not screen._note

        await self.until(lambda: not any(isinstance(s, History) for s in self.app.screen_stack) or done())
        await self.pilot.pause()

    async def until(self, wanted: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if found := wanted():
                return found
            await self.pilot.pause(0.01)
        raise AssertionError(f"never came; on {self.app.screen}: {self.said}")

    @property
    def said(self) -> list[str]:
        return [toast.message for toast in self.app._notifications]


@asynccontextmanager
async def looking(
    past: Past | Callable[[], Awaitable[Past]],
    *,
    field: tuple[str, str] | None = None,
    size: tuple[int, int] = (80, 24),
    state: Path | None = None,
    settled: bool = True,
) -> AsyncIterator[View]:
    async def open_feed() -> Feed:
        return Quiet()

    async def open_past() -> Past:
        return past if not callable(past) else await past()

    app = HalotuiApp(open_feed, past=open_past, state_dir=state)
    async with app.run_test(size=size) as pilot:
        app.push_screen(History(open_past, now=lambda: NOW, field=field))
        await pilot.pause()
        view = View(app, pilot)
        if settled:
            await view.settled()
        yield view


async def test_it_opens_on_the_last_hour(recorded: Path) -> None:
    async with looking(RecordedPast(recorded)) as view:
        assert view.period == (3600, 0)
        head = view.text("head")
        assert "GTT" in head and GPU in head and "1 h  09:42 – 10:42" in head
        assert "least 59.7 GiB" in head and "most 90.2 GiB" in head  # the spike of one frame
        chart = view.text("chart")
        assert "90 GiB" in chart or "100 GiB" in chart
        assert "10:00" in chart and "10:30" in chart
        assert [line[:1] for line in view.events] == ["▲", "╌", "✖", "✚"]
        assert "spec-decay: Speculation drafts far [/b] less  9 min" in view.events[0]
        assert all(letter in view.text("axis") for letter in "▲─╌✖✚")


async def test_key_4_opens_it_at_the_cursor_and_back(recorded: Path) -> None:
    async def open_feed() -> Feed:
        return Quiet()

    async def open_past() -> Past:
        return RecordedPast(recorded)

    app = HalotuiApp(open_feed, past=open_past)
    async with app.run_test(size=(80, 24)) as pilot:
        for back in ("escape", "q", "4"):
            await pilot.press("4")
            assert isinstance(app.screen, History)
            await pilot.pause(0.3)
            await pilot.press(back)
            await pilot.pause()
            assert not isinstance(app.screen, History)
    assert app.is_running is False


async def test_a_young_recording_fills_the_view(tmp_path: Path) -> None:
    writer = Writer(tmp_path / f"{datetime.fromtimestamp(NOW - 90, UTC):%Y%m%dT%H%M%S}.000Z-7.halo")
    for number in range(90):
        writer.frame(moment(NOW - 90 + number))
    writer.flush()
    async with looking(RecordedPast(tmp_path)) as view:
        assert view.period == (120, 0)
        await view.press("0")
        assert view.period == (3600, 0)
    writer.close()


async def test_pan_and_zoom(recorded: Path) -> None:
    async with looking(RecordedPast(recorded)) as view:
        await view.press("left")
        assert view.period == (4500, 900)
        await view.press("h", "l", "right")
        assert view.period == (3600, 0)
        await view.press("right")
        assert view.period == (3600, 0)  # no further than now
        await view.press("left", "left", "plus")
        assert view.period == (4500, 2700)
        await view.press("minus")
        assert view.period == (5400, 1800)
        await view.press("end")
        assert view.period == (3600, 0)
        await view.press("d")
        assert view.period == (DAY, 0)
        assert "1 d  11-19 10:42 – 10:42" in view.text("head") or "11-20 10:42" in view.text("head")
        await view.press("0")
        assert view.period == (3600, 0)
        await view.press(*["plus"] * 9)
        since, until = view.period
        assert since - until == 60.0
        await view.press(*["minus"] * 17)
        since, until = view.period
        assert since - until == 30 * DAY
        await view.press("home")
        assert view.period == (3600, 0)
        await view.press(*["left"] * 30)
        since, until = view.period
        assert NOW - since < BEGIN < NOW - until  # the beginning stays in sight


async def test_the_wheel_zooms(recorded: Path) -> None:
    async with looking(RecordedPast(recorded)) as view:
        view.screen.on_mouse_scroll_up(None)  # type: ignore[arg-type]
        await view.settled()
        assert view.period == (2700, 900)
        view.screen.on_mouse_scroll_down(None)  # type: ignore[arg-type]
        await view.settled()
        assert view.period == (3600, 0)


async def test_fields_in_turn_and_by_name(recorded: Path) -> None:
    async with looking(RecordedPast(recorded), field=("memory", "memory.available_bytes")) as view:
        assert "available" in view.text("head")
        shown = set()
        for _ in range(12):
            await view.press("right_square_bracket")
            assert view.screen._look is not None
            shown.add(view.screen._look.pair)
        assert {(GPU, GTT), (GPU, "gpu.busy_percent"), (URL, "server.generation_tokens_per_second")} <= shown
        assert all(BY_ID[id_].chart for _, id_ in shown)
        await view.press("left_square_bracket", "right_square_bracket")
        await view.pilot.press("f")
        chooser = await view.until(lambda: isinstance(view.app.screen, Fields) and view.app.screen)
        await view.pilot.press(*"total", "space", *"ram")
        await view.pilot.pause()
        listed = chooser.query_one(OptionList)
        assert listed.option_count == 1
        await view.pilot.press("enter")
        await view.settled()
        assert view.screen._look is not None
        assert view.screen._look.pair == ("memory", "memory.total_bytes")
        assert "RAM" in view.text("head") and "128 GiB" in view.text("head")
        await view.pilot.press("enter")
        await view.until(lambda: isinstance(view.app.screen, Fields))
        await view.pilot.press(*"nosuchfield", "enter")
        await view.pilot.pause()
        assert isinstance(view.app.screen, Fields)
        await view.pilot.press("escape")
        await view.pilot.pause()
        assert isinstance(view.app.screen, History)


async def test_a_field_that_is_text_is_not_charted(recorded: Path) -> None:
    async with looking(RecordedPast(recorded), field=(GPU, "gpu.performance_level")) as view:
        assert view.screen._look is not None and view.screen._look.pair == (GPU, GTT)


async def test_events_one_after_the_other(recorded: Path) -> None:
    async with looking(RecordedPast(recorded)) as view:
        await view.press("n")
        assert view.screen._chosen is not None and view.screen._chosen.label == "gpu-hang: GPU hang"
        await view.press("n")
        assert view.screen._chosen.label == "long prompt"
        await view.press("n")
        assert "no later event within a day" in view.said
        await view.press("N", "N", "N")
        assert view.screen._chosen.severity == "warning"
        await view.press("plus", "plus", "plus", "n", "n")
        assert view.screen._chosen.label == "gpu-hang: GPU hang"
        since, until = view.period
        assert (since + until) / 2 == pytest.approx(900, abs=1)  # in the middle


class Flapping(RecordedPast):
    """A finding every other second, for an hour."""

    def events(self, since: float, until: float) -> list[Event]:
        times = [NOW - HOUR + 2 * number for number in range(1800)]
        return [Event(time=at, kind="finding", label=f"at {at:.0f}", severity="warning") for at in times]


async def test_more_events_than_the_list_can_hold(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = 40
    monkeypatch.setattr(history, "LISTED", held)
    async with looking(Flapping(recorded)) as view:
        assert len(view.events) == held
        at = 900  # the first one after the middle
        for _ in range(held // 2 + 3):
            await view.pilot.press("n")
            chosen, listed = view.screen._chosen, view.screen.query_one(OptionList)
            assert chosen is not None and chosen.time == NOW - HOUR + 2 * at
            assert listed.highlighted is not None and chosen.label in view.events[listed.highlighted]
            at += 1


async def test_the_mouse_picks_events_and_presses_keys(recorded: Path) -> None:
    async with looking(RecordedPast(recorded), size=(120, 40)) as view:
        row = view.text("axis")
        await view.pilot.click("#axis", offset=(row.index("✚"), 0))
        await view.settled()
        assert view.screen._chosen is not None and view.screen._chosen.label == "long prompt"
        await view.pilot.click(OptionList, offset=(6, 2))
        await view.settled()
        assert view.screen._chosen.label == "gpu-hang: GPU hang"
        foot = view.text("foot")
        await view.pilot.click("#foot", offset=(1 + foot.index("day"), 0))
        await view.until(lambda: view.period == (DAY, 0))
        await view.pilot.click("#foot", offset=(1 + foot.index("["), 0))
        await view.settled()
        assert view.screen._look is not None and view.screen._look.pair != (GPU, GTT)
        await view.pilot.click("#foot", offset=(1 + foot.index("back"), 0))
        await view.until(lambda: not isinstance(view.app.screen, History))


async def test_copied_and_written_as_csv(recorded: Path, tmp_path: Path) -> None:
    async with looking(RecordedPast(recorded), state=tmp_path) as view:
        await view.press("y")
        rows = list(csv.DictReader(io.StringIO(view.app.clipboard)))
        assert rows[0]["time"].startswith("2026-11-20T09:42:0") and rows[0]["field"] == GTT
        assert rows[0]["subject"] == GPU and rows[0]["unit"] == "bytes"
        assert max(float(row["most"]) for row in rows) == pytest.approx(moment(SPIKE).gpus[0].gtt_used_bytes)
        await view.press("w")
        (path,) = await view.until(lambda: list(tmp_path.glob("*.csv")))
        assert path.name == f"history-{GTT}-0000-c5-00-0-20261120-094200-20261120-104200.csv"
        await view.until(lambda: path.read_text() == view.app.clipboard)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_two_gpus_are_two_files(tmp_path: Path) -> None:
    gpus = [gpu(gtt=10.0, id="0000:c5:00.0"), gpu(gtt=20.0, id="0000:c6:00.0")]
    writer = Writer(tmp_path / f"{datetime.fromtimestamp(NOW - 60, UTC):%Y%m%dT%H%M%S}.000Z-7.halo")
    for number in range(60):
        writer.frame(frame(NOW - 60 + number, gpus=gpus, sources=[source("gpu")]))
    writer.close()
    async with looking(RecordedPast(tmp_path), field=("0000:c5:00.0", GTT), state=tmp_path) as view:
        await view.press("w")
        await view.until(lambda: len(list(tmp_path.glob("*.csv"))) == 1)
        await view.press(*["right_square_bracket"] * 20)
        while view.screen._look.pair != ("0000:c6:00.0", GTT):  # type: ignore[union-attr]
            await view.press("right_square_bracket")
        await view.press("w")
        files = await view.until(lambda: len(list(tmp_path.glob("*.csv"))) == 2 and tmp_path.glob("*.csv"))
        await view.until(lambda: len(view.said) >= 2)
        found = {path.read_text().splitlines()[1].split(",")[2]: path for path in files}
        assert set(found) == {"0000:c5:00.0", "0000:c6:00.0"}


async def test_a_clock_that_was_ahead_does_not_hide_now(recorded: Path, tmp_path: Path) -> None:
    """A segment of the time to come beside those of the last hours: the view is of now."""
    copytree(recorded, tmp_path, dirs_exist_ok=True)
    ahead = NOW + 2 * HOUR
    path = tmp_path / f"{datetime.fromtimestamp(ahead, UTC):%Y%m%dT%H%M%S}.000Z-8.halo"
    writer = Writer(path)
    for number in range(60):
        writer.frame(moment(ahead + number))
    writer.close()
    os.utime(path, (ahead + 60, ahead + 60))
    async with looking(RecordedPast(tmp_path)) as view:
        assert view.period == (3600, 0)
        await view.press("right", "right", "end")
        assert view.period == (3600, 0)
        await view.press(*["right"] * 12)
        assert view.period == pytest.approx((-3600 - 59, -7200 - 59), abs=1)  # the end of what there is


async def test_another_key_closes_it_too(recorded: Path) -> None:
    async def open_feed() -> Feed:
        return Quiet()

    async def open_past() -> Past:
        return RecordedPast(recorded)

    app = HalotuiApp(open_feed, past=open_past, keys={"history": "f9,ctrl+h"})
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("4")
        assert not isinstance(app.screen, History)
        for key in ("f9", "ctrl+h"):
            await pilot.press(key)
            assert isinstance(app.screen, History)
            await pilot.press(key)
            await pilot.pause()
            assert not isinstance(app.screen, History)
        await pilot.press("question_mark")
        told = "\n".join(str(static.render()) for static in app.screen.query(Static))
        assert "f9 ctrl+h" in told and "In the history (f9):" in told


# --- a past that is empty, slow or broken


async def test_nothing_recorded_says_how(tmp_path: Path) -> None:
    async with looking(RecordedPast(tmp_path), settled=False) as view:
        await view.until(lambda: "Nothing is recorded yet" in view.text("chart"))
        assert "recorder = false" in view.text("chart")
        for key in ("left", "plus", "0", "d", "end", "f", "n", "y", "w", "left_square_bracket"):
            await view.pilot.press(key)
        await view.pilot.pause()
        assert isinstance(view.app.screen, History) and not view.said
        await view.pilot.press("escape")
        await view.until(lambda: not isinstance(view.app.screen, History))


async def test_recordings_that_ended_long_ago(recorded: Path) -> None:
    class Later(RecordedPast):
        pass

    async def open_past() -> Past:
        return Later(recorded)

    async def open_feed() -> Feed:
        return Quiet()

    app = HalotuiApp(open_feed)
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(History(open_past, now=lambda: NOW + 9 * DAY))
        view = View(app, pilot)
        await pilot.pause()
        await view.settled()
        assert "11-20 09:41 – 11-20 10:41" in view.text("head") or "11-20 09:41 – 10:41" in view.text("head")
        await view.press("right", "right", "right", "right", "right")
        assert "Nothing of it was recorded" in view.text("chart")
        assert "11-20 06:42 – 10:41" in view.text("chart")


class Slow:
    """Answers with how many seconds it was asked about, once it may; one asker at a time."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked: list[float] = []

    def span(self) -> tuple[float, float] | None:
        return BEGIN, NOW

    def subjects(self, since: float, until: float) -> list[tuple[str, str]]:
        return [(GPU, "gpu.busy_percent")]

    def series(self, subject: str, field: str, since: float, until: float, buckets: int) -> list[Bucket]:
        self.asked.append(until - since)
        assert self.go.wait(10)
        share = min(99.0, (until - since) / HOUR)
        return [Bucket(since, share, share, share), Bucket(until, share, share, share)]

    def events(self, since: float, until: float) -> list[Event]:
        return []


async def test_a_slow_past_blocks_nothing_and_the_last_key_counts() -> None:
    past = Slow()
    async with looking(past, settled=False) as view:
        await view.until(lambda: "reading…" in view.text("head") and past.asked)
        began = time.monotonic()
        for key in ("minus", "minus", "minus"):
            await view.pilot.press(key)
        assert time.monotonic() - began < 5
        assert "8 h" in view.text("head")  # asked for, not there yet
        await view.until(lambda: past.asked[-1] == 8 * HOUR)
        past.go.set()
        await view.settled()
        assert "mean 8 %" in view.text("head")
        assert past.asked[0] == HOUR and len(past.asked) <= 4


async def test_a_past_that_fails_is_said(recorded: Path) -> None:
    async def broken() -> Past:
        raise OSError(13, "Permission denied")

    async with looking(broken, settled=False) as view:
        await view.until(lambda: "Permission denied" in view.text("chart"))
        await view.pilot.press("left", "d", "escape")

    class Breaks(RecordedPast):
        def series(self, *words: Any) -> list[Bucket]:
            if self.broken:
                raise OSError(5, "Input/output [/error]")
            return super().series(*words)

        broken = False

    past = Breaks(recorded)
    async with looking(past) as view:
        before = view.text("chart")
        past.broken = True
        await view.pilot.press("left")
        await view.until(lambda: view.said)
        assert "Input/output [/error]" in view.said[0]
        assert view.text("chart") == before
        past.broken = False
        await view.press("right")
        assert view.period == (3600, 0)


# --- the parts of a chart


def test_round_heights() -> None:
    busy, used = BY_ID["gpu.busy_percent"], BY_ID[GTT]
    assert levels(busy, 3, 40) == [0, 25, 50, 75, 100]
    assert levels(used, 56.0, 86.7) == [50, 60, 70, 80, 90]
    assert levels(used, 1, 7) == [0, 2, 4, 6, 8]
    for least, most in ((0, 0), (5, 5), (1e-9, 2e-9), (-3, 4), (59.9999, 60.0001), (0, 1e15)):
        found = levels(used, least, most)
        assert 2 <= len(found) <= 8 and found[0] <= least and found[-1] >= most, (least, most, found)
        assert len(set(found)) == len(found)


def test_round_times(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [label for _, label in clock_ticks(NOW - HOUR, NOW, 5)] == ["09:45", "10:00", "10:15", "10:30"]
    assert [label for _, label in clock_ticks(NOW - 60, NOW, 6)][:2] == ["10:41:00", "10:41:10"]
    assert "11-20" in [label for _, label in clock_ticks(NOW - DAY, NOW, 8)]
    assert [label for _, label in clock_ticks(NOW - 30 * DAY, NOW, 6)][:2] == ["10-24", "10-29"]
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    monday = datetime(2026, 10, 26, 12).timestamp()  # summer time ended on Sunday
    labels = [label for _, label in clock_ticks(monday - 4 * DAY, monday, 4)]
    assert labels == ["10-23", "10-24", "10-25", "10-26"]
    for zone in ("Asia/Kathmandu", "America/St_Johns"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert all(label[-2:] in ("00", "15", "30", "45") for _, label in clock_ticks(NOW - HOUR, NOW, 5))


def test_a_gap_is_longer_than_usual_and_than_a_silence() -> None:
    assert breaks([0, 1, 2, 5, 6, 12, 13]) == [5]
    assert breaks([0, 60, 121, 181, 300, 360]) == [4]
    assert breaks([0, 10, 20, 31, 40]) == []
    assert breaks([0]) == breaks([]) == []


def test_the_row_of_events() -> None:
    events = [
        Event(time=10, kind="capture", label="c", until_time=50),
        Event(time=20, kind="finding", label="w", severity="warning", until_time=30),
        Event(time=20, kind="finding", label="x", severity="critical"),
        Event(time=60, kind="gap", label="g", until_time=500),
        Event(time=-50, kind="finding", label="before", severity="odd", until_time=5),
    ]
    row = "".join(words for words, _ in axis(events, None, 0, 100, 101))
    assert len(row) == 101 and width_of(row) == 101
    assert row[:6] == "──────" and row[10:51] == "●" + "─" * 9 + "✖" + "─" * 30
    assert row[60:] == "╌" * 41


# --- pictures


class Case(NamedTuple):
    width: int
    height: int
    keys: tuple[str, ...] = ()
    theme: str = DEFAULT
    color: bool = True
    field: tuple[str, str] = (GPU, GTT)


CASES = {
    "60x16": Case(60, 16),
    "80x24": Case(80, 24),
    "120x40": Case(120, 40),
    "200x60": Case(200, 60),
    "busy-day-120x40": Case(120, 40, keys=("d",), field=(GPU, "gpu.busy_percent")),
    "event-80x24": Case(80, 24, keys=("n",)),
    "minutes-80x24": Case(80, 24, keys=("left", "plus", "plus", "plus")),
    "choose-80x24": Case(80, 24, keys=("f",)),
    "choose-60x16": Case(60, 16, keys=("f",)),
    "empty-80x24": Case(80, 24, field=(GPU, "gpu.sclk_hertz")),
    "no-colour-80x24": Case(80, 24, color=False),
    **{
        f"{theme}-80x24": Case(80, 24, theme=theme)
        for theme in ("halo-light", "high-contrast", "colour-blind")
    },
}


@pytest.mark.parametrize("name", CASES)
def test_picture(
    name: str, recorded: Path, snap_compare: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    if case.color:
        monkeypatch.delenv("NO_COLOR", raising=False)
    else:
        monkeypatch.setenv("NO_COLOR", "1")

    async def open_feed() -> Feed:
        return Quiet()

    async def open_past() -> Past:
        return RecordedPast(recorded)

    app = HalotuiApp(open_feed, past=open_past, theme=case.theme)
    drawn = ""

    async def press(pilot: Pilot[int]) -> None:
        nonlocal drawn
        app.push_screen(History(open_past, now=lambda: NOW, field=case.field))
        await pilot.pause()
        view = View(app, pilot)
        await view.settled()
        await view.press(*case.keys)
        await pilot.pause(0.2)
        drawn = app.export_screenshot()

    if not snap_compare(app, terminal_size=(case.width, case.height), run_before=press):
        pytest.fail(difference(KEPT / f"test_picture[{name}].svg", drawn), pytrace=False)
