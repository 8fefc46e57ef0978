"""thermal, power-shared, power-mode, level-forced: what holds a clock down, and when that is no fault."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from builders import GPU, Watch, frame, gpu, server
from halotui.model import Finding, Gpu, HeldBy, Platform, ServerState, Severity, System
from halotui.rules.engine import State
from halotui.rules.power import RULES

MHZ = 1_000_000
PLAIN = Platform(power_mode="performance", power_modes=("low-power", "balanced", "performance"))
BALANCED = replace(PLAIN, power_mode="balanced")
# glimmer-burnin: GPU and all cores at once
SHARED = {
    "sclk_hertz": 900 * MHZ,
    "socket_power_watts": 65.0,
    "gfx_power_watts": 2.8,
    "cpu_power_watts": 48.0,
    "held_by": HeldBy.CPU,
}
HOT = {"temperature_celsius": 97.0, "sclk_hertz": 1700 * MHZ, "held_by": HeldBy.HEAT}
LIMITED = {"sclk_hertz": 2310 * MHZ, "socket_power_watts": 54.6, "held_by": HeldBy.POWER}


def chip(**more: Any) -> Gpu:
    """At work, cool, at its top clock."""
    healthy = {
        "name": "Radeon 8060S",
        "integrated": True,
        "busy_percent": 97.0,
        "sclk_hertz": 2900 * MHZ,
        "sclk_top_hertz": 2900 * MHZ,
        "temperature_celsius": 62.0,
        "socket_power_watts": 108.0,
        "gfx_power_watts": 64.0,
        "cpu_power_watts": 13.0,
        "performance_level": "auto",
        "throttle_known": True,
    }
    return gpu(**(healthy | more))


def look(
    watch: Watch,
    time: float = 0,
    *,
    state: ServerState = ServerState.BUSY,
    cpu: float | None = 93.0,
    platform: Platform | None = PLAIN,
    **more: Any,
) -> Finding | None:
    system = System(cpu_busy_percent=cpu)
    now = replace(
        frame(time, gpus=[chip(**more)], servers=[server(state=state)]), system=system, platform=platform
    )
    watch.history.push(now)
    findings = watch.engine.evaluate(now, watch.history).findings
    assert len(findings) <= 1
    return findings[0] if findings else None


def watching(hold: bool = False) -> Watch:
    return Watch(*RULES, hold=hold)


def test_a_chip_at_full_power_is_well() -> None:
    watch = watching()
    assert look(watch, throttle={"fppt": 14.0, "sppt": 6.0}) is None
    assert look(watch, held_by=HeldBy.POWER, sclk_hertz=2700 * MHZ, throttle={"spl": 900.0}) is None
    assert look(watch, throttle={"thm_gfx": 1.0, "prochot": 1.0}) is None  # at its top clock all the same
    assert all(watch.engine.state(rule.id, GPU) == State.OK for rule in RULES)


@pytest.mark.parametrize(
    ("reading", "title", "evidence"),
    [
        (
            HOT,
            "Heat holds the GPU's clock down",
            "97 °C, heat limit engaged, clock 1700 MHz of 2900 MHz, package 108 W",
        ),
        (
            {"temperature_celsius": 91.0},
            "The GPU runs hot",
            "91 °C, clock 2900 MHz of 2900 MHz, package 108 W",
        ),
        (
            {"held_by": HeldBy.PROCHOT, "sclk_hertz": 600 * MHZ, "socket_power_watts": None},
            "The board calls the chip to a halt",
            "62 °C, PROCHOT limit engaged, clock 600 MHz of 2900 MHz",
        ),
        (
            {"temperature_celsius": None, "held_by": HeldBy.HEAT, "sclk_top_hertz": None},
            "Heat holds the GPU's clock down",
            "heat limit engaged, package 108 W",
        ),
    ],
)
def test_thermal(reading: dict[str, Any], title: str, evidence: str) -> None:
    found = look(watching(), **reading)
    assert found is not None and (found.id, found.severity) == ("thermal", Severity.WARNING)
    assert (found.title, found.evidence, found.subject) == (title, evidence, GPU)


@pytest.mark.parametrize("reading", [{"temperature_celsius": 89.9}, {"soc_temperature_celsius": 89.0}])
def test_warm_is_not_hot(reading: dict[str, Any]) -> None:
    assert look(watching(), **reading) is None


def test_heat_is_held_for_a_moment_and_is_over_when_it_has_cooled() -> None:
    watch = watching(hold=True)
    assert look(watch, 0, **HOT) is None and look(watch, 2, **HOT) is None
    assert look(watch, 3, **HOT)
    assert look(watch, 4, temperature_celsius=84.0, throttle={"thm_gfx": 3.0})  # it is still engaged
    assert look(watch, 5, temperature_celsius=86.0)
    assert look(watch, 6, temperature_celsius=84.0) is None
    assert watch.engine.state("thermal", GPU) == State.RESOLVED
    assert look(watch, 7, temperature_celsius=88.0) is None


def test_heat_is_not_known_without_a_thermometer_and_counters() -> None:
    watch = watching()
    assert look(watch, temperature_celsius=None, throttle_known=None) is None
    assert watch.engine.state("thermal", GPU) == State.UNDEFINED
    assert look(watch, temperature_celsius=None, asleep=True) is None
    assert watch.engine.state("thermal", GPU) == State.OK


def test_heat_of_a_driver_that_hangs_is_not_over() -> None:
    watch = watching()
    assert look(watch, 0, **HOT)
    gone = frame(1, servers=[server()])
    watch.history.push(gone)
    assert watch.engine.evaluate(gone, watch.history).findings
    assert watch.engine.state("thermal", GPU) == State.UNDEFINED


def test_shared_power_is_told_as_no_fault() -> None:
    watch = watching(hold=True)
    assert look(watch, 0, **SHARED) is None and look(watch, 9, **SHARED) is None
    found = look(watch, 10, **SHARED)
    assert found is not None and (found.id, found.severity) == ("power-shared", Severity.INFO)
    assert found.evidence == "clock 900 MHz of 2900 MHz, GPU busy 97 %, CPU 48.0 W, GPU 2.8 W, CPU busy 93 %"
    assert "no fault" in found.why
    # it stays until the clear level: 90 % of the clock, 40 % of the CPU
    assert look(watch, 11, **(SHARED | {"sclk_hertz": 2500 * MHZ}), cpu=45.0)
    assert look(watch, 12, **(SHARED | {"sclk_hertz": 2650 * MHZ})) is None


@pytest.mark.parametrize(
    "near",
    [
        {"state": ServerState.IDLE},  # nobody waits for the GPU
        {"cpu": 20.0},
        {"sclk_hertz": 2400 * MHZ},
        {"held_by": None},
        {"held_by": HeldBy.POWER},
        {"busy_percent": 30.0},
        {"name": "AMD GPU 0x1681"},
    ],
)
def test_power_that_is_hardly_shared_is_not_worth_a_word(near: dict[str, Any]) -> None:
    watch = watching()
    assert look(watch, **(SHARED | near)) is None
    assert watch.engine.state("power-shared", GPU) == State.OK


@pytest.mark.parametrize(
    "unknown",
    [
        {"cpu": None},
        {"sclk_hertz": None},
        {"busy_percent": None},
        {"cpu_power_watts": None},
        {"gfx_power_watts": None},
    ],
)
def test_shared_power_is_not_known_without_its_watts(unknown: dict[str, Any]) -> None:
    watch = watching()
    assert look(watch, **(SHARED | unknown)) is None
    assert watch.engine.state("power-shared", GPU) == State.UNDEFINED


def test_a_low_power_mode_is_told_while_its_limit_holds_the_clock() -> None:
    watch = watching(hold=True)
    assert look(watch, 0, platform=BALANCED, **LIMITED) is None
    found = look(watch, 10, platform=BALANCED, **LIMITED)
    assert found is not None and (found.id, found.severity) == ("power-mode", Severity.INFO)
    assert found.evidence == "power mode balanced, clock 2310 MHz of 2900 MHz, package 54.6 W"
    assert "'echo performance | " in found.fix
    assert look(watch, 11, **LIMITED) is None
    assert watch.engine.state("power-mode", GPU) == State.RESOLVED


@pytest.mark.parametrize(
    ("platform", "more"),
    [
        (PLAIN, LIMITED),
        (BALANCED, {}),  # it asks for no more
        (replace(BALANCED, power_modes=("low-power", "balanced")), LIMITED),  # there is no other
        (BALANCED, LIMITED | {"state": ServerState.IDLE}),
    ],
)
def test_a_mode_that_costs_nothing(platform: Platform, more: dict[str, Any]) -> None:
    watch = watching()
    assert look(watch, platform=platform, **more) is None
    assert watch.engine.state("power-mode", GPU) == State.OK


@pytest.mark.parametrize("platform", [None, Platform()])
def test_a_mode_that_is_not_known(platform: Platform | None) -> None:
    watch = watching()
    assert look(watch, platform=platform, **LIMITED) is None
    assert watch.engine.state("power-mode", GPU) == State.UNDEFINED


@pytest.mark.parametrize(
    ("level", "mhz", "severity"),
    [
        ("low", 600, Severity.WARNING),
        ("profile_min_sclk", 600, Severity.WARNING),
        ("manual", 2400, Severity.INFO),  # a cap against heat
        ("manual", 2700, None),
        ("auto", 600, None),
        ("high", 2500, None),
    ],
)
def test_a_forced_level(level: str, mhz: int, severity: Severity | None) -> None:
    watch = watching()
    found = look(watch, performance_level=level, sclk_hertz=mhz * MHZ)
    assert (found.severity if found else None) == severity
    assert look(watch, state=ServerState.IDLE, performance_level=level, sclk_hertz=mhz * MHZ) is None


def test_a_forced_level_is_held_and_clears() -> None:
    watch = watching(hold=True)
    assert look(watch, 0, performance_level="manual", sclk_hertz=2400 * MHZ) is None
    found = look(watch, 5, performance_level="manual", sclk_hertz=2400 * MHZ)
    assert found is not None and found.id == "level-forced"
    assert found.evidence == "performance level manual, clock 2400 MHz of 2900 MHz, 83 % of the top"
    assert look(watch, 6, performance_level="manual", sclk_hertz=2700 * MHZ)
    assert look(watch, 7) is None


def test_a_level_that_is_not_known() -> None:
    watch = watching()
    assert look(watch, performance_level=None, sclk_hertz=600 * MHZ) is None
    assert watch.engine.state("level-forced", GPU) == State.UNDEFINED
