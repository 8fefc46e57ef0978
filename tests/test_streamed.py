"""Frames of a far halotui, by a real ``halotui stream``: over a real sshd, and over a link of the test's."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from builders import frame
from fake_server import FakeServer
from halotui.exits import UnreachableError
from halotui.far_stream import StreamFeed
from halotui.hosts.local import LocalHost
from halotui.hosts.ssh import Far, SshHost
from halotui.model import Finding, Frame, Link, LinkState, Server, ServerEvent, ServerState, Severity
from halotui.safe import clean
from running import environment
from sshd import sshd

LINE = msgspec.json.Encoder()


class Near(LocalHost):
    """This box, as if it were far: a link that the test makes and breaks, and what is said over it."""

    def __init__(self, place: Path, script: str = "") -> None:
        super().__init__()
        self.there = asyncio.Event()
        self.there.set()
        self.closed = False
        self.asked: list[list[str]] = []
        self._program = place / "halotui"
        if script:
            self._program.write_text(f"#!{sys.executable}\n{script}")
            self._program.chmod(0o755)

    @property
    def link(self) -> Link:
        return Link(state=LinkState.UP if self.there.is_set() else LinkState.LOST, since_time=0)

    async def up(self) -> int:
        await self.there.wait()
        return 1

    def again(self) -> None:
        pass

    async def close(self) -> None:
        self.closed = True

    def which(self, name: str) -> str | None:
        return str(self._program) if name == "halotui" and self._program.exists() else None

    def access(self, path: str | Path, mode: int) -> bool:
        return False

    def stream(self, argv: Any) -> Any:
        self.asked.append(list(argv))
        return super().stream(argv)


def script(*frames: Frame | bytes, then: str = "time.sleep(60)") -> str:
    lines = [one if isinstance(one, bytes) else LINE.encode(one) for one in frames]
    return f"import sys, time\nfor one in {lines!r}: print(one.decode(), flush=True)\n{then}\n"


async def take(feed: StreamFeed, count: int, seconds: float = 20.0) -> list[Frame]:
    found: list[Frame] = []
    async with asyncio.timeout(seconds), aclosing(feed.frames()) as frames:  # type: ignore[type-var]
        async for one in frames:
            found.append(one)
            if len(found) == count:
                break
    return found


@pytest.fixture
async def feeds() -> AsyncIterator[list[StreamFeed]]:
    made: list[StreamFeed] = []
    yield made
    for feed in made:
        await feed.close()


async def until(wanted: Callable[[], Any], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < deadline, "never came"
        await asyncio.sleep(0.05)


def finding() -> Finding:
    return Finding(
        id="np-slots", severity=Severity.WARNING, title="t", evidence="e", why="w", fix="f", since_time=1040.0
    )


async def test_frames_as_the_far_one_judged_them_in_our_time(tmp_path: Path, feeds: list[StreamFeed]) -> None:
    event = ServerEvent(kind="abort", severity=Severity.CRITICAL, text="t", time=1041.0)
    server = Server(url="http://x", state=ServerState.IDLE, events=(event,), uptime_seconds=5.0)
    host = Near(tmp_path, script(frame(1042.0, servers=[server], findings=[finding()])))
    host.ahead = 42.0
    feeds.append(feed := StreamFeed(host, 0.5, ["http://127.0.0.1:1"]))  # type: ignore[arg-type]
    (one,) = await take(feed, 1)
    assert one.time == 1000.0 and one.findings[0].since_time == 998.0
    assert one.servers[0].events[0].time == 999.0 and one.servers[0].uptime_seconds == 5.0
    assert host.asked == [
        [str(tmp_path / "halotui"), "stream", "--interval", "0.5", "--url", "http://127.0.0.1:1"]
    ]
    assert feed.link.state is LinkState.UP


async def test_a_newer_one_and_a_hostile_one(tmp_path: Path, feeds: list[StreamFeed]) -> None:
    told = msgspec.json.decode(LINE.encode(frame(5.0, host="evil\x1b[2J")))
    known = msgspec.json.encode({**told, "unheard_of": [1, 2]})
    feeds.append(feed := StreamFeed(Near(tmp_path, script(b"motd: hi", known))))  # type: ignore[arg-type]
    (one,) = await take(feed, 1)  # what is not known is left out, and what is no frame
    assert one.host == clean("evil\x1b[2J") and "\x1b" not in one.host
    newer = msgspec.json.encode({"schema_version": 99, "servers": "otherwise"})
    feeds.append(feed := StreamFeed(Near(tmp_path, script(newer))))  # type: ignore[arg-type]
    with pytest.raises(UnreachableError) as caught:
        await feed.one(1.0)
    assert "its halotui is newer: its frames are 99, known are 1; a newer halotui here" in str(caught.value)
    assert feed.link.state is LinkState.REFUSED


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", "there is no halotui there; install it there, or"),
        (script(*[b"nonsense"] * 5), "no frames"),
        (script(then="sys.exit(2)"), "ends without a frame"),
    ],
)
async def test_one_that_is_of_no_use(said: str, told: str, tmp_path: Path, feeds: list[StreamFeed]) -> None:
    feeds.append(feed := StreamFeed(Near(tmp_path, said)))  # type: ignore[arg-type]
    with pytest.raises(UnreachableError) as caught:
        await feed.one(1.0)
    assert told in str(caught.value) and "\n" not in str(caught.value)


async def test_it_comes_back_by_itself(tmp_path: Path, feeds: list[StreamFeed]) -> None:
    host = Near(tmp_path, script(frame(1.0), frame(2.0), then=""))  # the link breaks after two
    feeds.append(feed := StreamFeed(host))  # type: ignore[arg-type]
    seen: list[Frame] = []

    async def watch() -> None:
        async for one in feed.frames():
            seen.append(one)
            if len(seen) == 2:
                host.there.clear()

    task = asyncio.create_task(watch())
    await until(lambda: len(seen) == 2)
    feed.again()  # of no use while there is no link
    await asyncio.sleep(0.3)
    assert len(seen) == 2 and feed.link.state is LinkState.LOST
    host.there.set()
    await until(lambda: len(seen) == 4)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert [one.time for one in seen[:4]] == [1.0, 2.0, 1.0, 2.0]


async def test_another_interval_is_asked_for(tmp_path: Path, feeds: list[StreamFeed]) -> None:
    host = Near(tmp_path, script(frame(1.0)))
    feeds.append(feed := StreamFeed(host, 1.0))  # type: ignore[arg-type]

    async def change() -> None:
        async for _ in feed.frames():
            if feed.interval == 5.0:
                return
            feed.interval = 5.0

    await asyncio.wait_for(change(), 15)
    assert [argv[3] for argv in host.asked] == ["1", "5"]


@pytest.mark.slow
async def test_over_a_real_sshd(tmp_path: Path) -> None:
    """A real halotui there: its frames, killed and cut and back again; nothing of it is left."""
    env = environment()
    program = tmp_path / "halotui"
    exports = "".join(f"export {key}={env[key]}\n" for key in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"))
    program.write_text(
        f'#!/bin/sh\ncd {Path(__file__).parents[1]}\n{exports}exec {sys.executable} -m halotui "$@"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with FakeServer() as fake, sshd(tmp_path) as box:
        host = SshHost(Far(target="box", ssh_config=box.config))
        host.which = lambda name: str(program)  # type: ignore[method-assign]
        feed = StreamFeed(host, 0.25, [fake.url])
        seen: list[Frame] = []

        async def watch() -> None:
            async for one in feed.frames():
                seen.append(one)  # noqa: PERF401 - as they come

        await host.open()
        task = asyncio.create_task(watch())
        try:
            await until(lambda: len(seen) >= 3)
            assert {server.url for server in seen[-1].servers} == {fake.url}
            (there,) = [p for p in map(psutil.Process, box.children()) if "stream" in p.cmdline()]
            os.kill(there.pid, signal.SIGKILL)
            mark = len(seen)
            await until(lambda: len(seen) >= mark + 3)
            box.cut()
            again = len(seen)
            await until(lambda: len(seen) >= again + 3)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await feed.close()
        await until(lambda: not box.children())
