"""Everything that is known of a server, in sections; two beside each other where there is room."""

from __future__ import annotations

from halotui import format
from halotui.model import End, Server, ServerFacts
from halotui.widgets import models
from halotui.widgets.rows import Ref, Row, Run, fill, rule
from halotui.widgets.server_limits import limits
from halotui.widgets.server_memory import cache, memory
from halotui.widgets.server_speculation import speculation
from halotui.widgets.sheet import (
    LABEL,
    WIDE,
    Line,
    Section,
    column,
    columns,
    fact,
    facts,
    lead,
    words,
    wrapped,
)
from halotui.widgets.view import View

_MODELS = 20  # rows of models at most


def page(view: View, width: int) -> list[Row]:
    """All of it, however long."""
    server = view.server
    if server is None:
        return [rule("server", width), fill((Run(" no server is looked at", "dim"),), width)]
    top: list[Row] = []
    if server.models:
        top = [models.head(server, width), *models.table(view, server, width, _MODELS)]
    size = column(width)
    left = [
        _identity(view, server, size),
        limits(view, server),
        _flags(view, server),
        _requests(view, server),
    ]
    right = [memory(view, server, size), cache(view, server, size), speculation(view, server, size)]
    if width < WIDE:
        first, *others = left
        left, right = [first, *right], others
    return [*top, *columns(left, right, width)]


def _identity(view: View, server: Server, width: int) -> Section:
    """What it is, and where."""
    known = server.facts or ServerFacts()
    served = not server.models or server.model  # a router has no model of its own
    lines = [fact(view, server, server, key) for key in (*(("model",) if served else ()), "state")]
    if server.reason:
        lines += [words("", text, "dim") for text in wrapped(server.reason, width - LABEL - 1)]
    if known.parameters is not None:
        ref = Ref("facts.parameters", server.url)
        many = known.parameters >= 1e9
        number = format.digits(known.parameters / (1e9 if many else 1e6))
        size = Run(f"{number} {'billion' if many else 'million'}", "text", ref)
        if known.model_type is None:
            lines.append(Line((lead("parameters"), size)))
        else:
            more = Run(" · ", "dim"), size, Run(" parameters", "dim")
            lines.append(fact(view, server, known, "model_type", *more))
    lines += facts(
        view,
        server,
        (
            *(((known, "model_type"),) if known.parameters is None else ()),
            (known, "model_bytes"),
            (server, "engine"),
            (server, "build"),
            (server, "backend"),
            (server, "url"),
            (server, "address"),
            (server, "behind"),
            (server, "unit"),
            (server, "container"),
            (server, "pid"),
            (server, "uptime_seconds"),
            (known, "load_seconds"),
            (server, "load_bytes_per_second"),
            (server, "log_path"),
        ),
    )
    return Section("server", lines)


def _flags(view: View, server: Server) -> Section:
    """What it was started with, and what came of it."""
    known = server.facts or ServerFacts()
    lines = facts(
        view,
        server,
        ((known, "context_tokens"), (server, "slot_context_tokens"), (known, "context_trained_tokens")),
    )
    if server.slots_total is not None:
        asked = server.slots_asked
        more = [Run(f" · {asked} asked for", "warning")] if asked not in (None, server.slots_total) else []
        lines.append(fact(view, server, server, "slots_total", *more))
    lines += facts(
        view, server, [(known, key) for key in ("batch_tokens", "ubatch_tokens", "flash_attention")]
    )
    if known.layers_total is not None:
        of = Run(f" of {known.layers_total}", "dim")
        lines.append(fact(view, server, known, "layers_offloaded", of))
    if known.graph_splits is not None:
        nodes = [Run(f" · {format.count(known.graph_nodes)} nodes", "dim")] if known.graph_nodes else []
        lines.append(fact(view, server, known, "graph_splits", *nodes))
    lines += facts(view, server, [(known, key) for key in ("threads", "prompt_cache_bytes", "verbosity")])
    if known.rpc_peers:
        lines += [words("" if at else "RPC peers", peer) for at, peer in enumerate(known.rpc_peers)]
    return Section("flags that matter", lines)


def _requests(view: View, server: Server) -> Section:
    """What it has served since it is watched."""
    samples = view.requests.all(view.history, server.url)
    lines: list[Line] = []
    if samples:
        ends = [sample.request.end for sample in samples]
        told = [format.count(len(samples))]
        told += [f"{ends.count(end)} {end}" for end in End if end is not End.DONE and end in ends]
        lines.append(words("ended", " · ".join(told)))
        lines.append(words("since", format.clock(samples[0].time)))
        tokens = sum(sample.request.generation_tokens or 0 for sample in samples)
        prompts = sum(sample.request.prompt_tokens or 0 for sample in samples)
        lines.append(words("tokens", f"{format.count(prompts)} prompt · {format.count(tokens)} generated"))
    keys = ("ttft_seconds", "last_prompt_tokens_per_second", "last_generation_tokens_per_second")
    lines += facts(view, server, [(server, key) for key in keys])
    return Section("requests", lines)
