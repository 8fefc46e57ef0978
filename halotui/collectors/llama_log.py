"""llama-server's log, a block at a time: finished requests, events, facts of the start, lines to show.

What a line means is told in ``log_tasks`` (requests), ``log_facts``, ``log_drafts`` and ``log_events``; how
it begins in ``log_line``, which lines matter in ``log_scan``. Colours, a router's ``[port]``, the stamps of a
journal and of podman and docker do no harm.
"""

from __future__ import annotations

import re

from msgspec import Struct
from msgspec.structs import replace

from halotui.collectors import log_scan
from halotui.collectors.log_drafts import DraftTotals, Speculation
from halotui.collectors.log_events import Events
from halotui.collectors.log_facts import Facts
from halotui.collectors.log_follow import GAP
from halotui.collectors.log_line import Line, cut, shown, unquoted
from halotui.collectors.log_tasks import MOST_SLOTS, Progress, Tasks
from halotui.collectors.log_time import JITTER, Timeline
from halotui.model import LogFacts, LogLine, Request, ServerEvent

__all__ = ["MOST_CHILDREN", "MOST_SLOTS", "Batch", "DraftTotals", "LogParser", "Progress", "ServerLog"]

MOST_CHILDREN = 64
SPAWN = b"spawning server instance with name="


class Batch(Struct, frozen=True):
    """What a block told. ``lines``: of the server itself, the newest; ``children``: a router's, by port."""

    lines: tuple[LogLine, ...] = ()
    requests: tuple[Request, ...] = ()
    events: tuple[ServerEvent, ...] = ()
    children: dict[int, Batch] = {}


class ServerLog:
    """What the log told of one server since its last start. Bounded, however long the log."""

    def __init__(self, started: float | None = None) -> None:
        self.timeline = Timeline(started)
        self._speculation = Speculation()
        self._tasks = Tasks(self.timeline, self._speculation)
        self._facts = Facts(self._speculation, self._restart)
        self._events = Events(self.timeline)

    @property
    def facts(self) -> LogFacts:
        return self._facts.told

    @property
    def speculative(self) -> bool | None:
        """None until a line proves either."""
        return self._speculation.on

    @property
    def draft(self) -> DraftTotals:
        return self._speculation.totals

    @property
    def prompts(self) -> tuple[Progress, ...]:
        """Prompts under way, as ``Tasks.prompts``."""
        return self._tasks.prompts

    @property
    def running(self) -> dict[int, int]:
        """Slot -> task, of those launched and not yet released."""
        return self._tasks.running

    def feed(self, line: Line) -> None:
        """Take a line that holds an anchor. Never raises."""
        if line.level == "debug":  # it may hold a prompt, and what that says is no fact
            return
        line = unquoted(line)
        if self.timeline.fell_back(line):
            self._restart(line)
        block = self._tasks.block
        if self._speculation.feed(line.text, block.slot if block else None):
            return
        if self._tasks.feed(line):
            return
        self._facts.feed(line)
        event = self._events.feed(line)
        if event is not None and event.ends:
            self._tasks.die(line, "the server ended")

    def gap(self) -> None:
        """Lines are missing here, and maybe the end of a run and the start of another."""
        self._untime()
        self._tasks.forget()
        self._facts.gap()

    def take(self) -> tuple[tuple[Request, ...], tuple[ServerEvent, ...]]:
        """Requests and events since the last call: a block is over."""
        self.timeline.end_of_block()
        requests, events = tuple(self._tasks.ended), tuple(self._events.seen)
        self._tasks.ended.clear()
        self._events.seen.clear()
        return requests, events

    def _untime(self) -> None:
        """What this block told so far was before a run whose start we may have been given."""
        if self.timeline.misled:
            ended = self._tasks.ended
            ended[:] = [replace(r, started_time=None, ended_time=None) for r in ended]
            self._events.seen[:] = [replace(event, time=None) for event in self._events.seen]

    def _restart(self, line: Line) -> None:
        """Another process begins to write: what it finds running is lost, and so is the old one's clock."""
        self._tasks.die(None, "the server ended")
        self._untime()
        self.timeline.begin(line)
        self._events.forget()
        self._facts.forget()


class LogParser:
    """Reads a log. ``server`` is the one that writes it, ``children`` a router's by port.

    ``started``: Unix seconds of the start of the process that writes; it may be set at any time. ``ahead``:
    seconds that the clock of the stamps is before ours.
    """

    def __init__(self, started: float | None = None) -> None:
        self.server = ServerLog(started)
        self.ahead = 0.0
        self.children: dict[int, ServerLog] = {}

    @property
    def started(self) -> float | None:
        return self.server.timeline.started

    @started.setter
    def started(self, value: float | None) -> None:
        self.server.timeline.started = value

    def feed(self, block: bytes, keep: int = 200) -> Batch:
        """Take whole lines, each ending in a newline; ``keep``: how many to show. Never raises."""
        for raw in log_scan.telling(block):
            if raw.startswith(GAP):
                for log in (self.server, *self.children.values()):
                    log.gap()
                continue
            line = self._in_our_time(cut(raw))
            if line.child is None:
                if SPAWN in line.text and (said := _SPAWNED.search(line.text)):
                    self._spawned(int(said[1]), line)
                self.server.feed(line)
            else:
                self._child(line.child).feed(line)
        shown_lines = self._lines(block, keep)
        told = {port: log.take() for port, log in self.children.items()}
        requests, events = self.server.take()
        return Batch(
            shown_lines.pop(None, ()),
            requests,
            events,
            {
                port: Batch(shown_lines.get(port, ()), *told.get(port, ((), ())))
                for port in {*told, *shown_lines}
                if port is not None and (port in shown_lines or any(told[port]))
            },
        )

    def _in_our_time(self, line: Line) -> Line:
        return replace(line, stamp=line.stamp - self.ahead) if self.ahead and line.stamp is not None else line

    def _child(self, port: int) -> ServerLog:
        if port not in self.children:
            if len(self.children) >= MOST_CHILDREN:
                del self.children[next(iter(self.children))]
            self.children[port] = ServerLog()
        return self.children[port]

    def _spawned(self, port: int, line: Line) -> None:
        """A child's clock starts now."""
        child = self._child(port)
        child.timeline.started = self.server.timeline.wall(line)

    def _lines(self, block: bytes, keep: int) -> dict[int | None, tuple[LogLine, ...]]:
        """The newest, by who wrote them. Older runs of the same log have no time by the clock of this one."""
        lines: dict[int | None, list[LogLine]] = {}
        latest: dict[int | None, float] = {}
        for raw in reversed(log_scan.newest(block, keep)):
            text, level, line = shown(raw)
            if not text:
                continue
            line = self._in_our_time(line)
            log = self.server if line.child is None else self.children.get(line.child)
            time = line.stamp
            if log is not None and line.clock is not None:
                if line.clock <= latest.get(line.child, line.clock) + JITTER:
                    latest[line.child] = line.clock
                    time = log.timeline.wall(line)
                else:
                    latest[line.child] = -1.0  # all before it is of another run
            if raw.startswith(GAP):
                level = "warning"
                latest = dict.fromkeys((None, *self.children), -1.0)
            lines.setdefault(line.child, []).append(LogLine(text=text, level=level, time=time))
        return {child: tuple(reversed(of_child)) for child, of_child in lines.items()}


_SPAWNED = re.compile(rb"^srv +\S{1,20} spawning server instance with name=.{0,4000} on port (\d{1,5})\s*$")
