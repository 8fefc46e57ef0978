"""Under which key a number is usual: what serves and how, how deep in the context, beside how many others.

Pure. Where the key is not known well enough there is none, and the number teaches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from halotui.ledger import Key, Metric, Setup
from halotui.model import Request, Server

LEAST_GENERATED = 32  # tokens: a shorter answer tells more of its first token than of its speed
LEAST_COMPUTED = 256  # prompt tokens, likewise
LEAST_DRAFTED = 16  # tokens

_K = 1024
_DEPTHS = ((2, "0-2K"), (8, "2-8K"), (16, "8-16K"), (32, "16-32K"), (64, "32-64K"))
_PROMPTS = ((1, "256-1K"), (4, "1-4K"), (16, "4-16K"))
_STREAMS = {1: "1", 2: "2", 3: "3-4", 4: "3-4"}
# In this order, by the names that llama-server gives them; "" is left out.
_FLAGS = ("b", "c", "ctk", "ctv", "fa", "kvu", "mmap", "ngl", "np", "ub")


def setup_of(server: Server) -> Setup | None:
    """None while the model's name is not known, or nothing of how it was started."""
    model = _name(server.model_path) or _name(server.model)
    facts = server.facts
    if not model or facts is None:
        return None
    said = {
        "b": facts.batch_tokens,
        "c": facts.context_tokens,
        "ctk": facts.cache_type_k,
        "ctv": facts.cache_type_v,
        "fa": facts.flash_attention,
        "kvu": _switch(server.kv_unified),
        "mmap": _switch(facts.mmap),
        "ngl": facts.layers_asked,
        "np": server.slots_total,
        "ub": facts.ubatch_tokens,
    }
    return Setup(
        model=model,
        quant=facts.model_type or "",
        backend=server.backend or "",
        build=server.build or "",
        flags=" ".join(f"{flag}={said[flag]}" for flag in _FLAGS if said[flag] not in (None, "")),
        speculation=" ".join(filter(None, (server.spec_type, _name(server.draft_model)))),
        host=elsewhere(server),
    )


def key_of(
    server: Server,
    metric: Metric,
    request: Request | None = None,
    streams: float | None = None,
    *,
    setup: Setup | None = None,
) -> Key | None:
    """``streams``: requests at once while it ran, its own counted: see ``observing.streams_during``.
    ``setup``: the server's, where it is known already."""
    setup = setup or setup_of(server)
    if setup is None:
        return None
    if metric in (Metric.LOAD, Metric.MEMORY):
        return Key(setup=setup, metric=metric)
    if request is None:
        return None
    if metric in (Metric.ACCEPTANCE, Metric.COVERAGE):  # what is drafted does not ask who else is served
        deep = depth_of(request)
        return None if deep is None else Key(setup=setup, metric=metric, depth=depth_band(deep))
    if streams is None:
        if server.slots_total != 1:
            return None
        streams = 1
    beside = streams_band(streams)
    if metric is Metric.DECODE:
        deep, prompt = depth_of(request), ""
    else:
        deep, prompt = cached_of(request), prompt_band(request.prompt_tokens or 0)
        if not prompt:
            return None
    if deep is None:
        return None
    return Key(setup=setup, metric=metric, depth=depth_band(deep), streams=beside, prompt=prompt)


def depth_of(request: Request) -> int | None:
    """Tokens in its slot when it ended."""
    if request.context_tokens is not None:
        return request.context_tokens
    parts = (request.cached_tokens, request.prompt_tokens, request.generation_tokens)
    return sum(part for part in parts if part is not None) if None not in parts else None


def cached_of(request: Request) -> int | None:
    """Tokens that were in its slot before: what a prompt did not have to compute."""
    if request.cached_tokens is not None:
        return request.cached_tokens
    whole, computed, generated = request.context_tokens, request.prompt_tokens, request.generation_tokens
    if whole is None or computed is None or generated is None:
        return None
    return max(0, whole - computed - generated)


def depth_band(tokens: float) -> str:
    return _band(tokens, _DEPTHS, "64K+")


def prompt_band(tokens: float) -> str:
    """Empty below what a speed can be told of."""
    return _band(tokens, _PROMPTS, "16K+") if tokens >= LEAST_COMPUTED else ""


def streams_band(n: float) -> str:
    return _STREAMS.get(max(1, round(n)), "5+")


def _band(tokens: float, bands: Sequence[tuple[int, str]], last: str) -> str:
    return next((name for below, name in bands if tokens < below * _K), last)


def _name(path: str | None) -> str:
    return (path or "").rstrip("/").rpartition("/")[2]


def elsewhere(server: Server) -> str:
    """The host of a server that is no process of this box, as far as one can see."""
    host = "" if server.pid is not None else urlsplit(server.url).hostname or ""
    return "" if host in ("localhost", "::1") or host.startswith("127.") else host


def _switch(on: bool | None) -> str:
    return "" if on is None else "on" if on else "off"
