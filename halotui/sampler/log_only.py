"""A box of which nothing is left but a server's log: Frames by the log's own clock, one for each second in
which something happened.

What the log has no word of stays unknown: GPU, memory, sources, slots as they run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import floor

from halotui.collectors import log_scan
from halotui.collectors.llama_log import MOST_CHILDREN, SPAWN, ServerLog
from halotui.collectors.log_events import ROWS
from halotui.collectors.log_follow import GAP
from halotui.collectors.log_line import Line, cut
from halotui.collectors.log_time import JITTER
from halotui.model import (
    SCHEMA_VERSION,
    Frame,
    LogFacts,
    Request,
    Server,
    ServerEvent,
    ServerFacts,
    ServerState,
)
from halotui.sampler.facts import FactBook, Known
from halotui.sampler.speculation import SpecBook

ENDS = frozenset(row.kind for row in ROWS if row.ends) | {"stopped"}
# Where nothing happens and an alarm is up, it is judged so often, in seconds, until so long after.
QUIET = ((10.0, 1200.0), (300.0, 7200.0))
DRAFTS = 8  # requests that the gain of speculation is reckoned anew after: it costs more than all else
_BLANK = Known({}, ServerFacts(), {})


class LogFrames:
    """Frames of a log that is fed block by block; each is to be judged before the next one is asked for.

    ``restless`` says whether an alarm is up: quiet stretches are passed over otherwise.
    """

    def __init__(self, name: str, restless: Callable[[], bool]) -> None:
        self.name = name
        self.stamped = self.clocked = False  # there are times of day; of the server's own clock
        self._restless = restless
        self._main = _Told(name, name)
        self._children: dict[int, _Told] = {}
        self._now: float | None = None
        self._second = 0.0  # that the next frame is of
        self._stirred = False
        self._framed: float | None = None  # the time of the last frame

    @property
    def known(self) -> bool:
        """Whether any line so far was a llama-server's."""
        return bool(self._children) or self._main.known

    def feed(self, block: bytes) -> Iterator[Frame]:
        """Take whole lines, each with its newline. Never raises."""
        for raw in log_scan.telling(block):
            if raw.startswith(GAP):
                for told in (self._main, *self._children.values()):
                    told.log.gap()
                continue
            line = cut(raw)
            told = self._main if line.child is None else self._child(line.child)
            yield from self._pass(told.moment(line, self._now))
            if line.child is None and SPAWN in line.text:
                self._stirred = True
            yield from self._tell(told, line)

    def end(self) -> Iterator[Frame]:
        """What the last second still holds, and how long the log goes on."""
        for told in (self._main, *self._children.values()):
            told.reckon()
        if self._stirred or self._now is None or self._now != self._framed:
            yield self._frame()

    def _child(self, port: int) -> _Told:
        if port not in self._children:
            if len(self._children) >= MOST_CHILDREN:
                del self._children[next(iter(self._children))]
            self._children[port] = _Told(f"{self.name}?port={port}", self.name)
        return self._children[port]

    def _pass(self, moment: tuple[float, bool] | None) -> Iterator[Frame]:
        """Go on to the time of a line; first comes the frame of the second that is over."""
        if moment is None:
            return
        at, stamped = moment
        self.stamped, self.clocked = self.stamped or stamped, self.clocked or not stamped
        if self._now is None:
            self._now, self._second = at, floor(at)
        elif not self._second - JITTER <= at < self._second + 1:
            before = self._now
            if self._stirred:
                yield self._frame()
            for quiet in _between(before, at):
                if not self._restless():
                    break
                self._now = quiet
                yield self._frame()
            self._now, self._second = at, floor(at)
        else:
            self._now = max(self._now, at)

    def _tell(self, told: _Told, line: Line) -> Iterator[Frame]:
        """What comes of a line. The end of a server has a frame of its own, after all that was before."""
        if self._now is None:
            self._now = 0.0
        requests, events, turned = told.feed(line, self._now)
        if not (self.stamped or self.clocked):  # no clock at all: time is what the requests took
            self._now += sum(request.wall_seconds or 0.0 for request in requests)
        self._stirred = self._stirred or turned or bool(requests or events)
        if requests:
            told.take(requests)
        end = next((event for event in events if event.kind in ENDS), None)
        if end is not None:
            told.reckon()
            if self._stirred:
                yield self._frame()
            told.ended = end.text
        told.events.extend(events)
        if end is not None or turned:
            yield self._frame()

    def _frame(self) -> Frame:
        self._stirred = False
        now = self._framed = self._now or 0.0
        return Frame(
            schema_version=SCHEMA_VERSION,
            time=now,
            host=self.name,
            gpus=(),
            servers=tuple(told.server(now) for told in (self._main, *self._children.values())),
            findings=(),
            sources=(),
        )


def _between(begin: float, end: float) -> Iterator[float]:
    at = begin
    for step, until in QUIET:
        while at + step < end and at + step <= begin + until:
            at += step
            yield at


class _Log(ServerLog):
    """Counts the processes that wrote it."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def _restart(self, line: Line) -> None:
        super()._restart(line)
        self.runs += 1


class _Told:
    """One server, as its lines tell of it."""

    def __init__(self, url: str, log_path: str) -> None:
        self.url = url
        self.log = _Log()
        self.events: list[ServerEvent] = []  # since the last frame, and so are
        self.ended: str | None = None  # how
        self._requests: list[Request] = []
        self._log_path = log_path
        self._begin: float | None = None  # when its clock showed 0
        self._loaded = False  # it has served since it began
        self._facts = FactBook()
        self._known = _BLANK
        self._seen: LogFacts | None = None
        self._drafts = SpecBook()
        self._drafted: list[Request] = []  # that it does not know of yet
        self._last: Request | None = None
        self._served = False

    @property
    def known(self) -> bool:
        return self._served or bool(self.log.running) or self.log.facts != LogFacts()

    def moment(self, line: Line, now: float | None) -> tuple[float, bool] | None:
        """When a line was written, and whether by a stamp, which is a time of day; None: it does not say.

        Of a process without one the clock alone counts: the next begins when the one before has ended.
        """
        clock, timeline = line.clock, self.log.timeline
        if line.stamp is not None:
            if clock is not None:
                self._begin = line.stamp - clock
            return line.stamp, True
        if clock is None:
            return None
        if self._begin is None or clock < timeline.newest - JITTER:
            self._begin = 0.0 if now is None else now - clock
            timeline.started = self._begin
        return self._begin + clock, False

    def feed(self, line: Line, now: float) -> tuple[tuple[Request, ...], tuple[ServerEvent, ...], bool]:
        """Requests, events, and whether what is known of the server has turned into something else."""
        runs = self.log.runs
        self.log.feed(line)
        requests, events = self.log.take()
        self._served = self._served or bool(requests or events)
        if self.log.runs != runs:
            self._anew(line, now)
        facts, loaded = self.log.facts, False
        if facts is not self._seen:
            self._seen = facts
            if facts.model_loaded is True and not self._loaded:
                self._loaded = loaded = True
        if self.ended and (self.log.running or requests):
            self.ended = None  # it was not the end
        return requests, events, loaded

    def take(self, requests: tuple[Request, ...]) -> None:
        self._requests.extend(requests)
        self._last = requests[-1]
        if self.log.speculative:
            self._drafted.extend(requests)
            if len(self._drafted) >= DRAFTS:
                self.reckon()

    def reckon(self) -> None:
        """What speculation brings, by all that was taken."""
        self._drafts.finished(
            self._drafted,
            slots=self.log.facts.slots_total,
            kind=self.log.facts.spec_type,
            totals=self.log.draft,
        )
        self._drafted.clear()

    def server(self, now: float) -> Server:
        """What is known, with what came since the last call."""
        facts, state = self.log.facts, self._state()
        if state not in (ServerState.LOADING, ServerState.SLEEPING):  # half a start is no fact
            self._known = self._facts.know(None, None, None, (), facts)
        drafts = self._drafts.figures(None, self.log.draft)
        last, requests, events = self._last, tuple(self._requests), tuple(self.events)
        self._requests.clear()
        self.events.clear()
        return Server(
            **self._known.server,
            url=self.url,
            state=state,
            reason=self.ended,
            facts=self._known.facts,
            provenance=self._known.provenance,
            facts_hidden=self._known.hidden,
            uptime_seconds=max(0.0, now - self._begin) if self._begin is not None else None,
            slots_busy=len(self.log.running),
            speculative=self.log.speculative,
            last_generation_tokens_per_second=last.generation_tokens_per_second if last else None,
            last_prompt_tokens_per_second=last.prompt_tokens_per_second if last else None,
            draft_acceptance_ratio=drafts.acceptance,
            draft_coverage_ratio=drafts.coverage,
            draft_mean_tokens=drafts.mean_tokens,
            draft_gained_tokens=drafts.gained,
            draft_gain_ratio=drafts.gain,
            draft_gain_error_ratio=drafts.gain_error,
            log_path=self._log_path,
            requests=requests,
            events=events,
        )

    def _state(self) -> ServerState:
        if self.ended:
            return ServerState.DOWN
        if self.log.facts.model_loaded is False:
            return ServerState.SLEEPING if self._loaded else ServerState.LOADING
        return ServerState.BUSY if self.log.running else ServerState.IDLE

    def _anew(self, line: Line, now: float) -> None:
        """Another process writes."""
        self.ended, self._loaded, self._last = None, False, None
        self._known, self._drafts, self._facts = _BLANK, SpecBook(), FactBook()
        self._drafted.clear()
        timeline = self.log.timeline
        if line.stamp is not None or line.clock is None:
            self._begin = now - (line.clock or 0.0)
        elif timeline.started is None:  # it began within a second of the one before
            self._begin = now - line.clock + 1e-6  # the same would be refused: it was the other's
            timeline.started = self._begin
