"""What frames teach of what is usual, and what they do not."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from builders import GIB, URL, frame, gpu, memory, request, server, source
from halotui.baselines.observing import (
    MEMORY_SECONDS,
    Observer,
    Rings,
    Taught,
    conditions_during,
    streams_during,
)
from halotui.history import History
from halotui.ledger import Conditions, Metric
from halotui.model import End, HeldBy, Holder, Request, Server, ServerFacts, ServerState, System

FACTS = ServerFacts(model_type="Q4_K - Medium", load_seconds=21.5)


def serving(busy: int | None = 0, state: ServerState = ServerState.IDLE, **more: Any) -> Server:
    known: dict[str, Any] = {"model": "coder.gguf", "slots_total": 4, "facts": FACTS, "pid": 7}
    return server(state=state, slots_busy=busy, **(known | more))


def done(began: float, ended: float, **more: Any) -> Request:
    """A whole request, as a log tells it."""
    known: dict[str, Any] = {
        "prompt_tokens": 2000,
        "prompt_tokens_per_second": 500.0,
        "cached_tokens": 0,
        "generated": 400,
        "generation_tokens_per_second": 40.0,
        "generation_seconds": 10.0,
        "context_tokens": 2400,
        "started_time": began,
        "ended_time": ended,
    }
    return request(**(known | more))


class Watched:
    """An observer that sees one frame after the other."""

    def __init__(self) -> None:
        self.history = History()
        self.observer = Observer()
        self.frozen = False

    def see(self, time: float, *servers: Server, **parts: Any) -> dict[Metric, float]:
        return {key.metric: one.value for key, one in self.take(time, *servers, **parts)}

    def take(
        self,
        time: float,
        *servers: Server,
        system: System | None = None,
        holders: tuple[Holder, ...] = (),
        **parts: Any,
    ) -> list[Taught]:
        now = replace(frame(time, servers=servers, **parts), holders=holders, system=system)
        self.history.push(now)
        return self.observer.take(now, self.history, lambda url: self.frozen)

    def idle(self, until: int = 20, busy: int = 1) -> Watched:
        for time in range(until):
            self.see(time, serving(busy))
        return self


def test_a_finished_request_teaches_its_speeds() -> None:
    taught = Watched().idle().take(20, serving(requests=(done(5, 19),)))
    assert {key.metric: one.value for key, one in taught} == {Metric.DECODE: 40.0, Metric.PREFILL: 500.0}
    assert {(key.depth, key.streams, key.prompt) for key, _ in taught} == {
        ("2-8K", "1", ""),
        ("0-2K", "1", "1-4K"),
    }
    assert {one.time for _, one in taught} == {19}


def test_drafts_teach_acceptance_and_coverage() -> None:
    drafted = {"draft_acceptance_ratio": 0.8, "draft_coverage_ratio": 0.5}
    asked = done(5, 19, drafted=200, accepted=160, **drafted)
    taught = Watched().idle().see(20, serving(requests=(asked,), spec_type="draft-simple"))
    assert taught[Metric.ACCEPTANCE] == 0.8 and taught[Metric.COVERAGE] == 0.5
    few = done(5, 19, drafted=8, accepted=8, draft_acceptance_ratio=1.0, draft_coverage_ratio=0.02)
    taught = Watched().idle().see(20, serving(requests=(few,)))
    assert Metric.ACCEPTANCE not in taught and taught[Metric.COVERAGE] == 0.02


@pytest.mark.parametrize(
    "odd",
    [
        {"end": End.CANCELLED},
        {"end": End.ERROR},
        {"source": "metrics"},
        {"started_time": -5},  # before halotui watched
        {"started_time": None, "wall_seconds": None},
        {"generated": 31, "prompt_tokens": 255},
        {"generation_seconds": 0.4, "prompt_tokens": 12},
        {"source": "slots", "generation_seconds": 3.0, "prompt_tokens": 12},  # too short for what polls tell
        {"generation_tokens_per_second": None, "prompt_tokens_per_second": None},
        {"context_tokens": None, "cached_tokens": None},
    ],
)
def test_what_teaches_nothing(odd: dict[str, Any]) -> None:
    asked = done(**({"began": 5, "ended": 19} | {"began": odd.pop("started_time", 5)} | odd))
    assert Watched().idle().see(20, serving(requests=(asked,))) == {}


def test_nothing_is_learned_while_a_rule_worries_or_of_an_unknown_model() -> None:
    watched = Watched().idle()
    watched.frozen = True
    assert watched.see(20, serving(requests=(done(5, 19),))) == {}
    watched.frozen = False
    assert watched.see(21, serving(requests=(done(5, 19),), model=None)) == {}
    assert watched.see(22, serving(requests=(done(5, 19),))) != {}


def test_requests_at_once_are_the_mean_over_its_time() -> None:
    watched = Watched()
    for time in range(20):
        watched.see(time, serving(4 if 5 <= time < 15 else 1))
    rings = Rings(watched.history)
    assert streams_during(rings, URL, 5, 14) == 4
    assert streams_during(rings, URL, 0, 19) == 2.5
    assert streams_during(rings, URL, 17.2, 17.8) == 1  # between two frames
    assert streams_during(rings, URL, 14.2, 14.8) == 2.5
    assert streams_during(rings, URL, -1, 10) is None
    assert streams_during(rings, "http://elsewhere", 5, 14) is None


def test_a_server_that_came_later_was_not_watched_before() -> None:
    watched = Watched()
    for time in range(5):
        watched.see(time)
    for time in range(5, 12):
        watched.see(time, serving(2))
    assert streams_during(Rings(watched.history), URL, 3, 10) is None
    assert streams_during(Rings(watched.history), URL, 6, 10) == 2


def test_conditions_are_of_its_time_alone() -> None:
    watched = Watched()
    ok = tuple(source(name) for name in ("gpu", "memory", "system"))
    for time in range(20):
        late = time >= 15  # another request, and a hot box
        chip = gpu(
            sclk_hertz=int(1.5e9 if late else 2.9e9),
            temperature_celsius=95.0 if late else 71.0,
            held_by=HeldBy.HEAT if late else HeldBy.POWER if time >= 6 else None,
        )
        other = Holder(pid=9, name="ollama", gtt_bytes=3 * GIB, vram_bytes=GIB)
        own = Holder(pid=7, name="llama-server", gtt_bytes=60 * GIB)
        box = {"gpus": [chip], "memory": memory(available=12), "sources": ok, "holders": (own, other)}
        taught = watched.take(
            time,
            serving(1, requests=(done(5, 14),) if time == 19 else ()),
            system=System(cpu_busy_percent=50.0 if late else 10.0),
            **box,
        )
    how = taught[0][1].conditions
    assert (how.sclk_hertz, how.temperature_celsius, how.cpu_busy_percent) == (2.9e9, 71.0, 10.0)
    assert (how.available_bytes, how.others_bytes) == (pytest.approx(12 * GIB), 4 * GIB)
    assert (how.depth_tokens, how.prompt_tokens, how.streams) == (2400, 2000, 1)
    assert how.held_by == HeldBy.POWER
    assert how.socket_power_watts is None and how.swap_bytes_per_second is None


def test_of_a_server_of_another_box_this_ones_conditions_are_not_told() -> None:
    watched, box = Watched(), {"gpus": [gpu(sclk_hertz=int(2.9e9))], "memory": memory(available=12)}
    box["sources"] = tuple(source(name) for name in ("gpu", "memory"))
    for time in range(20):
        watched.see(time, **box)
    now = frame(20, servers=[replace(serving(1, pid=None), url="http://10.0.0.7:8080")], **box)
    how = conditions_during(now, watched.history, now.servers[0], request(), 5, 14)
    assert how == Conditions(depth_tokens=how.depth_tokens, prompt_tokens=how.prompt_tokens)
    here = replace(now.servers[0], url="http://127.0.0.1:8080")
    assert conditions_during(now, watched.history, here, request(), 5, 14).sclk_hertz == 2.9e9


def test_conditions_where_nothing_is_known() -> None:
    watched = Watched().idle()
    now = frame(20, servers=[serving(None, pid=None)])
    how = conditions_during(now, watched.history, now.servers[0], request(), 30, 40)
    assert how.sclk_hertz is None and how.others_bytes is None and how.held_by is None


def test_a_load_that_was_seen_is_told_once() -> None:
    watched = Watched()
    untold = ServerFacts(model_type="Q4_K - Medium")
    watched.see(0, serving(state=ServerState.LOADING, facts=untold))
    assert watched.see(1, serving(facts=untold)) == {}  # its log comes a moment later
    assert watched.see(2, serving()) == {Metric.LOAD: 21.5}
    assert watched.see(3, serving()) == {}


def test_a_load_that_was_not_seen_or_failed_is_none() -> None:
    watched = Watched()
    assert watched.see(0, serving()) == {}
    watched.see(1, serving(state=ServerState.LOADING))
    watched.see(2, serving(state=ServerState.DOWN))
    assert watched.see(3, serving()) == {}
    watched.see(4, serving(state=ServerState.LOADING, facts=None))
    watched.see(5, serving(facts=None))
    assert watched.see(100, serving()) == {}  # too late to be of that load


def test_memory_is_the_most_it_held_while_it_served() -> None:
    watched = Watched()

    def holds(size: int, pid: int = 7) -> tuple[Holder, ...]:
        return (Holder(pid=pid, name="llama-server", gtt_bytes=size * GIB, vram_bytes=0),)

    later = MEMORY_SECONDS
    watched.see(0, serving(), holders=holds(60))
    watched.see(1, serving(), holders=holds(70))
    assert watched.see(later, serving(), holders=holds(60)) == {}  # it served nobody
    few = serving(requests=(done(5, 19, generated=3, prompt_tokens=3),))
    assert watched.see(later + 2, few, holders=holds(61)) == {Metric.MEMORY: 70 * GIB}
    assert watched.see(later + 3, serving(), holders=holds(62)) == {}
    assert watched.see(3 * later, serving(pid=8), holders=holds(90, pid=8)) == {}  # another process
