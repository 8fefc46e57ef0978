"""What is kept of one server that is followed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from halotui.model import ServerProcess, ServerState
from halotui.sampler.polling import Poller
from halotui.sampler.tracker import Tracker

ROUTER, LLAMA = "router", "llama.cpp"


@dataclass(eq=False)
class Tab:
    """One server. ``kind``: its engine, or a router; ``poller``: of a llama-server with its own model."""

    url: str
    given: bool  # by --url
    kind: str
    asked_as: tuple[str, str | None] = field(repr=False)  # address and key
    tracker: Tracker
    poller: Poller | None = None
    behind: str | None = None
    pid: int | None = None  # of its process as it was last seen, which may have gone since
    seen: bool = False  # its process is there
    stand_in: ServerProcess | None = None  # what is known of a router's child while it has no process
    epoch: int = 0  # of the poller when ``pid`` was new
    shared: tuple[int, ...] = ()  # pids of all that listen on its port
    told: tuple[int, ...] = ()  # ... and of those that an event has told of
    looks: int = 0  # lists of a router's models that were followed
    down: bool = False
    state: ServerState = ServerState.WAITING
    gone_at: float | None = None
    trouble: str | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)


def kind_of(process: ServerProcess | None) -> str:
    if process is None:
        return LLAMA
    return ROUTER if process.router and process.engine == LLAMA else process.engine


def rests(tab: Tab) -> bool:
    return tab.poller is not None and tab.poller.resting


def port_of(tab: Tab) -> int | None:
    return urlsplit(tab.asked_as[0]).port


def by_url(found: Iterable[ServerProcess]) -> dict[str, list[ServerProcess]]:
    """Two builds can share a port, as older ones let others listen there too: the first comes first."""
    listed: dict[str, list[ServerProcess]] = {}
    for process in sorted(found, key=lambda process: process.started_time or 0.0):
        listed.setdefault(process.url, []).append(process)
    return listed
