"""GPU trouble in the kernel log, and in the words of llama.cpp and ROCm when it reaches them.

``journalctl -k`` needs the group adm or systemd-journal, ``dmesg`` root on most distributions: a log that may
not be read has no lines, and says that it was denied.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from halotui.hosts.hands import Hands
from halotui.safe import clean

MOST_LINES = 40  # the first ones name the cause, the last ones the end
LINE = 300  # characters
SECONDS = 10.0  # for journalctl on a cold disk
LAST_WORDS_SECONDS = 600.0  # a kernel may go on for so long after the last sample was stored


class Level(StrEnum):
    INFO = "info"  # a fact, or what goes with a fault: who was at it, what is dumped
    WARNING = "warning"  # of the set-up: not of this moment
    CRITICAL = "critical"
    OK = "ok"  # it came back


class Pattern(Struct, frozen=True):
    """One kind of line. Unanchored: the prefix differs from kernel to kernel."""

    what: str  # in a few words
    level: Level
    regex: re.Pattern[str]
    fault: bool = False  # it belongs to the story of a fault, though it is none itself
    hang: bool = False  # the GPU stood still


class Lines(tuple[str, ...]):
    """Lines of the log; ``denied`` tells "none" from "not to be read"."""

    denied: bool

    def __new__(cls, lines: Iterable[str] = (), *, denied: bool = False) -> Lines:
        self = super().__new__(cls, lines)
        self.denied = denied
        return self


def _row(level: Level, what: str, *forms: str, fault: bool = False, hang: bool = False) -> Pattern:
    return Pattern(what, level, re.compile("|".join(forms)), fault or level in (_CRIT, _OK), hang)


_INFO, _WARN, _CRIT, _OK = Level.INFO, Level.WARNING, Level.CRITICAL, Level.OK
PATTERNS = (
    _row(_INFO, "memory pools", r"\d+M of (?:VRAM|GTT) memory ready", r"GART: \d+M", r"Capping GTT to \d+M"),
    _row(
        _WARN,
        "gttsize",
        r"Configuring gttsize via module parameter is deprecated",
        r"GTT size has been set as \d+ but TTM size has been set as \d+",
    ),
    _row(_WARN, "firmware", r"MES FW version must be >="),
    _row(_WARN, "kernel parameter", r"unknown parameter '\w+' ignored"),
    _row(
        _CRIT,
        "MES does not answer",
        r"MES failed to respon(?:d to|se) msg=\w+",
        r"MES might be in unrecoverable state, issue a GPU reset",
        hang=True,
    ),
    _row(
        _CRIT,
        "a queue is stuck",
        r"failed to (?:remove hardware queue from MES|unmap legacy queue|reset legacy queue)",
        r"Failed to evict (?:queue \d+|process queues)",
        r"Failed to quiesce KFD",
        r"Suspending all queues failed",
        hang=True,
    ),
    _row(
        _CRIT,
        "GPU reset",
        r"GPU reset begin!",
        r"GPU reset end with ret = -?\d+",
        r"VRAM is lost due to GPU reset",
        r"device lost from bus",
        hang=True,
    ),
    _row(
        _OK,
        "recovered",
        r"GPU reset(?:\(\d+\))? succeeded",
        r"Ring \S+ reset succeeded",
        r"device wedged, but recovered through reset",
    ),
    _row(
        _CRIT,
        "ring time-out",
        r"ring (?:gfx|comp|sdma|vcn)\S* timeout",
        r"Ring \S+ reset failed",
        hang=True,
    ),
    _row(
        _CRIT,
        "page fault",
        r"\[(?:gfx|mm)hub\d*\] (?:no-retry )?page fault \(src_id:\d+ ring:\d+ vmid:\d+ pasid:\d+\)",
        r"GCVM_L2_PROTECTION_FAULT_STATUS:0x[0-9A-Fa-f]+",
    ),
    _row(
        _CRIT,
        "SMU does not answer",
        r"SMU: I'm not done with your previous command",
        r"Failed to export SMU metrics table",
        hang=True,
    ),
    # The user's side: what llama.cpp and the runtimes print.
    _row(
        _CRIT,
        "GPU hang",
        r"HW Exception by GPU node-\d+.*reason\s*:\s*GPU Hang",
        r"The CS has been cancelled because the context is lost",
        r"ErrorDeviceLost",
        hang=True,
    ),
    _row(_CRIT, "memory access fault", r"Memory access fault by GPU node-\d+"),
    _row(_INFO, "culprit", r"(?:Process|in process) \S+ pid \d+ thread", fault=True),
    _row(
        _INFO,
        "dump",
        r"Dumping IP State",
        r"AMDGPU device coredump file has been created",
        r"Fence fallback timer expired on ring",
        r"Freeing queue vital buffer",
        fault=True,
    ),
)
_ANY = re.compile("|".join(f"(?:{pattern.regex.pattern})" for pattern in PATTERNS if pattern.fault))
_STAMP = re.compile(r"\[?(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d+))?([+-]\d\d:?\d\d|Z)?")


def match(line: str) -> Pattern | None:
    """The row of the table that a line is of."""
    return next((pattern for pattern in PATTERNS if pattern.regex.search(line)), None)


def trouble(line: str) -> Pattern | None:
    """The row of a line that tells of a fault of the GPU."""
    pattern = match(line)
    return pattern if pattern is not None and pattern.level is Level.CRITICAL else None


def hang(lines: Iterable[str]) -> Pattern | None:
    """The first row among the lines' that says that the GPU stood still."""
    return next((found for line in lines if (found := trouble(line)) and found.hang), None)


async def since(hands: Hands, began_time: float) -> Lines:
    """What the kernel said of a fault from then on (Unix seconds); empty where there was none."""
    text, denied = await _told(hands, ("-k", "-o", "short-iso", f"--since=@{began_time:.3f}"))
    if text is None:
        text, denied = await _dmesg(hands, began_time)
    return Lines(_story((text or "").splitlines()), denied=denied)


async def of_its_boot(hands: Hands, began_time: float, seconds: float) -> Lines:
    """The same of a boot that ended when something had been running for ``seconds``, however many came after
    it; where the journal is kept across boots."""
    until = began_time + seconds + LAST_WORDS_SECONDS
    when = (f"--since=@{began_time:.3f}", f"--until=@{until:.3f}")
    # -k would mean this boot alone
    text, denied = await _told(hands, ("_TRANSPORT=kernel", "-o", "short-iso", *when))
    return Lines(_story((text or "").splitlines()), denied=denied)


async def _told(hands: Hands, words: Sequence[str]) -> tuple[str | None, bool]:
    """What journalctl prints; None: there is no journal to be read. And whether it was denied."""
    try:
        done = await hands.run(("journalctl", "--no-pager", "--quiet", *words), seconds=SECONDS)
    except (OSError, TimeoutError):
        return None, False
    said = (done.err + done.out[:1000]).lower()
    denied = "permission" in said or "not seeing messages" in said
    if done.code or denied or "no journal files" in said:
        return None, denied
    return done.out, False


async def _dmesg(hands: Hands, began_time: float) -> tuple[str | None, bool]:
    try:
        done = await hands.run(("dmesg", "--time-format", "iso"), seconds=SECONDS)
    except (OSError, TimeoutError):
        return None, False
    if done.code:
        return None, "permitted" in done.err.lower() or "permission" in done.err.lower()
    return "\n".join(line for line in done.out.splitlines() if _not_before(line, began_time)), False


def _not_before(line: str, began_time: float) -> bool:
    """A line without a time of its own goes with the one before it: kept."""
    found = _STAMP.match(line)
    if found is None:
        return True
    when = found[1] + (f".{found[2][:6].ljust(6, '0')}" if found[2] else "")
    try:
        then = datetime.fromisoformat(when + (found[3] or time.strftime("%z")))
    except ValueError:
        return True
    return then.timestamp() >= began_time - 1  # its clock is the kernel's, which drifts a little


def _story(lines: Sequence[str]) -> tuple[str, ...]:
    """What belongs to a fault, without the rest of the log; nothing where no line tells of one."""
    kept = [line for line in lines if _ANY.search(line)]
    if not any(trouble(line) for line in kept):
        return ()
    if len(kept) > MOST_LINES:
        half = MOST_LINES // 2
        kept = [*kept[:half], f"… {len(kept) - 2 * half} more …", *kept[-half:]]
    return _clean(kept)


def _clean(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(clean(line, LINE) for line in lines)
