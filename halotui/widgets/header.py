"""The one line that says what is looked at: host, model, backend, build, uptime."""

from __future__ import annotations

import time

from halotui import format
from halotui.model import LinkState, Server, ServerState
from halotui.widgets import link_words
from halotui.widgets.rows import KEY, Ref, Row, Run, fit, spread, width_of
from halotui.widgets.tabs import BAD, LLAMA, name_of
from halotui.widgets.view import View

_URL = 32  # cells: that of a router's child holds the model's name


def rows(view: View, width: int, height: int) -> list[Row]:
    frame, server = view.frame, view.server
    left = [Run(" halotui ", "headlife")]
    if view.label:
        left.append(Run(f"{view.label} ", "headtrouble"))
    others = [Run(f" {view.others} ", "headtrouble", Ref(KEY, "fleet"))] if view.others else []
    if view.title or frame is not None:
        left.append(Run(f" {view.title or (frame.host if frame else '')} ", "headdim"))
    if view.trouble or (view.link is not None and view.link.state is not LinkState.UP):
        return [_away(view, left, others, width)]
    if frame is None:
        return [spread([*left, Run(" starting…", "headdim")], others, width, "head")]
    clock = [Run(f" {_clock(frame.time, width)} ", "headvalue")] if view.clock else []
    if server is None:
        source = view.sources.get("processes")
        why = (
            source.reason
            if source is not None and source.reason
            else "no llama-server found; start one, or give --url"
        )
        return [spread([*left, Run(f" {why}", "headdim")], [*others, *clock], width, "head")]
    state = (
        "headtrouble"
        if server.state in BAD
        else "headlife"
        if server.state == ServerState.BUSY
        else "headdim"
    )
    before = view.names.get(server.url, "")  # it may be down
    model = (server.model or before).rpartition("/")[2] or format.DASH
    if not server.model and (server.models or server.engine != LLAMA):
        model = name_of(server, before)
    build = server.build or format.DASH
    up = format.duration(server.uptime_seconds) if server.uptime_seconds is not None else format.DASH
    computes = server.engine == LLAMA and not server.models
    wide = width >= 100
    facts = (
        (
            "model",
            fit(model, min(width_of(model), max(20, width // 3) if wide else 20)),
            "headvalue" if server.model else "headdim",
        ),
        *([] if server.engine in (LLAMA, model) else [("engine", server.engine, "headdim")]),
        *([("backend", server.backend or format.DASH, "headdim")] if server.backend or computes else []),
        ("build", build if wide else build.partition("-")[0], "headdim"),
        ("uptime_seconds", f"up {up}", "headdim"),
        *_draft(server),
    )
    state_text = str(server.state)
    if server.waiting_seconds is not None:
        state_text = server.reason or state_text
    right = [Run(f" {state_text} ", state, Ref("server.state", server.url))]
    if wide:
        url = server.url.partition("//")[2]
        shown = fit(url, min(width_of(url), _URL))
        right.append(Run(f" {shown} ", "headdim", Ref("server.url", server.url)))
    if frame.silenced:
        right.append(Run(f" {len(frame.silenced)} silenced ", "headdim"))
    if view.frozen:
        right.append(Run(" FROZEN ", "headtrouble"))
    right += [*others, *clock]
    room = width - sum(width_of(run.text) for run in (*left, *right))
    for key, text, style in facts:  # what does not fit stays out whole
        room -= width_of(text) + 2
        if room < 0:
            break
        left.append(Run(f" {text} ", style, Ref(f"server.{key}", server.url)))
    return [spread(left, right, width, "head")]


def _away(view: View, left: list[Run], others: list[Run], width: int) -> Row:
    """Of a box that cannot be asked: what it was at is of no use here."""
    link = view.link
    if view.trouble or link is None:
        said, why, style = "no more frames", view.trouble, "headtrouble"
    else:
        said, why = link_words.standing(link, time.time()), link_words.why(link)
        style = "headwarning" if link.state is LinkState.CONNECTING else "headtrouble"
    state = Run(f" {said} ", style, Ref(KEY, "login"))
    return spread([*left, Run(f" {why}", "headdim")], [state, *others], width, "head")


def _clock(moment: float, width: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S" if width >= 80 else "%H:%M:%S", time.localtime(moment))


def _draft(server: Server) -> list[tuple[str, str, str]]:
    """The draft model and how it is used."""
    words = [(server.draft_model or "").rpartition("/")[2], server.spec_type or ""]
    text = " ".join(word for word in words if word)
    return [("draft_model", f"draft {text}", "headdim")] if text else []
