"""What only several readings of a GPU tell: which limiter moved, what holds it back, which hwmon lies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from halotui.collectors.gpu_reading import Reading
from halotui.model import Gpu, HeldBy
from halotui.sampler.clock import Clock
from halotui.sampler.pace import Pace

GAP = 10.0  # seconds between two readings after which they may no longer belong together: suspend, a hang
AGREE = 2  # readings in a row that must say the same of what holds a GPU back
AT_WORK = 50.0  # %
NEAR_TOP = 0.95  # of the highest clock: no need to ask what holds it
COOL = 80.0  # °C below which heat does not hold a clock down, where no counter tells
POWER = ("spl", "fppt", "sppt")
HEAT = ("thm_core", "thm_gfx", "thm_soc")
# Levels at which the clock is low because somebody wants it so.
WISHED = ("low", "manual", "profile_standard", "profile_min_sclk", "profile_min_mclk")

SAMPLES = 20  # values of hwmon after which its fraction is judged
WATTS = 3  # different whole watts among them: one that hardly moves is small by chance
_WATT = 1_000_000  # µW
_TENTH = 100_000


class GpuWatch:
    """All GPUs of the box, each by its id: a card may change its number, and come and go."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._gpus: dict[str, _Watched] = {}

    def skip(self) -> None:
        for watched in self._gpus.values():
            watched.pace.skip()

    def told(self, readings: Iterable[Reading]) -> tuple[Gpu, ...]:
        """The readings' GPUs with what these and the ones before tell together. Once for each new reading."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        return tuple(
            self._gpus.setdefault(reading.gpu.id, _Watched()).told(reading, now, wall) for reading in readings
        )


class _Watched:
    def __init__(self) -> None:
        self._counters: dict[str, int] = {}
        self.pace = Pace(GAP)
        self._at = self._wall = 0.0
        self._verdict: HeldBy | None = None  # of the reading before
        self._verdicts = 0  # that said it in a row
        self._held: HeldBy | None = None
        self._fraction = Fraction()

    def told(self, reading: Reading, now: float, wall: float) -> Gpu:
        # The monotonic clock stands still while the box sleeps; the wall's does not.
        slept = abs(wall - self._wall - (now - self._at)) > GAP
        passed = self.pace.step(now)
        torn = passed is None or slept
        self._at, self._wall = now, wall
        moved = moves(self._counters, reading.limiters, passed) if passed and not torn else None
        self._counters = reading.limiters
        changes: dict[str, Any] = {}
        if moved:
            changes["throttle"] = moved
        if watts := self._corrected(reading):
            changes["socket_power_watts"] = watts
            told_by = reading.gpu.provenance.get("socket_power_watts", "hwmon power1")
            told_by += ", fraction corrected"
            changes["provenance"] = {**reading.gpu.provenance, "socket_power_watts": told_by}
        if torn:
            self._verdicts, self._held = 0, None
        counted = bool(reading.limiters)
        if held := self._hold(held_by(reading.gpu, moved if counted else {}, counted)):
            changes["held_by"] = held
        return replace(reading.gpu, **changes) if changes else reading.gpu

    def _hold(self, verdict: HeldBy | None) -> HeldBy | None:
        self._verdicts = self._verdicts + 1 if verdict is self._verdict and self._verdicts else 1
        self._verdict = verdict
        if self._verdicts >= AGREE:
            self._held = verdict
        return self._held

    def _corrected(self, reading: Reading) -> float | None:
        if reading.hwmon_microwatts is None or reading.gpu.integrated is False:
            return None
        return self._fraction.corrected(reading.hwmon_microwatts)


def moves(before: dict[str, int], now: dict[str, int], seconds: float) -> dict[str, float] | None:
    """Steps a second of the counters that moved. None: not known, as they are new or began anew."""
    if not now or before.keys() != now.keys():
        return None
    steps = {name: count - before[name] for name, count in now.items()}
    if any(step < 0 for step in steps.values()):
        return None
    return {name: step / seconds for name, step in steps.items() if step}


def held_by(gpu: Gpu, moved: dict[str, float] | None, counted: bool) -> HeldBy | None:
    """What this reading says. ``moved``: steps a second by limiter, None where they cannot be told yet;
    ``counted``: whether there are such counters at all."""
    busy, sclk, top = gpu.busy_percent, gpu.sclk_hertz, gpu.sclk_top_hertz
    if busy is None or sclk is None or top is None or moved is None:
        return None
    if busy < AT_WORK or sclk >= NEAR_TOP * top:
        return None
    if moved.get("prochot"):
        return HeldBy.PROCHOT
    power, heat = (max(moved.get(name, 0.0) for name in group) for group in (POWER, HEAT))
    cool = not heat if counted else gpu.temperature_celsius is not None and gpu.temperature_celsius < COOL
    wished = gpu.performance_level in WISHED and not power
    if cool and not wished and _cpu_takes_more(gpu):
        return HeldBy.CPU
    if heat or power:
        return HeldBy.HEAT if heat >= power else HeldBy.POWER
    limited = gpu.sclk_limit_hertz is not None and gpu.sclk_limit_hertz < NEAR_TOP * top
    return HeldBy.POWER if limited and cool and not wished and not counted else None


def _cpu_takes_more(gpu: Gpu) -> bool:
    cpu, gfx = gpu.cpu_power_watts, gpu.gfx_power_watts
    return cpu is not None and gfx is not None and cpu > gfx


class Fraction:
    """Whether hwmon writes the fraction of a watt ten times too small, as kernels before 7.2 do here.

    Such a fraction never reaches a tenth of a watt. One that does says that the kernel is sound, for good.
    """

    def __init__(self) -> None:
        self._sound = False
        self._last: int | None = None
        self._samples = 0
        self._whole = True  # watts only: then there is no fraction to mend
        self._watts: set[int] = set()

    def corrected(self, microwatts: int) -> float | None:
        """Watts, where the fraction is known to be wrong. A value that stands still is no new sample."""
        fraction = microwatts % _WATT
        if microwatts != self._last and not self._sound:
            self._last = microwatts
            self._samples += 1
            self._whole &= fraction == 0
            if len(self._watts) < WATTS:
                self._watts.add(microwatts // _WATT)
            self._sound = fraction >= _TENTH
        if self._sound or self._whole or self._samples < SAMPLES or len(self._watts) < WATTS:
            return None
        return microwatts // _WATT + fraction / _TENTH
