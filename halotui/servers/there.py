"""Small questions to a box about its files. They raise LinkDown alone: a no is never for want of a link."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import PurePath
from stat import S_ISDIR, S_ISREG
from typing import Any, TypeVar

from halotui.hosts import Host, LinkDown, Stat

T = TypeVar("T")


def known(ask: Callable[[], T]) -> T | None:
    """Its answer; None where the box has none."""
    try:
        return ask()
    except LinkDown:
        raise
    except (OSError, ValueError):  # the latter: no path at all
        return None


def stat(host: Host, path: str | PurePath) -> Stat | None:
    return known(lambda: host.stat(str(path)))


def is_directory(host: Host, path: str | PurePath) -> bool:
    found = stat(host, path)
    return found is not None and S_ISDIR(found.mode)


def same(host: Host, one: str, other: str) -> bool:
    """Whether both names lead to one file."""
    first, second = stat(host, one), stat(host, other)
    return first is not None and second is not None and (first.dev, first.ino) == (second.dev, second.ino)


def program(host: Host, name: str, path: str) -> str | None:
    """As ``shutil.which`` finds it by that PATH."""
    tries = [name] if "/" in name else [str(PurePath(place, name)) for place in path.split(":") if place]
    return next((found for found in tries if _runs(host, found)), None)


def _runs(host: Host, path: str) -> bool:
    found = stat(host, path)
    return found is not None and S_ISREG(found.mode) and host.access(path, os.X_OK)


def home(host: Host) -> str:
    """Where our user's ``~`` leads there."""
    return host.environ.get("HOME") or host.user.home


def login(host: Host) -> dict[str, Any]:
    """Of our user there, for ``wish.wish_of``; what names a key is ours here."""
    return {"environ": host.environ, "home": None if host.here else home(host), "keys": os.environ}


def state(host: Host) -> PurePath:
    """Where the logs of what we launch lie on a far box: as halotui there would have it."""
    place = PurePath(host.environ.get("XDG_STATE_HOME") or "")
    return (place if place.is_absolute() else PurePath(home(host), ".local/state")) / "halotui"
