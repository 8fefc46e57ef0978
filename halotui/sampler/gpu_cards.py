"""The cards of sysfs, read again and again. Here alone is decided when to ask anew who they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

from halotui.collectors import amdgpu_sysfs
from halotui.collectors.amdgpu_sysfs import Card
from halotui.collectors.gpu_reading import Reading
from halotui.hosts import Host
from halotui.model import Unavailable
from halotui.sampler.clock import Clock

EVERY = 9.5  # seconds between looks at which cards there are

_Standing = tuple[tuple[str, bool, int], ...]


class Cards:
    """Looked up now and then; and at once when one is silent or speaks again, wakes or falls asleep, or when
    another number of its files refuses: then it may not be the card that it was."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        # When they were looked up, and how they have stood since. One value: a thread that hung may be late.
        self._known: tuple[float, tuple[Card, ...], _Standing] = -math.inf, (), ()

    def skip(self) -> None:
        self._known = -math.inf, (), ()

    def read(self) -> tuple[Reading, ...]:
        """Raises Unavailable."""
        now = self._clock.monotonic()
        looked_at, cards, stood = self._known
        if now - looked_at < EVERY:
            with suppress(Unavailable):
                found = amdgpu_sysfs.readings(self._host, cards)
                if _standing(found) == stood:
                    return found
        cards = amdgpu_sysfs.cards(self._host)
        found = amdgpu_sysfs.readings(self._host, cards)
        self._known = now, cards, _standing(found)
        return found


def _standing(readings: Sequence[Reading]) -> _Standing:
    return tuple((reading.gpu.id, reading.gpu.asleep, reading.refusals) for reading in readings)
