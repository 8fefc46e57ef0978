"""What an engine other than llama.cpp says in one round of questions: one shape for all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, Protocol, TypeVar

from msgspec import Meta, MsgspecError, Struct
from msgspec.json import Decoder

from halotui.collectors.llama_answers import HttpKind, HttpProblem
from halotui.model import Metrics, ModelState, ServedModel, ServerFacts
from halotui.safe import clean

T = TypeVar("T")

MODELS = 256  # listed at most, the loaded ones first
NAME = 200  # characters of a model's name
Count = Annotated[int, Meta(ge=-(2**53), le=2**53)]

_ORDER = tuple(map(ModelState, ("loaded", "loading", "downloading", "sleeping", "failed", "unloaded")))


class Reading(Struct, frozen=True, kw_only=True):
    """Unknown is None. Counters are since the engine's start: rates are for the sampler."""

    build: str | None = None
    model: str | None = None  # where there is one, and no list of them
    models: tuple[ServedModel, ...] = ()
    busy: bool | None = None  # None: its API does not tell
    sleeping: bool = False
    reason: str | None = None
    metrics: Metrics = Metrics()
    kv_used_ratio: float | None = None
    kv_capacity_tokens: int | None = None
    context_tokens: int | None = None  # of one request, at most
    ttft_buckets: tuple[tuple[float, float], ...] = ()  # upper bound in seconds, requests up to it
    ttft_seconds: float | None = None  # of the last request
    generation_tokens_per_second: float | None = None  # of the last request
    facts: ServerFacts | None = None


class Ask(Protocol):
    """GET of a path of the engine. Raises HttpProblem."""

    async def __call__(self, path: str) -> bytes: ...

    async def once(self, path: str) -> bytes:
        """What does not change while the engine runs: the answer is kept for a while."""
        ...


Get = Callable[[str], Awaitable[bytes]]


async def optional(ask: Get, path: str) -> bytes | None:
    """None where the engine has no such path; raises what ends the round."""
    try:
        return await ask(path)
    except HttpProblem as problem:
        if problem.kind in (HttpKind.OFF, HttpKind.FAILED):
            return None
        raise


def decode(decoder: Decoder[T], body: bytes, whose: str) -> T:
    """Raises HttpProblem (failed)."""
    try:
        return decoder.decode(body)
    except (MsgspecError, ValueError, RecursionError):
        raise HttpProblem(HttpKind.FAILED, f"not {whose}'s JSON") from None


def name(text: str | None) -> str | None:
    """A name that may be shown, or None."""
    return clean(text, NAME).strip() or None if text else None


def positive(number: Any) -> Any:
    """None for what is no amount: engines write 0 or -1 for "not known"."""
    return number if number is not None and number > 0 else None


def listed(models: Iterable[ServedModel]) -> tuple[ServedModel, ...]:
    """Those that take memory first; each name once."""
    kept: dict[str, ServedModel] = {}
    for model in sorted(models, key=lambda model: _ORDER.index(model.state)):
        kept.setdefault(model.id, model)
    return tuple(kept.values())[:MODELS]
