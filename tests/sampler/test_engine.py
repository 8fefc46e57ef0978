"""Other engines over time: what a server on a socket says, and what real processes do."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from halotui.collectors import process_use
from halotui.collectors.llama_http import LlamaHttp
from halotui.hosts.local import LocalHost
from halotui.model import ModelState, Server, ServerProcess, ServerState, SourceState, Unavailable
from halotui.sampler import engine as engines
from halotui.sampler.clock import Clock
from halotui.sampler.engine import EngineTracker, tracker
from raw_server import answer, raw

RPC_SERVER = os.environ.get("HALOTUI_RPC_SERVER", "")
LLAMA_SERVER = os.environ.get("HALOTUI_LLAMA_SERVER", "")
KEY = "sk-halotui-4242-secret"


class Box:
    """A server on a socket, the hands of a clock, and the tracker between them."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[str] = []
        self.heads: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.now = 1000.0
        self.url = ""
        self.tracker: EngineTracker

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            path = head.split()[1].decode()
            self.asked.append(path)
            self.heads.append(head)
            await self.gate.wait()
            status, body = self.answers.get(path, (404, {}))
            writer.write(answer(status, body if isinstance(body, str) else json.dumps(body)))

    async def look(self, seconds: float = 5.0, grace: float = 2.0) -> Server:
        self.now += seconds
        await self.tracker.gather(grace)
        return self.tracker.fold()


@asynccontextmanager
async def box(engine: str, key: str | None = None, **more: Any) -> AsyncIterator[Box]:
    it = Box()
    async with raw(it.handle) as url:
        it.url = url
        process = ServerProcess(**{"pid": 0, "url": url, "engine": engine, "api_key": key, **more})
        it.tracker = tracker(
            process, LocalHost(), Clock(lambda: it.now, lambda: 1e9 + it.now), LlamaHttp(url, key)
        )
        try:
            yield it
        finally:
            await it.tracker.close()


def ps(*names: str) -> tuple[int, Any]:
    return 200, {"models": [{"name": name, "size": 5 << 30, "size_vram": 4 << 30} for name in names]}


async def test_nothing_loaded_is_idle_and_says_so() -> None:
    async with box("ollama") as it:
        it.answers = {"/api/version": (200, {"version": "0.40.12"}), "/api/ps": ps()}
        server = await it.look()
        assert (server.state, server.reason, server.build) == (ServerState.IDLE, "no model loaded", "0.40.12")
        it.answers["/api/ps"] = ps("gemma3:4b")
        server = await it.look()
        assert (server.model, server.state) == ("gemma3:4b", ServerState.IDLE)
        assert "does not tell" in (server.reason or "")
        it.answers["/api/ps"] = ps("gemma3:4b", "qwen3:8b")
        assert (await it.look()).model == "gemma3:4b +1"
        assert set(it.asked) == {"/api/version", "/api/ps"}


async def test_it_is_asked_every_five_seconds_and_the_version_once() -> None:
    async with box("ollama") as it:
        it.answers = {"/api/version": (200, {"version": "1"}), "/api/ps": ps()}
        for _ in range(20):
            await it.look(1.0)
        assert it.asked.count("/api/ps") == 4 and it.asked.count("/api/version") == 1
        assert it.asked == sorted(it.asked, key=["/api/version", "/api/ps"].index)


async def test_refused_locked_nonsense_and_back() -> None:
    async with box("llama-swap") as it:
        running = {"running": [{"model": "a b", "state": "ready", "proxy": "http://127.0.0.1:5801"}]}
        it.answers = {"/running": (401, {"error": "unauthorized"})}
        server = await it.look()
        assert (server.state, server.reason) == (ServerState.LOCKED, "it wants an API key")
        asked = len(it.asked)
        await it.look(10)
        assert len(it.asked) == asked  # a refused key is not tried every five seconds
        it.answers = {"/running": (200, "<html>")}
        assert (await it.look(30)).state is ServerState.FAILED
        it.answers = {"/running": (200, running), "/v1/models": (200, {"data": [{"id": "tiny"}]})}
        server = await it.look()
        assert server.state is ServerState.IDLE
        assert [(m.id, m.state, m.url) for m in server.models] == [
            ("a b", ModelState.LOADED, f"{it.url}?model=a%20b"),
            ("tiny", ModelState.UNLOADED, None),
        ]
    server = await it.look()
    assert server.state is ServerState.DOWN and server.models == ()


async def test_a_key_is_sent_and_never_shown() -> None:
    async with box("lmstudio", key=KEY) as it:
        it.answers = {"/api/v0/models": (200, {"data": [{"id": "x", "state": "loaded"}]})}
        server = await it.look()
        assert any(KEY.encode() in head for head in it.heads)
        told = (server, it.tracker, it.tracker.process, list(it.tracker.sources()))
        assert KEY not in repr(told) and KEY[-4:] not in repr(told)


async def test_a_late_answer_is_waited_for_and_not_asked_for_twice() -> None:
    async with box("ollama") as it:
        it.answers = {"/api/version": (200, {}), "/api/ps": ps("a")}
        it.gate.clear()
        assert (await it.look(5, 0.05)).state is ServerState.WAITING
        for _ in range(3):
            server = await it.look(20, 0.05)
        assert (server.state, server.reason, server.waiting_seconds) == (
            ServerState.WAITING,
            "no answer for 1 min",
            60,
        )
        assert len(it.asked) == 1
        it.gate.set()
        assert (await it.look(0)).model == "a"


async def test_vllm_rates_acceptance_and_ttft() -> None:
    def metrics(generated: int, drafted: int, accepted: int, slow: int, running: int = 1) -> tuple[int, str]:
        lines = (
            ("num_requests_running", running),
            ("generation_tokens_total", generated),
            ("prompt_tokens_total", generated * 2),
            ("kv_cache_usage_perc", 0.5),
            ('cache_config_info{block_size="16",num_gpu_blocks="100"}', 1),
            ("spec_decode_num_drafts_total", drafted / 3),
            ("spec_decode_num_draft_tokens_total", drafted),
            ("spec_decode_num_accepted_tokens_total", accepted),
            ('time_to_first_token_seconds_bucket{le="0.1"}', 10),
            ('time_to_first_token_seconds_bucket{le="1.0"}', 10 + slow),
            ('time_to_first_token_seconds_bucket{le="+Inf"}', 10 + slow),
        )
        return 200, "".join(f"vllm:{name} {value}\n" for name, value in lines)

    async with box("vllm", pid=1) as it:
        it.answers["/metrics"] = metrics(1000, 300, 30, 0)
        server = await it.look()
        assert (server.state, server.generation_tokens_per_second) == (ServerState.BUSY, None)
        assert server.draft_acceptance_ratio == pytest.approx(0.1)  # since its start: nothing newer is known
        assert server.ttft_seconds == pytest.approx(0.05)
        it.answers["/metrics"] = metrics(1250, 600, 180, 4)
        server = await it.look()
        assert server.generation_tokens_per_second == pytest.approx(50)
        assert server.prompt_tokens_per_second == pytest.approx(100)
        assert server.draft_acceptance_ratio == pytest.approx(0.5)
        assert server.draft_mean_tokens == pytest.approx(2.5)
        assert server.draft_coverage_ratio == pytest.approx(300 / 250)
        assert server.ttft_seconds == pytest.approx(0.1 + 0.9 / 2)  # of the four new ones
        assert (server.kv_capacity_tokens, server.kv_used_tokens, server.slots_busy) == (1600, 800, 1)
        it.answers["/metrics"] = metrics(1250, 600, 180, 4, running=0)
        assert (await it.look()).generation_tokens_per_second is None
        it.answers["/metrics"] = metrics(10, 0, 0, 0)  # started again
        assert (await it.look()).generation_tokens_per_second is None


async def test_vllm_that_loads_does_not_listen_yet() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    process = ServerProcess(pid=1, url=url, engine="vllm")
    one = tracker(process, LocalHost(), Clock(), LlamaHttp(url))
    await one.gather(2)
    assert one.fold().state is ServerState.LOADING
    one.lose_process()
    await one.gather(2)
    assert one.fold().state is ServerState.DOWN
    await one.close()


async def test_what_cannot_be_reached_says_why() -> None:
    async with box("ollama", unreachable="a container without a published port") as it:
        server = await it.look()
        assert (server.state, server.reason) == (ServerState.WAITING, "a container without a published port")
        assert it.asked == []


async def test_it_starts_again_with_another_pid() -> None:
    async with box("ollama", pid=1) as it:
        it.answers = {"/api/version": (200, {"version": "1"}), "/api/ps": ps()}
        await it.look()
        it.answers["/api/version"] = (200, {"version": "2"})
        it.tracker.process = ServerProcess(pid=2, url=it.url, engine="ollama")
        assert (await it.look(1)).build == "2"


# Real processes

# It starts what its words say, which dies with it: a process of the test's own, without other children.
HEAD = """
import ctypes, subprocess, sys
subprocess.run(sys.argv[1:], preexec_fn=lambda: ctypes.CDLL(None).prctl(1, 9))
"""
SPINS = "import time\nwhile True: pass"
RESTS = "import time\ntime.sleep(60)"


@pytest.fixture
def child() -> Iterator[Any]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*argv: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()


def test_what_a_process_takes(child: Any) -> None:
    spins = child(sys.executable, "-c", SPINS)
    host = LocalHost()
    before = process_use.read(host, spins.pid)
    time.sleep(0.5)
    after = process_use.read(host, spins.pid)
    assert after.cpu_seconds > before.cpu_seconds and after.started == before.started
    assert (after.resident_bytes or 0) > 1 << 20 and after.gtt_bytes is None
    spins.kill()
    with pytest.raises(Unavailable) as caught:  # dead, and not yet buried
        for _ in range(100):
            process_use.read(host, spins.pid)
            time.sleep(0.02)
    assert caught.value.state is SourceState.ABSENT


def test_what_it_holds_on_the_gpu_is_counted_once_a_client(tmp_path: Path) -> None:
    at = tmp_path / "proc" / "7"
    (at / "fdinfo").mkdir(parents=True)
    (at / "stat").write_text("7 (rpc server) S 1" + " 0" * 9 + " 150 50" + " 0" * 6 + " 4711 0\n")
    (at / "statm").write_text("100 10 5 1 0 1 0\n")
    for fd, client in ((3, 9), (4, 9), (5, 12)):
        (at / "fdinfo" / str(fd)).write_text(
            f"pos:\t0\ndrm-driver:\tamdgpu\ndrm-pdev:\t0000:c5:00.0\ndrm-client-id:\t{client}\n"
            f"drm-resident-gtt:\t{client} MiB\ndrm-resident-vram:\t0\n"
            "drm-engine-gfx:\t1500000000 ns\ndrm-engine-compute:\t500000000 ns\ndrm-engine-capacity-gfx:\t2\n"
        )
    (at / "fdinfo" / "0").write_text("pos:\t0\nflags:\t02\n")
    use = process_use.read(LocalHost(procfs=tmp_path / "proc"), 7)
    assert (use.gtt_bytes, use.vram_bytes, use.gpu_seconds) == (21 << 20, 0, 4.0)
    assert (use.started, use.resident_bytes) == (4711, 10 * os.sysconf("SC_PAGE_SIZE"))
    assert use.cpu_seconds == 200 / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("work", "state"), [(SPINS, ServerState.BUSY), (RESTS, ServerState.IDLE)], ids=["spins", "rests"]
)
async def test_a_runner_that_computes_is_busy(
    child: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str, state: ServerState
) -> None:
    """Ollama does not tell, its runners' processor time does."""
    monkeypatch.setattr(engines, "EVERY", 0.3)
    runner = tmp_path / "ollama"
    runner.symlink_to(sys.executable)
    head = child(sys.executable, "-c", HEAD, str(runner), "-c", work, "runner")
    async with box("ollama", pid=head.pid) as it:
        it.answers = {"/api/version": (200, {}), "/api/ps": ps("gemma3")}
        pid = await asyncio.to_thread(_runner_of, head.pid)
        it.tracker._clock = Clock()
        for _ in range(60):
            server = await it.look()
            if server.state is state and server.reason is None:
                break  # two looks at it, so it is known what it did
            await asyncio.sleep(0.3)
        assert (server.state, server.models[0].pid) == (state, pid)


def _runner_of(head: int) -> int:
    """Its child, once its name is that of the link it was started by."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for pid in Path(f"/proc/{head}/task/{head}/children").read_text().split():
            if Path(f"/proc/{pid}/comm").read_text() == "ollama\n":
                return int(pid)
        time.sleep(0.01)
    raise AssertionError("no runner")


def free_port() -> int:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def until(port: int) -> None:
    for _ in range(200):
        with closing(socket.socket()) as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("it does not listen")


@pytest.mark.skipif(
    not RPC_SERVER, reason="HALOTUI_RPC_SERVER names no rpc-server: tools/llama_server.sh builds one"
)
async def test_a_real_rpc_server(child: Any, models: Path) -> None:
    port = free_port()
    server = child(RPC_SERVER, "-H", "127.0.0.1", "-p", str(port), "-t", "1", "-d", "CPU")
    until(port)
    process = ServerProcess(pid=server.pid, url=f"rpc://127.0.0.1:{port}", engine="rpc-server")
    now = [0.0]
    one = tracker(process, LocalHost(), Clock(lambda: now[0]), LlamaHttp("http://127.0.0.1:1"))

    async def look() -> Server:
        now[0] += 5
        await one.gather(3)
        return one.fold()

    found = await look()
    assert (found.state, found.reason) == (ServerState.IDLE, "no client connected")
    assert found.facts is not None and found.facts.threads == 1 and found.facts.rpc_peers == ()
    assert [device.id for device in found.facts.devices] == ["CPU"]
    (memory,) = found.facts.buffers
    assert memory.device == "RAM" and memory.bytes > 1 << 20
    if LLAMA_SERVER:
        web = free_port()
        child(
            *(LLAMA_SERVER, "--host", "127.0.0.1", "--port", str(web), "-t", "1", "-ngl", "99"),
            *("-m", str(models / "tiny.gguf"), "--rpc", f"127.0.0.1:{port}"),
        )
        until(web)
        for _ in range(50):
            found = await look()
            if found.facts is not None and found.facts.rpc_peers:
                break
            await asyncio.sleep(0.1)
        assert found.facts is not None and found.facts.rpc_peers == ("127.0.0.1",)
        assert found.reason == "connected: 127.0.0.1"
    server.terminate()
    await asyncio.to_thread(server.wait, 5)
    found = await look()
    assert (found.state, found.reason) == (ServerState.DOWN, "its process has ended")
    assert [source.state for source in one.sources()] == [SourceState.NO_DATA]
    await one.close()


def test_every_engine_that_discovery_knows_has_an_adapter() -> None:
    from halotui.collectors.engine_process import ENGINES

    named = {engine.name for engine in ENGINES.values()} - {"llama.cpp", "rpc-server"}
    assert named <= set(engines.ENGINES)
