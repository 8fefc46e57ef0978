"""One server over time, with answers and clock in our own hands: counted once, and never below 0."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from halotui.collectors.llama_http import HttpKind, HttpProblem
from halotui.collectors.llama_log import ServerLog
from halotui.model import (
    LogFacts,
    Metrics,
    ModelMeta,
    Props,
    Request,
    Server,
    ServerProcess,
    ServerState,
    SlotReading,
)
from halotui.sampler.clock import Clock
from halotui.sampler.polling import Poller
from halotui.sampler.rates import CounterCheck, Ledger
from halotui.sampler.server import ServerTracker

URL = "http://127.0.0.1:8080"


def slot(
    task: int | None = None, decoded: int | None = None, *, busy: bool = True, **more: Any
) -> SlotReading:
    return SlotReading(id=more.pop("id", 0), task=task, decoded=decoded, processing=busy, **more)


class FakeHttp:
    """Answers from attributes; an exception there is raised."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "health": None,
            "props": Props(total_slots=1),
            "meta": ModelMeta(),
            "slots": (slot(busy=False),),
            "metrics": Metrics(generation_tokens_total=0, prompt_tokens_total=0, draft_tokens_total=0),
        }
        self.asked: list[str] = []
        self.held = ""  # the endpoint that the gate stands before; all of them
        self.gate = asyncio.Event()
        self.gate.set()

    def __getattr__(self, name: str) -> Any:
        async def ask() -> Any:
            self.asked.append(name)
            if self.held in ("", name):
                await self.gate.wait()
            answer = self.answers[name]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return ask

    def works(
        self, *slots: SlotReading, generated: float = 0, prompt: float = 0, deferred: float = 0
    ) -> None:
        self.answers["slots"] = slots
        self.answers["metrics"] = Metrics(
            generation_tokens_total=generated,
            prompt_tokens_total=prompt,
            draft_tokens_total=0,
            requests_processing=sum(s.processing for s in slots),
            requests_deferred=deferred,
        )

    def refuses(self, kind: HttpKind = HttpKind.REFUSED) -> None:
        for name in self.answers:
            self.answers[name] = HttpProblem(kind, "no")

    def props_again(self) -> None:
        self.answers.update(health=None, props=Props(total_slots=1))


class Watch:
    """A tracker and its hands: ``await tick(seconds)`` gives the next look."""

    def __init__(self, *, may_sleep: bool = False) -> None:
        self.now = 100.0
        self.http = FakeHttp()
        clock = Clock(monotonic=lambda: self.now, wall=lambda: self.now)
        self.tracker = ServerTracker(URL, Poller(self.http, clock), clock)  # type: ignore[arg-type]
        if not may_sleep:
            self.tracker.process = ServerProcess(pid=1, url=URL)
        self.tokens = 0.0
        self.prompt = 0.0
        self.unrated = 0.0  # seconds since the last rate that was no repetition

    async def tick(self, seconds: float = 1.0, grace: float = 0.2) -> Server:
        self.now += seconds
        await self.tracker.gather(grace)
        seen = self.tracker.fold()
        self.unrated += seconds
        if self.tracker.rated_at == self.now:
            self.tokens += (seen.generation_tokens_per_second or 0) * self.unrated
            self.prompt += (seen.prompt_tokens_per_second or 0) * self.unrated
            self.unrated = 0.0
        assert (seen.generation_tokens_per_second or 0) >= 0
        return seen


async def test_what_runs_when_we_come_is_its_past() -> None:
    watch = Watch()
    watch.http.works(slot(7, 900))
    await watch.tick()
    watch.http.works(slot(7, 950))
    seen = await watch.tick()
    assert seen.generation_tokens_per_second == pytest.approx(50)
    assert seen.slots[0].generation_tokens_per_second == pytest.approx(50)
    assert seen.state is ServerState.BUSY and seen.slots_busy == 1


async def test_what_ends_between_two_looks_is_told_by_the_counters() -> None:
    watch = Watch()
    await watch.tick()
    watch.http.works(slot(1, 40), prompt=10)
    await watch.tick(5)
    watch.http.works(slot(3, 5), generated=160, prompt=30)  # task 1 went on to 100, task 2 had 60
    await watch.tick()
    watch.http.works(slot(3, busy=False), generated=170, prompt=30)
    for _ in range(3):
        await watch.tick(2)
    assert watch.tokens == pytest.approx(170)
    assert watch.prompt == pytest.approx(30)


async def test_a_frame_between_two_answers_counts_nothing_twice() -> None:
    """/metrics knows that the request has ended, /slots has not answered yet."""
    watch = Watch()
    await watch.tick()
    watch.http.works(slot(1, 500))
    await watch.tick(5)
    watch.http.works(slot(1, busy=False), generated=500)
    watch.http.held = "slots"
    watch.http.gate.clear()
    await watch.tick(1, grace=0.01)
    watch.http.gate.set()
    for _ in range(4):
        await watch.tick(2)
    assert watch.tokens == pytest.approx(500)


async def test_a_server_that_may_sleep_is_counted_too() -> None:
    """Nobody looks at its /slots while it rests: short requests show in the counters alone."""
    watch = Watch(may_sleep=True)
    watch.http.answers["props"] = Props(total_slots=1, is_sleeping=False)
    await watch.tick()
    watch.http.works(slot(1, busy=False), generated=60, prompt=12)
    for _ in range(4):
        await watch.tick(2)
    assert watch.tokens == pytest.approx(60) and watch.prompt == pytest.approx(12)
    assert watch.http.asked.count("slots") == 1


async def test_an_old_build_keeps_a_slots_count_after_its_end() -> None:
    watch = Watch()
    await watch.tick()
    watch.http.works(slot(1, 60, busy=False), generated=60)
    for _ in range(6):
        await watch.tick(2)
    assert watch.tokens == pytest.approx(60)


async def test_the_same_task_number_in_another_process_counts_again() -> None:
    watch = Watch()
    watch.http.works(slot(0, 0))
    await watch.tick()
    watch.http.works(slot(0, 500))
    await watch.tick()
    watch.http.refuses()
    seen = await watch.tick()
    assert seen.state is ServerState.DOWN and seen.generation_tokens_per_second is None
    before = watch.tokens
    watch.http.props_again()
    watch.http.works(slot(busy=False))
    await watch.tick()
    watch.http.works(slot(0, 300))
    await watch.tick(6)
    assert watch.tokens - before == pytest.approx(300)


async def test_a_restart_that_nobody_saw() -> None:
    """Its task numbers have gone back: what it did till now is its past, what comes counts."""
    watch = Watch()
    watch.http.works(slot(90, 10), generated=5000)
    await watch.tick()
    watch.http.works(slot(2, 400))
    await watch.tick()
    before = watch.tokens
    watch.http.works(slot(2, 450))
    await watch.tick()
    assert watch.tokens - before == pytest.approx(50)


async def test_no_answer_is_waiting_and_then_is_not() -> None:
    watch = Watch()
    await watch.tick()
    watch.http.gate.clear()
    asked = len(watch.http.asked)
    states = [await watch.tick(2, grace=0.01) for _ in range(4)]
    assert [seen.state for seen in states[2:]] == [ServerState.WAITING] * 2
    assert states[-1].waiting_seconds == pytest.approx(6, abs=2.1)
    assert states[-1].slots_busy is None and states[-1].generation_tokens_per_second is None
    assert len(watch.http.asked) == asked + 1  # one request in flight, never a second
    watch.http.gate.set()
    assert (await watch.tick()).state is ServerState.IDLE


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (HttpKind.REFUSED, ServerState.DOWN),
        (HttpKind.LOADING, ServerState.LOADING),
        (HttpKind.LOCKED, ServerState.LOCKED),
        (HttpKind.FAILED, ServerState.FAILED),
        (HttpKind.ROUTER, ServerState.FAILED),
    ],
)
async def test_states(kind: HttpKind, state: ServerState) -> None:
    watch = Watch()
    await watch.tick()
    watch.http.refuses(kind)
    seen = await watch.tick(20)
    assert (seen.state, seen.reason) == (state, "no")
    assert seen.slots_busy is None and seen.requests_deferred is None


async def test_a_wrong_key_is_not_tried_again_and_again() -> None:
    watch = Watch()
    watch.http.refuses(HttpKind.LOCKED)
    for _ in range(20):
        await watch.tick()
    assert len(watch.http.asked) <= 3


async def test_a_sleeping_server_is_asked_for_props_alone() -> None:
    watch = Watch(may_sleep=True)
    watch.http.answers["props"] = Props(total_slots=1, is_sleeping=True)
    for _ in range(10):
        seen = await watch.tick()
    assert seen.state is ServerState.SLEEPING
    assert set(watch.http.asked) == {"health", "props"}


async def test_an_endpoint_that_is_off_is_left_in_peace() -> None:
    watch = Watch()
    watch.http.answers["metrics"] = watch.http.answers["slots"] = HttpProblem(HttpKind.OFF, "without it")
    for _ in range(10):
        seen = await watch.tick()
    assert seen.state is ServerState.IDLE and seen.slots_busy is None and seen.requests_deferred is None
    assert watch.http.asked.count("metrics") <= 2 and watch.http.asked.count("slots") <= 2
    assert {s.id.partition(" ")[0] for s in watch.tracker.sources()} >= {"/metrics", "/slots"}


async def test_a_rate_stands_until_the_next_look_and_not_for_long() -> None:
    watch = Watch()
    await watch.tick()
    watch.http.works(slot(1, 10))
    await watch.tick(2)
    watch.http.works(slot(1, 60))
    assert (await watch.tick(2)).generation_tokens_per_second == pytest.approx(25)
    watch.http.gate.clear()
    watch.http.works(slot(1, 160))
    for _ in range(2):
        seen = await watch.tick(1, grace=0.01)
        assert seen.generation_tokens_per_second == pytest.approx(25)
        assert seen.slots[0].generation_tokens_per_second == pytest.approx(25)
    assert (await watch.tick(1, grace=0.01)).generation_tokens_per_second is None
    watch.http.gate.set()
    assert (await watch.tick(1)).generation_tokens_per_second == pytest.approx(25)  # 100 in 4 s
    assert watch.tokens == pytest.approx(160)


async def test_a_slot_that_stands_still() -> None:
    """It answers, and nothing of it moves; any token ends that."""
    watch = Watch()
    await watch.tick()
    watch.http.works(slot(1, 10))
    assert (await watch.tick(2)).still_seconds == 0.0
    for _ in range(9):
        seen = await watch.tick(2)
    assert seen.still_seconds == pytest.approx(18) and seen.slots[0].still_seconds == pytest.approx(18)
    assert seen.slots[0].phase_seconds == pytest.approx(18)
    watch.http.works(slot(1, 11))
    assert (await watch.tick(2)).still_seconds == 0.0
    watch.http.works(slot(1, busy=False))
    assert (await watch.tick(2)).still_seconds is None


async def test_what_answers_nothing_is_not_called_stuck() -> None:
    watch = Watch()
    await watch.tick()
    watch.http.works(slot(1, 10))
    await watch.tick(2)
    watch.http.gate.clear()
    for _ in range(6):
        seen = await watch.tick(2, grace=0.01)
    assert seen.state is ServerState.WAITING and seen.still_seconds is None
    poller = watch.tracker._poller
    poller.healthy_at = watch.now  # asked through a connection of its own
    assert (await watch.tick(2, grace=0.01)).still_seconds == pytest.approx(14)
    assert (await watch.tick(30, grace=0.01)).still_seconds is None
    watch.http.gate.set()


async def test_where_no_slot_is_shown_the_passes_tell() -> None:
    watch = Watch()
    watch.http.answers["slots"] = HttpProblem(HttpKind.OFF, "without it")
    busy = Metrics(requests_processing=1, decode_calls_total=10, draft_tokens_total=0)
    watch.http.answers["metrics"] = busy
    for _ in range(5):
        seen = await watch.tick(2)
    assert seen.still_seconds is not None and seen.still_seconds >= 6
    watch.http.answers["metrics"] = replace(busy, decode_calls_total=20)
    assert (await watch.tick(2)).still_seconds == pytest.approx(0, abs=2)


async def test_requests_without_a_log_and_their_sums() -> None:
    """Its slot tells of the one, the counters of all: drafts are the counters' alone."""
    watch = Watch()
    watch.http.works(slot(busy=False, speculative=True))
    await watch.tick()
    watch.http.works(slot(1, 40, prompt_processed=10, prompt_cached=0, tokens=50, speculative=True))
    await watch.tick(2)
    watch.http.works(slot(1, 0, busy=False, tokens=90, speculative=True), generated=80)
    watch.http.answers["metrics"] = replace(
        watch.http.answers["metrics"], draft_tokens_total=60, draft_accepted_total=45
    )
    seen = await watch.tick(2)
    assert [request.source for request in seen.requests] == ["slots", "metrics"]
    assert (seen.draft_acceptance_ratio, seen.draft_coverage_ratio) == (0.75, 0.75)
    assert seen.draft_mean_tokens == pytest.approx(80 / 35) and seen.draft_gained_tokens == 45
    assert seen.requests[0].generation_tokens is None and seen.ttft_seconds is None


async def test_who_it_is_comes_from_its_process() -> None:
    watch = Watch()
    watch.tracker.process = ServerProcess(
        pid=9,
        url=URL,
        address="http://127.0.0.1:46629",
        behind="http://127.0.0.1:8000",
        unit="llama.service",
        container="toolbox",
        threads=16,
    )
    seen = await watch.tick()
    assert (seen.address, seen.behind) == ("http://127.0.0.1:46629", "http://127.0.0.1:8000")
    assert (seen.unit, seen.container, seen.engine) == ("llama.service", "toolbox", "llama.cpp")
    assert seen.facts is not None and seen.facts.threads == 16
    assert seen.provenance["threads"] == "command line"


async def test_a_shared_pool_and_its_use() -> None:
    watch = Watch()
    watch.http.answers["props"] = Props(total_slots=2)
    pool = {"context_tokens": 8192}
    watch.http.works(slot(3, 10, tokens=1000, **pool), slot(4, 0, busy=False, id=1, tokens=3096, **pool))
    seen = await watch.tick()
    assert seen.kv_used_tokens == 4096 and seen.kv_capacity_tokens is None  # split or not: nobody tells
    watch.tracker.process = ServerProcess(pid=1, url=URL, context_tokens=8192)
    seen = await watch.tick()
    assert (seen.kv_unified, seen.kv_capacity_tokens, seen.kv_used_ratio) == (True, 8192, 0.5)
    assert [s.kv_ratio for s in seen.slots] == [pytest.approx(1000 / 4096), pytest.approx(3096 / 4096)]


class FakeTap:
    """A log that has told ``told`` by the next fold."""

    def __init__(self) -> None:
        self.told: tuple[Request, ...] = ()
        self.server = ServerLog()
        self.facts = LogFacts(model_loaded=True)
        self.name, self.alive, self.at_work, self.catching_up, self.moved_at = "log", True, False, False, None

    async def read(self) -> bool:
        return bool(self.told)

    def requests(self) -> tuple[Request, ...]:
        told, self.told = self.told, ()
        return told

    def lines(self) -> tuple[()]:
        return ()

    def progress(self, key: object) -> None:
        return None

    events = lines


def logged(task: int, tokens: int) -> Request:
    return Request(source="log", slot=0, task=task, generation_tokens=tokens, prompt_tokens=5)


async def test_what_the_dead_one_said_last_is_not_the_next_ones() -> None:
    """Its last request is read in the tick that finds it gone; the next one's tasks begin at 0 as well."""
    watch = Watch()
    tap = watch.tracker.tap = FakeTap()  # type: ignore[assignment]
    await watch.tick()
    answers = dict(watch.http.answers)
    tap.told = (logged(0, 900),)
    watch.http.refuses()
    assert [r.generation_tokens for r in (await watch.tick()).requests] == [900]
    watch.http.answers = answers
    watch.tokens = 0.0
    await watch.tick(0.5)
    told = []
    for task, tokens in ((0, 300), (2, 200)):
        tap.told = (logged(task, tokens),)
        told += (await watch.tick(2)).requests
    assert [r.generation_tokens for r in told] == [300, 200]
    assert watch.tokens == pytest.approx(500)


async def test_what_ended_before_we_looked_marks_no_task_of_now() -> None:
    """A log that was appended to begins with another run, whose task 0 had 900 tokens."""
    watch = Watch()
    tap = watch.tracker.tap = FakeTap()  # type: ignore[assignment]
    tap.told, tap.catching_up = (logged(0, 900),), True
    await watch.tick()
    tap.catching_up = False
    await watch.tick()
    watch.http.works(slot(0, 100))
    assert (await watch.tick(5)).generation_tokens_per_second == pytest.approx(20)
    tap.told = (logged(0, 300),)
    await watch.tick(2)
    assert watch.tokens == pytest.approx(300)


async def test_counters_that_fell_are_of_another_process() -> None:
    """Far away nobody sees its process, and it was started again between two looks."""
    watch = Watch(may_sleep=True)
    metrics = Metrics(generation_tokens_total=900, prompt_tokens_total=5, draft_tokens_total=0)
    watch.http.works(slot(0, 900, tokens=904, prompt_processed=5, prompt_cached=0))
    watch.http.answers["metrics"] = replace(metrics, decode_calls_total=900, requests_processing=1)
    watch.http.answers["meta"] = ModelMeta(parameters=1)
    await watch.tick()
    watch.http.works(slot(0, 0, busy=False, tokens=904))
    watch.http.answers["metrics"] = replace(metrics, decode_calls_total=902)
    (request,) = (await watch.tick()).requests
    assert request.task == 0
    watch.http.works(slot(0, 10, tokens=14, prompt_processed=5, prompt_cached=0))
    few = Metrics(generation_tokens_total=0, prompt_tokens_total=5, draft_tokens_total=0)
    watch.http.answers["metrics"] = replace(few, decode_calls_total=10, requests_processing=1)
    watch.http.answers["meta"] = ModelMeta(parameters=2)
    await watch.tick(6)
    watch.http.works(slot(0, 0, busy=False, tokens=64))
    watch.http.answers["metrics"] = replace(few, generation_tokens_total=60, decode_calls_total=60)
    seen = await watch.tick()
    assert [r.generation_tokens for r in seen.requests if r.source == "slots"] == [60]  # its task 0 as well
    assert seen.facts is not None and seen.facts.parameters == 2


async def test_a_prompts_speed_is_that_of_its_last_batches() -> None:
    """A batch of 256 each 1.5 s, seen at looks of a second: one alone would be told as 128 or 256."""
    watch = Watch()
    watch.http.works(slot(1, 0, prompt_processed=0))
    await watch.tick()
    speeds = []
    for second in range(1, 21):
        watch.http.works(slot(1, 0, prompt_processed=int(second / 1.5) * 256))
        speeds.append((await watch.tick(1.03)).slots[0].prompt_tokens_per_second)
    assert speeds[0] is None
    assert speeds[8:] == pytest.approx([256 / 1.545] * 12, rel=0.2)


# --- the ledger

TASKS = st.tuples(st.integers(0, 2), st.integers(0, 4))


@given(st.lists(st.tuples(TASKS, st.integers(0, 500))))
def test_whoever_tells_first_nothing_counts_twice(told: Sequence[tuple[tuple[int, int], int]]) -> None:
    ledger = Ledger()
    for key, tokens in told:
        assert ledger.up_to(key, tokens) >= 0
    most: dict[tuple[int, int], int] = {}
    for key, tokens in told:
        most[key] = max(tokens, most.get(key, 0))
    assert ledger.total == sum(most.values())


@given(st.lists(st.tuples(TASKS, st.integers(0, 500), st.floats(0.1, 10)), min_size=1))
def test_rates_times_seconds_are_the_total(steps: Sequence[tuple[tuple[int, int], int, float]]) -> None:
    ledger, now, sum_ = Ledger(), 0.0, 0.0
    ledger.rate(now)
    for key, tokens, seconds in steps:
        ledger.up_to(key, tokens)
        now += seconds
        sum_ += (ledger.rate(now) or 0.0) * seconds
    assert sum_ == pytest.approx(ledger.total)


def test_marked_tokens_are_not_counted() -> None:
    ledger = Ledger()
    ledger.mark((0, 1), 100)
    assert ledger.up_to((0, 1), 90) == 0 and ledger.up_to((0, 1), 130) == 30
    assert ledger.rate(1.0) is None and ledger.rate(1.0) is None  # no time, no rate


def test_a_task_that_ends_twice_is_of_two_processes() -> None:
    ledger = Ledger()
    ledger.up_to((0, 0), 100)
    ledger.end((0, 0), 900)
    assert ledger.total == 900
    ledger.up_to((0, 0), 50)  # told to be old news
    ledger.end((0, 0), 300)
    assert ledger.total == 1200
    ledger.up_to((0, 0), 350)
    ledger.end((0, 0), 400)
    assert ledger.total == 1600


def test_before_the_first_batch_of_a_prompt_its_speed_is_unknown() -> None:
    ledger = Ledger()
    assert ledger.rate(0.0) is None and ledger.rate(1.0) == 0
    assert ledger.rate(2.0, hold=True) is None
    ledger.up_to((0, 0), 60)
    assert ledger.rate(3.0, hold=True) == 30  # in the two seconds since
    assert ledger.rate(4.0, hold=True) == 30


def test_marks_do_not_grow_without_bound() -> None:
    ledger = Ledger()
    for task in range(5000):
        ledger.up_to((0, task), 1)
    assert ledger.total == 5000 and len(ledger._marks) <= 512


def test_a_coarse_counter_is_not_believed() -> None:
    check = CounterCheck()
    assert check.missing(10.0, 0, 0.0) == 0
    assert check.missing(40.0, 5, 0.0) == 35
    assert check.missing(1_000_010.0, 0, 35.0) == 0
    assert check.missing(None, 0, 35.0) == 0


async def test_where_a_log_goes_that_nobody_can_follow_is_said() -> None:
    watch = Watch()
    watch.tracker.process = ServerProcess(pid=1, url=URL, stderr_to="tty")
    await watch.tick()
    (told,) = (source for source in watch.tracker.sources() if source.id == f"log {URL}")
    assert told.reason == "its log goes to a terminal" and "--log-file" in (told.hint or "")
