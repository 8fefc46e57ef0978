"""Which boxes a command line means, and the way to each: this one, or a far one over SSH."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from halotui.exits import UnreachableError, UsageError
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.config import HostSettings, Settings
    from halotui.hosts import Host
    from halotui.hosts.hands import Hands
    from halotui.hosts.ssh import LinkError

Said = Mapping[str, Any]
HERE = "."  # --ssh . is this box, beside far ones
FOLDER = "hosts"  # in the state directory: what is remembered of each far box
HALOTUI = "halotui"  # via this: frames of ``halotui stream`` there


@dataclass(frozen=True, kw_only=True)
class Place:
    """One box. ``settings`` are its own: the general ones, and what ``[hosts.NAME]`` says otherwise."""

    name: str  # as the user calls it; "": this box
    settings: Settings
    said: Said  # the command line's; sysfs and procfs as they count for this box
    state: Path  # what is remembered of it
    groups: tuple[str, ...] = ()
    target: str | None = None  # what ssh is given; None: this box
    streamed: bool = False  # its own halotui makes the frames

    def host(self) -> Host:
        """The way to it. A far one is to be opened first (``SshHost.open`` or ``up``), and closed."""
        sysfs, procfs = self.said.get("sysfs", Path("/sys")), self.said.get("procfs", Path("/proc"))
        if self.target is None:
            from halotui.hosts.local import LocalHost

            return LocalHost(sysfs, procfs)
        from halotui.hosts.ssh import Far, SshHost

        file = self.settings.ssh_config
        return SshHost(
            Far(
                target=self.target,
                ssh_config=Path(file).expanduser() if file else None,
                sysfs=sysfs,
                procfs=procfs,
            )
        )


def hands(host: Host) -> Hands:
    """What acts on that box."""
    if host.here:
        from halotui.hosts.local_hands import LocalHands

        return LocalHands(host.procfs)
    from halotui.hosts.ssh import SshHost
    from halotui.hosts.ssh_hands import SshHands

    assert isinstance(host, SshHost)
    return SshHands(host)


def places(settings: Settings, said: Said) -> list[Place]:
    """All boxes that the command line means, in its order and each once: those of ``--ssh``, then those of
    ``--fleet``; without either this one. Raises UsageError."""
    names = dict.fromkeys((*said.get("ssh", ()), *_fleet(settings, said)))
    if not names:
        return [this_box(settings, said)]
    if len(names) > 1 and said.get("log"):
        raise UsageError("--log: of which box? Put it into [hosts.NAME] of the config")
    return [_place(name, settings, said) for name in names]


def this_box(settings: Settings, said: Said) -> Place:
    """Or the one that ``said`` roots in sysfs and procfs."""
    from halotui import config

    return Place(name="", settings=settings, said=said, state=config.state_dir())


def _fleet(settings: Settings, said: Said) -> Iterator[str]:
    group = said.get("fleet")
    if group is None:
        return
    if not settings.hosts:
        raise UsageError("--fleet: there is no [hosts.NAME] in the config")
    there = {name for host in settings.hosts.values() for name in host.groups}
    if group and group not in there:
        known = ", ".join(sorted(there)) or "none"
        raise UsageError(f"--fleet: no box is in the group '{group}'; groups: {known}")
    yield from (name for name, host in settings.hosts.items() if not group or group in host.groups)


def _place(name: str, settings: Settings, said: Said) -> Place:
    from halotui import config

    state = config.state_dir()
    own = settings.hosts.get(name)
    target = name if own is None else own.ssh or name
    if target == HERE:
        return Place(
            name="" if name == HERE else name,
            settings=_settings(settings, own, said, here=True),
            said=said,
            state=state,
            groups=own.groups if own else (),
        )
    if target.startswith("-") or not target or clean(target) != target or any(map(str.isspace, target)):
        raise UsageError(f"--ssh: '{target}' is no host that ssh could be given")
    roots: dict[str, Any] = {}
    if own is not None:
        roots = {"sysfs": Path(own.sysfs), "procfs": Path(own.procfs)}
    if own is not None and own.log:
        roots["log"] = own.log
    return Place(
        name=name,
        settings=_settings(settings, own, said, here=False),
        said={**roots, **said},
        state=state / FOLDER / quote(name, safe="@").replace(".", "%2E", 1 if name.startswith(".") else 0),
        groups=own.groups if own else (),
        target=target,
        streamed=own is not None and own.via == HALOTUI,
    )


def _settings(settings: Settings, own: HostSettings | None, said: Said, *, here: bool) -> Settings:
    """The command line's words beat the box's own, which beat the general ones. A URL of the general settings
    is one of this box."""
    import msgspec

    from halotui.commands.urls import url

    news: dict[str, Any] = {} if here or "url" in said else {"urls": ()}
    if own is not None:
        if own.urls and "url" not in said:
            news["urls"] = tuple(map(url, own.urls))
        if own.interval is not None and "interval" not in said:
            news["interval"] = own.interval
        if own.readonly is not None and "readonly" not in said:
            news["readonly"] = own.readonly
        if own.api_key_env and "api_key_env" not in said:
            news["api_key_env"] = own.api_key_env
    return msgspec.structs.replace(settings, **news)


def place(settings: Settings, said: Said) -> Place:
    """The one box that is meant. Raises UsageError where there are several."""
    meant = places(settings, said)
    if len(meant) != 1:
        raise UsageError(f"one box at a time: {len(meant)} are named")
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
        try:
            await host.open(ask=True)
        except LinkError as error:
            raise unreachable(where, error) from None
        yield host, hands(host)
    finally:
        await host.close()


def unreachable(where: Place, error: LinkError) -> UnreachableError:
    """One line: which box, ssh's reason, and what to do."""
    return UnreachableError(f"{where.name}: {error.reason}{f'; {error.hint}' if error.hint else ''}")
