"""The logs of what was launched: the newest are kept, and those that somebody still writes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePath
from stat import S_ISREG

from halotui.hosts import Host

KEPT = 20
_NEVER = ("worker.log",)


def old(host: Host, directory: PurePath, held: Iterable[str], most: int = KEPT) -> list[str]:
    """The oldest logs on a far box beyond ``most``; never one of ``held``. Raises OSError."""
    names = [name for name in host.listdir(str(directory)) if name.endswith(".log")]
    found = {str(directory / name): host.stat(str(directory / name)) for name in names}
    logs = sorted(
        (path for path, about in found.items() if S_ISREG(about.mode)), key=lambda path: -found[path].mtime
    )
    return [path for path in logs[most:] if path not in set(held)]


def prune(directory: Path, held: Iterable[str], most: int = KEPT) -> None:
    """Remove the oldest logs beyond ``most``; never one of ``held`` (paths of open ones). Never raises."""
    with suppress(OSError):
        spare = {*held, *(str(directory / name) for name in _NEVER)}
        logs = [path for path in directory.glob("*.log") if path.is_file() and not path.is_symlink()]
        logs.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in logs[most:]:
            if str(path) not in spare:
                path.unlink(missing_ok=True)
