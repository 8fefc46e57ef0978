"""A real server that falls silent: killed, or stopped in the middle of a request."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from halotui.history import History
from halotui.hosts.local import LocalHost
from halotui.model import Finding, ServerState
from halotui.rules.engine import Engine
from halotui.rules.tuning import Tuning
from halotui.sampler.core import Options, Sampler

PATIENCE = 30.0  # seconds


async def struck(server: Any, number: signal.Signals, tuning: Tuning) -> Finding:
    """What is found first of a busy server that got a signal."""
    sampler = Sampler(LocalHost(), Options(urls=(server.url,), gpu_source="none", interval=0.25))
    history, engine, deadline = History(), Engine(tuning=tuning), time.monotonic() + PATIENCE
    asked = done = False
    try:
        async for frame in sampler.frames():
            history.push(frame)
            found = [one for one in engine.evaluate(frame, history).findings if one.subject == server.url]
            state = frame.servers[0].state if frame.servers else None
            if found and done:
                return found[0]
            assert not found, found
            if state is ServerState.IDLE and not asked:
                asked = True
                threading.Thread(target=ask, args=(server,), daemon=True).start()
            elif state is ServerState.BUSY and not done:
                done = True
                os.kill(server.pid, number)
            assert time.monotonic() < deadline, (state, asked, done)
    finally:
        with suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGCONT)
        await sampler.close()
    raise AssertionError("the frames came to an end")


def ask(server: Any) -> None:
    """Long enough to be seen at it; nobody reads the answer."""
    with suppress(OSError, ValueError):
        server.complete("the river", 3500)


async def test_killed(start_server: Callable[..., Any]) -> None:
    with start_server("-c", "4096") as server:
        found = await struck(server, signal.SIGKILL, Tuning())
    assert found.id == "server-down" and found.severity == "critical"
    assert found.title == "llama-server went down"


async def test_stopped(start_server: Callable[..., Any]) -> None:
    """Whoever waits a minute is told; here it is five seconds."""
    tuning = Tuning(levels={"source-stale": {"silent_seconds": 5.0}})
    with start_server("-c", "4096") as server:
        found = await struck(server, signal.SIGSTOP, tuning)
    assert found.id == "source-stale" and "no answer for" in found.evidence
