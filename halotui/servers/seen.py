"""What the pre-flight has seen, for ``checks`` to judge."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from halotui.actions import ActionError, Value
from halotui.gguf.model_file import Header
from halotui.hosts.hands import Done
from halotui.servers.dialect import Dialect
from halotui.servers.fit import Need, Room
from halotui.servers.running import Running
from halotui.servers.secret import plain
from halotui.servers.wish import Wish

Answer = Done | str | None  # of a command; a text says why there is none, None: not asked
Model = Header | ActionError | None


class FileSeen(Struct, frozen=True):
    """A file that a flag names; ``problem`` is empty when it is there and readable."""

    flag: str
    path: str
    problem: str = ""


class Logout(Struct, frozen=True, kw_only=True):
    """What becomes of a server when its user logs out; None: not known."""

    in_session: bool = False  # it will run in the scope of a login session
    in_manager: bool = False  # it will run under the user's own systemd
    lingers: bool | None = None
    far: bool = False  # the login that starts it ends with our link


class Seen(Struct, frozen=True, kw_only=True):
    """All that the checks may read."""

    wish: Wish
    values: Mapping[str, Value]  # settings, those of the environment included
    arguments: tuple[str, ...] = ()
    dialect: Dialect
    running: Running | None = None
    busy: int | None = None
    version: Answer = None
    parsed: Answer = None
    place: Answer = None  # of the container, image or unit
    model: Model = None
    draft: Model = None
    files: tuple[FileSeen, ...] = ()
    cwd: str = ""  # why it cannot be used
    log: str = ""
    ports: tuple[tuple[str, int], ...] = ()  # to listen on
    taken: tuple[int, ...] = ()  # of those ports
    holders: Mapping[int, tuple[tuple[int, str], ...]] = {}  # port: pid and name of who listens
    need: Need | None = None
    room: Room = Room()
    devices: tuple[FileSeen, ...] | None = None  # None: no /dev to look into
    logout: Logout = Logout()
    kills: bool | None = None  # KillUserProcesses of logind
    kernel: str | None = None

    @property
    def needs_spec_type(self) -> bool:
        """Whether that build drafts with a model only when told so; older ones cannot be told."""
        flag = self.dialect.flags.get("--spec-type")
        return flag is not None and (not flag.choices or "draft-simple" in flag.choices)

    def says(self, *flags: str) -> bool:
        """Whether one of these stands on the command line or in the environment."""
        known = self.dialect.flags
        variables = {name for flag in flags if flag in known for name in known[flag].env}
        return not {plain(word) for word in self.arguments}.isdisjoint(flags) or not variables.isdisjoint(
            self.wish.env
        )
