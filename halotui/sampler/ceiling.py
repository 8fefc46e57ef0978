"""How near a server comes to what the chip can do, and how fast it loads.

The peaks are Strix Halo's: 256-bit LPDDR5X-8000, and 512 FP16 operations a clock and CU at 2.9 GHz.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from halotui.collectors.gpu_identity import STRIX_HALO
from halotui.hosts import Host
from halotui.model import Gpu, Server, ServerFacts, SlotPhase, Source
from halotui.sampler.clock import Clock
from halotui.sampler.load_rate import LoadRates
from halotui.sampler.model_book import ModelBook, Told

BANDWIDTH = 256e9  # bytes a second
COMPUTE = 59.392e12  # operations a second, of 40 CUs
UNITS = {"8060S": 40, "8050S": 32, "8040S": 16}  # CUs by name
BELIEVED = 1.05  # a ratio beyond means that something else runs than what we take it for
SLACK = 1.0  # seconds that starts and ends are seen late
_CARD = re.compile(r"nvidia|geforce|quadro|tesla|intel|radeon (?:rx|pro|vii)", re.IGNORECASE)
_BACKENDS = (None, "vulkan", "rocm")


class Peak(NamedTuple):
    bandwidth: float  # bytes a second
    compute: float | None  # operations a second; None: how many CUs it has is not known


class Ceilings:
    """``read`` once a frame, then ``of`` once for each server."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self._clock = clock
        self._models = ModelBook(host, clock)
        self._loads = LoadRates(host, clock)
        self._crowds: dict[str, _Crowd] = {}  # by url, of mixtures
        self._servers: Sequence[Server] = ()

    async def read(self, servers: Sequence[Server], grace: float) -> None:
        """Read the headers of models that are new, in the background, and what loading servers have read."""
        self._servers = servers
        await self._models.read(servers, grace)
        await self._loads.read(servers, grace)
        if len(self._crowds) > len(servers):
            self._crowds = {}

    def skip(self) -> None:
        self._loads.skip()

    def of(self, server: Server, gpus: Sequence[Gpu]) -> Server:
        """The same server, with what can be said."""
        told = self._models.told(server)
        new: dict[str, Any] = {}
        if told is not None:
            new["facts"], new["provenance"] = told.facts, told.provenance
            if (peak := peak_of(server, told.facts, gpus)) is not None:
                alone = not told.mixture or self._alone(server)
                new |= _limits(server, told, peak, alone)
        if (rate := self._loads.of(server)) is not None:
            new["load_bytes_per_second"] = rate
        return replace(server, **new) if new else server

    def sources(self) -> Iterator[Source]:
        """How the models' headers stand."""
        return self._models.sources(self._servers)

    def _alone(self, server: Server) -> bool:
        """Whether its last request had the model for itself."""
        if server.slots_total == 1:
            return True
        crowd = self._crowds.get(server.url)
        if crowd is None:
            crowd = self._crowds[server.url] = _Crowd()
        return crowd.look(server, self._clock.wall())


def peak_of(server: Server, facts: ServerFacts, gpus: Sequence[Gpu]) -> Peak | None:
    """None where it is not this chip alone that computes."""
    if not gpus or server.pid is None or server.backend not in _BACKENDS:
        return None
    if facts.layers_offloaded == 0 or computes_elsewhere(server, facts, gpus):
        return None
    found = STRIX_HALO.search(gpus[0].name or "")
    if found is None:
        return None
    units = UNITS.get((found[1] or "").upper()) if not found[2] else None
    return Peak(BANDWIDTH, COMPUTE * units / UNITS["8060S"] if units else None)


def computes_elsewhere(server: Server, facts: ServerFacts | None, gpus: Sequence[Gpu]) -> bool:
    """Whether another chip may do a part of its work: a card beside the APU, another box."""
    if server.backend == "cuda" or (facts is not None and facts.rpc_peers):
        return True
    used = [device for device in facts.devices if device.id != "CPU"] if facts is not None else []
    if any(_CARD.search(device.name or "") for device in used):
        return True
    if len(gpus) < 2:  # cards of other makers are not among them; its log names those it uses
        return False
    return not used or not all(STRIX_HALO.search(device.name or "") for device in used)


def _limits(server: Server, told: Told, peak: Peak, alone: bool) -> dict[str, float | None]:
    size, active = told.facts.token_bytes, told.facts.active_parameters
    new: dict[str, float | None] = {}
    if size:
        new["decode_ceiling_tokens_per_second"] = ceiling = peak.bandwidth / size
        new["decode_bandwidth_ratio"] = _ratio(_passes(server, told.mixture, alone), ceiling)
    if active and peak.compute:
        new["prefill_ceiling_tokens_per_second"] = ceiling = peak.compute / (2 * active)
        new["prefill_compute_ratio"] = _ratio(_prefill(server), ceiling)
    return new


def _ratio(speed: float | None, ceiling: float) -> float | None:
    ratio = speed / ceiling if speed is not None else None
    return round(ratio, 4) if ratio is not None and ratio <= BELIEVED else None


def _passes(server: Server, mixture: bool, alone: bool) -> float | None:
    """Times a second that the weights are read: now, else in the last request. Streams share a pass."""
    if mixture and server.speculative:
        return None
    decoding = [slot for slot in server.slots if slot.phase is SlotPhase.DECODE]
    prompting = any(slot.phase is SlotPhase.PROMPT for slot in server.slots)
    speeds = [slot.generation_tokens_per_second for slot in decoding]
    live = [speed for speed in speeds if speed is not None]
    if live and not prompting:
        if mixture and len(decoding) > 1:
            return None
        speed: float | None = max(live)
    else:
        speed = server.last_generation_tokens_per_second if alone else None
    if server.speculative and speed is not None:
        return speed / server.draft_mean_tokens if server.draft_mean_tokens else None
    return speed


def _prefill(server: Server) -> float | None:
    """Prompt tokens a second: now, else in the last request."""
    decoding = any(slot.phase is SlotPhase.DECODE for slot in server.slots)
    speeds = [slot.prompt_tokens_per_second for slot in server.slots if slot.phase is SlotPhase.PROMPT]
    live = [speed for speed in speeds if speed]
    return sum(live) if live and not decoding else server.last_prompt_tokens_per_second


class _Crowd:
    """Of one server: whether the request that ended last ran alone."""

    def __init__(self) -> None:
        self._crowded_at = float("-inf")  # when several slots were last seen at work, Unix seconds
        self._alone = False

    def look(self, server: Server, now: float) -> bool:
        """Once a frame."""
        since = [
            now - (slot.elapsed_seconds if slot.elapsed_seconds is not None else now)
            for slot in server.slots
            if slot.phase is not SlotPhase.IDLE
        ]
        if len(since) > 1:
            self._crowded_at = now
        if server.requests:
            *others, last = server.requests
            began, ended = last.started_time, last.ended_time
            self._alone = (
                began is not None
                and ended is not None
                and self._crowded_at < began
                and all((other.ended_time or now) <= began + SLACK for other in others)
                and all(start >= ended - SLACK for start in since)
            )
        return self._alone
