"""Opens the desk: for the commands, for the screen, and for the demo."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from halotui.actions import Desk
    from halotui.commands.places import Place
    from halotui.config import Settings
    from halotui.demo.box import Box
    from halotui.hosts import Host
    from halotui.hosts.hands import Hands
    from halotui.servers.profile import Profile


def open_desk(place: Place, host: Host, hands: Hands) -> Desk:
    """The desk of that box, whose ``host`` and ``hands`` stay the caller's. Blocks to import."""
    from halotui import config

    named = place.said.get("config")
    file = named or config.config_dir() / "config.toml"
    own = _own(host) if host.here else host
    return _desk(place.settings, own, hands, place.state, file, lambda: _load(named))


def open_demo_desk(settings: Settings, said: Mapping[str, Any], box: Box) -> Desk:
    """The demo's own: its two backends and what is saved there; nothing of the user's is read or written."""
    import msgspec

    from halotui.hosts.local import LocalHost
    from halotui.hosts.local_hands import LocalHands
    from halotui.servers.profile import Profile

    shipped = msgspec.convert(box.profiles, dict[str, Profile])
    file = box.state / "config.toml"

    def profiles() -> dict[str, Profile]:
        return {**shipped, **(_load(file) if file.is_file() else {})}

    host = LocalHost(box.sysfs, box.procfs)
    return _desk(settings, host, LocalHands(), box.state, file, profiles, shipped=False)


def _own(host: Host) -> Host:
    """Another one of this box: a host keeps what it saw of ports, and that one may be the sampler's."""
    from halotui.hosts.local import LocalHost

    return LocalHost(host.sysfs, host.procfs)


def _desk(
    settings: Settings,
    host: Host,
    hands: Hands,
    state: Path,
    config_file: Path,
    profiles: Callable[[], Mapping[str, Profile]],
    shipped: bool = True,
) -> Desk:
    from halotui.servers.desk import LocalDesk

    return LocalDesk(
        host,
        hands,
        state=state,
        config_file=config_file,
        profiles=profiles,
        urls=settings.urls,
        api_key=os.environ.get(settings.api_key_env or "LLAMA_API_KEY"),
        shipped=shipped,
    )


def _load(file: Path | None) -> Mapping[str, Profile]:
    """The user's profiles, read anew: an edit counts at once."""
    from halotui import config
    from halotui.actions import ActionError

    try:
        return config.load(file).profiles
    except config.ConfigError as error:
        raise ActionError(str(error)) from None
