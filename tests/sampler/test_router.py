"""A router's list of models, and the tabs of those that are loaded. The formats are a real router's."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_server import FakeServer
from halotui.collectors import discovery
from halotui.collectors.llama_http import HttpProblem, LlamaHttp
from halotui.collectors.llama_models import child_url, parse_meta, parse_offered
from halotui.hosts.local import LocalHost
from halotui.model import ModelState, Server, ServerProcess, ServerState
from halotui.sampler.core import GRACE, Options, Sampler

BINARY = os.environ.get("HALOTUI_LLAMA_SERVER")
META = {
    "n_vocab": 366,
    "n_ctx": 4096,
    "n_ctx_train": 8192,
    "n_params": 129088,
    "size": 516352,
    "ftype": "Q8_0",
}


def model(name: str, value: str, port: int = 0, **status: Any) -> dict[str, Any]:
    args = [
        "/usr/bin/llama-server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--alias",
        name,
        "--parallel",
        "2",
    ]
    one: dict[str, Any] = {"id": name, "aliases": [], "status": {"value": value, "args": args, **status}}
    return one | ({"meta": META} if value in ("loaded", "sleeping") else {})


def listed(*models: dict[str, Any]) -> bytes:
    return json.dumps({"data": models, "object": "list"}).encode()


# --- what it says


def test_states_and_ports() -> None:
    offered = parse_offered(
        listed(
            model("a", "loaded", 46629),
            model("b", "unloaded"),
            model("c", "unloaded", 46630, failed=True, exit_code=1),
            model("d", "sleeping", 46631),
            model("e", "loading", 46632),
            model("f", "downloading"),
            model("g", "downloaded"),
            model("h", "dreaming"),
            model("i", "loaded", 99999999999),
        )
    )
    assert " ".join(one.state for one in offered) == (
        "loaded unloaded failed sleeping loading downloading unloaded unloaded loaded"
    )
    assert [one.child.url if one.child else None for one in offered] == (
        [f"http://127.0.0.1:{port}" if port else None for port in (46629, 0, 0, 46631, 46632, 0, 0, 0, 0)]
    )
    assert offered[0].context_tokens == 4096 and offered[0].child and offered[0].child.slots_asked == 2
    assert "exit code 1" in (offered[2].reason or "") and not offered[1].reason


def test_the_model_of_a_server() -> None:
    meta = parse_meta(json.dumps({"data": [{"id": "m", "meta": META}], "models": [{"name": 7}]}).encode())
    assert (meta.context_trained_tokens, meta.parameters, meta.bytes, meta.type) == (
        8192,
        129088,
        516352,
        "Q8_0",
    )
    assert parse_meta(b'{"data":[]}').type is None
    with pytest.raises(HttpProblem):
        parse_offered(b'{"data":[{"id":"m"}]}')


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: (
    st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["data", "id", "status", "value", "args", "--port", "meta"]), inner)
)))  # fmt: skip
def test_a_list_of_anything_raises_nothing_else(said: Any) -> None:
    for body in (said, {"data": said}, {"data": [{"id": "x", "status": said}]}):
        with suppress(HttpProblem):
            parse_offered(json.dumps(body).encode())
        with suppress(HttpProblem):
            parse_meta(json.dumps(body).encode())


def test_names_are_harmless_and_an_identity() -> None:
    (one,) = parse_offered(listed(model("\x1b[2Ja\u202e?b&c d", "unloaded")))
    assert one.id == "a?b&c d" and child_url("http://h:1", one.id) == "http://h:1?model=a%3Fb%26c%20d"
    assert child_url("http://h:1", "org/name:Q4_K_M") == child_url("http://h:1", "org/name:Q4_K_M")


# --- what is followed


@contextmanager
def routing(**models: tuple[str, int]) -> Iterator[FakeServer]:
    with FakeServer() as router:
        said = {"role": "router", "max_instances": 4, "build_info": "b11549-x"}
        router.answers = {"/health": (200, {"status": "ok"}), "/props": (200, said)}
        offers(router, **models)
        yield router


def offers(router: FakeServer, **models: tuple[str, int]) -> None:
    said = [model(name, *state) for name, state in models.items()]
    router.answers["/models"] = (200, {"data": said, "object": "list"})


def port_of(fake: FakeServer) -> int:
    return int(fake.url.rpartition(":")[2])


def watching(*urls: str) -> Sampler:
    return Sampler(LocalHost(), Options(urls=urls, gpu_source="sysfs"))


async def tick(watch: Sampler, *, again: bool = True, grace: float = GRACE) -> dict[str, Server]:
    if again:  # everything is due
        watch._discover_at = 0.0
        for tab in watch._tabs._tabs.values():
            getattr(tab.tracker, "hurry", lambda: None)()
    return {server.url: server for server in (await watch.tick(grace)).servers}


async def test_a_router_is_known_by_its_answer_and_its_models_get_tabs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery, "find", lambda *_: [])
    with FakeServer() as child, routing(a=("loaded", port_of(child)), b=("unloaded", 0)) as router:
        watch = watching(router.url)
        seen = await tick(watch, grace=3.0)  # one tick is enough
        assert list(seen) == [router.url, child_url(router.url, "a")]
        top, a = seen.values()
        assert (top.state, top.reason, top.build) == (
            ServerState.IDLE,
            "router: 1 of 2 models loaded",
            "b11549-x",
        )
        assert [(one.id, one.state, one.address, one.url) for one in top.models] == [
            ("a", ModelState.LOADED, child.url, a.url),
            ("b", ModelState.UNLOADED, None, None),
        ]
        assert (a.state, a.address, a.behind, a.slots_total) == (ServerState.IDLE, child.url, router.url, 1)

        child.answers["/slots"] = (200, [{"id": 0, "is_processing": True, "next_token": [{"n_decoded": 3}]}])
        await asyncio.sleep(1.05)
        watch._tabs._tabs[a.url].poller.hurry()  # type: ignore[union-attr]
        seen = await tick(watch)
        assert seen[a.url].state is seen[router.url].state is ServerState.BUSY

        asked = len(child.asked)
        offers(router, a=("unloaded", port_of(child)), b=("unloaded", 0))
        for _ in range(3):
            seen = await tick(watch)
        assert (seen[a.url].state, seen[a.url].model) == (ServerState.SLEEPING, "a")
        assert "unloaded" in (seen[a.url].reason or "") and seen[router.url].state is ServerState.IDLE
        assert len(child.asked) <= asked + 2 and seen[a.url].slots == ()
        assert set(router.asked) <= {"/health", "/props", "/models"}

        with FakeServer() as again:  # loaded again, on another port
            offers(router, a=("loaded", port_of(again)), b=("unloaded", 0))
            await tick(watch)
            seen = await tick(watch)
            assert (seen[a.url].state, seen[a.url].address) == (ServerState.IDLE, again.url)
        await watch.close()


async def test_a_model_that_is_unloaded_under_us_is_never_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server refuses: the router is asked before anybody is alarmed."""
    monkeypatch.setattr(discovery, "find", lambda *_: [])
    with routing() as router:
        with FakeServer() as child:
            offers(router, a=("loaded", port_of(child)))
            watch = watching(router.url)
            await tick(watch)
            offers(router, a=("unloaded", 0))
        await asyncio.sleep(1.05)
        watch._tabs._tabs[child_url(router.url, "a")].poller.hurry()  # type: ignore[union-attr]
        seen = await tick(watch, again=False)
        assert seen[child_url(router.url, "a")].state is ServerState.SLEEPING
        await watch.close()


async def test_a_model_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "find", lambda *_: [])
    with FakeServer() as child, routing(a=("loaded", port_of(child))) as router:
        watch = watching(router.url)
        await tick(watch)
        said = model("a", "unloaded", port_of(child), failed=True, exit_code=1)
        router.answers["/models"] = (200, {"data": [said]})
        seen = await tick(watch)
        assert seen[router.url].models[0].state is ModelState.FAILED
        a = seen[child_url(router.url, "a")]
        assert a.state is ServerState.FAILED and "exit code 1" in (a.reason or "")
        await watch.close()


@pytest.mark.parametrize("facts", [{"own_network": True}, {"address": "http://192.0.2.7:8080"}])
async def test_a_loopback_that_is_not_ours_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any]
) -> None:
    """The children of a router in a container, or on another machine, listen on that one's loopback."""
    with FakeServer() as child, routing(a=("loaded", port_of(child))) as router:
        pid = 1 if "own_network" in facts else 0
        known = ServerProcess(pid=pid, url=router.url, router=True, **facts)
        monkeypatch.setattr(discovery, "find", lambda *_: [known])
        watch = Sampler(LocalHost(), Options(gpu_source="sysfs"), client=lambda *_: LlamaHttp(router.url))
        seen = await tick(watch)
        assert list(seen) == [router.url] and seen[router.url].models[0].address is None
        assert not child.asked
        await watch.close()


async def test_a_model_in_another_network_is_listened_to_and_never_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its port of that network may be another server's in ours; that it cannot be asked is no alarm."""
    with FakeServer() as stranger, routing(a=("loaded", port_of(stranger))) as router:
        top = ServerProcess(pid=1, url=router.url, router=True, own_network=True)
        a = ServerProcess(
            pid=2,
            url=child_url(router.url, "a"),
            address=stranger.url,
            behind=router.url,
            own_network=True,
            unreachable="for the router alone",
        )
        monkeypatch.setattr(discovery, "find", lambda *_: [top, a])
        watch = Sampler(LocalHost(), Options(gpu_source="sysfs"))
        for _ in range(3):
            seen = await tick(watch)
            assert (seen[a.url].state, seen[a.url].reason) == (ServerState.WAITING, a.unreachable)
        assert not stranger.asked
        await watch.close()


async def test_models_of_a_router_behind_a_tunnel_get_no_tab(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is forwarded is the router's port alone: that theirs refuse here is no news of theirs."""
    monkeypatch.setattr(discovery, "find", lambda *_: [])
    with FakeServer() as gone:
        port = port_of(gone)
    with routing(a=("loaded", port)) as router:
        watch = watching(router.url)
        for _ in range(3):
            seen = await tick(watch)
            assert list(seen) == [router.url]
            assert [(one.state, one.address) for one in seen[router.url].models] == [
                (ModelState.LOADED, None)
            ]
        await watch.close()


async def test_another_server_in_a_routers_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "find", lambda *_: [])
    with routing(a=("unloaded", 0)) as router, FakeServer() as plain:
        watch = watching(router.url)
        assert (await tick(watch))[router.url].models
        router.answers = plain.answers
        for tab in watch._tabs._tabs.values():
            await tab.tracker.reconnect(LlamaHttp(router.url))
        await tick(watch)
        seen = (await tick(watch))[router.url]
        assert seen.state is ServerState.IDLE and not seen.models and seen.slots_total == 1
        await watch.close()


# --- a real one


@pytest.fixture
def real(tmp_path: Path, models: Path) -> Iterator[tuple[str, Path]]:
    """A real router over two models, its children asleep after a second; its URL and its log."""
    if not BINARY:
        pytest.skip("needs HALOTUI_LLAMA_SERVER: a llama-server with router mode")
    shelf = tmp_path / "models"
    shelf.mkdir()
    for name in ("one", "two"):
        (shelf / f"{name}.gguf").symlink_to(models / "tiny.gguf")
    log = tmp_path / "router.log"
    flags = ("--host", "127.0.0.1", "--port", "0", "--models-dir", shelf, "-t", "1", "--metrics")
    with log.open("wb") as out:
        argv = [BINARY, *map(str, flags), "--sleep-idle-seconds", "1"]
        process = subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 15
        while not (found := re.search(r"(?m)^[\d. ]+I.*listening on (http://\S+)", log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield found[1], log
    finally:
        process.terminate()
        process.wait(10)


async def test_a_real_router_is_left_alone(real: tuple[str, Path]) -> None:
    url, log = real
    watch = watching(url)
    try:
        frames = watch.frames()
        before = [servers async for servers in until(frames, 3.0)][-1]
        assert list(before) == [url] and before[url].pid
        assert [one.state for one in before[url].models] == [ModelState.UNLOADED] * 2
        assert "spawning" not in log.read_text()
        await asyncio.to_thread(complete, url, "one")
        seen = [servers async for servers in until(frames, 9.0)]
    finally:
        await watch.close()
    child = child_url(url, "one")
    after = seen[-1]
    assert list(after) == [url, child]
    assert after[child].pid and after[child].address and after[child].behind == url
    requests = [request for frame in seen if child in frame for request in frame[child].requests]
    assert [request.generation_tokens for request in requests] == [7]
    assert after[child].state is ServerState.SLEEPING
    assert {one.id: one.state for one in after[url].models} == {
        "one": ModelState.SLEEPING,
        "two": ModelState.UNLOADED,
    }
    told = log.read_text()
    assert told.count("spawning server instance with name") == 1
    assert told.count("start_loop: entering sleeping state") == 1 and "exiting sleeping state" not in told
    assert told.count("proxying request") == 1  # the completion's


async def until(frames: Any, seconds: float) -> AsyncIterator[dict[str, Server]]:
    end = time.monotonic() + seconds
    async for frame in frames:
        yield {server.url: server for server in frame.servers}
        if time.monotonic() >= end:
            return


def complete(url: str, name: str) -> None:
    body = json.dumps({"model": name, "prompt": "the red", "max_tokens": 7, "temperature": 0}).encode()
    request = urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()
