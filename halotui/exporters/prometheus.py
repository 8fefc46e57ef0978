"""Frames as metric families: what a scrape is told of all boxes. No clock and no network here.

Unknown is absent. A box that gives no frames has nothing but ``halotui_up`` 0, its age and its link, so
that Prometheus takes its other series for stale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite

from msgspec import Struct
from prometheus_client.metrics_core import Metric as Family

from halotui import __version__
from halotui.exporters import prometheus_names as names
from halotui.exporters.prometheus_names import BUCKETS, FLAGS, HOLDER, LABELS, ROWS, TOKENS, Metric
from halotui.exporters.prometheus_tally import TOP, Ended, Tally
from halotui.model import (
    Frame,
    Gpu,
    HeldBy,
    Link,
    LinkState,
    ModelState,
    Server,
    ServerState,
    Severity,
    SlotPhase,
    Source,
    SourceState,
)

LONGEST = 200  # characters of a label
SLOTS = 32  # of a server, at most
_ENDINGS = {"counter": "_total", "info": "_info"}
_ANSWERS = {
    SourceState.OK: 1,
    SourceState.NO_DATA: 1,
    SourceState.DENIED: 0,
    SourceState.STALE: 0,
    SourceState.HUNG: 0,
    SourceState.FAILED: 0,
}
_AWAY = (ServerState.DOWN, ServerState.FAILED)

Labels = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Box:
    """One box as it stands at a scrape."""

    host: str
    tally: Tally
    frame: Frame | None = None  # None: there was none, or it is too old
    age: float | None = None  # seconds since the last one, old or not
    interval: float = 0.0  # seconds
    link: Link | None = None


class _Families:
    """Families in the order in which they were first needed, each in one piece."""

    def __init__(self) -> None:
        self._made: dict[str, Family] = {}

    def add(self, metric: Metric, labels: Labels, value: float | None, ending: str | None = None) -> None:
        """What is not known, or no number, is no sample."""
        if value is None or not isfinite(value):
            return
        family = self._made.get(metric.name)
        if family is None:
            family = self._made[metric.name] = Family(metric.name, metric.help, metric.type)
        family.add_sample(
            metric.name + (_ENDINGS.get(metric.type, "") if ending is None else ending), labels, value
        )

    def one_of(self, metric: Metric, labels: Labels, key: str, all_: Iterable[str], now: str) -> None:
        """1 for the state it is in, 0 for the others."""
        for state in all_:
            self.add(metric, {**labels, key: str(state)}, float(state == now))

    def __iter__(self) -> Iterator[Family]:
        return iter(self._made.values())


def families(boxes: Iterable[Box]) -> Iterator[Family]:
    """All of them, with the samples of each box."""
    out = _Families()
    out.add(names.BUILD, {"version": __version__}, 1)
    for box in boxes:
        _standing(out, box)
        if box.frame is not None:
            _frame(out, box, box.frame)
    return iter(out)


def _standing(out: _Families, box: Box) -> None:
    host = {"host": box.host}
    out.add(names.UP, host, float(box.frame is not None))
    out.add(names.AGE, host, box.age)
    out.add(names.INTERVAL, host, box.interval or None)
    out.add(names.FRAMES, host, box.tally.frames)
    if box.link is not None:
        out.one_of(names.LINK, host, "state", LinkState, box.link.state)
        out.add(names.ROUND_TRIP, host, box.link.round_trip_seconds)
        out.add(names.AHEAD, host, box.link.ahead_seconds)


def _frame(out: _Families, box: Box, frame: Frame) -> None:
    host = {"host": box.host}
    for owner in ("memory", "account", "system", "energy"):
        _numbers(out, owner, getattr(frame, owner), host)
    _info(out, names.PLATFORM, host, {"platform": frame.platform})
    for gpu in frame.gpus:
        _gpu(out, gpu, host)
    for server in frame.servers:
        if (ended := box.tally.servers.get(server.url)) is not None:  # else there are too many
            _server(out, server, ended, {**host, "server": _short(server.url)})
    _holders(out, frame, box.tally, host)
    _findings(out, frame, host)
    for source in frame.sources:
        _source(out, source, frame, host)
    for kind, count in box.tally.kernel.items():
        out.add(names.KERNEL, {**host, "kind": kind}, count)


def _numbers(out: _Families, owner: str, struct: Struct | None, labels: Labels) -> None:
    if struct is None:
        return
    for row in (*ROWS[owner], *FLAGS.get(owner, ())):
        value = getattr(struct, row.key)
        if value is not None:
            out.add(row.metric, labels, value * row.factor)


def _info(out: _Families, metric: Metric, labels: Labels, structs: Mapping[str, Struct | None]) -> None:
    """One series of all texts that are known; ``structs`` by owner."""
    texts = {
        label: _short(value.rpartition("/")[2] if key == "draft_model" else value)
        for owner, struct in structs.items()
        for key, label in LABELS[owner].items()
        if (value := getattr(struct, key, None))
    }
    if texts:
        out.add(metric, {**labels, **texts}, 1)


def _gpu(out: _Families, gpu: Gpu, host: Labels) -> None:
    labels = {**host, "gpu": _short(gpu.id)}
    _info(out, names.GPU, labels, {"gpu": gpu})
    _numbers(out, "gpu", gpu, labels)
    if gpu.held_by is not None or gpu.throttle_known:
        out.one_of(names.HELD, labels, "by", HeldBy, gpu.held_by or "")
    for limiter, steps in gpu.throttle.items():
        out.add(names.THROTTLE, {**labels, "limiter": _short(limiter)}, steps)


def _server(out: _Families, server: Server, ended: Ended, labels: Labels) -> None:
    _info(out, names.SERVER, labels, {"server": server, "facts": server.facts})
    out.add(names.SERVER_UP, labels, float(server.state not in _AWAY))
    out.one_of(names.STATE, labels, "state", ServerState, server.state)
    _numbers(out, "server", server, labels)
    _numbers(out, "facts", server.facts, labels)
    if server.slots:
        phases = Counter(slot.phase for slot in server.slots)
        for phase in SlotPhase:
            out.add(names.PHASES, {**labels, "phase": str(phase)}, phases[phase])
    for slot in server.slots[:SLOTS]:
        _numbers(out, "slot", slot, {**labels, "slot": str(slot.id)})
    if server.models:
        states = Counter(model.state for model in server.models)
        for state in ModelState:
            out.add(names.MODELS, {**labels, "state": str(state)}, states[state])
    _ended(out, ended, labels)


def _ended(out: _Families, ended: Ended, labels: Labels) -> None:
    for end, count in ended.ends.items():
        out.add(names.REQUESTS, {**labels, "end": end}, count)
    for key, count in ended.tokens.items():
        out.add(TOKENS[key], labels, count)
    for kind, count in ended.events.items():
        out.add(names.EVENTS, {**labels, "kind": kind}, count)
    for key, histogram in ended.histograms.items():
        metric, total = BUCKETS[key][0], 0
        for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
            total += count
            out.add(metric, {**labels, "le": bound}, total, "_bucket")
        out.add(metric, labels, total, "_count")
        out.add(metric, labels, histogram.sum, "_sum")


def _holders(out: _Families, frame: Frame, tally: Tally, host: Labels) -> None:
    """The largest by name, of one name together: a pid would be a new series with each start."""
    sums: dict[tuple[str, str], int] = {}
    for holder in frame.holders[:TOP]:
        for key in HOLDER:
            value = getattr(holder, key)
            if value is not None:
                at = key, tally.name(holder.name)
                sums[at] = sums.get(at, 0) + value
    for (key, name), value in sums.items():
        out.add(HOLDER[key], {**host, "process": _short(name)}, value)


def _findings(out: _Families, frame: Frame, host: Labels) -> None:
    for id_, severity, subject in dict.fromkeys(
        (finding.id, finding.severity, finding.subject) for finding in frame.findings
    ):
        labels = {**host, "id": id_, "severity": str(severity), "subject": _short(subject)}
        out.add(names.FINDING, labels, 1)
    counts = Counter(finding.severity for finding in frame.findings)
    for severity in Severity:
        out.add(names.FINDINGS, {**host, "severity": str(severity)}, counts[severity])
    out.add(names.SILENCED, host, len(frame.silenced))


def _source(out: _Families, source: Source, frame: Frame, host: Labels) -> None:
    """``log http://…`` is the source log of that server."""
    if source.state not in _ANSWERS:
        return
    kind, _, url = source.id.partition(" ")
    of_server = any(server.url == url for server in frame.servers)
    labels = {**host, "source": kind, "server": _short(url)} if of_server else {**host, "source": source.id}
    out.add(names.SOURCE_UP, labels, _ANSWERS[source.state])
    out.add(names.SOURCE_AGE, labels, source.age_seconds)
    out.add(names.SOURCE_TIME, labels, source.duration_seconds)


def _short(text: str) -> str:
    return text[:LONGEST]
