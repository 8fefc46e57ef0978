"""Watching changes nothing: the real server, watched, does what it does alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from fake_server import FakeServer
from halotui.demo.model import Shape, write_preset
from running import Crowd, Stream, busy, look, server_of

CANCELLED = "cancel task"
WOKEN = "start_loop: exiting sleeping state"
ASLEEP = "start_loop: entering sleeping state"


@pytest.fixture(scope="module")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A context that a request fills in half a minute."""
    model = tmp_path_factory.mktemp("long") / "long.gguf"
    write_preset(model, Shape(dim=64, layers=2, context=65536))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("interval", [0.5, 1.0])
def test_a_client_that_hangs_up_is_noticed(
    start_server: Callable[..., Any], long_model: Path, interval: float
) -> None:
    """b11549 asks itself once a second whether a client is there, and each answer of its queue starts that
    second anew: looked at every half a second it works on for nobody."""
    flags = ("-m", long_model, "-np", "1", "-c", "65536", "--metrics")
    with start_server(*flags) as server, Stream("--url", server.url, "-i", interval) as stream:
        stream.wait_for(lambda f: server_of(f, server.url)["state"] == "idle")
        connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
        body = {"prompt": "The old oak", "n_predict": 60000, "temperature": 0, "stream": False}
        connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
        stream.wait_for(lambda f: server_of(f, server.url).get("slots_busy") == 1)
        stream.wait_for(lambda f: True, since=len(stream.frames) + 2)  # it is being watched at work
        assert CANCELLED not in server.log()
        connection.close()
        deadline = time.monotonic() + 4
        while CANCELLED not in server.log() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert CANCELLED in server.log()
        stream.wait_for(lambda f: server_of(f, server.url).get("slots_busy") == 0, 8, len(stream.frames))


@pytest.mark.slow
def test_watching_wakes_nobody(start_server: Callable[..., Any], tmp_path: Path) -> None:
    """By its process and its log, and from afar, for longer than the rarest of our questions is apart. Each
    time it wakes is a request's."""
    with start_server("-np", "1", "--metrics", "--sleep-idle-seconds", "1") as server:
        near = Stream("--url", server.url, "-i", "0.5")
        far = Stream("--url", server.url, "-i", "0.5", "--procfs", tmp_path)
        with near, far:
            began, asked = time.monotonic(), 0
            for due in (0.0, 6.0, 12.3):
                time.sleep(max(0.0, began + due - time.monotonic()))
                server.complete("wake up", 200)
                asked += 1
            mark = len(near.frames), len(far.frames)
            time.sleep(max(0.0, began + 36 - time.monotonic()))
        log = server.log()
        assert log.count(WOKEN) == asked - 1  # the first found it awake
        assert log.count(ASLEEP) == asked
        for stream, since in zip((near, far), mark, strict=True):
            states = [server_of(frame, server.url)["state"] for frame in stream.frames]
            assert set(states[since + 10 :]) == {"sleeping"} and "idle" in states


@pytest.mark.slow
def test_a_held_look_is_a_prompt_batch_and_not_the_end() -> None:
    """The builds before b10428 answer between two batches; /health does at once, asked on its own."""
    with FakeServer() as fake:
        slot = {"id": 0, "is_processing": True, "id_task": 1}
        fake.answers["/slots"] = (200, [slot])
        fake.holds["/slots"] = 12.0
        with Stream("--url", fake.url, "-i", "0.5") as stream:
            late = stream.wait_for(lambda f: server_of(f, fake.url).get("waiting_seconds", 0) > 10.6)
            seen = server_of(late, fake.url)
            assert seen["state"] == "waiting" and "in a prompt batch for" in seen["reason"]
            assert fake.asked.count("/slots") == 1  # never given up, never asked again
            assert fake.asked.count("/health") == 2  # at the start, and late: not behind the one that waits
            back = stream.wait_for(lambda f: server_of(f, fake.url)["state"] == "busy")
            assert server_of(back, fake.url)["slots_busy"] == 1


@pytest.mark.slow
def test_a_real_prompt_batch_of_an_old_build(
    start_server: Callable[..., Any], old_wheel: Path, tmp_path: Path
) -> None:
    model = tmp_path / "slow.gguf"
    write_preset(model, Shape(dim=512, layers=8, context=32768))
    flags = ("-m", model, "-np", "1", "-c", "16384", "-b", "8192", "-ub", "512", "--metrics")
    with (
        start_server(*flags, wheel=old_wheel) as server,
        Stream("--url", server.url, "-i", "0.5") as stream,
        Crowd(server) as crowd,
    ):
        stream.wait_for(lambda f: server_of(f, server.url)["state"] == "idle")
        crowd.ask(1, "x" * 3500)
        late = stream.wait_for(lambda f: server_of(f, server.url)["state"] == "waiting", 20)
        assert "in a prompt batch for" in server_of(late, server.url)["reason"]
        assert server.get_json("/health") == {"status": "ok"}
        stream.wait_for(lambda f: server_of(f, server.url)["state"] == "idle", 60, len(stream.frames))
    assert "down" not in {server_of(frame, server.url)["state"] for frame in stream.frames[:-1]}


def test_prompts_are_not_read_even_where_a_server_tells_them(
    start_server: Callable[..., Any], long_model: Path
) -> None:
    """LLAMA_SERVER_SLOTS_DEBUG puts prompt and answer into /slots."""
    flags = ("-m", long_model, "-np", "1", "-c", "65536", "--metrics")
    secret = "zebra crossing at noon"
    with start_server(*flags, env={"LLAMA_SERVER_SLOTS_DEBUG": "1"}) as server, Crowd(server) as crowd:
        crowd.hold(prompt=secret)
        busy(server)
        deadline = time.monotonic() + 30
        while not (said := server.get_json("/slots")[0])["generated"] and time.monotonic() < deadline:
            time.sleep(0.1)
        assert secret in said["prompt"] and said["generated"]
        frame = look("--url", server.url)
        assert server_of(frame, server.url)["slots_busy"] == 1
        told = json.dumps(frame)
        assert secret not in told and said["generated"][:40] not in told
