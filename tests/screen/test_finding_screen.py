"""A finding in full: what it says, its chart, its cure as a command, and its silence."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pilots import Fingers

from builders import URL, frame, gpu, memory, server
from halotui.app import HalotuiApp
from halotui.history import History
from halotui.model import Cause, Finding, Frame, ServerState, Severity
from halotui.screens.explain import explain
from halotui.screens.finding import HUSHED, FindingScreen, cure, text
from halotui.widgets.rows import Ref
from halotui.widgets.view import View

BEGAN = 1_795_171_320.0
FALL = Finding(
    id="tg-regressed",
    severity=Severity.WARNING,
    title="Decode is 35 % slower than usual",
    evidence="decode 31 t/s, usually 48",
    why="The power limit.",
    fix="Take it away.",
    subject=URL,
    since_time=BEGAN + 60,
    reference="https://example.org/1",
    fields=("server.generation_tokens_per_second",),
    causes=(
        Cause(
            id="power-limited", text="The package is at its limit.", proof="halotui probe speed", share=0.6
        ),
        Cause(id="build", text="The build is another one.", proof="relaunch with the old one"),
    ),
)


def at(second: float, *found: Finding) -> Frame:
    one = server(state=ServerState.BUSY, generation_tokens_per_second=48.0 if second < 60 else 31.0)
    return frame(BEGAN + second, servers=[one], gpus=[gpu()], memory=memory(), findings=found)


class Falls:
    """A Feed of two minutes in which decode falls, and then the same for ever."""

    def __init__(self) -> None:
        self.history, self.interval = History(), 1.0

    async def frames(self) -> AsyncIterator[Frame]:
        for second in range(120):
            now = at(second, *([FALL] if second >= 60 else []))
            self.history.push(now)
            if second > 116:
                yield now

    async def close(self) -> None:
        return


def shown(**more: Any) -> str:
    view = View()
    now = at(100, FALL)
    for second in range(101):
        view.history.push(at(second))
    view.take(now)
    import msgspec

    return text(view, msgspec.structs.replace(FALL, **more), 80)


def test_it_says_everything() -> None:
    told = shown()
    for words in (
        FALL.title,
        f"warning · tg-regressed · {URL} · since ",
        FALL.evidence,
        "1. The package is at its limit.  explains about 60 % of it",
        "   To be sure: halotui probe",
        "2. The build is another one.\n",
        FALL.why,
        FALL.fix,
        "Reference: https://example.org/1",
    ):
        assert words in told


def test_the_chart_is_of_the_moment() -> None:
    lines = shown().splitlines()
    axis = next(line for line in lines if line.strip() == "▲")
    foot = next(line for line in lines if "└" in line)
    left, right = foot.index("└") + 1, foot.rindex("┘") - 1
    assert abs((axis.index("▲") - left) / (right - left) - 0.6) < 0.03  # of 100 seconds
    assert "decode" in shown()


@pytest.mark.parametrize("away", [-40, 140])  # a minute and more was not watched
def test_the_moment_may_lie_outside_of_what_was_watched(away: float) -> None:
    assert any(line.strip() == "▲" for line in shown(since_time=BEGAN + away).splitlines())


@pytest.mark.parametrize(
    ("more", "there"),
    [
        ({"fields": ("gpu.gtt_used_bytes",)}, True),
        ({"fields": ("memory.available_bytes",)}, True),
        ({"fields": ("server.slots_total",)}, True),  # not kept: the speed of its server is
        ({"fields": (), "subject": "halo"}, False),
        ({"since_time": BEGAN + 4000}, False),  # long gone from history
        ({"since_time": None}, True),
    ],
)
def test_what_there_is_to_draw(more: dict[str, Any], there: bool) -> None:
    assert ("┘" in shown(**more)) is there


def test_a_cure_is_a_command() -> None:
    assert cure(FALL) == ""
    from msgspec.structs import replace

    patched = replace(FALL, patch={"np": 1, "kvu": True, "draft": None})
    assert cure(patched) == f"halotui relaunch --server {URL} --set np=1 --set kvu=true --unset draft"
    assert cure(replace(patched, subject="0000:c5:00.0")).startswith("halotui relaunch --set np=1")


@pytest.mark.parametrize(
    ("label", "trouble", "words"),
    [
        ("", None, "`halotui rules hear tg-regressed` takes it back"),
        ("", "the disk is full", "silent only until halotui ends: the disk is full"),
        ("DEMO", None, "silent until the demo ends"),  # its ledger is another one than the user's
    ],
)
async def test_z_silences(label: str, trouble: str | None, words: str) -> None:
    asked: list[tuple[str, str, float]] = []

    async def silence(id_: str, subject: str, seconds: float) -> str | None:
        asked.append((id_, subject, seconds))
        return trouble

    async def feed() -> Any:
        return Falls()

    app = HalotuiApp(feed, silence=silence, label=label)
    async with app.run_test(size=(120, 40)) as pilot:
        hand = Fingers(app, pilot)
        await hand.until(lambda: app.view.frame is not None and app.view.frame.findings)
        await hand.press("e")
        await hand.until(lambda: isinstance(app.screen, FindingScreen))
        await hand.press("r")  # nothing to relaunch with
        assert isinstance(app.screen, FindingScreen)
        await hand.press("z")
        await hand.until(lambda: asked)
        await hand.until(lambda: words in hand.said)
        assert asked == [(FALL.id, URL, HUSHED)]


async def test_without_a_ledger_there_is_no_silence() -> None:
    async def feed() -> Any:
        return Falls()

    app = HalotuiApp(feed)
    async with app.run_test(size=(80, 24)) as pilot:
        hand = Fingers(app, pilot)
        await hand.until(lambda: app.view.frame is not None and app.view.frame.findings)
        await hand.press("e")
        await hand.until(lambda: isinstance(app.screen, FindingScreen))
        await hand.press("z")
        assert isinstance(app.screen, FindingScreen)


def test_a_number_that_is_low_says_why() -> None:
    view = View()
    view.take(at(100))
    ref = Ref("server.generation_tokens_per_second", URL)
    told = explain(view, ref, 80, FALL.causes).plain
    assert "Lower than usual here. Likely causes\n1. The package is at its limit." in told
    assert "Lower than usual" not in explain(view, ref, 80).plain
