"""What two readings of a GPU tell: limiters, what holds it back, and a hwmon that lies about its fraction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from halotui.collectors.gpu_reading import Reading
from halotui.model import Gpu, HeldBy
from halotui.sampler.clock import Clock
from halotui.sampler.gpu_watch import SAMPLES, Fraction, GpuWatch

MHZ = 1_000_000
FREE = {"sclk_hertz": 2900 * MHZ, "socket_power_watts": 37.0, "gfx_power_watts": 18.0, "cpu_power_watts": 3.0}
# glimmer-burnin: GPU and all cores at once. Neither a fault nor hot.
SHARED = {
    "sclk_hertz": 900 * MHZ,
    "socket_power_watts": 65.0,
    "gfx_power_watts": 2.8,
    "cpu_power_watts": 48.0,
}
SLOWED = {**FREE, "sclk_hertz": 2000 * MHZ}
NONE_MOVED = dict.fromkeys(("spl", "fppt", "sppt", "prochot", "thm_core", "thm_gfx", "thm_soc"), 1000)


class Bench:
    """A watch and its clock; ``see`` gives what it says of one GPU."""

    def __init__(self) -> None:
        self.now, self.wall = 100.0, 1e9
        self.watch = GpuWatch(Clock(monotonic=lambda: self.now, wall=lambda: self.wall))
        self.counters: dict[str, int] = dict(NONE_MOVED)

    def see(self, after: float = 1.0, slept: float = 0.0, id: str = "0000:c5:00.0", **values: Any) -> Gpu:
        self.now, self.wall = self.now + after, self.wall + after + slept
        raw = values.pop("hwmon", None)
        values = {"busy_percent": 97.0, "sclk_top_hertz": 2900 * MHZ, "temperature_celsius": 46.0, **values}
        gpu = Gpu(id=id, source="sysfs", integrated=True, **values)
        (told,) = self.watch.told((Reading(gpu=gpu, limiters=dict(self.counters), hwmon_microwatts=raw),))
        return told

    def move(self, **steps: int) -> None:
        self.counters = {name: count + steps.get(name, 0) for name, count in self.counters.items()}

    def held(self, readings: int = 4, moving: dict[str, int] | None = None, **values: Any) -> HeldBy | None:
        for _ in range(readings):
            self.move(**(moving or {}))
            told = self.see(**values)
        return told.held_by


def test_only_the_limiters_that_moved_are_told_in_steps_a_second() -> None:
    bench = Bench()
    assert bench.see().throttle == {}  # counters of a healthy box are not zero
    bench.move(fppt=300, thm_gfx=50)
    assert bench.see(after=2).throttle == {"fppt": 150, "thm_gfx": 25}
    assert bench.see().throttle == {}


@pytest.mark.parametrize("gap", [{"after": 11}, {"slept": 3600}, {"slept": -3600}, {"after": 0}])
def test_what_lies_across_a_suspend_or_a_hang_is_nobodys(gap: dict[str, float]) -> None:
    bench = Bench()
    bench.see()
    bench.move(fppt=300)
    assert bench.see(**gap).throttle == {}  # type: ignore[arg-type]
    bench.move(fppt=300)
    assert bench.see().throttle == {"fppt": 300}


def test_readings_ten_seconds_apart_are_no_gaps() -> None:
    """Who looks every ten seconds, and a little more, gets limiters all the same."""
    bench = Bench()
    for _ in range(4):
        bench.move(spl=1002)
        told = bench.see(after=10.02, **SLOWED)
    assert told.throttle == {"spl": pytest.approx(100)} and told.held_by is HeldBy.POWER


def test_counters_that_begin_anew_say_nothing() -> None:
    bench = Bench()
    bench.see()
    bench.counters = {**dict.fromkeys(bench.counters, 2000), "fppt": 7}
    assert bench.see().throttle == {}
    bench.move(fppt=10)
    assert bench.see().throttle == {"fppt": 10}


@pytest.mark.parametrize(
    ("values", "moving", "held"),
    [
        (FREE, {"fppt": 900}, None),  # at its top: a little fPPT is how boost works
        ({**SLOWED, "busy_percent": 30.0}, {"spl": 900}, None),
        (SLOWED, {}, None),  # slow, and nothing says why
        (SLOWED, {"spl": 900}, HeldBy.POWER),
        (SLOWED, {"sppt": 900, "thm_gfx": 20}, HeldBy.POWER),
        (SLOWED, {"sppt": 20, "thm_soc": 900}, HeldBy.HEAT),
        (SLOWED, {"spl": 900, "thm_gfx": 950, "prochot": 1}, HeldBy.PROCHOT),
        (SHARED, {"sppt": 900}, HeldBy.CPU),
        (SHARED, {}, HeldBy.CPU),
        (SHARED, {"thm_core": 900}, HeldBy.HEAT),
        ({**SHARED, "performance_level": "low"}, {}, None),  # its owner wants it slow
        ({**SLOWED, "performance_level": "low"}, {"spl": 900}, HeldBy.POWER),
        ({**SLOWED, "sclk_top_hertz": None}, {"spl": 900}, None),
        ({**SLOWED, "busy_percent": None}, {"spl": 900}, None),
    ],
)
def test_what_holds_it_back(values: dict[str, Any], moving: dict[str, int], held: HeldBy | None) -> None:
    assert Bench().held(moving=moving, **values) is held


@pytest.mark.parametrize(
    ("values", "held"),
    [
        (SHARED, HeldBy.CPU),
        ({**SHARED, "temperature_celsius": 93.0}, None),  # heat may be it as well
        ({**SHARED, "temperature_celsius": None}, None),
        ({**SHARED, "cpu_power_watts": None}, None),
        ({**SLOWED, "sclk_limit_hertz": 2000 * MHZ}, HeldBy.POWER),
        ({**SLOWED, "sclk_limit_hertz": 2900 * MHZ}, None),
        ({**SLOWED, "sclk_limit_hertz": 2000 * MHZ, "temperature_celsius": 93.0}, None),
        ({**SLOWED, "sclk_limit_hertz": 2000 * MHZ, "performance_level": "manual"}, None),
    ],
)
def test_without_counters_only_what_is_sure(values: dict[str, Any], held: HeldBy | None) -> None:
    bench = Bench()
    bench.counters = {}
    assert bench.held(**values) is held


def test_a_verdict_comes_and_goes_when_two_readings_agree() -> None:
    bench = Bench()
    told = []
    for spl in (0, 9, 0, 9, 9, 0, 9, 0, 0):
        bench.move(spl=spl)
        told.append(bench.see(**SLOWED).held_by)
    power = HeldBy.POWER
    assert told == [None, None, None, None, power, power, power, power, None]


def test_no_verdict_lives_across_a_gap() -> None:
    bench = Bench()
    assert bench.held(moving={"spl": 9}, **SLOWED) is HeldBy.POWER
    bench.move(spl=9)
    assert bench.see(slept=600, **SLOWED).held_by is None


def test_each_gpu_has_counters_of_its_own() -> None:
    bench = Bench()
    bench.see()
    bench.move(fppt=5)
    assert bench.see(id="0000:03:00.0").throttle == {}
    assert bench.see().throttle == {"fppt": 2.5}


def judged(values: Iterable[int]) -> list[float | None]:
    fraction = Fraction()
    return [fraction.corrected(value) for value in values]


FLAWED = [(31 + step % 4) * 1_000_000 + 1000 * (13 * step % 100) for step in range(SAMPLES + 1)]


def test_a_fraction_that_never_grows_is_ten_times_too_small() -> None:
    """34 970 mW reads as 34097000 µW."""
    told = judged([*FLAWED[1:], 34_097_000])
    assert told[: SAMPLES - 1] == [None] * (SAMPLES - 1)
    assert told[-1] == pytest.approx(34.97)


def test_one_whole_fraction_says_that_the_kernel_is_sound_for_good() -> None:
    assert set(judged([*FLAWED[1:], 34_100_000, *FLAWED[1:], *FLAWED[1:]])[SAMPLES:]) == {None}


def test_whole_watts_and_a_value_that_stands_still_prove_nothing() -> None:
    assert set(judged(1_000_000 * watts for watts in range(10, 60))) == {None}
    assert set(judged([34_097_000] * 60)) == {None}


def test_a_sound_kernel_at_a_power_that_hardly_moves_is_left_alone() -> None:
    """An idle box: 11.0 W and a little, for a minute. The small fraction is chance."""
    assert set(judged(11_000_000 + 1000 * (7 * step % 90) for step in range(60))) == {None}


def test_the_correction_is_told_where_it_was_made() -> None:
    bench = Bench()
    for raw in FLAWED[1:]:
        told = bench.see(
            hwmon=raw, socket_power_watts=raw / 1e6, provenance={"socket_power_watts": "hwmon x"}
        )
    assert told.socket_power_watts == pytest.approx(FLAWED[-1] // 1_000_000 + FLAWED[-1] % 1_000_000 / 1e5)
    assert told.provenance == {"socket_power_watts": "hwmon x, fraction corrected"}
    told = bench.see(socket_power_watts=34.5, provenance={"socket_power_watts": "gpu_metrics"})
    assert (told.socket_power_watts, told.provenance["socket_power_watts"]) == (34.5, "gpu_metrics")
