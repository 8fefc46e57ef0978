"""One box as the screen is given it: where its frames come from, and what its keys act on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from halotui.actions import Desk
    from halotui.feed import Feed
    from halotui.model import Link
    from halotui.runs import Past, Recorder

    Silence = Callable[[str, str, float], Awaitable[str | None]]


@dataclass(frozen=True, kw_only=True)
class Station:
    """Each is opened when it is wanted; None: that is not to be had there.

    ``unfinished``: a file that is there while a relaunch has not come to its end. ``link``: how the
    connection to a far box stands; None: it is this one. ``login``: make it again, asking on the terminal.
    """

    open_feed: Callable[[], Awaitable[Feed]]
    name: str = ""  # as the user calls it; the frames tell the box's own
    groups: tuple[str, ...] = ()
    addresses: Callable[[], Sequence[str]] | None = None  # its own, as far as known: whom ``--rpc`` means
    desk: Callable[[], Awaitable[Desk]] | None = None
    unfinished: Path | None = None
    recorder: Callable[[], Awaitable[Recorder]] | None = None
    recorder_trouble: Callable[[], str | None] | None = None
    past: Callable[[], Awaitable[Past]] | None = None
    silence: Silence | None = None
    label: str = ""
    link: Callable[[], Link] | None = None
    login: Callable[[], Awaitable[None]] | None = None
    again: Callable[[], None] | None = None  # try the link now
