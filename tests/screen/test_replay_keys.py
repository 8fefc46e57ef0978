"""Every key of a recording, pressed, on a scripted player: what it is told, and what is seen."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_player import FakePlayer
from pilots import Fingers
from textual.pilot import Pilot
from textual.widgets import Input, Static

from builders import frame, gpu, server, source
from halotui.app import HalotuiApp
from halotui.keymap import DESK, KEYS, LIVE, PLAYER, RECORDER
from halotui.model import Frame, LogLine
from halotui.runs import Event
from halotui.screens.prompt import Prompt
from halotui.screens.replaying import DRAWN_SECONDS, Player
from halotui.widgets.rows import TIME, width_of
from halotui.widgets.timeline import LEAST, Standing, Timeline, span

BEGIN = 1795171320.0  # 2026-11-20 10:42:00 UTC
LENGTH = 600
EVENTS = (
    Event(time=BEGIN + 60, kind="finding", label="Acceptance [/b] fell", severity="warning"),
    Event(time=BEGIN + 120, kind="gap", label="nothing", until_time=BEGIN + 240),
    Event(time=BEGIN + 300, kind="mark", label="long prompt"),
    Event(time=BEGIN + 480, kind="finding", label="GPU hang", severity="critical"),
    Event(time=BEGIN + 540, kind="capture", label="peak"),
)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def picture(second: int) -> Frame:
    log = (LogLine(text=f"line {second}", level="info"),)
    served = server(model="tiny.gguf", generation_tokens_per_second=float(second), log=log)
    return frame(BEGIN + second, servers=[served], gpus=[gpu()], sources=[source(), source("memory")])


FRAMES = [picture(second) for second in range(LENGTH + 1)]


class Hand(Fingers):
    def __init__(self, app: HalotuiApp, pilot: Pilot[int], player: FakePlayer) -> None:
        super().__init__(app, pilot)
        self.player = player

    async def at(self, second: float) -> None:
        """Until the frame of that second is on screen."""
        when = time.strftime("%H:%M:%S", time.gmtime(BEGIN + second))
        await self.until(lambda: self.strip.startswith(f" {when}") and when in self.head)
        assert self.player.position == BEGIN + second
        assert self.app.view.frame is not None and self.app.view.frame.time == BEGIN + second

    async def type(self, text: str) -> None:
        await self.press("g")
        await self.until(lambda: isinstance(self.app.screen, Prompt))
        await self.press(*text, "enter")
        await self.until(lambda: len(self.app.screen_stack) == 1)

    @property
    def rows(self) -> list[str]:
        return self.app.canvas.text().splitlines()

    @property
    def head(self) -> str:
        return self.rows[0]

    @property
    def strip(self) -> str:
        return self.rows[-2]

    @property
    def foot(self) -> str:
        return self.rows[-1]


Open = Callable[..., AbstractAsyncContextManager[Hand]]


@pytest.fixture
def replay(tmp_path: Path) -> Open:
    @asynccontextmanager
    async def opened(at: int = 100, size: tuple[int, int] = (100, 30), **more: Any) -> AsyncIterator[Hand]:
        player = FakePlayer(FRAMES, EVENTS, at=at)

        async def open_feed() -> Any:
            return player

        app = HalotuiApp(open_feed, label="REPLAY", state_dir=tmp_path, **more)
        async with app.run_test(size=size) as pilot:
            hand = Hand(app, pilot, player)
            await hand.until(lambda: app.view.frame is not None)
            yield hand
        await app.close_feed()
        assert player.closed

    return opened


def test_the_fake_has_the_shape() -> None:
    assert isinstance(FakePlayer(FRAMES), Player)


async def test_the_head_and_the_line_tell_where_it_stands(replay: Open) -> None:
    async with replay() as hand:
        await hand.at(100)
        assert "REPLAY" in hand.head and "2026-11-20 10:43:40" in hand.head
        assert "‖ 1x" in hand.strip and "0:01:40 / 0:10:00" in hand.strip
        for tick in "▲✚✖●█":
            assert tick in hand.strip


async def test_space_plays_and_pauses(replay: Open) -> None:
    async with replay() as hand:
        await hand.press("space")
        await hand.until(lambda: hand.player.playing and "▶ 1x" in hand.strip)
        assert not hand.app.view.frozen
        hand.player.speed = 16.0
        await hand.until(lambda: hand.player.position > BEGIN + 103)
        await hand.press("space")
        await hand.until(lambda: "‖ 16x" in hand.strip)
        assert not hand.player.playing and "FROZEN" not in hand.head


async def test_speeds(replay: Open) -> None:
    async with replay() as hand:
        for key, shown in (
            ("+", "2x"),
            ("=", "4x"),
            ("-", "2x"),
            *(("-", "") for _ in range(9)),
            ("-", "0.25x"),
        ):
            await hand.press(key if key != "+" else "plus")
            await hand.until(lambda shown=shown: shown in hand.strip)
        for _ in range(12):
            await hand.press("plus")
        await hand.until(lambda: "64x" in hand.strip)
        assert hand.app.view.interval == 1.0


@pytest.mark.parametrize(
    ("key", "second"),
    [("comma", 290), ("full_stop", 310), ("less_than_sign", 240), ("greater_than_sign", 360)],
)
async def test_seeking(replay: Open, key: str, second: float) -> None:
    async with replay(at=300) as hand:
        await hand.press(key)
        await hand.at(second)


async def test_seeking_beyond_the_ends(replay: Open) -> None:
    async with replay(at=5) as hand:
        await hand.press("comma")
        await hand.at(0)
        await hand.press(*["greater_than_sign"] * 12)
        await hand.at(LENGTH)
        await hand.until(lambda: "■ end" in hand.strip)
        await hand.press("space")
        await hand.until(lambda: "the recording ends here" in hand.said)
        assert not hand.player.playing


async def test_it_stays_at_its_end(replay: Open) -> None:
    async with replay(at=LENGTH - 3) as hand:
        hand.player.speed = 64.0
        await hand.press("space")
        await hand.at(LENGTH)
        await hand.until(lambda: "■ end" in hand.strip)
        await hand.press("comma")
        await hand.at(LENGTH - 10)
        await hand.until(lambda: "‖ 64x" in hand.strip)


async def test_from_event_to_event(replay: Open) -> None:
    async with replay(at=100) as hand:
        for key, second, words in (
            ("n", 300, "long prompt"),
            ("n", 480, "GPU hang"),
            ("N", 300, "10:47:00  long prompt"),
            ("N", 60, "Acceptance [/b] fell"),
        ):
            await hand.press(key)
            await hand.at(second)
            await hand.until(lambda words=words: words in hand.said)
        await hand.press("N")
        await hand.until(lambda: "no earlier finding" in hand.said)
        await hand.press("n", "n", "n")
        await hand.until(lambda: "no later finding" in hand.said)
        await hand.at(480)


async def test_going_to_a_time(replay: Open) -> None:
    async with replay(at=100) as hand:
        for text, second in (
            ("10:45", 180),
            ("10:45:07", 187),
            ("+90s", 277),
            ("-30", 247),
            ("2026-11-20 10:43", 60),
        ):
            await hand.type(text)
            await hand.at(second)
        await hand.type("tea [/time]")
        await hand.until(lambda: "'tea [/time]' is no time" in hand.said)
        await hand.type("23:00")
        await hand.until(lambda: "is not in this recording: 2026-11-20 10:42:00 to" in hand.said)
        await hand.press("g", "escape")
        await hand.at(60)


async def test_the_bar_is_clicked(replay: Open) -> None:
    async with replay(at=10) as hand:
        bar = [hit for hit in hand.app.canvas.hits() if hit.ref.field == TIME]
        left, right = bar[0].x, bar[-1].x + bar[-1].width - 1
        y = bar[0].y
        await hand.pilot.click(offset=(right, y))
        await hand.at(LENGTH)
        await hand.pilot.click(offset=(left, y))
        await hand.at(0)
        await hand.pilot.click(offset=(left + hand.strip.index("✖") - hand.strip.index("█"), y))
        await hand.at(480)
        await hand.until(lambda: "GPU hang" in hand.said)
        assert hand.app.canvas.cursor is None


async def test_after_a_jump_everything_is_of_that_time(replay: Open) -> None:
    async with replay(at=300, size=(100, 40)) as hand:
        await hand.until(lambda: "line 300" in hand.app.canvas.text())
        await hand.press("comma")
        await hand.at(290)
        text = hand.app.canvas.text()
        assert "line 300" not in text and text.count("line 290") == 1 and "line 289" in text
        assert hand.app.view.history is hand.player.history
        served = hand.app.view.server
        assert served is not None
        drawn = hand.app.view.history.series(served.url, "server.generation_tokens_per_second")
        assert drawn is not None and drawn.last(1) == [290.0]
        assert len(hand.app.view.charts) > 0


async def test_a_fast_recording_is_not_drawn_more_often_than_seen(replay: Open) -> None:
    async with replay(at=0) as hand:
        drawn = []
        update = hand.app.canvas.update
        hand.app._replay._update = lambda: (drawn.append(time.monotonic()), update())  # type: ignore[union-attr]
        hand.player.speed = 64.0
        began = time.monotonic()
        hand.player.play()
        await hand.until(lambda: hand.player.position >= BEGIN + 64)
        hand.player.pause()
        took = time.monotonic() - began
        await hand.until(lambda: hand.app.view.frame and hand.strip.startswith(" 10:43:0"))
        assert 2 <= len(drawn) <= took / DRAWN_SECONDS + 3
        await hand.pilot.pause(2 * DRAWN_SECONDS)  # and the last one is seen
        await hand.at(hand.player.position - BEGIN)


async def test_what_has_no_sense_here_is_gone(replay: Open) -> None:
    async with replay(size=(200, 60)) as hand:
        names = {command.title for command in hand.app.get_system_commands(hand.app.screen)}
        assert {key.name for key in KEYS if key.needs == PLAYER} <= names
        assert not names & {key.name for key in KEYS if key.needs in (LIVE, RECORDER, DESK)}
        for word in ("play", "-10 s", "next", "go to", "faster", "write"):
            assert word in hand.foot
        for word in ("freeze", "relaunch", "peak", "mark", "stop"):
            assert word not in hand.foot
        await hand.press("P", "m")
        assert not hand.said and len(hand.app.screen_stack) == 1
        await hand.press("r", "x")
        await hand.until(lambda: "a recording: servers are not touched" in hand.said)
        await hand.press("question_mark")
        told = "\n".join(str(static.render()) for static in hand.app.screen.query(Static))
        assert (
            "Play the recording" in told
            and "Hold the picture" not in told
            and ", . " in told
            and "< > " in told
        )


async def test_live_keys_mean_what_they_did(tmp_path: Path) -> None:
    class Live:
        def __init__(self) -> None:
            self.history, self.interval = FakePlayer(FRAMES[:1]).history, 1.0

        async def frames(self) -> AsyncIterator[Frame]:
            yield FRAMES[0]
            await asyncio.Event().wait()

        async def close(self) -> None:
            pass

    async def open_feed() -> Any:
        return Live()

    app = HalotuiApp(open_feed, state_dir=tmp_path)
    async with app.run_test(size=(200, 60)) as pilot:
        while app.view.frame is None:
            await pilot.pause(0.01)
        await pilot.press("space", "minus", "n", "g", "comma")
        assert app.view.frozen and app.view.interval == 2.0 and len(app.screen_stack) == 1
        await pilot.press("space")
        await pilot.pause()
        lines = app.canvas.text().splitlines()
        assert "FROZEN" not in lines[0] and "freeze" in lines[-1] and "play" not in lines[-1]
        assert "2026" not in lines[0]
        names = {command.title for command in app.get_system_commands(app.screen)}
        assert not names & {key.name for key in KEYS if key.needs == PLAYER} and "Freeze" in names
    await app.close_feed()


async def test_keys_of_a_recording_are_remapped_apart(replay: Open) -> None:
    async with replay(keys={"freeze": "f", "play-faster": "k"}) as hand:
        await hand.press("space")
        await hand.until(lambda: hand.player.playing)
        await hand.press("f")
        assert hand.player.playing and not hand.app.view.frozen
        await hand.press("k")
        await hand.until(lambda: "2x" in hand.strip)


def written(where: Path) -> float:
    """The time of the frame there."""
    (file,) = where.glob("frame-20261120-104340.json")
    return float(json.loads(file.read_text())["time"])


async def test_w_and_y_work_on_what_was(replay: Open, tmp_path: Path) -> None:
    async with replay() as hand:
        await hand.at(100)
        await hand.press("w")
        await hand.until(lambda: "written" in hand.said)
        assert written(tmp_path) == BEGIN + 100
        await hand.press("tab", "y")
        await hand.until(lambda: "copied" in hand.said)
        await hand.press("2")
        await hand.until(lambda: "line 100" in hand.app.canvas.text() and "10:43:40" in hand.strip)
        await hand.press("slash")
        await hand.until(lambda: hand.app.screen.query(Input))


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 40), (200, 60)])
@pytest.mark.parametrize("view", ["1", "2", "3"])
async def test_every_row_is_there_at_every_size(replay: Open, size: tuple[int, int], view: str) -> None:
    async with replay(size=size) as hand:
        await hand.press(view)
        await hand.until(lambda: "10:43:40" in hand.strip)
        assert len(hand.app.canvas._cells) == size[1]
        assert {sum(width_of(run.text) for run in row) for row in hand.app.canvas._cells} == {size[0]}
        assert "quit" in hand.foot and "✖" in hand.strip


async def test_history_is_asked_with_the_time_of_the_recording(
    replay: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    class Screen(Prompt):
        def __init__(self, past: Any, *, now: Callable[[], float], field: tuple[str, str] | None) -> None:
            super().__init__("past")
            asked.append((past, now(), field))

    monkeypatch.setattr("halotui.screens.history.History", Screen)

    async def past() -> Any:
        return None

    async with replay(size=(200, 60), past=past) as hand:
        assert "4 history" in hand.foot
        await hand.press("4")
        await hand.until(lambda: asked)
        assert asked == [(past, BEGIN + 100, None)]
        await hand.press("escape", "tab")
        ref = hand.app.canvas.cursor
        assert ref is not None
        await hand.press("4")
        await hand.until(lambda: len(asked) == 2)
        assert asked[1][2] == (ref.subject, ref.field)
    async with replay(size=(200, 60)) as hand:
        await hand.press("4")
        assert "history" not in hand.foot and len(hand.app.screen_stack) == 1 and len(asked) == 2


# --- the row


def row_text(now: Standing, width: int, events: tuple[Event, ...] = EVENTS) -> str:
    (row,) = Timeline().rows(now, events, width)
    return "".join(run.text for run in row)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("at", [-5, 0, 300, LENGTH, LENGTH + 5])
def test_the_bar_fits(width: int, at: float) -> None:
    text = row_text(Standing(BEGIN + at, BEGIN, BEGIN + LENGTH, False, 0.25), width)
    assert width_of(text) == width


def test_gaps_are_gaps_and_trouble_wins() -> None:
    text = row_text(Standing(BEGIN, BEGIN, BEGIN + LENGTH, True, 4), 100)
    bar = text[text.index("█") :]
    cells = len(bar) - 1
    assert bar[round(0.3 * cells)] == " " and bar[round(0.45 * cells)] == "─"
    many = (*EVENTS, *(Event(time=BEGIN + 480, kind=kind, label="") for kind in ("mark", "capture", "gap")))
    assert "✖" in row_text(Standing(BEGIN, BEGIN, BEGIN + LENGTH, True, 4), 100, many)
    unknown = (Event(time=BEGIN + 300, kind="eclipse", label=""), Event(time=0, kind="finding", label=""))
    assert "·" in row_text(Standing(BEGIN + 10, BEGIN, BEGIN + LENGTH, True, 4), 100, unknown)


def test_a_recording_of_one_frame() -> None:
    text = row_text(Standing(BEGIN, BEGIN, BEGIN, False, 1), 80, ())
    assert "■ end" in text and "0:00:00 / 0:00:00" in text and len(text) >= LEAST


def test_spans() -> None:
    assert [span(s) for s in (0, 61.9, 3730, 90_000)] == ["0:00:00", "0:01:01", "1:02:10", "25:00:00"]
