"""What a box's own process does: one llama-server to begin with, its users, and sensors that follow whatever
serves or is benched, whoever started it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from halotui.demo import BoxError, at_work, backends, household
from halotui.demo.faults import AFTER, TABLE, Fault
from halotui.demo.life import BOX
from halotui.demo.model import BENCH, SLOW, SLOW_DRAFT, write_preset
from halotui.demo.server import FAULT, LOAD_SECONDS
from halotui.demo.tenants import Tenant
from halotui.demo.traffic import Traffic
from halotui.demo.tree import KV_BYTES_PER_TOKEN, MODEL_BYTES, Load, Tree

STOP_SECONDS = 5.0  # between asking and insisting; the server's own limit is 3
TICK_SECONDS = 0.25
BENCH_TICK_SECONDS = 0.05  # while something is benched, of which twenty samples a second are taken
PORTS = range(18000, 20000)  # where nobody's outgoing connections come
BUSY_SECONDS = 90.0  # an older journal is of an undertaking that was cut off
DRAFT_BYTES = 1 << 30
BENCH_BYTES = 3_825_807_360  # of a Llama-2-7B in Q4_0, by which these boxes are compared
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


async def live(directory: Path, fault: str | None, seed: int, seconds: float, serve: bool = True) -> None:
    """Be a box until cancelled. Without ``serve`` there is nothing that could be at fault."""
    say("making model…")
    write_preset(directory / backends.MODEL, SLOW)  # not in a thread, which would go on writing when we leave
    write_preset(directory / backends.DRAFT, SLOW_DRAFT)
    weigh(directory / backends.MODEL, MODEL_BYTES - DRAFT_BYTES)
    weigh(directory / backends.DRAFT, DRAFT_BYTES)
    write_preset(directory / backends.BENCH_MODEL, BENCH)
    weigh(directory / backends.BENCH_MODEL, BENCH_BYTES)
    state, log = directory / "state", directory / backends.LOG
    state.mkdir(0o700)
    mark, port = household.mark(), free_port()
    backends.lay_binaries(directory, mark)
    suite = backends.lay_suite(directory)
    at_work.prepare(directory)
    about = TABLE[fault]
    env = {BOX: mark, LOAD_SECONDS: str(backends.LOAD_SECONDS)}
    env |= {FAULT: fault} if fault and about.build else {}
    profiles = {
        backend: backends.profile(backend, directory, about, port, env) for backend in backends.OWN_FLAGS
    }
    process, pid, url = None, 0, f"http://127.0.0.1:{port}"
    if serve:
        say("starting llama-server…")
        process = await start_server(profiles[backends.FIRST], log)
        pid = process.pid
    tree = None
    try:
        if process:
            url = await ready_url(process, log)
        tree = Tree(directory, pid=pid or None, seed=seed, pressure=about.pressure, hot=about.hot)
        tree.replace(about.files)
        tree.update(Load(models=float(serve)), 0.0)
        where = {"url": url, "pid": pid, "sysfs": tree.sysfs, "procfs": tree.procfs, "log": log}
        told = {**where, "dir": directory, "profiles": profiles, "state": state, "suite": suite}
        print(json.dumps(told, default=str), flush=True)
        await keep(tree, process, mark, url, directory, about, seed, seconds)
    finally:
        at_work.end_all(directory)
        await asyncio.to_thread(household.evict, mark, state, STOP_SECONDS)
        if process:
            await process.wait()
        if tree:
            tree.recover()


async def keep(
    tree: Tree,
    process: Process | None,
    mark: str,
    url: str,
    directory: Path,
    fault: Fault,
    seed: int,
    seconds: float,
) -> None:
    """Let the sensors follow whatever serves or is benched, and its users come and go, until cancelled."""
    state = directory / "state"
    slots = 4 if fault.build else backends.SLOTS
    traffic = Traffic(
        url,
        slots=slots,
        seed=seed,
        decays=fault.decays,
        too_long=fault.too_long,
        hush=lambda: undertaking(state) or bool(at_work.notes(directory)),
    )
    busy = asyncio.create_task(traffic.run(seconds if process else 0.0))
    start = time.monotonic()
    struck = hanging = False
    living: list[household.Resident] = []
    looked = -TICK_SECONDS
    try:
        while True:
            now = time.monotonic() - start
            benched = at_work.notes(directory)
            if now - looked >= TICK_SECONDS:  # a look at every process costs more than a note
                looked = now
                living = household.residents(mark)
            first = process.pid if process else 0
            load = load_of(living, first, traffic, benched)
            tree.house(tenants_of(living, first, load, benched))
            serving = process is not None and process.returncode is None
            if process and serving and now >= AFTER and not struck:
                struck, hanging = True, fault.hang
                strike(tree, process, fault)
            if hanging and not serving:  # another server: the reset is over
                hanging = False
                tree.recover()
            if not hanging:
                tree.update(load, now)
            await asyncio.sleep(BENCH_TICK_SECONDS if benched else TICK_SECONDS)
    finally:
        busy.cancel()
        await asyncio.wait({busy})


def strike(tree: Tree, process: Process, fault: Fault) -> None:
    """What a fault does to a box that was well."""
    if fault.hang:
        tree.hang()
    if fault.kernel:
        tree.say(fault.kernel(process.pid))
    if fault.signal:
        process.send_signal(fault.signal)


def load_of(
    living: list[household.Resident], first: int, traffic: Traffic, benched: list[at_work.Note]
) -> Load:
    """What the servers make of the users' requests, and the benches of theirs. All servers but the first one
    take their time to load."""
    theirs = traffic.load() if living else Load()
    phases = [note.phase for note in benched]
    names = [backend_of(resident) for resident in living] + [note.backend for note in benched]
    return replace(
        theirs,
        prefilling=theirs.prefilling + phases.count(at_work.PREFILL),
        decoding=theirs.decoding + phases.count(at_work.DECODE),
        models=sum(loaded(resident, first) for resident in living),
        carve_out="vulkan" in names,
        held=sum(note.held for note in benched),
    )


def tenants_of(
    living: list[household.Resident], first: int, load: Load, benched: list[at_work.Note]
) -> dict[int, Tenant]:
    """Who holds how much, and works. While something is benched no users come."""
    working = [note.pid for note in benched if note.phase != at_work.REST]
    if not working and (load.prefilling or load.decoding):
        working = [resident.pid for resident in living if loaded(resident, first) == 1]
    slots = load.tokens * KV_BYTES_PER_TOKEN // max(1, len(living))
    held = {
        resident.pid: (MODEL_BYTES * loaded(resident, first) + slots, backend_of(resident))
        for resident in living
    }
    held |= {note.pid: (note.held, note.backend) for note in benched}
    return {
        pid: Tenant(weight, works=pid in working, counted=backend == "vulkan")
        for pid, (weight, backend) in held.items()
    }


def loaded(resident: household.Resident, first: int) -> float:
    """The part of its model that is in memory."""
    return 1.0 if resident.pid == first else min(1.0, max(0.01, resident.age / backends.LOAD_SECONDS))


def backend_of(resident: household.Resident) -> str:
    return Path(resident.binary).parent.name


def undertaking(state: Path) -> bool:
    """Whether a server is being relaunched: users of a demo wait for that, and for what it measures."""
    try:
        return time.time() - (state / "launches/current.json").stat().st_mtime < BUSY_SECONDS
    except OSError:
        return False
