"""An office for desks: real servers of one brood, profiles, and one state directory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from binaries import MARK, Brood, Server, binary
from halotui.actions import (
    Ask,
    Check,
    Kind,
    Outcome,
    Progress,
    Proposal,
    Step,
    Verdict,
)
from halotui.hosts.local import LocalHost
from halotui.hosts.local_hands import LocalHands
from halotui.servers.desk import LocalDesk
from halotui.servers.profile import Profile

PATIENCE = 60.0


class Office:
    """One brood, and desks with one state directory."""

    def __init__(self, brood: Brood, models: Path) -> None:
        self.brood = brood
        self.models = models
        self.state = brood.directory / "state"
        self.config_file = brood.directory / "config" / "config.toml"
        self.vulkan = binary(brood.directory / "vulkan")
        self.rocm = binary(brood.directory / "rocm")
        self.profiles: dict[str, Profile] = {}
        self._open: list[LocalDesk] = []

    def desk(self, **more: Any) -> LocalDesk:
        desk = LocalDesk(
            LocalHost(sysfs=self.brood.directory / "sys"),
            LocalHands(),
            **{
                "state": self.state,
                "config_file": self.config_file,
                "profiles": lambda: self.profiles,
                **more,
            },
        )
        self._open.append(desk)
        return desk

    def serve(self, *flags: object, **more: Any) -> Server:
        return self.brood.start(self.vulkan, *flags, **more).wait_ready()

    def profile(self, name: str, **said: Any) -> None:
        """A complete one of the other binary."""
        env = {**said.pop("env", {}), MARK: self.brood.mark}
        known = {
            "binary": str(self.rocm),
            "backend": "",
            "model": str(self.models / "tiny.gguf"),
            "flags": {"t": 1},
        }
        self.profiles[name] = Profile(**{**known, **said}, env=env)

    def only(self) -> int:
        [pid] = self.brood.pids("llama-server")
        return pid

    async def close(self) -> None:
        for desk in self._open:
            await desk.close()


def relaunch(server: Server, patch: Mapping[str, Any] | None = None, **more: Any) -> Ask:
    return Ask(kind=Kind.RELAUNCH, server=server.url, patch=dict(patch or {}), **more)


def failed(proposal: Proposal) -> list[Check]:
    return [check for check in proposal.checks if check.verdict is Verdict.FAIL]


async def done(desk: LocalDesk, proposal: Proposal) -> Outcome:
    """Carried out to its end."""
    assert proposal.possible, proposal.checks
    outcome = None
    async with asyncio.timeout(PATIENCE):
        async for progress in desk.carry_out(proposal.id):
            outcome = progress.outcome
    assert outcome is not None
    return outcome


async def until(news: AsyncIterator[Progress], step: Step) -> Progress:
    async with asyncio.timeout(PATIENCE):
        async for progress in news:
            if progress.step is step:
                return progress
    raise AssertionError(f"it never came to {step}")
