"""What a log reported: said for ten minutes, counted, with a way out, and over when its server is another."""

from __future__ import annotations

from typing import Any

import pytest

from builders import GIB, URL, Watch, gpu, memory, server
from halotui.collectors.llama_log import LogParser
from halotui.collectors.log_events import ROWS
from halotui.model import Finding, ServerEvent, ServerFacts, ServerState, Severity
from halotui.rules import Proof
from halotui.rules.errors import RULES

TOO_LONG = "0.1 E srv send_error: task id = 1, error: request (%d tokens) exceeds the available context size (%d tokens), try increasing it"  # noqa: E501
LINES = {
    "load-failed": "0.00.015.661 E srv  llama_server: exiting due to model loading error",
    "kv-full": "0.00.001.000 E srv        decode: Context size has been exceeded. off = 140, n_batch = 1, "
    "ret = 1",
    "context-shift": "0.00.192.061 W slot   operator(): id  3 | task 12 | slot context shift, n_keep = 0, "
    "n_left = 255, n_discard = 127",
    "server-abort": "/src/llama.cpp/common/ngram-map.cpp:236: common_ngram_map_draft: "
    "map.idx_last_check > cur_len",
    "out-of-memory": "ggml_vulkan: Device memory allocation of size 9223372036 failed.",
    "port-in-use": "0.00.009.660 E srv         start: couldn't bind HTTP server socket, hostname: 127.0.0.1, "
    "port: 8093",
    "bad-key": "0.00.102.151 W srv    operator(): unauthorized: Invalid API Key",
    "bad-flag": "error: invalid argument: --no-such-flag",
    "gpu-hang": "HW Exception by GPU node-1 (Agent handle: 0x55d0) reason :GPU Hang",
    "device-lost": "terminate called after throwing an instance of 'vk::DeviceLostError'",
    "gpu-error": "ROCm error: unspecified launch failure",
    "compute-error": "0.00.001.000 E srv        decode: Compute error. off = 0, n_batch = 1, ret = -3",
    "model-failed": "0.09.001.000 I srv    operator(): instance name=broken exited with status 1",
    "request-error": "0.00.001.000 E srv    send_error: task id = 9, error: Invalid slot ID",
}
ROOM = {"gpus": [gpu(gtt=60, gtt_total=120)], "memory": memory(available=60)}
FULL = {"gpus": [gpu(gtt=119, gtt_total=120)], "memory": memory(available=60)}


KIND_OF = {"server-abort": "abort"}  # the others are called as their kind


def event(kind: str, time: float | None = None, text: str = "it happened", **more: Any) -> ServerEvent:
    return ServerEvent(kind=kind, severity=Severity.WARNING, text=text, time=time, **more)


def too_long(asked: int, limit: int, time: float | None = None) -> ServerEvent:
    return event("context-exceeded", time, f"a prompt of {asked}", detail=TOO_LONG % (asked, limit))


def see(watch: Watch, time: float, *events: ServerEvent, box: dict[str, Any] = ROOM, **facts: Any) -> Any:
    found = watch.see(time, servers=[server(events=events, **facts)], **box)
    return next((one for one in found if one.id in {rule.id for rule in RULES}), None)


def judge(*events: ServerEvent, box: dict[str, Any] = ROOM, **facts: Any) -> Finding:
    found = see(Watch(), 1000, *events, box=box, **facts)
    assert found is not None
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_kind_fires_once_stays_and_clears(rule: Any) -> None:
    watch = Watch()
    assert see(watch, 999) is None
    found = see(watch, 1000, event(KIND_OF.get(rule.id, rule.id)))
    assert (found.id, found.subject, found.severity) == (rule.id, URL, rule.severity)
    assert len(found.title) < 60 and found.evidence == "it happened; 0 s ago"
    assert see(watch, 1599).evidence == "it happened; 9 min ago"
    assert see(watch, 1601) is None
    again = see(watch, 1700, event(KIND_OF.get(rule.id, rule.id)))  # it re-arms
    assert again is not None and again.since_time == 1700


def test_the_kinds_of_the_log_have_a_rule_or_a_reason_not_to() -> None:
    other_rules = {"draft-failed", "stopped", "hipblaslt-fallback"}  # draft-vocab, server-down, loading
    no_finding = {"kv-tight", "template"}  # an event is enough
    told = {KIND_OF.get(rule.id, rule.id) for rule in RULES}
    assert {row.kind for row in ROWS} - other_rules - no_finding <= told


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.proof is Proof.RECORDED], ids=lambda r: r.id)
def test_the_line_of_a_real_log_makes_it_fire(rule: Any) -> None:
    batch = LogParser().feed((LINES[rule.id] + "\n").encode(), keep=0)
    found = judge(*batch.events)
    assert found.id == rule.id and found.evidence.endswith("; 0 s ago")


def test_they_are_counted() -> None:
    watch = Watch()
    see(watch, 900, event("kv-full"))
    see(watch, 950, event("kv-full", text="the KV cache was full (12 times)"))
    found = see(watch, 980, event("kv-full", 960, "the KV cache was full", slot=2))
    assert found.evidence == "slot 2: the KV cache was full; 14 times, last 20 s ago"
    for second in range(300):
        found = see(watch, 1000 + second, event("kv-full"))
    assert "100+ times" in found.evidence


def test_what_was_long_ago_when_halotui_came_is_no_finding() -> None:
    watch = Watch()
    assert see(watch, 10_000, event("abort", 9000), event("kv-full", 9399)) is None
    assert see(watch, 10_001, event("kv-full", 9500)) is not None


def test_a_clock_ahead_is_now() -> None:
    watch = Watch()
    assert see(watch, 1000, event("kv-full", 5000)).evidence == "it happened; 0 s ago"


def test_a_restart_ends_what_was_of_the_old_process_but_for_crashes() -> None:
    watch = Watch()
    see(watch, 1000, event("kv-full"), event("abort"), uptime_seconds=500)
    found = [one.id for one in watch.see(1100, servers=[server(uptime_seconds=10)])]
    assert found == ["server-abort"]
    found = [one.id for one in watch.see(1100, servers=[server(state=ServerState.DOWN)])]
    assert "server-abort" in found and "kv-full" not in found


def test_a_port_that_stays_shared_stays_said() -> None:
    watch, shared = Watch(), "2 servers share this port, pids 1, 2: a request reaches one of them"
    see(watch, 1000, event("port-shared", text=shared), reason=shared)
    assert see(watch, 5000, reason=shared).evidence == shared
    assert see(watch, 5001) is None


def test_a_failed_load_stays_while_the_server_is_down() -> None:
    watch = Watch()
    see(watch, 1000, event("load-failed", text="the model could not be loaded: no memory for 625000 MB"))
    found = watch.see(1100, servers=[server(state=ServerState.DOWN, uptime_seconds=None)])
    assert [one.id for one in found if one.severity is Severity.CRITICAL] == ["load-failed"]


def test_a_longer_context_is_as_long_as_it_takes() -> None:
    found = judge(too_long(419, 256), too_long(3000, 256), kv_unified=True, kv_token_bytes=1024.0)
    assert found.patch == {"c": 4096} and "-c 4096 takes 3.75 MiB more" in found.fix
    split = judge(too_long(6000, 4096), kv_unified=False, slots_total=2, kv_token_bytes=1024.0)
    assert split.patch == {"kvu": True} and "share 8,192 tokens" in split.fix
    split = judge(too_long(9000, 4096), kv_unified=False, slots_total=2)
    assert split.patch == {"c": 2 * 11264}


def test_a_context_that_does_not_fit_is_not_proposed() -> None:
    found = judge(too_long(100_000, 4096), kv_unified=True, kv_token_bytes=GIB / 10_000, box=FULL)
    assert found.patch is None and "1.00 GiB are free" in found.fix
    trained = judge(too_long(50_000, 4096), facts=ServerFacts(context_trained_tokens=40_960))
    assert trained.patch is None and "trained for 40,960 tokens" in trained.fix
    unknown = judge(event("context-exceeded"))
    assert unknown.patch is None


def test_a_full_cache_wants_room_or_fewer_slots() -> None:
    room = {"kv_unified": True, "slots_total": 4, "slot_context_tokens": 8192}
    assert judge(event("kv-full"), **room).patch == {"c": 16384}
    tight = judge(event("kv-full"), kv_token_bytes=GIB / 1000, box=FULL, **room)
    assert tight.patch == {"np": 2} and tight.severity is Severity.CRITICAL
    assert judge(event("kv-full"), slots_total=1).patch is None


def test_an_abort_while_drafting_goes_without_drafts() -> None:
    line = "ngram-map.cpp:236: common_ngram_map_draft: map.idx_last_check > cur_len: 1218 > 1105"
    assert judge(event("abort", detail=line)).patch == {"draft": None, "spec": None}
    assert judge(event("abort", detail="ggml.c:1: GGML_ASSERT(x) failed")).patch is None
    gone = judge(event("abort", text="llama.cpp aborted at ggml-rpc.cpp line 651"))
    assert gone.patch is None and "rpc-server" in gone.fix


def test_no_memory_means_a_smaller_cache() -> None:
    assert judge(event("out-of-memory"), facts=ServerFacts(context_tokens=65536)).patch == {"c": 32768}
    assert judge(event("out-of-memory")).patch == {"ctk": "q8_0", "ctv": "q8_0"}


def test_a_key_that_halotui_lacks() -> None:
    assert "--api-key-env" in judge(event("bad-key"), state=ServerState.LOCKED).fix
    assert "--api-key-env" not in judge(event("bad-key")).fix


def test_its_log_is_named() -> None:
    assert judge(event("abort"), log_path="journal llama.service").fix.endswith("Log: journal llama.service.")


def test_several_servers_have_their_own() -> None:
    watch = Watch()
    other = "http://127.0.0.1:9090"
    found = watch.see(5, servers=[server(events=(event("abort"),)), server(other)])
    assert [one.subject for one in found] == [URL]


def test_an_unknown_kind_is_no_finding_and_takes_no_room() -> None:
    watch = Watch()
    for number in range(1000):
        watch.see(number, servers=[server(events=(event(f"odd-{number}"),) * 50)])
    assert len(watch.history.events(URL)) <= 32
