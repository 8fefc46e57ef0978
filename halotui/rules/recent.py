"""What was measured of late, grouped as baselines are: no family of rules, but what some of them share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from operator import length_hint

from msgspec import Struct

from halotui.baselines import beside
from halotui.baselines.observing import Rings, span_of, streams_during, values_of
from halotui.baselines.setups import depth_of, key_of, setup_of
from halotui.history import Sample
from halotui.ledger import Conditions, Key, Metric
from halotui.model import Server, SlotPhase
from halotui.rules import View

SECONDS = 1800.0  # how long ago is of late
REQUESTS = 64  # newest ones looked at

Spans = Sequence[tuple[float, float]]  # from, to: Unix seconds


class Measured(Struct, frozen=True):
    """One request's number, and what of its conditions the request itself tells."""

    sample: Sample
    value: float
    conditions: Conditions
    disturbed: float = 0.0  # share of its time in which others' prompts were computed
    beside: float = 0.0  # tokens in the other slots while it decoded


class Group(Struct, frozen=True):
    """Numbers of one key, the newest first."""

    key: Key
    measured: tuple[Measured, ...]

    @property
    def values(self) -> list[float]:
        return [one.value for one in self.measured]

    @property
    def since(self) -> float:
        """Unix seconds: baselines that are older know nothing of it."""
        return min(one.sample.time for one in self.measured)


def samples_of(view: View, server: Server) -> list[Sample]:
    """The newest of this process that ended of late, the newest first."""
    told = view.history.requests(server.url)
    kept = list(islice(told, max(0, length_hint(told) - REQUESTS), None))
    if not kept:
        return []
    now, up = view.frame.time, server.uptime_seconds
    began = now - up if up is not None else view.history.started(server.url) or 0.0
    since = max(now - SECONDS, began)
    return [sample for sample in reversed(kept) if sample.time >= since]


def keyed(
    view: View, server: Server, metric: Metric, samples: Sequence[Sample]
) -> Iterator[tuple[Key, Measured]]:
    """Those that tell of the metric, with their keys; in the same order."""
    spans: Spans | None = None
    rings: Rings | None = None
    setup = setup_of(server)
    if setup is None:
        return
    prompts = beside.prompts_of(server, samples, view.frame.time)
    for sample in samples:
        request = sample.request
        value = next((value for of, value in values_of(request) if of is metric), None)
        span = None if value is None else span_of(request, sample.time)
        if value is None or span is None:
            continue
        rings = rings or Rings(view.history)
        streams = streams_during(rings, server.url, *span)
        if streams is None:  # before what the rings hold
            spans = spans or _spans(view, server, samples)
            streams = streams_in(spans, *span)
        key = key_of(server, metric, request, streams, setup=setup)
        if key is not None:
            conditions = Conditions(
                depth_tokens=depth_of(request),
                prompt_tokens=request.prompt_tokens,
                streams=streams,
                draft_acceptance_ratio=request.draft_acceptance_ratio,
                draft_coverage_ratio=request.draft_coverage_ratio,
            )
            disturbed = beside.disturbed(prompts, metric, request)
            others = beside.depth_beside(prompts, request) if metric is Metric.DECODE else 0.0
            yield key, Measured(sample, value, conditions, disturbed, others)


def groups(view: View, server: Server, metric: Metric, samples: Sequence[Sample], least: int) -> list[Group]:
    """Those with ``least`` numbers, cut to these, none of them slow by others' prompts. One whose newest
    number lies behind so many others says how it was, not how it is."""
    found: dict[Key, list[Measured]] = {}
    own = (one for one in keyed(view, server, metric, samples) if one[1].disturbed <= beside.MOST)
    for place, (key, measured) in enumerate(own):
        if key in found:
            found[key].append(measured)
        elif place < least:
            found[key] = [measured]
        if place >= least - 1 and all(len(of) >= least for of in found.values()):
            break
    return [Group(key, tuple(of[:least])) for key, of in found.items() if len(of) >= least]


def streams_in(spans: Spans, began: float, ended: float) -> float:
    """Requests at once in that time, the mean: its own is one of them."""
    if ended <= began:
        return 1.0
    both = sum(min(ended, to) - max(began, at) for at, to in spans if at < ended and to > began)
    return max(1.0, both / (ended - began))


def _spans(view: View, server: Server, samples: Sequence[Sample]) -> Spans:
    """Of what has ended, and of what the slots work at now."""
    now = view.frame.time
    over = (span_of(sample.request, sample.time) for sample in samples)
    busy = (slot.elapsed_seconds for slot in server.slots if slot.phase is not SlotPhase.IDLE)
    return [span for span in over if span is not None] + [
        (now - elapsed, now) for elapsed in busy if elapsed is not None
    ]


def words_of_p(p: float) -> str:
    return f"{p:.1g}" if p >= 0.0001 else "<0.0001"
