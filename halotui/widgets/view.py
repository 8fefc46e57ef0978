"""What the panels draw from: one frame, its history, and what the user has chosen to look at."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from halotui import fields, format
from halotui.account import account
from halotui.history import History
from halotui.model import (
    GPU_SOURCE,
    HOLDER_SOURCE,
    PLATFORM_SOURCE,
    SOLE,
    Account,
    Energy,
    Finding,
    Frame,
    Gpu,
    Holder,
    KernelEvent,
    Link,
    LogLine,
    Memory,
    Platform,
    Request,
    ServedModel,
    Server,
    ServerFacts,
    ServerState,
    Severity,
    Source,
    SourceState,
    System,
)
from halotui.widgets import hidden
from halotui.widgets.chart import Chart, Look
from halotui.widgets.holder_list import HolderList
from halotui.widgets.request_list import RequestList
from halotui.widgets.rows import EVENT, FINDING, Ref, Run, right

Struct = Gpu | Memory | Account | System | Energy | Holder | Platform | Server
Owned = Struct | ServerFacts | ServedModel | Request
OWNERS = {"ServerFacts": "facts", "ServedModel": "model"}  # where a struct is not called as in ``fields``
SOURCES = {**SOLE, "gpu": GPU_SOURCE, "holder": HOLDER_SOURCE, "platform": PLATFORM_SOURCE}  # of an owner
_BOX = (*SOLE, "platform")  # owners that are their own subject
_OTHER_NAMES = {  # what a finding marks -> the same in the account
    "gpu.gtt_used_bytes": "account.gtt_bytes",
    "memory.available_bytes": "account.free_bytes",
}
_OF_RAM = ("total_bytes", "installed_bytes", "reserved_bytes", "free_bytes")  # of an account: without the GPU
LOG_LINES = 2000  # kept for the log pane
_BROKEN = (SourceState.HUNG, SourceState.FAILED)
_AWAY = (ServerState.DOWN, ServerState.FAILED, ServerState.WAITING)
MARK_STYLES = {Severity.CRITICAL: "trouble", Severity.WARNING: "warning", Severity.INFO: "text"}


@dataclass
class View:
    """Built once; ``take`` brings it to the next frame."""

    label: str = ""  # DEMO, REPLAY, or nothing
    title: str = ""  # what the box is called, where that is not what it calls itself
    link: Link | None = None  # to a far box; None: it is this one
    trouble: str = ""  # why no frames come, where that is not the link
    others: str = ""  # what is wrong with other boxes
    clock: bool = False  # whether the frame's time is shown: it is not now
    frame: Frame | None = None
    history: History = field(default_factory=History)
    servers: Sequence[Server] = ()  # in the order of their tabs
    server: Server | None = None  # the one that is looked at
    wanted: str = ""  # its url; it may have gone for a while
    tab: int = 0  # where it stood last
    gpu_before: Gpu | None = None
    frozen: bool = False
    interval: float = 1.0
    filter: str = ""
    scroll: int = 0  # lines of the log below the last one shown
    top: int = 0  # the first line shown of a view that is longer than the screen
    requests: RequestList = field(default_factory=RequestList)
    holders: HolderList = field(default_factory=HolderList)
    acting: bool = False  # whether servers may be changed
    marks: dict[tuple[str, str], str] = field(default_factory=dict)  # field, subject -> style of its finding
    logs: dict[str, deque[LogLine]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # of what a server that is away had, by its url
    charts: dict[tuple[str, str, int, int], Chart] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)

    def take(self, frame: Frame) -> None:
        """Show this frame."""
        self.gpu_before = self.gpu
        self.frame = frame
        self.sources = {source.id: source for source in frame.sources}
        self.marks = {
            (field, owner if (owner := field.partition(".")[0]) in _BOX else finding.subject): MARK_STYLES[
                finding.severity
            ]
            for finding in reversed(frame.findings)
            for field in finding.fields
        }
        for (marked, _), style in list(self.marks.items()):
            if marked in _OTHER_NAMES:
                self.marks[_OTHER_NAMES[marked], "account"] = style
        self.names = {
            server.url: self.names.get(server.url, "") if server.state in _AWAY else server.model or ""
            for server in frame.servers
        }
        for server in frame.servers:
            if server.log:
                self.logs.setdefault(server.url, deque(maxlen=LOG_LINES)).extend(server.log)
        self.servers = families(frame.servers)
        self._look()

    def anew(self, history: History, logs: Mapping[str, Sequence[LogLine]]) -> None:
        """Another stretch of time: nothing that was drawn goes on. ``logs``: what was said until then."""
        self.history = history
        self.gpu_before = self.frame = None
        self.scroll = self.top = 0
        self.logs = {url: deque(lines, maxlen=LOG_LINES) for url, lines in logs.items()}
        self.charts.clear()

    def choose(self, url: str) -> None:
        """Look at this server, and again when it comes back."""
        if url != self.wanted:
            self.scroll = self.top = 0
            self.requests.top = None
        self.wanted = url
        self._look()

    def step(self, tabs: int) -> None:
        """Look at the next server, or the one before, counted round."""
        if self.servers:
            self.choose(self.servers[(self.tab + tabs) % len(self.servers)].url)

    def _look(self) -> None:
        """At the one wanted; while that is gone, at what stands in its place."""
        if not self.servers:
            self.server = None
            return
        place = next((i for i, server in enumerate(self.servers) if server.url == self.wanted), None)
        self.tab = min(self.tab, len(self.servers) - 1) if place is None else place
        self.server = self.servers[self.tab]
        self.wanted = self.wanted or self.server.url

    @property
    def gpu(self) -> Gpu | None:
        """The first GPU; while its source does not answer, as it was last seen, to be drawn dim."""
        if self.frame is not None and self.frame.gpus:
            return self.frame.gpus[0]
        return self.gpu_before if self.late("gpu") else None

    @property
    def memory(self) -> Memory | None:
        return self.frame.memory if self.frame is not None else None

    @property
    def account(self) -> Account | None:
        """Old recordings have none: made of what they have."""
        if self.frame is None:
            return None
        return self.frame.account or account(self.frame.memory, self.frame.gpus, None, None)

    def log(self) -> Sequence[LogLine]:
        """The lines of the server on screen that match the filter."""
        lines = self.logs.get(self.server.url, ()) if self.server is not None else ()
        if not self.filter:
            return list(lines)
        wanted = self.filter.lower()
        return [line for line in lines if wanted in line.text.lower()]

    def finding(self, ref: Ref | None) -> Finding | None:
        """The one that is pointed at, while it lasts."""
        if ref is None or ref.field != FINDING or self.frame is None:
            return None
        facts = (found for found in map(hidden.finding, self.servers) if found is not None)
        all_ = (*self.frame.findings, *facts)
        return next((found for found in all_ if f"{found.id} {found.subject}" == ref.subject), None)

    def kernel(self, ref: Ref) -> KernelEvent | None:
        """The event of the kernel's log that is pointed at."""
        if ref.field != EVENT:
            return None
        kept = (noted.event for noted in self.history.kernel())
        return next((event for event in kept if name_of_event(event) == ref.subject), None)

    def late(self, owner: str) -> bool:
        """Whether the owner's source is not answering now: its numbers are drawn dim."""
        source = self.sources.get(SOURCES.get(owner, ""))
        return source is not None and source.state is not SourceState.OK

    def standing(self, owner: str) -> Run | None:
        """What is wrong with the owner's source, in words that stand still; None while it answers."""
        source = self.sources.get(SOURCES.get(owner, ""))
        if source is None or source.state is SourceState.OK:
            return None
        if source.age_seconds is None and source.state not in _BROKEN:
            return None  # it never answered: why not is said where its numbers would be
        style = "trouble" if source.state in _BROKEN else "warning"
        said = str(source.state).replace("_", " ")
        if source.since_time is not None:
            return Run(f"{said} since {format.clock(source.since_time)}", style)
        age = format.duration(source.age_seconds) if source.age_seconds is not None else "?"
        return Run(f"{said}: last answer {age} ago", style)

    def subject(self, struct: Struct) -> str:
        if isinstance(struct, Gpu):
            return struct.id
        if isinstance(struct, Holder):
            return str(struct.pid)
        return struct.url if isinstance(struct, Server) else type(struct).__name__.lower()

    def value(
        self, struct: Owned | None, key: str, width: int = 0, style: str = "value", subject: str = ""
    ) -> Run:
        """A field's value as a run that the cursor can stop at; right-aligned when ``width`` is given.
        ``subject``: whose it is, where the struct does not say."""
        if struct is None:
            return Run(right(format.DASH, width) if width else format.DASH, "dim")
        owner = owner_of(struct)
        shown = fields.BY_ID[f"{owner}.{key}"]
        value = getattr(struct, key)
        if not subject and isinstance(struct, Struct):
            subject = self.subject(struct)
        text = format.show(shown, value)
        marked = self.marks.get((shown.id, subject))
        if self.late(owner) or (owner == "account" and key not in _OF_RAM and self.late("gpu")):
            style = "late"
        elif marked is not None:
            style = marked
        elif not value:  # unknown, or a zero: nothing to look at
            style = "dim"
        return Run(right(text, width) if width else text, style, Ref(shown.id, subject))

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


def name_of_event(event: KernelEvent) -> str:
    """What a Ref calls it."""
    return f"{event.time!r} {event.kind} {event.text}"


def owner_of(struct: object) -> str:
    """As ``fields`` calls it."""
    name = type(struct).__name__
    return OWNERS.get(name) or name.lower()


def families(servers: Sequence[Server]) -> Sequence[Server]:
    """As they come, but what a router started stands behind it."""
    if all(server.behind is None for server in servers):
        return servers
    urls = {server.url for server in servers}
    children: dict[str, list[Server]] = {}
    out: list[Server] = []
    for server in servers:
        parent = server.behind
        children.setdefault(parent if parent in urls and parent is not None else "", []).append(server)

    def add(parent: str) -> None:
        for server in children.pop(parent, ()):
            out.append(server)
            add(server.url)

    add("")
    return [*out, *(server for lost in children.values() for server in lost)]  # each behind the other
