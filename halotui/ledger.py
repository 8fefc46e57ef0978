"""What is kept from day to day: how fast each model usually is here, what was found when, what is silenced.

The vocabulary alone, and what follows from the numbers at once. ``baselines`` gathers and compares, ``store``
keeps. Every struct is frozen; unknown is ``None``; units as in ``model``. Nothing here holds a prompt, a key
or another secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cached_property
from statistics import median
from typing import Protocol

from msgspec import Struct

KEPT = 64  # observations of one key, the newest: enough for a rank test, and it follows a slow drift


class Metric(StrEnum):
    """What a baseline is of."""

    DECODE = "decode"  # tokens/s of a request
    PREFILL = "prefill"  # prompt tokens/s of a request
    ACCEPTANCE = "acceptance"  # accepted / drafted tokens of a request
    COVERAGE = "coverage"  # drafted / generated
    LOAD = "load"  # seconds from start to ready
    MEMORY = "memory"  # bytes of GTT + VRAM, the most that was held while it served


class Setup(Struct, frozen=True, kw_only=True, omit_defaults=True, cache_hash=True):
    """What serves, and how: numbers of two setups are not compared without saying so."""

    model: str  # file name without folder, else alias
    quant: str = ""  # as the server calls it: Q4_K - Medium
    backend: str = ""
    build: str = ""
    flags: str = ""  # those that matter, in a fixed order: b=2048 ctk=q8_0 fa=on ngl=99 np=4 ub=512
    speculation: str = ""  # draft-simple Qwen3.5-0.8B; empty: none
    host: str = ""  # where it runs; empty: on this box


class Key(Struct, frozen=True, kw_only=True, omit_defaults=True, cache_hash=True):
    """One thing that is usual: under which setup, how deep in the context, beside how many requests."""

    setup: Setup
    metric: Metric
    depth: str = ""  # band of tokens in the slot: 0-2K, 2-8K ...; empty: it plays no part
    streams: str = ""  # band of requests at once: 1, 2, 3-4, 5+; empty likewise
    prompt: str = ""  # band of prompt tokens computed, of PREFILL


class Conditions(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How the box was while a number was measured: what may explain it."""

    depth_tokens: float | None = None  # in the slot
    prompt_tokens: float | None = None  # computed
    streams: float | None = None  # requests at once, mean
    draft_acceptance_ratio: float | None = None
    draft_coverage_ratio: float | None = None
    sclk_hertz: float | None = None
    busy_percent: float | None = None
    temperature_celsius: float | None = None
    socket_power_watts: float | None = None
    gfx_power_watts: float | None = None
    cpu_power_watts: float | None = None
    cpu_busy_percent: float | None = None
    available_bytes: float | None = None  # RAM
    swap_bytes_per_second: float | None = None  # out
    others_bytes: float | None = None  # of GPU memory, held by processes other than its server
    held_by: str | None = None  # model.HeldBy, when it was most of the time


class Observation(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One measured value."""

    time: float  # Unix seconds
    value: float
    conditions: Conditions = Conditions()


class Software(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What ran below the server."""

    kernel: str = ""
    firmware: str = ""  # linux-firmware
    mesa: str = ""
    rocm: str = ""
    power_mode: str = ""


class Baseline(Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """What is usual under one key: ``observations`` are its newest ones, in order."""

    key: Key
    count: int  # ever
    first_time: float
    last_time: float
    observations: tuple[Observation, ...]
    software: Software = Software()  # at most of them
    votes: int = 0  # for it, by how many more: up to half of KEPT, so that a change is followed in time

    @cached_property
    def values(self) -> tuple[float, ...]:
        return tuple(one.value for one in self.observations)

    @cached_property
    def median(self) -> float:
        return median(self.values)

    @cached_property
    def spread(self) -> float:
        """Median absolute deviation, times 1.4826: of normal noise, its standard deviation."""
        return 1.4826 * median(abs(value - self.median) for value in self.values)

    def usual(self, condition: str) -> float | None:
        """The median of a number of ``Conditions``; None: it was not known."""
        known = [
            value for one in self.observations if (value := getattr(one.conditions, condition)) is not None
        ]
        return median(known) if known else None


class Baselines:
    """All that is usual here, by key. Immutable: learning makes another one."""

    def __init__(self, known: Iterable[Baseline] = ()) -> None:
        self._known: Mapping[Key, Baseline] = {baseline.key: baseline for baseline in known}

    def of(self, key: Key) -> Baseline | None:
        return self._known.get(key)

    def alike(self, model: str, metric: Metric) -> Sequence[Baseline]:
        """Of one model under any setup, the most recent first."""
        return self._alike.get((model, metric), ())

    def learned(self, anew: Iterable[Baseline]) -> Baselines:
        """With these instead of what was known of their keys."""
        other = Baselines()
        other._known = {**self._known, **{baseline.key: baseline for baseline in anew}}
        return other

    @cached_property
    def _alike(self) -> Mapping[tuple[str, Metric], Sequence[Baseline]]:
        found: dict[tuple[str, Metric], list[Baseline]] = {}
        for one in sorted(self._known.values(), key=lambda one: -one.last_time):
            found.setdefault((one.key.setup.model, one.key.metric), []).append(one)
        return found

    def __len__(self) -> int:
        return len(self._known)


NONE = Baselines()


class Incident(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A finding, from when it fired to when it was over."""

    id: str  # of its rule
    subject: str
    severity: str
    title: str
    evidence: str
    since_time: float  # Unix seconds: when its symptom began
    until_time: float | None = None  # None: it still fires, or nobody saw its end
    host: str = ""


class Silence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rule that shall not be heard of."""

    id: str  # of the rule
    subject: str = ""  # empty: whatever it is about
    until_time: float | None = None  # Unix seconds; None: until it is taken back


class Ledger(Protocol):
    """Where all of that is kept. Blocking, from one thread at a time; may raise ``runs.StoreError``."""

    def baselines(self) -> list[Baseline]: ...

    def learn(self, observed: Sequence[tuple[Key, Observation]], software: Software) -> list[Baseline]:
        """Add to the baselines; what is past ``KEPT`` of a key goes. Those of these keys, as they are now."""
        ...

    def forget(self, model: str = "") -> int:
        """Baselines of a model, or all; how many went."""
        ...

    def began(self, incident: Incident) -> None:
        """A finding fires. One of the same rule, subject and ``since_time`` is the same, and renewed."""
        ...

    def ended(self, incident: Incident) -> None:
        """It is over: ``until_time`` says when."""
        ...

    def incidents(self, since: float, until: float, limit: int = 1000) -> list[Incident]:
        """The newest first."""
        ...

    def silences(self) -> list[Silence]: ...

    def silence(self, silence: Silence) -> None: ...

    def hear(self, id_: str, subject: str = "") -> bool:
        """Take a silence back; whether there was one."""
        ...

    def changed(self) -> bool:
        """Whether another process wrote since the last call: cheap, to be asked every few seconds."""
        ...

    def close(self) -> None: ...
