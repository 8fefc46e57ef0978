"""Which boxes a command line means, and the way to each: this one, or a far one over SSH."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halotui.exits import UsageError

if TYPE_CHECKING:
    from halotui.config import Settings
    from halotui.hosts import Host
    from halotui.hosts.hands import Hands

Said = Mapping[str, Any]
HERE = "."  # --ssh . is this box, beside far ones
FOLDER = "hosts"  # in the state directory: what is remembered of each far box


@dataclass(frozen=True, kw_only=True)
class Place:
    """One box. ``settings`` are its own: the general ones, and what ``[hosts.NAME]`` says otherwise."""

    name: str  # as the user calls it; "": this box
    settings: Settings
    said: Said  # the command line's; sysfs and procfs as they count for this box
    state: Path  # what is remembered of it
    groups: tuple[str, ...] = ()
    target: str | None = None  # what ssh is given; None: this box

    def host(self) -> Host:
        """The way to it. A far one is to be opened first (``SshHost.open`` or ``up``), and closed."""
        sysfs, procfs = self.said.get("sysfs", Path("/sys")), self.said.get("procfs", Path("/proc"))
        if self.target is None:
            from halotui.hosts.local import LocalHost

            return LocalHost(sysfs, procfs)
        from halotui.hosts.ssh import Far, SshHost

        file = self.settings.ssh_config
        return SshHost(
            Far(target=self.target, ssh_config=Path(file) if file else None, sysfs=sysfs, procfs=procfs)
        )


def hands(host: Host) -> Hands:
    """What acts on that box."""
    from halotui.hosts.local_hands import LocalHands

    if host.here:
        return LocalHands(host.procfs)
    from halotui.hosts.ssh import SshHost
    from halotui.hosts.ssh_hands import SshHands

    assert isinstance(host, SshHost)
    return SshHands(host)


def places(settings: Settings, said: Said) -> list[Place]:
    """All boxes that the command line means, in its order: ``--ssh``, ``--fleet``, else this one.
    Raises UsageError."""
    from halotui import config

    if not said.get("ssh") and "fleet" not in said:
        return [Place(name="", settings=settings, said=said, state=config.state_dir())]
    raise UsageError("--ssh: not yet")


def place(settings: Settings, said: Said) -> Place:
    """The one box that is meant. Raises UsageError where there are several."""
    meant = places(settings, said)
    if len(meant) != 1:
        raise UsageError(f"one box at a time, please: --ssh is given {len(meant)} times")
    return meant[0]


@asynccontextmanager
async def opened(where: Place) -> AsyncIterator[tuple[Host, Hands]]:
    """For a command: the box, logged in to (ssh may ask on the terminal), and logged out of in the end.

    Raises UnreachableError.
    """
    host = where.host()
    if host.here:
        yield host, hands(host)
        return
    from halotui.hosts.ssh import LinkError, SshHost

    assert isinstance(host, SshHost)
    try:
        await host.open(ask=True)
    except LinkError as error:
        raise UnreachableError(
            f"{where.name}: {error.reason}{f'; {error.hint}' if error.hint else ''}"
        ) from None
    try:
        yield host, hands(host)
    finally:
        await host.close()


class UnreachableError(Exception):
    """A far box cannot be reached: exit code 3, and its one line."""
