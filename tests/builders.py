"""Frames by a few words: ``frame(5, servers=[server(slots_asked=1)])``. What is not said is healthy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from halotui.account import account
from halotui.history import History
from halotui.model import (
    SCHEMA_VERSION,
    Finding,
    Frame,
    Gpu,
    Memory,
    Request,
    Server,
    ServerState,
    Source,
    SourceState,
)
from halotui.rules import ALL
from halotui.rules.engine import Engine
from halotui.rules.tuning import AS_SHIPPED, Tuning
from rules import fits

URL = "http://127.0.0.1:8080"
GPU = "0000:c5:00.0"
GIB = 1024**3


def server(url: str = URL, state: ServerState = ServerState.IDLE, **more: Any) -> Server:
    return Server(url=url, state=state, **more)


def gpu(id: str = GPU, gtt: float | None = 60, gtt_total: float | None = 120, **more: Any) -> Gpu:
    """``gtt`` and ``gtt_total`` in GiB."""
    used, total = (None if size is None else int(size * GIB) for size in (gtt, gtt_total))
    return Gpu(id=id, source="sysfs", gtt_used_bytes=used, gtt_total_bytes=total, **more)


def memory(available: float | None = 60, total: float = 128, swap: float | None = 0, **more: Any) -> Memory:
    """Sizes in GiB."""
    left, used = (None if size is None else int(size * GIB) for size in (available, swap))
    return Memory(total_bytes=int(total * GIB), available_bytes=left, swap_used_bytes=used, **more)


def request(
    drafted: int | None = None, accepted: int | None = None, generated: int | None = 400, **more: Any
) -> Request:
    more = {"source": "log", "slot": 0, **more}
    return Request(generation_tokens=generated, draft_tokens=drafted, draft_accepted_tokens=accepted, **more)


def source(id: str = "gpu", state: SourceState = SourceState.OK, **more: Any) -> Source:
    return Source(id=id, state=state, **more)


def frame(
    time: float = 0,
    *,
    servers: Iterable[Server] = (),
    gpus: Iterable[Gpu] = (),
    memory: Memory | None = None,
    sources: Iterable[Source] = (),
    findings: Iterable[Finding] = (),
    host: str = "halo",
    **more: Any,
) -> Frame:
    """``more``: whatever else a Frame has, as it stands there."""
    gpus = tuple(gpus)
    return Frame(
        schema_version=SCHEMA_VERSION,
        time=time,
        host=host,
        gpus=gpus,
        memory=memory,
        account=account(memory, gpus, None, None),
        servers=tuple(servers),
        findings=tuple(findings),
        sources=tuple(sources),
        **more,
    )


class Watch:
    """A history and an engine that see one frame after the other, as the real ones do. All evidence has to
    read as its rule declares."""

    def __init__(self, *rules: Any, hold: bool = True, tuning: Tuning = AS_SHIPPED) -> None:
        self.history = History()
        self.engine = Engine(rules or ALL, hold=hold, tuning=tuning)
        self._templates = {rule.id: rule.evidence for rule in rules or ALL if rule.evidence}
        self._cures = {rule.id for rule in rules or ALL if rule.patch or rule.may_patch}

    def see(self, time: float, **parts: Any) -> tuple[Finding, ...]:
        """The findings after this frame; ``parts`` as ``frame`` takes them."""
        now = frame(time, **parts)
        self.history.push(now)
        findings = self.engine.evaluate(now, self.history).findings
        for finding in findings:
            template = self._templates.get(finding.id)
            assert template is None or fits(template, finding.evidence), (finding.id, finding.evidence)
            assert finding.patch is None or finding.id in self._cures, f"{finding.id} may_patch"
        return findings
