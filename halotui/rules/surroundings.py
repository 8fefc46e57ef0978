"""What else slows a box: clocks, power, heat, memory, and who else is at work. For ``causes``."""

from __future__ import annotations

from collections.abc import Callable

from halotui.format import hertz, size, watts
from halotui.ledger import Metric
from halotui.model import Cause, HeldBy, Holder, ServerState
from halotui.rules.falls import Case, Found, Weighed, shared, typical

GIB = 1 << 30
_MODE = {
    HeldBy.POWER: "power-limited",
    HeldBy.HEAT: "heat",
    HeldBy.PROCHOT: "prochot",
    HeldBy.CPU: "cpu-power",
}


def _slower_clock(case: Case) -> Found:
    both = case.fall.both("sclk_hertz")
    if both is None or both[0] >= 0.93 * both[1]:
        return
    text = f"The GPU clock is lower: {hertz(both[0])}, usually {hertz(both[1])}"
    proof = "Watch sclk in view 7 while a request runs, with nothing else at work."
    if case.fall.key.metric is Metric.PREFILL:
        share = case.fall.share(both[0] / both[1])
        yield from shared(share, Cause(id="lower-clock", text=f"{text}.", proof=proof, share=share))
    else:
        told = f"{text}; decode waits for memory more than for the clock."
        yield Weighed(0.25, Cause(id="lower-clock", text=told, proof=proof))


def _held_back(case: Case) -> Found:
    """By the package's limits, the heat, the board, or the CPU's share of the watts."""
    gpu, now = case.gpu, case.fall.now
    held = now.held_by or (gpu.held_by if gpu is not None else None)
    usually = typical([one.conditions for one in case.fall.usual.observations]).held_by
    power, heat = case.fall.both("cpu_power_watts"), case.fall.both("temperature_celsius")
    hotter = heat is not None and heat[0] >= 80 and heat[0] - heat[1] >= 8
    cpu_takes = power is not None and power[0] >= 1.3 * power[1] and power[0] - power[1] >= 8
    if held is not None and held != usually:
        cause = _held(HeldBy(held), case, power, heat)
        yield Weighed(0.65, cause)
        hotter, cpu_takes = hotter and cause.id != "heat", cpu_takes and cause.id != "cpu-power"
    if hotter:
        yield Weighed(0.3, _held(HeldBy.HEAT, case, power, heat))
    if cpu_takes:
        yield Weighed(0.35, _held(HeldBy.CPU, case, power, heat))


_Both = tuple[float, float] | None


def _held(by: HeldBy, case: Case, power: _Both, heat: _Both) -> Cause:
    gpu, now = case.gpu, case.fall.now
    limiters = ", ".join(sorted(gpu.throttle)) if gpu is not None else ""
    engaged = f" (engaged: {limiters})" if limiters else ""
    if by is HeldBy.CPU:
        socket = f" of the package's {watts(now.socket_power_watts)}" if now.socket_power_watts else ""
        text = f"The CPU takes {watts(power[0])}{socket}, usually {watts(power[1])}" if power else ""
        proof = "Stop what keeps the CPU busy (top) and look again."
        return Cause(id=_MODE[by], text=f"{text or 'The CPU takes watts that the GPU wants'}.", proof=proof)
    if by is HeldBy.HEAT:
        degrees = f": {heat[0]:.0f} °C, usually {heat[1]:.0f} °C" if heat else ""
        text, proof = f"The chip is hotter{degrees}{engaged}.", "Let it cool for ten minutes and look again."
    elif by is HeldBy.POWER:
        at = f" at {watts(now.socket_power_watts)}" if now.socket_power_watts else ""
        text = f"The package's power limit holds the GPU back{at}{engaged}."
        proof = "Choose a higher power mode and look again."
    else:
        text, proof = f"The board calls for a halt (PROCHOT){engaged}.", "Try another power supply."
    return Cause(id=_MODE[by], text=text, proof=proof)


def _busy_cpu(case: Case) -> Found:
    both = case.fall.both("cpu_busy_percent")
    if both and both[0] - both[1] >= 25:
        text = f"The CPU is busier: {both[0]:.0f} %, usually {both[1]:.0f} %."
        weight = 0.5 if case.server.backend == "cpu" else 0.2
        yield Weighed(
            weight, Cause(id="cpu-busy", text=text, proof="Stop what keeps it busy (top) and look again.")
        )


# --- memory, and who else is there


def _memory(case: Case) -> Found:
    both = case.fall.both("available_bytes")
    if both and both[0] < min(0.5 * both[1], 6 * GIB):
        text = f"Memory is short: {size(both[0])} available, usually {size(both[1])}."
        yield Weighed(
            0.4, Cause(id="memory", text=text, proof="Free some and look again: view 7 shows who holds it.")
        )
        return
    system = case.view.frame.system
    pressed = system.memory_pressure_percent if system is not None else None
    if pressed is not None and pressed >= 10:
        text = f"Tasks waited for memory in {pressed:.0f} % of the last 10 s."
        yield Weighed(
            0.5, Cause(id="memory", text=text, proof="Free some and look again: view 7 shows who holds it.")
        )


def _swap(case: Case) -> Found:
    both = case.fall.both("swap_bytes_per_second")
    if both and both[0] >= max(1 << 20, 4 * both[1]):
        text = f"The box swaps: {size(both[0])}/s go out, usually {size(both[1])}/s."
        yield Weighed(0.7, Cause(id="swap", text=text, proof="Free memory, or swapoff -a, and look again."))


def _others(case: Case) -> Found:
    """Somebody else on the GPU: at work, or with more of its memory than usual."""
    both = case.fall.both("others_bytes")
    grown = both[0] - both[1] if both else 0.0
    others = [one for one in case.view.frame.holders if one.pid != case.server.pid]
    at_work = max(others, key=lambda one: one.gpu_percent or 0.0, default=None)
    if at_work is not None and (at_work.gpu_percent or 0.0) >= 15:
        text = f"{_who(at_work)} works on the GPU: {at_work.gpu_percent:.0f} %."
        yield Weighed(0.6 if grown > 0 else 0.45, _other(text, at_work))
    elif both and grown >= GIB / 2:
        largest = max(others, key=_held_bytes, default=None)
        who = f", {_who(largest)} the most" if largest is not None and _held_bytes(largest) else ""
        text = f"Others hold more of the GPU's memory: {size(both[0])}, usually {size(both[1])}{who}."
        yield Weighed(0.35, _other(text, largest))
    beside = [s for s in case.view.frame.servers if s.url != case.server.url and s.state is ServerState.BUSY]
    if beside:
        text = f"Another server is at work: {beside[0].url}."
        yield Weighed(0.3, Cause(id="other-server", text=text, proof="Look again when it is idle."))


def _other(text: str, one: Holder | None) -> Cause:
    proof = f"Stop {_who(one)} and look again." if one is not None else "Look again when they are gone."
    return Cause(id="other-process", text=text, proof=proof)


def _who(one: Holder) -> str:
    return f"{one.name} (PID {one.pid})"


def _held_bytes(one: Holder) -> int:
    return (one.gtt_bytes or 0) + (one.vram_bytes or 0)


LOOKS: tuple[Callable[[Case], Found], ...] = (
    *(_slower_clock, _held_back, _busy_cpu),
    *(_memory, _swap, _others),
)
