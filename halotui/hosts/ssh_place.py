"""Where the sockets of a login lie: a directory that is ours alone, its path short enough for a socket."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PREFIX = "halotui-ssh-"
_LONGEST = 60  # bytes of the directory: ssh adds 20 and more to a socket's name while it makes it, of 108
_TRIES = 5
_PLAIN = re.compile(r"[\w/.+-]+\Z", re.ASCII)  # % ~ $ and : mean something to ssh


class Place:
    """Made with 0700; gone when it is closed, dropped, or when we exit. Killed, the next one removes it."""

    def __init__(self) -> None:
        parent = _parent()
        _sweep(parent)
        self.path, lock = _made(parent)
        self.close = weakref.finalize(self, _remove, self.path, lock)


def _made(parent: str) -> tuple[Path, int]:
    """And its lock. Another halotui may sweep it away before it is locked. Raises OSError."""
    for _ in range(_TRIES):
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        with suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.exists():
                    return path, lock
            os.close(lock)
    raise OSError(f"{parent}: somebody removes what is made there")


def _remove(path: Path, lock: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(lock)


def _parent() -> str:
    for parent in _parents():
        if _PLAIN.match(parent) and len(parent) <= _LONGEST - 24 and os.access(parent, os.W_OK | os.X_OK):
            return parent
    return "/tmp"


def _parents() -> Iterator[str]:
    yield os.environ.get("XDG_RUNTIME_DIR", "")
    yield tempfile.gettempdir()


def _sweep(parent: str) -> None:
    """What was left by those who were killed: nobody holds its lock."""
    for path in Path(parent).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if path.lstat().st_uid != os.geteuid():
                continue
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
