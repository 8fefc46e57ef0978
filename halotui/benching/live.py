"""The capture in one line, in the form of the shell loops that people used: used, Δ, peak, Δ peak, in MiB."""

from __future__ import annotations

import time

from halotui.benching.tables import GTT, RAM, VRAM, mib, name_of
from halotui.runs import Summary, Track

# The widest that fits is taken; ^ stands for the peak.
_FORMS = (
    "{name} {used} Δ{delta} peak {peak} Δpeak {delta_peak}",
    "{name} {used} Δ{delta} ^{peak} Δ^{delta_peak}",
    "{name} {used} ^{peak} Δ^{delta_peak}",
    "{name} {used} Δ^{delta_peak}",
    "{name} {used}",
)


def line(summary: Summary, width: int, now: float | None = None) -> str:
    """``14:02:33  GTT 7761 Δ6581 peak 7761 Δpeak 6581 | VRAM … | RAM … (MiB)``, at most ``width`` cells."""
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    tracks = [track for field in (GTT, VRAM, RAM) if (track := summary.track(field))]
    for form in _FORMS:
        text = f"{clock}  {' | '.join(_pool(track, form) for track in tracks)} (MiB)"
        if len(text) <= width:
            break
    return text[: max(0, width)]


def _pool(track: Track, form: str) -> str:
    return form.format(
        name=name_of(track.field),
        used=mib(track.last),
        delta=mib(track.delta),
        peak=mib(track.peak),
        delta_peak=mib(track.delta_peak),
    )
