"""One server over time, of whichever engine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from halotui.collectors.llama_http import LlamaHttp
from halotui.model import Server, ServerProcess, Source

if TYPE_CHECKING:
    from halotui.sampler.log import ChildTap, LogTap


class Tracker(Protocol):
    """``gather`` asks, ``fold`` says what is known now: once a frame each."""

    url: str
    process: ServerProcess | None
    tap: LogTap | ChildTap | None

    async def gather(self, grace: float) -> None:
        """Ask log and server; what takes longer than ``grace`` seconds goes on by itself."""
        ...

    def fold(self) -> Server: ...

    def sources(self) -> Iterable[Source]: ...

    def skip(self) -> None:
        """What it says next does not follow from what it said: no rates between."""
        ...

    def lose_process(self) -> None:
        """It has gone: see at once who answers now, if anybody."""
        ...

    async def reconnect(self, http: LlamaHttp) -> None:
        """It has another key, or another address."""
        ...

    async def close(self) -> None: ...
