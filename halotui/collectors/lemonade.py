"""Lemonade: ``GET /api/v1/health`` and ``/api/v1/stats`` (8.x to 9.4; ``is_busy`` and ``pid`` since 2026).

Both are read-only, and kept out of its log. ``launch_command`` may hold keys and is not read.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.json import Decoder

from halotui.collectors.engine_reading import Ask, Count, Reading, decode, listed, name, optional, positive
from halotui.collectors.llama_answers import HttpProblem
from halotui.model import ModelState, ServedModel

_STATES = {"loading": ModelState.LOADING, "unloaded": ModelState.UNLOADED}


class _Options(Struct):
    ctx_size: Count | str | None = None


class _Model(Struct):
    model_name: str
    status: str | None = None
    pid: Count | None = None
    is_busy: bool | None = None
    recipe_options: _Options | None = None


class _Health(Struct):
    status: str
    version: str | None = None
    model_loaded: str | None = None
    all_models_loaded: list[_Model] | None = None


class _Stats(Struct):
    time_to_first_token: float | None = None
    tokens_per_second: float | None = None


_HEALTH = Decoder(_Health)
_STATS = Decoder(_Stats)


async def read(ask: Ask) -> Reading:
    """Raises HttpProblem."""
    health = decode(_HEALTH, await ask("/api/v1/health"), "Lemonade")
    models = listed(_served(health))
    stats = await _stats(ask) if models else _Stats()
    told = [model.is_busy for model in health.all_models_loaded or () if model.is_busy is not None]
    return Reading(
        build=name(health.version),
        models=models,
        busy=any(told) if told else None,
        ttft_seconds=positive(stats.time_to_first_token),
        generation_tokens_per_second=positive(stats.tokens_per_second),
    )


async def _stats(ask: Ask) -> _Stats:
    """Of the last request; nothing before the first."""
    body = await optional(ask, "/api/v1/stats")
    try:
        return decode(_STATS, body, "Lemonade") if body else _Stats()
    except HttpProblem:
        return _Stats()


def _served(health: _Health) -> Iterator[ServedModel]:
    for model in health.all_models_loaded or ():
        context = (model.recipe_options or _Options()).ctx_size
        if called := name(model.model_name):
            yield ServedModel(
                id=called,
                state=_STATES.get(model.status or "", ModelState.LOADED),
                context_tokens=positive(context) if isinstance(context, int) else None,
                pid=positive(model.pid),
            )
    if health.all_models_loaded is None and (called := name(health.model_loaded)):  # 8.x
        yield ServedModel(id=called, state=ModelState.LOADED)
