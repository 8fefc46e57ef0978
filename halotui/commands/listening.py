"""Where ``halotui export`` is scraped, and who may: its words, checked."""

from __future__ import annotations

import os
import socket
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from halotui.commands.exporting import AUTH, LISTEN, WEB_PATH
from halotui.exits import UsageError
from halotui.safe import clean

_LARGEST = 65536  # bytes of the file of users


@dataclass(frozen=True, kw_only=True)
class Door:
    """``users``: passwords by name; nobody is named: everybody may."""

    listen: str  # as it was said
    address: tuple[socket.AddressFamily, tuple[Any, ...]]
    path: str
    tls: ssl.SSLContext | None
    users: Mapping[str, str]

    def __repr__(self) -> str:
        """Without passwords."""
        return f"Door({self.listen!r})"

    def url(self, port: int) -> str:
        host = self.address[1][0]
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if self.tls else 'http'}://{host}:{port}{self.path}"

    @property
    def warnings(self) -> list[str]:
        """Of what is open to others than this box."""
        if ip_address(self.address[1][0].partition("%")[0]).is_loopback:
            return []
        if not self.users and (self.tls is None or self.tls.verify_mode is not ssl.CERT_REQUIRED):
            return [f"{self.listen}: whoever reaches it reads the metrics; see --basic-auth-file"]
        if self.tls is None:
            return [f"{self.listen}: passwords go over the network in the clear; see --tls-cert"]
        return []


def door(said: Mapping[str, Any], environ: Mapping[str, str]) -> Door:
    """As the words of ``export`` say. Raises UsageError."""
    listen, path = said.get("listen", LISTEN), said.get("web_path", WEB_PATH)
    if not path.startswith("/") or path == "/" or clean(path) != path or set(path) & set("?# "):
        raise UsageError(f"--web-path: '{clean(path, 60)}' is not a path like {WEB_PATH}")
    return Door(
        listen=clean(listen), address=_address(listen), path=path, tls=_tls(said), users=_users(said, environ)
    )


def _address(listen: str) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """``ADDR:PORT``, ``[ADDR]:PORT``, or a port of 127.0.0.1."""
    host, _, port = listen.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    bad = not port.isascii() or not port.isdigit() or int(port or 0) > 65535 or (":" in bare and bare == host)
    if bad or (not bare and ":" in listen):
        raise UsageError(f"--listen: '{clean(listen, 60)}' is not an address like {LISTEN}")
    try:
        found = socket.getaddrinfo(bare or "127.0.0.1", int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise UsageError(f"--listen: there is no address '{clean(bare, 60)}'") from None
    return found[0][0], found[0][4]


def _tls(said: Mapping[str, Any]) -> ssl.SSLContext | None:
    certificate, key, ca = (said.get(name) for name in ("tls_cert", "tls_key", "tls_client_ca"))
    if certificate is None:
        if key or ca:
            raise UsageError("--tls-key and --tls-client-ca are of a --tls-cert")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, lambda: "")  # one with a password is refused, not asked for
        if ca:
            context.load_verify_locations(ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:  # SSLError is one
        files = ", ".join(str(file) for file in (certificate, key, ca) if file)
        raise UsageError(f"--tls-cert: {clean(files)}: {clean(_why(error))}") from None
    return context


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no certificate and key in PEM").lower().replace("_", " ")
    return ((error.strerror if isinstance(error, OSError) else None) or str(error)).lower()


def _users(said: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Raises UsageError, which never quotes a password."""
    file: Path | None = said.get("basic_auth_file")
    if file is None:
        return _named([environ[AUTH]], AUTH) if environ.get(AUTH) else {}
    where = f"--basic-auth-file: {clean(str(file))}"
    try:
        with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as opened:
            found = os.fstat(opened.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise UsageError(f"{where} is not a file")
            if found.st_mode & 0o077:
                raise UsageError(f"{where}: others may read it; chmod 600")
            text = opened.read(_LARGEST).decode()
    except OSError as error:
        raise UsageError(f"{where}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{where} is not text") from None
    users = _named(text.splitlines(), where)
    if not users:
        raise UsageError(f"{where}: nobody is named")
    return users


def _named(lines: list[str], where: str) -> dict[str, str]:
    users = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, password = line.rstrip("\r\n").partition(":")
        if not name or not colon or not password:
            raise UsageError(f"{where}: line {number} is not user:password")
        users[name] = password
    return users
