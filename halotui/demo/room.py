"""What a box's own process does: one llama-server to begin with, its users, and sensors that follow whatever
serves, whoever started it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from halotui.demo import BoxError, backends, household
from halotui.demo.life import BOX
from halotui.demo.model import SLOW, SLOW_DRAFT, write_preset
from halotui.demo.server import FAULT, LOAD_SECONDS
from halotui.demo.traffic import Traffic
from halotui.demo.tree import MODEL_BYTES, Load, Tree

STOP_SECONDS = 5.0  # between asking and insisting; the server's own limit is 3
TICK_SECONDS = 0.25
HANG_AFTER_SECONDS = 5.0
PORTS = range(18000, 20000)  # where nobody's outgoing connections come
BUSY_SECONDS = 90.0  # an older journal is of an undertaking that was cut off
DRAFT_BYTES = 1 << 30
LISTENING = re.compile(r"listening on (http://[\d.]+:\d+)")


def say(words: str) -> None:
    """To whoever started us, if still there."""
    with suppress(OSError):
        print(words, file=sys.stderr, flush=True)


def free_port() -> int:
    """One that stays free, most likely, while a server is away from it."""
    start = os.getpid() * 7 % len(PORTS)
    ports: list[int] = [*PORTS[start:], *PORTS[:start]]
    for port in ports:
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise BoxError("no free port")


def weigh(model: Path, size: int) -> None:
    """Make a file as large as the sensors say its model is, by a hole behind its weights: so the check of
    memory and the bar of loading agree with them. Where files may not be so large they stay small.
    """
    with suppress(OSError):
        os.truncate(model, size)


async def start_server(profile: dict[str, Any], log: Path) -> Process:
    """The server process, not ready yet."""
    return await asyncio.create_subprocess_exec(
        *backends.command(profile, log),
        stdin=DEVNULL,
        stdout=DEVNULL,
        cwd=profile["cwd"],
        env={**os.environ, **profile["env"], "HALOTUI_PROFILE": backends.FIRST},
    )


async def ready_url(process: Process, log: Path) -> str:
    """Its URL, once it answers from its task queue. The box's parent minds how long that takes."""
    while process.returncode is None:
        if found := _search(log, LISTENING):
            async with httpx.AsyncClient(base_url=found[1]) as client:
                with suppress(httpx.TransportError):
                    if (await client.get("/slots")).status_code == 200:
                        return found[1]
        await asyncio.sleep(0.02)
    raise BoxError(f"llama-server ended with code {process.returncode}")


def _search(log: Path, pattern: re.Pattern[str]) -> re.Match[str] | None:
    return pattern.search(log.read_text(errors="replace")) if log.exists() else None


async def live(directory: Path, fault: str | None, seed: int, seconds: float) -> None:
    """Be a box until cancelled."""
    say("making model…")
    write_preset(directory / backends.MODEL, SLOW)  # not in a thread, which would go on writing when we leave
    write_preset(directory / backends.DRAFT, SLOW_DRAFT)
    weigh(directory / backends.MODEL, MODEL_BYTES - DRAFT_BYTES)
    weigh(directory / backends.DRAFT, DRAFT_BYTES)
    backends.lay_binaries(directory)
    state, log = directory / "state", directory / backends.LOG
    state.mkdir(0o700)
    mark, port = household.mark(), free_port()
    env = {BOX: mark, LOAD_SECONDS: str(backends.LOAD_SECONDS)} | ({FAULT: fault} if fault else {})
    profiles = {
        backend: backends.profile(backend, directory, fault, port, env) for backend in backends.OWN_FLAGS
    }
    say("starting llama-server…")
    process = await start_server(profiles[backends.FIRST], log)
    tree = None
    try:
        url = await ready_url(process, log)
        tree = Tree(directory, pid=process.pid, seed=seed, pressure=fault == "gtt-pressure")
        tree.update(Load(), 0.0)
        where = {"url": url, "pid": process.pid, "sysfs": tree.sysfs, "procfs": tree.procfs, "log": log}
        told = {**where, "dir": directory, "profiles": profiles, "state": state}
        print(json.dumps(told, default=str), flush=True)
        await keep(tree, process, mark, url, state, fault, seed, seconds)
    finally:
        await asyncio.to_thread(household.evict, mark, state, STOP_SECONDS)
        await process.wait()
        if tree:
            tree.recover()


async def keep(
    tree: Tree,
    process: Process,
    mark: str,
    url: str,
    state: Path,
    fault: str | None,
    seed: int,
    seconds: float,
) -> None:
    """Let the sensors follow whatever serves, and its users come and go, until cancelled."""
    slots = 4 if fault == "np-slots" else backends.SLOTS
    traffic = Traffic(
        url, slots=slots, seed=seed, spec_decay=fault == "spec-decay", hush=lambda: undertaking(state)
    )
    busy = asyncio.create_task(traffic.run(seconds))
    start = time.monotonic()
    hanging = False
    try:
        while True:
            now = time.monotonic() - start
            living = household.residents(mark)
            tree.house(resident.pid for resident in living)
            if fault == "hang" and now >= HANG_AFTER_SECONDS and process.returncode is None and not hanging:
                hanging = True
                tree.hang()
                process.send_signal(signal.SIGSTOP)
            if hanging and process.returncode is not None:  # another server: the reset is over
                hanging, fault = False, None
                tree.recover()
            if not hanging:
                tree.update(load_of(living, process.pid, traffic), now)
            await asyncio.sleep(TICK_SECONDS)
    finally:
        busy.cancel()
        await asyncio.wait({busy})


def load_of(living: list[household.Resident], first: int, traffic: Traffic) -> Load:
    """What the servers make of the users' requests. All but the first one take their time to load."""
    if not living:
        return Load(models=0)
    parts = [
        1.0 if resident.pid == first else min(1.0, max(0.01, resident.age / backends.LOAD_SECONDS))
        for resident in living
    ]
    vulkan = any(Path(resident.binary).parent.name == "vulkan" for resident in living)
    return replace(traffic.load(), models=sum(parts), carve_out=vulkan)


def undertaking(state: Path) -> bool:
    """Whether a server is being relaunched: users of a demo wait for that, and for what it measures."""
    try:
        return time.time() - (state / "launches/current.json").stat().st_mtime < BUSY_SECONDS
    except OSError:
        return False
