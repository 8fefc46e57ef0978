"""A scripted Recorder, for pictures and keys alone: the real one is tested with real sensors."""

from __future__ import annotations

from msgspec.structs import replace

from halotui.demo.scene import START
from halotui.runs import (
    Capturing,
    Kind,
    Mark,
    ProcessPeak,
    Run,
    Status,
    StoreError,
    Summary,
    Track,
)

GIB = 1024**3
MIB = 1024**2
GPU = "0000:c5:00.0"


def track(field: str, baseline: float, peak: float, at: float, last: float, subject: str = "") -> Track:
    return Track(
        field=field,
        subject=subject,
        baseline=baseline,
        peak=peak,
        peak_seconds=at,
        least=baseline,
        mean=(baseline + peak) / 2,
        last=last,
        samples=1660,
    )


SUMMARY = Summary(
    hertz=20.0,
    began_time=START,
    seconds=83.4,
    samples=1660,
    late=2,
    longest_gap_seconds=0.11,
    tracks=(
        track("memory.used_bytes", 9.1 * GIB, 9.8 * GIB, 62.0, 9.3 * GIB),
        track("memory.swap_used_bytes", 0, 0, 0, 0),
        track("gpu.gtt_used_bytes", 57.1 * GIB, 61.2 * GIB, 41.35, 57.3 * GIB, GPU),
        track("gpu.vram_used_bytes", 455 * MIB, 455 * MIB, 0, 440 * MIB, GPU),
        track("gpu.socket_power_watts", 12.3, 119.8, 44.1, 18.2, GPU),
        track("gpu.temperature_celsius", 41, 72, 80.0, 71, GPU),
        track("gpu.sclk_hertz", 600e6, 2900e6, 12.0, 640e6, GPU),
        Track(field="gpu.mclk_hertz", subject=GPU),  # never read
    ),
    processes=(ProcessPeak(pid=2719, name="llama-server", rss_bytes=2 * GIB, gtt_bytes=60 * GIB),),
    energy_joules=7010.0,
    throttled={"fppt": 0, "spl": 1200, "thm_gfx": 0},
)
MARKS = (Mark(time=START + 12.2, label="mark 1"), Mark(time=START + 61.0, label="long prompt [/b] \x1b[31m"))


class FakeRecorder:
    """``trouble``: what ``start`` says instead; ``stored``: whether there is a place to keep it; ``label``:
    instead of the one that is given, which has the time in it."""

    def __init__(self, trouble: StoreError | None = None, stored: bool = True, label: str = "") -> None:
        self.trouble, self.stored, self._label = trouble, stored, label
        self.labels: list[str] = []
        self.marked: list[Mark] = []
        self.opened = self.closed = 0
        self._now: Capturing | None = None

    async def open(self) -> FakeRecorder:
        self.opened += 1
        return self

    async def start(self, label: str) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.labels.append(self._label or label)
        self._now = Capturing(label=label, summary=SUMMARY, stored=self.stored)

    def now(self) -> Capturing | None:
        return self._now

    def mark(self, label: str, at: float | None = None) -> Mark:
        mark = Mark(time=START + 30.0, label=label)
        self.marked.append(mark)
        if self._now is not None:
            self._now = replace(self._now, marks=(*self._now.marks, mark))
        return mark

    async def stop(self) -> Run:
        assert self._now is not None
        self._now = None
        notes = () if self.stored else ("the store is on a read-only file system",)
        return Run(
            id=12 if self.stored else 0,
            kind=Kind.PEAK,
            status=Status.OK,
            label=self.labels[-1],
            started_time=START,
            seconds=83.4,
            summary=replace(SUMMARY, notes=notes),
            marks=MARKS,
        )

    async def close(self) -> None:
        self.closed += 1
        self._now = None
