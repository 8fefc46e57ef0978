"""A tab for each server: kept over restarts, in a stable order, gone when its server has been for long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fake_server import FakeServer
from halotui.collectors import discovery
from halotui.collectors.llama_http import HttpKind, HttpProblem, LlamaHttp
from halotui.collectors.llama_models import child_url
from halotui.hosts.local import LocalHost
from halotui.model import LogPlace, Server, ServerProcess, ServerState
from halotui.sampler.clock import Clock
from halotui.sampler.core import Options, Sampler
from halotui.sampler.tabs import KEPT, MOST

BASE = "http://127.0.0.1"


class Dead(LlamaHttp):
    """Refuses, without a socket."""

    async def get(self, path: str) -> bytes:
        raise HttpProblem(HttpKind.REFUSED, "Connection refused")


def at(port: int, pid: int | None = None, **facts: Any) -> ServerProcess:
    return ServerProcess(pid=pid or port, url=f"{BASE}:{port}", **facts)


class Box:
    """A sampler whose processes and clock are in our hands; its servers are dead unless ``alive``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.now = 1000.0
        self.processes: list[ServerProcess] = []
        self.asked: list[tuple[str, str | None]] = []
        self.alive: set[str] = set()
        monkeypatch.setattr(discovery, "find", lambda *_: list(self.processes))
        clock = Clock(monotonic=lambda: self.now, wall=lambda: self.now, sleep=self._sleep)
        self.sampler = Sampler(LocalHost(), Options(gpu_source="sysfs", **options), clock, self._client)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def _client(self, url: str, key: str | None) -> LlamaHttp:
        self.asked.append((url, key))
        return (LlamaHttp if url in self.alive else Dead)(url, key)

    async def tick(self, seconds: float = 6.0) -> list[Server]:
        self.now += seconds
        return list((await self.sampler.tick()).servers)

    async def urls(self, seconds: float = 6.0) -> list[str]:
        return [server.url.removeprefix(f"{BASE}:") for server in await self.tick(seconds)]


async def test_the_order_stays_and_new_ones_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(monkeypatch)
    box.processes = [at(2), at(1)]
    assert await box.urls() == ["2", "1"]
    box.processes = [at(3), at(1, pid=7), at(2)]
    assert await box.urls() == ["2", "1", "3"]
    await box.sampler.close()


async def test_those_asked_for_stand_as_asked_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(monkeypatch, urls=(f"{BASE}:9", f"{BASE}:5"))
    box.processes = [at(5), at(4), ServerProcess(pid=6, url="x?model=a", behind=f"{BASE}:9")]
    assert await box.urls() == ["9", "x?model=a", "5"]
    await box.sampler.close()


async def test_models_stand_behind_their_router(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(monkeypatch)
    router = at(1, router=True)
    child = ServerProcess(pid=11, url=child_url(router.url, "a"), behind=router.url, address=f"{BASE}:11")
    box.processes = [router, at(2), child]
    assert await box.urls() == ["1", "1?model=a", "2"]
    box.processes.append(replace(child, pid=12, url=child_url(router.url, "b/c")))
    assert await box.urls() == ["1", "1?model=a", "1?model=b/c", "2"]
    await box.sampler.close()


async def test_who_stand_behind_each_other_are_shown_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(monkeypatch)
    box.processes = [at(1, behind=f"{BASE}:2"), at(2, behind=f"{BASE}:1"), at(3, behind=f"{BASE}:3")]
    assert sorted(await box.urls()) == ["1", "2", "3"]
    await box.sampler.close()


async def test_who_has_gone_keeps_its_tab_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(monkeypatch)
    box.processes = [at(1), at(2)]
    await box.tick()
    box.processes = [at(2)]
    gone, left = await box.tick()
    assert (gone.url, gone.state, gone.pid) == (f"{BASE}:1", ServerState.DOWN, None) and left.pid == 2
    assert await box.urls(KEPT - 20) == ["1", "2"]
    box.processes = [at(1, pid=8), at(2)]  # back in time: the same tab, and a whole while again
    assert [server.pid for server in await box.tick()] == [8, 2]
    box.processes = [at(2)]
    await box.tick()
    assert await box.urls(KEPT - 20) == ["1", "2"]
    await box.tick(30)
    assert await box.urls() == ["2"]
    await box.sampler.close()


async def test_who_was_asked_for_never_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(monkeypatch, urls=(f"{BASE}:1",))
    await box.tick()
    for _ in range(3):
        assert await box.urls(KEPT) == ["1"]
    await box.sampler.close()


async def test_there_is_room_for_so_many_and_who_has_gone_longest_makes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box = Box(monkeypatch)
    box.processes = [at(port) for port in range(1, MOST + 6)]
    assert await box.urls() == [str(port) for port in range(1, MOST + 1)]
    del box.processes[3]
    await box.tick()
    del box.processes[7]
    left = await box.urls()
    assert len(left) == MOST and "4" not in left and str(MOST + 1) in left
    await box.sampler.close()


async def test_another_key_or_address_is_another_client(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(monkeypatch)
    box.processes = [at(1)]
    await box.tick()
    box.processes = [at(1, pid=2, api_key="sk-1", address="http://10.0.0.2:8080")]
    await box.tick()
    await box.tick()
    told = [asked for asked in box.asked if asked[1] or "10.0" not in asked[0]]
    assert told == [(f"{BASE}:1", None), ("http://10.0.0.2:8080", "sk-1")]
    await box.sampler.close()


async def test_a_restart_that_no_question_saw_is_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer() as fake:
        box = Box(monkeypatch)
        box.alive = {fake.url}
        box.processes = [ServerProcess(pid=1, url=fake.url)]
        assert (await box.tick())[0].state is ServerState.IDLE
        (tab,) = box.sampler._tabs._tabs.values()
        assert tab.poller and tab.poller.epoch == 0
        box.processes = [ServerProcess(pid=2, url=fake.url)]
        assert (await box.tick())[0].pid == 2 and tab.poller.epoch == 1
        await box.tick()
        assert tab.poller.epoch == 1
        await box.sampler.close()


async def test_one_that_cannot_be_reached_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer() as fake:
        box = Box(monkeypatch)
        box.alive = {fake.url}
        inside = ServerProcess(
            pid=1, url=fake.url, unreachable="in a container, and its port is not published"
        )
        box.processes = [inside]
        for _ in range(3):
            (server,) = await box.tick()
            assert (server.state, server.reason) == (ServerState.FAILED, inside.unreachable)
        assert not fake.asked
        box.processes = [ServerProcess(pid=2, url=fake.url)]
        await box.tick()
        assert (await box.tick())[0].state is ServerState.IDLE
        await box.sampler.close()


async def test_two_servers_that_share_a_port_are_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(monkeypatch)
    box.processes = [at(1, pid=22, started_time=5.0), at(1, pid=21, started_time=9.0)]
    (server,) = await box.tick()
    assert server.pid == 22 and [event.kind for event in server.events] == ["port-shared"]
    assert "21, 22" in server.events[0].text
    assert (await box.tick())[0].events == ()
    box.processes = [at(1, pid=22)]
    assert "share" not in ((await box.tick())[0].reason or "")
    await box.sampler.close()


async def test_the_log_asked_for_is_the_first_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("asked", "own"):
        (tmp_path / name).write_text(f"{name}\n")
    box = Box(monkeypatch, log=str(tmp_path / "asked"))
    own = LogPlace(kind="file", name=str(tmp_path / "own"))
    box.processes = [at(1, log=own), at(2, log=own)]
    first, second = await box.tick()
    assert [line.text for line in first.log] == ["asked"] and [line.text for line in second.log] == ["own"]
    assert first.log_path == str(tmp_path / "asked")
    await box.sampler.close()


async def test_another_engine_has_its_own_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(monkeypatch)
    box.processes = [at(11434, engine="ollama", name="ollama"), at(1)]
    other, ours = await box.tick()
    assert (other.engine, ours.engine) == ("ollama", "llama.cpp")
    assert other.state is ours.state is ServerState.DOWN
    await box.sampler.close()


async def test_what_llama_swap_unloads_sleeps_and_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer() as fake, FakeServer() as later:
        box = Box(monkeypatch)
        box.alive = {fake.url, later.url}
        swap = at(1, engine="llama-swap")
        model = ServerProcess(
            pid=5, url=child_url(swap.url, "m"), address=fake.url, behind=swap.url, alias="m"
        )
        box.processes = [swap, model]
        assert (await box.tick())[1].state is ServerState.IDLE
        box.processes = [swap]
        _, seen = await box.tick()
        assert (seen.state, seen.pid, seen.model) == (ServerState.SLEEPING, None, "m")
        await box.tick(KEPT + 10)
        assert len(await box.tick()) == 2
        box.processes = [swap, replace(model, pid=6, address=later.url)]
        await box.tick()
        seen = (await box.tick())[1]
        assert (seen.state, seen.pid, seen.address) == (ServerState.IDLE, 6, later.url)
        await box.sampler.close()


async def test_what_never_answered_is_in_no_prompt_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer() as fake:
        fake.holds["/health"] = 1.0
        box = Box(monkeypatch, urls=(fake.url,))
        box.alive.add(fake.url)
        await box.tick()
        [server] = await box.tick(7.0)
        assert (server.state, server.reason) == (ServerState.WAITING, "no answer for 7 s")
        await box.sampler.close()
