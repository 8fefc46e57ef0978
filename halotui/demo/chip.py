"""The chip: clocks, watts and heat with their inertia, its limits, and the tables that tell of it."""

from __future__ import annotations

import math
import random
import struct
from dataclasses import dataclass, field

NONE, CORES = 0xFFFF, 16


@dataclass(frozen=True)
class Work:
    """Where the chip settles under one kind of work."""

    busy: float  # %
    sclk: float  # MHz
    fclk: float
    uclk: float
    socket: float  # W
    gfx: float


@dataclass(frozen=True)
class Cores:
    """The same of its CPU, which feeds the GPU."""

    cpu: float  # W, all cores
    core: float  # MHz of the fastest one
    threads: float  # at work, of 32


REST = Work(busy=0, sclk=600, fclk=600, uclk=400, socket=11, gfx=0.6)
DECODE = Work(busy=93, sclk=2700, fclk=2000, uclk=1000, socket=74, gfx=36)
PREFILL = Work(busy=98, sclk=2900, fclk=2000, uclk=1000, socket=108, gfx=64)
CPU = {
    REST: Cores(cpu=2.2, core=1700, threads=0.25),
    DECODE: Cores(cpu=9.5, core=4300, threads=1.4),
    PREFILL: Cores(cpu=13.0, core=4650, threads=1.7),
}
SECONDS = {"busy": 0.3, "sclk": 0.3, "fclk": 0.2, "uclk": 0.1, "socket": 1.0, "gfx": 0.8, "heat": 15.0}
SECONDS |= {"cpu": 0.6, "core": 0.2, "threads": 0.5}
REST_CELSIUS = 36.0
CELSIUS_PER_WATT = 0.4
FULL_WATTS = 100.0  # near what the package may take
SLOW_SECONDS = 4.0  # of that, until the slow limit steps in
HELD = 0.25  # how often the firmware then allows less than the highest clock
LIMITERS = {"fppt": 34055.0, "sppt": 11820.0, "thm_gfx": 306735.0}  # since boot: not zero on a healthy box
HOT_CELSIUS, HOT_SECONDS = 99.5, 2.0  # at work, where no fan turns
TOO_HOT = 95.0  # °C, from which the firmware takes clock away
HOT_MHZ = 1700.0


@dataclass
class Chip:
    """The state that has inertia, and the counters of its limiters."""

    seed: int = 0
    hot: bool = False  # no fan turns
    time: float | None = None
    values: dict[str, float] = field(
        default_factory=lambda: {**vars(REST), "heat": REST_CELSIUS, **vars(CPU[REST])}
    )
    limiters: dict[str, float] = field(default_factory=lambda: dict(LIMITERS))
    full: float = 0.0  # seconds at full power, of late

    def step(self, work: Work, time: float) -> dict[str, float]:
        """Move towards where this work leads, for as long as has passed, and add a sensor's noise."""
        heat = REST_CELSIUS + CELSIUS_PER_WATT * (work.socket - REST.socket)
        pace = SECONDS
        if self.hot and work is not REST:
            heat, pace = HOT_CELSIUS, SECONDS | {"heat": HOT_SECONDS}
        goals = {**vars(work), "heat": heat, **vars(CPU[work])}
        passed = 0.0 if self.time is None else max(0.0, time - self.time)
        self.time = time
        for name, goal in goals.items():
            now = self.values[name]
            self.values[name] = goal + (now - goal) * math.exp(-passed / pace[name])
        dice = random.Random(f"{self.seed} {round(time * 10)}")
        swing = 0.015 if work is not REST else 0.005
        noisy = {name: value * (1 + dice.uniform(-swing, swing)) for name, value in self.values.items()}
        limit = self._limit(passed, dice)
        noisy["busy"] = min(99.0, noisy["busy"] + dice.choice((0, 0, 1)))
        noisy["uclk"], noisy["fclk"] = min(PREFILL.uclk, noisy["uclk"]), min(PREFILL.fclk, noisy["fclk"])
        noisy["sclk"] = min(limit, max(REST.sclk, noisy["sclk"]))
        return {**noisy, **self.limiters, "limit": limit}

    def _limit(self, passed: float, dice: random.Random) -> float:
        """MHz that the firmware allows. The power limits step in at full power: first the fast one."""
        if self.values["heat"] > TOO_HOT:
            self.limiters["thm_gfx"] += passed * dice.uniform(80, 120)
            return HOT_MHZ
        if self.values["socket"] < FULL_WATTS:
            self.full = max(0.0, self.full - passed)
            return PREFILL.sclk
        self.full += passed
        self.limiters["fppt"] += passed * dice.uniform(8, 20)
        if self.full < SLOW_SECONDS:
            return PREFILL.sclk
        self.limiters["sppt"] += passed * dice.uniform(2, 9)
        return round(dice.uniform(2780, 2880), -1) if dice.random() < HELD else PREFILL.sclk


def gpu_metrics(values: dict[str, float], time: float) -> bytes:
    """The v3.0 table, 264 bytes; what this chip's driver never fills is all ones, and so is an NPU that is
    switched off with the IOMMU."""
    heat, sclk = round(values["heat"] * 100), round(values["sclk"])
    fclk, uclk = round(values["fclk"]), round(values["uclk"])
    socket, gfx, cpu = (round(values[name] * 1000) for name in ("socket", "gfx", "cpu"))
    at_work = [min(1.0, max(0.0, values["threads"] - core)) for core in range(CORES)]
    base, more = cpu // 40, (cpu - CORES * (cpu // 40)) / (sum(at_work) or 1.0)
    return struct.pack(
        "<HBB2H16HH2H8H16H4H2xQIH2x4I16H3H8H16H2H2x7II4x",
        *(264, 3, 0),
        *(heat, heat - 150, *[0] * CORES, 0),  # temperatures, 0.01 °C: graphics, rest, cores, skin
        *(round(values["busy"]), 0, *[NONE] * 8),  # activity, %: graphics, media, NPU
        *(1 + round(98 * part) for part in at_work),  # and cores
        *(0, 0, NONE, NONE),  # DRAM and NPU traffic
        *(round(time * 1e9) & (1 << 63) - 1, socket, NONE),  # clock, ns; power, mW: socket, NPU
        *(socket, gfx, 0, cpu),  # APU, graphics, a card's, cores
        *(base + int(more * part) for part in at_work),
        *(0, NONE, NONE),  # system; limits
        *(sclk, 1200, 400, NONE, fclk, 400, uclk, NONE),  # clocks, MHz; the fourth and the last: NPU
        *(round(values["core"]) if part > 0.1 else 1200 + 37 * core for core, part in enumerate(at_work)),
        *(5100, round(values["limit"])),  # what the firmware allows now: cores, graphics
        *(0, 0, round(values["fppt"]), round(values["sppt"])),  # limiters: prochot, SPL, fast, slow
        *(0, round(values["thm_gfx"]), 0),  # heat: cores, graphics, rest
        1_000_000,  # averages are over a second
    )


def sclk_table(now: int) -> str:
    """Three rows, of which the middle one is now, or a placeholder that carries no mark."""
    low, high = round(REST.sclk), round(PREFILL.sclk)
    middle = now if low < now < high else 1100
    rows = enumerate((low, middle, high))
    return "".join(f"{row}: {clock}Mhz {'*' if clock == now else ''}\n" for row, clock in rows)


def table(now: int, levels: tuple[int, ...]) -> str:
    """Levels from the highest on; the mark only where the clock is exactly one of them."""
    rows = enumerate(levels)
    return "".join(f"{row}: {level}Mhz {'*' if level == now else ''}\n" for row, level in rows)
