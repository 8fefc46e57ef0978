"""What changes a far box, through its SshHost. PLACEHOLDER."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from halotui.hosts.hands import Done, Identity
from halotui.hosts.ssh import SshHost


class SshHands:
    """``hosts.hands.Hands`` over SSH: pid and start are checked in the same command that signals."""

    def __init__(self, host: SshHost) -> None:
        self._host = host

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        seconds: float = 10.0,
    ) -> Done:
        raise NotImplementedError

    async def launch(self, argv: Sequence[str], env: Mapping[str, str], cwd: str, log: Path) -> Identity:
        raise NotImplementedError

    def identify(self, pid: int) -> Identity | None:
        raise NotImplementedError

    def alive(self, who: Identity) -> bool:
        raise NotImplementedError

    def exit_code(self, who: Identity) -> int | None:
        raise NotImplementedError

    def signal(self, who: Identity, number: int) -> bool:
        raise NotImplementedError

    def marked(self, mark: str) -> list[Identity]:
        raise NotImplementedError

    def port_taken(self, host: str, port: int, *, lingering: bool = False) -> bool:
        raise NotImplementedError
