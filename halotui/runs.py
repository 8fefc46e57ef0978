"""The vocabulary of what was measured: runs, their captures and results, and the box they were made on.

Every struct is frozen; unknown is ``None``. Units as in ``model``. No logic but what a sum or a difference
of the stored numbers is. Nothing in these structs holds a prompt, an API key or another secret: command
lines and environments are masked before they come here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from msgspec import Struct


class Kind(StrEnum):
    """What was measured."""

    COMMAND = "command"  # ``halotui bench -- COMMAND``
    PEAK = "peak"  # what ran already: ``halotui peak``, or ``P`` on the screen
    SUITE = "suite"  # one item of a suite, by llama-bench
    SERVER = "server"  # one item of a suite, by requests to a launched server
    IMPORT = "import"  # results of a llama-bench that ran without halotui
    PROBE = "probe"  # ``halotui probe``: requests to a server that ran already


class Status(StrEnum):
    """How a run stands or ended."""

    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"  # exit code other than 0
    CRASHED = "crashed"  # ended by a signal
    HUNG = "hung"  # GPU hang: by the kernel log, or longer than it may take
    LOST = "lost"  # halotui or the box went down meanwhile: what was sampled is there, the end is not
    INTERRUPTED = "interrupted"  # by the user


ENDS = frozenset(status for status in Status if status is not Status.RUNNING)


class Mark(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A moment that was given a name."""

    time: float  # Unix seconds
    label: str


class Track(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One quantity through one capture. Delta-peak, as the shell loops have it, is peak - baseline."""

    field: str  # its id in ``fields``: gpu.gtt_used_bytes, memory.used_bytes ...
    subject: str = ""  # the GPU's id; empty for the box
    baseline: float | None = None  # the first sample, before anything was started
    peak: float | None = None
    peak_seconds: float | None = None  # of the peak, since the start
    least: float | None = None
    mean: float | None = None  # over time
    last: float | None = None
    samples: int = 0

    @property
    def delta(self) -> float | None:
        """Last - baseline."""
        return None if self.last is None or self.baseline is None else self.last - self.baseline

    @property
    def delta_peak(self) -> float | None:
        return None if self.peak is None or self.baseline is None else self.peak - self.baseline


class ProcessPeak(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one process of the measured tree held at most."""

    pid: int
    name: str
    rss_bytes: int | None = None  # the kernel's own high-water mark where it tells
    gtt_bytes: int | None = None  # by fdinfo, resident
    vram_bytes: int | None = None


class Summary(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A capture in numbers."""

    hertz: float  # asked for
    began_time: float  # Unix seconds
    seconds: float
    samples: int  # taken
    late: int = 0  # samples more than half an interval late, or missing, of the pool that was watched worst
    longest_gap_seconds: float | None = None  # between two samples of that pool
    tracks: tuple[Track, ...] = ()
    processes: tuple[ProcessPeak, ...] = ()
    energy_joules: float | None = None  # of the whole package, ∫ socket power dt
    gfx_energy_joules: float | None = None
    throttled: dict[str, int] = {}  # limiter -> how far its residency moved (unit not documented); 0: not
    notes: tuple[str, ...] = ()  # what could not be read, and why

    def track(self, field: str, subject: str | None = None) -> Track | None:
        """The track of a field; of the first GPU when no subject is given."""
        return next(
            (t for t in self.tracks if t.field == field and subject in (None, t.subject)),
            None,
        )


class Samples(Struct, frozen=True, kw_only=True):
    """Some samples, column by column: about a second of them. A value that is not known is NaN."""

    columns: tuple[tuple[str, str], ...]  # field id, subject; there may be more of them later in a run
    seconds: tuple[float, ...]  # of each sample, since the capture began
    values: tuple[tuple[float, ...], ...]  # one tuple per column, as long as ``seconds``


class Sink(Protocol):
    """Where a capture's samples go while it runs. What ``write`` has taken survives everything."""

    def write(self, samples: Samples) -> None:
        """Returns once they are on the disk. Raises OSError; the capture goes on without."""
        ...

    def mark(self, mark: Mark) -> None: ...


class Result(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One test and its speed: a record of llama-bench, a workload of a server, or what a probe tried."""

    test: str  # pp512, tg128, pp512+tg128, pp512 @ d4096 as llama-bench says it; or chat, code, summarise
    prompt_tokens: int = 0
    generation_tokens: int = 0
    depth_tokens: int = 0
    tokens_per_second: float | None = None  # mean
    spread: float | None = None  # standard deviation
    samples: tuple[float, ...] = ()  # tokens/s of each repeat, where told
    seconds: float | None = None  # of one repeat, mean
    seconds_samples: tuple[float, ...] = ()  # of each repeat, where told
    model: str = ""  # file name of the weights
    model_type: str = ""  # as llama-bench calls it: llama 7B Q4_0
    model_bytes: int | None = None
    parameters: int | None = None
    backend: str = ""  # as llama-bench calls it: CPU, Vulkan, ROCm, HIP
    build: str = ""  # number and commit: b11549 (de3ff81)
    settings: dict[str, str] = {}  # what else tells it from another: n_batch, type_k, flash_attn ...
    prompt_tokens_per_second: float | None = None  # of a workload: prefill and decode apart
    generation_tokens_per_second: float | None = None
    draft_acceptance_ratio: float | None = None
    draft_coverage_ratio: float | None = None
    tested_time: float | None = None  # Unix seconds


class Environment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The box, as far as it can be read without root: every number is labelled with it."""

    host: str = ""
    cpu: str = ""
    gpu: str = ""
    memory_bytes: int | None = None
    gtt_total_bytes: int | None = None
    vram_total_bytes: int | None = None  # the BIOS carve-out
    distribution: str = ""
    kernel: str = ""
    kernel_parameters: tuple[str, ...] = ()  # those that matter here: amd_iommu=off, ttm.pages_limit=…
    firmware: str = ""  # version of the linux-firmware package
    mesa: str = ""
    rocm: str = ""
    power_mode: str = ""  # platform_profile
    performance_level: str = ""  # power_dpm_force_performance_level
    governor: str = ""


class Run(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One measurement, whole."""

    id: int = 0  # of the store; 0: not stored
    kind: Kind
    status: Status = Status.RUNNING
    label: str = ""  # the row of the table: Vulkan + FA
    command: tuple[str, ...] = ()  # masked
    env: dict[str, str] = {}  # what was set for it, masked
    started_time: float = 0.0  # Unix seconds
    seconds: float | None = None
    exit_code: int | None = None  # negative: the signal
    reason: str = ""  # why it is not ok, in one line
    evidence: tuple[str, ...] = ()  # lines of the kernel log or the end of the output, made harmless
    environment: Environment | None = None
    results: tuple[Result, ...] = ()
    summary: Summary | None = None
    marks: tuple[Mark, ...] = ()
    suite: str = ""  # name of the suite it belongs to
    series: str = ""  # id of that suite's course: --resume goes on with one
    item: str = ""  # its key within the suite


class StoreError(Exception):
    """One line that says what is wrong with the store, and one that says what to do. Nothing was lost."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class Store(Protocol):
    """Where runs are kept. Every method may raise :class:`StoreError`; each returns once it is on the disk.

    Blocking, and safe to call from any thread.
    """

    def begin(self, run: Run) -> int:
        """A run that starts now; its id. It is RUNNING, and owned by this process: should that die, the
        next look makes it LOST."""
        ...

    def sink(self, id_: int) -> Sink:
        """For the samples and marks of a run."""
        ...

    def result(self, id_: int, result: Result) -> None:
        """One more."""
        ...

    def finish(self, id_: int, run: Run) -> None:
        """How it ended: status, seconds, exit code, reason, evidence, environment, summary, label. Results
        that were stored already stay, unless at least as many come now."""
        ...

    def add(self, run: Run) -> int:
        """A run that ended elsewhere, whole: an import. Its id."""
        ...

    def run(self, id_: int) -> Run | None: ...

    def runs(
        self,
        *,
        label: str = "",
        kinds: tuple[Kind, ...] = (),
        statuses: tuple[Status, ...] = (),
        suite: str = "",
        series: str = "",
        since: float | None = None,
        until: float | None = None,
        limit: int | None = None,
    ) -> list[Run]:
        """The newest first; ``label`` and ``suite`` are shell patterns. One whose owner has gone is made LOST
        on the way, with a summary of the samples that are there."""
        ...

    def samples(self, id_: int) -> list[Samples]:
        """Its timeline, in order."""
        ...

    def delete(self, ids: tuple[int, ...]) -> int:
        """How many went."""
        ...

    def close(self) -> None: ...


class Capturing(Struct, frozen=True, kw_only=True):
    """A capture under way, for the screen."""

    label: str
    summary: Summary  # until now
    marks: tuple[Mark, ...] = ()
    stored: bool = True  # False: there is no place to keep it, said in ``summary.notes``


class Recorder(Protocol):
    """``P`` and ``m`` on the screen. Raises StoreError where it cannot start."""

    async def start(self, label: str) -> None: ...

    def now(self) -> Capturing | None:
        """None while nothing is captured."""
        ...

    def mark(self, label: str, at: float | None = None) -> Mark:
        """On the capture under way, and on the flight recorder; of now, or of ``at`` (Unix seconds)."""
        ...

    async def stop(self) -> Run: ...

    async def close(self) -> None:
        """A capture under way ends, and is kept."""
        ...


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something on the time axis."""

    time: float  # Unix seconds
    kind: str  # finding | mark | capture | gap
    label: str
    severity: str = ""  # of a finding
    until_time: float | None = None  # when it was over


class Bucket(Struct, frozen=True, array_like=True):
    """A stretch of a field's past: the least, the mean and the most."""

    time: float  # Unix seconds, where it begins
    least: float
    mean: float
    most: float


class Past(Protocol):
    """What was, from minutes to days: recordings and captures behind one question. Blocking."""

    def span(self) -> tuple[float, float] | None:
        """From when to when anything is known; None: nothing is."""
        ...

    def subjects(self, since: float, until: float) -> list[tuple[str, str]]:
        """Subjects (GPU id, "memory", server URL) and the field ids that were seen of each, as pairs."""
        ...

    def series(self, subject: str, field: str, since: float, until: float, buckets: int) -> list[Bucket]:
        """At most so many, in order; a stretch without data is left out."""
        ...

    def events(self, since: float, until: float) -> list[Event]: ...
