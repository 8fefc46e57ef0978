"""Requests to a live llama-server, and what each reply tells of its speed.

``complete`` sends one fixed text in the model's own tokens: no two prompts begin alike, none comes from the
prompt cache, and the answers are as long as asked. All answers are greedy. A request is ended by cancelling
it: its connection closes, at which the server cancels it too.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from halotui.collectors.llama_answers import HttpKind, HttpProblem, refusal

if TYPE_CHECKING:
    import httpx

    from halotui.collectors.http_wire import Door

T = TypeVar("T")

BODY = 1 << 20  # bytes of an answer
_NO_CONNECTION = "no connection"
SEED = 2  # of the text: no four words in a row come twice in its first thousand
STEP = 61  # tokens between the beginnings of two prompts
_TEXT = """
    the quiet river walks by old oak and on to sea when wind is cold so this stone was not for rain at dawn
    but it is in the tall grass that light from a star then calm summer water of far hill with red leaf as
    snow near deep lake home
"""


class Timings(Struct):
    """What a reply tells of itself; tokens, tokens a second."""

    prompt_n: int = 0  # computed
    cache_n: int | None = None  # reused; older builds do not tell
    prompt_per_second: float | None = None
    predicted_n: int = 0
    predicted_per_second: float | None = None
    draft_n: int = 0  # absent when nothing was drafted
    draft_n_accepted: int = 0


class _Reply(Struct):
    timings: Timings


class _Tokens(Struct):
    tokens: list[int]


class Completer:
    """One server's completions. Every method raises HttpProblem alone."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def text(self, tokens: int) -> list[int]:
        """The fixed text, of so many tokens or more, the first of them its opening."""
        # by chance, not in a cycle: an n-gram draft would live on what comes again
        chosen = Random(SEED).choices(_TEXT.split(), k=2 * tokens)
        reply = await self._post("/tokenize", {"content": " ".join(chosen), "add_special": True})
        made = _decoded(reply, _Tokens).tokens
        if len(made) < tokens:
            raise HttpProblem(HttpKind.FAILED, "it makes no tokens of a plain text")
        return made

    async def complete(self, text: list[int], run: int, prompt: int, answer: int) -> Timings:
        """One request of so many tokens; ``run`` decides where in the text its prompt begins."""
        return await self.tokens(turned(text, run)[:prompt], answer, cache_prompt=False)

    async def tokens(self, prompt: list[int], answer: int, **more: Any) -> Timings:
        """One request of these tokens; ``more`` goes into its body: ``id_slot``, ``cache_prompt``."""
        return _decoded(await self._post("/completion", _body(prompt, answer, **more)), _Reply).timings

    async def chat(self, words: str, answer: int, **more: Any) -> Timings:
        """One question, its answer at most so many tokens."""
        body = {"messages": [{"role": "user", "content": words}], "max_tokens": answer, "temperature": 0}
        reply = await self._post("/v1/chat/completions", {**body, "stream": False, **more})
        return _decoded(reply, _Reply).timings

    async def hold(self, prompt: list[int], answer: int) -> None:
        """Until it has answered whole. Streamed: one that is cancelled ends with its next token."""
        body = _body(prompt, answer, cache_prompt=False, stream=True)
        with _plainly():
            await self._read(body)

    async def _read(self, body: dict[str, Any]) -> None:
        async with self._client.stream("POST", "/completion", json=body) as reply:
            if reply.status_code != 200:
                raise _refused(reply.status_code, await _whole(reply))
            async for _ in reply.aiter_bytes():
                pass

    async def _post(self, path: str, body: dict[str, Any]) -> bytes:
        """The body of its answer."""
        with _plainly():
            async with self._client.stream("POST", path, json=body) as reply:
                said = await _whole(reply)
        if reply.status_code == 404:
            raise HttpProblem(HttpKind.FAILED, f"it has no {path}")
        if reply.status_code != 200:
            raise _refused(reply.status_code, said)
        return said


def turned(text: list[int], run: int) -> list[int]:
    """The text from another place on; its opening stays at the head."""
    at = 1 + STEP * run % max(1, len(text) - 1)
    return [text[0], *text[at:], *text[1:at]]


def _body(prompt: list[int], answer: int, **more: Any) -> dict[str, Any]:
    body = {"prompt": prompt, "n_predict": answer, "temperature": 0, "ignore_eos": True, "stream": False}
    return {**body, **more}


async def _whole(reply: httpx.Response) -> bytes:
    said = bytearray()
    async for part in reply.aiter_bytes():
        said += part
        if len(said) > BODY:
            raise HttpProblem(HttpKind.FAILED, f"an answer of more than {BODY >> 20} MiB")
    return bytes(said)


def _refused(status: int, said: bytes) -> HttpProblem:
    if status == 400 and b"exceed_context_size" in said:
        return HttpProblem(HttpKind.FAILED, "the request does not fit into a slot")
    return refusal(status, said)


@asynccontextmanager
async def completer(
    url: str, api_key: str | None, door: Door | None = None
) -> AsyncGenerator[Completer, None]:
    """Without any time limit: the caller's ends it. ``door`` leads to the servers of a far box."""
    import httpx

    with _plainly():
        try:
            transport = await _transport(url, door)
        except OSError:  # no way to a far box
            raise HttpProblem(HttpKind.REFUSED, _NO_CONNECTION) from None
        unix = url.startswith("unix:")
        async with httpx.AsyncClient(
            transport=transport,
            base_url="http://localhost" if unix else url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=None,
            trust_env=False,
        ) as client:
            yield Completer(client)


async def _transport(url: str, door: Door | None) -> httpx.AsyncHTTPTransport:
    """Raises OSError: the door's."""
    import httpx

    from halotui.collectors.http_tls import transport

    verify = url.startswith("https:") and not _loopback(url)
    if door is not None:
        return await transport(url, door, verify=verify, limits=httpx.Limits())
    path = url.removeprefix("unix:") if url.startswith("unix:") else None
    return httpx.AsyncHTTPTransport(uds=path, verify=verify, trust_env=False)


@contextmanager
def _plainly() -> Iterator[None]:
    """Whatever breaks a request is a HttpProblem; of httpx's own words none: they may quote our headers."""
    import httpx

    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise HttpProblem(HttpKind.REFUSED, _NO_CONNECTION) from None
    except (httpx.NetworkError, httpx.RemoteProtocolError):
        raise HttpProblem(HttpKind.FAILED, "broken HTTP: it closed the connection") from None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise HttpProblem(HttpKind.FAILED, f"broken HTTP ({type(error).__name__})") from None


def drafting(replies: list[Timings], *, speculative: bool) -> tuple[float | None, float | None]:
    """Acceptance (accepted of drafted) and coverage (drafted of generated). Without a draft the first is not
    known, nor is the second unless the server says that it speculates: then it is 0."""
    drafted = sum(timings.draft_n for timings in replies)
    accepted = sum(timings.draft_n_accepted for timings in replies)
    generated = sum(timings.predicted_n for timings in replies)
    covered = bool(generated) and (drafted > 0 or speculative)
    return accepted / drafted if drafted else None, drafted / generated if covered else None


def _loopback(url: str) -> bool:
    """Whose certificate proves nothing."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise HttpProblem(HttpKind.FAILED, "not llama-server's JSON") from None
