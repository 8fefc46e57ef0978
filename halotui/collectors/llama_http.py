"""A llama-server over HTTP: GET ``/health``, ``/props``, ``/slots``, ``/metrics``, ``/models``: nothing else.

No prompt is ever sent and no model is ever named: either could load one. What may be asked without
waking a server is the caller's business: ``/slots`` wakes a sleeping one in every build, ``/metrics``
does in older ones.
"""

from __future__ import annotations

import re

from halotui.collectors.http_answer import Broken
from halotui.collectors.http_wire import Door, Unreached, Wire, wire
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

_CONTROLS = re.compile(rb"[\0-\x1f\x7f]")


class LlamaHttp:
    """One server, one kept connection, one request at a time; belongs to one event loop.

    ``url`` is ``http://host:port``, ``https://...``, with a path prefix or not, or ``unix:/path/of.sock``.
    ``door`` leads to that of a box far away. Each question returns a struct or raises HttpProblem; LinkDown
    where the box cannot be reached: then nothing is known of the server.
    """

    def __init__(
        self, url: str, api_key: str | None = None, *, wire: Wire | None = None, door: Door | None = None
    ) -> None:
        self.url = url
        self._key = api_key
        self._door = door
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
            headers = _headers(self._key)
            try:
                self._wire = wire(self.url, headers, self._door)
            except ValueError:  # UnicodeError too
                raise HttpProblem(HttpKind.FAILED, "not a URL") from None
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
