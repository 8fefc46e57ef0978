"""What a server did for others meanwhile: llama-server works at all in one batch, so a long prompt all but
stops who decodes, two prompts share, and each pass reads the KV cache of all who decode. That is no news of
how fast the box is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from halotui.history import Sample
from halotui.ledger import Metric
from halotui.model import Request, Server, SlotPhase

MOST = 0.1  # of a request's time: above it, its speed is not its own


class Prompt(NamedTuple):
    """From when to when it was computed, Unix seconds, in which slot; and what came of it."""

    slot: int | None
    began: float
    ended: float
    over: float  # when its request was
    depth: int  # tokens in the slot by then; 0 when not known


def prompts_of(server: Server, samples: Iterable[Sample], now: float) -> list[Prompt]:
    """Of requests that are over, and of those at work."""
    found = [
        Prompt(one.request.slot, *span, one.time, one.request.context_tokens or 0)
        for one in samples
        if (span := _prompt(one.request))
    ]
    for slot in server.slots:
        if slot.phase is not SlotPhase.IDLE and slot.elapsed_seconds is not None:
            decoded = (slot.phase_seconds or 0.0) if slot.phase is SlotPhase.DECODE else 0.0
            began = now - slot.elapsed_seconds
            found.append(Prompt(slot.id, began, now - decoded, now, slot.used_tokens or 0))
    return found


def depth_beside(prompts: Iterable[Prompt], request: Request) -> float:
    """Tokens in the other slots while it decoded, the mean of their sum."""
    span = _decoding(request)
    if span is None or span[1] <= span[0]:
        return 0.0
    began, ended = span
    held = sum(
        one.depth * (min(ended, one.over) - max(began, one.ended))
        for one in prompts
        if one.slot != request.slot and one.ended < ended and one.over > began
    )
    return held / (ended - began)


def disturbed(prompts: Iterable[Prompt], metric: Metric, request: Request) -> float:
    """Share of its decoding, or of its own prompt, in which others' prompts were computed: 0 to 1."""
    span = _decoding(request) if metric is Metric.DECODE else _prompt(request)
    if span is None or span[1] <= span[0]:
        return 0.0
    began, ended = span
    both = sum(
        min(ended, one.ended) - max(began, one.began)
        for one in prompts
        if one.slot != request.slot and one.began < ended and one.ended > began
    )
    return min(1.0, both / (ended - began))


def _prompt(request: Request) -> tuple[float, float] | None:
    began = request.started_time
    if began is None:
        return None
    if request.prompt_seconds is not None:
        return began, began + request.prompt_seconds
    decoding = _decoding(request)
    return (began, max(began, decoding[0])) if decoding is not None else None


def _decoding(request: Request) -> tuple[float, float] | None:
    ended, took = request.ended_time, request.generation_seconds
    return None if ended is None or took is None else (ended - took, ended)
