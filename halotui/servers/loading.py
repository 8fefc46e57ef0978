"""How far a server has come with its weights."""

from __future__ import annotations

from collections.abc import Callable

from halotui.hosts import Host
from halotui.servers.as_it_was import weights
from halotui.servers.launch import Launch

ALMOST = 0.99  # only its own word makes it whole
PAGE = 4096


class Loading:
    """The part of the weights that has been read, or that the GPU's memory has gained; the larger one.

    With mmap nothing is read but pages become resident; with a GPU the pool grows; without both the reads
    count. Each of them can be short of the truth, none exceeds it by much.
    """

    def __init__(self, host: Host, launch: Launch, pool: Callable[[], int | None]) -> None:
        self._host = host
        self._weights = launch.weights_bytes or weights(host, launch.model)
        self._pool = pool
        self._before = pool()
        self._most = 0.0

    def ratio(self, pid: int) -> float | None:
        """0..1, never falling; None when the size of the weights is unknown."""
        if not self._weights:
            return None
        now = self._pool()
        gained = now - self._before if now is not None and self._before is not None else 0
        come = max(gained, self._read(pid), self._resident(pid))
        self._most = max(self._most, min(ALMOST, come / self._weights))
        return self._most

    def _read(self, pid: int) -> int:
        try:
            lines = self._host.read(self._host.procfs / f"{pid}/io").split()
            return max(int(lines[1]), int(lines[9]))  # rchar, read_bytes
        except (OSError, ValueError, IndexError):
            return 0

    def _resident(self, pid: int) -> int:
        try:
            return int(self._host.read(self._host.procfs / f"{pid}/statm").split()[1]) * PAGE
        except (OSError, ValueError, IndexError):
            return 0
