"""What in the kernel's log is worth a person's attention: one table, and lines made events by it.

The patterns are unanchored, as the prefix differs from kernel to kernel: ``amdgpu 0000:c5:00.0: amdgpu: X``,
``amdgpu 0000:c5:00.0: X``, ``[drm] X``, ``[drm:amdgpu_job_timedout [amdgpu]] *ERROR* X``.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from msgspec import Struct

from halotui.model import KernelEvent, Severity
from halotui.safe import clean

MOST_EVENTS = 50  # of one feed, the newest
FOLD_SECONDS = 1.0  # lines of one kind within it are one event
NEAR_SECONDS = 2.0  # a line that names the culprit belongs to a fault so long before it
LONGEST = 500  # characters of a line
LONGEST_GROUP = 100


class Part(IntEnum):
    """A line's part in the story of a GPU fault."""

    NONE = 0
    STORY = 1  # it goes with one, though it is none itself
    FAULT = 2
    HANG = 3  # the GPU stood still


class Kind(Struct, frozen=True):
    severity: Severity
    what: str  # in a few words
    part: Part = Part.NONE


class Row(Struct, frozen=True):
    """One form of line. ``words`` are ours, with the pattern's named groups in them."""

    kind: str
    needle: str
    regex: re.Pattern[str]
    words: str
    echo: bool = False  # it says again what another form of its kind says: not counted

    @property
    def of(self) -> Kind:
        return KINDS[self.kind]


INFO, WARNING, CRITICAL = Severity.INFO, Severity.WARNING, Severity.CRITICAL
CULPRIT, RECOVERED = "culprit", "recovered"
KINDS = {
    "memory-pool": Kind(INFO, "memory pools"),
    "gttsize": Kind(WARNING, "gttsize"),
    "gtt-capped": Kind(WARNING, "gttsize"),
    "mes-old": Kind(WARNING, "firmware"),
    "kernel-parameter": Kind(WARNING, "kernel parameter"),
    "mes-failed": Kind(CRITICAL, "MES does not answer", Part.HANG),
    "queue-stuck": Kind(CRITICAL, "a queue is stuck", Part.HANG),
    "ring-timeout": Kind(CRITICAL, "ring time-out", Part.HANG),
    "ring-recovered": Kind(WARNING, "ring time-out", Part.HANG),  # a fault and its end in one line
    "ring-reset-failed": Kind(CRITICAL, "ring time-out", Part.HANG),
    "gpu-reset": Kind(CRITICAL, "GPU reset", Part.HANG),
    "reset-failed": Kind(CRITICAL, "GPU reset", Part.HANG),
    "gpu-resume": Kind(INFO, "GPU reset", Part.STORY),
    "vram-lost": Kind(CRITICAL, "GPU reset", Part.HANG),
    "device-lost": Kind(CRITICAL, "GPU reset", Part.HANG),
    RECOVERED: Kind(INFO, "recovered", Part.STORY),
    "page-fault": Kind(CRITICAL, "page fault", Part.FAULT),
    "smu-failed": Kind(CRITICAL, "SMU does not answer", Part.HANG),
    CULPRIT: Kind(INFO, "culprit", Part.STORY),
    "gpu-dump": Kind(INFO, "dump", Part.STORY),
    "fence-late": Kind(INFO, "dump", Part.STORY),
    "queue-freed": Kind(INFO, "dump", Part.STORY),
    "oom-kill": Kind(CRITICAL, "out of memory"),
    "oom-limit": Kind(CRITICAL, "out of memory"),  # of its unit or container, not of the box
    "overheated": Kind(CRITICAL, "critical temperature"),
    "hardware-error": Kind(WARNING, "hardware error"),
    "npu-error": Kind(WARNING, "NPU error"),
    "suspend": Kind(INFO, "suspend"),
    "resume": Kind(INFO, "resume"),
    # What llama.cpp and the runtimes print: never in the kernel's log.
    "gpu-hang": Kind(CRITICAL, "GPU hang", Part.HANG),
    "memory-fault": Kind(CRITICAL, "memory access fault", Part.FAULT),
}


def _row(kind: str, needle: str, pattern: str, words: str, *, echo: bool = False) -> Row:
    return Row(kind, needle, re.compile(pattern), words, echo)


_RING = r"(?P<ring>(?:gfx|comp|sdma|vcn|jpeg|vpe)\S{0,30})"
_WHO = r"(?P<process>.{0,64}?) pid (?P<pid>\d{1,10})"
_KILLED = r"Kill(?:ed)? process (?P<pid>\d{1,10}) \((?P<process>.{0,64}?)\)(?: |,|$)"

# The first row to match wins.
ROWS = (
    # the start
    _row(
        "memory-pool",
        "memory ready",
        r"(?P<size>\d+)M of (?P<name>VRAM|GTT) memory ready",
        "{name}: {size} MiB ready",
    ),
    _row("memory-pool", "GART: ", r"GART: (?P<size>\d+)M", "GART: {size} MiB"),
    _row(
        "gtt-capped",
        "Capping GTT",
        r"Capping GTT to (?P<size>\d+)M",
        "GTT was asked larger than the RAM: capped to {size} MiB",
    ),
    _row(
        "gttsize",
        "Configuring gttsize",
        r"Configuring gttsize via module parameter is deprecated",
        "amdgpu.gttsize is deprecated: ttm.pages_limit takes its place",
    ),
    _row(
        "gttsize",
        "GTT size has been set",
        r"GTT size has been set as (?P<gtt>\d+) but TTM size has been set as (?P<ttm>\d+)",
        "amdgpu.gttsize ({gtt} bytes) and ttm.pages_limit ({ttm} bytes) differ",
    ),
    _row(
        "mes-old",
        "MES FW version",
        r"MES FW version must be >=",
        "the firmware of the GPU's scheduler is old",
    ),
    _row(
        "kernel-parameter",
        "unknown parameter",
        r"(?:\b(?P<module>\w{1,60}): )?unknown parameter '(?P<name>\w{1,60})' ignored",
        "a module does not know its parameter: {module} {name}",
    ),
    # the scheduler and its queues
    _row(
        "mes-failed",
        "MES failed to respon",
        r"MES failed to respon(?:d to|se) msg=(?P<message>\w{1,40})",
        "the GPU's scheduler does not answer ({message})",
    ),
    _row(
        "mes-failed",
        "unrecoverable state",
        r"MES might be in unrecoverable state, issue a GPU reset",
        "the GPU's scheduler may be lost",
        echo=True,
    ),
    _row(
        "queue-stuck",
        "queue",
        r"failed to (?:remove hardware queue from MES|unmap legacy queue|reset legacy queue)",
        "a queue of the GPU is stuck",
    ),
    _row(
        "queue-stuck",
        "Failed to evict",
        r"Failed to evict (?:queue \d+|process queues|queues of process pid (?P<pid>\d{1,10}))",
        "a queue of the GPU is stuck",
    ),
    _row("queue-stuck", "quiesce KFD", r"Failed to quiesce KFD", "a queue of the GPU is stuck"),
    _row("queue-stuck", "ll queues failed", r"Suspending all queues failed", "a queue of the GPU is stuck"),
    _row("queue-stuck", "qcm fence", r"qcm fence wait loop timeout expired", "a queue of the GPU is stuck"),
    # rings and resets
    _row(
        "ring-recovered",
        "soft recovered",
        rf"ring {_RING} timeout, but soft recovered",
        "ring {ring} timed out, and came back without a reset",
    ),
    _row(
        "ring-timeout",
        " timeout, signaled",
        rf"ring {_RING} timeout, signaled seq=(?P<done>\d+), emitted seq=(?P<sent>\d+)",
        "ring {ring} timed out: job {done} of {sent} done",
    ),
    _row("ring-timeout", " timeout", rf"ring {_RING} timeout", "ring {ring} timed out"),
    _row(
        "ring-reset-failed",
        " reset failed",
        r"Ring (?P<ring>\S{1,40}) reset failed",
        "ring {ring} could not be reset",
    ),
    _row("gpu-reset", "GPU reset begin!", r"GPU reset begin!", "the GPU is reset"),
    _row(
        "reset-failed",
        "GPU reset end",
        r"GPU reset end with ret = (?P<code>-?\d+)",
        "the GPU's reset ended with error {code}",
    ),
    _row("gpu-resume", "trying to resume", r"GPU reset succeeded, trying to resume", "the GPU starts again"),
    _row("vram-lost", "VRAM is lost", r"VRAM is lost due to GPU reset", "what was in VRAM is lost"),
    _row("device-lost", "lost from bus", r"device lost from bus", "the GPU is gone from its bus"),
    _row(RECOVERED, "GPU reset", r"GPU reset(?:\(\d+\))? succeeded", "the GPU was reset and is back"),
    _row(
        RECOVERED,
        " reset succeeded",
        r"Ring (?P<ring>\S{1,40}) reset succeeded",
        "ring {ring} was reset and is back",
    ),
    _row(
        RECOVERED,
        "device wedged, but",
        r"device wedged, but recovered through reset",
        "the GPU is back",
        echo=True,
    ),
    # faults
    _row(
        "page-fault",
        "page fault",
        r"\[(?P<hub>(?:gfx|mm)hub\d*)\] (?:no-)?(?:retry )?page fault "
        rf"\(src_id:\d+ ring:\d+ vmid:(?P<vmid>\d+) pasid:\d+(?:, for process {_WHO}|[,)])",
        "page fault on the GPU ({hub}, vmid {vmid})",
    ),
    _row(
        "page-fault",
        "L2_PROTECTION_FAULT_STATUS",
        r"GCVM_L2_PROTECTION_FAULT_STATUS:(?P<status>0x[0-9A-Fa-f]{1,16})",
        "page fault on the GPU (status {status})",
        echo=True,
    ),
    _row(
        "smu-failed",
        "SMU: I'm not done",
        r"SMU: I'm not done with your previous command",
        "the GPU's power controller does not answer",
    ),
    _row(
        "smu-failed",
        "export SMU metrics",
        r"Failed to export SMU metrics table",
        "the GPU's power controller does not answer",
    ),
    _row(
        CULPRIT,
        " pid ",
        rf"(?:Process information: process|Process|in process) {_WHO} thread",
        "{process} was at work on the GPU",
    ),
    _row(
        "gpu-dump",
        "coredump file",
        r"AMDGPU device coredump file has been created",
        "a dump of the GPU's state was made",
    ),
    _row("gpu-dump", "Dumping IP State", r"Dumping IP State", "the GPU's state is dumped", echo=True),
    _row(
        "fence-late",
        "Fence fallback",
        r"Fence fallback timer expired on ring (?P<ring>\S{1,40})",
        "an interrupt of ring {ring} was late or lost",
    ),
    _row("queue-freed", "vital buffer", r"Freeing queue vital buffer", "a program freed a queue in use"),
    # memory, machine, NPU
    _row(
        "oom-limit",
        "group out of memory",
        rf"Memory cgroup out of memory: {_KILLED}",
        "{process} was killed: its unit or container is out of memory",
    ),
    _row("oom-kill", "Out of memory", rf"Out of memory: {_KILLED}", "{process} was killed: out of memory"),
    _row(
        "oom-limit",
        "oom-kill:constraint=CONSTRAINT_MEMCG",
        r",task=(?P<process>.{0,64}),pid=(?P<pid>\d{1,10}),uid=\d+",
        "{process} was chosen: its unit or container is out of memory",
        echo=True,
    ),
    _row(
        "oom-kill",
        "oom-kill:constraint=",
        r",task=(?P<process>.{0,64}),pid=(?P<pid>\d{1,10}),uid=\d+",
        "{process} was chosen: out of memory",
        echo=True,
    ),
    _row(
        "overheated",
        "ritical temperature reached",
        r"[Cc]ritical temperature reached",
        "the critical temperature was reached",
    ),
    _row(
        "hardware-error",
        "[Hardware Error]",
        r"\[Hardware Error\]",
        "the hardware reported an error (machine check)",
    ),
    _row(
        "npu-error",
        "amdxdna",
        r"amdxdna .{0,80}(?:\*ERROR\* (?P<name>\w{1,60}): (?P<error>.{1,100})"
        r"|failed with error (?P<code>-\d+))",
        "the NPU's driver reports an error: {error}{code}",
    ),
    # sleep
    _row("suspend", "PM: ", r"PM: (?:hibernation: )?(?:suspend|hibernation) entry", "the box goes to sleep"),
    _row("resume", "PM: ", r"PM: (?:hibernation: )?(?:suspend|hibernation) exit", "the box woke up"),
)
# What suites look for in the output of a command beside it.
PROGRAM_ROWS = (
    _row("gpu-hang", "HW Exception", r"HW Exception by GPU node-\d+.*reason\s*:\s*GPU Hang", "the GPU hung"),
    _row(
        "gpu-hang",
        "CS has been cancelled",
        r"The CS has been cancelled because the context is lost",
        "the GPU hung",
    ),
    _row("gpu-hang", "ErrorDeviceLost", r"ErrorDeviceLost", "the GPU was lost"),
    _row(
        "memory-fault",
        "Memory access fault",
        r"Memory access fault by GPU node-\d+",
        "the GPU met a memory fault",
    ),
)
_NEEDLES = {row.needle for row in ROWS}
# One of these stands in every raw line of the table. To ask for them one by one is the quicker way to "none".
KEYWORDS = tuple(
    needle.encode()
    for needle in sorted(_NEEDLES)
    if not any(other in needle for other in _NEEDLES - {needle})
)
WORTH = re.compile(b"|".join(map(re.escape, KEYWORDS)))

# Where the kernel quotes what programs, users and devices call themselves: such a name may imitate any line.
_QUOTES = re.compile(
    r".{1,16}\[\d{1,10}\]: |process '|audit: |usb |input: |hid-|scsi |sd |Bluetooth: |[\w-]{1,12}-fs ?[(:]"
)
_SLOT = re.compile(r"amdgpu ([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]):")
_TELLS_APART = ("ring", "name", "pid", "message")
_AT_WORK = ("ring-timeout", "ring-recovered", "page-fault")  # what a culprit's line follows


def match(line: str, rows: Iterable[Row] = ROWS) -> tuple[Row, re.Match[str]] | None:
    """The row of the table that a line is of."""
    for row in rows:
        if row.needle in line and (found := row.regex.search(line)):
            return row, found
    return None


def slot_of(line: str) -> str | None:
    """The PCI slot of the GPU that a line is about, where it names one."""
    found = _SLOT.search(line)
    return found[1] if found else None


def events(lines: Iterable[tuple[float, str]]) -> tuple[KernelEvent, ...]:
    """Lines, with their Unix seconds and oldest first, as events: the newest ``MOST_EVENTS``.

    Repeats within a second are one, with their number; a line that names the culprit goes to the fault
    before it.
    """
    said: deque[_Said] = deque(maxlen=MOST_EVENTS)
    latest: dict[tuple[str | None, ...], _Said] = {}
    for time, raw in lines:
        line = clean(raw, LONGEST)
        matched = match(line)
        if matched is None or _QUOTES.match(line):
            continue
        row, found = matched
        groups = {name: (text or "")[:LONGEST_GROUP] for name, text in found.groupdict().items()}
        one = _Said(row, groups, line, time)
        if row.kind == CULPRIT and _named(said, one):
            continue
        key = (row.kind, row.words, slot_of(line), *(groups.get(name) or None for name in _TELLS_APART))
        near = _last(said, one)
        if near is not None and row.echo:
            near.adopt(one)
        elif near is not None and near.row.echo and near.pid in (None, one.pid):
            near.become(one)
            latest[key] = near
        elif (before := latest.get(key)) is not None and abs(time - before.time) <= FOLD_SECONDS:
            before.count += 1
        else:
            if row.kind == RECOVERED or (said and said[-1].row.kind == RECOVERED):
                latest.clear()  # before and after a recovery are two stories
            said.append(one)
            if not row.echo:
                latest[key] = one
    return tuple(one.event() for one in said)


@dataclass(slots=True)
class _Said:
    """One event in the making."""

    row: Row
    groups: dict[str, str]
    line: str
    time: float
    count: int = 1

    @property
    def pid(self) -> int | None:
        return int(self.groups.get("pid") or 0) or None  # 0: the kernel did not know

    @property
    def process(self) -> str | None:
        return (self.groups.get("process") or None) if self.pid else None

    def adopt(self, other: _Said) -> None:
        for name in ("process", "pid"):
            if not self.groups.get(name) and other.groups.get(name):
                self.groups[name] = other.groups[name]

    def become(self, other: _Said) -> None:
        """It was the echo that came first."""
        self.row, self.line = other.row, other.line
        self.groups = self.groups | {name: text for name, text in other.groups.items() if text}

    def event(self) -> KernelEvent:
        words = self.row.words.format_map(self.groups | {"process": self.process or "a process"})
        return KernelEvent(
            kind=self.row.kind,
            severity=self.row.of.severity,
            text=f"{words} ({self.count} times)" if self.count > 1 else words,
            detail=self.line,
            time=self.time,
            process=self.process,
            pid=self.pid,
        )


def _last(said: deque[_Said], one: _Said) -> _Said | None:
    """The newest event of the same kind, if that is near."""
    for before in reversed(said):
        if before.row.kind == one.row.kind:
            return before if abs(one.time - before.time) <= FOLD_SECONDS else None
    return None


def _named(said: deque[_Said], culprit: _Said) -> bool:
    """Whether a culprit found its fault, or nobody is named: it is no event of its own then."""
    if culprit.pid is None:
        return True
    for before in reversed(said):
        if before.row.kind in _AT_WORK and abs(culprit.time - before.time) <= NEAR_SECONDS:
            before.adopt(culprit)
            return before.pid == culprit.pid
    return False
