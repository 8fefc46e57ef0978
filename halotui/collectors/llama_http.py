"""A llama-server over HTTP: GET ``/health``, ``/props``, ``/slots``, ``/metrics``, ``/models``: nothing else.

No prompt is ever sent and no model is ever named: either could load one. What may be asked without
waking a server is the caller's business: ``/slots`` wakes a sleeping one in every build, ``/metrics``
does in older ones.
"""

from __future__ import annotations

import os
import re
from ipaddress import IPv6Address, ip_address
from urllib.parse import quote, urlsplit

from halotui.collectors.http_answer import Broken
from halotui.collectors.http_wire import StreamWire, Unreached, Wire
from halotui.collectors.llama_answers import (
    HttpKind,
    HttpProblem,
    parse_metrics,
    parse_props,
    parse_router,
    parse_slots,
    refusal,
)
from halotui.collectors.llama_models import Offered, parse_meta, parse_offered
from halotui.model import Metrics, ModelMeta, Props, SlotReading

__all__ = ["HttpKind", "HttpProblem", "LlamaHttp", "parse_metrics", "parse_props", "parse_slots"]

_NAME = re.compile(r"[\w.-]+", re.A)
_CONTROLS = re.compile(rb"[\0-\x1f\x7f]")


class LlamaHttp:
    """One server, one kept connection, one request at a time; belongs to one event loop.

    ``url`` is ``http://host:port``, ``https://...``, with a path prefix or not, or ``unix:/path/of.sock``.
    Each question returns a struct or raises HttpProblem.
    """

    def __init__(self, url: str, api_key: str | None = None, *, wire: Wire | None = None) -> None:
        self.url = url
        self._key = api_key
        self._wire = wire  # else made by the first question, which can say what is wrong with the URL

    def __repr__(self) -> str:
        return f"LlamaHttp({self.url!r})"

    async def aclose(self) -> None:
        if self._wire is not None:
            await self._wire.aclose()

    async def health(self) -> None:
        """Returns when it is up. It says nothing of whether it still decodes."""
        await self.get("/health")

    async def props(self) -> Props:
        """Wakes nothing."""
        return parse_props(await self.get("/props"))

    async def slots(self) -> tuple[SlotReading, ...]:
        """Wakes a sleeping server, and keeps one awake."""
        return parse_slots(await self.get("/slots"))

    async def metrics(self) -> Metrics:
        """Wakes a sleeping server up to b10068 or so."""
        return parse_metrics(await self.get("/metrics"))

    async def meta(self) -> ModelMeta:
        """Of a server with one model. Wakes nothing."""
        return parse_meta(await self.get("/v1/models"))

    async def offered(self) -> tuple[Offered, ...]:
        """The models of a router. Loads, wakes and keeps awake nothing."""
        return parse_offered(await self.get("/models"))

    async def router(self) -> tuple[bool, str | None]:
        """Whether it is a router, and its build."""
        return parse_router(await self.get("/props"))

    async def get(self, path: str) -> bytes:
        """For the adapters of other engines. Raises HttpProblem."""
        if self._wire is None:
            self._wire = _wire(self.url, _headers(self._key))
        try:
            status, body = await self._wire.get(path)
        except Unreached as unreached:
            raise HttpProblem(HttpKind.REFUSED, unreached.reason) from None
        except Broken as broken:
            raise HttpProblem(HttpKind.FAILED, broken.reason) from None
        if status != 200:
            raise refusal(status, body)
        return body


def _headers(api_key: str | None) -> dict[bytes, bytes]:
    headers = {b"Accept-Encoding": b"identity", b"User-Agent": b"halotui"}
    if api_key:
        try:
            key = api_key.encode("utf-8", "surrogateescape")
        except UnicodeError:
            key = b"\0"
        if _CONTROLS.search(key):  # a line break would begin a header of its own
            raise HttpProblem(HttpKind.FAILED, "the API key holds control characters") from None
        headers[b"Authorization"] = b"Bearer " + key
    return headers


def _wire(url: str, headers: dict[bytes, bytes]) -> Wire:
    """Raises HttpProblem (failed)."""
    try:
        if url.startswith("unix:"):
            return StreamWire(os.fsencode(url.removeprefix("unix:")), headers=headers)
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        host, port = _host(parts.hostname or ""), parts.port
        if not (tls or parts.scheme == "http") or port == 0 or "@" in parts.netloc:
            raise ValueError
        prefix = quote(parts.path.rstrip("/"), safe="/%!$&'()*+,;=:@~")
    except ValueError:  # UnicodeError too
        raise HttpProblem(HttpKind.FAILED, "not a URL") from None
    if not tls:
        return StreamWire((host, port or 80), prefix, headers)
    from halotui.collectors.http_tls import HttpxWire  # 70 ms and 7 MB

    place = f"[{host}]" if ":" in host else host
    # A certificate for a loopback address proves nothing; elsewhere it is checked.
    return HttpxWire(f"https://{place}:{port or 443}{prefix}", headers, verify=not _loopback(host))


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
