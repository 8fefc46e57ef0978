"""What holds the GPU's clock down: heat, the CPU beside it, the box's power mode, or somebody's setting."""

from __future__ import annotations

from collections.abc import Iterator

from halotui.format import hertz, percent, watts
from halotui.model import Gpu, HeldBy, ServerState, Severity
from halotui.rules import Level, Proof, Rule, Symptom, Undefined, View
from halotui.rules.apu import apus, unseen

_THERMAL, _SHARED, _MODE, _FORCED = "thermal", "power-shared", "power-mode", "level-forced"
_AT_WORK = (ServerState.BUSY, ServerState.WAITING)
_BUSY = 50.0  # %: the GPU is at work
_HEAT = ("thm_core", "thm_gfx", "thm_soc")
_FAST = ("performance", "max-power")  # of the firmware's modes
_LOW_LEVELS = ("low", "manual", "profile_standard", "profile_min_sclk", "profile_min_mclk")
_HALF = 0.5  # of the top clock: below it a forced level costs much


def _thermal(view: View) -> Iterator[Symptom | Undefined]:
    chips = apus(view)
    yield from unseen(view, _THERMAL, chips)
    for gpu in chips:
        told = [one for one in (gpu.temperature_celsius, gpu.soc_temperature_celsius) if one is not None]
        if gpu.asleep:
            continue
        if not told and not gpu.throttle_known:
            yield Undefined(gpu.id)
            continue
        hottest = max(told, default=None)
        limiter, title = _limiter(gpu, view.firing(_THERMAL, gpu.id))
        level = view.levels["clear" if view.firing(_THERMAL, gpu.id) else "warning"]
        if limiter or (hottest is not None and hottest >= level):
            yield Symptom(
                subject=gpu.id,
                title=title,
                evidence=", ".join(_heat(gpu, hottest, limiter)),
                why=_CALLED if limiter == "PROCHOT" else None,
                fix="Check the power supply and its cable first, then fans and dust."
                if limiter == "PROCHOT"
                else None,
            )


_CALLED = (
    "PROCHOT is the board's own call: its voltage converters are too hot, or the power supply is too weak. "
    "The chip falls to its lowest clocks at once."
)


def _limiter(gpu: Gpu, firing: bool) -> tuple[str, str]:
    """Which limit of heat is engaged, empty for none, and what that is called. A counter that moves while
    the clock is not held down by it keeps an alarm up, and raises none."""
    if gpu.held_by is HeldBy.PROCHOT or (firing and gpu.throttle.get("prochot")):
        return "PROCHOT", "The board calls the chip to a halt"
    if gpu.held_by is HeldBy.HEAT or (firing and any(map(gpu.throttle.get, _HEAT))):
        return "heat", "Heat holds the GPU's clock down"
    return "", "The GPU runs hot"


def _heat(gpu: Gpu, hottest: float | None, limiter: str) -> Iterator[str]:
    if hottest is not None:
        yield f"{hottest:.0f} °C"
    if limiter:
        yield f"{limiter} limit engaged"
    yield from _clock(gpu)
    if gpu.socket_power_watts is not None:
        yield f"package {watts(gpu.socket_power_watts)}"


def _clock(gpu: Gpu) -> Iterator[str]:
    """What it is, and what it could be."""
    if gpu.sclk_hertz is not None and gpu.sclk_top_hertz is not None:
        yield f"clock {hertz(gpu.sclk_hertz)} of {hertz(gpu.sclk_top_hertz)}"


def _power_shared(view: View) -> Iterator[Symptom | Undefined]:
    for gpu in _working(view):
        cpu = view.frame.system.cpu_busy_percent if view.frame.system is not None else None
        ratio, cores, gfx = _ratio(gpu), gpu.cpu_power_watts, gpu.gfx_power_watts
        if cpu is None or ratio is None or cores is None or gfx is None or gpu.busy_percent is None:
            yield Undefined(gpu.id)
            continue
        side = "clear" if view.firing(_SHARED, gpu.id) else "low"
        shares = ratio < view.levels[f"{side}_clock"] and cpu >= view.levels[f"{side}_cpu"]
        if shares and gpu.held_by is HeldBy.CPU:
            facts = (
                *_clock(gpu),
                f"GPU busy {gpu.busy_percent:.0f} %",
                f"CPU {watts(cores)}, GPU {watts(gfx)}",
                f"CPU busy {cpu:.0f} %",
            )
            yield Symptom(
                subject=gpu.id, title="The CPU takes the GPU's share of the power", evidence=", ".join(facts)
            )


def _power_mode(view: View) -> Iterator[Symptom | Undefined]:
    for gpu in _working(view):
        platform = view.frame.platform
        if platform is None or platform.power_mode is None or _ratio(gpu) is None:
            yield Undefined(gpu.id)
            continue
        if gpu.held_by is not HeldBy.POWER:
            continue
        faster = next((mode for mode in _FAST if mode in platform.power_modes), None)
        if faster is None or platform.power_mode in _FAST:
            continue
        facts = [f"power mode {platform.power_mode}", *_clock(gpu)]
        if gpu.socket_power_watts is not None:
            facts.append(f"package {watts(gpu.socket_power_watts)}")
        yield Symptom(
            subject=gpu.id,
            title="The power mode holds the GPU's clock down",
            evidence=", ".join(facts),
            fix=f"Run 'echo {faster} | sudo tee /sys/firmware/acpi/platform_profile'; or leave it, where "
            "silence or a battery counts more.",
        )


def _level_forced(view: View) -> Iterator[Symptom | Undefined]:
    for gpu in _working(view):
        ratio = _ratio(gpu)
        if gpu.performance_level is None or ratio is None:
            yield Undefined(gpu.id)
            continue
        limit = view.levels["clear" if view.firing(_FORCED, gpu.id) else "clock"]
        if gpu.performance_level in _LOW_LEVELS and ratio < limit:
            facts = (
                f"performance level {gpu.performance_level}",
                *_clock(gpu),
                f"{percent(ratio)} of the top",
            )
            yield Symptom(
                subject=gpu.id,
                severity=Severity.WARNING if ratio < _HALF else None,
                title=f"The GPU is set to the level '{gpu.performance_level}'",
                evidence=", ".join(facts),
            )


def _working(view: View) -> Iterator[Gpu]:
    """This family's GPUs while they and a server are at work, as far as that is known."""
    if any(server.state in _AT_WORK for server in view.frame.servers):
        for gpu in apus(view):
            if not gpu.asleep and (gpu.busy_percent is None or gpu.busy_percent >= _BUSY):
                yield gpu


def _ratio(gpu: Gpu) -> float | None:
    """The clock, of the highest one."""
    if gpu.sclk_hertz is None or not gpu.sclk_top_hertz:
        return None
    return gpu.sclk_hertz / gpu.sclk_top_hertz


_CLOCKS = ("gpu.sclk_hertz", "gpu.sclk_top_hertz", "gpu.busy_percent", "server.state")

RULES = (
    Rule(
        id=_THERMAL,
        check=_thermal,
        title="Heat holds the GPU's clock down",
        hold_seconds=3,
        clears="no limit of heat is engaged and the chip is below 85 °C",
        levels=(
            Level(name="clear", value=85.0, help="°C below which it is over"),
            Level(name="warning", value=90.0, help="°C that are worth a warning", above="clear"),
        ),
        evidence="[{temperature} °C][, ][{limit} limit engaged][, clock {now} of {top}][, package {watts}]",
        needs=(
            "gpu.held_by",
            "gpu.throttle",
            "gpu.throttle_known",
            "gpu.temperature_celsius",
            "gpu.soc_temperature_celsius",
        ),
        marks=("gpu.temperature_celsius", "gpu.held_by", "gpu.sclk_hertz"),
        freezes=True,
        proof=Proof.DEMO,
        why="The chip is at its limit of temperature, or near it, and lowers its clock to stay there. Boxes "
        "that reached 87 to 91 °C at 120 W have switched themselves off.",
        fix="Free the air's way, clean or raise the fans; else take a lower power mode, which costs a few "
        "percent and keeps the clock steady.",
        reference="https://github.com/ROCm/ROCm/issues/6035",
    ),
    Rule(
        id=_SHARED,
        check=_power_shared,
        title="CPU and GPU share the power of the package",
        severity=Severity.INFO,
        hold_seconds=10,
        clears="the clock is at 90 % of its top again, the CPU is below 40 % busy, or nobody is at work",
        levels=(
            Level(
                name="low_clock", value=0.8, help="share of the top clock below which it is told", most=1.0
            ),
            Level(
                name="clear_clock",
                value=0.9,
                help="share of it from which it is over",
                most=1.0,
                above="low_clock",
            ),
            Level(name="clear_cpu", value=40.0, help="% of all cores below which it is over", most=100.0),
            Level(
                name="low_cpu",
                value=50.0,
                help="% of all cores from which it is told",
                most=100.0,
                above="clear_cpu",
            ),
        ),
        evidence="clock {now} of {top}, GPU busy {busy} %, CPU {watts}, GPU {watts}, CPU busy {busy} %",
        needs=(
            "gpu.held_by",
            "gpu.cpu_power_watts",
            "gpu.gfx_power_watts",
            "system.cpu_busy_percent",
            *_CLOCKS,
        ),
        marks=("gpu.sclk_hertz", "gpu.cpu_power_watts", "gpu.gfx_power_watts", "system.cpu_busy_percent"),
        proof=Proof.RECORDED,
        why="This is no fault. CPU cores and GPU share the package's watts: while the cores take many, the "
        "GPU's clock falls though it is cool. It comes back at once.",
        fix="Nothing has to be done. For full speed, let what keeps the CPU busy wait, or give it fewer "
        "threads.",
    ),
    Rule(
        id=_MODE,
        check=_power_mode,
        title="A power mode holds the GPU's clock down",
        severity=Severity.INFO,
        hold_seconds=10,
        clears="the power limit is not engaged, the mode is performance, or nobody is at work",
        evidence="power mode {mode}[, clock {now} of {top}][, package {watts}]",
        needs=(
            "gpu.held_by",
            "gpu.socket_power_watts",
            "platform.power_mode",
            "platform.power_modes",
            *_CLOCKS,
        ),
        marks=("platform.power_mode", "gpu.socket_power_watts", "gpu.sclk_hertz"),
        why="The firmware gives the package fewer watts in this mode (55, 85 and 120 W are usual steps), and "
        "that limit is engaged.",
        fix="Set the mode performance; or leave it, where silence or a battery counts more.",
    ),
    Rule(
        id=_FORCED,
        check=_level_forced,
        title="A forced level holds the GPU's clock down",
        severity=Severity.INFO,
        hold_seconds=5,
        clears="the clock is at 95 % of its top, or nobody is at work",
        levels=(
            Level(name="clock", value=0.9, help="share of the top clock below which it is told", most=1.0),
            Level(
                name="clear", value=0.95, help="share of it from which it is over", most=1.0, above="clock"
            ),
        ),
        evidence="performance level {level}, clock {now} of {top}, {share} of the top",
        needs=("gpu.performance_level", *_CLOCKS),
        marks=("gpu.performance_level", "gpu.sclk_hertz"),
        why="power_dpm_force_performance_level keeps the clock where somebody set it, at work as well.",
        fix="Run 'echo auto | sudo tee /sys/class/drm/card*/device/power_dpm_force_performance_level'; or "
        "leave it, where it is a cap against heat.",
        reference="https://docs.kernel.org/gpu/amdgpu/thermal.html",
    ),
)
