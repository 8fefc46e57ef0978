"""``halotui usual``: how fast each model usually is here, and under which setup. Data on stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from halotui import exits, times
from halotui.benching.tables import Table, render
from halotui.commands import keeping
from halotui.exits import UsageError
from halotui.format import duration, percent, rate, size
from halotui.ledger import Baseline, Metric
from halotui.runs import StoreError
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.config import Settings

_SHOWN: Mapping[Metric, tuple[str, Callable[[float], str]]] = {
    Metric.DECODE: ("decode t/s", rate),
    Metric.PREFILL: ("prefill t/s", rate),
    Metric.ACCEPTANCE: ("accepted", percent),
    Metric.COVERAGE: ("coverage", percent),
    Metric.LOAD: ("load", duration),
    Metric.MEMORY: ("GPU memory", size),
}
_HEAD = ("model", "setup", "what", "depth", "at once", "usually", "±", "n", "first seen", "last seen")


async def run(said: Mapping[str, Any], settings: Settings) -> int:
    """The exit code. Raises UsageError."""
    from halotui.store.ledger import open_ledger  # sqlite3

    pattern, forgets = said.get("model", ""), "forget" in said
    if forgets and not pattern:
        raise UsageError("usual --forget: of which model? '*' is all of them")
    if forgets and settings.readonly:
        raise UsageError("read-only: nothing is written")
    try:
        ledger = open_ledger(keeping.store_path(said, settings), readonly=not forgets)
        try:
            found = [one for one in ledger.baselines() if _is_it(one, pattern)]
            if forgets:
                gone = sum(ledger.forget(model) for model in {one.key.setup.model for one in found})
                _talk(f"{gone} baselines are forgotten; they are learned anew")
                return exits.OK if gone else exits.FAILURE
        finally:
            ledger.close()
    except StoreError as error:
        _talk(keeping.told(error))
        return exits.FAILURE
    found.sort(key=lambda one: (one.key.setup.model, -one.last_time))
    if said.get("json"):
        print(render(Table((), []), "json", [_object(one) for one in found]), flush=True)
    elif found:
        print(render(Table(_HEAD, list(map(_row, found)), left=5), "table"), flush=True)
    else:
        of = f" of {pattern}" if pattern else ""
        _talk(f"nothing is known{of} yet: the dashboard and `halotui stream` learn while they run")
    return exits.OK


def _is_it(baseline: Baseline, pattern: str) -> bool:
    return not pattern or fnmatchcase(baseline.key.setup.model, pattern)


def _row(one: Baseline) -> tuple[str, ...]:
    key, (name, show) = one.key, _SHOWN[one.key.metric]
    prompt = f" of {key.prompt}" if key.prompt else ""
    what = (clean(key.setup.model, 80), _setup(one), name + prompt, key.depth, key.streams)
    seen = (times.stamp(one.first_time)[:16], times.stamp(one.last_time)[:16])
    return (*what, show(one.median), show(one.spread), str(one.count), *seen)


def _setup(one: Baseline) -> str:
    setup = one.key.setup
    words = (setup.host, setup.backend, setup.build, setup.speculation, setup.flags)
    return clean(", ".join(word for word in words if word), 200)


def _object(one: Baseline) -> dict[str, Any]:
    return {
        "key": one.key,
        "median": one.median,
        "spread": one.spread,
        "count": one.count,
        "kept": len(one.observations),
        "first_time": one.first_time,
        "last_time": one.last_time,
        "software": one.software,
    }


def _talk(text: str) -> None:
    print(f"halotui: {clean(text)}", file=sys.stderr, flush=True)
