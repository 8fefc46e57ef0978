"""``halotui --json`` and ``stream`` against what the real server says of itself."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fake_server import FakeServer
from halotui.demo.model import Shape, write_preset
from running import NOWHERE, Crowd, Stream, busy, counters, look, run, server_of
from sysfs_tree import build, v3_0

TOP = {"schema_version", "time", "host", "gpus", "memory", "servers", "findings", "sources"}
TOP |= {"account", "system", "energy", "holders", "platform"}
GPU = """gtt_used_bytes gtt_total_bytes vram_used_bytes vram_total_bytes busy_percent sclk_hertz mclk_hertz
    fclk_hertz socket_power_watts gfx_power_watts temperature_celsius"""
MEMORY = "total_bytes used_bytes available_bytes swap_used_bytes"
SERVER = """url pid state model build slots_total slots_asked slots_busy requests_deferred
    generation_tokens_per_second prompt_tokens_per_second draft_acceptance_ratio draft_coverage_ratio slots"""
FINDING = "id severity title evidence why fix"
UNITS = ("_bytes", "_hertz", "_watts", "_celsius", "_percent", "_seconds", "_ratio", "_per_second", "_tokens")
UNITLESS = ("time", "since_time", "started_time", "load_1m", "watt_hours", "seconds")
KEY = "sk-halotui-secret-4711"


@pytest.fixture(scope="module")
def endless(start_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two slots and a context that a request fills in half a minute."""
    model = tmp_path_factory.mktemp("endless") / "endless.gguf"
    write_preset(model, Shape(dim=64, layers=2, context=65536))
    return start_server("-m", model, "-np", "2", "-c", "65536", "--metrics")


@pytest.fixture
def unseen(tmp_path: Path) -> tuple[str, Path]:
    """Flags that hide the process: as with a server on another machine."""
    return "--procfs", tmp_path


def every_key(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield key, below
            yield from every_key(below)
    elif isinstance(value, list):
        for below in value:
            yield from every_key(below)


# --- the layout


def test_layout_and_units(server: Any, sysfs: Path) -> None:
    server.complete("The old oak", 40)
    frame = look("--url", server.url, "--sysfs", sysfs)
    assert set(frame) == TOP
    assert set(GPU.split()) <= set(frame["gpus"][0])
    assert set(MEMORY.split()) <= set(frame["memory"])
    assert set(SERVER.split()) <= set(server_of(frame, server.url))
    for key, value in every_key(frame):
        assert re.fullmatch(r"[a-z][a-z0-9_]*", key) and value is not None, key
        if isinstance(value, float) and not key.endswith(UNITS):
            assert key in UNITLESS, f"{key} has no unit"
    assert abs(frame["time"] - time.time()) < 30


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    build(tmp_path / "sys", metrics=v3_0())
    return tmp_path / "sys"


def test_findings_have_their_six_keys() -> None:
    done = run("--json", "-i", 0.25, "--url", "http://127.0.0.1:1")
    (finding,) = (f for f in json.loads(done.stdout)["findings"] if f["id"] == "server-down")
    assert set(FINDING.split()) <= set(finding) and all(finding[key] for key in FINDING.split())


# --- against /props, /slots and /metrics


def test_idle_server_agrees_with_itself(server: Any) -> None:
    props, slots = server.get_json("/props"), server.get_json("/slots")
    seen = server_of(look("--url", server.url), server.url)
    assert seen["state"] == "idle" and seen["slots_busy"] == 0 and seen["requests_deferred"] == 0
    assert seen["slots_total"] == props["total_slots"] == len(seen["slots"]) == 2
    assert seen["slots_asked"] == 2
    assert seen["build"] == props["build_info"]
    assert seen["model"] == "tiny.gguf" and seen["model_path"] == props["model_path"]
    assert seen["pid"] == server.pid
    assert [slot["context_tokens"] for slot in seen["slots"]] == [slot["n_ctx"] for slot in slots]
    assert seen["generation_tokens_per_second"] == 0


def test_busy_server_agrees_with_itself(endless: Any) -> None:
    """Four long requests for two slots: tokens lie between two own looks, rates are what grew."""
    with Crowd(endless) as crowd:
        for _ in range(4):
            crowd.hold()
        busy(endless, 2)
        before, began = endless.get_json("/slots"), time.time()
        frame = look("--url", endless.url)
        after, ended = endless.get_json("/slots"), time.time()
        assert counters(endless)["requests_deferred"] == 2
    seen = server_of(frame, endless.url)
    assert seen["state"] == "busy"
    assert seen["slots_busy"] == 2 and seen["requests_deferred"] == 2
    for old, slot, new in zip(before, seen["slots"], after, strict=True):
        low, high = (reading["next_token"][0]["n_decoded"] for reading in (old, new))
        assert slot["phase"] == "decode" and slot["task"] == old["id_task"] == new["id_task"]
        assert low < slot["generated_tokens"] < high
        assert slot["used_tokens"] > slot["generated_tokens"]
        mean = (high - low) / (ended - began)
        assert mean / 4 < slot["generation_tokens_per_second"] < mean * 4
    whole = sum(slot["generation_tokens_per_second"] for slot in seen["slots"])
    assert seen["generation_tokens_per_second"] == pytest.approx(whole, rel=0.35)


def test_process_by_port_whatever_its_name() -> None:
    with FakeServer() as fake:
        seen = server_of(look("--url", fake.url), fake.url)
    assert not Path(f"/proc/{os.getpid()}/comm").read_text().startswith("llama-server")
    assert seen["pid"] == os.getpid() and seen["state"] == "idle"


def test_found_without_being_told(server: Any, endless: Any) -> None:
    frame = look()
    for known in (server, endless):
        seen = server_of(frame, known.url)
        assert (
            seen["pid"] == known.pid and seen["slots_asked"] == 2 and seen["log_path"] == str(known.log_path)
        )
    assert server_of(frame, server.url)["draft_model"].endswith("draft-good.gguf")


def test_two_urls(server: Any, endless: Any) -> None:
    frame = look("--url", endless.url, "--url", server.url.removeprefix("http://"))
    assert [seen["url"] for seen in frame["servers"]] == [endless.url, server.url]
    assert [seen["model"] for seen in frame["servers"]] == ["endless.gguf", "tiny.gguf"]


def test_draft_figures_agree_with_the_replies(start_server: Callable[..., Any], models: Path) -> None:
    """By log, and by counters for who has no log."""
    draft = ("-md", models / "draft-mid.gguf", "--spec-type", "draft-simple", "--spec-draft-n-max", "4")
    with start_server("-np", "1", "-c", "2048", "--metrics", *draft) as server:
        with (
            Stream("--url", server.url) as by_log,
            Stream("--url", server.url, "--log", NOWHERE) as by_counters,
        ):
            for stream in (by_log, by_counters):
                stream.wait_for(lambda f: server_of(f, server.url)["state"] == "idle")
            timings = [server.complete(f"Song {i}", 120)["timings"] for i in range(3)]
            drafted, accepted, generated = (
                sum(t[key] for t in timings) for key in ("draft_n", "draft_n_accepted", "predicted_n")
            )
            told = counters(server)
            assert told["spec_decode_num_draft_tokens_total"] == drafted
            for stream in (by_log, by_counters):
                stream.wait_for(
                    lambda f: (
                        server_of(f, server.url).get("draft_acceptance_ratio")
                        == pytest.approx(accepted / drafted)
                        and server_of(f, server.url)["draft_coverage_ratio"]
                        == pytest.approx(drafted / generated)
                    ),
                    seconds=8,
                )
        requests = [r for f in by_log.frames for r in server_of(f, server.url).get("requests", ())]
        assert [r["draft_tokens"] for r in requests] == [t["draft_n"] for t in timings]
        assert [r["generation_tokens"] for r in requests] == [120] * 3


# --- every token is counted once


def answered_at(frame: dict[str, Any], url: str) -> float:
    """When the server last said anything."""
    ages = (s.get("age_seconds", 0.0) for s in frame["sources"] if s["id"] == f"server {url}")
    return float(frame["time"] - next(ages))


def integral(stream: Stream, url: str, key: str, start: float = 0.0) -> float:
    """Tokens: each rate times the seconds since the rate before. A rate that stands until the next look is
    the same number again, to its last digit; a 0 of a busy server is, when nothing was answered since."""
    total, before, last, looked = 0.0, None, None, 0.0
    for frame in stream.frames:
        rate, answered = server_of(frame, url).get(key), answered_at(frame, url)
        stands = answered - looked < 0.1 and server_of(frame, url)["state"] == "busy"
        looked = answered
        if rate is not None and rate == last and (rate or stands):
            continue
        if rate is not None and before is not None and frame["time"] > start:
            total += rate * (frame["time"] - before)
        if rate is not None or before is None:
            before = frame["time"]
        last = rate
    return total


def mixed_load(server: Any) -> None:
    """Long and short, alone, side by side and waiting; some begin and end between two looks."""
    with Crowd(server) as crowd:
        long = crowd.ask(600, "one two three")
        time.sleep(0.4)
        for i in range(4):
            crowd.ask(15, f"short {i}")
            time.sleep(0.15)
        long.result()
        for reply in [crowd.ask(1, "a" * 400), crowd.ask(40, "b" * 300), crowd.ask(300, "c" * 900)]:
            reply.result()
        for i in range(4):
            crowd.ask(60, "x" * 60 * i, cache_prompt=False).result()
            time.sleep(0.35)


def check_every_token(server: Any, *watchers: Stream) -> None:
    for stream in watchers:
        stream.wait_for(lambda f: server_of(f, server.url)["state"] == "idle")
    for stream in watchers:  # two looks: what was there before has been marked
        stream.wait_for(lambda f: "generation_tokens_per_second" in server_of(f, server.url))
    before = counters(server)
    mixed_load(server)
    after = counters(server)
    end = time.time() + 3.2  # the counters of a server at rest are looked at every 2 s
    for stream in watchers:
        stream.wait_for(lambda f: f["time"] > end)
    for stream in watchers:
        stream.stop()
        for key, counter in (
            ("generation_tokens_per_second", "tokens_predicted_total"),
            ("prompt_tokens_per_second", "prompt_tokens_total"),
        ):
            truth = after[counter] - before[counter]
            assert integral(stream, server.url, key) == pytest.approx(truth, rel=0.03), (key, stream.args)
            assert all(server_of(f, server.url).get(key, 0.0) >= 0 for f in stream.frames)


def test_every_token_counts_once(start_server: Callable[..., Any], models: Path, tmp_path: Path) -> None:
    """With the log; with its process but no log; and from afar, where it may sleep for all one knows."""
    draft = ("-md", models / "draft-good.gguf", "--spec-type", "draft-simple", "--spec-draft-n-max", "4")
    with start_server("-np", "2", "-c", "4096", "--metrics", *draft) as server, ExitStack() as streams:
        flags = ((), ("--log", NOWHERE), ("--procfs", tmp_path))
        watchers = [streams.enter_context(Stream("--url", server.url, *more)) for more in flags]
        check_every_token(server, *watchers)


def test_every_token_counts_once_in_an_old_build(start_server: Callable[..., Any], old_wheel: Path) -> None:
    """b8672 keeps a slot's count after its release, and has no prompt counts in /slots."""
    with (
        start_server("-np", "2", "-c", "4096", "--metrics", wheel=old_wheel) as server,
        ExitStack() as streams,
    ):
        watchers = [
            streams.enter_context(Stream("--url", server.url, *more)) for more in ((), ("--log", NOWHERE))
        ]
        check_every_token(server, *watchers)


def test_an_old_build_far_away_is_not_guessed_at(
    start_server: Callable[..., Any], old_wheel: Path, unseen: tuple[str, Path]
) -> None:
    """It may sleep, and both /slots and /metrics would wake it: unknown, with the reason, and never 0."""
    server = start_server("-np", "2", "--metrics", wheel=old_wheel)
    with server, Stream("--url", server.url, *unseen) as stream:
        stream.wait_for(lambda f: server_of(f, server.url)["state"] == "idle")
        server.complete("unseen", 50)
        mark = len(stream.frames)
        seen = server_of(stream.wait_for(lambda f: True, since=mark + 1), server.url)
    assert "generation_tokens_per_second" not in seen and "slots_busy" not in seen
    assert "not watched" in seen["reason"]


# --- keys


def test_a_key_stays_unsaid(
    start_server: Callable[..., Any], unseen: tuple[str, Path], tmp_path: Path
) -> None:
    """Known from the process, LLAMA_API_KEY or --api-key-env, it opens; nowhere is it written."""
    with start_server("-np", "1", "--metrics", "--api-key", KEY) as server:
        runs: dict[str, tuple[tuple[Any, ...], dict[str, str]]] = {
            "its own": ((), {}),
            "fallback": (unseen, {"LLAMA_API_KEY": KEY}),
            "named": ((*unseen, "--api-key-env", "MINE"), {"MINE": KEY, "LLAMA_API_KEY": "wrong"}),
            "none": (unseen, {}),
            "wrong": ((*unseen, "--api-key-env", "MINE"), {"MINE": "sk-other-4712"}),
        }
        for name, (args, env) in runs.items():
            done = run("--json", "-i", 0.25, "--url", server.url, *args, **env)
            seen = server_of(json.loads(done.stdout), server.url)
            said = done.stdout + done.stderr
            assert KEY not in said and "sk-other" not in said, name
            if name in ("none", "wrong"):
                assert (seen["state"], done.returncode) == ("locked", 0), name
                assert "key" in seen["reason"] and "slots_busy" not in seen
            else:
                assert (seen["state"], seen["slots_total"]) == ("idle", 1), name
        refused = server.log().count("nauthorized") + server.log().count("Invalid API Key")
        assert refused <= 8  # a line in its log for each: it is not asked over and over


# --- servers in other states


def test_down_is_one_line_and_three() -> None:
    done = run("--json", "-i", 0.25, "--url", "http://127.0.0.1:1")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1 and "127.0.0.1:1" in done.stderr and "refused" in done.stderr
    assert json.loads(done.stdout)["servers"][0]["state"] == "down"


def test_loading() -> None:
    with FakeServer() as fake:
        loading = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
        healthy = dict(fake.answers)
        fake.answers = dict.fromkeys(fake.answers, (503, loading))
        with Stream("--url", fake.url, "-i", "0.25") as stream:
            seen = server_of(stream.wait_for(lambda f: True, since=1), fake.url)
            assert seen["state"] == "loading" and "slots_busy" not in seen
            fake.answers = healthy
            stream.wait_for(lambda f: server_of(f, fake.url)["state"] == "idle", 5)


def test_a_sleeping_server_is_let_sleep() -> None:
    with FakeServer() as fake:
        fake.answers["/props"] = (200, {"total_slots": 1, "is_sleeping": True})
        with Stream("--url", fake.url, "-i", "0.25") as stream:
            stream.wait_for(lambda f: True, since=6)
        assert {server_of(f, fake.url)["state"] for f in stream.frames} <= {"sleeping", "waiting"}
        assert "/slots" not in fake.asked and "/metrics" not in fake.asked


def test_something_else_answers() -> None:
    with FakeServer() as fake:
        fake.answers = dict.fromkeys(fake.answers, (200, "<html>hello</html>"))
        seen = server_of(look("--url", fake.url), fake.url)
    assert seen["state"] == "failed" and "llama-server" in seen["reason"]


@pytest.mark.parametrize(
    ("flags", "without", "finding"),
    [
        (["--no-slots", "--metrics"], ["slots_busy", "slots"], "/slots"),
        ([], ["requests_deferred"], "/metrics"),
    ],
)
def test_endpoints_that_are_off(
    start_server: Callable[..., Any], flags: list[str], without: list[str], finding: str
) -> None:
    with start_server("-np", "2", *flags) as server:
        frame = look("--url", server.url)
    seen = server_of(frame, server.url)
    assert seen["state"] == "idle" and seen["slots_total"] == 2
    assert not set(without) & set(seen)
    (source,) = (s for s in frame["sources"] if s["id"].startswith(finding))
    assert source["state"] == "no_data" and "--" in source["hint"]


def test_a_stopped_server_is_waited_for(start_server: Callable[..., Any]) -> None:
    with start_server("-np", "1", "--metrics") as server, Stream("--url", server.url) as stream:
        stream.wait_for(lambda f: server_of(f, server.url)["state"] == "idle")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            late = stream.wait_for(lambda f: server_of(f, server.url).get("waiting_seconds", 0) > 3, 12)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        seen = server_of(late, server.url)
        assert seen["state"] == "waiting" and "generation_tokens_per_second" not in seen
        back = stream.wait_for(lambda f: server_of(f, server.url)["state"] == "idle", 6, len(stream.frames))
        assert "waiting_seconds" not in server_of(back, server.url)


def test_killed_and_started_again(start_server: Callable[..., Any], models: Path, tmp_path: Path) -> None:
    """Its tasks and counters begin again at 0: no rate below 0, and every new token counts."""
    log = tmp_path / "server.log"
    flags = ("-np", "1", "-c", "4096", "--metrics", "--log-file", log)
    first = start_server(*flags)
    url = first.url
    with (
        Stream("--url", url, "-i", "0.5") as by_log,
        Stream("--url", url, "-i", "0.5", "--log", NOWHERE) as by_counters,
    ):
        watchers = (by_log, by_counters)
        for stream in watchers:
            stream.wait_for(lambda f: server_of(f, url)["state"] == "idle")
        first.complete("before", 900)
        first.process.kill()
        first.process.wait()
        for stream in watchers:
            stream.wait_for(lambda f: server_of(f, url)["state"] == "down", 5)
        with start_server(*flags, "--port", str(first.port)) as second:
            for stream in watchers:
                up = stream.wait_for(
                    lambda f: (
                        server_of(f, url)["state"] == "idle"
                        and server_of(f, url).get("pid") == second.pid
                        and "generation_tokens_per_second" in server_of(f, url)  # what was there is marked
                    ),
                    12,
                    len(stream.frames),
                )
            start = up["time"]
            second.complete("after", 300)
            second.complete("after", 200)
            for stream in watchers:
                stream.wait_for(lambda f: f["time"] > start + 5, 20)
    for stream in watchers:
        rates = [server_of(f, url).get("generation_tokens_per_second", 0.0) for f in stream.frames]
        assert min(rates) >= 0
        counted = integral(stream, url, "generation_tokens_per_second", start)
        assert counted == pytest.approx(500, rel=0.05), stream.args
