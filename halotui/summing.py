"""A capture's samples, summed as they come: what its summary says, however they were cut into batches.

Pure. The capture under way feeds it, and so does the store for a run whose owner died.
"""

from __future__ import annotations

from halotui.fields import BY_ID
from halotui.runs import Samples, Summary, Track

BRIDGE_SECONDS = 2.0  # a longer stretch without a value is left out of means and energy
POOLS = frozenset(("gpu.gtt_used_bytes", "gpu.vram_used_bytes", "memory.used_bytes"))  # what must not be late
SOCKET, GFX = "gpu.socket_power_watts", "gpu.gfx_power_watts"
LIMITER = "throttle."  # counters: not tracks


class Sums:
    """The sums of the samples added so far. Of any other grouping of the same rows they are the same."""

    def __init__(self, hertz: float, began_time: float) -> None:
        self._hertz = hertz
        self._began_time = began_time
        self._rows = 0
        self._last = 0.0
        self._values: dict[tuple[str, str], _Values] = {}
        self._counters: dict[tuple[str, str], _Counter] = {}

    def add(self, samples: Samples) -> None:
        """The next rows, in order of time; a NaN is no value."""
        if not samples.seconds:
            return
        self._rows += len(samples.seconds)
        self._last = samples.seconds[-1]
        for column, values in zip(samples.columns, samples.values, strict=True):
            if column[0].startswith(LIMITER):
                self._counters.setdefault(column, _Counter()).add(values)
            else:
                known = self._values.get(column)
                if known is None:
                    known = self._values[column] = _Values(self._hertz)
                known.add(samples.seconds, values)

    def summary(self) -> Summary:
        """Until the last row. ``late`` and the longest gap are those of the pool that was watched worst."""
        pools = [values for (field, _), values in self._values.items() if field in POOLS and values.count]
        late, gap = (
            zip(*(values.lateness(self._last) for values in pools), strict=True) if pools else ((0,), (0.0,))
        )
        throttled: dict[str, int] = {}
        for (field, _), counter in self._counters.items():
            if counter.last is not None:
                label = BY_ID[field].label if field in BY_ID else field.removeprefix(LIMITER)
                throttled[label] = throttled.get(label, 0) + counter.moved
        energy, dark = self._energy(SOCKET)
        return Summary(
            hertz=self._hertz,
            began_time=self._began_time,
            seconds=self._last,
            samples=self._rows,
            late=max(late),
            longest_gap_seconds=max(gap) or None,
            tracks=tuple(values.track(*column) for column, values in self._values.items()),
            energy_joules=energy,
            gfx_energy_joules=self._energy(GFX)[0],
            throttled=throttled,
            notes=(f"energy leaves out {dark:.1f} s without a power reading",) if dark else (),
        )

    def _energy(self, field: str) -> tuple[float | None, float]:
        """Joules over all GPUs, and the most seconds that one of them is silent about.

        The firmware averages power over about a second: what a load drew shows up to a second late.
        """
        parts = [values for (name, _), values in self._values.items() if name == field and values.count]
        if not any(values.covered for values in parts):
            return None, 0.0
        silent = max(self._last - values.covered for values in parts)
        return sum(values.area for values in parts), silent if silent > BRIDGE_SECONDS else 0.0


class _Values:
    """One column."""

    __slots__ = (
        "area",
        "count",
        "covered",
        "first",
        "gap",
        "hertz",
        "last",
        "late",
        "least",
        "peak",
        "seen",
        "when",
    )

    def __init__(self, hertz: float) -> None:
        self.hertz = hertz
        self.count = self.late = 0
        self.first = self.last = self.peak = self.least = self.when = self.seen = 0.0
        self.area = self.covered = 0.0  # ∫ value dt, over so many seconds
        self.gap = 0.0  # the longest between two values

    def add(self, seconds: tuple[float, ...], values: tuple[float, ...]) -> None:
        count, last, seen, peak, least = self.count, self.last, self.seen, self.peak, self.least
        area, covered, gap = self.area, self.covered, self.gap
        tolerable = 1.5 / self.hertz
        for time, value in zip(seconds, values, strict=True):
            if value != value:  # NaN
                continue
            if not count:
                self.first = peak = least = value
                self.when = time
            else:
                passed = time - seen
                if passed > gap:
                    gap = passed
                if passed > tolerable:
                    self.late += round(passed * self.hertz) - 1
                if passed <= BRIDGE_SECONDS:
                    area += (value + last) * passed / 2
                    covered += passed
                if value > peak:
                    peak, self.when = value, time
                elif value < least:
                    least = value
            count += 1
            last, seen = value, time
        self.count, self.last, self.seen, self.peak, self.least = count, last, seen, peak, least
        self.area, self.covered, self.gap = area, covered, gap

    def lateness(self, now: float) -> tuple[int, float]:
        """Values that came late or not at all by ``now``, and the longest wait for one."""
        waiting = now - self.seen
        missing = round(waiting * self.hertz) if waiting > 1.5 / self.hertz else 0
        return self.late + missing, max(self.gap, waiting)

    def track(self, field: str, subject: str) -> Track:
        if not self.count:
            return Track(field=field, subject=subject)
        mean = self.area / self.covered if self.covered else self.last
        return Track(
            field=field,
            subject=subject,
            baseline=self.first,
            peak=self.peak,
            peak_seconds=self.when,
            least=self.least,
            mean=min(self.peak, max(self.least, mean)),
            last=self.last,
            samples=self.count,
        )


class _Counter:
    """A count since boot, of which only the movement says something. A fall: it began anew, at 0."""

    __slots__ = ("last", "moved")

    def __init__(self) -> None:
        self.last: float | None = None
        self.moved = 0

    def add(self, values: tuple[float, ...]) -> None:
        last = self.last
        for value in values:
            if value == last or value != value:
                continue
            if last is not None:
                self.moved += int(value - last if value > last else value)
            last = value
        self.last = last
