"""The keys and the mouse of tabs, requests and the server, on boxes of words."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import boxes
import pytest
from boxes import BASE, NOW, Still, coder, hidden, moment, requests, rich
from fake_desk import FakeDesk
from fake_player import FakePlayer
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from pilots import Fingers
from textual.pilot import Pilot
from textual.widgets import Static

from builders import server
from halotui import figures
from halotui.app import HalotuiApp
from halotui.feed import Feed
from halotui.history import History
from halotui.keymap import KEYS, LISTED, REQUESTS
from halotui.model import End, Finding, Frame, Request, Server, ServerState, Severity
from halotui.screens.explain import Explain
from halotui.screens.finding import FindingScreen
from halotui.screens.launcher import Launcher
from halotui.screens.prompt import Prompt
from halotui.widgets import findings, models, requests_figures, requests_view, server_view, tabs
from halotui.widgets import hidden as hidden_facts
from halotui.widgets.canvas import Hit
from halotui.widgets.request_list import FRESH_SECONDS, RequestList
from halotui.widgets.requests_view import COLUMNS, columns, first_token
from halotui.widgets.rows import ORDER, TAB, width_of
from halotui.widgets.server_speculation import gain_words
from halotui.widgets.view import View, families

pytestmark = pytest.mark.usefixtures("utc")


class Hand(Fingers):
    def __init__(self, app: HalotuiApp, pilot: Pilot[int], feed: Any) -> None:
        super().__init__(app, pilot)
        self.feed = feed

    @property
    def rows(self) -> list[str]:
        return self.app.canvas.text().splitlines()

    @property
    def looked_at(self) -> str:
        assert self.app.view.server is not None
        return self.app.view.server.url

    @property
    def cells(self) -> list[list[str]]:
        """Of the table of requests, its marks left out."""
        start = next(y for y, row in enumerate(self.rows) if " TTFT" in row and " ended" in row)
        return [row[2:].split() for row in self.rows[start + 1 : -1] if row.strip()]

    def column(self, heading: str) -> list[str]:
        start = next(y for y, row in enumerate(self.rows) if " TTFT" in row and " ended" in row)
        end = max(self.rows[start].find(f" {heading}{arrow}") for arrow in " ↓↑") + len(heading) + 1
        return [row[: end + 1].split()[-1] for row in self.rows[start + 1 : -1] if row.strip()]

    async def show(self, frame: Frame) -> None:
        self.feed.more.put_nowait(frame)
        await self.until(lambda: self.app.view.frame is frame)

    async def click(self, wanted: Callable[[Hit], bool]) -> None:
        hit = next(hit for hit in self.app.canvas.hits() if wanted(hit))
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
    *frames: Frame, size: tuple[int, int] = (120, 40), desk: FakeDesk | None = None, **more: Any
) -> AsyncIterator[Hand]:
    feed = Still(frames)

    async def open_feed() -> Feed:
        return feed

    app = HalotuiApp(open_feed, desk=desk.open if desk is not None else None, **more)
    async with app.run_test(size=size) as pilot:
        hand = Hand(app, pilot, feed)
        await hand.until(lambda: app.view.frame is frames[-1])
        yield hand
    await app.close_feed()


def view_of(*servers: Server) -> View:
    view = View()
    shown = moment(servers)
    view.history.push(shown)
    view.take(shown)
    return view


def busy(count: int, **more: Any) -> Frame:
    return moment([rich(requests=requests(count, **more))])


# --- tabs


async def test_one_server_has_no_tabs() -> None:
    async with opened(moment([coder()])) as hand:
        assert not [hit for hit in hand.app.canvas.hits() if hit.ref.field == TAB]
        assert "─ speed" in hand.rows[1]


async def test_brackets_and_the_mouse_turn_to_another_server() -> None:
    async with opened(moment(boxes.several(3))) as hand:
        assert "─ speed" in hand.rows[2] and hand.looked_at == f"{BASE}:8080"
        await hand.press("right_square_bracket")
        assert hand.looked_at == f"{BASE}:8081" and "gpt-oss-120b" in hand.rows[0]
        await hand.press("left_square_bracket", "left_square_bracket")
        assert hand.looked_at == f"{BASE}:8082"
        await hand.click(lambda hit: hit.ref == (TAB, f"{BASE}:8081"))
        assert hand.looked_at == f"{BASE}:8081"


async def test_the_tab_follows_its_server_when_others_come_and_go() -> None:
    three = boxes.several(3)
    async with opened(moment(three)) as hand:
        await hand.press("right_square_bracket")
        assert hand.looked_at == f"{BASE}:8081"
        await hand.show(moment([server(f"{BASE}:7000"), *three], NOW + 1))
        assert hand.looked_at == f"{BASE}:8081"
        await hand.show(moment([three[1]], NOW + 2))
        assert hand.looked_at == f"{BASE}:8081" and "─ speed" in hand.rows[1]
        await hand.show(moment([three[0], three[2]], NOW + 3))  # it has gone: its neighbour meanwhile
        assert hand.looked_at != f"{BASE}:8081"
        await hand.show(moment([], NOW + 4))
        assert hand.app.view.server is None
        await hand.show(moment(three, NOW + 5))
        assert hand.looked_at == f"{BASE}:8081"


async def test_the_way_back_is_at_the_foot() -> None:
    async with opened(moment([coder()]), size=(80, 24), desk=FakeDesk()) as hand:
        assert "cockpit" not in hand.rows[-1]
        for key in "56":
            await hand.press(key)
            assert "1 cockpit" in hand.rows[-1]
        assert "filter" not in hand.rows[-1]


async def test_who_turns_while_a_server_is_away_stays_there() -> None:
    three = boxes.several(3)
    async with opened(moment(three)) as hand:
        await hand.press("right_square_bracket")
        await hand.show(moment([three[0], three[2]], NOW + 1))
        await hand.press("right_square_bracket")
        here = hand.looked_at
        await hand.show(moment(three, NOW + 2))
        assert hand.looked_at == here


async def test_the_cursor_stays_on_the_same_number_of_the_next_server() -> None:
    async with opened(moment(boxes.several(2))) as hand:
        await hand.press("down")
        before = hand.app.canvas.cursor
        assert before is not None and before.subject == f"{BASE}:8080"
        await hand.press("right_square_bracket")
        assert hand.app.canvas.cursor == before._replace(subject=f"{BASE}:8081")


def test_children_stand_behind_their_router() -> None:
    parent, ollama, child, asleep = boxes.router()
    assert list(families([parent, ollama, child, asleep])) == [parent, child, asleep, ollama]
    assert list(families([child, parent])) == [parent, child]
    assert list(families([child])) == [child]  # the router is not known
    one, two = server("a", behind="b"), server("b", behind="a")
    assert len(families([one, two])) == 2


def test_names_of_tabs() -> None:
    parent, ollama, child, asleep = boxes.router()
    assert [tabs.name_of(one) for one in (parent, ollama, child, asleep)] == [
        "router",
        "ollama",
        "gpt-oss-120b",
        "qwen3-coder-30b",
    ]
    assert tabs.name_of(server("http://h:1?model=a%1b%5B31m%2Fb")) == "a/b"  # as harmless as the rest
    assert tabs.name_of(server("http://h:1", model="/srv/x.gguf")) == "x"


def test_who_goes_down_keeps_its_name() -> None:
    one, two = boxes.several(2)
    view = view_of(one, replace(two, model="/srv/coder.gguf"))
    gone = server(two.url, ServerState.DOWN)
    for _ in range(2):
        view.take(moment([one, gone]))
        assert any(run.text == "coder" for run in tabs.rows(view, 120, 1)[0])
    view.take(moment([one, server(two.url)]))  # it answers, and has no model now
    view.take(moment([one, gone]))
    assert all(run.text != "coder" for run in tabs.rows(view, 120, 1)[0])


def test_what_is_down_is_not_offered_a_relaunch_for_its_facts() -> None:
    assert hidden_facts.finding(hidden()) is not None
    assert hidden_facts.finding(hidden(state=ServerState.DOWN)) is None


@given(width=st.integers(60, 260), count=st.integers(2, 30), at=st.integers(0, 29))
@settings(max_examples=80, deadline=None)
def test_the_current_tab_is_always_seen(width: int, count: int, at: int) -> None:
    view = view_of(*boxes.several(count))
    view.step(at)
    (row,) = tabs.rows(view, width, 1)
    assert sum(width_of(run.text) for run in row) == width
    assert view.server is not None
    own = [run for run in row if run.ref == (TAB, view.server.url)]
    assert f" {view.tab + 1} " in own[0].text and len(own) == 3
    assert "…" not in own[2].text


async def test_tabs_stand_still_while_speeds_change() -> None:
    slow, fast = boxes.several(4), boxes.several(4)
    fast[0] = coder(generation_tokens_per_second=9999.0)
    async with opened(moment(slow)) as hand:
        before = hand.rows[1].index("2 gpt")
        await hand.show(moment(fast, NOW + 1))
        assert hand.rows[1].index("2 gpt") == before


async def test_the_edges_turn_on_by_click() -> None:
    async with opened(moment(boxes.several(9)), size=(80, 24)) as hand:
        await hand.click(lambda hit: hit.ref.subject == "next-server" and hit.y == 1)
        assert hand.looked_at == f"{BASE}:8081"
        await hand.press(*["right_square_bracket"] * 4)
        assert hand.rows[1].lstrip().startswith("‹") and "6 " in hand.rows[1]


def test_a_finding_says_whose_it_is() -> None:
    wrong = Finding(
        id="stuck",
        severity=Severity.WARNING,
        title="It is stuck",
        evidence="44 s",
        why="w",
        fix="f",
        subject=f"{BASE}:8081#0",
    )
    view = view_of(*boxes.several(2))
    view.take(moment(boxes.several(2), findings=[wrong]))
    (line,) = findings.rows(view, 100, 3)
    assert "".join(run.text for run in line).startswith(" ▲ 2 It is stuck")
    (row,) = tabs.rows(view, 120, 1)
    assert next(run for run in row if "gpt-oss" in run.text).style == "warning"


# --- requests


async def test_newest_first_and_the_next_one_on_top() -> None:
    async with opened(busy(30)) as hand:
        await hand.press("5")
        assert hand.column("ended")[:2] == ["10:41:56", "10:41:44"]
        await hand.show(moment([rich(requests=requests(1, end=NOW + 1))], NOW + 2))
        assert hand.column("ended")[:2] == ["10:42:01", "10:41:56"]


async def test_what_is_pointed_at_stands_still() -> None:
    async with opened(busy(100)) as hand:
        await hand.press("5", "down", "down", "down")
        here = hand.app.canvas.cursor
        before = hand.cells[:10]
        await hand.show(moment([rich(requests=requests(3, end=NOW + 30))], NOW + 31))
        assert hand.app.canvas.cursor == here and hand.cells[:10] == before
        assert "3 newer above" in hand.rows[1]
        await hand.press("escape")
        assert hand.column("ended")[0] == "10:42:30" and "newer" not in hand.rows[1]


async def test_order_by_key_and_by_click() -> None:
    async with opened(busy(50)) as hand:
        await hand.press("5")
        sorts = [column.sort for column in columns(120)]
        for sort in (*sorts[1:], "time"):
            await hand.press("o")
            list_ = hand.app.view.requests
            assert list_.sort == sort
            assert list_.descending is (sort not in ("slot", "end"))
        await hand.click(lambda hit: hit.ref == (ORDER, "prompt"))
        prompts = [int(text.replace(",", "")) for text in hand.column("prompt")]
        assert prompts == sorted(prompts, reverse=True)
        await hand.press("O")
        prompts = [int(text.replace(",", "")) for text in hand.column("prompt")]
        assert prompts == sorted(prompts)
        await hand.click(lambda hit: hit.ref == (ORDER, "prompt"))
        assert hand.app.view.requests.descending


async def test_the_filter_is_that_of_the_command() -> None:
    async with opened(busy(100)) as hand:
        await hand.press("5", "slash")
        await hand.until(lambda: isinstance(hand.app.screen, Prompt))
        await hand.press(*"end=error", "enter")
        await hand.until(lambda: "filter: end=error" in hand.rows[1])
        kept = list(hand.feed.history.requests(hand.looked_at))
        assert len(hand.cells) == len(figures.chosen(kept, words="end=error")) > 0
        assert set(hand.column("end")) == {"error"}
        assert not hand.app.view.filter  # the log's is another
        await hand.press("escape")
        assert "100" in hand.rows[1] and "filter" not in hand.rows[1]


async def test_a_filter_that_cannot_be_read_says_so() -> None:
    async with opened(busy(5)) as hand:
        await hand.press("5")
        hand.app.view.requests.filter("speed>3")
        hand.app.canvas.update()
        assert "there is no 'speed'" in hand.rows[1] and len(hand.cells) == 5
        hand.app.view.requests.filter("slot=99")
        hand.app.canvas.update()
        assert "no request matches 'slot=99'" in "\n".join(hand.rows)


async def test_windows() -> None:
    async with opened(busy(100)) as hand:
        await hand.press("5")
        seen = []
        for _ in range(4):
            row = hand.rows[2].split(" ended")[0].split()
            seen.append((hand.rows[2][1:6].strip(), int(row[-1])))
            await hand.press("p")
        assert seen == [("5 min", 27), ("1 h", 100), ("all", 100), ("5 min", 27)]


async def test_scrolling_to_both_ends() -> None:
    async with opened(busy(100), size=(80, 24)) as hand:
        await hand.press("5", "end")
        assert "85-100 of 100" in hand.rows[1]
        await hand.press("pageup")
        assert "75-90 of 100" in hand.rows[1]
        await hand.press("home", "pagedown")
        assert "11-26 of 100" in hand.rows[1]
        await hand.press("home")
        assert "1-16 of 100" in hand.rows[1]


async def test_the_cursor_goes_beyond_the_edge() -> None:
    async with opened(busy(40), size=(80, 24)) as hand:
        await hand.press("5", "down")
        seen = [hand.app.canvas.cursor]
        for _ in range(39):
            await hand.press("down")
            seen.append(hand.app.canvas.cursor)
        assert len(set(seen)) == 40 and "25-40 of 40" in hand.rows[1]
        await hand.press("right")
        for _ in range(39):
            await hand.press("up")
        assert "1-16 of 40" in hand.rows[1]
        assert hand.app.canvas.cursor.subject == seen[0].subject  # type: ignore[union-attr]


async def test_explain_tells_the_whole_request() -> None:
    async with opened(busy(5), size=(60, 16)) as hand:
        await hand.press("5", "down", "right")
        told = await hand.explained()
        assert told.startswith("prompt  2,102 tok")
        for word in ("The whole request", "cached", "wall", "mean length"):
            assert word in told


@pytest.mark.parametrize("view", ["cockpit", "log", "sources", "server"])
async def test_its_keys_are_keys_of_the_requests_alone(view: str) -> None:
    ids = {key.id for key in KEYS if key.needs in (LISTED, REQUESTS)}
    assert ids == {"order", "reverse", "window"}
    async with opened(busy(5)) as hand:
        await hand.app.run_action(f"view('{view}')")
        await hand.press("o", "O", "p")
        list_, fresh = hand.app.view.requests, RequestList()
        assert (list_.sort, list_.descending, list_.window) == (fresh.sort, fresh.descending, fresh.window)
        assert not ids & set(hand.app._shown)
        await hand.press("5")
        assert ids <= set(hand.app._shown) and "o order" in hand.rows[-1]


async def test_they_can_be_remapped() -> None:
    async with opened(busy(5), keys={"order": "z", "requests": "f5"}) as hand:
        await hand.press("f5", "z")
        assert hand.app.view.requests.sort != "time" and "z order" in hand.rows[-1]


def test_nothing_to_see_says_why() -> None:
    def said(*sources: Any, **more: Any) -> str:
        view = view_of(coder(**more))
        view.sources = {source.id: source for source in sources}
        return "\n".join("".join(run.text for run in row) for row in requests_view.rows(view, 160, 20))

    everything = moment([coder()]).sources
    assert "none has ended since the log is followed" in said(*everything)
    watched = said(*boxes.no_log(coder()))
    assert "known from its slot alone" in watched and "--log-file" in watched
    assert "neither is to be had" in said()
    router = boxes.router()[0]
    assert "in their own tabs" in said(models=router.models, slots=())


@pytest.mark.parametrize(
    ("ttft", "error", "text"),
    [
        (None, None, "–"),
        (1.27, None, "1.27 s"),
        (1.27, 0.1, "1.27 s"),
        (1.27, 0.5, "1.3±0.5 s"),
        (0.4, 0.5, "400±500 ms"),
        (0.00075, 0.00012, "0.8±0.1 ms"),
        (93.0, 60.0, "93±60 s"),
        (93.0, 1.0, "93 s"),
    ],
)
def test_an_error_is_told_where_it_matters(ttft: float | None, error: float | None, text: str) -> None:
    assert first_token(Request(source="slots", ttft_seconds=ttft, ttft_error_seconds=error)) == text


def test_every_column_is_a_field_and_an_order() -> None:
    assert [column.sort for column in COLUMNS] == list(figures.SORTS)
    assert len({column.rank for column in COLUMNS}) == len(COLUMNS)


def test_what_several_requests_were_in_one_is_not_listed() -> None:
    view = view_of(coder(requests=(Request(source="metrics", generation_tokens=9000), *requests(2))))
    assert view.server is not None
    assert len(view.requests.all(view.history, view.server.url)) == 2


def test_a_quiet_frame_counts_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    view = view_of(rich(requests=requests(300)))
    requests_view.rows(view, 200, 60)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("counted again")

    for name in ("chosen", "figures", "histogram"):
        monkeypatch.setattr(figures, name, never)
    quiet = moment([rich()], NOW - NOW % FRESH_SECONDS + FRESH_SECONDS / 2)
    view.history.push(quiet)
    view.take(quiet)
    requests_view.rows(view, 200, 60)


def test_many_requests_are_drawn_fast() -> None:
    history = History()
    history.push(busy(2000))
    view = View(history=history)
    view.take(moment([rich()]))
    requests_view.rows(view, 200, 60)
    began = time.process_time()
    for _ in range(10):
        requests_view.rows(view, 200, 60)
    assert (time.process_time() - began) / 10 < 0.05


SIZES = st.tuples(st.integers(60, 260), st.integers(12, 80))


@given(size=SIZES, count=st.sampled_from([0, 1, 5, 19, 20, 99, 100, 300]), words=st.text(max_size=12))
@settings(max_examples=60, deadline=None)
def test_requests_fit(size: tuple[int, int], count: int, words: str) -> None:
    view = view_of(rich(requests=(*requests(count), Request(source="log"))))
    view.requests.filter(words)
    fits(requests_view.rows(view, *size), *size)


@given(size=SIZES)
@settings(max_examples=40, deadline=None)
def test_the_server_fits(size: tuple[int, int]) -> None:
    parent, ollama, child, asleep = boxes.router()
    for one in (rich(), hidden(), coder(), parent, ollama, child, asleep, server(state=ServerState.DOWN)):
        rows = server_view.page(view_of(one), size[0])
        assert {sum(width_of(run.text) for run in row) for row in rows} == {size[0]}
        fits(models.rows(view_of(one), *size), size[0], None)


def fits(rows: Sequence[Any], width: int, height: int | None) -> None:
    assert {sum(width_of(run.text) for run in row) for row in rows} == {width}
    assert height is None or len(rows) == height


def test_bars_show_what_is_not_empty() -> None:
    bins = figures.histogram([1.0] * 1000 + [2.0, 10.0], 5)
    drawn = requests_figures.bars(bins)
    assert len(drawn) == len(bins) and drawn[0] == "█" and drawn[-1] == "▁"


# --- the server


async def test_page_by_page() -> None:
    async with opened(moment([rich()]), size=(60, 16)) as hand:
        await hand.press("6")
        assert "more lines: page down" in hand.rows[-2]
        await hand.press("end")
        assert "more lines" not in "\n".join(hand.rows)
        last = hand.rows[-2]
        await hand.press("pagedown")
        assert hand.rows[-2] == last
        await hand.press("home")
        assert "─ server" in hand.rows[1]


async def test_the_cursor_scrolls_the_page() -> None:
    async with opened(moment([rich()]), size=(60, 16)) as hand:
        await hand.press("6", *["down"] * 40)
        assert hand.app.view.top > 10
        assert any(hit.ref == hand.app.canvas.cursor for hit in hand.app.canvas.hits())
        await hand.press(*["up"] * 60)
        assert hand.app.view.top == 0


async def test_each_fact_names_its_source() -> None:
    async with opened(moment([rich()])) as hand:
        await hand.press("6")
        row = next(row for row in hand.rows if "flash attention" in row)
        assert row.split()[2:4] == ["on", "log"]
        await hand.click(lambda hit: hit.ref.field == "facts.flash_attention")
        told = await hand.explained()
        assert (
            "facts.flash_attention" in told
            and "From     log" in told
            and told.startswith("flash attention  on")
        )


async def test_hidden_facts_offer_the_relaunch_that_shows_them() -> None:
    desk = FakeDesk()
    async with opened(moment([hidden()]), desk=desk) as hand:
        await hand.press("6")
        assert "r relaunches with -lv 4" in "\n".join(hand.rows)
        await hand.click(lambda hit: hit.ref.field == "finding")
        await hand.press("enter")
        await hand.until(lambda: isinstance(hand.app.screen, FindingScreen))
        await hand.press("r")
        await hand.until(lambda: isinstance(hand.app.screen, Launcher))
        screen = hand.app.screen
        assert isinstance(screen, Launcher) and screen._given == {"lv": 4}


async def test_r_alone_does_so_too() -> None:
    async with opened(moment([hidden()]), desk=FakeDesk()) as hand:
        await hand.press("6", "r")
        await hand.until(lambda: isinstance(hand.app.screen, Launcher))
        assert hand.app.screen._given == {"lv": 4}  # type: ignore[attr-defined]


async def test_who_only_looks_is_offered_nothing() -> None:
    async with opened(moment([hidden()]), size=(80, 24)) as hand:
        await hand.press("6")
        text = "\n".join(hand.rows)
        assert "this build keeps them to itself" in text and "relaunches" not in text


@pytest.mark.parametrize(
    ("ratio", "error", "words", "style"),
    [
        (1.34, 0.08, "34 % ± 8 % faster than without (estimated)", "life"),
        (0.8, 0.05, "20 % ± 5 % slower than without (estimated)", "warning"),
        (1.03, 0.08, "no difference that can be told ± 8 % (estimated)", "text"),
        (1.5, None, "50 % faster than without (estimated)", "life"),
    ],
)
def test_gain_in_words(ratio: float, error: float | None, words: str, style: str) -> None:
    assert gain_words(ratio, error) == (words, style)


async def test_models_stand_where_slots_would() -> None:
    async with opened(moment(boxes.router())) as hand:
        text = "\n".join(hand.rows)
        assert "─ models" in text and "─ slots" not in text and "exit code 1" in text
        await hand.click(lambda hit: hit.ref.field == "model.state")
        assert "model.state" in await hand.explained()


async def test_a_stuck_slot_is_marked() -> None:
    still = boxes.slots(still_seconds=44.0, generation_tokens_per_second=0.0)
    async with opened(moment([rich(slots=still)])) as hand:
        assert "slot 0 still for 44 s" in "\n".join(hand.rows)
        runs = [run for row in hand.app.canvas._cells for run in row]
        assert next(run for run in runs if run.text == "decode ").style == "warning"


# --- of a recording


async def test_a_recording_has_the_views_too() -> None:
    frames = [
        moment([rich(requests=requests(3, end=NOW + second, seed=second))], NOW + second)
        for second in range(20)
    ]
    player = FakePlayer(frames, at=15)

    async def open_feed() -> Any:
        return player

    app = HalotuiApp(open_feed)
    async with app.run_test(size=(120, 40)) as pilot:
        hand = Hand(app, pilot, player)
        await hand.until(lambda: app.view.frame is not None)
        await hand.press("5")
        await hand.until(lambda: "of 48" in hand.rows[1])
        await hand.press("less_than_sign")
        await hand.until(lambda: " 3 ended" in hand.rows[2] and hand.rows[1].endswith(" 3"))
        await hand.press("6")
        await hand.until(lambda: "─ speculation" in "\n".join(hand.rows))
    await app.close_feed()


def test_ends_are_told_apart_without_words() -> None:
    assert set(requests_figures.MARKS) == set(End) - {End.DONE}
