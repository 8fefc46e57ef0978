"""A capture under way, on one line: since when, and what each pool held at most."""

from __future__ import annotations

from halotui import format
from halotui.runs import Capturing, Track
from halotui.widgets.rows import Row, Run, fill, spread, width_of

POOLS = {
    "gpu.gtt_used_bytes": "GTT",
    "gpu.vram_used_bytes": "VRAM",
    "memory.used_bytes": "RAM",
    "memory.swap_used_bytes": "swap",
}


def rows(now: Capturing | None, width: int, word: str = "", key: str = "P") -> list[Row]:
    """Peaks and Δpeaks, swap only when some came; ``word``: what goes on while there are no numbers;
    ``key``: what ends it."""
    if now is None:
        return [fill((Run(" ● peak  ", "life"), Run(word, "dim")), width)]
    runs = [Run(" ● peak ", "life"), Run(f"{clock(now.summary.seconds)}  ", "value")]
    if now.marks:
        runs.append(Run(f"✚{len(now.marks)}  ", "value"))
    if not now.stored:
        runs.append(Run("not stored  ", "warning"))
    room = width - sum(width_of(run.text) for run in runs)
    for field, name in POOLS.items():
        track = now.summary.track(field)
        if track is None or (name == "swap" and not track.delta_peak):
            continue
        pool = _pool(name, track)
        room -= sum(width_of(run.text) for run in pool)
        if room < 0:
            break
        runs += pool
    hint = f" {key} ends it "
    last = [Run(hint, "dim")] if room >= width_of(hint) else []
    return [spread(runs, last, width)]


def _pool(name: str, track: Track) -> list[Run]:
    peak = format.DASH if track.peak is None else format.size(track.peak)
    more = f" Δ{plus(track.delta_peak, peak)}" if track.delta_peak else ""
    return [Run(f"{name} ", "dim"), Run(peak, "value"), Run(f"{more}  ", "text")]


def plus(bytes_: float, beside: str) -> str:
    """A difference with its sign; without its unit where that is the same as of what stands beside it."""
    text = f"{'-' if bytes_ < 0 else '+'}{format.size(abs(bytes_))}"
    number, _, unit = text.partition(" ")
    return number if beside.endswith(unit) else text


def clock(seconds: float) -> str:
    """``00:01:23``"""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest:02}"
