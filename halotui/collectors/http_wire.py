"""GET over one kept connection, plain HTTP on TCP or a unix socket.

httpx takes 1.1 ms of CPU for what takes 0.1 here, once a second and for ever: it is left to https.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Protocol, cast
from urllib.parse import quote, urlsplit

from halotui.collectors.http_answer import Answer, Broken
from halotui.hosts import Host, LinkDown
from halotui.safe import clean

Door = Callable[[str, int], Awaitable[str | None]]  # Host.door

CONNECT_SECONDS = 3.0  # for the name and all of its addresses
FAR_CONNECT_SECONDS = 10.0  # ... and for a door: some trips to a box far away
NOTICE_SECONDS = 0.2  # a link that is cut closes all connections a moment before it is known to be down
ANSWER_SECONDS = 600.0  # older builds answer between two prompt batches only, and one can take minutes


class Unreached(Exception):
    """There is no connection. ``reason`` is safe to show: the kernel's words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Wire(Protocol):
    """The way to one server. One request is in flight at a time, the others wait."""

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body. Raises Unreached, Broken, or LinkDown of a box far away. No redirects; to cancel
        closes the connection."""
        ...

    async def aclose(self) -> None:
        """Close the connection, after the answer that is awaited."""
        ...


def door_of(host: Host) -> Door | None:
    """The way to what listens on that box; None: just there."""
    return None if host.here else host.door


def wire(url: str, headers: dict[bytes, bytes], door: Door | None = None) -> Wire:
    """The way to a server, by ``door`` to that of a box far away. Raises ValueError: it is no URL."""
    if url.startswith("unix:"):
        return StreamWire(os.fsencode(url.removeprefix("unix:")), headers=headers, door=door)
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    host, port = _host(parts.hostname or ""), parts.port
    if not (tls or parts.scheme == "http") or port == 0 or "@" in parts.netloc:
        raise ValueError
    prefix = quote(parts.path.rstrip("/"), safe="/%!$&'()*+,;=:@~")
    if not tls:
        return StreamWire((host, port or 80), prefix, headers, door=door)
    from halotui.collectors.http_tls import HttpxWire  # 70 ms and 7 MB

    place = f"[{host}]" if ":" in host else host
    # A certificate for a loopback address proves nothing; elsewhere it is checked.
    return HttpxWire(f"https://{place}:{port or 443}{prefix}", headers, verify=not _loopback(host), door=door)


class StreamWire:
    """``address``: host and port, or the path of a unix socket. ``prefix``: goes before each path.

    Takes text that is fit for a request, and keeps the ``headers`` to itself. A ``door`` is asked anew for
    each connection: after another login it is elsewhere.
    """

    def __init__(
        self,
        address: tuple[str, int] | bytes,
        prefix: str = "",
        headers: Mapping[bytes, bytes] | None = None,
        *,
        connect_seconds: float | None = None,
        answer_seconds: float = ANSWER_SECONDS,
        door: Door | None = None,
    ) -> None:
        lines = {b"Host": _host_header(address), **(headers or {})}
        self._head = b"".join(b"%b: %b\r\n" % line for line in lines.items())
        self._address = address
        self._prefix = prefix
        self._door = door
        self._connect_seconds = connect_seconds or (FAR_CONNECT_SECONDS if door else CONNECT_SECONDS)
        self._answer_seconds = answer_seconds
        self._turn = asyncio.Lock()
        self._connection: _Connection | None = None
        self._closed = False

    async def get(self, path: str) -> tuple[int, bytes]:
        request = b"GET %b HTTP/1.1\r\n%b\r\n" % ((self._prefix + path).encode(), self._head)
        async with self._turn:
            if self._connection is not None and self._connection.free:
                try:
                    return await self._ask(self._connection, request)
                except _Unheard:  # it is closed after 5 s of silence or 100 requests: once more, on a new one
                    pass
            self._connection = None
            if self._door is not None:
                return await self._ask_far(self._door, request)
            self._connection = await self._connect()
            return await self._ask(self._connection, request)

    async def _ask_far(self, door: Door, request: bytes) -> tuple[int, bytes]:
        """Over there a connection is refused after it was made here."""
        try:
            self._connection = await self._connect()
            return await self._ask(self._connection, request)
        except Broken as broken:
            await asyncio.sleep(NOTICE_SECONDS)
            try:
                await _through(door, self._address)
            except LinkDown:
                raise
            except OSError as error:
                raise Unreached(words(error)) from None
            if isinstance(broken, _Unheard):
                raise Unreached(os.strerror(errno.ECONNREFUSED)) from None
            raise

    async def aclose(self) -> None:
        self._closed = True
        if self._connection is not None and self._connection.free:
            self._connection.close()
            await asyncio.sleep(0)  # the loop closes the socket in its next round

    async def _ask(self, connection: _Connection, request: bytes) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(self._answer_seconds):
                answer = await connection.ask(request)
        except TimeoutError:
            raise Broken(f"no answer in {self._answer_seconds:g} s") from None
        finally:
            if self._closed or not connection.free:  # a late answer would be taken for the next one's
                connection.close()
        return answer.status, answer.body

    async def _connect(self) -> _Connection:
        """Each address gets an equal share of the time: a dead one must not hide a live one."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._connect_seconds
        trouble = OSError("no address")
        try:
            async with asyncio.timeout_at(deadline):
                path = await _through(self._door, self._address) if self._door is not None else None
                addresses = [path] if path is not None else await self._addresses()
        except LinkDown:
            raise
        except OSError as error:
            addresses, trouble = [], error
        for tried, address in enumerate(addresses):
            try:
                async with asyncio.timeout((deadline - loop.time()) / (len(addresses) - tried)):
                    return await _open(address)
            except OSError as error:
                trouble = error
        raise Unreached(words(trouble))

    async def _addresses(self) -> list[tuple[str, int] | bytes]:
        """A name's are looked up, in a thread."""
        if isinstance(self._address, bytes) or _numeric(self._address[0]):
            return [self._address]
        host, port = self._address
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM)
        return [(str(address[0]), port) for *_, address in found]


class _Unheard(Broken):
    """The connection was closed before any byte of an answer."""


class _Connection(asyncio.Protocol):
    """``free``: it can be asked."""

    _transport: asyncio.Transport
    _answer: Answer | None = None  # the one that is awaited
    _waiter: asyncio.Future[Answer]

    @property
    def free(self) -> bool:
        return self._answer is None and not self._transport.is_closing()

    def close(self) -> None:
        self._transport.abort()

    async def ask(self, request: bytes) -> Answer:
        """Raises Broken."""
        if not self.free:  # it was closed as soon as it was made
            raise _Unheard("closed without an answer")
        self._answer = Answer()
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiter

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:  # nobody asked
            return self.close()
        try:
            answer.feed(data)
        except Broken as broken:
            return self._fail(broken)
        if answer.done:
            self._finish(answer)
        return None

    def connection_lost(self, error: Exception | None) -> None:
        answer = self._answer
        if answer is None:
            return
        if not answer.begun:
            self._fail(_Unheard("closed without an answer"))
        elif error is not None:
            self._fail(Broken(words(error) if isinstance(error, OSError) else "closed"))
        else:
            try:
                answer.end()
            except Broken as broken:
                self._fail(broken)
            else:
                self._finish(answer)

    def _finish(self, answer: Answer) -> None:
        self._answer = None
        if not answer.keeps:
            self.close()
        if not self._waiter.done():  # cancelled
            self._waiter.set_result(answer)

    def _fail(self, broken: Broken) -> None:
        self._answer = None
        self.close()
        if not self._waiter.done():
            self._waiter.set_exception(broken)


def words(error: OSError) -> str:
    """The kernel's; asyncio's time-out has none of its own."""
    if error.errno is None:
        return clean(str(error)) or os.strerror(errno.ETIMEDOUT)
    return os.strerror(error.errno) if error.errno > 0 else clean(error.strerror or "no address")


async def _through(door: Door, address: tuple[str, int] | bytes) -> bytes | None:
    """The socket that leads there. Raises LinkDown, OSError."""
    at = (os.fsdecode(address), 0) if isinstance(address, bytes) else address
    path = await door(*at)
    return None if path is None else os.fsencode(path)


async def _open(address: tuple[str, int] | bytes) -> _Connection:
    loop = asyncio.get_running_loop()
    if isinstance(address, bytes):
        return (await loop.create_unix_connection(_Connection, os.fsdecode(address)))[1]
    return (await loop.create_connection(_Connection, *address))[1]


_NAME = re.compile(r"[\w.-]+", re.A)


def _host(text: str) -> str:
    """An address, or a name in ASCII. Raises ValueError."""
    if ":" in text:
        return str(IPv6Address(text.replace("%25", "%")))
    name = text if text.isascii() else text.encode("idna").decode()
    if not _NAME.fullmatch(name):
        raise ValueError
    return name


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _numeric(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _host_header(address: tuple[str, int] | bytes) -> bytes:
    """A zone (``%eth0``) is our own affair."""
    if isinstance(address, bytes):
        return b"localhost"
    host, port = address[0].partition("%")[0], address[1]
    return (f"[{host}]" if ":" in host else host).encode() + (b":%d" % port if port != 80 else b"")
