"""What nobody foresaw costs its own source; what is gone is not told as if it lived."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from halotui.collectors import amdgpu_sysfs, discovery, memory
from halotui.collectors.llama_http import HttpKind, HttpProblem, LlamaHttp
from halotui.hosts.local import LocalHost
from halotui.model import Frame, LogPlace, ServerProcess, ServerState, SourceState
from halotui.sampler.core import Options, Sampler

URL = "http://127.0.0.1:9"


class Dead(LlamaHttp):
    """Refuses, or stumbles."""

    error: Exception = HttpProblem(HttpKind.REFUSED, "Connection refused")

    async def health(self) -> None:
        raise self.error


def sampler(**options: Any) -> Sampler:
    return Sampler(LocalHost(), Options(urls=(URL,), **options), client=Dead)


async def look(watch: Sampler) -> Frame:
    try:
        return await watch.tick()
    finally:
        await watch.close()


@pytest.mark.parametrize(
    ("module", "name", "source"),
    [(memory, "read", "memory"), (discovery, "find", "processes"), (amdgpu_sysfs, "cards", "gpu")],
)
async def test_a_collector_that_stumbles_costs_itself(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, source: str
) -> None:
    def stumble(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(module, name, stumble)
    frame = await look(sampler(gpu_source="sysfs"))
    states = {one.id: one for one in frame.sources}
    assert states[source].state is SourceState.FAILED
    assert "ZeroDivisionError" in (states[source].reason or "")
    assert frame.servers[0].state is ServerState.DOWN


async def test_a_client_that_stumbles_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dead, "error", ZeroDivisionError())
    server = (await look(sampler())).servers[0]
    assert server.state is ServerState.FAILED and "ZeroDivisionError" in (server.reason or "")


async def test_a_process_that_has_gone_has_no_pid_and_no_age(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = sampler()
    process = ServerProcess(pid=4711, url=URL, started_time=1.0)
    for found, pid in (([process], 4711), ([], None)):
        monkeypatch.setattr(discovery, "find", lambda *_, found=found: found)
        watch._discover_at = 0.0
        server = (await watch.tick()).servers[0]
        assert server.state is ServerState.DOWN
        assert server.pid == pid and (server.uptime_seconds is None) == (pid is None)
    await watch.close()


async def test_another_log_is_followed_after_a_relaunch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    watch = sampler()
    for name in ("first", "second"):
        path = tmp_path / name
        path.write_text(f"I am the {name}\n")
        process = ServerProcess(pid=1, url=URL, log=LogPlace(kind="file", name=str(path)))
        monkeypatch.setattr(discovery, "find", lambda *_, one=process: [one])
        watch._discover_at = 0.0
        frame = await watch.tick()
        assert [line.text for line in frame.servers[0].log] == [f"I am the {name}"]
    await watch.close()


class Stumbling:
    """A tracker that nobody foresaw to fail, and does at everything."""

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError


async def test_one_tracker_never_costs_another(monkeypatch: pytest.MonkeyPatch) -> None:
    other = "http://127.0.0.1:10"
    watch = Sampler(LocalHost(), Options(urls=(URL, other)), client=Dead)
    await watch.tick()
    tab = watch._tabs._tabs[URL]
    whole, tab.tracker = tab.tracker, Stumbling()  # type: ignore[assignment]
    frame = await watch.tick()
    tab.tracker = whole
    broken, sound = frame.servers
    assert broken.state is ServerState.FAILED and "ZeroDivisionError" in (broken.reason or "")
    assert (sound.state, sound.reason) == (ServerState.DOWN, "Connection refused")
    assert {source.id for source in frame.sources} >= {f"server {URL}", f"server {other}"}
    assert (await watch.tick()).servers[0].state is ServerState.DOWN
    await watch.close()


async def test_a_tick_is_bounded_whatever_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that cannot be listed, and a tracker that never returns."""
    watch = sampler()
    await watch.tick()

    async def hang(_: float) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(watch._tabs._tabs[URL].tracker, "gather", hang)
    release = threading.Event()
    monkeypatch.setattr(discovery, "find", lambda *_: release.wait(10) and [])
    watch._discover_at = 0.0
    began = time.monotonic()
    frame = await watch.tick()
    assert time.monotonic() - began < 2.5 and frame.servers[0].state is ServerState.DOWN
    release.set()
    await watch.close()
