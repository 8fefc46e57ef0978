"""The one line that says what is looked at: host, model, backend, build, uptime."""

from __future__ import annotations

from halotui import format
from halotui.model import ServerState
from halotui.widgets.rows import Ref, Row, Run, fit, spread
from halotui.widgets.view import View

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
    left += [
        Run(
            f" {fit(model, min(len(model), max(16, width // 3)))} ",
            "headvalue",
            Ref("server.model", server.url),
        ),
        Run(f" {server.backend or format.DASH} ", "headdim", Ref("server.backend", server.url)),
    ]
    if width >= 100:
        left.append(Run(f" {server.build or format.DASH} ", "headdim", Ref("server.build", server.url)))
    up = format.duration(server.uptime_seconds) if server.uptime_seconds is not None else format.DASH
    left.append(Run(f" up {up} ", "headdim", Ref("server.uptime_seconds", server.url)))
    state_text = str(server.state)
    if server.waiting_seconds is not None:
        state_text = f"in a prompt batch for {format.duration(server.waiting_seconds)}"
    right = [Run(f" {state_text} ", state, Ref("server.state", server.url))]
    if width >= 100:
        right.append(Run(f" {server.url.partition('//')[2]} ", "headdim", Ref("server.url", server.url)))
    if len(frame.servers) > 1:
        right.append(Run(f"[{view.server_index + 1}/{len(frame.servers)}] ", "headdim"))
    if view.frozen:
        right.append(Run(" FROZEN ", "headtrouble"))
    return [spread(left, right, width, "head")]
