"""Which systemd unit a process belongs to, and whether it is the server or only the room it stands in."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from halotui.actions import ActionError
from halotui.hosts.hands import Hands

SYSTEMCTL = ("systemctl", "--user")
NO = "no"

_PROPERTIES = ("MainPID", "LoadState", "FragmentPath", "Restart", "Transient")


class Unit(Struct, frozen=True, kw_only=True):
    """A service of this user or of the box, as ``systemctl show`` tells."""

    name: str
    main_pid: int = 0  # 0: none, or not known
    restart: str = NO  # no, on-failure, always ...
    transient: bool = False  # systemd-run, or a desktop: it is gone once it ends

    @property
    def start(self) -> tuple[str, ...]:
        return (*SYSTEMCTL, "start", self.name)

    @property
    def stop(self) -> tuple[str, ...]:
        return (*SYSTEMCTL, "stop", self.name)

    @property
    def find_pid(self) -> tuple[str, ...]:
        return (*SYSTEMCTL, "show", self.name, "--property=MainPID", "--value")


async def look(hands: Hands, name: str, env: Mapping[str, str], manager: tuple[str, ...] = SYSTEMCTL) -> Unit:
    """Ask systemd. Raises ActionError."""
    command = (*manager, "show", name, f"--property={','.join(_PROPERTIES)}")
    try:
        done = await hands.run(command, env=env)
    except (OSError, TimeoutError) as error:
        raise ActionError(f"{' '.join(command[:-1])}: {error or 'no answer'}") from None
    told = dict(line.partition("=")[::2] for line in done.out.splitlines())
    if done.code or told.get("LoadState") != "loaded":
        raise ActionError(f"systemd does not know {name}: {told.get('LoadState') or f'code {done.code}'}")
    main_pid = told.get("MainPID", "")
    return Unit(
        name=name,
        main_pid=int(main_pid) if main_pid.isdecimal() else 0,
        restart=told.get("Restart") or NO,
        transient=told.get("Transient") == "yes" or "/transient/" in told.get("FragmentPath", ""),
    )
