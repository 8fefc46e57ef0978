"""The terminal, lent to an ssh that may ask on it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def lent(ask: bool) -> Iterator[Callable[[int], None]]:
    """Yields what makes a process group the one in front: it may read, and Ctrl-C goes to it alone. In the
    end we are; it goes on behind, where Ctrl-C does not reach it."""
    terminal = _open() if ask else None
    if terminal is None:
        yield lambda group: None
        return
    try:
        yield lambda group: _front(terminal, group)
    finally:
        _front(terminal, os.getpgrp())
        os.close(terminal)


def there_is_one() -> bool:
    """Whether somebody could be asked."""
    terminal = _open()
    if terminal is None:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _open() -> int | None:
    try:
        return os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return None


def _front(terminal: int, group: int) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})  # from behind it would stop us
    try:
        with suppress(OSError):
            os.tcsetpgrp(terminal, group)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
