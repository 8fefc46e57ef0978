"""A small HTTP server for scrapes: bounded in threads, in time and in what it reads.

Not that of prometheus_client: there a TLS handshake that stalls keeps all others out, threads have no bound
and an idle client keeps his for ever.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import socket
import ssl
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, ClassVar
from urllib.parse import urlsplit

from prometheus_client.exposition import gzip_accepted

from halotui.exporters.prometheus_scrape import Scrape
from halotui.safe import clean

CONNECTIONS = 16  # at once; who comes then is hung up on, and comes again
SILENT_SECONDS = 5.0  # that a client may say nothing, or take nothing
WHOLE_SECONDS = 15.0  # for a request in all, however lively its client
LOOKS = 0.25  # seconds between two looks at who is late, and after which a stop is seen

Users = Mapping[str, str]  # name -> password


@dataclass
class _Visit:
    line: socket.socket
    end: float  # monotonic: hung up on then


class Server(ThreadingMixIn, TCPServer):
    """Listens as soon as it is made; raises OSError."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 32

    def __init__(
        self,
        family: socket.AddressFamily,
        address: tuple[Any, ...],
        scrape: Scrape,
        path: str = "/metrics",
        tls: ssl.SSLContext | None = None,
        users: Users | None = None,
    ) -> None:
        self.address_family = family
        self.scrape = scrape
        self.path = path
        self._tls = tls
        self._users = [_digest(f"{name}:{password}".encode()) for name, password in (users or {}).items()]
        self._runs = False
        self._free = threading.Semaphore(CONNECTIONS)
        self._open: dict[socket.socket, _Visit] = {}
        super().__init__(address, _Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def run(self) -> None:
        """Answer, in a thread of its own."""
        self._runs = True
        threading.Thread(target=self.serve_forever, args=(LOOKS,), name="scrapes", daemon=True).start()

    def stop(self) -> None:
        """Whether it runs or not."""
        if self._runs:
            self.shutdown()
        self.server_close()

    def allows(self, authorization: str) -> bool:
        """All users are compared, so that the time tells nothing."""
        if not self._users:
            return True
        scheme, _, said = authorization.partition(" ")
        try:
            given = _digest(base64.b64decode(said, validate=True)) if scheme.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            given = b""
        return sum(hmac.compare_digest(user, given) for user in self._users) > 0

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._open[request] = _Visit(request, time.monotonic() + WHOLE_SECONDS)
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread to be had
            self._done(request)
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._done(request)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """The handshake is the connection's own affair: nobody else waits for it."""
        request.settimeout(SILENT_SECONDS)
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        with self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as secret:
            self._open[request].line = secret  # the other one is empty now
            secret.do_handshake()
            super().finish_request(secret, client_address)

    def service_actions(self) -> None:
        """Between two connections, and now and then without any: hang up on who is late."""
        now = time.monotonic()
        for visit in list(self._open.values()):
            if now > visit.end:
                with suppress(OSError):
                    socket.socket.shutdown(
                        visit.line, socket.SHUT_RDWR
                    )  # under TLS, which is another thread's

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up, stalls or speaks no TLS is no news."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            print(f"halotui: a scrape failed: {clean(repr(error))}", file=sys.stderr, flush=True)

    def _done(self, request: Any) -> None:
        self._open.pop(request, None)
        self._free.release()


class _Handler(BaseHTTPRequestHandler):
    """One request a connection."""

    server: Server
    timeout = SILENT_SECONDS
    server_version = "halotui"
    sys_version = ""
    _about: ClassVar[str] = "text/plain; charset=utf-8"

    def do_GET(self) -> None:
        if not self.server.allows(self.headers.get("Authorization", "")):
            self._answer(401, b"who are you?\n", self._about, {"WWW-Authenticate": 'Basic realm="halotui"'})
            return
        path = urlsplit(self.path).path
        if path == self.server.path:
            zipped = gzip_accepted(self.headers.get("Accept-Encoding", ""))
            body, kind = self.server.scrape.text(self.headers.get("Accept", ""), zipped)
            more = {"Content-Encoding": "gzip"} if zipped else {}
            self._answer(200, body, kind, {**more, "Vary": "Accept, Accept-Encoding"})
        elif path == "/":
            self._answer(200, f"halotui export: {self.server.path}\n".encode(), self._about)
        else:
            self._answer(404, b"there is nothing here\n", self._about)

    do_HEAD = do_GET

    def _answer(self, code: int, body: bytes, kind: str, more: Mapping[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape is no news."""


def _digest(text: bytes) -> bytes:
    """Of equal length, whatever is said: so a comparison takes equally long."""
    return hashlib.sha256(text).digest()
