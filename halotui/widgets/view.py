"""What the panels draw from: one frame, its history, and what the user has chosen to look at."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from halotui import fields, format
from halotui.history import History
from halotui.model import (
    GPU_SOURCE,
    MEMORY_SOURCE,
    Frame,
    Gpu,
    LogLine,
    Memory,
    Server,
    Severity,
    Source,
    SourceState,
)
from halotui.widgets.chart import Chart, Look
from halotui.widgets.rows import Ref, Run, right

Struct = Gpu | Memory | Server
LOG_LINES = 2000  # kept for the log pane
MARK_STYLES = {Severity.CRITICAL: "trouble", Severity.WARNING: "warning", Severity.INFO: "text"}


@dataclass
class View:
    """Built once; ``take`` brings it to the next frame."""

    label: str = ""  # DEMO, REPLAY, or nothing
    clock: bool = False  # whether the frame's time is shown: it is not now
    frame: Frame | None = None
    history: History = field(default_factory=History)
    server: Server | None = None
    server_index: int = 0
    gpu_before: Gpu | None = None
    frozen: bool = False
    interval: float = 1.0
    filter: str = ""
    scroll: int = 0  # lines of the log below the last one shown
    marks: dict[tuple[str, str], str] = field(default_factory=dict)  # field, subject -> style of its finding
    logs: dict[str, deque[LogLine]] = field(default_factory=dict)
    charts: dict[tuple[str, str, int, int], Chart] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)

    def take(self, frame: Frame) -> None:
        """Show this frame."""
        self.gpu_before = self.gpu
        self.frame = frame
        self.sources = {source.id: source for source in frame.sources}
        self.marks = {
            (field, "memory" if field.startswith("memory") else finding.subject): MARK_STYLES[
                finding.severity
            ]
            for finding in reversed(frame.findings)
            for field in finding.fields
        }
        for server in frame.servers:
            if server.log:
                self.logs.setdefault(server.url, deque(maxlen=LOG_LINES)).extend(server.log)
        self.choose(self.server_index)

    def anew(self, history: History, logs: Mapping[str, Sequence[LogLine]]) -> None:
        """Another stretch of time: nothing that was drawn goes on. ``logs``: what was said until then."""
        self.history = history
        self.gpu_before = self.frame = None
        self.scroll = 0
        self.logs = {url: deque(lines, maxlen=LOG_LINES) for url, lines in logs.items()}
        self.charts.clear()

    def choose(self, index: int) -> None:
        """Look at the ``index``-th server, counted round."""
        servers = self.frame.servers if self.frame is not None else ()
        self.server_index = index % len(servers) if servers else 0
        self.server = servers[self.server_index] if servers else None

    @property
    def gpu(self) -> Gpu | None:
        """The first GPU; while its source does not answer, as it was last seen, to be drawn dim."""
        if self.frame is not None and self.frame.gpus:
            return self.frame.gpus[0]
        return self.gpu_before if self.late("gpu") else None

    @property
    def memory(self) -> Memory | None:
        return self.frame.memory if self.frame is not None else None

    def log(self) -> Sequence[LogLine]:
        """The lines of the server on screen that match the filter."""
        lines = self.logs.get(self.server.url, ()) if self.server is not None else ()
        if not self.filter:
            return list(lines)
        wanted = self.filter.lower()
        return [line for line in lines if wanted in line.text.lower()]

    def late(self, owner: str) -> bool:
        """Whether the owner's source is not answering now: its numbers are drawn dim."""
        id_ = {"gpu": GPU_SOURCE, "memory": MEMORY_SOURCE}.get(owner)
        source = self.sources.get(id_) if id_ else None
        return source is not None and source.state is not SourceState.OK

    def subject(self, struct: Struct) -> str:
        return (
            "memory" if isinstance(struct, Memory) else struct.id if isinstance(struct, Gpu) else struct.url
        )

    def value(self, struct: Struct | None, key: str, width: int = 0, style: str = "value") -> Run:
        """A field's value as a run that the cursor can stop at; right-aligned when ``width`` is given."""
        if struct is None:
            return Run(right(format.DASH, width) if width else format.DASH, "dim")
        owner = type(struct).__name__.lower()
        shown = fields.BY_ID[f"{owner}.{key}"]
        value = getattr(struct, key)
        text = format.show(shown, value)
        marked = self.marks.get((shown.id, self.subject(struct)))
        if self.late(owner):
            style = "late"
        elif marked is not None:
            style = marked
        elif not value:  # unknown, or a zero: nothing to look at
            style = "dim"
        return Run(right(text, width) if width else text, style, Ref(shown.id, self.subject(struct)))

    def chart(self, struct: Struct, key: str, width: int, height: int, look: Look) -> Chart:
        """The chart of a field at a size; its picture is kept from tick to tick."""
        name = (self.subject(struct), key, width, height)
        chart = self.charts.get(name)
        if chart is None:
            if len(self.charts) > 64:
                self.charts.clear()  # sizes of windows gone by
            chart = self.charts[name] = Chart(look)
        return chart

    def draw(self, struct: Struct | None, key: str, width: int, height: int, look: Look) -> list[str]:
        """The rows of a field's chart."""
        if struct is None:
            return [" " * width] * height
        ring = self.history.series(self.subject(struct), f"{type(struct).__name__.lower()}.{key}")
        return self.chart(struct, key, width, height, look).rows(ring, width, height)
