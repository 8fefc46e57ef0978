"""Ports of a far box as Unix sockets of ours: HTTP goes through the login that there is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from halotui.hosts.ssh_login import Login


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
            socket = self._place() / name
            if self._open.get(address) != login.number or not socket.exists():
                with suppress(OSError):
                    socket.unlink()  # a master that was killed left it
                login.control("forward", ["-L", f"{_escaped(str(socket))}:{_there(host, port)}"])
                self._open[address] = login.number
        return str(socket)

    def clear(self) -> None:
        with self._guard:
            self._open.clear()


def _there(host: str, port: int) -> str:
    if not port:
        return _escaped(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:")
