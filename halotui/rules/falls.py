"""A number of late beside what was usual, and how the box was. No family of rules: for ``causes``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log
from statistics import median
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from halotui.baselines.observing import conditions_during, span_of
from halotui.ledger import Baseline, Conditions, Key
from halotui.model import Cause, Gpu, Server
from halotui.rules import View
from halotui.rules.recent import Group

WATCHED = 3  # requests whose surroundings are looked at: it takes a while, and the newest count
ENOUGH = 8  # observations of a baseline that a number is held against
LEAST_SHARE = 0.05  # of the fall: what explains less is not told


class Fall(Struct, frozen=True, kw_only=True):
    """A number of late, and the baseline it is held against."""

    key: Key  # it was measured under
    value: float  # median of late
    now: Conditions
    usual: Baseline
    kin: Sequence[Baseline] = ()  # of the same model and metric

    @property
    def ratio(self) -> float:
        return self.value / self.usual.median if self.usual.median else 1.0

    def share(self, left: float) -> float | None:
        """Of the fall, what a speed of ``left`` times the usual one explains."""
        if not (0 < self.ratio < 1 and left > 0):
            return None
        return min(1.0, max(0.0, log(left) / log(self.ratio)))

    def both(self, condition: str) -> tuple[float, float] | None:
        """Now and usual; None when either is not known."""
        now, usual = getattr(self.now, condition), self.usual.usual(condition)
        return None if now is None or usual is None else (now, usual)


def fall_of(view: View, server: Server, group: Group, usual: Baseline, kin: Sequence[Baseline]) -> Fall:
    """With how the box was meanwhile."""
    box = []
    for one in group.measured[:WATCHED]:
        request = one.sample.request
        if span := span_of(request, one.sample.time):
            box.append(conditions_during(view.frame, view.history, server, request, *span))
    own = typical([one.conditions for one in group.measured])
    told = {name: value for name in own.__struct_fields__ if (value := getattr(own, name)) is not None}
    if learned := _learned_since(view, group):
        told["held_by"] = typical(learned).held_by
    now = replace(typical(box), **told)
    return Fall(key=group.key, value=median(group.values), now=now, usual=usual, kin=kin)


def _learned_since(view: View, group: Group) -> list[Conditions]:
    """What was noted of these requests before the alarm: a history keeps not what held the GPU back."""
    known = view.baselines.of(group.key)
    return [one.conditions for one in known.observations if one.time >= group.since] if known else []


def usual_for(key: Key, kin: Sequence[Baseline]) -> Baseline | None:
    """Its own baseline, else the most recent one of another setup of that model there in the same bands."""
    bands = [
        one
        for one in kin
        if len(one.observations) >= ENOUGH
        and one.key.setup.host == key.setup.host
        and replace(one.key, setup=key.setup) == key
    ]
    return next((one for one in bands if one.key == key), bands[0] if bands else None)


def before(usual: Baseline | None, since: float) -> Baseline | None:
    """What it was until then: numbers of late may be among those that are usual already."""
    if usual is None:
        return None
    old = tuple(one for one in usual.observations if one.time < since)
    return replace(usual, observations=old) if len(old) >= ENOUGH else None


def typical(many: Sequence[Conditions]) -> Conditions:
    """The median of each number, and what held the GPU back in more than half of them."""
    found: dict[str, float | str] = {}
    for name in Conditions.__struct_fields__:
        known = [value for one in many if (value := getattr(one, name)) is not None]
        if name == "held_by":
            found.update((name, word) for word in set(known) if 2 * known.count(word) > len(many))
        elif known:
            found[name] = median(known)
    return Conditions(**found)  # type: ignore[arg-type]


class Case(NamedTuple):
    """What a candidate looks at."""

    view: View
    server: Server
    fall: Fall
    gpu: Gpu | None


class Weighed(NamedTuple):
    """A cause and how much it may matter, 0 to 1: its share, where there is one."""

    weight: float
    cause: Cause


Found = Iterator[Weighed]


def shared(share: float | None, cause: Cause) -> Found:
    """Weighed by its share of the fall; nothing when that is next to none."""
    if share is not None and share >= LEAST_SHARE:
        yield Weighed(share, cause)
