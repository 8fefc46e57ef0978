"""server-down and source-stale: who does not answer, and what is only quiet."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from builders import URL, Watch, request, server, source
from halotui.model import Finding, ServerEvent, ServerState, Severity, SourceState
from halotui.rules import Rule, Symptom
from halotui.rules.engine import State
from halotui.rules.sources import RULES
from halotui.rules.tuning import Tuning

DOWN = server(state=ServerState.DOWN, reason="connection refused")


def judge(watch: Watch | None = None, time: float = 0, **parts: Any) -> Finding | None:
    return next(iter((watch or Watch(hold=False)).see(time, **parts)), None)


def test_never_up_is_a_warning() -> None:
    found = judge(servers=[DOWN])
    assert found is not None
    assert (found.id, found.severity, found.subject) == ("server-down", Severity.WARNING, URL)
    assert found.evidence == "connection refused"


@pytest.mark.parametrize(
    ("before", "severity"),
    [
        (server(slots_busy=2), Severity.CRITICAL),  # somebody lost an answer
        (server(slots_busy=0), Severity.WARNING),
        (server(requests=(request(),)), Severity.WARNING),
    ],
)
def test_gone_down_at_work_is_critical(before: Any, severity: Severity) -> None:
    watch = Watch(hold=False)
    judge(watch, 0, servers=[before])
    found = judge(watch, 1, servers=[DOWN])
    assert found is not None and (found.severity, found.title) == (severity, "llama-server went down")


def test_who_was_asked_to_stop_is_no_alarm() -> None:
    stopped = ServerEvent(kind="stopped", severity=Severity.INFO, text="asked to stop", time=1.2)
    watch = Watch(hold=False)
    judge(watch, 0, servers=[server(slots_busy=1)])
    judge(watch, 1, servers=[server(slots_busy=1)])
    found = judge(watch, 2, servers=[server(state=ServerState.DOWN, events=(stopped,))])
    assert found is not None and (found.severity, found.title) == (Severity.INFO, "llama-server was stopped")
    assert judge(watch, 20, servers=[server(slots_busy=1)]) is None
    found = judge(watch, 21, servers=[DOWN])  # the one after it was not
    assert found is not None and found.severity == Severity.CRITICAL


def test_it_stays_critical_when_history_forgets() -> None:
    watch = Watch(hold=False)
    judge(watch, 0, servers=[server(slots_busy=1)])
    for time in range(1, 1000):
        found = judge(watch, time, servers=[DOWN])
    assert found is not None and found.severity == Severity.CRITICAL


def test_its_log_is_named() -> None:
    found = judge(servers=[server(state=ServerState.DOWN, log_path="/tmp/x.log")])
    assert found is not None and "/tmp/x.log" in found.fix


@pytest.mark.parametrize("state", sorted(set(ServerState) - {ServerState.DOWN, ServerState.FAILED}))
def test_other_states_are_not_down(state: ServerState) -> None:
    assert judge(servers=[server(state=state)]) is None


def test_a_foreign_answer_has_its_own_words() -> None:
    found = judge(servers=[server(state=ServerState.FAILED, reason="not JSON")])
    assert found is not None
    assert (found.id, found.evidence, found.severity) == ("server-down", "not JSON", Severity.WARNING)
    assert "port" in found.fix


def test_down_holds_clears_and_rearms() -> None:
    watch = Watch()
    steps = ((0, DOWN, 0), (0.5, DOWN, 0), (1, DOWN, 1), (2, server(), 0), (3, DOWN, 0), (4, DOWN, 1))
    for time, one, fires in steps:
        assert bool(judge(watch, time, servers=[one])) == bool(fires), time


@pytest.mark.parametrize("state", sorted(set(SourceState) - {SourceState.STALE, SourceState.HUNG}))
def test_a_source_that_is_not_late(state: SourceState) -> None:
    assert judge(sources=[source(state=state)]) is None


def test_a_stale_source() -> None:
    found = judge(sources=[source("memory", SourceState.STALE, name="psutil", age_seconds=12, hint="wait")])
    assert found is not None
    assert (found.id, found.severity, found.subject) == ("source-stale", Severity.WARNING, "memory")
    assert found.evidence == "psutil, late, last answer 12 s ago"
    assert found.fix == "wait"


def test_a_hung_gpu_is_critical() -> None:
    found = judge(sources=[source("gpu", SourceState.HUNG)])
    assert found is not None and found.severity == Severity.CRITICAL
    assert "reset" in found.title and "never answered" in found.evidence


@pytest.mark.parametrize("part", ["gpu_metrics", "amdgpu_top", "amdsmi"])
@pytest.mark.parametrize("state", [SourceState.STALE, SourceState.HUNG])
def test_what_the_gpus_numbers_are_made_of_is_late_with_them(part: str, state: SourceState) -> None:
    (found,) = Watch(hold=False).see(0, sources=[source("gpu", state), source(part, state)])
    assert found.subject == "gpu"
    (found,) = Watch(hold=False).see(0, sources=[source("gpu"), source(part, state)])
    assert found.subject == part


def test_what_hangs_with_the_gpu_is_one_finding() -> None:
    hung = [
        source(id_, SourceState.HUNG, since_time=100 + at)
        for at, id_ in enumerate(("processes", "gpu", "holders", "gpu_metrics", "kernel log", f"log {URL}"))
    ]
    silent = server(state=ServerState.WAITING, waiting_seconds=500)
    (found,) = Watch(hold=False).see(0, sources=hung, servers=[silent])
    assert (found.subject, found.severity) == ("gpu", Severity.CRITICAL)
    assert found.evidence.endswith("; with it: processes, holders, kernel log, log")
    many = [source(f"s{n}", SourceState.STALE) for n in range(6)]
    (found,) = Watch(hold=False).see(0, sources=[*many, source("gpu", SourceState.HUNG)])
    assert found.evidence.endswith("; with it: s0, s1, s2, s3 and 2 more")


def test_what_stopped_long_before_the_gpu_is_another_matter() -> None:
    sources = [
        source("memory", SourceState.STALE, since_time=10),
        source("gpu", SourceState.HUNG, since_time=200),
    ]
    assert {found.subject for found in Watch(hold=False).see(0, sources=sources)} == {"memory", "gpu"}
    quiet = [source("gpu", SourceState.STALE, since_time=200)]  # late is not hung: the server has its own say
    silent = server(state=ServerState.WAITING, waiting_seconds=500)
    found = Watch(hold=False).see(0, sources=quiet, servers=[silent])
    assert {one.subject for one in found} == {"gpu", URL}


def test_a_hang_that_the_kernel_told_of_is_not_told_twice() -> None:
    hung = [source("gpu", SourceState.HUNG)]
    told = Rule(id="gpu-fault", check=lambda _: [hang], severity=Severity.CRITICAL, why="", fix="")
    hang = Symptom(subject="gpu", title="t", evidence="e")
    watch = Watch(told, *RULES, hold=False)
    watch.see(0, sources=hung)  # it may be told in the same frame
    assert [one.id for one in watch.see(1, sources=hung)] == ["gpu-fault"]
    hang = replace(hang, severity=Severity.WARNING)  # it came back, as the kernel says
    watch.see(2, sources=hung)
    assert [one.id for one in watch.see(3, sources=hung)] == ["source-stale", "gpu-fault"]


def test_how_long_a_server_may_be_silent_is_the_users() -> None:
    watch = Watch(*RULES, tuning=Tuning(levels={"source-stale": {"silent_seconds": 20.0}}), hold=False)
    assert not judge(watch, **waiting(20)) and judge(watch, **waiting(21))


def test_a_hung_log_is_a_warning() -> None:
    found = judge(sources=[source(f"log {URL}", SourceState.HUNG, age_seconds=5)])
    assert found is not None and found.severity == Severity.WARNING
    assert found.title == "Source log hangs"


def test_a_source_holds_clears_and_rearms() -> None:
    watch, late, well = Watch(), [source(state=SourceState.STALE)], [source()]
    for time, sources, fires in ((0, late, 0), (3, late, 1), (4, well, 0), (5, late, 0), (8, late, 1)):
        assert bool(judge(watch, time, sources=sources)) == bool(fires), time


def waiting(seconds: float | None) -> dict[str, Any]:
    return {"servers": [server(state=ServerState.WAITING, waiting_seconds=seconds)]}


def test_a_silent_server() -> None:
    assert judge(**waiting(60)) is None
    found = judge(**waiting(185))
    assert found is not None and found.id == "source-stale" and found.subject == URL
    assert found.evidence == "no answer for 3 min"


def test_a_wait_of_unknown_length_is_undefined() -> None:
    watch = Watch(hold=False)
    assert judge(watch, **waiting(None)) is None
    assert watch.engine.state("source-stale", URL) == State.UNDEFINED


@pytest.mark.parametrize(
    ("engine", "name"),
    [("llama.cpp", "llama-server"), ("ollama", "Ollama"), ("vllm", "vLLM"), ("rpc-server", "rpc-server")],
)
def test_each_engine_by_its_name(engine: str, name: str) -> None:
    found = judge(servers=[server(state=ServerState.DOWN, engine=engine)])
    assert found is not None and found.title == f"No {name} answers"
    failed = judge(servers=[server(state=ServerState.FAILED, engine=engine)])
    assert failed is not None and failed.title == f"No healthy {name} answers here" and name in failed.why


def test_a_model_of_a_router_that_failed() -> None:
    reason = "failed, exit code 1: see the router's log"
    found = judge(servers=[server(state=ServerState.FAILED, behind="http://127.0.0.1:8080", reason=reason)])
    assert found is not None and found.evidence == reason and "port" not in found.fix
