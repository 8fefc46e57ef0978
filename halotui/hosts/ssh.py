"""A far box through the system's OpenSSH: one login, one remote ``sh`` that reads in batches.

Nothing is installed or written there. What is read again and again comes in one round trip a tick:
``ssh_ahead``.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, cast

from halotui.hosts import LinkDown, Process, Stat, User, ssh_first
from halotui.hosts.ssh_channels import Channels
from halotui.hosts.ssh_doors import Doors
from halotui.hosts.ssh_errors import LinkError as LinkError
from halotui.hosts.ssh_keeper import Keeper, in_thread
from halotui.hosts.ssh_lane import END
from halotui.hosts.ssh_login import Far as Far
from halotui.hosts.ssh_processes import Clock, Processes
from halotui.hosts.ssh_reader import Reader
from halotui.hosts.ssh_reads import Ask
from halotui.model import Link
from halotui.safe import clean

_AT_ONCE = 1.0  # seconds
_STEP, _LARGE = 16 * 1024, 512 * 1024  # bytes of a part that is asked at once
_SLOW = 0.5  # seconds for them: over a narrow line all else waits behind them
_DOTS = re.compile(r"/\.\.?(/|\Z)")
_WHO = f'id -u; {END}id -un; {END}id -Gn; {END}id -Gn -- "$(id -un)"; {END}'


class SshHost:
    """``hosts.Host`` over SSH. ``open`` or ``up`` first; everything else raises LinkDown without a login.

    ``open``, ``up``, ``close`` and ``stream`` belong to one event loop; the rest blocks, from any thread.
    """

    here = False

    def __init__(self, far: Far) -> None:
        self.far = far
        self.name = clean(far.target)  # its own host name, once it has said it
        self.sysfs = far.sysfs
        self.procfs = far.procfs
        self.native = far.procfs == Path("/proc")
        self.root = Path("/") if self.native else far.procfs.parent
        self._keeper = Keeper(far)
        login = self._keeper.login
        first = ssh_first.patterns
        # What a GPU does not answer while it is reset costs no other file.
        self._devices = Reader(login, first(far.sysfs, ssh_first.SYSFS), ssh_first.globs(far.sysfs))
        others = [*first(far.procfs, ssh_first.PROCFS), *first(self.root, ssh_first.ROOT)]
        self._others = Reader(login, others, ())
        # A model's head is megabytes: over a narrow line nothing else waits for it.
        self._parts = Reader(login, (), ())
        self._step = _STEP
        self._channels = Channels(login)
        self._doors = Doors(login, self._keeper.place)
        self._processes = Processes(self._others, os.fspath(far.procfs))
        self._sysfs = f"{far.sysfs}/"

    @property
    def link(self) -> Link:
        """How it stands now. From any thread."""
        return self._keeper.link

    @property
    def trips(self) -> int:
        """Round trips for reading, so far."""
        return self._devices.trips + self._others.trips + self._parts.trips

    @property
    def fresh_seconds(self) -> float:
        """How old an answer may be that is handed out, counted from its arrival."""
        return self._others.ahead.fresh_seconds

    @fresh_seconds.setter
    def fresh_seconds(self, seconds: float) -> None:
        self._others.ahead.fresh_seconds = self._devices.ahead.fresh_seconds = seconds

    async def open(self, *, ask: bool = False) -> None:
        """Log in. ``ask``: ssh may ask on the terminal (password, host key, touch): before the screen is
        drawn, or while it is put aside. Raises LinkError."""
        await self._keeper.open(ask=ask)
        self._told()

    async def up(self) -> int:
        """Waits until there is a login, making one with back-off where there is none. Returns its number: who
        finds another one afterwards knows that what was read in between is not of one piece. Raises LinkError
        for what is no target, and when it is closed."""
        number = await self._keeper.up()
        self._told()
        return number

    def again(self) -> None:
        """Do not wait any longer: try now."""
        self._keeper.again()

    async def close(self) -> None:
        """Log out; nothing of ours is left there."""
        await self._keeper.close()

    async def heard(self, since: float) -> bool:
        """Whether the box has said anything since then (monotonic seconds), or answers as soon as it is
        asked: what hangs otherwise is the link, and not the box."""
        login = self._keeper.last()
        if login is None:
            return False
        if max(one.heard_at for one in (login, self._devices, self._others, self._parts)) >= since:
            return True
        asked = time.monotonic()
        answers = await in_thread(login.check)
        return answers and time.monotonic() - asked < _AT_ONCE + 3 * (login.round_trip or 0.0)

    @property
    def ahead(self) -> float:
        """Of the last login; 0 before the first."""
        login = self._keeper.last()
        return login.ahead if login else 0.0

    @property
    def user(self) -> User:
        """Asked anew each time: a group may have been joined."""
        uid, name, groups, listed = self._others.answer(Ask("text", _WHO, (4,)))
        if not uid.strip().isdigit():
            raise OSError("its id does not say who we are")
        return User(
            uid=int(uid),
            name=clean(name.strip()) or str(int(uid)),
            home=self.environ.get("HOME", "/"),
            groups=tuple(map(clean, groups.split())),
            listed=tuple(map(clean, listed.split())),
        )

    @property
    def environ(self) -> Mapping[str, str]:
        """Of the last login."""
        login = self._keeper.last() or self._keeper.login()
        return login.environ

    @property
    def ticks(self) -> int:
        """Of the last login."""
        login = self._keeper.last() or self._keeper.login()
        return login.ticks

    def read(self, path: str | Path) -> bytes:
        """The whole of a small file: one over 4 MiB raises OSError, as the kernel's own errors do."""
        return cast(bytes, self._ask("read", path))

    def part(self, path: str | Path, offset: int, size: int) -> bytes:
        """Bytes of a regular file. Raises OSError."""
        found = bytearray()
        while size > len(found):
            step = min(size - len(found), self._step)
            asked = time.monotonic()
            piece = cast(bytes, self._ask("part", path, offset + len(found), step))
            found += piece
            took = time.monotonic() - asked - self._keeper.login().best
            self._step = max(_STEP, self._step // 2) if took > _SLOW else min(_LARGE, self._step * 2)
            if len(piece) < step:
                break
            if took > _SLOW:
                time.sleep(min(took, _AT_ONCE))  # the others' turn
        return bytes(found)

    def stat(self, path: str | Path) -> Stat:
        """Raises OSError. Where there is busybox alone, times are whole seconds."""
        return cast(Stat, self._ask("stat", path))

    def readlink(self, path: str | Path) -> str:
        """Raises OSError."""
        return cast(str, self._ask("readlink", path))

    def listdir(self, path: str | Path) -> list[str]:
        """Raises OSError."""
        return list(self._ask("list", path))

    def access(self, path: str | Path, mode: int) -> bool:
        """As ``os.access``."""
        return cast(bool, self._ask("access", path, mode))

    def which(self, name: str) -> str | None:
        """By the PATH of our login there."""
        return cast("str | None", self._others.answer(Ask("which", name)))

    def expect(self, *patterns: str) -> None:
        """Those files come with the next question."""
        devices = [pattern for pattern in patterns if pattern.startswith(self._sysfs)]
        self._devices.expect(devices)
        self._others.expect(pattern for pattern in patterns if not pattern.startswith(self._sysfs))

    def glob(self, root: Path, pattern: str) -> list[Path]:
        """Paths under ``root``, sorted; empty when there is none or it cannot be listed. Hidden names match
        outside of sysfs and procfs, as they do here."""
        top = os.fspath(root).rstrip("/")
        found: set[str] = set()
        with suppress(TimeoutError):
            for spelled in self._spellings(top, pattern):
                found.update(self._ask("glob", f"{top}/{spelled}"))
        return sorted(Path(path) for path in found if not _DOTS.search(path, len(top)))

    def processes(
        self, names: Sequence[str], ports: Sequence[int], scripts: Sequence[str] = ()
    ) -> list[Process]:
        """As ``LocalHost.processes``; their starts are of our clock."""
        login = self._keeper.login()
        uid = login.uid
        clock = Clock(login.ticks, login.boot, login.ahead)
        return self._processes.find(names, ports, scripts, uid, clock)

    def run(self, argv: Sequence[str], seconds: float = 3.0) -> bytes:
        """The stdout of a command, its first 4 MiB. Raises OSError (none, it failed), TimeoutError."""
        return self._channels.run(argv, seconds)

    async def stream(self, argv: Sequence[str]) -> AsyncGenerator[bytes, None]:
        """Lines of a child's stdout, newline kept, those over 1 MiB left out. The child dies with the
        generator, with us and with the link. Raises FileNotFoundError, LinkDown."""
        async with aclosing(self._channels.stream(argv)) as lines:
            async for line in lines:
                yield line

    async def door(self, host: str, port: int) -> str | None:
        """A Unix socket of ours, 0600; where nobody listens there, a connection is taken and ended at once.
        Raises OSError, LinkDown."""
        return await in_thread(lambda: self._doors.path(host, port))

    def script(self, text: str, seconds: float) -> tuple[int, bytes, bytes]:
        """Run a POSIX sh script there, on a channel of its own: exit code (negative: by a signal), stdout,
        stderr, 4 MiB each. It goes through stdin, never through an argv: it may hold secrets, and a login
        shell that is not POSIX never reads it. Raises LinkDown, TimeoutError (it is killed)."""
        return self._channels.script(text, seconds)

    def client(self, command: str) -> list[str]:
        """The argv of an ssh that runs a command there through our login. Raises LinkDown."""
        return self._keeper.login().client("--", self.far.target, command)

    def _ask(self, verb: str, path: str | Path, *more: int) -> Any:
        spelled = os.fspath(path)
        if "\0" in spelled:
            raise ValueError("embedded null byte")  # as the os module says it
        reader = (
            self._parts
            if verb == "part"
            else self._devices
            if spelled.startswith(self._sysfs)
            else self._others
        )
        return reader.answer(Ask(verb, spelled, more))

    def _spellings(self, root: str, pattern: str) -> list[str]:
        """A shell's wildcard does not match a leading dot, pathlib's does."""
        spelled = [""]
        plain = f"{root}/".startswith((self._sysfs, f"{self.procfs}/"))
        for word in pattern.split("/"):
            words = [word] if plain or word[:1] not in ("*", "?") else [word, f".{word.removeprefix('?')}"]
            spelled = [f"{head}/{tail}" if head else tail for head in spelled for tail in words]
        return spelled

    def _told(self) -> None:
        login = self._keeper.last()
        if login is not None:
            self.name = login.name


__all__ = ["Far", "LinkDown", "LinkError", "SshHost"]
