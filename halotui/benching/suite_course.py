"""A course through a suite: its items, their order, and what of them is done.

An item is known by its key: label, test and a digest of its settings. So a suite that was changed meanwhile
goes on with what is still the same, and an order that was shuffled stays what it was: each item's place
follows from its key and the seed alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from statistics import fmean

from msgspec import Struct

from halotui.actions import Value
from halotui.benching.suite_argv import DECODE, name_of, weight
from halotui.benching.suite_file import Row, Server, Suite, Trial, combinations, label_of, many, settings_of
from halotui.benching.workloads import WORKLOADS
from halotui.runs import Kind, Run, Status
from halotui.servers.settings import text_of

_ODD = re.compile(r"[^a-z0-9.]+")
_SERIES = re.compile(r"\d{8}-\d{6}-s(-?\d+)-[0-9a-f]{4}")
# An item that ended so is not run again unless it is asked for.
SETTLED = (Status.OK, Status.FAILED, Status.CRASHED, Status.HUNG)


class Item(Struct, frozen=True, kw_only=True):
    """One run to be made."""

    key: str
    kind: Kind
    label: str  # the row of the table
    title: str  # what is measured
    row: Row
    settings: dict[str, Value] = {}  # of the row and the matrix, in halotui's vocabulary
    test: Trial | None = None
    server: Server | None = None
    speculation: str = ""  # empty: as the profile has it
    weight: float = 1.0  # how long it takes in comparison to others

    @property
    def name(self) -> str:
        return f"{self.label} · {self.title}"


def items(suite: Suite) -> list[Item]:
    """As written: row by row, each with every combination of the matrix, each with every test."""
    found: list[Item] = []
    for row in suite.run:
        for combination in combinations(suite):
            settings = {**settings_of(row.flags), **settings_of(combination)}
            if "ctk" in combination and "ctv" not in settings:
                settings["ctv"] = settings["ctk"]
            words = [f"{name} {text_of(value)}" for name, value in settings_of(combination).items()]
            label = ", ".join((label_of(row), *words))
            found += [_benched(suite, row, label, settings, test) for test in suite.test]
            if suite.server is not None:
                found += [
                    _served(suite, suite.server, row, label, settings, kind)
                    for kind in many(suite.server.speculation) or ("",)
                ]
    return list({item.key: item for item in found}.values())  # the same twice is the same


def _benched(suite: Suite, row: Row, label: str, settings: dict[str, Value], test: Trial) -> Item:
    title = name_of(test)
    return Item(
        key=_key(suite, row, label, title, settings, ""),
        kind=Kind.SUITE,
        label=label,
        title=title,
        row=row,
        settings=settings,
        test=test,
        weight=weight(test, suite.repeats),
    )


def _served(
    suite: Suite, server: Server, row: Row, label: str, settings: dict[str, Value], kind: str
) -> Item:
    names = tuple(many(server.workloads))
    title = " ".join(names)
    label = label if kind in ("", "none") else f"{label} + {kind}"
    return Item(
        key=_key(suite, row, label, title, settings, f"server {kind}"),
        kind=Kind.SERVER,
        label=label,
        title=title,
        row=row,
        settings=settings,
        server=server,
        speculation=kind,
        weight=sum(map(_workload, names)) * server.repeats,
    )


def _workload(name: str) -> float:
    return WORKLOADS[name].prompt + DECODE * WORKLOADS[name].answer


def _key(suite: Suite, row: Row, label: str, title: str, settings: Mapping[str, Value], how: str) -> str:
    what = (
        *(label, title, how, suite.model, row.bench or suite.bench, row.profile),
        *(sorted(row.env.items()), sorted(settings.items()), row.extra_words),
    )
    digest = hashlib.sha256(json.dumps(what).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return ".".join((_slug(label), _slug(title), digest))


def _slug(text: str) -> str:
    return _ODD.sub("-", text.lower()).strip("-.")[:40].strip("-.") or "x"


def ordered(of: Sequence[Item], suite: Suite, seed: int) -> list[Item]:
    """Shuffled by the seed, or as written."""
    if suite.order != "shuffled":
        return list(of)
    return sorted(of, key=lambda item: hashlib.sha256(f"{seed} {item.key}".encode()).digest())


def matching(of: Iterable[Item], patterns: Sequence[str]) -> list[Item]:
    """Those whose label, name or key matches one of the shell patterns; all of them without any."""
    return [
        item
        for item in of
        if not patterns
        or any(
            fnmatchcase(text.lower(), pattern.lower())
            for pattern in patterns
            for text in (item.label, item.title, item.name, item.key)
        )
    ]


def fresh_series(seed: int) -> str:
    """An id that sorts by time and keeps the seed."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-s{seed}-{secrets.token_hex(2)}"


def seed_of(series: str) -> int:
    """Of a series; 0 where the id is not one of ours."""
    found = _SERIES.fullmatch(series)
    return int(found[1]) if found else 0


def latest(runs: Sequence[Run]) -> dict[str, Run]:
    """Of each item its last run that counts, by key; ``runs`` the newest first. A run that ended by itself
    counts more than one that was cut off afterwards."""
    found: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: (run.status in SETTLED, run.started_time, run.id)):
        found[run.item] = run
    return found


def left(of: Sequence[Item], done: Mapping[str, Run], *, retry: bool) -> list[Item]:
    """What is still to be run: what was not, what was cut off, and with ``retry`` what went wrong."""
    enough = (Status.OK,) if retry else SETTLED
    return [item for item in of if item.key not in done or done[item.key].status not in enough]


def again(item: Item, suite: Suite, run: Run) -> float:
    """How much longer it takes now than that run did: its repeats may be others, and a warm-up is one."""
    repeats = item.server.repeats if item.server is not None else suite.repeats
    then = max((len(result.samples) for result in run.results), default=0) or repeats
    return (repeats + 1) / (then + 1)


class Pace:
    """How long items take: as the same item did, else as those with the same tests did, else by weight."""

    def __init__(self) -> None:
        self._known: dict[str, list[float]] = {}  # seconds, by key and by title
        self._seconds = 0.0
        self._weight = 0.0

    def took(self, item: Item, seconds: float) -> None:
        for name in (item.key, item.title):
            self._known.setdefault(name, []).append(seconds)
        self._seconds += seconds
        self._weight += item.weight

    def seconds(self, of: Iterable[Item]) -> float | None:
        """For these; None while nothing is known."""
        return sum(map(self._one, of)) if self._weight else None

    def _one(self, item: Item) -> float:
        known = self._known.get(item.key) or self._known.get(item.title)
        return fmean(known) if known else self._seconds / self._weight * item.weight
