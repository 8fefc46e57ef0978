"""What a token costs of each server's model, and whether its draft model fits: from their headers, read once
and in the background.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import PurePath
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from halotui.collectors import model_name, model_weights
from halotui.collectors.model_weights import Stamp
from halotui.gguf.weights import Weights
from halotui.hosts import Host, LinkDown
from halotui.model import Server, ServerFacts, ServerState, Source, SourceState, Unavailable
from halotui.sampler.clock import Clock
from halotui.sampler.standing import standing, unforeseen
from halotui.sampler.worker import Worker

T = TypeVar("T")

HEADER = "GGUF header"
DEADLINE = 5.0  # seconds: a cold one of 30 MB from a slow disk
FAR_DEADLINE = 40.0  # ... of a box far away: over its link
AGAIN = 60.0  # seconds till one that could not be read is tried anew
STUCK = 3  # threads that may be lost to files that never answer
KEPT = 16  # headers
LONG = 30.0  # seconds for two vocabularies: a second of work, and a slow disk
_OFF = 0.02  # of all parameters: by more the server has loaded another file
_UNREAD = (ServerState.DOWN, ServerState.LOADING)  # the disk has better things to do

# key of ServerFacts -> of Weights; what the server says of itself stays
_NEW = {key: key for key in ("active_parameters", "token_bytes", "experts", "experts_used")}
_MISSING = {"parameters": "parameters", "model_bytes": "bytes", "architecture": "architecture"}
_SIZE = "file"  # what tells how large a model is that loads
_BY_VOCABULARY = ("draft-simple", "draft")  # kinds of drafts that go by it; the others bring their own

Key = tuple[int, str]  # pid, path of the model
Pair = tuple[int, str, str]  # and of the draft model


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
        self._worker = Worker("models", host=host)
        self._deadline = DEADLINE if host.here else FAR_DEADLINE
        self._stuck = 0
        self._headers: dict[Stamp, Weights] = {}  # the least recently used first
        self._looked: dict[Key, _Looked] = {}
        self._told: dict[str, tuple[tuple[object, ...], Told | None]] = {}  # url -> and from what
        self._sizes: dict[Key, int | None] = {}  # bytes of models that load; None: not known
        self._pairs: dict[Pair, str | None] = {}  # why a draft model does not fit its target
        self._compared: dict[tuple[Stamp, Stamp], str | None] = {}
        self._task: asyncio.Task[None] | None = None

    async def read(self, servers: Sequence[Server], grace: float) -> None:
        """Look for what is new; wait for it no longer than ``grace``, and only this once."""
        now = self._clock.monotonic()
        due = [server for server in servers if self._is_due(server, now)]
        if self._task is None or self._task.done():
            loading = [server for server in servers if server.state is ServerState.LOADING]
            unsized = [server for server in loading if server.model_path and _key(server) not in self._sizes]
            pairs = [] if due or loading else [server for server in servers if self._is_unpaired(server)]
            if due or unsized or pairs:
                self._task = asyncio.create_task(self._work(unsized, due, pairs))
                # nobody waits for vocabularies
                await asyncio.wait((self._task,), timeout=grace if due or unsized else 0)
        if max(len(self._looked), len(self._sizes), len(self._pairs)) > len(servers):
            there = {_key(server) for server in servers}
            self._looked = {key: looked for key, looked in self._looked.items() if key in there}
            self._sizes = {key: size for key, size in self._sizes.items() if key in there}
            self._pairs = {pair: why for pair, why in self._pairs.items() if pair[:2] in there}
        if len(self._told) > len(servers):
            self._told = {}

    def told(self, server: Server) -> Told | None:
        """None: nothing can be said of its model."""
        looked = self._looked.get(_key(server)) if server.pid is not None else None
        size = self._sizes.get(_key(server)) if server.state is ServerState.LOADING else None
        unfit = self._pairs.get(_pair(server)) if self._pairs else None
        if looked is None and not size and not (server.facts and server.facts.parameters):
            return None
        of = (server.facts, server.provenance, looked, server.model, server.model_path, size, unfit)
        known = self._told.get(server.url)
        if known is None or any(new is not old for new, old in zip(of, known[0], strict=True)):
            waits = looked is None and _may_be_read(server)
            told = None if waits else _tell(server, looked)
            more = {"model_bytes": (size, _SIZE), "draft_mismatch": (unfit, HEADER)}
            known = self._told[server.url] = (of, _with(server, told, more))
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

    def _is_unpaired(self, server: Server) -> bool:
        if server.draft_model is None or not _may_be_read(server) or not _by_vocabulary(server):
            return False
        return _pair(server) not in self._pairs

    async def _work(self, unsized: Sequence[Server], due: Sequence[Server], pairs: Sequence[Server]) -> None:
        with suppress(LinkDown):  # what is left is due again
            for server in unsized:
                self._sizes[_key(server)] = await self._or_none(partial(self._size, server), self._deadline)
            await self._look(due)
            for server in pairs:
                self._pairs[_pair(server)] = await self._or_none(partial(self._unfit, server), LONG)

    async def _or_none(self, function: Callable[[], T], deadline: float) -> T | None:
        """What cannot be told now is not asked again for that process."""
        try:
            return await self._worker.call(function, deadline)
        except LinkDown:
            raise
        except Unavailable as unavailable:
            self._mind(unavailable)
        except Exception:  # a file may be anything
            return None
        return None

    def _size(self, server: Server) -> int:
        return model_weights.size(self._host, model_weights.place(self._host, server))

    def _unfit(self, server: Server) -> str | None:
        target = model_weights.place(self._host, server)
        draft = model_weights.place(self._host, server, server.draft_model)
        files = model_weights.stamp(self._host, target), model_weights.stamp(self._host, draft)
        if files not in self._compared:
            why = model_weights.unfit(self._host, target, draft)
            self._compared = {**dict(list(self._compared.items())[1 - KEPT :]), files: why}
        return self._compared[files]

    def _mind(self, trouble: Unavailable) -> None:
        if trouble.state is SourceState.HUNG and self._stuck < STUCK:
            self._stuck += 1  # one dead share must not keep the others' models unread
            self._worker = Worker("models", host=self._host)

    async def _look(self, servers: Sequence[Server]) -> None:
        for server in servers:
            weights, trouble, took = None, None, None
            began = self._clock.monotonic()
            try:
                weights = await self._worker.call(partial(self._header, server), self._deadline)
                took = self._clock.monotonic() - began
            except Unavailable as unavailable:
                trouble = unavailable
                self._mind(trouble)
            except LinkDown:
                raise
            except Exception as error:
                trouble = unforeseen(error)
            self._looked[_key(server)] = _Looked(self._clock.monotonic(), weights, trouble, took)

    def _header(self, server: Server) -> Weights:
        """In the worker's thread. Raises Unavailable."""
        path = model_weights.place(self._host, server)
        stamp = model_weights.stamp(self._host, path)
        found = self._headers.pop(stamp, None) or model_weights.read(self._host, path)
        self._headers[stamp] = found
        if len(self._headers) > KEPT:
            del self._headers[next(iter(self._headers))]
        return found


def _key(server: Server) -> Key:
    return server.pid or 0, server.model_path or ""


def _pair(server: Server) -> Pair:
    return server.pid or 0, server.model_path or "", server.draft_model or ""


def _by_vocabulary(server: Server) -> bool:
    kinds = (server.spec_type or _BY_VOCABULARY[0]).split(",")
    return any(kind.strip() in _BY_VOCABULARY for kind in kinds)


def _may_be_read(server: Server) -> bool:
    return bool(server.pid is not None and server.model_path and server.state not in _UNREAD)


def _with(server: Server, told: Told | None, more: Mapping[str, tuple[int | str | None, str]]) -> Told | None:
    facts = told.facts if told is not None else server.facts or ServerFacts()
    new = {
        key: value
        for key, value in more.items()
        if value[0] and (key != "model_bytes" or not facts.model_bytes)
    }
    if not new:
        return told
    return Told(
        replace(facts, **{key: value for key, (value, _) in new.items()}),
        (told.provenance if told is not None else server.provenance)
        | {key: source for key, (_, source) in new.items()},
        mixture=told.mixture if told is not None else False,
    )


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
