"""Energy of the package over time, and what a token cost."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from halotui.model import Energy, Gpu, ModelState, Server, ServerState, SlotPhase
from halotui.sampler.ceiling import computes_elsewhere
from halotui.sampler.clock import Clock
from halotui.sampler.pace import Pace

GAP = 5.0  # seconds: what was not watched for longer, as in a suspend, is left out
WINDOW = 60.0  # seconds of decoding, or of prefill, that a token's cost is taken over
LEAST = 3.0  # ... at least
WHOLE = 5  # frames of a prompt, at least: its first and last ones are spent on something else as well
_NOT_TOLD = (ServerState.LOADING, ServerState.WAITING, ServerState.LOCKED, ServerState.FAILED)
_AT_REST = (ServerState.DOWN, ServerState.SLEEPING)


class EnergyBook:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pace = Pace(GAP)
        self._gpu: Gpu | None = None
        self._read_at = 0.0  # when that reading was first seen
        self._seconds = 0.0
        self._joules = 0.0
        self._tokens = 0.0
        self._decode = _Window()
        self._prefill = _Window()
        self._work = _Work()  # at the end of the frame before
        self._waiting = _NOTHING  # spent on a batch of a prompt that is not done yet
        self._frames = 0  # of that prompt
        self._done: dict[tuple[str, int, int | None], int] = {}  # of it: url, slot, task -> tokens

    def skip(self) -> None:
        self._pace.skip()

    def look(self, gpus: Sequence[Gpu], servers: Sequence[Server]) -> Energy | None:
        """Once a frame. None until a moment was watched whose power is known."""
        now = self._clock.monotonic()
        step = self._pace.step(now)
        gpu = next((gpu for gpu in gpus if gpu.integrated is not False), None)
        if gpu is not self._gpu:
            self._gpu, self._read_at = gpu, now
        stale = now - self._read_at > GAP  # the same reading again and again: its source hangs
        watts = gpu.socket_power_watts if gpu is not None and not stale else None
        here = [server for server in servers if server.pid is not None]
        work = _work(here, gpus)
        if watts is not None and step is not None:
            self._count(step, watts * step, here, work)
        else:
            self._forget_prompts()
        self._work = work
        if not self._seconds:
            return None
        return Energy(
            seconds=round(self._seconds, 2),
            watt_hours=round(self._joules / 3600, 6),
            tokens=round(self._tokens),
            decode_joules_per_token=self._decode.each,
            prefill_joules_per_token=self._prefill.each,
        )

    def _count(self, step: float, joules: float, servers: Sequence[Server], work: _Work) -> None:
        generated = step * sum(server.generation_tokens_per_second or 0.0 for server in servers)
        self._seconds += step
        self._joules += joules
        self._tokens += generated
        prompted = any(server.prompt_tokens_per_second for server in servers)
        if work.decodes and self._work.decodes and not prompted:  # from its beginning to its end
            self._decode.add(_Piece(step, joules, generated))
        self._read_prompts(_Piece(step, joules, 0.0), servers, not generated and work.prompts)

    def _read_prompts(self, frame: _Piece, servers: Sequence[Server], alone: bool) -> None:
        """A prompt moves by batches: what is spent waits for the tokens that it was spent on.

        Its first frame counts whole and its last one not at all: over many prompts that is as it should be.
        ``alone``: at the end of this frame servers read prompts, and in it they did nothing else.
        """
        done = {
            (server.url, slot.id, slot.task): slot.prompt_processed_tokens
            for server in servers
            for slot in server.slots
        }
        reading = {
            (server.url, slot.id, slot.task)
            for server in servers
            for slot in server.slots
            if slot.phase is SlotPhase.PROMPT
        }
        goes_on = alone and (not self._frames or reading == self._done.keys())
        if goes_on:
            self._waiting = self._waiting.plus(frame)
            self._frames += 1
            self._done = self._done or dict.fromkeys(reading, 0)
        steps = [_step(before, done.get(key)) for key, before in self._done.items()]
        if any(step is None for step in steps):
            goes_on = False
        elif read := sum(filter(None, steps)):
            self._waiting = self._waiting._replace(tokens=self._waiting.tokens + read)
            self._done = {key: done[key] or 0 for key in self._done}
            if self._frames >= WHOLE:
                self._prefill.add(self._waiting)
                self._waiting = _NOTHING
        if not goes_on:
            self._forget_prompts()

    def _forget_prompts(self) -> None:
        self._waiting, self._frames, self._done = _NOTHING, 0, {}


def _step(before: int, now: int | None) -> int | None:
    return now - before if now is not None and now >= before else None


class _Work(NamedTuple):
    """What all servers of the box do at one moment. Neither: nothing, both, or that is not known."""

    decodes: bool = False
    prompts: bool = False


def _work(servers: Sequence[Server], gpus: Sequence[Gpu]) -> _Work:
    if any(_unclear(server, gpus) for server in servers):
        return _Work()
    phases = {slot.phase for server in servers for slot in server.slots}
    mute = any(server.generation_tokens_per_second for server in servers if not server.slots)
    decodes, prompts = mute or SlotPhase.DECODE in phases, SlotPhase.PROMPT in phases
    return _Work(decodes and not prompts, prompts and not decodes)


def _unclear(server: Server, gpus: Sequence[Gpu]) -> bool:
    """At work, and not known how fast; at other work; or its work is not done by the package alone."""
    if server.state in _AT_REST:
        return False
    if server.state in _NOT_TOLD:
        return True
    speeds = (server.generation_tokens_per_second, server.prompt_tokens_per_second)
    if server.slots_busy is None:
        if server.models:  # those that have a server of their own are told there
            return any(model.state is ModelState.LOADED and model.url is None for model in server.models)
        return speeds == (None, None)
    return server.slots_busy > 0 and (speeds[0] is None or computes_elsewhere(server, server.facts, gpus))


class _Piece(NamedTuple):
    seconds: float
    joules: float
    tokens: float

    def plus(self, other: _Piece) -> _Piece:
        return _Piece(*(old + new for old, new in zip(self, other, strict=True)))

    def less(self, other: _Piece) -> _Piece:
        return _Piece(*(old - new for old, new in zip(self, other, strict=True)))


_NOTHING = _Piece(0.0, 0.0, 0.0)


class _Window:
    """The last minute of one kind of work, however long ago."""

    def __init__(self) -> None:
        self._pieces: deque[_Piece] = deque()
        self._sum = _NOTHING

    def add(self, piece: _Piece) -> None:
        self._pieces.append(piece)
        self._sum = self._sum.plus(piece)
        while self._sum.seconds - self._pieces[0].seconds >= WINDOW:
            self._sum = self._sum.less(self._pieces.popleft())

    @property
    def each(self) -> float | None:
        """Joules a token."""
        enough = self._sum.seconds >= LEAST and self._sum.tokens > 0
        return round(self._sum.joules / self._sum.tokens, 6) if enough else None
