"""GET over https: httpx's transport, loaded only where a URL wants it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

import httpx

from halotui.collectors.http_answer import BODY, Broken
from halotui.collectors.http_wire import ANSWER_SECONDS, CONNECT_SECONDS, Unreached, words
from halotui.safe import clean

# What a kept connection says when the server had closed it.
_CLOSED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


class HttpxWire:
    """A Wire. ``url`` is what goes before each path; ``verify``: the certificate is checked."""

    def __init__(self, url: str, headers: Mapping[bytes, bytes] | None = None, *, verify: bool) -> None:
        self._url = url
        self._headers = dict(headers or {})
        # The transport without its client: no redirects, cookies, proxies or netrc to switch off.
        self._transport = httpx.AsyncHTTPTransport(
            verify=verify,
            trust_env=False,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None),
        )
        self._kept = False  # the connection has answered before

    async def get(self, path: str) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(CONNECT_SECONDS + ANSWER_SECONDS):
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
        self._kept = True
        return response.status_code, body

    async def aclose(self) -> None:
        await self._transport.aclose()

    def _request(self, path: str) -> httpx.Request:
        timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS).as_dict()
        return httpx.Request("GET", self._url + path, headers=self._headers, extensions={"timeout": timeout})

    async def _send(self, request: httpx.Request) -> httpx.Response:
        kept, self._kept = self._kept, False
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
