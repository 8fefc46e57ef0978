"""A feed whose frames are recorded on their way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from halotui.history import History
from halotui.model import Cause, Frame
from halotui.recording.scribe import Scribe

if TYPE_CHECKING:
    from halotui.feed import Feed


class RecordedFeed:
    """Another feed, as it is."""

    def __init__(self, feed: Feed, recorder: Scribe) -> None:
        self.feed = feed
        self.recorder = recorder

    @property
    def history(self) -> History:
        return self.feed.history

    @property
    def interval(self) -> float:
        return self.feed.interval

    @interval.setter
    def interval(self, seconds: float) -> None:
        self.feed.interval = seconds

    def why(self, url: str, field: str) -> tuple[Cause, ...]:
        """As ``feed.LiveFeed``; of others nothing is known."""
        asked = getattr(self.feed, "why", None)
        return asked(url, field) if asked is not None else ()

    async def frames(self) -> AsyncIterator[Frame]:
        async for frame in self.feed.frames():
            self.recorder.take(frame)
            yield frame

    async def close(self) -> None:
        """Both at once: neither a disk nor a source that takes its time holds up the other."""
        await asyncio.gather(asyncio.to_thread(self.recorder.close), self.feed.close())
