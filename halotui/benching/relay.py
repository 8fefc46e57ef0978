"""Hands a command's output on, byte for byte, with a line of live status under it.

The command keeps our session, process group, stdin and controlling terminal: Ctrl-C, Ctrl-Z, ``fg`` and a
password prompt are the kernel's business, as without us. Only its stdout and stderr are taken: by a PTY where
ours are a terminal, by a pipe where they are not. The PTY is nobody's controlling terminal, so nothing of the
user's terminal has to be put right again, were we killed. The command then goes on, and what it writes from
there on fails with EIO or SIGPIPE, as under a terminal that was closed.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from halotui.benching import keys
from halotui.benching.modes import Modes, is_foreground
from halotui.benching.under import Under
from halotui.runs import Summary

_CHUNK = 64 * 1024
_GRACE_SECONDS = 0.5  # after the command's end, for what a child of its own still writes
_MOST = 1024 * 1024  # bytes after that: enough for what was under way when the terminal was slow

Take = Callable[[int, bytes], None]  # which of its outputs (1 or 2; 1 where they are one), and what came
Line = Callable[[int], str]  # the status for so many cells


class Relay:
    """Where the output of one command goes. Its thread is the only one that writes there meanwhile.

    ``status``: draw the line, where stderr is a terminal. ``data_to_stderr``: the command's stdout goes to
    our stderr, since ours is kept for the table.
    """

    def __init__(self, status: bool, *, data_to_stderr: bool = False) -> None:
        self.stdin: int | None = None  # as ours
        self.failure = ""  # why its output could not be handed on
        self.torn = False  # the last line on our terminal has no end
        self.now: Callable[[], Summary] | None = None  # of the capture under way, for whoever shows it
        self._wanted = {1: 2 if data_to_stderr else 1, 2: 2}
        self._status = status
        self._log: Path | None = None
        self._sources: list[_Source] = []
        self._ends: dict[int, int] = {}  # the command's stdout and stderr, until it has them
        self._under: Under | None = None
        self._thread: threading.Thread | None = None
        self._wake = -1
        self._ended = threading.Event()
        self._took: Take = lambda which, data: None
        self._poll = select.poll()
        self._keyed: _Source | None = None  # its command reads keys from it

    @classmethod
    def quiet(cls, log_path: Path) -> Relay:
        """Appends stdout and stderr to a file (made with 0600); stdin is empty. For suites."""
        relay = cls(False)
        relay._log = log_path
        return relay

    def open(self) -> tuple[int, int]:
        """What the command gets as stdout and stderr. Raises OSError: the log cannot be written."""
        if self._log is not None:
            self.stdin = os.open(os.devnull, os.O_RDONLY)
            log = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._add(1, log, {1, 2}, owned=True)
            return self._ends[1], self._ends[2]
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        one = self._wanted[1] == self._wanted[2] or (os.isatty(1) and os.isatty(2) and _same(1, 2))
        self._add(1, self._wanted[1], {1, 2} if one else {1})
        if not one:
            self._add(2, self._wanted[2], {2})
        return self._ends[1], self._ends[2]

    def start(self, take: Take, line: Line | None = None) -> None:
        """The command has its ends. ``take`` is called in the relay's thread: it must be quick."""
        self._close_ends()
        self._took = take
        if self._status and line is not None and os.isatty(2):
            encoding, errors = sys.stderr.encoding, sys.stderr.errors or "replace"
            self._under = Under(lambda width: line(width).encode(encoding, errors))
        read, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._run, args=(read,), name="relay", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """The command has ended: hand on what is left, and take the status away. Blocks."""
        self._close_ends()
        if self._thread is not None:
            self._ended.set()
            with suppress(OSError):
                os.write(self._wake, b".")
            self._thread.join()
            os.close(self._wake)
        for source in self._sources:
            source.close()
        self._sources.clear()
        if self.stdin is not None:
            os.close(self.stdin)
            self.stdin = None

    def resized(self) -> bool:
        """Our terminal has another size: the PTY gets it. Whether it was news."""
        news = [source.resize() for source in self._sources]
        return any(news)

    # --- in its thread

    def _add(self, which: int, target: int, ends: set[int], *, owned: bool = False) -> None:
        source, end = _Source.made(which, target, owned)
        self._sources.append(source)
        for number in ends:
            self._ends[number] = end

    def _close_ends(self) -> None:
        for end in set(self._ends.values()):
            os.close(end)
        self._ends.clear()

    def _run(self, wake: int) -> None:
        poll = self._poll
        poll.register(wake, select.POLLIN)
        there = {source.fd: source for source in self._sources}
        for fd in there:
            poll.register(fd, select.POLLIN)
        until, over = float("inf"), 0
        while there:
            late = time.monotonic() >= until
            ready = poll.poll(0 if late else self._patience(until - time.monotonic()))
            if late and (not ready or over > _MOST):
                break
            for fd, _ in ready:
                if fd == wake:
                    poll.unregister(wake)
                    until = time.monotonic() + _GRACE_SECONDS
                elif fd not in there:  # the real terminal
                    if self._keyed is None or not keys.hand_in(fd, self._keyed.fd):
                        self._key(None)
                elif passed := self._hand_on(there[fd]):
                    over += passed if late else 0
                else:
                    poll.unregister(fd)
                    self._key(None)
                    there.pop(fd).close()
            self._draw()
        if self._under is not None:
            self._write(2, self._under.clear())
        for source in there.values():
            source.restore()
        os.close(wake)

    def _patience(self, left: float) -> float | None:
        """Milliseconds to the next thing that is due by itself."""
        waits = [left, *([self._under.due(time.monotonic())] if self._under else [])]
        modes = [1.0 for source in self._sources if source.modes is not None and not source.closed]
        least = min(*waits, *modes, float("inf"))
        return None if least == float("inf") else max(0.0, least) * 1000 + 1

    def _hand_on(self, source: _Source) -> int:
        """One chunk: how many bytes; 0 at the end of it."""
        data = source.read()
        if not data:
            source.restore()
            return 0
        self._follow(source)
        shown = self._under if self._under is not None and source.on_screen else None
        try:
            _write_all(source.target, shown.before(data) if shown else data)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.failure = error.strerror or str(error)
            if self._log is None:  # the command shall see it as it would have: by SIGPIPE or EIO
                return 0
        if source.modes is not None:
            self.torn = not data.endswith(b"\n")
        self._took(source.which, data)
        return len(data)

    def _draw(self) -> None:
        for source in self._sources:
            self._follow(source)
        if self._under is not None and not self._ended.is_set() and is_foreground(2):
            self._write(2, self._under.draw(time.monotonic(), _columns(2)))

    def _follow(self, source: _Source) -> None:
        if source.modes is not None and not source.closed and source.modes.follow():
            self._key(source if source.modes.by_key and keys.awaited(source.pts) else None)

    def _key(self, source: _Source | None) -> None:
        """From now on what is typed goes to the PTY of that source; to the command's stdin: None."""
        before, self._keyed = self._keyed, source
        if before is not None and source is None:
            self._poll.unregister(before.target)
        elif source is not None:
            self._poll.register(source.target, select.POLLIN)

    def _write(self, target: int, data: bytes) -> None:
        if data:
            with suppress(OSError):
                _write_all(target, data)


class _Source:
    """One output of the command: our end of its PTY or pipe, and where it goes."""

    def __init__(self, which: int, fd: int, target: int, modes: Modes | None, owned: bool) -> None:
        self.which = which
        self.fd = fd
        self.target = target
        self.modes = modes
        self.closed = False
        self.pts = ""  # the name of the PTY's other end
        self.on_screen = modes is not None and os.isatty(2) and _same(target, 2)
        self._owned = owned

    @classmethod
    def made(cls, which: int, target: int, owned: bool) -> tuple[_Source, int]:
        """And the command's end of it."""
        if not os.isatty(target):
            fd, end = os.pipe()
            return cls(which, fd, target, None, owned), end
        fd, end = os.openpty()
        source = cls(which, fd, target, Modes(fd, target), owned)
        source.pts = os.ttyname(end)
        source.resize()
        return source, end

    def read(self) -> bytes:
        try:
            return os.read(self.fd, _CHUNK)
        except OSError:  # EIO: the last that held the PTY has closed it
            return b""

    def restore(self) -> None:
        if self.modes is not None:
            self.modes.restore()

    def resize(self) -> bool:
        if self.modes is None or self.closed:
            return False
        with suppress(OSError):
            wanted = fcntl.ioctl(self.target, termios.TIOCGWINSZ, bytes(8))
            if wanted != fcntl.ioctl(self.fd, termios.TIOCGWINSZ, bytes(8)):
                fcntl.ioctl(self.fd, termios.TIOCSWINSZ, wanted)
                return True
        return False

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            os.close(self.fd)
            if self._owned:
                os.close(self.target)


def _same(one: int, other: int) -> bool:
    """Whether two descriptors are one terminal."""
    return os.fstat(one).st_rdev == os.fstat(other).st_rdev


def _columns(fd: int) -> int:
    with suppress(OSError):
        return struct.unpack("4H", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))[1] or 80
    return 80


def _write_all(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:  # somebody made our terminal or pipe non-blocking
            waiting = select.poll()
            waiting.register(fd, select.POLLOUT)
            waiting.poll()
