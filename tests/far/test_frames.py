"""Frames of a box far away through a real sshd: those that the box itself would show."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

import box_trees
from halotui.capture.capture import Capture
from halotui.collectors import log_far, log_ration, log_sources, memory, memory_far, model_weights
from halotui.collectors.http_wire import StreamWire, Unreached, door_of
from halotui.collectors.llama_http import HttpKind, HttpProblem, LlamaHttp
from halotui.collectors.log_far import FarFollower
from halotui.hosts import Host, LinkDown
from halotui.hosts.local import LocalHost
from halotui.hosts.ssh import Far, SshHost
from halotui.model import (
    MEMORY_SOURCE,
    Frame,
    KernelEvent,
    Link,
    LinkState,
    LogPlace,
    ServerState,
    SourceState,
    Unavailable,
)
from halotui.runs import Summary
from halotui.sampler import gpu, holders, log, system
from halotui.sampler.clock import Clock
from halotui.sampler.core import Options, Sampler
from sshd import Sshd, sshd

PASSING = frozenset(("host", "time", "since_time", "age_seconds", "duration_seconds", "started_time", "user"))
PATIENCE = 20.0
HOUR = 3600.0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("far")) as running:
        yield running


class FarHost(LocalHost):
    """This box as if it were far away: its clock is ahead, and its link can be cut."""

    def __init__(self, sysfs: Path = Path("/sys"), procfs: Path = Path("/proc"), ahead: float = 0.0) -> None:
        super().__init__(sysfs, procfs)
        self.here = False
        self.ahead = ahead
        self.since = 1.0
        self.cut = False

    @property
    def link(self) -> Link:
        state = LinkState.LOST if self.cut else LinkState.UP
        return Link(state=state, since_time=self.since, round_trip_seconds=0.01)

    def read(self, path: str | Path) -> bytes:
        if self.cut:
            raise LinkDown("cut")
        return super().read(path)

    async def stream(self, argv: Sequence[str]) -> AsyncGenerator[bytes, None]:
        async for line in super().stream(argv):
            if self.cut:
                raise LinkDown("cut")
            yield line


@pytest.mark.parametrize("kind", ["128-512m", "dgpu-and-apu"])
async def test_the_frames_of_a_far_box_are_its_own(
    kind: str, tmp_path: Path, daemon: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (gpu, holders, system):
        monkeypatch.setattr(module, "DEADLINE", 30.0)
    box_trees.build(tmp_path, kind)
    far = SshHost(
        Far(
            target="box",
            ssh_config=daemon.config,
            sysfs=tmp_path / "sysfs",
            procfs=tmp_path / "procfs",
        )
    )
    far.fresh_seconds = 0.02  # the box is built anew between two ticks
    await far.open()
    try:
        there, trips = await three_ticks(far, tmp_path, kind)
    finally:
        await far.close()
    here, _ = await three_ticks(box_trees.host(tmp_path), tmp_path, kind)
    far_told, told = lasting(there, tmp_path), lasting(here, tmp_path)
    assert {key: far_told[key] for key in told if far_told[key] != told[key]} == {}
    assert far_told == told
    assert trips <= 12  # of the last tick, on a machine that may be slow: then what is fresh is read again


def test_a_capture_at_the_rate_of_the_link(tmp_path: Path, daemon: Sshd) -> None:
    box_trees.build(tmp_path, "128-512m")
    pid = 4242

    async def captured() -> Summary:
        far = SshHost(
            Far(
                target="box",
                ssh_config=daemon.config,
                sysfs=tmp_path / "sysfs",
                procfs=tmp_path / "procfs",
            )
        )
        await far.open()
        try:
            capture = Capture(far, hertz=20.0, pids=lambda: (pid,))
            await asyncio.to_thread(capture.start)
            await asyncio.sleep(1.2)
            return await asyncio.to_thread(capture.stop)
        finally:
            await far.close()

    summary = asyncio.run(captured())
    assert summary.hertz <= 10.0 and any("over the link" in note for note in summary.notes)
    here = Capture(box_trees.host(tmp_path), hertz=20.0, pids=lambda: (pid,))
    here.start()
    time.sleep(0.2)
    local = here.stop()
    assert peaks(summary) == peaks(local) != {}


def peaks(summary: Summary) -> Any:
    wanted = ("gpu.", "memory.", "process.")
    tracks = [track for track in summary.tracks if track.field.startswith(wanted)]
    return {(track.field, track.subject): track.peak for track in tracks if track.peak is not None}


async def three_ticks(host: Host, root: Path, kind: str) -> tuple[Frame, int]:
    now, told, trips = 1_000.0, list[KernelEvent](), 0
    clock = Clock(monotonic=lambda: now, wall=lambda: 1_760_100_000 + now)
    watch = Sampler(host, Options(gpu_source="sysfs"), clock)
    try:
        for tick in range(3):
            box_trees.build(root, kind, float(tick))
            await asyncio.sleep(0.05)
            before = getattr(host, "trips", 0)
            frame = await watch.tick(box_trees.GRACE)
            trips = getattr(host, "trips", 0) - before
            told += frame.kernel
            now += 1.0
        until = time.monotonic() + 3.0
        while not told and time.monotonic() < until:  # what a far kernel says comes by itself
            await asyncio.sleep(0.05)
            await watch._telemetry._kernel.read()
            told += watch._telemetry._kernel.events()
    finally:
        await watch.close()
    return replace(frame, kernel=tuple(told)), trips


def lasting(frame: Frame, root: Path) -> Any:
    def without(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: without(value) for key, value in node.items() if key not in PASSING}
        return [without(one) for one in node] if isinstance(node, list) else node

    found = without(json.loads(msgspec.json.encode(frame).decode().replace(str(root), "ROOT")))
    found["sources"] = [one for one in found["sources"] if one["id"] not in ("kernel", "amdsmi")]
    for one in found["sources"]:
        if one["id"] == "memory":
            del one["name"]  # psutil here, procfs there
    found["kernel"] = [{key: one[key] for key in one if key != "time"} for one in found.get("kernel", ())]
    return found


async def test_a_server_behind_the_door_and_a_link_that_comes_back(daemon: Sshd, server: Any) -> None:
    far = SshHost(Far(target="box", ssh_config=daemon.config))
    await far.open()
    watch = Sampler(far, Options(urls=(server.url,), gpu_source="sysfs"))
    try:
        one = await until(watch, lambda one: one.facts is not None and one.model_path is not None)
        assert one.state in (ServerState.IDLE, ServerState.BUSY) and one.pid == server.pid
        assert one.log_path == str(server.log_path)
        requests = await of_one_request(watch, server)
        assert [done.generation_tokens for done in requests] == [20]
        assert abs((requests[0].ended_time or 0.0) - time.time()) < 5.0
        assert model_weights.read(LocalHost(), Path(one.model_path or "")) == await asyncio.to_thread(
            model_weights.read, far, Path(one.model_path or "")
        )
        daemon.cut()
        await asyncio.sleep(0.3)
        await watch.tick()  # whatever it says: nobody is shown it
        async with asyncio.timeout(PATIENCE):
            await far.up()
        frame = await watch.tick()
        [again] = frame.servers
        assert again.pid == one.pid and again.generation_tokens_per_second is None  # no rate over a gap
        requests = await of_one_request(watch, server)
        assert [done.generation_tokens for done in requests] == [20]  # and no line of the log twice
        frame = await watch.tick()
        assert not [event for event in frame.servers[0].events if event.severity != "info"]
    finally:
        await watch.close()
        await far.close()


async def until(watch: Sampler, wanted: Any) -> Any:
    deadline = time.monotonic() + PATIENCE
    while True:
        frame = await watch.tick(0.5)
        if frame.servers and wanted(frame.servers[0]):
            return frame.servers[0]
        assert time.monotonic() < deadline, frame.servers
        await asyncio.sleep(0.1)


async def of_one_request(watch: Sampler, server: Any) -> list[Any]:
    await asyncio.to_thread(server.complete, "The old oak", 20)
    found: list[Any] = []
    deadline = time.monotonic() + PATIENCE
    while not found:
        await asyncio.sleep(0.2)
        found += (await watch.tick()).servers[0].requests
        assert time.monotonic() < deadline
    await asyncio.sleep(0.3)
    return [*found, *(await watch.tick()).servers[0].requests]


async def test_a_door_says_what_stands_behind_it(tmp_path: Path) -> None:
    """A link that is down is no server that is down."""
    path = tmp_path / "door"

    async def door(host: str, port: int) -> str | None:
        assert (host, port) == ("127.0.0.1", 8080)
        if not path.exists():
            raise LinkDown("the link is down")
        return str(path)

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()  # as ssh does where nobody listens over there

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"ok"}')

    http = LlamaHttp("http://127.0.0.1:8080", door=door)
    with pytest.raises(LinkDown):
        await http.health()
    for how in (hang_up, answer):
        path.unlink(missing_ok=True)
        async with await asyncio.start_unix_server(how, path):
            if how is answer:
                await http.health()
                continue
            with pytest.raises(HttpProblem) as caught:
                await http.health()
            assert caught.value.kind is HttpKind.REFUSED and caught.value.reason == "Connection refused"
    await http.aclose()
    refused = StreamWire(("127.0.0.1", 8080), door=lambda *_: failing())
    with pytest.raises(Unreached, match="not permitted"):
        await refused.get("/health")
    assert door_of(LocalHost()) is None


async def failing() -> str:
    raise OSError("forwarding is not permitted there")


async def test_stamps_of_a_clock_ahead_are_put_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = time.time() - 5.0
    script = tmp_path / "journalctl"
    lines = (
        "slot launch_slot_: id  0 | task 1 | processing task",
        "slot print_timing: id  0 | task 1 | prompt eval time = 100.00 ms / 10 tokens (10.00 ms per token)",
        "slot      release: id  0 | task 1 | stop processing: n_tokens = 30, truncated = 0",
    )
    said = "".join(
        f"echo '{begun + HOUR + n:.6f} box llama-server[7]: {line}'\n" for n, line in enumerate(lines)
    )
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n{said}sleep 60\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    tap = log.LogTap(
        LogPlace(kind="journal", name="llama.service", since_time=begun), Clock(), FarHost(ahead=HOUR)
    )
    try:
        deadline = time.monotonic() + PATIENCE
        seen: list[Any] = []
        while len(seen) < len(lines) and time.monotonic() < deadline:
            await tap.read()
            seen += tap.lines()
            await asyncio.sleep(0.05)
        assert [round(line.time - begun, 3) for line in seen] == [0.0, 1.0, 2.0]
    finally:
        await tap.close()
    since = (tmp_path / "asked").read_text().split("--since=@")[1].split()[0]
    assert abs(float(since) - (begun + HOUR)) < 3.0  # its clock is asked for


async def test_a_cut_link_is_no_missing_file(tmp_path: Path) -> None:
    box_trees.build(tmp_path, "64")
    host = FarHost(tmp_path / "sysfs", tmp_path / "procfs")
    watch = Sampler(host, Options(gpu_source="sysfs"))
    try:
        before = await watch.tick(5.0)
        assert before.memory is not None and before.platform is not None
        host.cut = True
        frame = await watch.tick()
        told = {one.id: one for one in frame.sources}
        assert told[MEMORY_SOURCE].state is SourceState.NO_DATA
        assert told[MEMORY_SOURCE].reason == "the link is down"
        host.cut, host.since = False, 2.0
        after = await watch.tick(5.0)
        assert after.platform == before.platform and after.memory == before.memory
        assert after.system is not None and after.system.cpu_busy_percent is None  # not over the gap
    finally:
        await watch.close()


async def test_a_far_log_is_followed_through_rotation_flood_and_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_ration, "BURST", 100 << 10)
    monkeypatch.setattr(log_ration, "FULL_AGAIN", 10 << 10)
    monkeypatch.setattr(log_far, "TAIL", 32 << 10)
    monkeypatch.setattr(log_far, "AGAIN", 4 << 10)
    monkeypatch.setattr(log_far, "LOOK", 0.3)
    host, path = FarHost(), tmp_path / "server.log"
    path.write_text("".join(f"old {n:09}\n" for n in range(40_000)))
    follower = FarFollower(host, str(path))
    try:
        past = await wait_for(follower, b"old 000039999\n")
        assert follower.past and past.startswith(b"old 000000000\n") and b"log skipped: " in past
        with path.open("a") as file:
            file.write("new 1\n")
        assert await wait_for(follower, b"new 1\n") == b"new 1\n" and not follower.past
        host.cut = True
        with path.open("a") as file:
            file.write("new 2\nnew 3\n")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                assert not await follower.read()
            except Unavailable as trouble:
                assert trouble.reason == "the link is down"
                break
            await asyncio.sleep(0.02)
        host.cut = False
        assert await wait_for(follower, b"new 3\n") == b"new 2\nnew 3\n"  # at the byte where it was
        path.rename(tmp_path / "old.log")
        path.write_text("other 1\n")
        assert await wait_for(follower, b"other 1\n") == b"other 1\n"
        with path.open("a") as file:
            file.writelines(f"flood {n:09}\n" for n in range(60_000))
        flood = await wait_for(follower, b"flood 000059999\n")
        assert b"halotui: log skipped: " in flood and len(flood) < 800_000
    finally:
        await follower.close()


async def wait_for(follower: FarFollower, end: bytes) -> bytes:
    read, deadline = b"", time.monotonic() + PATIENCE
    while not read.endswith(end):
        with suppress(Unavailable):
            read += await follower.read()
        assert time.monotonic() < deadline, read[-200:]
        await asyncio.sleep(0.02)
    return read


async def test_the_log_of_the_user_himself_is_his_own(tmp_path: Path) -> None:
    place = LogPlace(kind="stdin", name="-")
    assert not isinstance(log_sources.follow(place, FarHost(), time.time()), FarFollower)


@pytest.mark.parametrize("available", [None, 0, 60_000_000, 999_999_999])
@pytest.mark.parametrize(
    "zones", ["", "Node 0\n  pages free 3\n        low      2000\n        low      70\n"]
)
def test_memory_is_counted_as_psutil_does(tmp_path: Path, available: int | None, zones: str) -> None:
    told = f"MemAvailable: {available} kB\n" if available is not None else ""
    (tmp_path / "meminfo").write_text(
        f"MemTotal: 131161644 kB\nMemFree: 8123456 kB\n{told}Buffers: 1000 kB\nCached: 50000 kB\n"
        "SReclaimable: 7001 kB\nActive(file): 30000 kB\nInactive(file): 9000 kB\n"
        "SwapTotal: 9 kB\nSwapFree: 4 kB\n"
    )
    if zones:
        (tmp_path / "zoneinfo").write_text(zones)
    assert memory.read(FarHost(procfs=tmp_path)) == memory.read(LocalHost(procfs=tmp_path))
    assert memory_far.counted(LocalHost(procfs=tmp_path)).total == 131161644 * 1024
