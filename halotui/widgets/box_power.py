"""Each GPU's watts, clocks, temperatures and work, what holds it back, and what told each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from halotui import fields, format
from halotui.model import Gpu, HeldBy
from halotui.widgets.hardware import LIMITERS, held, why_none
from halotui.widgets.rows import Ref, Run, fit, right
from halotui.widgets.sheet import Line, Section, fact, lead, note, source_of, weight, wrapped
from halotui.widgets.view import View

# A group begins a line; of its keys those in the first tuple are shown unknown too.
_GROUPS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("socket_power_watts", "gfx_power_watts"), ("cpu_power_watts", "npu_power_watts")),
    (("sclk_hertz", "sclk_limit_hertz"), ("sclk_top_hertz",)),
    (("mclk_hertz", "fclk_hertz"), ()),
    ((), ("cpu_hertz", "cpu_limit_hertz", "npu_hertz")),
    (("temperature_celsius",), ("soc_temperature_celsius",)),
    (("busy_percent",), ("media_busy_percent", "npu_busy_percent")),
)
_OWN = (("vram_used_bytes", "vram_total_bytes"), ("gtt_used_bytes", "gtt_total_bytes"))  # pools of a card
_NAME, _VALUE = 9, 8  # cells
_CELL = _NAME + _VALUE + 3
_SOURCE = 13  # cells kept for a source
_LABELS = {"vram_total_bytes": "of", "gtt_total_bytes": "of"}  # beside what is used of it
_WHY = {
    HeldBy.POWER: "the package is at its limit",
    HeldBy.HEAT: "a temperature limit",
    HeldBy.PROCHOT: "the board called for a halt",
    HeldBy.CPU: "no fault",
}


def power(view: View, width: int) -> list[Section]:
    """A section a GPU."""
    gpus = view.frame.gpus if view.frame is not None else ()
    if not gpus and view.gpu is not None:
        gpus = (view.gpu,)
    standing = view.standing("gpu")
    if not gpus:
        lines = [note(text) for text in wrapped(f"{format.DASH} {why_none(view)}", width - 2)]
        return [Section("power and clocks", lines, (standing,) if standing is not None else ())]
    out = []
    for gpu in gpus:
        most = Counter(gpu.provenance.values()).most_common(1)
        usual = most[0][0] if most else gpu.source
        said = standing or Run(f"by {usual}, unless said", "dim")
        out.append(Section("power and clocks", _chip(view, gpu, usual, width), (said,)))
    return out


def _chip(view: View, gpu: Gpu, usual: str, width: int) -> list[Line]:
    """``usual``: what told most of it, and is not said again."""
    name = " · ".join(part for part in (gpu.name, gpu.id) if part)
    lines = [Line((lead("GPU"), Run(name, "text")), gpu.source)]
    if gpu.asleep:
        lines.append(note("asleep: to read more would wake it"))
    for always, known in _GROUPS:
        keys = [*(always if not gpu.asleep else ()), *(k for k in known if getattr(gpu, k) is not None)]
        lines += _grid(view, gpu, keys, usual, width)
    if gpu.integrated is False:
        for pool in _OWN:
            lines += _grid(view, gpu, pool, usual, width)
    if gpu.busy_doubtful:
        ref = Ref("gpu.busy_doubtful", gpu.id)
        lines.append(Line((lead(""), Run("100 % is doubtful: nobody works", "warning", ref))))
    if not gpu.asleep and not view.late("gpu") and (gpu.integrated is not False or gpu.throttle_known):
        lines += [_held(gpu), *_limiters(gpu)]
    if gpu.performance_level is not None:
        lines.append(fact(view, gpu, gpu, "performance_level", label="performance"))
    return lines


def _grid(view: View, gpu: Gpu, keys: Sequence[str], usual: str, width: int) -> Iterable[Line]:
    """Labels and values in columns; what told them at the right, where it is another than ``usual``."""
    beside = max(1, (width - _SOURCE) // _CELL)
    for at in range(0, len(keys), beside):
        here = keys[at : at + beside]
        runs: list[Run] = []
        for key in here:
            field = fields.BY_ID[f"gpu.{key}"]
            label = "power" if key == "socket_power_watts" and gpu.integrated is False else field.label
            runs.append(Run(f" {fit(_LABELS.get(key, label), _NAME)} ", "dim"))
            runs += [view.value(gpu, key, _VALUE, weight(field)), Run(" ")]
        told = dict.fromkeys(source_of(gpu, key) for key in here if getattr(gpu, key) is not None)
        said = ", ".join(source for source in told if source not in (usual, ""))
        room = width - len(here) * _CELL - 2
        yield Line(runs[:-1], fit(said, min(len(said), room)))


def _held(gpu: Gpu) -> Line:
    ref = Ref("gpu.held_by", gpu.id)
    told = held(gpu)
    if told is not None and gpu.held_by is not None:
        text, style = told
        shown = [Run(text.removeprefix("held by "), style, ref), Run(f"  {_WHY[gpu.held_by]}", "dim")]
    elif gpu.throttle_known:
        touched = [Run("  limits touched in passing", "dim")] if gpu.throttle else []
        shown = [Run("nothing", "dim", ref), *touched]
    else:
        shown = [Run(format.DASH, "dim", ref), Run("  no residency counters here", "dim")]
    return Line((lead("held by"), *shown))


def _limiters(gpu: Gpu) -> Iterable[Line]:
    """Steps of their counters a second. Power limits come and go each second: their lines stay. The board's
    halt is seldom, and has one only then."""
    ref = Ref("gpu.throttle", gpu.id)
    for group, names in LIMITERS.items() if gpu.throttle_known else ():
        if group is HeldBy.PROCHOT and not gpu.throttle.get(names[0]):
            continue
        runs = [lead(f"{group} limits" if group is not HeldBy.PROCHOT else str(group))]
        for name in names:
            rate = gpu.throttle.get(name, 0.0)
            if len(names) > 1:
                runs.append(Run(fit(fields.BY_ID[f"throttle.{name}"].label, 5), "dim"))
            runs += [Run(right(format.rate(rate), 5), "text" if rate else "dim", ref), Run("  ")]
        yield Line([*runs[:-1], Run(" /s", "dim")])
