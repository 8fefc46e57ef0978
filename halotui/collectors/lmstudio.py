"""LM Studio: ``GET /api/v0/models`` (0.3.6 on), else ``/api/v1/models`` (0.4.0 on).

What it has no answer for it answers with 200 and an error. Whether it is at work is not in its API.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.json import Decoder

from halotui.collectors.engine_reading import Ask, Count, Reading, decode, listed, name, optional, positive
from halotui.collectors.llama_answers import HttpProblem
from halotui.model import ModelState, ServedModel

_STATES = {"loaded": ModelState.LOADED, "loading": ModelState.LOADING}


class _Model(Struct):
    id: str
    state: str | None = None
    max_context_length: Count | None = None
    loaded_context_length: Count | None = None


class _List(Struct):
    data: list[_Model]


class _Config(Struct):
    context_length: Count | None = None


class _Instance(Struct):
    id: str | None = None
    identifier: str | None = None
    config: _Config | None = None


class _Newer(Struct):
    key: str
    max_context_length: Count | None = None
    loaded_instances: list[_Instance] | None = None


class _NewerList(Struct):
    models: list[_Newer]


_V0 = Decoder(_List)
_V1 = Decoder(_NewerList)


async def read(ask: Ask) -> Reading:
    """Raises HttpProblem."""
    body = await optional(ask, "/api/v0/models")
    if body is not None:
        try:
            return Reading(models=listed(_older(decode(_V0, body, "LM Studio"))))
        except HttpProblem:
            pass
    return Reading(models=listed(_newer(decode(_V1, await ask("/api/v1/models"), "LM Studio"))))


def _older(found: _List) -> Iterator[ServedModel]:
    for model in found.data:
        state = _STATES.get(model.state or "", ModelState.UNLOADED)
        loaded = state is ModelState.LOADED
        context = positive(model.loaded_context_length) if loaded else positive(model.max_context_length)
        if called := name(model.id):
            yield ServedModel(id=called, state=state, context_tokens=context)


def _newer(found: _NewerList) -> Iterator[ServedModel]:
    for model in found.models:
        for instance in model.loaded_instances or ():
            context = positive((instance.config or _Config()).context_length)
            if called := name(instance.id or instance.identifier or model.key):
                yield ServedModel(id=called, state=ModelState.LOADED, context_tokens=context)
        if not model.loaded_instances and (called := name(model.key)):
            context = positive(model.max_context_length)
            yield ServedModel(id=called, state=ModelState.UNLOADED, context_tokens=context)
