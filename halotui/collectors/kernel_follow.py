"""The kernel's log, followed: /dev/kmsg where it opens, else ``journalctl -k -f``.

Only what the kernel itself says counts. Whoever may write into /dev/kmsg speaks as another facility, and in
the journal as another transport.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import stat
import time
from collections import deque
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol

from halotui.collectors.kernel_lines import KEYWORDS, WORTH
from halotui.collectors.leash import leash
from halotui.hosts import Host
from halotui.model import SourceState, Unavailable

RECORDS = 256  # of /dev/kmsg in one block: it gives one a read
BLOCK = 64 * 1024
LONGEST_RECORD = 16 * 1024  # more than any kernel's; a smaller buffer gets EINVAL
MOST_WAITING = 2000  # lines of the journal that nobody has taken yet
LINES_A_TURN = 2000  # lines of the journal looked at between two turns of its reader
LINES_AT_ONCE = 200  # ... and without a pause for the rest of us
JOURNALCTL = (  # facility 0: the kernel's own
    "journalctl --dmesg --follow --lines=2000 --no-pager --output=short-unix SYSLOG_FACILITY=0"
)
GROUP = (
    "add yourself to group systemd-journal (or adm): "
    "sudo usermod -aG systemd-journal $USER, then log in again"
)

_KMSG = os.makedev(1, 11)
_RECORD = re.compile(rb"(\d{1,10}),\d+,(\d{1,18}),[^;]*;(.*)")
_FACILITY = 3  # bits of a priority below it
_ENTRY = re.compile(rb"(\d{9,12}\.\d{1,9}) \S+ kernel: (.*)")
_DENIED = re.compile(rb"not seeing messages|insufficient permissions|[Pp]ermission denied|not permitted")
_NONE = re.compile(rb"No journal files were found|not found")


class Line(NamedTuple):
    """One that may be worth something."""

    time: float  # of kmsg: seconds since boot, without those asleep. Of the journal: Unix seconds
    text: str


class KmsgReader:
    """Whatever is new in /dev/kmsg, or in a file of its format, which may be torn, truncated or replaced."""

    def __init__(self, path: Path) -> None:
        """Raises Unavailable."""
        self.caught_up = False  # at the last read
        self._path = path
        self._torn = b""
        self._dropping = False  # inside a line that is far too long
        try:
            self._device = _is_kmsg(path.stat())
            self._fd = _open(path)
        except OSError as error:
            raise _unavailable(path, error) from None

    def read(self) -> list[Line]:
        """What may be worth something in the next block. Raises Unavailable."""
        try:
            block = self._records() if self._device else self._bytes()
        except OSError as error:
            raise _unavailable(self._path, error) from None
        return [line for raw in worth(self._whole(block)) if (line := record(raw)) is not None]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _records(self) -> bytes:
        records: list[bytes] = []
        self.caught_up = False
        while len(records) < RECORDS:
            try:
                records.append(os.read(self._fd, LONGEST_RECORD))
            except BlockingIOError:
                self.caught_up = True
                break
            except BrokenPipeError:
                continue  # overwritten before we came: on from the oldest there is
        return b"".join(records)

    def _bytes(self) -> bytes:
        try:
            block = os.read(self._fd, BLOCK)
        except BlockingIOError:  # a FIFO
            block = b""
        self.caught_up = not block
        if not block:
            self._look_again()
        return block

    def _look_again(self) -> None:
        """At its end: another file may have taken its place, or it may have been cut."""
        there, here = self._path.stat(), os.fstat(self._fd)
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            fd = _open(self._path)
            os.close(self._fd)
            self._fd, self._torn, self._dropping = fd, b"", False
        elif stat.S_ISREG(here.st_mode) and here.st_size < os.lseek(self._fd, 0, os.SEEK_CUR):
            os.lseek(self._fd, 0, os.SEEK_SET)
            self._torn, self._dropping = b"", False

    def _whole(self, block: bytes) -> bytes:
        """Its lines; what is left of the last one waits for the rest."""
        if not block:
            return b""
        head, newline, tail = block.rpartition(b"\n")
        if not newline:
            self._torn += tail
            if len(self._torn) > LONGEST_RECORD:
                self._torn, self._dropping = b"", True
            return b""
        whole = self._torn + head
        self._torn = tail
        if self._dropping:
            self._dropping = False
            whole = whole.partition(b"\n")[2]
        return whole


class Tail(Protocol):
    """``follow`` it in a task, and ``take`` what came."""

    name: str
    heard: bool

    def take(self) -> list[Line]:
        """In Unix seconds, of our clock."""
        ...

    async def follow(self) -> NoReturn: ...


class JournalTail:
    """What ``journalctl`` says of the kernel."""

    name = "journalctl -k"

    def __init__(self, host: Host) -> None:
        self.heard = False  # the journal has something of the kernel
        self._host = host
        self._lines: deque[Line] = deque(maxlen=MOST_WAITING)
        self._newest = 0.0
        self._turn = asyncio.Event()

    def take(self) -> list[Line]:
        lines = list(self._lines)
        self._lines.clear()
        self._turn.set()
        return lines

    async def follow(self) -> NoReturn:
        """For as long as it lasts; then raises Unavailable. A line that was heard before is left out."""
        if self._host.here and self._host.which("journalctl") is None:
            raise Unavailable(SourceState.ABSENT, "there is no journalctl")
        # a clock may have been ahead
        before, looked = min(self._newest, time.time() + self._host.ahead), 0
        # What it complains of comes with the rest: that it may not read is said there alone.
        argv = (*leash(self._host), "sh", "-c", f"exec {JOURNALCTL} 2>&1")
        async with aclosing(self._host.stream(argv)) as lines:
            async for raw in lines:
                self._hear(raw, before)
                looked += 1
                if looked % LINES_A_TURN == 0:  # a flood waits in the pipe
                    self._turn.clear()
                    await self._turn.wait()
                elif looked % LINES_AT_ONCE == 0:
                    await asyncio.sleep(0)
        raise Unavailable(SourceState.FAILED, "journalctl ended")

    def _hear(self, raw: bytes, before: float) -> None:
        entry = _ENTRY.match(raw)
        if entry is None:
            if _DENIED.search(raw):
                raise Unavailable(SourceState.DENIED, "the kernel's log is not ours to read", GROUP)
            if _NONE.search(raw):
                raise Unavailable(SourceState.ABSENT, "there is no journal")
            return
        self.heard = True
        when, said = float(entry[1]), entry[2][:LONGEST_RECORD]
        if when > before and WORTH.search(said):
            self._lines.append(Line(when - self._host.ahead, said.decode("utf-8", "replace")))
        self._newest = max(self._newest, when)


def _is_kmsg(status: os.stat_result) -> bool:
    """Raises OSError: LXC puts its console there, and to read that would take from its user."""
    if stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode):
        return False
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == _KMSG:
        return True
    raise OSError(errno.ENODEV, "it is not the kernel's log")


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def _unavailable(path: Path, error: OSError) -> Unavailable:
    if error.errno in (errno.EPERM, errno.EACCES):
        return Unavailable(SourceState.DENIED, f"{path}: {os.strerror(error.errno)}", GROUP)
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ENODEV):
        return Unavailable(SourceState.ABSENT, f"there is no {path}")
    return Unavailable(SourceState.FAILED, f"{path}: {error.strerror or type(error).__name__}")


def denied(raw: bytes) -> bool:
    """Whether that is a reader's complaint, and no line of the log."""
    return _DENIED.search(raw) is not None and _RECORD.match(raw) is None


def worth(block: bytes) -> list[bytes]:
    """The lines that may be of the table: mostly none."""
    found: list[bytes] = []
    if not any(keyword in block for keyword in KEYWORDS):
        return found
    end = 0
    while (hit := WORTH.search(block, end)) is not None:
        start = block.rfind(b"\n", 0, hit.start()) + 1
        end = block.find(b"\n", hit.end())
        end = len(block) if end < 0 else end
        found.append(block[start:end])
    return found


def record(raw: bytes) -> Line | None:
    """A record of the kernel's own. What follows one, `` SUBSYSTEM=pci`` and its like, is none."""
    found = _RECORD.match(raw)
    if found is None or int(found[1]) >> _FACILITY:
        return None
    return Line(int(found[2]) / 1e6, found[3].decode("utf-8", "replace"))
