"""When a server is asked what, with answers and clock in our own hands."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from fake_server import FakeServer
from halotui.collectors.llama_http import HttpKind, HttpProblem, LlamaHttp
from halotui.model import Metrics, ModelMeta, Props, ServerState, SlotReading
from halotui.sampler.clock import Clock
from halotui.sampler.polling import ROUND_EVERY, SILENCE, Poller

QUEUE = ("metrics", "slots")


class Answers:
    """A server that answers from attributes, a hair late; an exception there is raised."""

    def __init__(self, clock: Hands) -> None:
        self.clock = clock
        self.takes = 0.002
        self.asked: list[tuple[float, str]] = []
        self.answers: dict[str, Any] = {
            "health": None,
            "props": Props(total_slots=1, is_sleeping=False),
            "meta": ModelMeta(parameters=1),
            "metrics": Metrics(requests_processing=0, draft_tokens_total=0, decode_calls_total=0),
            "slots": (SlotReading(id=0),),
        }

    def __getattr__(self, name: str) -> Any:
        async def ask() -> Any:
            self.asked.append((self.clock.now, name))
            self.clock.now += self.takes
            answer = self.answers[name]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return ask

    async def aclose(self) -> None:
        return

    def works(self, decoded: int = 1) -> None:
        self.answers["slots"] = (SlotReading(id=0, task=1, processing=True, decoded=decoded),)

    def rests(self) -> None:
        self.answers["slots"] = (SlotReading(id=0),)

    def count(self, name: str, since: float = 0.0) -> int:
        return sum(one == name and at >= since for at, one in self.asked)

    def rounds(self) -> list[list[float]]:
        """When the queue was asked, in rounds: what follows within half a second is of the same."""
        rounds: list[list[float]] = []
        for at, name in self.asked:
            if name in QUEUE:
                if rounds and at - rounds[-1][-1] < 0.5:
                    rounds[-1].append(at)
                else:
                    rounds.append([at])
        return rounds


class Hands:
    """A clock that stands still until it is turned, or slept by."""

    def __init__(self) -> None:
        self.now = 100.0
        self.clock = Clock(monotonic=lambda: self.now, wall=lambda: self.now, sleep=self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Watch:
    def __init__(self, **known: bool) -> None:
        self.hands = Hands()
        self.http = Answers(self.hands)
        self.poller = Poller(self.http, self.hands.clock, lambda: self.http)  # type: ignore[arg-type,return-value]
        self.known = {"may_sleep": False, "has_log": False, **known}

    async def ticks(self, seconds: float, interval: float = 1.02, *, stirred: bool = False) -> None:
        end = self.hands.now + seconds
        while self.hands.now < end:
            began = self.hands.now
            await self.poller.start(stirred=stirred, **self.known)
            await asyncio.sleep(0)  # its health
            self.hands.now = max(self.hands.now, began + interval)


@pytest.mark.parametrize("interval", [0.25, 0.5, 1.02, 1.5])
@pytest.mark.parametrize("takes", [0.0005, 0.03])
async def test_the_queue_is_left_in_silence_for_a_second(interval: float, takes: float) -> None:
    """b11549 looks whether a client has hung up once a second, and each answer starts that second anew."""
    watch = Watch()
    watch.http.takes = takes
    watch.http.works()
    await watch.ticks(60, interval)
    rounds = watch.http.rounds()
    for before, after in pairwise(rounds):
        assert after[0] - before[-1] - takes >= SILENCE - 1e-6
        assert after[0] - before[0] >= ROUND_EVERY - 1e-6
    assert len(rounds) >= 60 / max(1.5, interval) * 0.9


async def test_busy_it_is_looked_at_each_second_and_idle_less() -> None:
    watch = Watch()
    watch.http.works()
    await watch.ticks(30)
    assert watch.http.count("slots") == pytest.approx(30 / 1.02, abs=2)
    watch.http.rests()
    idle = watch.hands.now
    await watch.ticks(60)
    assert watch.http.count("slots", idle) <= 60 / 5 + 2
    assert 60 / 2.1 - 2 <= watch.http.count("metrics", idle) <= 60 / 2 + 2
    assert watch.http.count("props", idle) <= 60 / 30 + 1


async def test_who_has_a_log_asks_less_still() -> None:
    watch = Watch(has_log=True)
    await watch.ticks(60)
    assert watch.http.count("metrics") <= 60 / 5 + 2 and watch.http.count("slots") <= 60 / 5 + 2


async def test_a_line_in_the_log_is_followed_by_a_look() -> None:
    watch = Watch(has_log=True)
    await watch.ticks(10)
    at = watch.hands.now
    await watch.ticks(0.2, 0.25, stirred=True)
    assert watch.http.count("slots", at) == 1
    await watch.ticks(0.2, 0.25, stirred=True)
    await watch.ticks(1.1, 0.25)  # even when it comes while the queue is left in silence
    assert watch.http.count("slots", at) == 2


async def test_the_gauge_sends_us_to_the_slots() -> None:
    watch = Watch()
    await watch.ticks(8)
    watch.http.works()
    watch.http.answers["metrics"] = Metrics(requests_processing=1, draft_tokens_total=0)
    at = watch.hands.now
    await watch.ticks(2.5)
    assert watch.poller.busy and watch.poller.state is ServerState.BUSY and watch.http.count("slots", at)


async def test_the_model_is_asked_for_once() -> None:
    watch = Watch()
    await watch.ticks(120)
    assert watch.http.count("meta") == 1 and watch.poller.meta == ModelMeta(parameters=1)
    watch.http.answers["props"] = HttpProblem(HttpKind.REFUSED, "no")
    watch.http.answers["slots"] = watch.http.answers["props"]
    await watch.ticks(10)
    assert watch.poller.state is ServerState.DOWN and watch.poller.meta is None


async def test_a_server_that_tells_nothing_of_its_model_is_not_asked_over_and_over() -> None:
    watch = Watch()
    watch.http.answers["meta"] = HttpProblem(HttpKind.LOCKED, "it wants an API key")
    await watch.ticks(120)
    assert watch.http.count("meta") == 1 and watch.poller.state is ServerState.IDLE


async def test_a_server_that_may_sleep_is_seen_awake_before_each_look_at_its_slots() -> None:
    watch = Watch(may_sleep=True)
    for decoded in range(10):
        watch.http.works(decoded)
        await watch.ticks(1)
    names = [name for _, name in watch.http.asked]
    assert names.count("slots") >= 8
    for at, name in enumerate(names):
        if name == "slots":
            assert "props" in names[max(0, at - 3) : at]
    watch.http.rests()
    watch.http.answers["props"] = Props(total_slots=1, is_sleeping=True)
    asleep = watch.hands.now
    await watch.ticks(60)
    assert watch.poller.state is ServerState.SLEEPING
    assert {name for at, name in watch.http.asked if at >= asleep} == {"props"}


async def test_a_sleeper_with_a_log_is_asked_less_until_that_moves() -> None:
    watch = Watch(may_sleep=True, has_log=True)
    watch.http.answers["props"] = Props(total_slots=1, is_sleeping=True)
    await watch.ticks(60)
    assert watch.http.count("props") <= 60 / 5 + 2
    watch.http.answers["props"] = Props(total_slots=1, is_sleeping=False)
    await watch.ticks(1.0, stirred=True)
    assert watch.poller.state is ServerState.IDLE


# --- slow, stuck, gone


async def test_health_is_asked_for_only_where_nothing_moves() -> None:
    watch = Watch()
    for decoded in range(60):
        watch.http.works(decoded)
        await watch.ticks(1)
    assert watch.http.count("health") == 1 and watch.poller.healthy_at is None
    still = watch.hands.now
    await watch.ticks(45)
    assert 2 <= watch.http.count("health", still) <= 4
    assert watch.poller.healthy_at is not None and watch.hands.now - watch.poller.healthy_at < 12


async def test_health_that_fails_is_not_well() -> None:
    watch = Watch()
    watch.http.works(5)
    await watch.ticks(3)
    watch.http.answers["health"] = HttpProblem(HttpKind.REFUSED, "no")
    await watch.ticks(30)
    assert watch.poller.healthy_at is None and watch.poller.state is ServerState.BUSY


async def test_a_late_answer_is_waited_for_and_health_has_a_connection_of_its_own() -> None:
    """/slots held for long, /health at once: in real time, a hundred times as fast."""
    with FakeServer() as fake:
        fake.answers["/slots"] = (200, [{"id": 0, "is_processing": True}])
        fake.holds["/slots"] = 0.6
        loop = asyncio.get_running_loop()
        clock = Clock(monotonic=lambda: loop.time() * 100)
        poller = Poller(LlamaHttp(fake.url), clock, lambda: LlamaHttp(fake.url))
        end = loop.time() + 0.5
        while loop.time() < end:
            poller.start(may_sleep=False, has_log=False, stirred=False)
            await asyncio.sleep(0.01)
        assert fake.asked.count("/slots") == 1 and poller.state is ServerState.WAITING
        assert poller.asked_at is not None and clock.monotonic() - poller.asked_at > 20
        assert poller.healthy_at is not None and fake.asked.count("/health") >= 3
        await asyncio.sleep(0.3)
        assert poller.busy and poller.state is ServerState.BUSY
        await poller.close()


# --- another process, or none


async def test_a_server_at_rest_is_not_asked() -> None:
    watch = Watch()
    await watch.ticks(3)
    epoch, asked = watch.poller.epoch, len(watch.http.asked)
    watch.poller.rest(ServerState.SLEEPING, "unloaded")
    await watch.ticks(60)
    assert len(watch.http.asked) == asked and watch.poller.epoch == epoch + 1
    assert (watch.poller.state, watch.poller.reason) == (ServerState.SLEEPING, "unloaded")
    assert watch.poller.slots is None and watch.poller.props is None
    await watch.poller.reconnect(watch.http)  # type: ignore[arg-type]
    await watch.ticks(1)
    assert watch.poller.state is ServerState.IDLE


async def test_a_restart_that_only_the_process_told_of() -> None:
    watch = Watch()
    await watch.ticks(3)
    watch.poller.renew()
    assert watch.poller.state is ServerState.WAITING and watch.poller.slots is None
    await watch.ticks(2)
    assert watch.poller.state is ServerState.IDLE and watch.poller.epoch == 1


async def test_a_router_says_so() -> None:
    watch = Watch()
    watch.http.answers["props"] = HttpProblem(HttpKind.ROUTER, "a router")
    await watch.ticks(1)
    assert watch.poller.router and watch.poller.state is ServerState.FAILED


async def test_another_server_at_the_same_port_is_noticed() -> None:
    watch = Watch()
    await watch.ticks(3)
    watch.http.answers |= dict.fromkeys(QUEUE, HttpProblem(HttpKind.FAILED, "HTTP status 404"))
    watch.http.answers["props"] = HttpProblem(HttpKind.FAILED, "not llama-server's JSON")
    await watch.ticks(6)
    assert watch.poller.state is ServerState.FAILED
