"""The one line that says what is looked at: host, model, backend, build, uptime."""

from __future__ import annotations

from halotui import format
from halotui.model import ServerState
from halotui.widgets.rows import Ref, Row, Run, fit, spread, width_of
from halotui.widgets.view import View

_LONG_BATCH = 60.0  # seconds: beyond this it need not be a prompt any more
_BAD = {ServerState.DOWN, ServerState.LOCKED, ServerState.FAILED}


def rows(view: View, width: int, height: int) -> list[Row]:
    frame, server = view.frame, view.server
    left = [Run(" halotui ", "headlife")]
    if view.label:
        left.append(Run(f"{view.label} ", "headtrouble"))
    if frame is None:
        return [spread([*left, Run(" starting…", "headdim")], (), width, "head")]
    left.append(Run(f" {frame.host} ", "headdim"))
    if server is None:
        source = view.sources.get("processes")
        why = (
            source.reason
            if source is not None and source.reason
            else "no llama-server found; start one, or give --url"
        )
        return [spread([*left, Run(f" {why}", "headtrouble")], (), width, "head")]
    state = (
        "headtrouble"
        if server.state in _BAD
        else "headlife"
        if server.state == ServerState.BUSY
        else "headdim"
    )
    model = server.model.rpartition("/")[2] if server.model else format.DASH
    build = server.build or format.DASH
    up = format.duration(server.uptime_seconds) if server.uptime_seconds is not None else format.DASH
    wide = width >= 100
    facts = (
        ("model", fit(model, min(width_of(model), max(20, width // 3) if wide else 20)), "headvalue"),
        ("backend", server.backend or format.DASH, "headdim"),
        ("build", build if wide else build.partition("-")[0], "headdim"),
        ("uptime_seconds", f"up {up}", "headdim"),
    )
    left += [Run(f" {text} ", style, Ref(f"server.{key}", server.url)) for key, text, style in facts]
    state_text = str(server.state)
    if server.waiting_seconds is not None:
        what = "in a prompt batch for" if server.waiting_seconds < _LONG_BATCH else "no answer for"
        state_text = f"{what} {format.duration(server.waiting_seconds)}"
    right = [Run(f" {state_text} ", state, Ref("server.state", server.url))]
    if wide:
        right.append(Run(f" {server.url.partition('//')[2]} ", "headdim", Ref("server.url", server.url)))
    if len(frame.servers) > 1:
        right.append(Run(f"[{view.server_index + 1}/{len(frame.servers)}] ", "headdim"))
    if view.frozen:
        right.append(Run(" FROZEN ", "headtrouble"))
    return [spread(left, right, width, "head")]
