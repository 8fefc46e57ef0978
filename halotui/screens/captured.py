"""What a capture found: each pool with its peak, energy, limiters and marks; and where it is kept."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import ClassVar

from textual.binding import Binding

from halotui import fields, format
from halotui.runs import Run, Status, Summary, Track
from halotui.screens.popup import BACK, BAD, DIM, GOOD, WARN, Part, Popup, harmless
from halotui.widgets.capture_line import POOLS, clock
from halotui.widgets.rows import fit, right

_NAMES = {
    **POOLS,
    "gpu.socket_power_watts": "package",
    "gpu.gfx_power_watts": "GPU power",
    "gpu.temperature_celsius": "GPU temp",
}
_HEAD = ("baseline", "peak", "Δpeak", "Δ", "at")
_ROOMY = 56  # cells from which all columns fit; below, Δ is left out
_WATT_HOUR = 3600.0  # joules


class Captured(Popup[None]):
    TITLE: ClassVar = "peak"
    BINDINGS: ClassVar = [Binding("y", "copy", "copy"), BACK]

    def __init__(self, run: Run, far: str = "") -> None:
        """``far``: as the user calls the far box that it is of."""
        super().__init__()
        self._run, self._far = run, far

    def on_mount(self) -> None:
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        self.write(sheet(self._run, self.room, self._far))

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(markdown(self._run, self._far))
        self.notify("copied, as Markdown", timeout=2)


def sheet(run: Run, width: int = 100, far: str = "") -> list[Part]:
    """The whole of it, in lines of at most ``width`` cells but for what has no end."""
    return list(_parts(run, width, far))


def markdown(run: Run, far: str = "") -> str:
    """The same to paste: a table, and a line for each of the rest."""
    summary = run.summary
    lines = [f"**{harmless(run.label)}**, {clock(run.seconds or 0)}", ""]
    if summary is not None and summary.tracks:
        lines.append(f"| {' | '.join(('', *_HEAD))} |")
        lines.append(f"|---|{'---:|' * len(_HEAD)}")
        lines += [f"| {' | '.join((_name(track, summary), *_cells(track)))} |" for track in _sorted(summary)]
        lines.append("")
    lines += [f"- {name}: {text}" for name, text in _facts(run, far)]
    lines += [f"- mark {_since(run, mark.time)}: {harmless(mark.label)}" for mark in run.marks]
    return "\n".join(lines) + "\n"


def _parts(run: Run, width: int, far: str) -> Iterator[Part]:
    summary = run.summary
    if run.status is Status.OK:
        yield "✓ ", GOOD
    else:
        yield f"{run.status}  ", BAD
    yield f"{run.label}  ", "bold"
    yield f"{clock(run.seconds or 0)}\n", DIM
    if run.reason:
        yield f"{run.reason}\n", "bold"
    if summary is not None and summary.tracks:
        yield from _table(summary, width)
    yield "\n", ""
    for note in summary.notes if summary is not None else ():
        yield f"! {note}\n", WARN
    for name, text in _facts(run, far):
        yield f"{name:<10}", DIM
        yield f"{text}\n", ""
    for mark in run.marks:
        yield f"✚ {_since(run, mark.time)}  ", DIM
        yield f"{mark.label}\n", ""


def _table(summary: Summary, width: int) -> Iterator[Part]:
    shown = [at for at, name in enumerate(_HEAD) if name != "Δ" or width >= _ROOMY]
    sizes = {at: 9 if _HEAD[at] == "at" else 10 for at in shown}
    yield "\n" + " " * 10 + "".join(right(_HEAD[at], sizes[at]) for at in shown) + "\n", DIM
    for track in _sorted(summary):
        cells = _cells(track)
        yield fit(_name(track, summary), 10), ""
        for at in shown:
            yield right(cells[at], sizes[at]), "bold" if _HEAD[at] == "peak" else ""
        yield "\n", ""


def _sorted(summary: Summary) -> list[Track]:
    """Pools first, in the order of people's tables."""
    order = list(_NAMES)
    known = [track for track in summary.tracks if track.samples]
    return sorted(known, key=lambda t: (order.index(t.field) if t.field in order else len(order), t.subject))


def _name(track: Track, summary: Summary) -> str:
    field = fields.BY_ID.get(track.field)
    name = _NAMES.get(track.field) or (field.label if field is not None else track.field)
    twins = [other.subject for other in summary.tracks if other.field == track.field]
    return name if len(twins) < 2 else f"{name} {twins.index(track.subject) + 1}"


def _cells(track: Track) -> tuple[str, ...]:
    """As ``_HEAD`` has them."""
    at = track.peak_seconds
    return (
        _show(track, track.baseline),
        _show(track, track.peak),
        _signed(track, track.delta_peak),
        _signed(track, track.delta),
        format.DASH if at is None else clock(at),
    )


def _show(track: Track, value: float | None) -> str:
    field = fields.BY_ID.get(track.field)
    if value is None or field is None:
        return format.DASH if value is None else format.digits(value)
    return format.show(field, value)


def _signed(track: Track, value: float | None) -> str:
    if value is None:
        return format.DASH
    return f"{'-' if value < 0 else '+'}{_show(track, abs(value))}" if value else "0"


def _facts(run: Run, far: str) -> Iterator[tuple[str, str]]:
    summary = run.summary
    if summary is not None:
        yield "energy", energy(summary.energy_joules, summary.seconds)
        yield "throttled", _limited(summary.throttled)
        late = f", {summary.late} late" if summary.late else ""
        yield "samples", f"{format.count(summary.samples)} at {summary.hertz:g} Hz{late}"
    there = f" --ssh {shlex.quote(far)}" if far else ""
    yield "stored", f"halotui runs show {run.id}{there}" if run.id else "no: it is gone when this is put away"


def energy(joules: float | None, seconds: float) -> str:
    if joules is None:
        return format.DASH
    mean = f", {format.watts(joules / seconds)} on average" if seconds > 0 else ""
    amount = (
        f"{format.digits(joules / _WATT_HOUR)} Wh" if joules >= _WATT_HOUR else f"{format.digits(joules)} J"
    )
    return amount + mean


def _limited(throttled: dict[str, int]) -> str:
    if not throttled:
        return format.DASH
    moved = [f"{limiter} +{count}" for limiter, count in throttled.items() if count]
    return ", ".join(moved) or "no"


def _since(run: Run, moment: float) -> str:
    return clock(moment - (run.summary.began_time if run.summary is not None else run.started_time))
