"""Before an item: wait until the GPU is cool, so that no row of a table pays for the one before it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from halotui.collectors import amdgpu_sysfs
from halotui.hosts import Host
from halotui.model import Unavailable

LOOK_SECONDS = 1.0  # between two looks
DEADLINE_SECONDS = 3.0  # of one look: a GPU that resets may never answer

Tell = Callable[[str], None]


async def celsius(host: Host) -> float | None:
    """Of the hottest GPU; None where none tells, or not in time. Its thread is left behind then."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[float | None] = loop.create_future()

    def put(value: float | None) -> None:
        if not answer.done():
            answer.set_result(value)

    def look() -> None:
        try:
            known = [gpu.temperature_celsius for gpu in amdgpu_sysfs.read(host)]
            value = max((one for one in known if one is not None), default=None)
        except (Unavailable, OSError):
            value = None
        if not loop.is_closed():
            loop.call_soon_threadsafe(put, value)

    threading.Thread(target=look, name="temperature", daemon=True).start()
    try:
        return await asyncio.wait_for(answer, DEADLINE_SECONDS)
    except TimeoutError:
        return None


async def cool_down(host: Host, wanted: float | None, longest: float, pause: float, tell: Tell) -> str:
    """Wait ``pause`` seconds, and until it is below ``wanted`` °C, for ``longest`` seconds in all. Returns a
    note where it did not get there; "" when it did, or when no sensor tells."""
    began = time.monotonic()
    if pause > 0:
        tell(f"pause of {pause:g} s")
        await asyncio.sleep(pause)
    if wanted is None:
        return ""
    while (now := await celsius(host)) is not None and now >= wanted:
        left = longest - (time.monotonic() - began)
        if left <= 0:
            return f"began at {now:.0f} °C: it did not cool to {wanted:g} °C in {longest:g} s"
        tell(f"cooling down: {now:.0f} °C, wanted {wanted:g}, {left:.0f} s at most")
        await asyncio.sleep(min(LOOK_SECONDS, left))
    return ""
