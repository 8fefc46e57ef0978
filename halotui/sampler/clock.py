"""Time, injectable: the demo's scenes and the tests turn the hands themselves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    monotonic: Callable[[], float] = time.monotonic  # seconds, for intervals
    wall: Callable[[], float] = time.time  # Unix seconds, for the frame
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    # of real seconds that a read may take, how many it gets: a script has time, whatever the machine does
    allow: Callable[[float], float] = float
