"""Ports of a far box as Unix sockets of ours: HTTP goes through the login that there is."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from halotui.hosts.ssh_login import Login
from halotui.model import NO_FORWARDING

_PROBE_SECONDS = 0.5


class Doors:
    """One for each address. Another login opens them anew, at the same place."""

    def __init__(self, login: Callable[[], Login], place: Callable[[], Path]) -> None:
        self._login = login
        self._place = place
        self._open: dict[tuple[str, int], int] = {}  # address -> the login's number
        self._names: dict[tuple[str, int], str] = {}
        self._guard = threading.Lock()

    def path(self, host: str, port: int) -> str:
        """Raises OSError, LinkDown."""
        login = self._login()
        address = (host, port)
        with self._guard:
            name = self._names.setdefault(address, f"d{len(self._names)}")
            path = self._place() / name
            if self._open.get(address) != login.number or not path.exists():
                with suppress(OSError):
                    path.unlink()  # a master that was killed left it
                login.control("forward", ["-L", f"{path}:{_there(host, port)}"])
                self._open[address] = login.number
                return str(path)
        # A connection came to its end. Where sshd has refused any, it is asked whether that is so here.
        if (before := login.forbidden()) and _ends(path, login) and login.forbidden() > before:
            raise OSError(NO_FORWARDING)
        return str(path)

    def clear(self) -> None:
        with self._guard:
            self._open.clear()


def _there(host: str, port: int) -> str:
    if not port:
        return _escaped(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _ends(path: Path, login: Login) -> bool:
    """Whether a connection is ended at once."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PROBE_SECONDS + 2 * (login.round_trip or 0.0))
        try:
            probe.connect(str(path))
            return not probe.recv(1)
        except OSError:
            return False


def _escaped(path: str) -> str:
    """ssh knows no way to say ${ as it is. Raises OSError."""
    if "${" in path:
        raise OSError("ssh cannot be given a socket of that name")
    return path.replace("\\", "\\\\").replace(":", "\\:").replace("%", "%%")
