"""GET over https: httpx's transport, loaded only where a URL wants it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx

from halotui.collectors.http_answer import BODY, Broken
from halotui.collectors.http_wire import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    FAR_CONNECT_SECONDS,
    NOTICE_SECONDS,
    Door,
    Unreached,
    words,
)
from halotui.hosts import LinkDown
from halotui.safe import clean

# What a kept connection says when the server had closed it.
_CLOSED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


_ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None)


async def transport(
    url: str, door: Door | None = None, *, verify: bool = True, limits: httpx.Limits = _ONE
) -> httpx.AsyncHTTPTransport:
    """For requests to ``url``, which may be one of a box far away: only the bytes go another way, and no
    further than to the place that ``url`` names. Raises OSError, LinkDown."""
    path = await _way(url, door) if door is not None else None
    return httpx.AsyncHTTPTransport(verify=verify, trust_env=False, limits=limits, uds=path)


async def _way(url: str, door: Door) -> str | None:
    """Raises OSError, LinkDown."""
    if url.startswith("unix:"):
        return await door(url.removeprefix("unix:"), 0)
    parts = urlsplit(url)
    return await door(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


class HttpxWire:
    """A Wire. ``url`` is what goes before each path; ``verify``: the certificate is checked."""

    def __init__(
        self,
        url: str,
        headers: Mapping[bytes, bytes] | None = None,
        *,
        verify: bool,
        door: Door | None = None,
    ) -> None:
        self._url = url
        self._headers = dict(headers or {})
        self._verify = verify
        self._door = door
        self._connect_seconds = FAR_CONNECT_SECONDS if door else CONNECT_SECONDS
        # The transport without its client: no redirects, cookies, proxies or netrc to switch off.
        self._transport: httpx.AsyncHTTPTransport | None = None
        self._kept = False  # the connection has answered before

    async def get(self, path: str) -> tuple[int, bytes]:
        if self._door is None:
            return await self._get(path)
        try:
            return await self._get(path)
        except (Unreached, Broken):
            await self.aclose()  # after another login the door is elsewhere
            await asyncio.sleep(NOTICE_SECONDS)
            try:
                await _way(self._url, self._door)
            except LinkDown:
                raise
            except OSError as error:
                raise Unreached(words(error)) from None
            raise

    async def _get(self, path: str) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(self._connect_seconds + ANSWER_SECONDS):
                response = await self._send(self._request(path))
                body = await _body(response)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _unreached(error) from None
        except (httpx.TimeoutException, TimeoutError):
            raise Broken(f"no answer in {ANSWER_SECONDS:g} s") from None
        except (httpx.InvalidURL, UnicodeError):
            raise Broken("not a URL") from None
        except httpx.HTTPError as error:  # its text may quote our headers
            raise Broken(f"broken HTTP ({type(error).__name__})") from None
        except LinkDown:
            raise
        except OSError as error:
            raise Unreached(words(error)) from None
        self._kept = True
        return response.status_code, body

    async def aclose(self) -> None:
        gone, self._transport = self._transport, None
        if gone is not None:
            await gone.aclose()

    def _request(self, path: str) -> httpx.Request:
        timeout = httpx.Timeout(ANSWER_SECONDS, connect=self._connect_seconds).as_dict()
        return httpx.Request("GET", self._url + path, headers=self._headers, extensions={"timeout": timeout})

    async def _send(self, request: httpx.Request) -> httpx.Response:
        kept, self._kept = self._kept, False
        if self._transport is None:
            self._transport = await transport(self._url, self._door, verify=self._verify)
        try:
            return await self._transport.handle_async_request(request)
        except _CLOSED:
            if not kept:
                raise
            return await self._transport.handle_async_request(request)


async def _body(response: httpx.Response) -> bytes:
    body = bytearray()
    try:
        async for part in response.aiter_raw():
            body += part
            if len(body) > BODY:
                raise Broken(f"an answer of more than {BODY >> 20} MiB")
    finally:
        await response.aclose()
    return bytes(body)


def _unreached(error: BaseException) -> Unreached | Broken:
    """The kernel's words lie at the bottom of the chain. A bad certificate is not a server that is down."""
    reason = words(TimeoutError()) if isinstance(error, httpx.ConnectTimeout) else "no connection"
    cause = error.__cause__
    while cause:
        if isinstance(cause, ssl.SSLError):
            return Broken(clean(f"TLS: {cause.reason or 'failed'}"))
        if isinstance(cause, OSError) and cause.errno:
            reason = words(cause)
        cause = cause.__cause__ or cause.__context__
    return Unreached(reason)
