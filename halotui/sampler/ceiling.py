"""How near a server comes to what the chip can do, and how fast it loads."""

from __future__ import annotations

from collections.abc import Sequence

from halotui.hosts import Host
from halotui.model import Gpu, Server
from halotui.sampler.clock import Clock


class Ceilings:
    def __init__(self, host: Host, clock: Clock) -> None:
        pass

    async def read(self, servers: Sequence[Server], grace: float) -> None:
        """Read the headers of models that are new, in the background, and what loading servers have read."""

    def of(self, server: Server, gpus: Sequence[Gpu]) -> Server:
        """The same server, with what can be said."""
        return server
