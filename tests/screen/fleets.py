"""Boxes beside each other: some far away, some of them one RPC cluster, made of words alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from boxes import BASE, Still, coder, moment
from fake_desk import FakeDesk
from msgspec.structs import replace

from builders import gpu, server
from halotui.app import HalotuiApp
from halotui.feed import Feed
from halotui.model import Finding, Frame, Link, LinkState, ServerFacts, ServerState, Severity
from halotui.stations import Station

NOT_LET_IN = "Permission denied (publickey)"
HINT = "add your key there, or L logs in with a password"
ROWS = "Qwen3.5-122B-A10B-REAP-20-Q6_K", "gpt-oss-120b", "GLM-4.7-Air-Q4_K_M", "Devstral-2-24B-Q8_0"


def link(state: LinkState = LinkState.UP, age: float = 0.0, **more: Any) -> Link:
    """``age``: seconds that it has been so."""
    if state is LinkState.UP:
        more = {"round_trip_seconds": 0.0123, **more}
    return Link(state=state, since_time=time.time() - age, **more)


def finding(severity: Severity = Severity.WARNING, title: str = "GTT is nearly full", **more: Any) -> Finding:
    known = {"id": title.replace(" ", "-"), "evidence": "119 of 120 GiB", "why": "so", "fix": "less"}
    return Finding(severity=severity, title=title, **{**known, **more})


def box(host: str = "strix", at: int = 0, rate: float | None = 20.6, **more: Any) -> Frame:
    """A frame of a box at work."""
    served = coder(model=ROWS[at % len(ROWS)] + ".gguf", generation_tokens_per_second=rate, slots_busy=2)
    chip = gpu(
        gtt=77 - 3 * at,
        vram_used_bytes=486 * 1024**2,
        vram_total_bytes=512 * 1024**2,
        socket_power_watts=119.8 - at,
        temperature_celsius=78.0 - at,
    )
    return moment(**{"servers": [served], "gpus": [chip], "host": host, **more})


def head(host: str, *peers: str, **more: Any) -> Frame:
    """It calls others for a part of the model."""
    served = coder(model="Qwen3-235B-A22B-Q4_K_M.gguf", facts=ServerFacts(rpc_peers=peers), **more)
    return box(host, servers=[served])


def peer(host: str, port: int = 50052, state: ServerState = ServerState.BUSY, **more: Any) -> Frame:
    """It serves a part."""
    return box(host, servers=[server(f"rpc://0.0.0.0:{port}", state=state, engine="rpc-server")], **more)


class Post:
    """A station, and what a test turns on it."""

    def __init__(self, name: str, frame: Frame | None = None, link: Link | None = None, **more: Any) -> None:
        self.name, self.link = name, link
        self.frames = [] if frame is None else [frame]
        self.feed = Still(self.frames)
        self.desk = FakeDesk()
        self.error: Exception | None = None
        self.asked: list[str] = []
        self.log_in_error: Exception | None = None
        self.readonly = bool(more.pop("readonly", False))
        self.more = more

    @property
    def station(self) -> Station:
        far: dict[str, Any] = {}
        if self.link is not None:
            far = {
                "link": lambda: self.link,
                "login": self._login,
                "again": lambda: self.asked.append("again"),
            }
        desk = None if self.readonly else self.desk.open
        return Station(open_feed=self._open, name=self.name, desk=desk, **far, **self.more)

    async def _open(self) -> Feed:
        if self.error is not None:
            raise self.error
        return self.feed

    async def _login(self) -> None:
        self.asked.append("login")
        if self.log_in_error is not None:
            raise self.log_in_error


def four() -> list[Post]:
    """Two that are one job, one that is lost, one that does not let us in."""
    lost = link(LinkState.LOST, 200, reason="Connection timed out", retry_time=time.time() + 600)
    wrong = finding(Severity.CRITICAL, "Speculation costs more than it gains")
    return [
        Post("strix-1", head("strix-1", "strix-2:50052"), link()),
        Post("strix-2", replace(peer("strix-2"), findings=(wrong, finding())), link()),
        Post("desk", box("desk", 2, findings=[finding()]), lost),
        Post("loft", None, link(LinkState.REFUSED, reason=NOT_LET_IN, hint=HINT)),
    ]


def sixteen() -> list[Post]:
    """In two groups, the first one wrong here and there."""
    return [
        Post(
            f"rack-{at + 1:02}",
            box(f"rack-{at + 1:02}", at % 4, 20.6 - at, findings=[finding()] if at % 5 == 1 else []),
            link(round_trip_seconds=0.011 + at / 1000),
            groups=("lab",) if at < 6 else ("office",),
        )
        for at in range(16)
    ]


def app(posts: Sequence[Post], **more: Any) -> HalotuiApp:
    return HalotuiApp(fleet=[post.station for post in posts], **more)


__all__ = ["BASE", "Post", "app", "box", "finding", "four", "head", "link", "peer", "sixteen"]
