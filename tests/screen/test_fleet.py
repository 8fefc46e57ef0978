"""Several boxes: the view of them all, the way into each and back, and links that fail."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import fleets
import pytest
from boxes import Still, coder, moment
from fake_desk import CUT, FakeDesk
from fleets import HINT, NOT_LET_IN, Post, box, finding, link
from pilots import Fingers
from test_snapshots import difference
from textual.pilot import Pilot
from textual.widgets import Input, Static

from halotui.app import HalotuiApp
from halotui.feed import Feed
from halotui.model import Frame, LinkState, Severity
from halotui.screens import fleet_page
from halotui.screens.checklist import Checklist
from halotui.screens.cut_off import CutOff
from halotui.screens.explain import Explain
from halotui.screens.prompt import Prompt
from halotui.widgets.rows import HOST, ORDER

KEPT = Path(__file__).parent / "__snapshots__" / "test_fleet"

pytestmark = pytest.mark.usefixtures("soon")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is new is seen at once: nobody waits a second in a test."""
    monkeypatch.setattr(fleet_page, "DRAWN_SECONDS", 0.02)
    monkeypatch.setattr("halotui.screens.boxes.LINK_SECONDS", 0.05)


class Hand(Fingers):
    def __init__(self, app: HalotuiApp, pilot: Pilot[int], posts: Sequence[Post]) -> None:
        super().__init__(app, pilot)
        self.posts = posts

    @property
    def rows(self) -> list[str]:
        return self.app.canvas.text().split("\n")

    @property
    def order(self) -> list[str]:
        """The names of the boxes, downwards."""
        names = [post.name for post in self.posts]
        words = (row.strip("├└ ").split(" ")[0] for row in self.rows)
        return [word for word in words if word in names]

    @property
    def title(self) -> str:
        """What is looked at."""
        return self.rows[0].split()[1] if self.app.boxes.fleet is None else "all"

    def row(self, name: str) -> str:
        return next((row for row in self.rows if row.strip("├└ ").startswith(name)), "")

    def styles(self, name: str) -> set[str]:
        """Of the row of a box."""
        cells = (row for row in self.app.canvas._cells if name in "".join(run.text for run in row[:4]))
        return {run.style for run in next(cells) if run.text.strip()}

    async def click(self, field: str, wanted: str) -> None:
        texts = self.rows
        hit = next(
            hit
            for hit in self.app.canvas.hits()
            if hit.ref.field == field and wanted in texts[hit.y][hit.x : hit.x + hit.width]
        )
        await self.pilot.click(self.app.canvas, offset=(hit.x + 1, hit.y))
        await self.pilot.pause()

    async def explained(self) -> str:
        await self.press("e")
        await self.until(lambda: isinstance(self.app.screen, Explain))
        text = str(self.app.screen.query_one(Static).visual)
        await self.press("escape")
        return text


@asynccontextmanager
async def opened(
    posts: Sequence[Post], size: tuple[int, int] = (120, 40), **more: Any
) -> AsyncIterator[Hand]:
    app = fleets.app(posts, **more)
    async with app.run_test(size=size) as pilot:
        hand = Hand(app, pilot, posts)
        there = [seat for seat, post in zip(app.boxes.all, posts, strict=True) if post.frames]
        await hand.until(lambda: all(seat.latest or seat.trouble for seat in there))
        await hand.until(lambda: len(hand.order) == min(len(posts), len(hand.order) or 99))
        await pilot.pause(0.05)
        yield hand
    await app.close_feed()


def two(**more: Any) -> list[Post]:
    return [Post("alpha", box("alpha"), **more), Post("beta", box("beta", 1, 30.0))]


# --- the view of them all


async def test_a_row_a_box_with_what_it_does() -> None:
    async with opened(fleets.four(), (200, 60)) as hand:
        together = "halotui 4 boxes 2 up ✖ 1 critical ▲ 1 warning 41.2 t/s 240 W"
        assert hand.rows[0].split() == together.split(" ")
        assert "Qwen3-235B-A22B-Q4_K…  2 boxes · rpc         vulkan   41.2      402    2/4" in hand.rows[3]
        assert "154/240" in hand.rows[3] and "├ strix-1   12 ms       1 of 2 · head" in hand.rows[4]
        assert "└ strix-2" in hand.rows[5] and "✖1 ▲1    Speculation costs more than" in hand.rows[5]
        assert "lost 3 min  GLM-4.7-Air-Q4_K_M" in hand.row("desk") and "timed out" in hand.row("desk")
        assert "refused     –" in hand.row("loft") and f"{NOT_LET_IN}; {HINT}" in hand.row("loft")


async def test_what_is_lost_is_dim_and_does_not_count() -> None:
    async with opened(fleets.four()) as hand:
        assert hand.styles("desk") == {"late", "trouble"}  # its link alone is not
        assert "value" in hand.styles("strix-1") | hand.styles("Qwen3") and "late" not in hand.styles(
            "strix-1"
        )
        assert "2 warning" not in hand.rows[0]


async def test_what_is_wrong_is_told_where_the_rows_have_no_room() -> None:
    async with opened(fleets.four(), (80, 24)) as hand:
        assert hand.rows[1].startswith(f" ✖ loft {NOT_LET_IN}")
        assert [row[:10] for row in hand.rows[2:5]] == [" ✖ strix-2", " ▲ strix-2", "─ boxes ──"]


async def test_in_order_by_keys_and_by_headings() -> None:
    posts = [Post("b", box(rate=5.0)), Post("c", box(rate=50.0)), Post("a", box(rate=9.0))]
    async with opened(posts) as hand:
        assert hand.order == ["b", "c", "a"]
        await hand.press("o")
        assert hand.order == ["a", "b", "c"] and "box↑" in hand.rows[2]
        await hand.press("O")
        assert hand.order == ["c", "b", "a"]
        await hand.click(ORDER, "t/s")
        assert hand.order == ["c", "a", "b"] and "by decode ↓" in hand.rows[1]


async def test_a_filter_and_its_end() -> None:
    async with opened(two()) as hand:
        await hand.press("slash")
        await hand.until(lambda: isinstance(hand.app.screen, Prompt))
        hand.app.screen.query_one(Input).value = "gpt-oss"
        await hand.press("enter")
        assert hand.order == ["beta"] and "filter: gpt-oss · 1 of 2" in hand.rows[1]
        await hand.press("escape")
        assert hand.order == ["alpha", "beta"]


async def test_groups_stand_under_their_names_and_sixteen_scroll() -> None:
    async with opened(fleets.sixteen()) as hand:
        assert (
            len(hand.order) == 16 and " lab  6 of 6 up" in hand.rows and " office  10 of 10 up" in hand.rows
        )
    async with opened(fleets.sixteen(), (80, 16)) as hand:
        assert "rows 1-11 of 18" in hand.rows[2] and hand.order[0] == "rack-01" and len(hand.order) == 9
        await hand.press(*["down"] * 16)
        assert hand.order[-1] == "rack-16" and hand.app.boxes.chosen is hand.app.boxes.all[15]
        await hand.press("home")
        assert hand.order[0] == "rack-01"


async def test_many_frames_are_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_page, "DRAWN_SECONDS", 1.0)
    async with opened(fleets.sixteen()) as hand:
        await hand.until(lambda: "16 up" in hand.rows[0])
        drawn: list[float] = []
        update = hand.app.canvas.update
        monkeypatch.setattr(hand.app.canvas, "update", lambda: (drawn.append(time.monotonic()), update()))
        for number in range(5):
            for post in hand.posts:
                post.feed.more.put_nowait(box(post.name, rate=number + 1.0))
            await hand.pilot.pause(0.02)
        await hand.until(lambda: drawn and "16.0" not in hand.rows[0])
        assert len(drawn) <= 2


# --- into a box, and back


async def test_into_a_box_to_the_next_and_back() -> None:
    async with opened(two()) as hand:
        assert hand.title == "all"
        await hand.press("down", "down", "enter")
        assert hand.title == "beta" and "─ speed" in hand.rows[1] and "0 boxes" in hand.rows[-1]
        await hand.press("right_curly_bracket")
        assert hand.title == "alpha"
        await hand.press("left_curly_bracket", "0")
        assert hand.title == "all" and hand.app.boxes.chosen is hand.app.boxes.all[1]
        await hand.click(HOST, "alpha")
        assert hand.title == "alpha"
        await hand.press("5", "down", "escape")  # first what there is to put away here
        await hand.press("escape")
        assert hand.title == "all"
        await hand.press("enter")
        assert "─ requests" in hand.rows[1]  # as it was left


async def test_keys_can_be_others() -> None:
    async with opened(two(), keys={"fleet": "f", "next-box": "n"}) as hand:
        await hand.press("enter", "n")
        assert hand.title == "beta" and " f boxes" in hand.rows[-1]
        await hand.press("f")
        assert hand.title == "all"


async def test_frames_of_the_others_do_not_touch_the_picture() -> None:
    async with opened(two()) as hand:
        await hand.press("enter")
        before = hand.rows
        hand.posts[1].feed.more.put_nowait(box("beta", rate=99.0))
        await hand.until(lambda: hand.app.boxes.all[1].taken == 2)
        assert hand.rows == before
        await hand.press("0")
        assert "99.0" in hand.row("beta")


async def test_a_critical_finding_elsewhere_is_seen_and_pops_nothing_up() -> None:
    async with opened(two()) as hand:
        await hand.press("enter")
        assert "other box" not in hand.rows[0]
        bad = box("beta", findings=[finding(Severity.CRITICAL), finding()])
        hand.posts[1].feed.more.put_nowait(bad)
        hand.posts[0].feed.more.put_nowait(box("alpha", rate=21.0))
        await hand.until(lambda: "1 other box: 1 critical" in hand.rows[0])
        assert not hand.said


async def test_keys_act_on_the_box_that_is_looked_at() -> None:
    async with opened(two()) as hand:
        for key in ("r", "P", "5", "space", "plus", "w", "right_square_bracket"):
            await hand.press(key)
        assert hand.title == "all" and set(hand.said.split("\n")) == {"enter a box first"}
        assert not hand.posts[0].desk.opened and not hand.posts[1].desk.opened
        await hand.press("down", "down", "enter", "u")
        await hand.until(lambda: isinstance(hand.app.screen, Checklist))
        await hand.until(lambda: hand.posts[1].desk.asked)
        assert not hand.posts[0].desk.opened


async def test_a_box_may_be_read_only_beside_another() -> None:
    posts = [Post("alpha", box("alpha"), readonly=True), Post("beta", box("beta"))]
    async with opened(posts) as hand:
        await hand.press("enter", "u")
        assert "read-only" in hand.said and "relaunch" not in hand.rows[-1]
        await hand.press("right_curly_bracket")
        assert "relaunch" in hand.rows[-1]


async def test_what_a_box_has_to_ask_waits_until_it_is_looked_at(tmp_path: Path) -> None:
    left = tmp_path / "unfinished"
    left.touch()
    posts = two(unfinished=left)
    posts[0].desk = FakeDesk(standing=(CUT, CUT))
    async with opened(posts) as hand:
        for _ in range(2):
            posts[0].feed.more.put_nowait(box("alpha"))
        await hand.until(lambda: "unfinished" in hand.row("alpha"))
        assert not isinstance(hand.app.screen, CutOff)
        await hand.press("enter")
        await hand.until(lambda: isinstance(hand.app.screen, CutOff))


# --- links


async def test_a_lost_link_dims_the_cockpit_and_its_age_counts() -> None:
    posts = [Post("alpha", box("alpha", findings=[finding()]), link()), Post("beta", box("beta"), link())]
    async with opened(posts) as hand:
        await hand.press("enter")
        assert "GTT is nearly full" in hand.rows[1] and "up 2 h" in hand.rows[0]
        posts[0].link = link(LinkState.LOST, 12.5, reason="Connection reset", retry_time=time.time() + 4.5)
        await hand.until(lambda: "link lost 12 s, again in 4 s" in hand.rows[0])
        assert (
            "Connection reset" in hand.rows[0] and "41.2" not in hand.rows[0] and "L log in" in hand.rows[-1]
        )
        body = [run for row in hand.app.canvas._cells[1:-1] for run in row if run.text.strip()]
        assert {run.style for run in body} <= {"late", "rule", "faint", "dim", "title"}
        assert "Connection reset" in await hand.explained()
        await hand.until(lambda: "link lost 13 s" in hand.rows[0])
        await hand.press("0")
        assert "lost 1" in hand.row("alpha") and "1 warning" not in hand.rows[0]
        posts[0].link = link()
        await hand.until(lambda: "connecting" in hand.row("alpha"))  # no number is of now yet
        assert "1 warning" not in hand.rows[0]
        posts[0].feed.more.put_nowait(box("alpha", findings=[finding()]))
        await hand.until(lambda: "12 ms" in hand.row("alpha") and "1 warning" in hand.rows[0])


async def test_a_refused_link_says_why_and_logs_in() -> None:
    posts = fleets.four()
    async with opened(posts, (80, 24)) as hand:
        await hand.press(*["down"] * 5, "L")
        await hand.until(lambda: posts[3].asked == ["login"])
        posts[3].log_in_error = OSError("still no")
        await hand.press("enter")
        assert "refused" in hand.rows[0] and NOT_LET_IN in hand.rows[2] and "L logs in" in hand.rows[3]
        await hand.press("L")
        await hand.until(lambda: "loft: still no" in hand.said)
        await hand.press("left_curly_bracket", "L")  # desk, that was lost
        await hand.until(lambda: posts[2].asked == ["again"])
        await hand.press("left_curly_bracket", "L")
        await hand.until(lambda: "nothing to log in to" in hand.said)
        assert not posts[1].asked and "log in" not in hand.rows[-1]


async def test_a_box_that_is_being_reached_says_so() -> None:
    posts = [*two(), Post("gamma", None, link(LinkState.CONNECTING))]
    async with opened(posts) as hand:
        assert "connecting" in hand.row("gamma") and "3 boxes  2 up" in hand.rows[0]


async def test_a_clock_that_differs_is_told() -> None:
    posts = [Post("alpha", box("alpha"), link(ahead_seconds=-93.0)), Post("beta", box("beta"), link())]
    async with opened(posts) as hand:
        await hand.press("down")
        assert "Clock    1 min behind ours" in await hand.explained()
        await hand.press("down")
        told = await hand.explained()
        assert "Clock" not in told and "Delay    12.3 ms" in told and "gpt-oss" not in told


async def test_a_feed_that_cannot_be_opened_is_told_in_its_row_alone() -> None:
    posts = two()
    posts[0].error = OSError("no such\x1b[31m thing")
    async with opened(posts) as hand:
        await hand.until(lambda: "failed" in hand.row("alpha"))
        assert "no such" in hand.row("alpha") and "\x1b" not in hand.row("alpha") and "1 up" in hand.rows[0]
        await hand.press("enter")
        assert "no more frames" in hand.rows[0] and "no such" in hand.rows[2]
        posts[1].feed.more.put_nowait(box("beta", rate=77.0))
        await hand.press("0")
        await hand.until(lambda: "77.0" in hand.row("beta"))
        assert hand.app.failure is None


async def test_a_feed_that_ends_with_an_error_dims_its_box() -> None:
    posts = two()

    class Breaking(Still):
        async def frames(self) -> AsyncIterator[Frame]:
            yield box("alpha")
            await self.more.get()
            raise RuntimeError("it broke")

    posts[0].feed = Breaking([box("alpha")])
    async with opened(posts) as hand:
        posts[0].feed.more.put_nowait(box("alpha"))
        await hand.until(lambda: "it broke" in hand.row("alpha"))
        assert hand.styles("alpha") <= {"late", "trouble"}


# --- one box


async def test_one_box_has_none_of_it() -> None:
    async def feed() -> Feed:
        return Still([moment([coder()])])

    app = HalotuiApp(feed)
    async with app.run_test(size=(120, 40)) as pilot:
        hand = Hand(app, pilot, ())
        await hand.until(lambda: app.view.frame)
        before = hand.rows
        await hand.press("0", "right_curly_bracket", "L", "escape")
        assert hand.rows == before and not hand.said and "boxes" not in before[-1]
        assert not {"fleet", "next-box", "login", "enter"} & set(app._shown)
    await app.close_feed()


async def test_one_far_box_dims_too_and_one_that_fails_ends_it() -> None:
    post = Post("alpha", box("strix"), link())
    async with fleets.app([post]).run_test(size=(120, 40)) as pilot:
        app = pilot.app
        assert isinstance(app, HalotuiApp)
        hand = Hand(app, pilot, [post])
        await hand.until(lambda: app.view.frame and "alpha" in hand.rows[0])
        post.link = link(LinkState.LOST, 12.5)
        await hand.until(lambda: "link lost 12 s" in hand.rows[0] and "L log in" in hand.rows[-1])
    post.error = OSError("gone")
    app = fleets.app([post])
    async with app.run_test() as pilot:
        await pilot.pause(0.1)
    assert app.failure is post.error


# --- pictures

PICTURES: dict[str, tuple[Callable[[], list[Post]], tuple[int, int], tuple[str, ...]]] = {
    "four-80x24": (fleets.four, (80, 24), ()),
    "four-120x24": (fleets.four, (120, 24), ("down", "down")),
    "sixteen-80x24": (fleets.sixteen, (80, 24), ()),
}


@pytest.mark.parametrize("name", PICTURES)
def test_picture(name: str, snap_compare: Callable[..., bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    made, size, keys = PICTURES[name]
    posts = made()
    app = fleets.app(posts)
    drawn = ""

    async def press(pilot: Pilot[int]) -> None:
        nonlocal drawn
        while any(post.frames and not seat.taken for post, seat in zip(posts, app.boxes.all, strict=True)):
            await pilot.pause(0.01)
        for key in keys:
            await pilot.press(key)
        await pilot.pause(0.1)
        drawn = app.export_screenshot()

    if not snap_compare(app, terminal_size=size, run_before=press):
        pytest.fail(difference(KEPT / f"test_picture[{name}].svg", drawn), pytrace=False)
