"""A hand on the keyboard of an app under test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.pilot import Pilot

from halotui.app import HalotuiApp


class Fingers:
    """``until`` waits for up to three seconds of pauses."""

    def __init__(self, app: HalotuiApp, pilot: Pilot[int]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def said(self) -> str:
        """The toasts."""
        return "\n".join(note.message for note in self.app._notifications)

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
            await self.pilot.pause()

    async def until(self, wanted: Callable[[], Any]) -> Any:
        for _ in range(300):
            if found := wanted():
                return found
            await self.pilot.pause(0.01)
        raise AssertionError(f"never came; on {self.app.screen}: {self.said}\n{self.app.canvas.text()}")
