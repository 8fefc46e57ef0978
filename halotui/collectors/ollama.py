"""Ollama: ``GET /api/ps`` and ``/api/version`` (0.40; ``context_length`` since 0.11).

Neither loads a model, nor puts off its unloading. Whether it is at work is not in its API.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from msgspec.json import Decoder

from halotui.collectors.engine_reading import Ask, Count, Reading, decode, listed, name, positive
from halotui.model import ModelState, ServedModel

_FOR_EVER = 4102444800.0  # 2100: keep_alive was "never", which Ollama writes as 292 years ahead


class _Model(Struct):
    name: str | None = None
    model: str | None = None
    size: Count | None = None
    size_vram: Count | None = None
    expires_at: str | None = None
    context_length: Count | None = None


class _Ps(Struct):
    models: list[_Model] | None


class _Version(Struct):
    version: str | None = None


_PS = Decoder(_Ps)
_VERSION = Decoder(_Version)


async def read(ask: Ask) -> Reading:
    """Raises HttpProblem."""
    version = decode(_VERSION, await ask.once("/api/version"), "Ollama")
    running = decode(_PS, await ask("/api/ps"), "Ollama").models or []
    return Reading(build=name(version.version), models=listed(filter(None, map(_served, running))))


def _served(model: _Model) -> ServedModel | None:
    called = name(model.name or model.model)
    if called is None:
        return None
    return ServedModel(
        id=called,
        state=ModelState.LOADED,
        bytes=positive(model.size),
        gpu_bytes=model.size_vram if model.size_vram is not None and model.size_vram >= 0 else None,
        context_tokens=positive(model.context_length),
        expires_time=_time(model.expires_at),
    )


def _time(text: str | None) -> float | None:
    """RFC 3339 with nanoseconds, as Go writes it; None for what never expires."""
    try:
        when = datetime.fromisoformat(text[:64]) if text else None
        if when is None or when.tzinfo is None:
            return None
        unix = when.timestamp()
        return unix if 0 < unix < _FOR_EVER else None
    except (ValueError, OverflowError):
        return None
