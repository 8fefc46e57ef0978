"""Every key of a relaunch, pressed: what the desk is asked, and what is seen."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_desk import ASKS, CHECKS, CUT, FAILED, KEPT, LOST, ROLLED_BACK, FakeDesk, outcome
from textual import events
from textual.pilot import Pilot
from textual.widgets import Footer, OptionList, Static

from builders import URL, frame, server
from halotui.actions import ActionError, Ask, Kind, Progress, Step
from halotui.app import HalotuiApp
from halotui.history import History
from halotui.keymap import DESK, KEYS, usable
from halotui.model import Finding, Frame, ServerState, Severity
from halotui.screens.checklist import Checklist
from halotui.screens.cut_off import CutOff
from halotui.screens.finding import FindingScreen
from halotui.screens.form import Choice, Form
from halotui.screens.launcher import Launcher, Profiles
from halotui.screens.popup import plain
from halotui.screens.relaunch import Relaunch
from halotui.screens.result import Result, outcome_text
from halotui.screens.undertaking import Undertaking

CURED = Finding(
    id="np-slots",
    severity=Severity.WARNING,
    title="The server has more slots than asked for",
    evidence="-np 1, the server has 4",
    why="why",
    fix="fix",
    subject=URL,
    patch={"np": 1, "kvu": True, "draft-max": None},
)


class Still:
    """A Feed of frames that do not change."""

    def __init__(self, picture: Frame) -> None:
        self.history, self.interval, self._picture = History(), 1.0, picture

    async def frames(self) -> AsyncIterator[Frame]:
        for _ in range(4):  # enough for what waits for the first ones
            yield self._picture

    async def close(self) -> None:
        pass


class Hand:
    """A pilot that waits for what a key brings."""

    def __init__(self, app: HalotuiApp, pilot: Pilot[int]) -> None:
        self.app, self.pilot = app, pilot

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
            await self.pilot.pause()

    async def see(self, kind: type[Any]) -> Any:
        return await self.until(lambda: self.app.screen if isinstance(self.app.screen, kind) else None)

    async def gone(self) -> None:
        await self.until(lambda: len(self.app.screen_stack) == 1)

    async def read(self, words: str) -> None:
        await self.until(lambda: words in self.text)

    async def until(self, wanted: Callable[[], Any]) -> Any:
        for _ in range(200):
            if found := wanted():
                return found
            await self.pilot.pause(0.01)
        raise AssertionError(f"never came; on {self.app.screen}:\n{self.text}")

    @property
    def text(self) -> str:
        return "\n".join(str(static.render()) for static in self.app.screen.query(Static))

    @property
    def foot(self) -> str:
        """The keys that may be pressed now."""
        active = self.app.screen.active_bindings.values()
        shown = [b.binding.description for b in active if b.binding.show and b.enabled]
        return " ".join(dict.fromkeys(shown))

    @property
    def said(self) -> str:
        return "\n".join(note.message for note in self.app._notifications)


Open = Callable[..., AbstractAsyncContextManager[Hand]]


@pytest.fixture
def cockpit(tmp_path: Path) -> Open:
    @asynccontextmanager
    async def opened(
        desk: FakeDesk | None,
        *findings: Finding,
        state: ServerState | None = ServerState.IDLE,
        size: tuple[int, int] = (80, 24),
        **more: Any,
    ) -> AsyncIterator[Hand]:
        servers = [server(state=state, pid=4711)] if state is not None else []
        picture = frame(servers=servers, findings=findings)

        async def open_feed() -> Any:
            return Still(picture)

        app = HalotuiApp(
            open_feed,
            desk=desk.open if desk is not None else None,
            unfinished=Path(__file__),
            state_dir=tmp_path,
            **more,
        )
        async with app.run_test(size=size) as pilot:
            hand = Hand(app, pilot)
            await hand.until(lambda: app.view.frame is not None and (desk is None or desk.opened))
            yield hand
        await app.close_feed()

    return opened


def last(desk: FakeDesk) -> Ask:
    return desk.asked[-1]


# --- r


async def test_a_profile_is_picked_checked_and_launched(cockpit: Open) -> None:
    desk = FakeDesk()
    async with cockpit(desk) as hand:
        await hand.press("r")
        await hand.see(Launcher)
        await hand.until(lambda: hand.app.screen.query_one(Profiles).option_count)
        await hand.press("down", "down")
        await hand.read("with a model of its own")
        await hand.press("enter")
        await hand.see(Checklist)
        await hand.read("coder-rocm")
        assert last(desk) == Ask(kind=Kind.RELAUNCH, server=URL, profile="coder-rocm")
        assert not desk.carried
        await hand.press("enter")
        await hand.see(Undertaking)
        await hand.read("24.1 GiB of 57.3 GiB read")
        assert desk.carried == ["plan-1"]
        desk.go.set()
        await hand.see(Result)
        await hand.read("better")
        await hand.press("enter")
        await hand.gone()
        assert len(desk.asked) == 1


async def test_the_same_but_with_other_flags(cockpit: Open) -> None:
    desk = FakeDesk()
    async with cockpit(desk) as hand:
        await hand.press("r")
        await hand.until(lambda: hand.app.screen.query(Form))
        await hand.press("enter", "right", "down", "backspace", "1", "down", "down", "right", "right", "left")
        await hand.read("-ctk")
        await hand.press("tab", "left", "down", "down", *"256")
        await hand.press("enter")
        await hand.see(Checklist)
        await hand.until(lambda: desk.asked)
        assert last(desk).patch == {"np": "1", "ctk": "q8_0", "ctv": None, "b": "256"}
        assert last(desk).profile == "coder-rocm" and last(desk).extra is None
        await hand.press("escape")
        await hand.see(Launcher)
        assert hand.app.screen.query_one(Form).patch()["np"] == "1"  # nothing typed is lost
        await hand.press("escape")
        await hand.gone()
        assert not desk.carried


@pytest.mark.parametrize(
    ("typed", "extra"), [("--foo 'a b' -x", ("--foo", "a b", "-x")), ("'open", None)], ids=["good", "open"]
)
async def test_extra_flags_are_words(cockpit: Open, typed: str, extra: tuple[str, ...] | None) -> None:
    desk = FakeDesk()
    async with cockpit(desk) as hand:
        await hand.press("r")
        await hand.until(lambda: hand.app.screen.query(Form))
        await hand.press("shift+tab")
        hand.app.screen.focused.value = typed  # type: ignore[union-attr]
        await hand.read("• extra flags")
        await hand.pilot.pause(0.05)
        await hand.press("enter")
        if extra is None:
            await hand.read("quot")
            assert isinstance(hand.app.screen, Launcher) and not desk.asked
        else:
            await hand.until(lambda: desk.asked)
            assert last(desk).extra == extra and last(desk).patch == {}


async def test_typing_filters_the_profiles(cockpit: Open) -> None:
    async with cockpit(FakeDesk()) as hand:
        await hand.press("r")
        profiles = await hand.until(lambda: (found := hand.app.screen.query(Profiles)) and found.first())
        await hand.until(lambda: profiles.option_count == 9)
        await hand.press(*"rocm")
        await hand.read("filter: rocm")
        assert [profiles.get_option_at_index(i).id for i in range(profiles.option_count)] == [
            "coder-rocm",
            "rocm-hipblaslt",
            "rocm-wmma",
        ]
        await hand.press(*"zz")
        await hand.read("there is none")
        await hand.press("enter")
        assert isinstance(hand.app.screen, Launcher)
        await hand.press("escape")
        assert profiles.option_count == 9  # the first esc takes the filter away
        await hand.press("escape")
        await hand.gone()


@pytest.mark.parametrize("way", ["cursor", "explain"])
async def test_a_finding_brings_its_fix(cockpit: Open, way: str) -> None:
    desk = FakeDesk()
    async with cockpit(desk, CURED) as hand:
        await hand.press(*(("tab", "shift+tab") if way == "cursor" else ("e",)))
        if way == "cursor":
            while hand.app.view.finding(hand.app.canvas.cursor) is None:
                assert hand.app.canvas.move(0, -1)
        await hand.press("r")
        await hand.see(Launcher)
        await hand.read(CURED.title)
        await hand.until(lambda: hand.app.screen.query(Form))
        await hand.press("enter")
        await hand.until(lambda: desk.asked)
        assert last(desk).patch == CURED.patch
        assert last(desk).patch["kvu"] is True  # as the rule gave it


async def test_a_finding_without_a_cure_offers_none(cockpit: Open) -> None:
    async with cockpit(FakeDesk(), msgspec.structs.replace(CURED, patch=None)) as hand:
        await hand.press("e")
        await hand.see(FindingScreen)
        await hand.press("r")
        assert isinstance(hand.app.screen, FindingScreen)


async def test_without_a_server_profiles_are_launched(cockpit: Open) -> None:
    desk = FakeDesk(no_form=ActionError("There is no server to change.", "Pick a profile."))
    async with cockpit(desk, state=None) as hand:
        await hand.press("r")
        await hand.until(lambda: hand.app.screen.query(Profiles).first().option_count == 8)
        await hand.press("enter")
        await hand.until(lambda: desk.asked)
        assert last(desk).profile == "coder" and last(desk).server == ""


# --- b, u, x


async def test_swap_measures_and_m_leaves_that(cockpit: Open) -> None:
    desk = FakeDesk()
    async with cockpit(desk) as hand:
        await hand.press("b")
        await hand.see(Checklist)
        await hand.read("on, about a minute")
        assert last(desk) == Ask(kind=Kind.RELAUNCH, server=URL, profile="coder-rocm", measure=True)
        await hand.press("m")
        await hand.read("before and after: off")
        assert last(desk).measure is False
        await hand.press("y")
        await hand.see(Undertaking)
        assert desk.carried == ["plan-2"]


async def test_nowhere_to_swap_to(cockpit: Open) -> None:
    desk = FakeDesk(swap=None)
    async with cockpit(desk) as hand:
        await hand.press("b")
        await hand.read("halotui profiles add")
        await hand.press("enter")
        assert isinstance(hand.app.screen, Checklist) and not desk.asked
        await hand.press("escape")
        await hand.gone()


@pytest.mark.parametrize(
    ("key", "state", "kind"),
    [
        ("u", ServerState.IDLE, Kind.UNDO),
        ("x", ServerState.BUSY, Kind.STOP),
        ("x", ServerState.DOWN, Kind.START),
        ("x", None, Kind.START),
    ],
)
async def test_undo_stop_and_start_ask_first(
    cockpit: Open, key: str, state: ServerState | None, kind: Kind
) -> None:
    desk = FakeDesk()
    async with cockpit(desk, state=state) as hand:
        await hand.press(key)
        await hand.until(lambda: desk.asked)
        await hand.read(str(kind))
        assert last(desk) == Ask(kind=kind, server=URL if state is not None else "")
        await hand.press("escape")
        await hand.gone()
        assert not desk.carried


# --- the check


async def test_a_failed_check_cannot_be_agreed_to(cockpit: Open) -> None:
    desk = FakeDesk(checks=(*CHECKS, FAILED))
    async with cockpit(desk) as hand:
        await hand.press("b")
        await hand.read("Not possible")
        assert "do it" not in hand.foot
        assert hand.text.index("✗ flags") < hand.text.index("! memory") < hand.text.index("✓ binary")
        await hand.press("enter", "y")
        assert isinstance(hand.app.screen, Checklist) and not desk.carried


@pytest.mark.parametrize("error", [ActionError("No such profile.", "Look at the list."), OSError("disk")])
async def test_what_cannot_be_prepared_says_why(cockpit: Open, error: Any) -> None:
    desk = FakeDesk(refusal=error)
    async with cockpit(desk) as hand:
        await hand.press("b")
        await hand.read("Nothing was touched")
        assert "No such profile." in hand.text or "OSError: disk" in hand.text
        await hand.press("enter", "escape")
        await hand.gone()


async def test_the_new_command_is_copied(cockpit: Open) -> None:
    async with cockpit(FakeDesk()) as hand:
        await hand.press("b")
        await hand.read("binary runs")
        await hand.press("c")
        assert hand.app.clipboard.endswith("--metrics -ctk q8_0")


# --- under way


async def test_hidden_it_goes_on_and_r_brings_it_back(cockpit: Open) -> None:
    desk = FakeDesk()
    async with cockpit(desk) as hand:
        await hand.press("b")
        await hand.read("binary runs")
        await hand.press("enter")
        await hand.see(Undertaking)
        await hand.press("escape")
        await hand.gone()
        assert "relaunch: loading 42 %" in hand.app.canvas.text()
        for key in "rbux":  # one at a time
            await hand.press(key)
            await hand.see(Undertaking)
            await hand.press("h")
            await hand.gone()
        assert len(desk.asked) == 1
        desk.go.set()
        await hand.see(Result)
        await hand.press("escape")
        assert "loading" not in hand.app.canvas.text()


@pytest.mark.parametrize(("key", "yes"), [("y", True), ("n", False)])
async def test_a_question_is_answered_once(cockpit: Open, key: str, yes: bool) -> None:
    desk = FakeDesk(told=ASKS)
    async with cockpit(desk) as hand:
        await hand.press("b")
        await hand.read("binary runs")
        await hand.press("enter")
        await hand.read("Kill it?")
        assert "yes" in hand.foot and "asks" in hand.app.canvas.text()
        await hand.press(key, key)
        assert desk.answers == [("kill", yes)]
        await hand.until(lambda: "Kill it?" not in hand.text and "yes" not in hand.foot)


async def test_no_question_no_answer_and_c_puts_back(cockpit: Open) -> None:
    desk = FakeDesk()
    async with cockpit(desk) as hand:
        await hand.press("b")
        await hand.read("binary runs")
        await hand.press("enter")
        await hand.see(Undertaking)
        await hand.press("y", "c")
        assert not desk.answers and desk.cancelled == 1


async def test_quitting_leaves_it_alone(cockpit: Open) -> None:
    desk = FakeDesk()
    async with cockpit(desk) as hand:
        await hand.press("b")
        await hand.read("binary runs")
        await hand.press("enter")
        await hand.see(Undertaking)
        await hand.press("q")
    assert desk.carried and not desk.cancelled and not desk.answers and desk.closed == 1


async def test_a_worker_that_dies_is_said_and_offered(cockpit: Open) -> None:
    desk = FakeDesk(end=ActionError("It was cut off while loading.", "Press r."), standing=(None, CUT))
    async with cockpit(desk) as hand:
        await hand.press("b")
        await hand.read("binary runs")
        await hand.press("enter")
        await hand.see(Undertaking)
        desk.go.set()
        await hand.gone()
        await hand.until(lambda: "cut off while loading" in hand.said)
        assert "relaunch unfinished" in hand.app.canvas.text()
        await hand.press("r")
        await hand.see(CutOff)


# --- the end


async def test_going_back_asks_again(cockpit: Open) -> None:
    desk = FakeDesk()
    desk.go.set()
    async with cockpit(desk) as hand:
        await hand.press("b")
        await hand.read("binary runs")
        await hand.press("enter")
        await hand.see(Result)
        await hand.press("u")
        await hand.see(Checklist)
        await hand.until(lambda: last(desk).kind is Kind.UNDO)


@pytest.mark.parametrize(
    ("end", "words", "foot"),
    [
        (KEPT, "serves", "keep go back save as profile copy write to file"),
        (ROLLED_BACK, "out of memory", "close copy write to file"),
        (LOST, "no server is running", "close go back copy write to file"),
        (outcome(Step.REFUSED, reason="The port is taken."), "nothing was touched", "close copy"),
        (outcome(Step.STOPPED_FOR_GOOD, pid=None), "Stopped", "close go back"),
    ],
    ids=lambda value: str(getattr(value, "step", "")),
)
async def test_each_end_says_what_runs(cockpit: Open, end: Any, words: str, foot: str) -> None:
    desk = FakeDesk(end=end)
    desk.go.set()
    async with cockpit(desk) as hand:
        await hand.press("b")
        await hand.read("binary runs")
        await hand.press("enter")
        await hand.see(Result)
        await hand.read(words)
        assert hand.foot.startswith(foot)
        assert hand.app.screen.query_one("#box").has_class("-trouble") == (end is LOST)
        await hand.press("enter")
        await hand.gone()


async def test_the_end_is_copied_and_written(cockpit: Open, tmp_path: Path) -> None:
    desk = FakeDesk(end=LOST)
    desk.go.set()
    async with cockpit(desk) as hand:
        await hand.press("b")
        await hand.read("binary runs")
        await hand.press("enter")
        await hand.see(Result)
        await hand.press("y", "w")
        assert "before  toolbox run -c llama-vulkan-radv" in hand.app.clipboard
        (path,) = await hand.until(lambda: list(tmp_path.glob("relaunch-*.txt")))
        await hand.until(lambda: path.read_text() == f"{hand.app.clipboard.rstrip()}\n")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


# --- what an earlier halotui left


@pytest.mark.parametrize(("key", "kind"), [("f", Kind.FINISH), ("u", Kind.UNDO)])
async def test_one_that_was_cut_off_is_offered_at_the_start(cockpit: Open, key: str, kind: Kind) -> None:
    desk = FakeDesk(standing=(CUT,))
    async with cockpit(desk) as hand:
        await hand.see(CutOff)
        await hand.read(CUT.text)
        await hand.press(key)
        await hand.see(Checklist)
        await hand.until(lambda: desk.asked)
        assert last(desk) == Ask(kind=kind, server=URL)
        desk.stood = [None]
        await hand.press("enter")
        desk.go.set()
        await hand.see(Result)
        assert "unfinished" not in hand.app.canvas.text()


async def test_put_off_it_is_remembered_until_it_is_gone(cockpit: Open) -> None:
    desk = FakeDesk(standing=(CUT,))
    async with cockpit(desk) as hand:
        await hand.see(CutOff)
        await hand.press("escape")
        await hand.gone()
        assert "relaunch unfinished" in hand.app.canvas.text()
        await hand.press("b")
        await hand.see(CutOff)
        await hand.press("escape")
        desk.stood = [None]  # finished from another terminal
        await hand.press("b")
        await hand.see(Checklist)
        assert "unfinished" not in hand.app.canvas.text()


async def test_one_under_way_elsewhere_is_watched(cockpit: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halotui.screens.relaunch.LOOK_SECONDS", 0.05)
    running = msgspec.structs.replace(CUT, running=True)
    desk = FakeDesk(standing=(running, running, None))
    async with cockpit(desk) as hand:
        await hand.see(Result)
        await hand.read("better")


# --- where nothing may be touched


async def test_read_only_shows_none_of_it(cockpit: Open) -> None:
    async with cockpit(None, CURED, size=(200, 60)) as hand:
        for key in "rbux":
            await hand.press(key)
            assert len(hand.app.screen_stack) == 1
        await hand.until(lambda: hand.said.count("read-only") >= 1)
        foot = hand.app.canvas.text().splitlines()[-1]
        assert "relaunch" not in foot and "stop" not in foot
        names = {command.title for command in hand.app.get_system_commands(hand.app.screen)}
        assert not names & {key.name for key in KEYS if key.needs == DESK} and "Freeze" in names
        await hand.press("question_mark")
        assert "Stop the server" not in hand.text
        await hand.press("escape", "e", "r")
        assert isinstance(hand.app.screen, FindingScreen)


async def test_else_all_of_it_is_shown(cockpit: Open) -> None:
    async with cockpit(FakeDesk(), size=(80, 24)) as hand:
        foot = hand.app.canvas.text().splitlines()[-1]
        for word in ("relaunch", "swap", "undo", "quit", "help", "box"):
            assert word in foot
        names = {command.title for command in hand.app.get_system_commands(hand.app.screen)}
        assert {key.name for key in KEYS if key.needs == DESK} <= names
        await hand.press("question_mark")
        await hand.read("Stop the server, or start it again.")
    assert len(usable({DESK})) - len(usable(())) == 5


async def test_keys_are_remapped(cockpit: Open) -> None:
    desk = FakeDesk()
    async with cockpit(desk, keys={"swap": "s"}) as hand:
        await hand.press("s")
        await hand.see(Checklist)


async def test_a_desk_that_does_not_open_costs_its_keys_alone(cockpit: Open) -> None:
    class Broken(FakeDesk):
        async def open(self) -> FakeDesk:
            self.opened += 1
            if self.opened < 3:
                raise OSError("no state directory")
            return self

    desk = Broken()
    async with cockpit(desk) as hand:
        await hand.until(lambda: "no state directory" in hand.said)
        await hand.press("b")
        await hand.read("no state directory")
        await hand.press("escape", "b")
        await hand.read("binary runs")  # tried anew


# --- by mouse, and at every size


async def test_all_by_mouse(cockpit: Open) -> None:
    desk = FakeDesk()
    async with cockpit(desk) as hand:
        hit = next(hit for hit in hand.app.canvas.hits() if hit.ref.subject == "relaunch")
        await hand.pilot.click(offset=(hit.x + 1, hit.y))
        await hand.until(lambda: hand.app.screen.query(Form))
        choice = hand.app.screen.query(Choice)[1]  # the first is the backend's
        await hand.pilot.click(choice)
        assert hand.app.screen.query_one(Form).patch() == {"ctk": "q8_0"}
        await hand.pilot.click(OptionList, offset=(4, 2))
        await hand.read("with a model of its own")
        await _click_key(hand, "enter")
        await hand.read("binary runs")
        assert last(desk).profile == "coder-rocm"
        await _click_key(hand, "enter")
        await hand.see(Undertaking)
        desk.go.set()
        await hand.see(Result)
        await _click_key(hand, "enter")
        await hand.gone()


async def _click_key(hand: Hand, key: str) -> None:
    foot = hand.app.screen.query_one(Footer)
    button = await hand.until(lambda: next((b for b in foot.query("FooterKey") if b.key == key), None))
    await hand.pilot.click(button)
    await hand.pilot.pause()


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 40), (200, 60)])
async def test_the_keys_at_the_foot_are_in_sight(cockpit: Open, size: tuple[int, int]) -> None:
    desk = FakeDesk(told=(*ASKS, Progress(step=Step.STOPPING, question="kill", text="x" * 300)), end=LOST)
    async with cockpit(desk, size=size) as hand:
        for keys, kind in ((("r",), Launcher), (("down", "enter"), Checklist), (("enter",), Undertaking)):
            await hand.press(*keys)
            await hand.see(kind)
            if kind is Launcher:
                await hand.until(lambda: hand.app.screen.query(Form))
            if kind is Checklist:
                await hand.read("binary runs")
            await _in_sight(hand, size)
        assert "Kill it?" in hand.text.splitlines()[3]
        desk.go.set()
        await hand.see(Result)
        await _in_sight(hand, size)


async def _in_sight(hand: Hand, size: tuple[int, int]) -> None:
    """The foot is made anew whenever its keys change: so wait for it."""
    foot = await hand.until(lambda: next(iter(hand.app.screen.query(Footer)), None))

    def whole() -> bool:
        buttons = list(foot.query("FooterKey"))
        return bool(buttons) and all(foot.region.contains_region(button.region) for button in buttons)

    await hand.until(whole)
    assert foot.region.bottom < size[1]


def test_the_flow_has_every_key() -> None:
    for key in KEYS:
        if key.needs == DESK:
            name = key.action.removeprefix("act('").removesuffix("')")
            assert callable(getattr(Relaunch, name)) and key.id == name


# --- a slow link, a small screen


async def burst(hand: Hand, *keys: str) -> None:
    """All in one packet."""
    for key in keys:
        hand.app.post_message(events.Key(key, key if len(key) == 1 else None))
    await hand.see(Checklist)
    await hand.read("binary runs")


async def test_enter_does_not_overtake_what_was_typed_before_it(cockpit: Open) -> None:
    desk = FakeDesk()
    async with cockpit(desk) as hand:
        await hand.press("r")
        await hand.see(Launcher)
        await hand.until(lambda: hand.app.screen.query_one(Profiles).option_count)
        await burst(hand, *"wmma", "enter")
        assert last(desk).profile == "rocm-wmma"
        await hand.press("escape", "escape")
        await hand.until(lambda: hand.app.screen.query_one(Profiles).option_count > 1)
        await hand.press("enter", "down", "down")
        await burst(hand, *"072", "enter")
        assert last(desk).patch == {"c": "131072072"}


async def test_the_check_is_set_anew_for_another_width(cockpit: Open) -> None:
    memory = "57.3 weights + 8.20 KV + 1.10 compute = 66.6 GiB of 70.2 GiB"
    async with cockpit(FakeDesk(), size=(120, 40)) as hand:
        await hand.press("b")
        await hand.read(memory)
        await hand.pilot.resize_terminal(60, 20)
        await hand.until(lambda: memory not in hand.text)  # in lines, each under the first one's beginning
        assert memory in " ".join(hand.text.split())


async def test_progress_redraws_the_line_that_moves(cockpit: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str | None] = []
    update = Static.update

    def spied(self: Static, *content: Any, **more: Any) -> None:
        drawn.append(self.id)
        update(self, *content, **more)

    desk = FakeDesk(told=())
    async with cockpit(desk, size=(100, 40)) as hand:
        await hand.press("b")
        await hand.read("binary runs")
        await hand.press("enter")
        screen = await hand.see(Undertaking)
        screen.story.hear(Progress(step=Step.LOADING, ratio=0.1))
        screen.draw()
        await hand.pilot.pause()
        box = screen.query_one("#box").region
        monkeypatch.setattr(Static, "update", spied)
        for percent in (20, 20, 30):
            screen.story.hear(Progress(step=Step.LOADING, ratio=percent / 100))
            screen.draw()
        assert drawn == ["now", "now"]
        screen.story.hear(Progress(step=Step.LOADING, ratio=0.3, text="3 of 4"))
        screen.draw()
        await hand.read("3 of 4")
        assert screen.query_one("#box").region == box  # it does not jump when a word comes or goes


def test_a_stop_compares_nothing() -> None:
    stopped = outcome(Step.STOPPED_FOR_GOOD, kind=Kind.STOP, pid=None, load_seconds_before=41.0)
    assert "load time" not in plain(outcome_text(stopped))
    assert "load time" in plain(outcome_text(KEPT))
