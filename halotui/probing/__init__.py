"""Active checks of a running server that a user starts: bounded, and ended at once when told to."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from halotui.actions import Verdict
from halotui.ledger import NONE, Baselines
from halotui.model import Server
from halotui.runs import Result

Row = dict[str, str | int | float | None]
Tell = Callable[[float, str], None]  # how far it is, 0 to 1, and what it does now


class Aim(NamedTuple):
    """What is tried, as one look at it has shown it."""

    server: Server
    sleepy: bool = False  # it falls asleep by itself, or sleeps
    baselines: Baselines = NONE


class Column(NamedTuple):
    """One column of a probe's rows, as people read it."""

    key: str
    head: str
    show: Callable[[float], str] = str


class Report(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a probe found: the whole of its ``--json``."""

    probe: str  # spec | slots | speed | cache
    url: str
    model: str = ""
    build: str = ""
    verdict: Verdict
    headline: str  # the verdict in one line, with its numbers
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    started_time: float  # Unix seconds
    seconds: float
    interrupted: bool = False
    run: int = 0  # its id in the store; 0: not kept
    results: tuple[Result, ...] = ()
