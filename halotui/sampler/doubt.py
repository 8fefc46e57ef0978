"""When a GPU's 100 % is not to be believed: two idle ROCm clients pin its counter, with nobody at work."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from msgspec.structs import replace

from halotui.model import Gpu, Holder, Server, ServerState
from halotui.sampler.clock import Clock
from halotui.sampler.pace import Pace

FULL = 99.0  # % and more: what may be pinned
LASTING = 10.0  # seconds of it, with nobody at work
GAP = 10.0  # seconds between two frames after which they may no longer belong together
HELD = 256 << 20  # bytes of GPU memory with which a process may be at work, though no engine tells: ROCm's
AT_WORK = 5.0  # % of an engine
UNSEEN = 1 << 30  # bytes of the GPU that nobody we see holds: firmware and driver take less

_WORKING = (ServerState.BUSY, ServerState.LOADING, ServerState.WAITING)
_OPEN = ("", "localhost")


class Doubt:
    """``of`` once a frame."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._idle_since: float | None = None  # full, and everybody known to be idle
        self._pace = Pace(GAP)

    def skip(self) -> None:
        self._pace.skip()

    def of(
        self, gpus: tuple[Gpu, ...], servers: Sequence[Server], holders: Sequence[Holder]
    ) -> tuple[Gpu, ...]:
        """The same, with ``busy_doubtful`` where that can be said: of the APU alone."""
        apu = next((gpu for gpu in gpus if gpu.integrated is not False), None)
        if apu is None:
            self._idle_since = None
            return gpus
        doubtful = self._doubtful(apu, servers, holders)
        if doubtful is None:
            return gpus
        return tuple(replace(gpu, busy_doubtful=doubtful) if gpu is apu else gpu for gpu in gpus)

    def _doubtful(self, gpu: Gpu, servers: Sequence[Server], holders: Sequence[Holder]) -> bool | None:
        now = self._clock.monotonic()
        step = self._pace.step(now)
        full = None if gpu.busy_percent is None else gpu.busy_percent >= FULL
        idle = full and _all_idle(gpu, servers, holders)
        if not idle:
            self._idle_since = None
            return idle
        if self._idle_since is None or step is None:
            self._idle_since = now
        return True if now - self._idle_since >= LASTING else None


def _all_idle(gpu: Gpu, servers: Iterable[Server], holders: Sequence[Holder]) -> bool | None:
    """Whether nobody on the box has work for the GPU. None: somebody may, and we cannot see it."""
    ours = [server for server in servers if server.pid is not None or _local(server.address or server.url)]
    if any(server.state in _WORKING or server.slots_busy for server in ours):
        return False
    if any((holder.gpu_percent or 0) > AT_WORK for holder in holders):
        return False
    idle = [server for server in ours if _idle(server)]
    pids, urls = {server.pid for server in idle}, {server.url for server in idle}
    others = [holder for holder in holders if holder.pid not in pids and holder.url not in urls]
    seen = {holder.pid for holder in holders}
    mute = any(not _idle(server) and server.pid not in seen for server in ours)
    if not holders or mute or any(holder.hidden or _held(holder) >= HELD for holder in others):
        return None
    if any(holder.hidden for holder in holders):
        return True  # an idle server of another user: what nobody we see holds is its own
    used = (gpu.gtt_used_bytes or 0) + (gpu.vram_used_bytes or 0)
    return True if used - sum(map(_held, holders)) < UNSEEN else None


def _idle(server: Server) -> bool:
    """Known to be. One that is down and has a process is about to start, or to end."""
    if server.state is ServerState.DOWN:
        return server.pid is None
    return server.state is ServerState.SLEEPING or (
        server.state is ServerState.IDLE and server.slots_busy == 0
    )


def _held(holder: Holder) -> int:
    return (holder.gtt_bytes or 0) + (holder.vram_bytes or 0)


def _local(url: str) -> bool:
    """Whether it is asked on this box, as far as its URL tells."""
    try:
        host = urlsplit(url).hostname or ""
        return host in _OPEN or ip_address(host).is_loopback
    except ValueError:
        return False
