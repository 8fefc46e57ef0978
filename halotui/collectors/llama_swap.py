"""llama-swap: ``GET /running`` and ``/v1/models`` (v99 of 2025 to August 2026).

Never ``/upstream/*`` nor a model's name: both load. ``cmd`` may hold keys and is not read.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.json import Decoder

from halotui.collectors.engine_reading import Ask, Count, Reading, decode, listed, name, optional, positive
from halotui.collectors.llama_answers import HttpProblem
from halotui.model import ModelState, ServedModel
from halotui.safe import clean

_STATES = {
    "starting": ModelState.LOADING,
    "ready": ModelState.LOADED,
    "stopping": ModelState.LOADED,  # and holds its memory still
}


class _Running(Struct):
    model: str
    state: str | None = None
    proxy: str | None = None


class _RunningList(Struct):
    running: list[_Running] | None


class _Offer(Struct):
    id: str
    context_length: Count | None = None


class _Offers(Struct):
    data: list[_Offer] | None = None


class _Version(Struct):
    version: str | None = None


_RUNNING = Decoder(_RunningList)
_OFFERS = Decoder(_Offers)
_VERSION = Decoder(_Version)


async def read(ask: Ask) -> Reading:
    """Raises HttpProblem."""
    running = decode(_RUNNING, await ask("/running"), "llama-swap").running or []
    offered = decode(_OFFERS, await ask.once("/v1/models"), "llama-swap").data or []
    models = [
        ServedModel(
            id=called,
            state=_STATES.get(model.state or "ready", ModelState.UNLOADED),
            address=_address(model.proxy),
        )
        for model in running
        if (called := name(model.model))
    ]
    models += [
        ServedModel(id=called, state=ModelState.UNLOADED, context_tokens=positive(offer.context_length))
        for offer in offered
        if (called := name(offer.id))
    ]
    return Reading(build=await _build(ask), models=listed(models))


async def _build(ask: Ask) -> str | None:
    """Newer versions tell it."""
    body = await optional(ask.once, "/api/version")
    try:
        return name(decode(_VERSION, body, "llama-swap").version) if body else None
    except HttpProblem:
        return None


def _address(proxy: str | None) -> str | None:
    """Where the model's own server answers: scheme, host and port alone."""
    try:
        parts = urlsplit(clean(proxy, 300)) if proxy else None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            return None
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return f"{parts.scheme}://{host}:{parts.port}" if parts.port else f"{parts.scheme}://{host}"
    except ValueError:
        return None
