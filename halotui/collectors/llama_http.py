"""A llama-server over HTTP: GET ``/health``, ``/props``, ``/slots``, ``/metrics``, and nothing else.

No prompt is ever sent and no model is ever named: either could load one. What may be asked without
waking a server is the caller's business: ``/slots`` wakes a sleeping one in every build, ``/metrics``
does in older ones.
"""

from __future__ import annotations

import math
import os
import re
import ssl
from enum import StrEnum
from ipaddress import ip_address
from pathlib import PurePath
from typing import Annotated, TypeVar

import httpx
from msgspec import Meta, MsgspecError, Struct
from msgspec.json import Decoder

from halotui.model import Metrics, Props, SlotReading
from halotui.safe import clean

T = TypeVar("T")

LARGEST = 4 * 1024 * 1024  # bytes of an answer; 16 slots are 20 kB
CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 600.0  # older builds answer between two prompt batches only, and one can take minutes


class HttpKind(StrEnum):
    """Why there is no reading."""

    REFUSED = "refused"  # nothing listens, or it cannot be reached
    LOADING = "loading"  # the model is being loaded
    OFF = "off"  # the server was started without this endpoint
    LOCKED = "locked"  # it wants an API key, or another one
    ROUTER = "router"  # it serves models through children and has no slots of its own
    FAILED = "failed"  # anything else: not llama-server's answer, or none in time


class HttpProblem(Exception):
    """An endpoint gave no reading. ``reason`` is safe to show: harmless text, never a key."""

    def __init__(self, kind: HttpKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


# status, what its message must say, the kind, our words for it
_ANSWERS = (
    (503, "loading model", HttpKind.LOADING, "the model is being loaded"),
    (501, "", HttpKind.OFF, "the server was started without it"),
    (401, "", HttpKind.LOCKED, "it wants an API key"),
    (403, "", HttpKind.LOCKED, "it wants an API key"),
    (400, "model name is missing", HttpKind.ROUTER, "a router: its models answer on ports of their own"),
)
# What a kept connection says when the server had closed it: after 5 s of silence, or 100 requests.
_CLOSED = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


class LlamaHttp:
    """One server, one kept connection, one request at a time; belongs to one event loop.

    ``url`` is ``http://host:port``, ``https://...`` or ``unix:/path/of.sock``, a path prefix included.
    Each question returns a struct or raises HttpProblem.
    """

    def __init__(
        self, url: str, api_key: str | None = None, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.url = url
        self._headers = {b"Accept-Encoding": b"identity", b"User-Agent": b"halotui"}
        if api_key:
            self._headers[b"Authorization"] = b"Bearer " + api_key.encode("utf-8", "surrogateescape")
        # httpx's transport without its client: no redirects, cookies, proxies or netrc to switch off.
        self._transport = transport or _transport(url)
        self._kept = False  # the connection has answered before

    def __repr__(self) -> str:
        return f"LlamaHttp({self.url!r})"

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def health(self) -> None:
        """Returns when it is up. It says nothing of whether it still decodes."""
        await self._get("/health")

    async def props(self) -> Props:
        """Wakes nothing."""
        return parse_props(await self._get("/props"))

    async def slots(self) -> tuple[SlotReading, ...]:
        """Wakes a sleeping server, and keeps one awake."""
        return parse_slots(await self._get("/slots"))

    async def metrics(self) -> Metrics:
        """Wakes a sleeping server up to b10068 or so."""
        return parse_metrics(await self._get("/metrics"))

    async def _get(self, path: str) -> bytes:
        try:
            response = await self._send(self._request(path))
            body = await _body(response)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise _unreached(error) from None
        except httpx.TimeoutException:
            raise HttpProblem(HttpKind.FAILED, f"no answer in {ANSWER_SECONDS:.0f} s") from None
        except UnicodeError:
            raise HttpProblem(HttpKind.FAILED, "not a URL") from None
        except httpx.HTTPError as error:  # its text may quote our headers
            raise HttpProblem(HttpKind.FAILED, f"broken HTTP ({type(error).__name__})") from None
        self._kept = True
        if response.status_code != httpx.codes.OK:
            raise _refusal(response.status_code, body)
        return body

    def _request(self, path: str) -> httpx.Request:
        try:
            url = httpx.URL("http://localhost" if self.url.startswith("unix:") else self.url)
            target = url.copy_with(raw_path=url.raw_path.partition(b"?")[0].rstrip(b"/") + path.encode())
        except (httpx.InvalidURL, ValueError):
            raise HttpProblem(HttpKind.FAILED, "not a URL") from None
        if url.scheme not in ("http", "https") or not url.host or url.port == 0 or (url.port or 0) > 65535:
            raise HttpProblem(HttpKind.FAILED, "not a URL")
        timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS).as_dict()
        return httpx.Request("GET", target, headers=self._headers, extensions={"timeout": timeout})

    async def _send(self, request: httpx.Request) -> httpx.Response:
        kept, self._kept = self._kept, False
        try:
            return await self._transport.handle_async_request(request)
        except _CLOSED:
            if not kept:
                raise
            return await self._transport.handle_async_request(request)


def _transport(url: str) -> httpx.AsyncHTTPTransport:
    """A certificate for a loopback address proves nothing; elsewhere it is checked."""
    return httpx.AsyncHTTPTransport(
        verify=url.lower().startswith("https:") and not _loopback(url),
        trust_env=False,
        limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None),
        uds=url.removeprefix("unix:") if url.startswith("unix:") else None,
    )


def _loopback(url: str) -> bool:
    try:
        host = httpx.URL(url).host
        return host == "localhost" or ip_address(host).is_loopback
    except (httpx.InvalidURL, ValueError):
        return False


async def _body(response: httpx.Response) -> bytes:
    body = bytearray()
    try:
        async for part in response.aiter_raw():
            body += part
            if len(body) > LARGEST:
                raise HttpProblem(HttpKind.FAILED, f"an answer of more than {LARGEST >> 20} MiB")
    finally:
        await response.aclose()
    return bytes(body)


def _unreached(error: BaseException) -> HttpProblem:
    """The kernel's words lie at the bottom of the chain. A bad certificate is not a server that is down."""
    reason, cause = "no connection", error.__cause__
    if isinstance(error, httpx.ConnectTimeout):
        reason = f"no connection within {CONNECT_SECONDS:.0f} s"
    while cause:
        if isinstance(cause, ssl.SSLError):
            return HttpProblem(HttpKind.FAILED, clean(f"TLS: {cause.reason or 'failed'}"))
        if isinstance(cause, OSError) and cause.errno:  # a resolver's numbers are negative
            reason = os.strerror(cause.errno) if cause.errno > 0 else clean(cause.strerror or reason)
        cause = cause.__cause__ or cause.__context__
    return HttpProblem(HttpKind.REFUSED, reason)


def _refusal(status: int, body: bytes) -> HttpProblem:
    said = clean(body, 1000).lower()
    for code, words, kind, reason in _ANSWERS:
        if status == code and words in said:
            return HttpProblem(kind, reason)
    return HttpProblem(HttpKind.FAILED, f"HTTP status {status}")


# The wire: only what we read; the rest is skipped unparsed.

Count = Annotated[int, Meta(ge=-(2**53), le=2**53)]


class _Next(Struct):
    n_remain: Count | None = None
    n_decoded: Count | None = None


class _Slot(Struct):
    id: Count
    is_processing: bool
    n_ctx: Count | None = None
    speculative: bool | None = None
    id_task: Count | None = None
    n_prompt_tokens: Count | None = None
    n_prompt_tokens_processed: Count | None = None
    n_prompt_tokens_cache: Count | None = None
    next_token: list[_Next] | _Next | None = None  # an object in early 2025


class _Generation(Struct):
    n_ctx: Count | None = None


class _Props(Struct):
    role: str | None = None
    total_slots: Count | None = None
    model_alias: str | None = None
    model_path: str | None = None
    build_info: str | None = None
    is_sleeping: bool | None = None
    endpoint_slots: bool | None = None
    endpoint_metrics: bool | None = None
    default_generation_settings: _Generation | None = None


_SLOTS = Decoder(Annotated[list[_Slot], Meta(max_length=1024)])
_PROPS = Decoder(_Props)


def _decode(decoder: Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (MsgspecError, ValueError, RecursionError):
        raise HttpProblem(HttpKind.FAILED, "not llama-server's JSON") from None


def parse_slots(body: bytes) -> tuple[SlotReading, ...]:
    """``GET /slots``. Raises HttpProblem (failed)."""
    return tuple(_slot(slot) for slot in _decode(_SLOTS, body))


def _slot(slot: _Slot) -> SlotReading:
    listed = slot.next_token if isinstance(slot.next_token, list) else [slot.next_token]
    ahead = (listed and listed[0]) or _Next()
    return SlotReading(
        id=slot.id,
        task=_known(slot.id_task),
        processing=slot.is_processing,
        context_tokens=slot.n_ctx,
        speculative=slot.speculative,
        decoded=_known(ahead.n_decoded),
        remaining=_known(ahead.n_remain),
        tokens=_known(slot.n_prompt_tokens),
        prompt_processed=_known(slot.n_prompt_tokens_processed),
        prompt_cached=_known(slot.n_prompt_tokens_cache),
    )


def _known(count: int | None) -> int | None:
    """llama.cpp writes -1 for "none" and "without limit"."""
    return None if count is None or count < 0 else count


def parse_props(body: bytes) -> Props:
    """``GET /props``. Raises HttpProblem (failed; router)."""
    props = _decode(_PROPS, body)
    if props.role == "router":
        raise _refusal(400, b"model name is missing")
    path, alias = (clean(text) if text else None for text in (props.model_path, props.model_alias))
    named = alias if alias != path else None  # without -a some builds repeat the path
    return Props(
        total_slots=_known(props.total_slots),
        model=named or (PurePath(path).name if path else None),
        model_path=path,
        build=clean(props.build_info) if props.build_info else None,
        context_tokens=_known((props.default_generation_settings or _Generation()).n_ctx),
        is_sleeping=props.is_sleeping,
        slots_endpoint=props.endpoint_slots,
        metrics_endpoint=props.endpoint_metrics,
    )


# metric, without its prefix -> our field. The second spellings are those of forks and of open pull requests.
_METRICS = {
    b"prompt_tokens_total": "prompt_tokens_total",
    b"prompt_seconds_total": "prompt_seconds_total",
    b"tokens_predicted_total": "generation_tokens_total",
    b"tokens_predicted_seconds_total": "generation_seconds_total",
    b"n_decode_total": "decode_calls_total",
    b"spec_decode_num_draft_tokens_total": "draft_tokens_total",
    b"spec_decode_num_draft_tokens": "draft_tokens_total",
    b"draft_tokens_total": "draft_tokens_total",
    b"spec_tokens_drafted_total": "draft_tokens_total",
    b"spec_decode_num_accepted_tokens_total": "draft_accepted_total",
    b"spec_decode_num_accepted_tokens": "draft_accepted_total",
    b"draft_tokens_accepted_total": "draft_accepted_total",
    b"spec_tokens_accepted_total": "draft_accepted_total",
    b"requests_processing": "requests_processing",
    b"requests_deferred": "requests_deferred",
}
_SAMPLE = re.compile(
    rb"^llamacpp[:_](%s)(\{(?:[^\"}\n]|\"(?:[^\"\\\n]|\\.)*\")*\})?[ \t]+([-+.\w]+)" % b"|".join(_METRICS),
    re.M,
)


def parse_metrics(body: bytes) -> Metrics:
    """``GET /metrics``, the Prometheus text format. Raises HttpProblem (failed) when nothing is ours.

    A name without labels is the total; with labels only, the total is their sum.
    """
    totals: dict[str, float] = {}
    sums: dict[str, float] = {}
    for name, labels, text in _SAMPLE.findall(body):
        try:
            value = float(text)
        except ValueError:
            continue
        field = _METRICS[name]
        if labels:
            sums[field] = sums.get(field, 0.0) + value
        else:
            totals[field] = value
    found = sums | totals
    if not found:
        raise HttpProblem(HttpKind.FAILED, "not llama-server's metrics")
    return Metrics(**{field: value for field, value in found.items() if math.isfinite(value)})
