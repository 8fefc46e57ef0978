"""Where an undertaking stands, on disk at every step: whoever finds it knows what to do next.

The directory is 0700 and its files 0600: they hold environments, and with them keys.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from halotui import private
from halotui.actions import ActionError, Outcome, Speed, Step
from halotui.hosts.hands import Identity
from halotui.servers.launch import Plan

T = TypeVar("T")
DAY = 24 * 3600.0


class Journal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One undertaking. ``new`` is the process that was started last, to be kept or taken down."""

    plan: Plan
    step: Step
    owner: Identity  # the process that is at it
    new: Identity | None = None
    back: Identity | None = None  # the same, once it is what ran before
    began_time: float  # Unix seconds
    step_time: float
    undoing: bool = False  # the way back has begun: there is no other way from here
    reason: str = ""  # why
    log_tail: tuple[str, ...] = ()
    log_path: str = ""
    log_start: int = 0  # byte of its log where the one that was started last begins
    notes: tuple[str, ...] = ()
    speed_before: Speed | None = None
    speed_after: Speed | None = None
    load_seconds: float | None = None  # of what was started
    outcome: Outcome | None = None


class Book:
    """The undertaking under way, the one before it, and plans that wait for a yes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def plan_path(self, id_: str) -> Path:
        return self.directory / f"plan-{id_}.json"

    def save_plan(self, plan: Plan) -> None:
        self._save(self.plan_path(plan.id), plan)

    def load_plan(self, id_: str) -> Plan:
        """Raises ActionError."""
        plan = _load(self.plan_path(id_), Plan)
        if plan is None:
            raise ActionError(f"there is no plan {id_}", "prepare it again")
        return plan

    def drop_plan(self, id_: str) -> None:
        self.plan_path(id_).unlink(missing_ok=True)

    def drop_old_plans(self) -> None:
        """Those that nobody said yes to in a day."""
        for path in self.directory.glob("plan-*.json"):
            if path.stat().st_mtime < time.time() - DAY:
                path.unlink(missing_ok=True)

    def current(self) -> Journal | None:
        """The one that has not come to its end. Raises ActionError where the file is damaged."""
        return _load(self.directory / "current.json", Journal)

    def last(self) -> Journal | None:
        """The last one that has. Raises ActionError."""
        return _load(self.directory / "last.json", Journal)

    def changed(self) -> Journal | None:
        """The last one that changed what runs: the one to undo. Raises ActionError."""
        return _load(self.directory / "changed.json", Journal)

    def write(self, journal: Journal) -> None:
        self._save(self.directory / "current.json", journal)

    def close(self, journal: Journal) -> None:
        """It has come to its end. One that is lost stays open: it can still be put back."""
        self._save(self.directory / "current.json", journal)
        if journal.step is not Step.LOST:
            self._save(self.directory / "last.json", journal)
            if journal.step in (Step.KEPT, Step.STOPPED_FOR_GOOD):
                self._save(self.directory / "changed.json", journal)
            (self.directory / "current.json").unlink()
            _sync(self.directory)

    def set_aside(self) -> None:
        """Give up an undertaking that was cut off, without doing anything about it."""
        with suppress(FileNotFoundError):
            (self.directory / "current.json").replace(self.directory / "given-up.json")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Ours alone, for as long as this process lives. Raises ActionError when it is somebody else's."""
        self._make()
        fd = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ActionError(
                    "another relaunch is under way", "wait for it: halotui relaunch --status"
                ) from None
            yield
        finally:
            os.close(fd)

    def _make(self) -> None:
        private.folder(self.directory)

    def _save(self, path: Path, value: msgspec.Struct) -> None:
        """Whole or not at all, and on the disk before this returns. Not by msgspec's own JSON: environments
        and paths hold any bytes, which Python keeps as lone surrogates."""
        self._make()
        spare = path.with_suffix(".new")
        fd = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(json.dumps(msgspec.to_builtins(value)).encode())
            file.flush()
            os.fsync(fd)
        spare.replace(path)
        _sync(self.directory)


def _load(path: Path, kind: type[T]) -> T | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ActionError(f"{path}: {error.strerror}") from None
    try:
        return msgspec.convert(json.loads(data), kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ActionError(f"{path} is damaged: {error}", "look at it, then move it away") from None


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
