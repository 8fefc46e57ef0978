"""What a real server does wrong when it loads: a draft model of another vocabulary, and no end of loading."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from binaries import Brood, binary
from halotui.demo import model as demo_model
from halotui.demo.model import TINY, Shape, write_preset
from halotui.history import History
from halotui.hosts.local import LocalHost
from halotui.model import Finding
from halotui.rules.engine import Engine
from halotui.rules.tuning import AS_SHIPPED, Tuning
from halotui.sampler.core import Options, Sampler

PATIENCE = 25.0  # seconds


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A draft model whose words have other numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_model, "WORDS", demo_model.WORDS[::-1])
        return write_preset(tmp_path_factory.mktemp("foreign") / "draft.gguf", TINY)


async def watched(
    url: str,
    wanted: Callable[[list[Finding]], bool],
    tuning: Tuning = AS_SHIPPED,
    meanwhile: Callable[[list[Finding]], None] = lambda _: None,
) -> list[Finding]:
    """The server's findings as soon as they are what is wanted; ``meanwhile`` sees those before as well."""
    sampler, history = Sampler(LocalHost(), Options(urls=(url,), gpu_source="none", interval=0.25)), History()
    engine, deadline, found = Engine(tuning=tuning), time.monotonic() + PATIENCE, list[Finding]()
    with contextlib.suppress(TimeoutError):
        async for frame in sampler.frames():
            history.push(frame)
            found = [one for one in engine.evaluate(frame, history).findings if one.subject == url]
            meanwhile(found)
            if wanted(found) or time.monotonic() > deadline:
                break
    await sampler.close()
    assert wanted(found), found
    return found


def is_told(found: list[Finding]) -> bool:
    """By the files: the log alone says less."""
    return any(one.id == "draft-vocab" and "another text" in one.evidence for one in found)


@pytest.mark.parametrize("kind", [("--spec-type", "draft-simple"), ()], ids=["refused", "unused"])
async def test_draft_vocab(start_server: Callable[..., Any], foreign: Path, kind: tuple[str, ...]) -> None:
    """Refused when it loads; or, without a kind of speculation, not even tried: its cure would not help."""
    seen: set[str] = set()
    with start_server("-md", foreign, *kind) as server:
        found = await watched(server.url, is_told, meanwhile=lambda all_: seen.update(one.id for one in all_))
        assert server.get_json("/slots")[0]["speculative"] is False
    assert seen == {"draft-vocab"} and len(found) == 1
    first = 3 + 256 + 1
    assert found[0].evidence == f"token {first} is another text; it does not draft"


async def test_an_old_build_translates(
    start_server: Callable[..., Any], foreign: Path, old_wheel: Path
) -> None:
    with start_server("-md", foreign, wheel=old_wheel) as server:
        (found,) = await watched(server.url, is_told)
    assert found.evidence.endswith("it drafts all the same") and "translates" in found.why


async def test_a_draft_model_of_its_own_family_is_none(server: Any) -> None:
    """Everybody's server: looked at for as long as a vocabulary takes."""
    until = time.monotonic() + 2
    await watched(server.url, lambda found: not found and time.monotonic() > until)


class Throttle:
    """Runs a process for a few milliseconds at a time, from the moment on that it listens."""

    def __init__(self, pid: int, port: int) -> None:
        self._pid, self._port = pid, port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Throttle:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        self._over.set()
        self._thread.join(5)

    def _run(self) -> None:
        deadline = time.monotonic() + PATIENCE
        with contextlib.suppress(ProcessLookupError):
            while not self._over.is_set() and time.monotonic() < deadline and not self._listens():
                time.sleep(0.001)
            try:
                while not self._over.is_set() and time.monotonic() < deadline:
                    os.kill(self._pid, signal.SIGSTOP)
                    self._over.wait(0.15)
                    os.kill(self._pid, signal.SIGCONT)
                    time.sleep(0.004)
            finally:
                os.kill(self._pid, signal.SIGCONT)

    def _listens(self) -> bool:
        with contextlib.closing(socket.socket()) as caller:
            return caller.connect_ex(("127.0.0.1", self._port)) == 0


def is_loading_slowly(found: list[Finding]) -> bool:
    return any(one.id == "slow-load" and "not done" in one.evidence for one in found)


async def test_slow_load(brood: Brood, tmp_path: Path) -> None:
    """A server that gets a fortieth of its time loads for seconds what takes a fraction of one. What counts
    as slow is set so that this is."""
    large = write_preset(tmp_path / "large.gguf", Shape(dim=512, layers=8))
    tuning = Tuning(
        levels={"slow-load": {"least_seconds": 1.0, "bytes_per_second": 1e9}}, holds={"slow-load": 0.0}
    )
    server = brood.start(binary(tmp_path / "cpu"), "-m", large, "-c", 256, "-lm", "none")
    with Throttle(server.pid, server.port) as throttle:
        found = await watched(server.url, is_loading_slowly, tuning)
        throttle.release()
    (finding,) = [one for one in found if one.id == "slow-load"]
    assert finding.title == "The model loads slowly" and "at most" in finding.evidence
    await asyncio.to_thread(server.wait_ready)
    await watched(server.url, lambda found: not is_loading_slowly(found), tuning)
