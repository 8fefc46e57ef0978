"""Tabs, requests and the server, picture by picture. See ``test_snapshots`` for how to renew them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import boxes
import pytest
import whole
from boxes import Still, coder, moment, rich
from fake_desk import FakeDesk
from test_snapshots import difference
from textual.pilot import Pilot

from halotui.app import HalotuiApp
from halotui.feed import Feed
from halotui.model import Frame
from halotui.themes import DEFAULT

KEPT = Path(__file__).parent / "__snapshots__" / "test_views_snapshots"
SIZES = {"60x16": (60, 16), "80x24": (80, 24), "120x40": (120, 40), "200x60": (200, 60)}
STUCK: dict[str, Any] = {"still_seconds": 44.0, "phase_seconds": 80.0, "generation_tokens_per_second": 0.0}

BOXES: dict[str, Callable[[], Frame]] = {
    "two": lambda: moment(boxes.several(2)),
    "nine": lambda: moment(boxes.several(9)),
    "router": lambda: moment(boxes.router()),
    "rich": lambda: moment([rich(requests=boxes.requests(30))]),
    "hidden": lambda: moment([boxes.hidden()]),
    "stuck": lambda: moment([rich(slots=boxes.slots(**STUCK), still_seconds=44.0)]),
    "whole": whole.box,
    "no-log": lambda: moment([coder()], sources=boxes.no_log(coder())),
    **{
        f"requests-{count}": lambda count=count: moment([rich(requests=boxes.requests(count))])
        for count in (0, 5, 300)
    },
}


class Case(NamedTuple):
    box: str
    size: str
    keys: tuple[str, ...] = ()
    theme: str = DEFAULT
    desk: bool = False
    color: bool = True


CASES = {
    **{f"{box}-{size}": Case(box, size) for box in ("two", "nine", "router") for size in SIZES},
    **{f"nine-{at}th-80x24": Case("nine", "80x24", ("right_square_bracket",) * at) for at in (4, 8)},
    **{
        f"{box}-{size}": Case(box, size, ("5",))
        for box in ("requests-0", "requests-5", "requests-300")
        for size in SIZES
    },
    **{
        f"server-{box}-{size}": Case(box, size, ("6",))
        for box in ("rich", "hidden", "router")
        for size in SIZES
        if size != "60x16" or box == "rich"
    },
    "server-hidden-acting-80x24": Case("hidden", "80x24", ("6",), desk=True),
    "server-hidden-relaunch-80x24": Case("hidden", "80x24", ("6", "r"), desk=True),
    "server-rich-light": Case("rich", "120x40", ("6",), "halo-light"),
    "requests-no-log-80x24": Case("no-log", "80x24", ("5",)),
    "requests-by-ttft-80x24": Case("requests-300", "80x24", ("5", *"oooo", "down", "down")),
    "requests-light": Case("requests-300", "120x40", ("5",), "halo-light"),
    "requests-no-colour": Case("requests-300", "80x24", ("5",), color=False),
    "requests-explain-120x40": Case("requests-300", "120x40", ("5", "down", "e")),
    "nine-no-colour": Case("nine", "120x40", color=False),
    "box-120x40": Case("whole", "120x40", ("7",)),
    "processes-120x40": Case("whole", "120x40", ("8",)),
    "stuck-80x24": Case("stuck", "80x24"),
    "stuck-200x60": Case("stuck", "200x60"),
    "help-120x60": Case("two", "120x60", ("5", "question_mark")),
}
SIZES["120x60"] = (120, 60)

pytestmark = pytest.mark.usefixtures("utc")


@pytest.mark.parametrize("name", CASES)
def test_picture(name: str, snap_compare: Callable[..., bool], monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    if case.color:
        monkeypatch.delenv("NO_COLOR", raising=False)
    else:
        monkeypatch.setenv("NO_COLOR", "1")
    desk = FakeDesk() if case.desk else None

    async def open_feed() -> Feed:
        return Still([BOXES[case.box]()])

    app = HalotuiApp(open_feed, desk=desk.open if desk is not None else None, theme=case.theme)
    drawn = ""

    async def press(pilot: Pilot[int]) -> None:
        nonlocal drawn
        while app.view.frame is None:
            await pilot.pause(0.01)
        for key in case.keys:
            await pilot.press(key)
            await pilot.pause()
        before = ""
        while before != (drawn := app.export_screenshot()) or "looking…" in drawn:
            before = drawn
            await pilot.pause(0.02)

    if not snap_compare(app, terminal_size=SIZES[case.size], run_before=press):
        pytest.fail(difference(KEPT / f"test_picture[{name}].svg", drawn), pytrace=False)
