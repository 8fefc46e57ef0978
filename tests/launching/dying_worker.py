"""The worker, killed as by ``kill -9`` at one step: ``dying_worker.py STEP[:before|:after] ...``.

``before``: when the step is about to be written down; ``after``: as soon as it is, which is the default.
``sleeps``: it is not killed then but stands still, as on a laptop that is closed.
``launched``: right after a process was started and before anybody knows.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from halotui.hosts.local_hands import LocalHands
from halotui.hosts.ssh_hands import SshHands
from halotui.servers.journal import Book, Journal
from halotui.servers.worker import main

step, _, when = sys.argv[1].partition(":")
launches = {hands: hands.launch for hands in (LocalHands, SshHands)}


def die() -> None:
    os.kill(os.getpid(), signal.SIGSTOP if when == "sleeps" else signal.SIGKILL)


def dying(write: Callable[[Book, Journal], None]) -> Callable[[Book, Journal], None]:
    def wrapped(self: Book, journal: Journal) -> None:
        if journal.step == step and when == "before":
            die()
        write(self, journal)
        if journal.step == step and when != "before":
            die()

    return wrapped


async def dying_launch(self: LocalHands | SshHands, *args: Any, **more: Any) -> Any:
    await launches[type(self)](self, *args, **more)  # type: ignore[arg-type]
    die()


Book.write = dying(Book.write)  # type: ignore[method-assign]
Book.close = dying(Book.close)  # type: ignore[method-assign]
if step == "launched":
    for hands in launches:
        hands.launch = dying_launch  # type: ignore[method-assign]
sys.exit(main(sys.argv[2:]))
