"""What changes a far box, through its SshHost. Each question is a script: nothing is read ahead."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from halotui.hosts import LinkDown, shell
from halotui.hosts.hands import Done, Identity
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.hosts.ssh import SshHost

Address = IPv4Address | IPv6Address

_MOST = 1024 * 1024  # kept of each output
_SECONDS = 15.0  # for what takes a moment there, over a slow line
_KILLED = 128 + 9
_LISTEN = "0A"
_NAMES = {"localhost": ("127.0.0.1", "::1")}
_ANY = ("", "*", "0.0.0.0", "::")
_TROUBLE = {
    shell.ABSENT: (errno.ENOENT, "No such file or directory"),
    shell.NO_PLACE: (errno.ENOENT, "No such directory"),
    shell.NO_LOG: (errno.EACCES, "cannot be written"),
    shell.UNSAFE: (errno.ENOSYS, "its sh has no printf of its own: a secret could be seen"),
}


class Scripts(Protocol):
    """Of an SshHost what hands need."""

    procfs: Path

    def script(self, text: str, seconds: float) -> tuple[int, bytes, bytes]: ...


class SshHands:
    """``hosts.hands.Hands`` over SSH: pid and start are checked in the same command that signals.

    Every method raises LinkDown; then nobody knows whether it was done. All but ``run`` and ``launch`` block.
    """

    def __init__(self, host: SshHost | Scripts) -> None:
        self._host = host
        self._proc = str(host.procfs)

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        seconds: float = 10.0,
    ) -> Done:
        """Run a command to its end. Raises OSError (no such command), TimeoutError (it is killed)."""
        began = time.monotonic()
        code, out, err = await asyncio.to_thread(
            self._host.script, shell.ran(argv, env, cwd, seconds), math.ceil(seconds) + _SECONDS
        )
        _refuse(err, argv[0], cwd or "", "")
        if code == _KILLED and time.monotonic() - began >= seconds:
            raise TimeoutError(f"{argv[0]}: no end within {seconds:g} s")
        return Done(128 - code if code > 128 else code, _text(out), _text(err))

    async def launch(self, argv: Sequence[str], env: Mapping[str, str], cwd: str, log: Path) -> Identity:
        """Start a program detached: in a session of its own, and a scope where a login's end would kill it.
        ``env`` goes through stdin; what no shell can say of it is left out. Raises OSError."""
        inner = shell.launched(argv, env, cwd, str(log), self._proc)
        script = shell.detached(inner, self._proc)
        code, out, err = await asyncio.to_thread(self._told, script)
        _refuse(err, argv[0], cwd, str(log))
        if (who := _identity(out)) is None:
            raise OSError(errno.EIO, clean(_text(err).strip()) or f"code {code}", argv[0])
        return who

    def stay(self, script: str, mark: str) -> Identity:
        """Leave a shell there that does ``script`` on its own, marked. Raises OSError."""
        code, out, err = self._told(shell.resident(script, mark, self._proc))
        _refuse(err, "", "", "")
        if (who := _identity(out)) is None or not who.ticks:
            raise OSError(errno.EIO, clean(_text(err).strip()) or f"code {code}")
        return who

    def identify(self, pid: int) -> Identity | None:
        """None when there is no such process, or only its corpse."""
        return _identity(self._told(shell.prelude(self._proc) + shell.identified(pid))[1])

    def alive(self, who: Identity) -> bool:
        """Whether that very process lives; a corpse does not."""
        script = f"{shell.prelude(self._proc)}{shell.same(who.pid, who.ticks, who.boot)} && echo yes\n"
        return b"yes" in self._told(script)[1]

    def exit_code(self, who: Identity) -> int | None:
        """It is nobody's child there: never known."""
        return None

    def signal(self, who: Identity, number: int) -> bool:
        """Send a signal to that very process; False when it is gone. Raises PermissionError."""
        that = shell.same(who.pid, who.ticks, who.boot)
        kill = f"kill -{number} {who.pid} 2>/dev/null && echo sent || {{ {that} && echo denied; }}"
        out = self._told(f"{shell.prelude(self._proc)}{that} && {{ {kill}\n}}\n")[1].strip()
        if out == b"denied":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        return out == b"sent"

    def marked(self, mark: str) -> list[Identity]:
        """Our own processes whose environment holds ``MARK=mark``, the oldest first."""
        told = (
            f"{shell.prelude(self._proc)}for m in $({shell.marked(mark)}); do\n"
            "t=$(started $m) && echo $m $t $(boot)\ndone\n"
        )
        found = [who for line in self._told(told)[1].splitlines() if (who := _identity(line))]
        return sorted(found, key=lambda who: (who.ticks, who.pid))

    def port_taken(self, host: str, port: int, *, lingering: bool = False) -> bool:
        """Whether somebody listens there, by the kernel's tables; with ``lingering`` also while closed
        connections still hold it. No port of ours is tried: the box is not ours to bind on."""
        tables = self._told(f"cat {self._proc}/net/tcp {self._proc}/net/tcp6 2>/dev/null\n")[1]
        names = [name.strip().strip("[]") for name in host.split(",") if not name.endswith(".sock")]
        held = list(_held(tables.decode("ascii", "replace"), port, lingering))
        return any(_overlap(name, address) for name in names for address in held)

    def _told(self, script: str) -> tuple[int, bytes, bytes]:
        """No answer in time is no answer of the box."""
        try:
            return self._host.script(script, _SECONDS)
        except TimeoutError:
            raise LinkDown(f"no answer within {_SECONDS:g} s") from None


def _refuse(err: bytes, program: str, cwd: str, log: str) -> None:
    """Raises the OSError that the script speaks of at its end."""
    word = "@" + err.strip().decode("ascii", "replace").rpartition("@")[2]
    if word in _TROUBLE:
        raise OSError(*_TROUBLE[word], {shell.NO_PLACE: cwd, shell.NO_LOG: log}.get(word, program))


def _identity(line: bytes) -> Identity | None:
    words = line.split()
    if len(words) == 3 and words[0].isdigit() and words[1].isdigit():
        return Identity(int(words[0]), int(words[1]), words[2].decode("ascii", "replace"))
    return None


def _held(tables: str, port: int, lingering: bool) -> list[Address]:
    """The addresses at which that port is held: /proc/net/tcp and tcp6, whose words are little-endian."""
    found: list[Address] = []
    for row in tables.splitlines():
        fields = row.split()
        try:
            digits, _, number = fields[1].partition(":")
            if int(number, 16) != port or not (lingering or fields[3] == _LISTEN):
                continue
            raw = bytes.fromhex(digits)
            packed = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
            found.append(ip_address(packed))
        except (ValueError, IndexError):
            continue
    return found


def _overlap(name: str, held: Address) -> bool:
    """Whether to listen at ``name`` would collide. A name that we cannot read may be any address."""
    if name in _ANY or held.is_unspecified:
        return True
    if isinstance(held, IPv6Address) and held.ipv4_mapped:
        held = held.ipv4_mapped
    try:
        return held in map(ip_address, _NAMES.get(name, (name,)))
    except ValueError:
        return True


def _text(data: bytes) -> str:
    return data[:_MOST].decode(errors="replace")
