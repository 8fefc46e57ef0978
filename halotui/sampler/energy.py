"""Energy of the package over time, and what a token cost."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from halotui.model import Energy, Gpu, Server, ServerState, SlotPhase
from halotui.sampler.clock import Clock

GAP = 5.0  # seconds: what was not watched for longer, as in a suspend, is left out
WINDOW = 60.0  # seconds of decoding, or of prefill, that a token's cost is taken over
LEAST = 5.0  # ... at least
_UNCLEAR = (ServerState.LOADING, ServerState.WAITING)  # what they do now is not decoding, or not known


class EnergyBook:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at: float | None = None
        self._gpu: Gpu | None = None
        self._read_at = 0.0  # when that reading was first seen
        self._seconds = 0.0
        self._joules = 0.0
        self._tokens = 0.0
        self._decode = _Window()
        self._prefill = _Window()
        self._slots: dict[tuple[str, int], tuple[int | None, int]] = {}  # task, tokens of its prompt done
        self._waiting = _NOTHING  # spent on a batch of a prompt that is not done yet

    def look(self, gpus: Sequence[Gpu], servers: Sequence[Server]) -> Energy | None:
        """Once a frame. None until a moment was watched whose power is known."""
        now = self._clock.monotonic()
        step = now - self._at if self._at is not None else 0.0
        self._at = now
        gpu = next((gpu for gpu in gpus if gpu.integrated is not False), None)
        if gpu is not self._gpu:
            self._gpu, self._read_at = gpu, now
        stale = now - self._read_at > GAP  # the same reading again and again: its source hangs
        watts = gpu.socket_power_watts if gpu is not None and not stale else None
        if watts is not None and 0.0 < step <= GAP:
            self._count(step, watts * step, [server for server in servers if server.pid is not None])
        else:
            self._slots, self._waiting = {}, _NOTHING
        if not self._seconds:
            return None
        return Energy(
            seconds=self._seconds,
            watt_hours=self._joules / 3600,
            tokens=round(self._tokens),
            decode_joules_per_token=self._decode.each,
            prefill_joules_per_token=self._prefill.each,
        )

    def _count(self, step: float, joules: float, servers: Sequence[Server]) -> None:
        generated = step * sum(server.generation_tokens_per_second or 0.0 for server in servers)
        self._seconds += step
        self._joules += joules
        self._tokens += generated
        phases = {slot.phase for server in servers for slot in server.slots}
        decodes = generated > 0 or SlotPhase.DECODE in phases
        prompts = SlotPhase.PROMPT in phases or any(server.prompt_tokens_per_second for server in servers)
        unclear = any(map(_unclear, servers))
        if decodes and not prompts and not unclear:
            self._decode.add(_Piece(step, joules, generated))
        self._read_prompts(servers, None if unclear or decodes else (step, joules))

    def _read_prompts(self, servers: Sequence[Server], cost: tuple[float, float] | None) -> None:
        """A prompt moves by batches: what is spent waits for the tokens that it was spent on.

        ``cost``: seconds and joules of this frame; None: they were not spent on prompts alone.
        """
        read, slots = 0, {}
        for server in servers:
            for slot in server.slots:
                key, done = (server.url, slot.id), slot.prompt_processed_tokens or 0
                task, before = self._slots.get(key, (slot.task, done))
                read += max(0, done - (before if task == slot.task else 0))
                slots[key] = (slot.task, done)
        self._slots = slots
        prompting = any(slot.phase is SlotPhase.PROMPT for server in servers for slot in server.slots)
        if cost is not None and prompting:
            self._waiting = _Piece(self._waiting.seconds + cost[0], self._waiting.joules + cost[1], 0.0)
        if read and self._waiting.seconds:
            self._prefill.add(self._waiting._replace(tokens=read))
            self._waiting = _NOTHING
        if cost is None or not prompting:
            self._waiting = _NOTHING


def _unclear(server: Server) -> bool:
    """At work, and not known how fast; or at other work."""
    speeds = (server.generation_tokens_per_second, server.prompt_tokens_per_second)
    return server.state in _UNCLEAR or (bool(server.slots_busy) and speeds == (None, None))


class _Piece(NamedTuple):
    seconds: float
    joules: float
    tokens: float


_NOTHING = _Piece(0.0, 0.0, 0.0)


class _Window:
    """The last minute of one kind of work, however long ago."""

    def __init__(self) -> None:
        self._pieces: deque[_Piece] = deque()
        self._sum = _NOTHING

    def add(self, piece: _Piece) -> None:
        self._pieces.append(piece)
        self._sum = _Piece(*(old + new for old, new in zip(self._sum, piece, strict=True)))
        while self._sum.seconds - self._pieces[0].seconds >= WINDOW:
            gone = self._pieces.popleft()
            self._sum = _Piece(*(old - new for old, new in zip(self._sum, gone, strict=True)))

    @property
    def each(self) -> float | None:
        """Joules a token."""
        enough = self._sum.seconds >= LEAST and self._sum.tokens > 0
        return self._sum.joules / self._sum.tokens if enough else None
