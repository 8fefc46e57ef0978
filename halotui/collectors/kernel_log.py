"""GPU trouble of a time that is past, for whoever measured: in the kernel log, and in the words of llama.cpp
and ROCm when it reaches them.

``journalctl -k`` needs the group adm or systemd-journal, ``dmesg`` root on most distributions: a log that may
not be read has no lines, and says that it was denied.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from datetime import datetime

from halotui.collectors import kernel_lines
from halotui.collectors.kernel_lines import Kind, Part, Row
from halotui.hosts.hands import Hands
from halotui.safe import clean

MOST_LINES = 40  # the first ones name the cause, the last ones the end
LINE = 300  # characters
SECONDS = 10.0  # for journalctl on a cold disk
LAST_WORDS_SECONDS = 600.0  # a kernel may go on for so long after the last sample was stored


class Lines(tuple[str, ...]):
    """Lines of the log; ``denied`` tells "none" from "not to be read"."""

    denied: bool

    def __new__(cls, lines: Iterable[str] = (), *, denied: bool = False) -> Lines:
        self = super().__new__(cls, lines)
        self.denied = denied
        return self


_ROWS = (*kernel_lines.ROWS, *kernel_lines.PROGRAM_ROWS)
_STAMP = re.compile(r"\[?(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d+))?([+-]\d\d:?\d\d|Z)?")


def match(line: str) -> Row | None:
    """The row of the table that a line is of."""
    matched = kernel_lines.match(line, _ROWS)
    return matched[0] if matched is not None else None


def trouble(line: str) -> Kind | None:
    """The kind of a line that tells of a fault of the GPU."""
    row = match(line)
    return row.of if row is not None and row.of.part >= Part.FAULT else None


def hang(lines: Iterable[str]) -> Kind | None:
    """The first kind among the lines' that says that the GPU stood still."""
    found = (row.of for line in lines if (row := match(line)))
    return next((kind for kind in found if kind.part is Part.HANG), None)


async def since(hands: Hands, began_time: float, ahead: float = 0.0) -> Lines:
    """What the kernel said of a fault from then on (Unix seconds of our clock); empty where there was none.
    ``ahead``: seconds that the clock of that box is before ours."""
    began_time += ahead
    text, denied = await _told(hands, ("-k", "-o", "short-iso", f"--since=@{began_time:.3f}"))
    if text is None:
        text, denied = await _dmesg(hands, began_time)
    return Lines(_story((text or "").splitlines()), denied=denied)


async def of_its_boot(hands: Hands, began_time: float, seconds: float, ahead: float = 0.0) -> Lines:
    """The same of a boot that ended when something had been running for ``seconds``, however many came after
    it; where the journal is kept across boots."""
    began_time += ahead
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
    kept = [line for line in lines if (row := match(line)) and row.of.part is not Part.NONE]
    if not any(trouble(line) for line in kept):
        return ()
    if len(kept) > MOST_LINES:
        half = MOST_LINES // 2
        kept = [*kept[:half], f"… {len(kept) - 2 * half} more …", *kept[-half:]]
    return _clean(kept)


def _clean(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(clean(line, LINE) for line in lines)
