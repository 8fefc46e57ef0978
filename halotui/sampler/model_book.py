"""What a token costs of each server's model: from its header, read once and in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import PurePath
from typing import Any, NamedTuple

from msgspec.structs import replace

from halotui.collectors import model_name, model_weights
from halotui.collectors.model_weights import Stamp
from halotui.gguf.weights import Weights
from halotui.hosts import Host
from halotui.model import Server, ServerFacts, ServerState, Source, SourceState, Unavailable
from halotui.sampler.clock import Clock
from halotui.sampler.standing import standing, unforeseen
from halotui.sampler.worker import Worker

HEADER = "GGUF header"
DEADLINE = 5.0  # seconds: a cold one of 30 MB from a slow disk
AGAIN = 60.0  # seconds till one that could not be read is tried anew
STUCK = 3  # threads that may be lost to files that never answer
KEPT = 16  # headers
_OFF = 0.02  # of all parameters: by more the server has loaded another file
_UNREAD = (ServerState.DOWN, ServerState.LOADING)  # the disk has better things to do

# key of ServerFacts -> of Weights; what the server says of itself stays
_NEW = {key: key for key in ("active_parameters", "token_bytes", "experts", "experts_used")}
_MISSING = {"parameters": "parameters", "model_bytes": "bytes"}

Key = tuple[int, str]  # pid, path of the model


class _Looked(NamedTuple):
    at: float  # monotonic seconds
    weights: Weights | None = None
    trouble: Unavailable | None = None
    took: float | None = None


class Told(NamedTuple):
    """A server's facts with those of its model, and what told them."""

    facts: ServerFacts
    provenance: dict[str, str]
    mixture: bool  # of experts


class ModelBook:
    def __init__(self, host: Host, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._worker = Worker("models")
        self._stuck = 0
        self._headers: dict[Stamp, Weights] = {}  # the least recently used first
        self._looked: dict[Key, _Looked] = {}
        self._told: dict[str, tuple[tuple[object, ...], Told | None]] = {}  # url -> and from what
        self._task: asyncio.Task[None] | None = None

    async def read(self, servers: Sequence[Server], grace: float) -> None:
        """Look for what is new; wait for it no longer than ``grace``, and only this once."""
        now = self._clock.monotonic()
        due = [server for server in servers if self._is_due(server, now)]
        if due and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._look(due))
            await asyncio.wait((self._task,), timeout=grace)
        if len(self._looked) > len(servers):
            there = {_key(server) for server in servers}
            self._looked = {key: looked for key, looked in self._looked.items() if key in there}
        if len(self._told) > len(servers):
            self._told = {}

    def told(self, server: Server) -> Told | None:
        """None: nothing can be said of its model."""
        looked = self._looked.get(_key(server)) if server.pid is not None else None
        if looked is None and not (server.facts and server.facts.parameters):
            return None
        of = (server.facts, server.provenance, looked, server.model, server.model_path)
        known = self._told.get(server.url)
        if known is None or any(new is not old for new, old in zip(of, known[0], strict=True)):
            waits = looked is None and _may_be_read(server)
            known = self._told[server.url] = (of, None if waits else _tell(server, looked))
        return known[1]

    def sources(self, servers: Sequence[Server]) -> Iterator[Source]:
        """How the headers stand, of models that have a path."""
        for server in servers:
            if (looked := self._looked.get(_key(server))) is not None:
                yield standing(f"model {server.url}", HEADER, looked.trouble, took=looked.took)

    def _is_due(self, server: Server, now: float) -> bool:
        if not _may_be_read(server):
            return False
        looked = self._looked.get(_key(server))
        return looked is None or (looked.trouble is not None and now - looked.at >= AGAIN)

    async def _look(self, servers: Sequence[Server]) -> None:
        for server in servers:
            weights, trouble, took = None, None, None
            began = self._clock.monotonic()
            try:
                weights = await self._worker.call(partial(self._header, server), DEADLINE)
                took = self._clock.monotonic() - began
            except Unavailable as unavailable:
                trouble = unavailable
            except Exception as error:
                trouble = unforeseen(error)
            if trouble is not None and trouble.state is SourceState.HUNG and self._stuck < STUCK:
                self._stuck += 1  # one dead share must not keep the others' models unread
                self._worker = Worker("models")
            self._looked[_key(server)] = _Looked(self._clock.monotonic(), weights, trouble, took)

    def _header(self, server: Server) -> Weights:
        """In the worker's thread. Raises Unavailable."""
        path = model_weights.place(self._host, server)
        stamp = model_weights.stamp(path)
        found = self._headers.pop(stamp, None) or model_weights.read(path)
        self._headers[stamp] = found
        if len(self._headers) > KEPT:
            del self._headers[next(iter(self._headers))]
        return found


def _key(server: Server) -> Key:
    return server.pid or 0, server.model_path or ""


def _may_be_read(server: Server) -> bool:
    return bool(server.pid is not None and server.model_path and server.state not in _UNREAD)


def _tell(server: Server, looked: _Looked | None) -> Told | None:
    """The header's word, else what the name and the server's own say amount to."""
    facts = server.facts or ServerFacts()
    weights, source = looked.weights if looked is not None else None, HEADER
    said = facts.parameters
    if weights is not None and said and abs(weights.parameters - said) > said * _OFF:
        weights = None
    if weights is None:
        names = (PurePath(server.model_path or "").name, server.model)
        found = next(
            (one for name in names if (one := model_name.weights(name, said, facts.model_bytes))), None
        )
        if found is None:
            return None
        weights, source = found
    new: dict[str, Any] = {key: getattr(weights, name) for key, name in _NEW.items()}
    new |= {key: getattr(weights, name) for key, name in _MISSING.items() if getattr(facts, key) is None}
    new = {key: value for key, value in new.items() if value is not None}
    return Told(
        replace(facts, **new),
        server.provenance | dict.fromkeys(new, source),
        mixture=weights.experts is not None or source == model_name.NAME,
    )
