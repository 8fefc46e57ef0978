"""Requests of known size to a live llama-server, and what each reply tells of its speed.

The prompts are one fixed text in the model's own tokens; no two begin alike, and none comes from the prompt
cache. The answers are greedy and as long as asked. A request is ended by cancelling it: its connection
closes, at which the server cancels it too.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from halotui.collectors.llama_answers import HttpKind, HttpProblem, refusal

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

BODY = 1 << 20  # bytes of an answer
SEED = 2  # of the text: no four words in a row come twice in its first thousand
STEP = 61  # tokens between the beginnings of two prompts
_TEXT = """
    the quiet river walks by old oak and on to sea when wind is cold so this stone was not for rain at dawn
    but it is in the tall grass that light from a star then calm summer water of far hill with red leaf as
    snow near deep lake home
"""


class Timings(Struct):
    """What a reply tells of itself; tokens, tokens a second."""

    prompt_n: int = 0
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
    """One server's completions. Every method raises HttpProblem, and within :func:`completer` only that."""

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
        at = 1 + STEP * run % max(1, len(text) - 1)  # the opening stays at the head
        turned = [text[0], *text[at:], *text[1:at]]
        body = {
            "prompt": turned[:prompt],
            "n_predict": answer,
            "temperature": 0,
            "ignore_eos": True,
            "cache_prompt": False,
            "stream": False,
        }
        return _decoded(await self._post("/completion", body), _Reply).timings

    async def _post(self, path: str, body: dict[str, Any]) -> bytes:
        """The body of its answer."""
        said = bytearray()
        async with self._client.stream("POST", path, json=body) as answer:
            async for part in answer.aiter_bytes():
                said += part
                if len(said) > BODY:
                    raise HttpProblem(HttpKind.FAILED, f"an answer of more than {BODY >> 20} MiB")
        if answer.status_code != 200:
            raise refusal(answer.status_code, bytes(said))
        return bytes(said)


@asynccontextmanager
async def completer(url: str, api_key: str | None) -> AsyncGenerator[Completer, None]:
    """Without any time limit: the caller's ends it. Raises HttpProblem where a request fails before it is
    answered."""
    import httpx

    unix = url.startswith("unix:")
    transport = httpx.AsyncHTTPTransport(
        uds=url.removeprefix("unix:") if unix else None,
        verify=url.startswith("https:") and not _loopback(url),
        trust_env=False,
    )
    try:
        async with httpx.AsyncClient(
            transport=transport,
            base_url="http://localhost" if unix else url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=None,
            trust_env=False,
        ) as client:
            yield Completer(client)
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise HttpProblem(HttpKind.REFUSED, "no connection") from None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # its text may quote our headers
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
