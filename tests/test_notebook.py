"""What a feed keeps and is told, and that neither the ledger nor its troubles are felt by it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from builders import URL, frame, request, server
from halotui import notebook as module
from halotui.commands.cockpit import Live
from halotui.commands.places import this_box
from halotui.config import Settings
from halotui.history import History
from halotui.ledger import Incident, Key, Ledger, Metric, Observation, Setup, Silence, Software
from halotui.model import Frame, Platform, Server, ServerFacts, ServerState
from halotui.notebook import Notebook
from halotui.rules import Rule, Symptom, View
from halotui.rules.engine import Engine
from halotui.runs import StoreError
from halotui.store.ledger import open_ledger

SOON = 20.0  # seconds that a thread on a shared machine may take
T0 = time.time() - 500


def _down(view: View) -> list[Symptom]:
    return [
        Symptom(subject=one.url, title="it is down", evidence="refused")
        for one in view.frame.servers
        if one.state is ServerState.DOWN
    ]


DOWN = Rule(id="down", check=_down, why="w", fix="f", freezes=True)


class Feed:
    """Judges as ``feed.LiveFeed`` does."""

    def __init__(self, ledger: Path | Callable[[], Ledger], **how: Any) -> None:
        self.notebook = Notebook((lambda: open_ledger(ledger)) if isinstance(ledger, Path) else ledger, **how)
        self.history, self.engine = History(), Engine((DOWN,))
        self.time = T0

    def see(self, *servers: Server, count: int = 1) -> Frame:
        for _ in range(count):
            self.time += 1
            now = replace(frame(self.time, servers=servers), platform=BOX)
            self.history.push(now)
            self.notebook.before(self.engine)
            judged = self.engine.evaluate(now, self.history)
            self.notebook.after(judged, self.history, self.engine)
        return judged

    async def until(self, true: Callable[[], object]) -> None:
        """Frames, until something in the thread has come about."""
        deadline = time.monotonic() + SOON
        while not true():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
            self.see(server())


BOX = Platform(kernel="6.18.9", mesa="25.3")
FACTS = ServerFacts(model_type="Q8_0")


def served(began: float, ended: float, rate: float = 40.0) -> Server:
    one = request(
        context_tokens=900,
        generation_tokens_per_second=rate,
        generation_seconds=8.0,
        started_time=began,
        ended_time=ended,
    )
    return server(model="coder.gguf", slots_total=1, slots_busy=1, facts=FACTS, requests=(one,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


def found(path: Path) -> list[Incident]:
    with closing(open_ledger(path, readonly=True)) as ledger:
        return ledger.incidents(0, 1e12)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 0.05)
    monkeypatch.setattr(module, "RETRY", 0.2)


async def test_findings_are_noted_as_they_come_and_go(path: Path) -> None:
    feed = Feed(path)
    down = server(state=ServerState.DOWN)
    feed.see(server(), count=3)
    feed.see(down, count=2)
    await feed.until(lambda: found(path))  # before they are over, as a crash would leave them
    feed.see(server())
    await feed.notebook.close()
    (one,) = found(path)
    assert (one.id, one.subject, one.severity, one.title) == ("down", URL, "warning", "it is down")
    assert one.since_time == T0 + 4 and one.until_time is not None
    assert feed.notebook.trouble is None


async def test_nothing_is_opened_before_the_third_frame(path: Path) -> None:
    opened: list[Path] = []

    def open_() -> Ledger:
        opened.append(path)
        return open_ledger(path)

    feed = Feed(open_)
    feed.see(server(), count=2)
    await asyncio.sleep(0.2)
    assert not opened
    feed.see(server())
    await feed.until(lambda: opened)
    await feed.notebook.close()
    feed = Feed(open_)
    feed.see(server())
    await feed.notebook.close()
    assert len(opened) == 1  # nothing was there to be kept


async def test_what_came_before_the_third_frame_is_kept(path: Path) -> None:
    feed = Feed(path)
    feed.see(server(state=ServerState.DOWN))
    await feed.notebook.close()
    assert len(found(path)) == 1


async def test_what_is_learned_is_known_and_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEARN", 0.0)
    feed = Feed(path)
    feed.see(server(slots_busy=1), count=20)
    feed.see(served(T0 + 5, T0 + 15))
    await feed.until(lambda: len(feed.engine.baselines))
    (one,) = feed.engine.baselines.alike("coder.gguf", Metric.DECODE)
    assert one.values == (40.0,) and one.software == Software(kernel="6.18.9", mesa="25.3")
    monkeypatch.setattr(module, "LEARN", 1e9)
    feed.see(served(T0 + 6, T0 + 16, 41.0))
    await feed.notebook.close()  # does not wait its turn
    with closing(open_ledger(path, readonly=True)) as ledger:
        assert [baseline.values for baseline in ledger.baselines()] == [(40.0, 41.0)]


async def test_nothing_is_learned_while_an_alarm_freezes(path: Path) -> None:
    feed = Feed(path)
    feed.see(server(slots_busy=1), count=20)
    feed.see(replace(served(T0 + 5, T0 + 15), state=ServerState.DOWN))
    await feed.notebook.close()
    with closing(open_ledger(path, readonly=True)) as ledger:
        assert ledger.baselines() == []


async def test_the_rules_are_told_what_is_there_and_what_others_write(path: Path) -> None:
    key = Key(setup=Setup(model="m"), metric=Metric.DECODE)
    with closing(open_ledger(path)) as other:
        other.learn([(key, Observation(time=1, value=2))], Software())
        feed = Feed(path)
        await feed.until(lambda: feed.engine.baselines.of(key))
        other.silence(Silence(id="down"))
        await feed.until(lambda: feed.engine.silences)
        judged = feed.see(server(state=ServerState.DOWN))
        assert judged.findings == () and judged.silenced == ("down",)
        await feed.notebook.close()
    assert len(found(path)) == 1  # it is in the log of what fired all the same


async def test_a_silence_holds_from_the_next_frame_on_and_is_kept(path: Path) -> None:
    feed = Feed(path)
    down = server(state=ServerState.DOWN)
    assert feed.see(down).findings
    asked = asyncio.create_task(feed.notebook.silence("down", URL, 3600))
    await asyncio.sleep(0)
    assert feed.see(down).findings == ()
    assert await asked is None
    with closing(open_ledger(path, readonly=True)) as ledger:
        (kept,) = ledger.silences()
        assert (kept.id, kept.subject) == ("down", URL)
        assert kept.until_time is not None and 3500 < kept.until_time - time.time() <= 3600
    assert await feed.notebook.hear("down", URL) is None
    assert feed.see(down).findings
    await feed.notebook.close()
    with closing(open_ledger(path, readonly=True)) as ledger:
        assert ledger.silences() == []


async def test_a_ledger_that_refuses_costs_nothing_and_is_tried_again(path: Path) -> None:
    room = False

    def open_() -> Ledger:
        if not room:
            raise StoreError("the disk is full", "make room")
        return open_ledger(path)

    feed = Feed(open_)
    feed.see(server(), count=3)
    feed.see(server(state=ServerState.DOWN))
    await feed.until(lambda: feed.notebook.trouble)
    assert "the disk is full" in str(feed.notebook.trouble)
    assert "the disk is full" in str(await feed.notebook.silence("down"))  # for this session all the same
    assert feed.see(server(state=ServerState.DOWN)).findings == ()
    room = True
    await feed.until(lambda: feed.notebook.trouble is None)
    await feed.notebook.close()
    assert len(found(path)) >= 1
    with closing(open_ledger(path, readonly=True)) as ledger:
        assert [one.id for one in ledger.silences()] == ["down"]


async def test_a_mistake_in_the_thread_is_told_and_not_made_for_ever(path: Path) -> None:
    wrong = True

    def open_() -> Ledger:
        if wrong:
            raise ZeroDivisionError("oh")
        return open_ledger(path)

    feed = Feed(open_)
    feed.see(server(), count=3)
    await feed.until(lambda: feed.notebook.trouble)
    assert "ZeroDivisionError" in str(feed.notebook.trouble)
    wrong = False
    await feed.until(lambda: feed.notebook.trouble is None)
    await feed.notebook.close()


async def test_a_disk_that_hangs_holds_up_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    monkeypatch.setattr(module, "WAITING", 10)
    with closing(sqlite3.connect(path)) as other:
        open_ledger(path).close()
        other.execute("BEGIN IMMEDIATE")
        feed = Feed(path)
        for _ in range(50):
            feed.see(server(state=ServerState.DOWN))
            feed.see(server())
        assert await feed.notebook.silence("down") == "the disk does not answer"
        began = time.monotonic()
        await feed.notebook.close()
        assert time.monotonic() - began < 5
        assert len(feed.notebook._incidents) <= 10
        other.execute("ROLLBACK")


async def test_without_learning_nothing_is_written(path: Path) -> None:
    with closing(open_ledger(path)) as other:
        other.silence(Silence(id="down"))
    feed = Feed(path, learns=False)
    await feed.until(lambda: feed.engine.silences)
    feed.see(server(state=ServerState.DOWN))
    await feed.notebook.close()
    assert found(path) == []


async def test_the_cockpit_has_one_and_a_single_look_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    box = Live(this_box(Settings(urls=("http://127.0.0.1:9",)), {}))
    alone = await box.look(True)
    await alone.close()
    assert await box.silence("np-slots", "", 60)  # says why not
    feed = await box.look(False)
    try:
        assert await box.silence("np-slots", "", None) is None
        assert box.trouble() is None
    finally:
        await feed.close()
    with closing(open_ledger(tmp_path / "halotui/store.sqlite", readonly=True)) as ledger:
        assert ledger.silences() == [Silence(id="np-slots")]
